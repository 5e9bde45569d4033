/* opt-time: knows the future and what operations take, and keeps the experts whose next hit saves
 * the most time for the time that they hold a slot.
 *
 * Model: with h of its n experts on the GPU, a layer takes
 *     T(h) = max(cpu(n - h), h gpu_expert),  cpu(0) = 0, cpu(m) = down + m cpu_expert + up,
 * for one token; copies take nothing. n is the model's top-k, or where more experts that may be
 * kept have that event as next use, their number. The expert's value is what its
 * next use saves by being a hit, given which others of that use's event are kept:
 *     T(h) - T(h + 1),  h: other experts kept whose next use is the same event.
 * It may be negative, where the GPU computes its hits longer than the CPU the rest.
 * Rule, at each event: of the residents and the event's experts, give up the one with the smallest
 * value for each event until its next use, and count the values of its companions anew, until all
 * that are left have a slot. A newcomer whose value is not positive is not taken even into a free
 * slot; one that lies there with such a value stays until the slot is wanted.
 *
 * What it is not: optimal, even in this model. Values for a time are packed greedily (where all are
 * equal this is Belady's rule, which packs best); experts that will be fetched between now and the
 * next use do not count as companions; a shared event's hits are added one by one. Nor does it see
 * what the model leaves out: time of copies, DRAM, other places of the experts. So a run can beat
 * it. tests/unit/test_opt_time.c says how far it is from the best on small cases.
 *
 * Events are told apart by their ordinals (policies/future.h), of which a forward pass has one for
 * each layer. Under the access contract each access is an event of its own: values are equal. */
#include "policies/registry.h"

#include "policies/cost.h"
#include "policies/slot_lines.h"

#include <math.h>
#include <string.h>

/* A resident, or a newcomer that asks for a slot: who may stay. Residents have the numbers of their
 * slots, newcomers those from n_slots on, in gate order. */
struct candidate {
    uint32_t next_use;
    uint32_t group;  /* of those with the same next use, or NONE: no candidate */
    uint32_t before; /* another of the group, or NONE */
    uint32_t after;
    bool kept;
};

/* Candidates with the same next use: only together do they have a value, and all have the same. */
struct group {
    uint32_t next_use, first;
    uint32_t n, n_kept; /* n: with those given up */
    uint32_t chained;   /* the next group of the bucket, or of the unused ones, or NONE */
    bool is_old;        /* its value is not of these numbers; it is in `old` */
};

/* Of a group, for each event that the slot is held; see slot_lines.h. */
struct worth {
    double value, slope, later; /* later: added to the next use */
};

struct missed {
    moe_key key;
    uint32_t next_use;
};

#define NONE UINT32_MAX

/* Without a value; and more events than there are, so that such a group stands above 0 however long
 * ago its next use should have been. */
#define STEEPEST 0x1p600
#define BEFORE   0x1p33

struct state {
    uint32_t n_slots, n_layers, n_experts, top_k;
    double cpu_ns, gpu_ns, state_ns;
    uint32_t pass;    /* ordinal of the first event of the forward pass */
    uint32_t now;     /* of the event under way */
    uint32_t pending; /* next use of the newcomer that asked last */
    moe_key asked;    /* it */
    moe_slot victim;  /* to make room for it, or MOE_NO_SLOT */
    bool begun;
    uint32_t n_missed, n_residents;
    uint32_t new_begin, new_end;  /* newcomers that are candidates: from the one that asked last */
    uint32_t n_groups, unused;    /* n_groups: numbers below were in use once; unused: a chain */
    uint32_t n_buckets;           /* a power of two */
    uint32_t n_negative;          /* groups of negative value */
    double steepest;              /* 1 / the smallest positive value, ever */
    struct moe_slot_lines lines;  /* [n] groups, at held / value */
    uint8_t *cannot_go;           /* [n] */
    struct worth *worth;          /* [top_k + 1] by those kept of at most top_k; 0: none can go */
    double *value;                /* [n] of a kept one of the group; INFINITY: none of it can go */
    struct group *group;          /* [n] n: n_slots + E + 1 */
    struct missed *missed;        /* [E] gate order */
    uint32_t *bucket;             /* [n_buckets] a group, by next use, or NONE */
    uint32_t n_given_up;          /* for the newcomers that are candidates */
    uint32_t *given_up;           /* [n] candidates, in that order */
    uint32_t n_stuck, *stuck;     /* [n] groups none of which may go */
    uint32_t n_old, *old;         /* [n] groups */
    struct candidate candidate[]; /* [n] */
};

