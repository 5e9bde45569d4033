/* opt-time: knows the future and how long operations take, and keeps the experts whose next hit
 * saves the most time for the time that they hold a slot.
 *
 * Model: with h of its n experts on the GPU, an event of one token takes
 *     T(h) = max(cpu(n - h), h gpu_expert),  cpu(0) = 0, cpu(m) = down + m cpu_expert + up;
 * copies take no time. n is the model's top-k, or the number of candidates (residents and
 * newcomers) whose next use is that event, if that is larger. The value of an expert is what its
 * next use saves by being a hit, given how many others of that event are kept:
 *     T(h) - T(h + 1),  h: other kept candidates whose next use is the same event.
 * It is negative where the GPU takes longer for its hits than the CPU for the rest.
 *
 * Rule, at each event: among the residents and the event's experts, give up the one of the smallest
 * value for each event until its next use, find the values of the others with that next use anew,
 * and repeat until all that are left have a slot. A newcomer whose value is not positive is not
 * taken, not even into a free slot; a resident of such a value stays until its slot is needed.
 *
 * This is not optimal, even in this model: values over time are packed greedily (where all values
 * are equal this is Belady's rule, which packs best); experts that will be fetched before an event
 * do not count among those kept for it; the hits of one event are added one by one. Nor does it see
 * what the model leaves out: the time of copies, DRAM, other places of the experts. So a run can
 * beat it. tests/unit/test_opt_time.c says how far it is from the best on small cases.
 *
 * Events are identified by their ordinals (policies/future.h), of which a forward pass has one for
 * each layer. Under the access contract each access is an event of its own: all values are equal.
 */
#include "policies/registry.h"

#include "policies/cost.h"
#include "policies/use_few.h"
#include "policies/use_groups.h"

struct missed {
    moe_key key;
    uint32_t next_use;
};

/* Candidates are numbered: residents by slot, then newcomers, n_slots + index in `missed`. */
struct state {
    uint32_t n_slots, n_layers, n_experts, top_k;
    uint32_t pass;    /* ordinal of the first event of the forward pass */
    uint32_t now;     /* ordinal of the event under way */
    uint32_t pending; /* next use of the newcomer that asked last */
    moe_key asked;    /* that newcomer, from when it is wanted until it is inserted */
    moe_slot victim;  /* to make room for it, or MOE_NO_SLOT */
    bool begun;       /* on_step was called */
    uint32_t n_missed, n_residents;
    uint32_t new_begin, new_end;  /* of `missed`: those that are candidates now */
    struct moe_use_few few;       /* the candidates, if the pool suits it (few.in_use) */
    struct moe_use_groups groups; /* otherwise */
    struct missed *missed;        /* [E + 1] of the event under way, in gate order */
    struct moe_used *used;        /* [E + 1] scratch: residents that the event found */
    uint32_t n_given_up;
    uint32_t given_up[]; /* [n_slots + E + 1] candidates, in the order in which they were given up
                            to make room for the newcomers that are candidates */
};

/* Bytes of the state and the arrays behind it. */
static size_t size_before_groups(const struct moe_policy_env *env)
{
    size_t size = sizeof(struct state) +
                  ((size_t)env->n_experts + 1) * (sizeof(struct missed) + sizeof(struct moe_used)) +
                  ((size_t)env->n_slots + env->n_experts + 1) * sizeof(uint32_t);
    return (size + 7) / 8 * 8;
}

static size_t state_size(const struct moe_policy_env *env)
{
    return size_before_groups(env) + moe_few_size(env) + moe_use_groups_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct moe_costs *costs = env->costs;
    struct moe_use_times times = {.cpu_ns = 1}; /* without costs every hit is worth 1 */
    if (costs)
        times = (struct moe_use_times){.cpu_ns = (double)costs->cpu_expert_ns,
                                       .gpu_ns = (double)costs->gpu_expert_ns};
    if (costs && costs->platform)
        times.state_ns =
            (double)moe_cost_state_down_ns(costs, 1) + (double)moe_cost_state_up_ns(costs, 1);
    st->n_slots = env->n_slots;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    st->top_k = env->top_k;
    st->asked = MOE_NO_KEY;
    st->missed = (struct missed *)(st->given_up + env->n_slots + env->n_experts + 1);
    st->used = (struct moe_used *)(st->missed + env->n_experts + 1);
    char *memory = (char *)state + size_before_groups(env);
    moe_few_init(&st->few, env, &times, memory);
    if (!st->few.in_use)
        moe_use_groups_init(&st->groups, env, &times, memory + moe_few_size(env));
}

