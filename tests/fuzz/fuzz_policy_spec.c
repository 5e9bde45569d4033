/* Policy names with parameters; what parses runs a few events in a small cache. */
#include "policies/cache.h"

#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, EXPERTS = 4, EVENTS = 12 };

static void run(struct moe_cache *cache)
{
    for (uint32_t t = 0; t < EVENTS; t++) {
        moe_expert expert[2] = {(moe_expert)(t % EXPERTS), (moe_expert)((t + 1 + t / 5) % EXPERTS)};
        moe_slot slot[2];
        uint8_t access[2];
        struct moe_route route = {.layer = t % LAYERS,
                                  .n = expert[0] == expert[1] ? 1 : 2,
                                  .phase = MOE_DECODE,
                                  .expert = expert,
                                  .slot = slot,
                                  .access = access};
        moe_cache_route(cache, &route);
        for (uint32_t i = 0; i < route.n; i++) {
            if (access[i] != MOE_MISS) {
                moe_cache_touch(cache, slot[i]);
                continue;
            }
            moe_slot s = moe_cache_reserve(cache, &route, i, NULL);
            if (s != MOE_NO_SLOT && t % 3)
                moe_cache_ready(cache, s);
        }
        moe_cache_end_event(cache);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_policy_spec spec;
    struct moe_geometry geometry;
    struct moe_cache *cache;
    struct moe_err err;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    if (moe_policy_parse(text, &spec, &err)) {
        if (err.status != MOE_ERR_USAGE || !err.text[0])
            abort();
    } else if (moe_geometry_parse("2x2", LAYERS, EXPERTS, NULL, &geometry, &err) == MOE_OK) {
        if (moe_cache_new(&cache, &geometry, 2, &spec, 1, &err) == MOE_OK) {
            moe_cache_preload(cache);
            run(cache);
            moe_cache_free(cache);
        }
        moe_geometry_release(&geometry);
    }
    free(text);
    return 0;
}