static uint32_t count_candidates(const struct moe_policy_env *env)
{
    return env->n_slots + env->n_experts + 1;
}

static uint32_t count_buckets(const struct moe_policy_env *env)
{
    uint32_t n = 1;
    while (n < 2 * count_candidates(env))
        n *= 2;
    return n;
}

static struct moe_policy_env group_env(const struct moe_policy_env *env)
{
    return (struct moe_policy_env){.n_slots = count_candidates(env)};
}

static size_t state_size(const struct moe_policy_env *env)
{
    const struct moe_policy_env groups = group_env(env);
    size_t n = count_candidates(env);
    return sizeof(struct state) + moe_slot_lines_size(&groups) +
           ((size_t)env->top_k + 1) * sizeof(struct worth) +
           n * (sizeof(struct candidate) + sizeof(double) + sizeof(struct group) +
                3 * sizeof(uint32_t) + 1) +
           env->n_experts * sizeof(struct missed) + count_buckets(env) * sizeof(uint32_t) +
           sizeof(double);
}

/* Doubles first: what lies behind them needs no more than their alignment. */
static void place_arrays(struct state *st, const struct moe_policy_env *env)
{
    const struct moe_policy_env groups = group_env(env);
    size_t n = count_candidates(env);
    uintptr_t at = (uintptr_t)(st->candidate + n);
    char *lines = (char *)((at + sizeof(double) - 1) / sizeof(double) * sizeof(double));
    moe_slot_lines_init(&st->lines, &groups, lines);
    st->worth = (struct worth *)(lines + moe_slot_lines_size(&groups));
    st->value = (double *)(st->worth + env->top_k + 1);
    st->group = (struct group *)(st->value + n);
    st->missed = (struct missed *)(st->group + n);
    st->bucket = (uint32_t *)(st->missed + env->n_experts);
    st->given_up = st->bucket + st->n_buckets;
    st->stuck = st->given_up + n;
    st->old = st->stuck + n;
    st->cannot_go = (uint8_t *)(st->old + n);
    memset(st->cannot_go, 1, n);
}

/* T(h) of the file's head. */
static double layer_ns(const struct state *st, uint32_t n, uint32_t n_hits)
{
    double misses = (double)(n - n_hits);
    double cpu = misses > 0 ? st->state_ns + misses * st->cpu_ns : 0;
    double gpu = (double)n_hits * st->gpu_ns;
    return cpu > gpu ? cpu : gpu;
}

static struct worth worth_of(double value)
{
    if (value == 0)
        return (struct worth){0, -STEEPEST, BEFORE};
    return (struct worth){value, value > 0 && value < INFINITY ? -1 / value : 0, 0};
}

static struct worth worth_of_one(const struct state *st, uint32_t n, uint32_t n_kept)
{
    return worth_of(layer_ns(st, n, n_kept - 1) - layer_ns(st, n, n_kept));
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct moe_costs *costs = env->costs;
    st->n_slots = env->n_slots;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    st->top_k = env->top_k;
    st->n_buckets = count_buckets(env);
    st->unused = NONE;
    st->asked = MOE_NO_KEY;
    place_arrays(st, env);
    for (uint32_t i = 0; i < st->n_buckets; i++)
        st->bucket[i] = NONE;
    for (uint32_t i = 0; i < count_candidates(env); i++)
        st->candidate[i].group = NONE;
    st->cpu_ns = costs ? (double)costs->cpu_expert_ns : 1; /* without costs every hit is worth 1 */
    st->gpu_ns = costs ? (double)costs->gpu_expert_ns : 0;
    if (costs && costs->platform)
        st->state_ns =
            (double)moe_cost_state_down_ns(costs, 1) + (double)moe_cost_state_up_ns(costs, 1);
    st->worth[0] = worth_of(INFINITY);
    for (uint32_t n = 1; n <= st->top_k; n++)
        st->worth[n] = worth_of_one(st, st->top_k, n);
}

