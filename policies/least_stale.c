/* Least-Stale: four rules go by this name.
 * reading=pass:      experts not used in the forward pass under way go first, oldest first, then
 *                    the others, oldest first. Coming in counts as a use. A use in this pass is
 *                    later than any in another, so that this is LRU, and done as such.
 * reading=layer:     the lowest layer goes first, within it the oldest.
 * reading=intervals: the expert goes whose next use is predicted last, from a moving mean of the
 *                    intervals between its uses, in uses of the pool and over the whole run, also
 *                    while it is not in the cache. One used less than twice is predicted never; one
 *                    that is overdue, as far ahead as its last use is behind.
 * reading=bypass:    as intervals, but a newcomer predicted later than every resident is declined.
 */
#include "policies/registry.h"
#include "policies/slot_tree.h"

#include <math.h>

enum reading { PASS, LAYER, INTERVALS, BYPASS };

struct params {
    int reading;
    double weight;
};

struct use {
    uint64_t last;   /* time of the last use, 0: none */
    double interval; /* moving mean, 0: not two uses yet */
};

struct state {
    uint64_t now; /* uses of the pool */
    double weight;
    uint32_t n_slots, n_experts, reading;
    struct moe_slot_tree tree; /* pass, layer: by layer (or 0), then by time of the last use */
    struct use *of_key;        /* [n_keys] intervals, bypass */
    struct use of_slot[];      /* [n_slots] the same, side by side for the search */
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

static size_t count_uses(const struct moe_policy_env *env)
{
    return env->n_slots + (size_t)env->n_layers * env->n_experts;
}

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + count_uses(env) * sizeof(struct use) + moe_slot_tree_size(env);
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
    moe_slot_tree_init(&st->tree, env, st->of_slot + count_uses(env));
}

static bool predicts(const struct state *st)
{
    return st->reading >= INTERVALS;
}

static void note_use(const struct state *st, struct use *use)
{
    double interval = (double)(st->now - use->last);
    if (use->last)
        use->interval =
            use->interval > 0 ? st->weight * interval + (1 - st->weight) * use->interval : interval;
    use->last = st->now;
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    for (uint32_t i = 0; predicts(st) && i < route->n; i++) {
        struct use *use = &st->of_key[route->layer * st->n_experts + route->expert[i]];
        st->now++;
        note_use(st, use);
        if (route->slot[i] != MOE_NO_SLOT)
            st->of_slot[route->slot[i]] = *use;
    }
}

static void make_newest(struct state *st, moe_slot slot, moe_key key)
{
    uint64_t layer = st->reading == LAYER ? key / st->n_experts : 0;
    moe_slot_tree_set(&st->tree, slot, (struct moe_rank){layer, ++st->now});
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    if (!predicts(st))
        make_newest(st, slot, key);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    if (predicts(st))
        st->of_slot[slot] = st->of_key[key];
    else
        make_newest(st, slot, key);
}

static double next_use(const struct state *st, const struct use *use)
{
    if (use->interval <= 0)
        return INFINITY;
    double now = (double)st->now, last = (double)use->last, due = last + use->interval;
    return due < now ? now + (now - last) : due;
}

/* Is a predicted later than b? The older goes first among equals. */
static bool is_later(const struct state *st, const struct use *a, const struct use *b)
{
    double left = next_use(st, a), right = next_use(st, b);
    if (left < right || left > right)
        return left > right;
    return a->last < b->last;
}

static moe_slot find_latest(const struct state *st, const struct moe_victim_req *req)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < st->n_slots; s++)
        if (!req->pinned[s] &&
            (best == MOE_NO_SLOT || is_later(st, &st->of_slot[s], &st->of_slot[best])))
            best = (moe_slot)s;
    return best;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    if (!predicts(st))
        return moe_slot_tree_victim(&st->tree, req->pinned, st->n_slots);
    moe_slot best = find_latest(st, req);
    if (best != MOE_NO_SLOT && st->reading == BYPASS &&
        next_use(st, &st->of_key[req->key]) > next_use(st, &st->of_slot[best]))
        return MOE_NO_SLOT;
    return best;
}

const struct moe_policy_ops moe_policy_least_stale = {
    .name = "least-stale",
    .summary =
        "four readings: experts unused in this forward pass first, oldest first (pass, which is "
        "LRU); "
        "lowest layer first (layer); latest next use predicted from the mean interval "
        "(intervals); the same, declining newcomers predicted later than all (bypass)",
    .source = "SpecMD, arXiv 2602.03921; pass: arXiv 2608.07911 section 2.3",
    .notes = "Four rules go by this name. `pass` turns out to be LRU (an expert used in the pass "
             "under way was used later than all others); `layer` is not; `intervals` and `bypass` "
             "predict, and only `bypass` may decline a newcomer.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .victim = victim,
};
