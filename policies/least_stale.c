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
#include "policies/slot_race.h"
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
    struct moe_slot_race race; /* intervals, bypass */
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
    return sizeof(struct state) + count_uses(env) * sizeof(struct use) + moe_slot_tree_size(env) +
           moe_slot_race_size(env);
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
    char *behind = (char *)(st->of_slot + count_uses(env));
    moe_slot_tree_init(&st->tree, env, behind);
    moe_slot_race_init(&st->race, env, behind + moe_slot_tree_size(env));
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
        if (route->slot[i] == MOE_NO_SLOT)
            continue;
        st->of_slot[route->slot[i]] = *use;
        moe_slot_race_touch(&st->race, (uint32_t)route->slot[i]);
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
    if (!predicts(st)) {
        make_newest(st, slot, key);
        return;
    }
    st->of_slot[slot] = st->of_key[key];
    moe_slot_race_enter(&st->race, slot);
}

static double due(const struct use *use)
{
    return (double)use->last + use->interval;
}

static double next_use(const struct state *st, const struct use *use)
{
    if (use->interval <= 0)
        return INFINITY;
    double now = (double)st->now, last = (double)use->last;
    return due(use) < now ? now + (now - last) : due(use);
}

/* Predictions stand, until one is overdue. From then on it moves away, two for each use of the
 * pool, and may pass one that is not overdue yet. */
static uint64_t later_until(const void *state, uint32_t slot_a, uint32_t slot_b, uint64_t at)
{
    const struct use *of_slot = ((const struct state *)state)->of_slot;
    const struct use *a = &of_slot[slot_a], *b = &of_slot[slot_b];
    double now = (double)at, sooner = due(a) < due(b) ? due(a) : due(b);
    double later = due(a) < due(b) ? due(b) : due(a),
           last = (double)(due(a) < due(b) ? a : b)->last;
    if (a->interval <= 0 || b->interval <= 0 || later < now)
        return UINT64_MAX;
    double until = sooner;
    if (sooner < now) /* passes at half this sum, or did so before */
        until = later + last >= 2 * now ? (later + last) / 2 - 1 : later;
    return until > now ? (uint64_t)until + 1 : at + 1;
}

/* Is b predicted later than a? The older goes first among equals. */
static bool is_later(const void *state, uint32_t slot_a, uint32_t slot_b, uint64_t now)
{
    const struct state *st = state;
    const struct use *a = &st->of_slot[slot_a], *b = &st->of_slot[slot_b];
    double left = next_use(st, b), right = next_use(st, a);
    (void)now; /* the state's */
    if (left < right || left > right)
        return left > right;
    return b->last < a->last;
}

static const struct moe_slot_order by_prediction = {is_later, later_until};

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    if (!predicts(st))
        return moe_slot_tree_victim(&st->tree, req->pinned, st->n_slots);
    moe_slot best = moe_slot_race_victim(&st->race, req->pinned, st->now, by_prediction, st);
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
