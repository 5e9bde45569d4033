/* Geometry strings: byte 0 layers, byte 1 experts, byte 2 how sizes are given, the rest is text.
 * What parses keeps the promises of policies/geometry.h. */
#include "policies/geometry.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 255 };

static void expect(int ok)
{
    if (!ok)
        abort();
}

static void check(const struct moe_geometry *g)
{
    uint32_t first = 0;
    for (uint32_t p = 0; p < g->n_pools; p++) {
        expect(g->pool[p].n_slots > 0 && g->pool[p].first_slot == first);
        first += g->pool[p].n_slots;
    }
    expect(first == g->n_slots && g->n_slots <= g->n_layers * g->n_experts);
    for (uint32_t l = 0; l < g->n_layers; l++)
        expect(g->pool_of_layer[l] >= -1 && g->pool_of_layer[l] < (int32_t)g->n_pools);
    expect(g->n_pools <= g->n_layers);
    expect(g->expert_bytes || moe_geometry_bytes(g) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t unit[] = {0, 1, 1000, UINT64_C(1) << 20, UINT64_C(1) << 52};
    uint64_t bytes[MAX_LAYERS];
    struct moe_geometry g;
    struct moe_err err;
    if (size < 3)
        return 0;
    for (uint32_t l = 0; l < MAX_LAYERS; l++)
        bytes[l] = unit[data[2] % 5] * (l % 3);
    char *text = malloc(size - 2);
    if (!text)
        return 0;
    memcpy(text, data + 3, size - 3);
    text[size - 3] = 0;
    if (moe_geometry_parse(text, data[0], data[1], data[2] % 7 ? bytes : NULL, &g, &err)) {
        expect(err.status == MOE_ERR_USAGE && strlen(err.text) > 0);
    } else {
        check(&g);
        moe_geometry_release(&g);
    }
    free(text);
    return 0;
}