static inline void join(struct state *st, uint32_t i, uint32_t next_use)
{
    if (st->few.in_use)
        moe_few_join(&st->few, i, next_use);
    else
        moe_use_join(&st->groups, i, next_use);
}

static inline void leave(struct state *st, uint32_t i)
{
    if (st->few.in_use)
        moe_few_leave(&st->few, i);
    else
        moe_use_leave(&st->groups, i);
}

static inline void settle(struct state *st, uint32_t newcomer, uint32_t slot)
{
    if (st->few.in_use)
        moe_few_settle(&st->few, newcomer, slot);
    else
        moe_use_settle(&st->groups, newcomer, slot);
}

static inline void set_kept(struct state *st, uint32_t i, bool kept)
{
    if (st->few.in_use)
        moe_few_set_kept(&st->few, i, kept);
    else
        moe_use_set_kept(&st->groups, i, kept);
}

static inline bool is_kept(const struct state *st, uint32_t i)
{
    return st->few.in_use ? st->few.use[i] > 0 : st->groups.candidate[i].kept;
}

/* Are other candidates of its group, whose values depend on it? `many`: more than top-k in all,
 * so that the size of the group matters and not only how many are kept. */
static inline bool shares(const struct state *st, uint32_t i, bool many)
{
    uint32_t least = many ? st->top_k + 1 : 2;
    return st->few.in_use ? moe_few_shares(&st->few, i, least)
                          : moe_use_sharing(&st->groups, i) >= least;
}

/* Is its value positive? */
static inline bool saves(const struct state *st, uint32_t i)
{
    return st->few.in_use ? moe_few_saves(&st->few, i) : moe_use_value(&st->groups, i) > 0;
}

/* The candidate to give up first, or MOE_USE_NONE. */
static inline uint32_t find_first(struct state *st, const uint8_t *pinned)
{
    return st->few.in_use ? moe_few_first(&st->few, st->now, pinned)
                          : moe_use_first(&st->groups, st->now, pinned);
}

static inline bool unstick(struct state *st)
{
    return st->few.in_use ? moe_few_unstick(&st->few) : moe_use_unstick(&st->groups);
}

/* Takes back what was given up. */
static void keep_all(struct state *st)
{
    while (st->n_given_up > 0)
        set_kept(st, st->given_up[--st->n_given_up], true);
}

/* Removes a candidate for good; a kept one as if it were given up next. The others stay given up
 * for the event's remaining newcomers if the same would be given up without this candidate: if it
 * was the first, or no other candidate's value depends on it. Otherwise all are kept again. */
static void remove_candidate(struct state *st, uint32_t i)
{
    uint32_t place = 0;
    while (place < st->n_given_up && st->given_up[place] != i)
        place++;
    bool again = shares(st, i, place == 0);
    if (!is_kept(st, i))
        st->n_given_up--;
    for (uint32_t k = place; k < st->n_given_up; k++)
        st->given_up[k] = st->given_up[k + 1];
    if (again)
        keep_all(st);
    leave(st, i);
}

static void remove_newcomers(struct state *st, uint32_t end)
{
    if (st->new_begin < end)
        keep_all(st);
    while (st->new_begin < end)
        leave(st, st->n_slots + st->new_begin++);
}

static void on_step(void *state)
{
    struct state *st = state;
    st->pass += st->begun ? st->n_layers : 0;
    st->begun = true;
}

/* Corrects `now` by the next use that a resident was expected to have and that is this event: steps
 * may have run before this policy began to count them, or ordinals count accesses. expected: 1 +
 * that next use, or 0 for none. */
static inline void note_now(struct state *st, uint32_t expected, uint32_t layer)
{
    if (expected > st->now + 1) {
        st->now = expected - 1;
        st->pass = st->now - layer;
    }
}

