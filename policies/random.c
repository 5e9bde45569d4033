/* Random: gives up any expert that is not pinned, all equally likely; the seed decides. */
#include "policies/registry.h"

#include "base/rng.h"

#include <string.h>

struct state {
    struct moe_rng rng;
    uint32_t n_slots;
};

static size_t state_size(const struct moe_policy_env *env)
{
    (void)env;
    return sizeof(struct state);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    st->n_slots = env->n_slots;
    moe_rng_init(&st->rng, env->seed);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    (void)state;
    (void)slot;
    (void)key;
}

/* Of eight slots; a pin sets none of the highest bits. */
static uint32_t count_free(const uint8_t *pinned)
{
    uint64_t x;
    memcpy(&x, pinned, sizeof x);
    x = (x + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u; /* one bit for each that is pinned */
    return x ? 8 - (uint32_t)((x >> 7) * 0x0101010101010101u >> 56) : 8;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    const uint8_t *pinned = req->pinned;
    uint32_t n = st->n_slots, eights = n / 8 * 8, n_free = 0, s = 0, some;
    for (uint32_t i = 0; i < eights; i += 8)
        n_free += count_free(pinned + i);
    for (uint32_t i = eights; i < n; i++)
        n_free += !pinned[i];
    if (n_free == 0)
        return MOE_NO_SLOT;
    uint64_t skip = moe_rng_below(&st->rng, n_free);
    for (; s < eights && (some = count_free(pinned + s)) <= skip; s += 8)
        skip -= some;
    for (; pinned[s] || skip > 0; s++)
        skip -= !pinned[s];
    return (moe_slot)s;
}

const struct moe_policy_ops moe_policy_random = {
    .name = "random",
    .summary = "any unpinned expert, all equally likely (seeded)",
    .source = "the policy that knows nothing: every other one must beat it to be worth its cost",
    .state_size = state_size,
    .init = init,
    .on_insert = on_insert,
    .victim = victim,
};
