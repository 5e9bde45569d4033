/* Least-Stale: four rules go by this name.
 * reading=pass:      experts not used in the forward pass under way are evicted first, oldest use
 *                    first, then the others, oldest use first. Insertion counts as a use. A use in
 *                    this pass is later than any in another: so this is LRU, and done as such.
 * reading=layer:     experts of the lowest layer are evicted first, within it the oldest use first.
 * reading=intervals: the expert is evicted whose next use is predicted last. The prediction is the
 *                    last use plus a moving mean of the intervals between uses; time is counted in
 *                    uses of the pool, over the whole run, also while the expert is in no slot. One
 *                    used less than twice is predicted never; one that is overdue, as far ahead as
 *                    its last use is behind.
 * reading=bypass:    as intervals, but a newcomer predicted later than every resident is declined.
 */
#include "policies/key_lists.h"
#include "policies/registry.h"
#include "policies/slot_dues.h"

enum reading { PASS, LAYER, INTERVALS, BYPASS };

struct params {
    int reading;
    double weight;
};

struct use {
    int64_t last;    /* time of the last use, 0: none */
    double interval; /* moving mean of the intervals, 0: not two uses yet */
};

struct state {
    int64_t now; /* intervals, bypass: uses of the pool */
    double weight;
    uint32_t n_experts, reading;
    uint32_t n_lists, first;    /* number of `lists`; those before `first` are empty */
    struct moe_key_lists lists; /* pass: one; layer: one for each layer; by time of the last use */
    struct moe_slot_dues dues;  /* intervals, bypass */
    struct use of_key[];        /* [n_keys] intervals, bypass */
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

static bool predicts(uint32_t reading)
{
    return reading == INTERVALS || reading == BYPASS;
}

static uint32_t count_lists(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    return params->reading == LAYER ? env->n_layers : 1;
}

static size_t state_size(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    if (!predicts((uint32_t)params->reading))
        return sizeof(struct state) + moe_key_lists_size(env, count_lists(env));
    return sizeof(struct state) + moe_n_keys(env) * sizeof(struct use) + moe_slot_dues_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_experts = env->n_experts;
    st->reading = (uint32_t)params->reading;
    st->weight = params->weight;
    st->first = st->n_lists = count_lists(env);
    if (predicts(st->reading))
        moe_slot_dues_init(&st->dues, env, st->of_key + moe_n_keys(env));
    else
        moe_key_lists_init(&st->lists, env, st->n_lists, st->of_key);
}

/* --- pass, layer ----------------------------------------------------------------------------- */

static uint32_t list_of(const struct state *st, moe_key key)
{
    return st->reading == LAYER ? key / st->n_experts : 0;
}

static void push(struct state *st, moe_slot slot, moe_key key)
{
    uint32_t list = list_of(st, key);
    moe_key_list_push(&st->lists, list, key);
    st->lists.node[key].slot = slot;
    st->first = list < st->first ? list : st->first;
}

static moe_slot find_oldest(struct state *st, const uint8_t *pinned)
{
    while (st->first < st->n_lists && moe_key_list_length(&st->lists, st->first) == 0)
        st->first++;
    for (uint32_t i = st->first; i < st->n_lists; i++) {
        moe_key key = moe_key_list_victim(&st->lists, i, pinned);
        if (key != MOE_NO_KEY)
            return st->lists.node[key].slot;
    }
    return MOE_NO_SLOT;
}

/* --- intervals, bypass ----------------------------------------------------------------------- */

static void note_use(const struct state *st, struct use *use)
{
    double interval = (double)(st->now - use->last);
    if (use->last)
        use->interval =
            use->interval > 0 ? st->weight * interval + (1 - st->weight) * use->interval : interval;
    use->last = st->now;
}

/* The due time of an expert that is predicted never to be used: of several, the one with the older
 * last use is evicted first. */
static double never(double last)
{
    return MOE_DUE_NEVER - last;
}

static double due(const struct use *use)
{
    double last = (double)use->last;
    return use->interval > 0 ? last + use->interval : never(last);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    if (!predicts(st->reading))
        return;
    for (uint32_t i = 0; i < route->n; i++) {
        struct use *use = &st->of_key[route->layer * st->n_experts + route->expert[i]];
        st->now++;
        note_use(st, use);
        moe_slot_dues_set(&st->dues, route->slot[i], (double)use->last, due(use));
    }
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    if (!predicts(st->reading))
        moe_key_list_move(&st->lists, list_of(st, key), key);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    const struct use *use = &st->of_key[key];
    if (predicts(st->reading))
        moe_slot_dues_set(&st->dues, slot, (double)use->last, due(use));
    else
        push(st, slot, key);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    if (!predicts(st->reading))
        moe_key_list_remove(&st->lists, key);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    const struct moe_slot_dues *dues = &st->dues;
    double now = (double)st->now;
    if (!predicts(st->reading))
        return find_oldest(st, req->pinned);
    moe_slot best = moe_slot_dues_victim(&st->dues, req->pinned, now);
    if (best == MOE_NO_SLOT || st->reading == INTERVALS || dues->due[best] >= never(now))
        return best;
    const struct use *new = &st->of_key[req->key];
    bool declines = moe_due_priority((double)new->last, due(new), now) >
                    moe_due_priority(dues->last[best], dues->due[best], now);
    return declines ? MOE_NO_SLOT : best;
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
             "under way was used later than all others); `layer` is not: within the lowest layer "
             "the least recently used goes. `intervals` and `bypass` predict, and only `bypass` "
             "may decline a newcomer. Their clock counts uses of the pool, numbered in gate "
             "order over the whole run, also of experts that are in no slot; all of an event "
             "count before it seeks a victim. The first interval is the mean, then the mean is "
             "`weight` times the latest plus (1 - `weight`) times the mean so far. An expert is "
             "due at its last use plus its mean; one that is overdue counts as due as far ahead "
             "as its last use lies behind. One used less than twice is due later than any other. "
             "Of equal ones, and of those used less than twice, that with the older last use "
             "goes. A newcomer is declined if it is due later than the victim, but never for a "
             "victim that was used less than twice.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