/* Without branches on hits and misses, which branch prediction cannot foresee. */
static __attribute__((noinline)) void route_many(struct state *st, const struct moe_route *route)
{
    moe_key first_key = route->layer * st->n_experts;
    const struct moe_use_candidate *candidate = st->groups.candidate;
    uint32_t n_used = 0, n_missed = 0, latest = 0;
    for (uint32_t i = 0; i < route->n; i++) {
        uint32_t next_use = route->next_use ? route->next_use[i] : MOE_NEVER;
        bool missed = route->slot[i] == MOE_NO_SLOT;
        uint32_t found = (uint32_t)missed - 1, slot = (uint32_t)route->slot[i] & found;
        uint32_t expected = (candidate[slot].next_use + 1) & found;
        latest = expected > latest ? expected : latest;
        st->missed[n_missed] = (struct missed){first_key + route->expert[i], next_use};
        st->used[n_used] = (struct moe_used){slot, next_use};
        n_missed += missed;
        n_used += !missed;
    }
    st->n_missed = n_missed;
    note_now(st, latest, route->layer);
    moe_use_again(&st->groups, st->used, n_used);
}

static void route_one(struct state *st, const struct moe_route *route)
{
    uint32_t next_use = route->next_use ? route->next_use[0] : MOE_NEVER;
    uint32_t slot = (uint32_t)route->slot[0];
    if (route->slot[0] == MOE_NO_SLOT) {
        st->n_missed = 1;
        st->missed[0] = (struct missed){route->layer * st->n_experts + route->expert[0], next_use};
        return;
    }
    note_now(st, st->groups.candidate[slot].next_use + 1, route->layer);
    moe_use_one_again(&st->groups, slot, next_use);
}

/* As route_many; for misses it writes the key behind the row, where that has no effect. */
static __attribute__((noinline)) void route_to_few(struct state *st, const struct moe_route *route)
{
    moe_key first_key = route->layer * st->n_experts;
    uint32_t *use = st->few.use, nobody = st->few.row;
    struct missed *missed = st->missed;
    uint32_t n_missed = 0, latest = 0, n = route->n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t next_use = route->next_use ? route->next_use[i] : MOE_NEVER;
        uint32_t absent = (uint32_t)(route->slot[i] >> 31); /* all bits where it was not found */
        uint32_t slot = ((uint32_t)route->slot[i] & ~absent) | (nobody & absent);
        uint32_t expected = (use[slot] + 1) & ~absent; /* 0 for IDLE */
        latest = expected > latest ? expected : latest;
        missed[n_missed] = (struct missed){first_key + route->expert[i], next_use};
        n_missed += absent & 1;
        use[slot] = moe_few_key(next_use);
    }
    st->n_missed = n_missed;
    note_now(st, latest - (latest > 0), route->layer);
}

static inline void route_one_to_few(struct state *st, const struct moe_route *route)
{
    uint32_t next_use = route->next_use ? route->next_use[0] : MOE_NEVER;
    if (route->slot[0] == MOE_NO_SLOT) {
        st->n_missed = 1;
        st->missed[0] = (struct missed){route->layer * st->n_experts + route->expert[0], next_use};
        return;
    }
    uint32_t expected = st->few.use[route->slot[0]];
    note_now(st, expected == MOE_FEW_IDLE ? 0 : expected, route->layer);
    moe_few_again(&st->few, (uint32_t)route->slot[0], next_use);
}

static __attribute__((noinline)) void forget_event(struct state *st)
{
    keep_all(st);
    remove_newcomers(st, st->new_end);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    if (st->n_given_up > 0 || st->new_begin < st->new_end)
        forget_event(st);
    st->new_begin = st->new_end = st->n_missed = 0;
    st->asked = MOE_NO_KEY;
    st->now = st->pass + route->layer;
    if (st->few.in_use) {
        moe_few_begin_event(&st->few);
        if (route->n == 1)
            route_one_to_few(st, route);
        else
            route_to_few(st, route);
    } else if (route->n == 1) {
        route_one(st, route);
    } else {
        route_many(st, route);
    }
}

/* Gives up candidates until all that are left have a slot; is the newcomer that asks among them,
 * and of positive value? */