/* A line below 0 stays there: it need not say that none can go. */
static void note_worth(struct state *st, uint32_t g, const struct worth *worth)
{
    bool is_below = st->value[g] > 0 && st->group[g].next_use <= st->now; /* its old line */
    st->n_negative += (worth->value < 0) - (uint32_t)(st->value[g] < 0);
    st->value[g] = worth->value;
    st->cannot_go[g] = worth->value == INFINITY;
    if (st->cannot_go[g] && is_below)
        return;
    if (!(worth->value <= 0) && -worth->slope > st->steepest)
        st->steepest = -worth->slope;
    moe_slot_lines_set(&st->lines, (moe_slot)g, st->group[g].next_use + worth->later, worth->slope,
                       -1, st->now);
}

/* Of the group's numbers. */
static void set_value(struct state *st, uint32_t g)
{
    struct group *group = &st->group[g];
    struct worth worth;
    group->is_old = false;
    if (group->n_kept > 0 && group->next_use == MOE_NEVER)
        worth = worth_of(0);
    else if (group->n <= st->top_k || group->n_kept == 0)
        worth = st->worth[group->n_kept];
    else
        worth = worth_of_one(st, group->n, group->n_kept);
    note_worth(st, g, &worth);
}

/* Before a search: of groups whose numbers changed since the last one. */
static void set_old_values(struct state *st)
{
    while (st->n_old > 0)
        set_value(st, st->old[--st->n_old]);
}

static void note_change(struct state *st, uint32_t g)
{
    if (!st->group[g].is_old)
        st->old[st->n_old++] = g;
    st->group[g].is_old = true;
}

/* By the product's highest digits: next uses of a layer are n_layers apart, their lowest digits may
 * all be the same. */
static uint32_t *find_bucket(const struct state *st, uint32_t next_use)
{
    return &st->bucket[(uint64_t)(next_use * 2654435761u) * st->n_buckets >> 32];
}

static uint32_t group_for(struct state *st, uint32_t next_use)
{
    uint32_t *bucket = find_bucket(st, next_use), g = *bucket;
    while (g != NONE && st->group[g].next_use != next_use)
        g = st->group[g].chained;
    if (g != NONE)
        return g;
    g = st->unused;
    if (g == NONE)
        g = st->n_groups++;
    else
        st->unused = st->group[g].chained;
    st->group[g] = (struct group){
        .next_use = next_use, .first = NONE, .chained = *bucket, .is_old = st->group[g].is_old};
    *bucket = g;
    return g;
}

static void drop_group(struct state *st, uint32_t g)
{
    uint32_t *link = find_bucket(st, st->group[g].next_use);
    while (*link != g)
        link = &st->group[*link].chained;
    *link = st->group[g].chained;
    st->group[g].chained = st->unused;
    st->unused = g;
}

static void join(struct state *st, uint32_t i, uint32_t next_use)
{
    uint32_t g = group_for(st, next_use);
    struct group *group = &st->group[g];
    st->candidate[i] = (struct candidate){
        .next_use = next_use, .group = g, .before = NONE, .after = group->first, .kept = true};
    if (group->first != NONE)
        st->candidate[group->first].before = i;
    group->first = i;
    group->n++;
    group->n_kept++;
    note_change(st, g);
}

