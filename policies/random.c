/* Random: evicts any expert that is not pinned, all equally likely; the seed decides. It draws
 * among all slots until one is not pinned, which favours none of them. After some draws, as few or
 * none may be left, it counts those that are not pinned and draws among them. */
#include "policies/registry.h"

#include "base/rng.h"

enum { MAX_DRAWS = 16 }; /* a guess; where half are pinned, one search in 65536 counts */

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

/* Uniform in [0, n): the upper half of the product of n and a random number. Draws again if the
 * lower half is below 2^32 mod n, without which some results would be more likely (Lemire, ACM
 * TOMACS 29(1), 2019). */
static uint32_t draw(struct moe_rng *rng, uint32_t n)
{
    for (;;) {
        uint64_t product = (moe_rng_next(rng) >> 32) * n;
        uint32_t lower = (uint32_t)product;
        if (lower >= n || lower >= (0 - n) % n)
            return (uint32_t)(product >> 32);
    }
}

static moe_slot draw_free(struct state *st, const uint8_t *pinned)
{
    uint32_t n_free = 0, s = 0;
    for (uint32_t i = 0; i < st->n_slots; i++)
        n_free += !pinned[i];
    if (n_free == 0)
        return MOE_NO_SLOT;
    for (uint32_t skip = draw(&st->rng, n_free); pinned[s] || skip > 0; s++)
        skip -= !pinned[s];
    return (moe_slot)s;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    for (int i = 0; i < MAX_DRAWS; i++) {
        uint32_t s = draw(&st->rng, st->n_slots);
        if (!req->pinned[s])
            return (moe_slot)s;
    }
    return draw_free(st, req->pinned);
}

const struct moe_policy_ops moe_policy_random = {
    .name = "random",
    .summary = "any unpinned expert, all equally likely (seeded)",
    .source = "the policy that knows nothing: any other must beat it to be worth its cost",
    .notes = "A number below n is drawn as the upper half of a product of 64 bits, n times the "
             "upper 32 bits of the next number; while the product's lower half is below 2^32 mod "
             "n, it is drawn again (Lemire, 2019). Of a pool of n slots one is drawn so. If that "
             "slot cannot go, because the event found or filled it, another is drawn, 16 in all; "
             "then a number k below m, if m > 0 slots can go: the one with k of them before it "
             "goes.",
    .state_size = state_size,
    .init = init,
    .on_insert = on_insert,
    .victim = victim,
};