static bool make_room(struct state *st, const struct moe_victim_req *req)
{
    uint32_t asks = st->n_slots + st->new_begin;
    uint32_t n = st->n_residents + st->new_end - st->new_begin - st->n_given_up;
    if (!is_kept(st, asks))
        return false;
    for (; n > st->n_slots; n--) {
        uint32_t gone = find_first(st, req->pinned);
        if (gone == MOE_USE_NONE)
            keep_all(st);
        if (gone == MOE_USE_NONE || gone == asks)
            return false;
        set_kept(st, gone, false);
        st->given_up[st->n_given_up++] = gone;
    }
    if (saves(st, asks))
        return true;
    keep_all(st);
    return false;
}

/* Makes candidates of the newcomer that asks and of the misses of the event that ask after it.
 * Those that asked before are residents by now, or were declined. A newcomer that is no miss of the
 * event (a prefetch) has index n_missed. */
static void join_newcomers(struct state *st, const struct moe_victim_req *req)
{
    uint32_t i = st->new_begin;
    if (i >= st->n_missed || st->missed[i].key != req->key)
        for (i = 0; i < st->n_missed && st->missed[i].key != req->key; i++)
            ;
    if (i >= st->new_begin && i < st->new_end && i < st->n_missed) {
        remove_newcomers(st, i);
        return;
    }
    remove_newcomers(st, st->new_end);
    st->new_begin = st->new_end = i;
    join(st, st->n_slots + st->new_end++, req->next_use);
    while (st->new_end < st->n_missed) {
        uint32_t next_use = st->missed[st->new_end].next_use;
        join(st, st->n_slots + st->new_end++, next_use);
    }
}

static moe_slot first_resident(const struct state *st)
{
    for (uint32_t i = 0; i < st->n_given_up; i++)
        if (st->given_up[i] < st->n_slots)
            return (moe_slot)st->given_up[i];
    return MOE_NO_SLOT;
}

static bool wants(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    join_newcomers(st, req);
    st->pending = req->next_use;
    st->asked = req->key;
    bool wanted = make_room(st, req);
    st->victim = first_resident(st);
    if (unstick(st))
        keep_all(st);
    if (!wanted) {
        st->asked = MOE_NO_KEY;
        remove_candidate(st, st->n_slots + st->new_begin++);
    }
    return wanted;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->n_residents++;
    st->victim = MOE_NO_SLOT;
    if (key == st->asked) {
        settle(st, st->n_slots + st->new_begin++, (uint32_t)slot);
        st->asked = MOE_NO_KEY;
        return;
    }
    keep_all(st);
    join(st, (uint32_t)slot, st->pending);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->n_residents--;
    if (is_kept(st, (uint32_t)slot))
        keep_all(st);
    remove_candidate(st, (uint32_t)slot);
}

static uint32_t next_use_of(const struct state *st, uint32_t i)
{
    if (!st->few.in_use)
        return st->groups.candidate[i].next_use;
    uint32_t key = moe_few_key_of(&st->few, i);
    return key == MOE_FEW_IDLE ? MOE_NEVER : key - (key > 0);
}

/* A byte-limited pool may need more room than wants made in slots: then the resident that is used
 * last goes, if that is after the newcomer's next use. */
static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot gone = st->victim;
    uint32_t latest = req->next_use;
    for (uint32_t s = 0; s < st->n_slots && st->victim == MOE_NO_SLOT; s++)
        if (!(req->pinned[s] & ~MOE_PIN_EVENT) && next_use_of(st, s) > latest) {
            latest = next_use_of(st, s);
            gone = (moe_slot)s;
        }
    st->victim = MOE_NO_SLOT;
    return gone;
}

const struct moe_policy_ops moe_policy_opt_time = {
    .name = "opt-time",
    .summary = "knows the future and the costs: keeps what saves the most time relative to the "
               "length of its stay (greedy)",
    .source = "ours: Belady's rule (opt) with hits weighed by the time they save",
    .notes = "Greedy, event by event: no proven bound (`moelab sim` prints one that is).",
    .needs = MOE_NEEDS_FUTURE | MOE_NEEDS_COSTS,
    .flags = MOE_POLICY_MAY_DROP_EVENT,
    .state_size = state_size,
    .init = init,
    .on_step = on_step,
    .on_route = on_route,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .wants = wants,
    .victim = victim,
};