/* Sets what its neighbours in the group hold for it. */
static void link_neighbours(struct state *st, const struct candidate *c, uint32_t before,
                            uint32_t after)
{
    if (c->after != NONE)
        st->candidate[c->after].before = before;
    if (c->before != NONE)
        st->candidate[c->before].after = after;
    else
        st->group[c->group].first = after;
}

static void leave(struct state *st, uint32_t i)
{
    struct candidate *c = &st->candidate[i];
    struct group *group = &st->group[c->group];
    link_neighbours(st, c, c->before, c->after);
    group->n--;
    group->n_kept -= c->kept;
    note_change(st, c->group);
    if (group->n == 0)
        drop_group(st, c->group);
    c->group = NONE;
}

static void set_kept(struct state *st, uint32_t i, bool kept)
{
    uint32_t g = st->candidate[i].group;
    st->candidate[i].kept = kept;
    st->group[g].n_kept += kept ? 1 : UINT32_MAX;
    note_change(st, g);
}

static void keep_all(struct state *st)
{
    while (st->n_given_up > 0)
        set_kept(st, st->given_up[--st->n_given_up], true);
}

/* A candidate goes for good, one that is kept as if it were given up next. What was given up for
 * the event's other newcomers stays given up if without this candidate the same would be: where it
 * went first, or none shares its value. */
static void remove_candidate(struct state *st, uint32_t i)
{
    const struct group *group = &st->group[st->candidate[i].group];
    bool alone = group->n == 1 || group->next_use == MOE_NEVER;
    uint32_t place = 0;
    while (place < st->n_given_up && st->given_up[place] != i)
        place++;
    if (!st->candidate[i].kept)
        st->n_given_up--;
    for (uint32_t k = place; k < st->n_given_up; k++)
        st->given_up[k] = st->given_up[k + 1];
    if (!alone && (place > 0 || group->n > st->top_k))
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

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    uint32_t now = st->pass + route->layer;
    keep_all(st);
    remove_newcomers(st, st->new_end);
    st->n_missed = st->new_begin = st->new_end = 0;
    st->asked = MOE_NO_KEY;
    if (now < st->now)
        moe_slot_lines_restart(&st->lines);
    st->now = now;
    for (uint32_t i = 0; i < route->n; i++) {
        uint32_t next_use = route->next_use ? route->next_use[i] : MOE_NEVER;
        moe_slot slot = route->slot[i];
        if (slot == MOE_NO_SLOT) {
            moe_key key = route->layer * st->n_experts + route->expert[i];
            st->missed[st->n_missed++] = (struct missed){key, next_use};
            continue;
        }
        /* What was to be used next at this event tells its ordinal: counting may have begun late,
         * or ordinals count accesses. */
        uint32_t expected = st->candidate[slot].next_use;
        if (expected != MOE_NEVER && expected > st->now) {
            st->now = expected;
            st->pass = st->now - route->layer;
        }
        leave(st, (uint32_t)slot);
        join(st, (uint32_t)slot, next_use);
    }
}

/* Does group b go before a? The smaller value for each event that a slot is held; of equals the one
 * used later, so that experts that are never used again go before others that save nothing. */
static bool goes_before(const void *state, uint32_t a, uint32_t b)
{
    const struct state *st = state;
    uint32_t use_a = st->group[a].next_use, use_b = st->group[b].next_use;
    double held_a = use_a > st->now ? (double)(use_a - st->now) : 1;
    double held_b = use_b > st->now ? (double)(use_b - st->now) : 1;
    double left = st->value[b] * held_a, right = st->value[a] * held_b;
    return left < right || (left == right && use_b > use_a);
}

/* The group that goes first, or NONE: no candidate can go. Lines do not tell of negative values,
 * nor that a slot is held for an event at least: then all groups are compared. */
