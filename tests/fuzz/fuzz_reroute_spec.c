/* Reroute rules with parameters; what parses changes some events of any scores, which keep their
 * number of experts, have none twice, and weights that are numbers where the scores are; what is
 * begun early is missing, and none of it twice. */
#include "policies/rerouter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, EXPERTS = 5, K = 2, EVENTS = 8 };

/* Two rows of scores from the bytes, as they are. */
static void take_rows(const uint8_t *data, size_t size, float rows[2][EXPERTS])
{
    memset(rows, 0, 2 * sizeof rows[0]);
    memcpy(rows, data, size < 2 * sizeof rows[0] ? size : 2 * sizeof rows[0]);
}

static void check(const struct moe_layer_routes *routes, bool moved)
{
    if (routes->expert[0] == routes->expert[1] || routes->expert[0] >= EXPERTS ||
        routes->expert[1] >= EXPERTS)
        abort();
    for (uint32_t k = 0; moved && k < K; k++)
        if (!isfinite(routes->weight[k]) || routes->weight[k] < 0)
            abort();
}

static void check_early(struct moe_rerouter *rerouter, const struct moe_cache *cache,
                        uint32_t layer)
{
    moe_expert early[K];
    const uint32_t n = moe_rerouter_early(rerouter, cache, layer, early);
    if (n > K || (n == K && early[0] == early[1]))
        abort();
    for (uint32_t i = 0; i < n; i++)
        if (early[i] >= EXPERTS || moe_cache_find(cache, layer * EXPERTS + early[i]) != MOE_NO_SLOT)
            abort();
}

static void run(struct moe_rerouter *rerouter, struct moe_cache *cache, const uint8_t *data,
                size_t size)
{
    float rows[2][EXPERTS];
    take_rows(data, size, rows);
    for (uint32_t t = 0; t < EVENTS; t++) {
        const moe_expert expert[K] = {(moe_expert)(t % EXPERTS), (moe_expert)((t + 1) % EXPERTS)};
        const float weight[K] = {0.75f, 0.25f};
        struct moe_layer_routes routes = {.layer = t % LAYERS,
                                          .n_tokens = 1,
                                          .phase = MOE_DECODE,
                                          .top_k = K,
                                          .expert = expert,
                                          .weight = t & 2 ? weight : NULL,
                                          .stride = K,
                                          .score = rows[t & 1],
                                          .lookahead = rows[~t & 1]};
        check(&routes, moe_rerouter_event(rerouter, cache, &routes));
        if (routes.layer + 1 < LAYERS)
            check_early(rerouter, cache, routes.layer + 1);
        moe_slot slot = moe_cache_reserve_key(cache, t % (LAYERS * EXPERTS), NULL);
        if (slot != MOE_NO_SLOT)
            moe_cache_ready(cache, slot);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Text up to the first 0, then scores. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_reroute_spec spec;
    struct moe_policy_spec lru;
    struct moe_geometry geometry;
    struct moe_rerouter rerouter = {0};
    struct moe_cache *cache = NULL;
    struct moe_err err;
    char *text = calloc(size + 1, 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    const size_t n = strlen(text);
    if (moe_reroute_parse(text, &spec, &err)) {
        if (err.status != MOE_ERR_USAGE || !err.text[0])
            abort();
        free(text);
        return 0;
    }
    free(text);
    if (moe_policy_parse("lru", &lru, &err) ||
        moe_geometry_parse("2x2", LAYERS, EXPERTS, NULL, &geometry, &err))
        return 0;
    if (!moe_cache_new(&cache, &geometry, K, &lru, 1, &err) &&
        !moe_rerouter_init(&rerouter, &spec, LAYERS, EXPERTS, K, &err))
        run(&rerouter, cache, data + size - (size - n ? size - n - 1 : 0),
            size - n ? size - n - 1 : 0);
    moe_rerouter_release(&rerouter);
    moe_cache_free(cache);
    moe_geometry_release(&geometry);
    return 0;
}
