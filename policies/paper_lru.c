/* The counter that the paper's reference code calls LRU: a hit adds one to the way's counter, a
 * fill sets it to the largest of the pool plus one; the way of the smallest counter is evicted, the
 * lowest way on ties. This mixes recency and frequency without ageing: it is no true LRU. All
 * experts of a token are looked up, and counted, before any victim is chosen, and nothing protects
 * a way that another expert of the token hit, or whose copy is still running (hazards=on).
 *
 * reading=fifo: the reference code's FIFO. Its ring of ways is this counter without the hits. */
#include "policies/registry.h"
#include "policies/slot_tree.h"

struct params {
    int hazards, fifo;
};

struct state {
    uint32_t n_slots;
    uint8_t forbids; /* pins of a way that is not taken */
    bool fifo;
    uint64_t largest;          /* counter so far: none ever falls */
    struct moe_slot_tree tree; /* by counter, which a way keeps when its expert is evicted */
};

static const struct moe_param table[] = {
    {.name = "hazards",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct params, hazards),
     .default_text = "on",
     .help = "on: pinned ways are overwritten, as in the reference code; off: they are skipped"},
    {.name = "reading",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, fifo),
     .default_text = "lru",
     .choices = "lru|fifo",
     .flags = MOE_PARAM_LATER,
     .help = "which of the reference code's two rules; fifo: hits do not count"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + moe_slot_tree_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->forbids = params->hazards ? MOE_PIN_EMPTY : UINT8_MAX;
    st->fifo = params->fifo;
    moe_slot_tree_init(&st->tree, env, st + 1);
}

static void count(struct state *st, moe_slot slot, uint64_t counter)
{
    st->largest = counter > st->largest ? counter : st->largest;
    moe_slot_tree_set(&st->tree, slot, (struct moe_rank){counter, 0});
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    for (uint32_t i = 0; i < route->n && !st->fifo; i++)
        if (route->slot[i] != MOE_NO_SLOT)
            count(st, route->slot[i], moe_slot_tree_first(&st->tree, route->slot[i]) + 1);
}

/* The counter of the evicted way counts for the largest, as in the reference code. It can be the
 * largest with hazards=off, where the smaller ones were pinned. */
static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    count(st, slot, st->largest + 1);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    return moe_slot_tree_lowest(&st->tree, req->pinned, st->forbids, st->n_slots);
}

const struct moe_policy_ops moe_policy_paper_lru = {
    .name = "paper-lru",
    .summary =
        "the reference code's counters: +1 on a hit, largest + 1 on a fill; evicts the smallest",
    .source = "elsa-lab/MoE-CPU-GPU-Collaborative-Inference src/model.py",
    .notes = "What the paper's reference code does under the name LRU: a mix of recency and "
             "frequency that never ages. `hazards=on` is faithful: a way can be overwritten "
             "although it hit for the other expert of the token, or although its copy still "
             "runs; each case is counted in `hazards`. The code's FIFO has these hazards as well "
             "(`reading=fifo`); `fifo` does not. As there, all hits of an event are counted "
             "before any of its misses seeks a way. The largest counter is sought among all of "
             "the pool, that of the one that goes included; of equal ones the lower way goes.",
    .params = table,
    .params_size = sizeof(struct params),
    .flags = MOE_POLICY_IGNORES_PINS,
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
};