static uint32_t find_least(struct state *st)
{
    uint32_t best = NONE;
    double now = st->now;
    moe_slot g = st->n_negative
                     ? MOE_NO_SLOT
                     : moe_slot_lines_victim(&st->lines, st->cannot_go, now, goes_before, st);
    if (g != MOE_NO_SLOT &&
        (now - st->lines.all.last[g]) * st->lines.all.slope[g] * (1 + 1e-9) >= st->steepest)
        return (uint32_t)g;
    for (uint32_t i = 0; i < st->n_groups; i++)
        if (!st->cannot_go[i] && (best == NONE || goes_before(st, best, i)))
            best = i;
    return best;
}

/* Who of the group goes: one that is not there yet, or the lowest slot that is not pinned. */
static uint32_t find_member(const struct state *st, uint32_t g, const uint8_t *pinned)
{
    uint32_t best = NONE;
    for (uint32_t i = st->group[g].first; i != NONE; i = st->candidate[i].after) {
        bool is_new = i >= st->n_slots, best_new = best != NONE && best >= st->n_slots;
        if (!st->candidate[i].kept || (!is_new && pinned[i] & ~MOE_PIN_EVENT))
            continue;
        if (is_new == best_new ? i < best : is_new)
            best = i;
    }
    return best;
}

static uint32_t next_to_go(struct state *st, const uint8_t *pinned)
{
    for (;;) {
        uint32_t g = find_least(st), i = g != NONE ? find_member(st, g, pinned) : NONE;
        if (g == NONE || i != NONE)
            return i;
        note_worth(st, g, &st->worth[0]); /* until the newcomer is decided on */
        st->stuck[st->n_stuck++] = g;
    }
}

/* Gives up candidates until there is room for all that are left; do they include the newcomer? */
static bool make_room(struct state *st, const struct moe_victim_req *req)
{
    uint32_t asks = st->n_slots + st->new_begin;
    uint32_t n = st->n_residents + st->new_end - st->new_begin - st->n_given_up;
    if (!st->candidate[asks].kept)
        return false;
    set_old_values(st);
    for (; n > st->n_slots; n--) {
        uint32_t gone = next_to_go(st, req->pinned);
        if (gone == NONE)
            keep_all(st);
        if (gone == NONE || gone == asks)
            return false;
        set_kept(st, gone, false);
        set_old_values(st);
        st->given_up[st->n_given_up++] = gone;
    }
    if (st->value[st->candidate[asks].group] > 0) /* it is kept */
        return true;
    keep_all(st);
    return false;
}

/* The newcomer, and the misses of the event that will ask after it. Those that asked before lie in
 * slots, or were declined. One that is no miss of the event has the number behind them. */
static void join_newcomers(struct state *st, const struct moe_victim_req *req)
{
    uint32_t i = 0;
    while (i < st->n_missed && st->missed[i].key != req->key)
        i++;
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
    if (st->n_stuck > 0)
        keep_all(st);
    while (st->n_stuck > 0)
        note_change(st, st->stuck[--st->n_stuck]);
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
        const struct candidate *c = &st->candidate[st->n_slots + st->new_begin++];
        st->candidate[slot] = *c;
        link_neighbours(st, c, (uint32_t)slot, (uint32_t)slot);
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
    if (st->candidate[slot].kept)
        keep_all(st);
    remove_candidate(st, (uint32_t)slot);
}

/* Pools limited by bytes may want more room than slots tell: then what is used last goes. */
static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot gone = st->victim;
    for (uint32_t s = 0; s < st->n_slots && st->victim == MOE_NO_SLOT; s++)
        if (!(req->pinned[s] & ~MOE_PIN_EVENT) && st->candidate[s].next_use > req->next_use &&
            (gone == MOE_NO_SLOT || st->candidate[s].next_use > st->candidate[gone].next_use))
            gone = (moe_slot)s;
    st->victim = MOE_NO_SLOT;
    return gone;
}

const struct moe_policy_ops moe_policy_opt_time = {
    .name = "opt-time",
    .summary = "knows the future and the costs: keeps what saves most time for its stay (greedy)",
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
