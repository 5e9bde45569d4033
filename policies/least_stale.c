/* Least-Stale: four rules go by this name. Time is counted in uses of the pool; what a use tells is
 * kept for the whole run, also while the expert is not in the cache.
 * reading=pass:      experts not used in the forward pass under way go first, oldest first, then
 *                    the others. Coming in counts as a use. Without prefetching this is LRU.
 * reading=layer:     the lowest layer goes first, within it the oldest.
 * reading=intervals: the expert goes whose next use is predicted last, from a moving mean of the
 *                    intervals between its uses. One used less than twice is predicted never; one
 *                    that is overdue, as far ahead as its last use is behind.
 * reading=bypass:    as intervals, but a newcomer predicted later than every resident is declined.
 */
#include "policies/registry.h"

#include <math.h>

enum reading { PASS, LAYER, INTERVALS, BYPASS };

struct params {
    int reading;
    double weight;
};

struct use {
    uint64_t last;   /* time of the last use, 0: none */
    double interval; /* moving mean, 0: not two uses yet */
    uint32_t layer;
    uint32_t pass; /* of the last use */
};

struct state {
    uint64_t now; /* uses of the pool */
    double weight;
    uint32_t pass, n_slots, n_experts, reading;
    struct use *of_key;   /* [n_keys] lies behind of_slot */
    struct use of_slot[]; /* [n_slots] the same, side by side for the search */
};

static const struct moe_param table[] = {
    {.name = "reading",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, reading),
     .default_text = "pass",
     .choices = "pass|layer|intervals|bypass",
     .help = "which of the four rules"},
    {.name = "weight",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, weight),
     .default_text = "0.5",
     .min = 0.001,
     .max = 1,
     .help = "of the latest interval in the moving mean (intervals, bypass)"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) +
           (env->n_slots + (size_t)env->n_layers * env->n_experts) * sizeof(struct use);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->n_experts = env->n_experts;
    st->reading = (uint32_t)params->reading;
    st->weight = params->weight;
    st->of_key = st->of_slot + env->n_slots;
}

static void on_step(void *state)
{
    ((struct state *)state)->pass++;
}

static void note_use(const struct state *st, struct use *use)
{
    double interval = (double)(st->now - use->last);
    if (use->last)
        use->interval =
            use->interval > 0 ? st->weight * interval + (1 - st->weight) * use->interval : interval;
    use->last = st->now;
    use->pass = st->pass;
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    for (uint32_t i = 0; i < route->n; i++) {
        struct use *use = &st->of_key[route->layer * st->n_experts + route->expert[i]];
        st->now++;
        use->layer = route->layer;
        note_use(st, use);
        if (route->slot[i] != MOE_NO_SLOT)
            st->of_slot[route->slot[i]] = *use;
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    struct use *use = &st->of_slot[slot];
    *use = st->of_key[key];
    use->layer = key / st->n_experts;
    if (use->pass != st->pass || !use->last) { /* prefetched */
        use->last = ++st->now;
        use->pass = st->pass;
    }
}

static double next_use(const struct state *st, const struct use *use)
{
    if (use->interval <= 0)
        return INFINITY;
    double now = (double)st->now, last = (double)use->last, due = last + use->interval;
    return due < now ? now + (now - last) : due;
}

/* Does a go before b? */
static bool is_staler(const struct state *st, const struct use *a, const struct use *b)
{
    if (st->reading == PASS && (a->pass == st->pass) != (b->pass == st->pass))
        return b->pass == st->pass;
    if (st->reading == LAYER && a->layer != b->layer)
        return a->layer < b->layer;
    if (st->reading >= INTERVALS) {
        double left = next_use(st, a), right = next_use(st, b);
        if (left < right || left > right)
            return left > right;
    }
    return a->last < b->last;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < st->n_slots; s++)
        if (!req->pinned[s] &&
            (best == MOE_NO_SLOT || is_staler(st, &st->of_slot[s], &st->of_slot[best])))
            best = (moe_slot)s;
    if (best != MOE_NO_SLOT && st->reading == BYPASS &&
        next_use(st, &st->of_key[req->key]) > next_use(st, &st->of_slot[best]))
        return MOE_NO_SLOT;
    return best;
}

const struct moe_policy_ops moe_policy_least_stale = {
    .name = "least-stale",
    .summary = "four readings: experts unused in this forward pass first, oldest first (pass); "
               "lowest layer first (layer); latest next use predicted from the mean interval "
               "(intervals); the same, declining newcomers predicted later than all (bypass)",
    .source = "SpecMD, arXiv 2602.03921; pass: arXiv 2608.07911 section 2.3",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_step = on_step,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
};
