/* The rows of `moelab mrc`. */
#ifndef MOELAB_CLI_MRC_TABLE_H
#define MOELAB_CLI_MRC_TABLE_H

#include "base/table.h"
#include "sim/mrc.h"
#include "sim/mrc_interval.h"
#include "sim/mrc_shards.h"

struct cli_mrc_view {
    const struct moe_mrc *mrc;
    const uint64_t *expert_bytes;              /* [L], or NULL: no column of bytes */
    const struct moe_mrc_sequences *sequences; /* NULL: no error bars */
    uint64_t seed;                             /* of the error bars */
    bool every_size;                           /* false: a selection that fits a screen */
    bool layers, grid;                         /* also rows for single layers; for every N x M */
};

/* For each phase: one pool a layer ("LxM"), one pool ("global:S"), the grid, the layers. Errors:
 * MOE_ERR_MEMORY. */
enum moe_status cli_mrc_rows(struct moe_table *table, const struct cli_mrc_view *view,
                             struct moe_err *err);

/* One pool ("global:S"), estimated from samples of experts; phase: the phase in the rows. Only
 * expert_bytes and every_size of the view are used. */
void cli_shards_rows(struct moe_table *table, const struct cli_mrc_view *view,
                     const struct moe_shards_curve *curve, const char *phase, uint32_t n_layers);

#endif
