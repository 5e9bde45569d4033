/* Random: gives up any expert that is not pinned, all equally likely; the seed decides. */
#include "policies/registry.h"

#include "base/rng.h"

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

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    uint32_t n_free = 0, s = 0;
    for (uint32_t i = 0; i < st->n_slots; i++)
        n_free += !req->pinned[i];
    if (n_free == 0)
        return MOE_NO_SLOT;
    for (uint64_t skip = moe_rng_below(&st->rng, n_free); req->pinned[s] || skip > 0; s++)
        skip -= !req->pinned[s];
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
