#include "exec/kernels_tile.h"

static bool usable(void)
{
    return true;
}

const struct moe_kernels moe_kernels_portable = {
    .name = "portable",
    .summary = "plain C, any processor",
    .usable = usable,
    .lanes = TILE_LANES,
    .fused = false,
    .many_rows = 32,
    .dot = tile_dot,
    .gate_up = tile_gate_up,
    .attend = tile_attend,
};
