#include "policies/use_groups.h"

#include <math.h>
#include <string.h>

enum {
    OTHER = MOE_USE_KINDS, /* of a value that no kind has, or that is not positive */
    CANNOT_GO,             /* of value INFINITY */
    LATE = MOE_USE_LATE,
    FEW = 16, /* groups, of which no list is kept */
};

#define NONE MOE_USE_NONE
#define IDLE MOE_USE_IDLE

static const struct moe_use_worth nothing_can_go = {INFINITY, CANNOT_GO};

static size_t count_candidates(const struct moe_policy_env *env)
{
    return (size_t)env->n_slots + env->n_experts + 1;
}

static uint32_t count_buckets(const struct moe_policy_env *env)
{
    uint32_t n = 2;
    while (n < 2 * count_candidates(env))
        n *= 2;
    return n;
}

static size_t count_words(size_t n)
{
    return (n + 63) / 64;
}

size_t moe_use_groups_size(const struct moe_policy_env *env)
{
    size_t n = count_candidates(env);
    size_t size = ((size_t)env->top_k + 1) * sizeof(struct moe_use_worth) +
                  n * (sizeof(struct moe_use_group) + sizeof(struct moe_use_candidate) +
                       2 * sizeof(struct moe_use_ring) + 2 * sizeof(uint32_t)) +
                  count_words(n) * sizeof(uint64_t) + count_buckets(env) * sizeof(uint32_t);
    return (size + 7) / 8 * 8;
}

static void place_arrays(struct moe_use_groups *all, const struct moe_policy_env *env, void *memory)
{
    size_t n = count_candidates(env);
    all->worth = memory;
    all->group = (struct moe_use_group *)(all->worth + env->top_k + 1);
    all->idle = (uint64_t *)(all->group + n);
    all->candidate = (struct moe_use_candidate *)(all->idle + count_words(n));
    all->ring = (struct moe_use_ring *)(all->candidate + n);
    all->bucket = (uint32_t *)(all->ring + 2 * n);
    all->stuck = all->bucket + all->n_buckets;
    all->old = all->stuck + n;
}

static double event_ns(const struct moe_use_times *times, uint32_t n, uint32_t n_hits)
{
    double misses = (double)(n - n_hits);
    double cpu = misses > 0 ? times->state_ns + misses * times->cpu_ns : 0;
    double gpu = (double)n_hits * times->gpu_ns;
    return cpu > gpu ? cpu : gpu;
}

static struct moe_use_worth worth_of_one(const struct moe_use_groups *all, uint32_t n,
                                         uint32_t n_kept)
{
    double value = event_ns(&all->times, n, n_kept - 1) - event_ns(&all->times, n, n_kept);
    for (uint8_t k = 0; k < all->n_kinds; k++)
        if (all->kind[k].value == value)
            return (struct moe_use_worth){value, k};
    return (struct moe_use_worth){value, OTHER};
}

void moe_use_groups_init(struct moe_use_groups *all, const struct moe_policy_env *env,
                         const struct moe_use_times *times, void *memory)
{
    *all = (struct moe_use_groups){.times = *times,
                                   .n_slots = env->n_slots,
                                   .n_new = env->n_experts + 1,
                                   .top_k = env->top_k,
                                   .n_buckets = count_buckets(env),
                                   .unused = NONE};
    place_arrays(all, env, memory);
    for (uint32_t i = 0; i < all->n_buckets; i++)
        all->bucket[i] = NONE;
    for (uint32_t i = 0; i < count_candidates(env); i++) {
        all->candidate[i].group = NONE;
        all->group[i].kind = CANNOT_GO;
    }
    all->worth[0] = nothing_can_go;
    for (uint32_t n = 1; n <= all->top_k; n++) {
        struct moe_use_worth worth = worth_of_one(all, all->top_k, n);
        if (worth.kind == OTHER && worth.value > 0 && all->n_kinds < MOE_USE_KINDS) {
            worth.kind = all->n_kinds++;
            all->kind[worth.kind] = (struct moe_use_kind){.value = worth.value, .from = UINT32_MAX};
        }
        all->worth[n] = worth;
    }
}

/* --- groups ---------------------------------------------------------------------------------- */

/* Of a full list the earlier half goes. */
static void add_late(struct moe_use_kind *kind, uint32_t next_use, uint32_t g)
{
    if (kind->n == LATE && next_use >= kind->from) {
        kind->n -= LATE / 2;
        kind->from = kind->late[LATE / 2 - 1].next_use + 1;
        memmove(kind->late, kind->late + LATE / 2, kind->n * sizeof *kind->late);
    }
    if (next_use < kind->from)
        return;
    uint32_t i = kind->n++;
    for (; i > 0 && kind->late[i - 1].next_use > next_use; i--)
        kind->late[i] = kind->late[i - 1];
    kind->late[i].next_use = next_use;
    kind->late[i].group = g;
}

static void put_worth(struct moe_use_groups *all, uint32_t g, struct moe_use_worth worth)
{
    struct moe_use_group *group = &all->group[g];
    uint8_t old = group->kind;
    group->value = worth.value;
    group->kind = worth.kind;
    if (old == worth.kind)
        return;
    all->n_other += (worth.kind == OTHER) - (uint32_t)(old == OTHER);
    if (worth.kind < MOE_USE_KINDS)
        add_late(&all->kind[worth.kind], group->next_use, g);
}

/* Of the groups whose numbers changed since the last search. */
static void set_old_values(struct moe_use_groups *all)
{
    while (all->n_old > 0) {
        uint32_t g = all->old[--all->n_old];
        struct moe_use_group *group = &all->group[g];
        group->is_old = false;
        if (group->n <= all->top_k || group->n_kept == 0)
            put_worth(all, g, all->worth[group->n_kept]);
        else
            put_worth(all, g, worth_of_one(all, group->n, group->n_kept));
    }
}

static void note_change(struct moe_use_groups *all, uint32_t g)
{
    if (!all->group[g].is_old)
        all->old[all->n_old++] = g;
    all->group[g].is_old = true;
}

/* By the product's highest digits: next uses of a layer are n_layers apart, their lowest digits may
 * all be the same. */
static uint32_t *find_bucket(const struct moe_use_groups *all, uint32_t next_use)
{
    return &all->bucket[(uint64_t)(next_use * 2654435761u) * all->n_buckets >> 32];
}

static uint32_t head_of(const struct moe_use_groups *all, uint32_t g)
{
    return all->n_slots + all->n_new + g;
}

static uint32_t group_for(struct moe_use_groups *all, uint32_t next_use)
{
    uint32_t *bucket = find_bucket(all, next_use), g = *bucket;
    while (g != NONE && all->group[g].next_use != next_use)
        g = all->group[g].chained;
    if (g != NONE)
        return g;
    g = all->unused;
    if (g == NONE)
        g = all->n_groups++;
    else
        all->unused = all->group[g].chained;
    all->group[g] = (struct moe_use_group){.next_use = next_use,
                                           .chained = *bucket,
                                           .kind = CANNOT_GO,
                                           .is_old = all->group[g].is_old};
    *bucket = g;
    all->ring[head_of(all, g)] = (struct moe_use_ring){head_of(all, g), head_of(all, g)};
    return g;
}

static void drop_group(struct moe_use_groups *all, uint32_t g)
{
    uint32_t *link = find_bucket(all, all->group[g].next_use);
    while (*link != g)
        link = &all->group[*link].chained;
    *link = all->group[g].chained;
    put_worth(all, g, nothing_can_go);
    all->group[g].chained = all->unused;
    all->unused = g;
}

/* --- candidates ------------------------------------------------------------------------------ */

/* Newcomers go first. */
static void note_idle(struct moe_use_groups *all, uint32_t i, bool kept)
{
    uint32_t at = i < all->n_slots ? all->n_new + i : i - all->n_slots;
    uint64_t bit = (uint64_t)1 << at % 64, *word = &all->idle[at / 64];
    all->n_idle += kept - (uint32_t)(*word >> at % 64 & 1);
    *word = kept ? *word | bit : *word & ~bit;
}

static void put_into_ring(struct moe_use_groups *all, uint32_t i, struct moe_use_ring ring)
{
    all->ring[i] = ring;
    all->ring[ring.before].after = all->ring[ring.after].before = i;
}

void moe_use_join(struct moe_use_groups *all, uint32_t i, uint32_t next_use)
{
    struct moe_use_candidate *c = &all->candidate[i];
    *c = (struct moe_use_candidate){.next_use = next_use, .group = IDLE, .kept = true};
    if (next_use == MOE_NEVER) {
        note_idle(all, i, true);
        return;
    }
    uint32_t g = c->group = group_for(all, next_use), head = head_of(all, g);
    put_into_ring(all, i, (struct moe_use_ring){head, all->ring[head].after});
    all->group[g].n++;
    all->group[g].n_kept++;
    note_change(all, g);
}

void moe_use_leave(struct moe_use_groups *all, uint32_t i)
{
    struct moe_use_candidate *c = &all->candidate[i];
    struct moe_use_ring ring = all->ring[i];
    uint32_t g = c->group;
    c->group = NONE;
    if (g == IDLE) {
        note_idle(all, i, false);
        return;
    }
    all->ring[ring.before].after = ring.after;
    all->ring[ring.after].before = ring.before;
    all->group[g].n_kept -= c->kept;
    if (--all->group[g].n == 0)
        drop_group(all, g);
    else
        note_change(all, g);
}

void moe_use_again(struct moe_use_groups *all, uint32_t i, uint32_t next_use)
{
    moe_use_leave(all, i);
    moe_use_join(all, i, next_use);
}

void moe_use_settle(struct moe_use_groups *all, uint32_t newcomer, uint32_t slot)
{
    struct moe_use_candidate *c = &all->candidate[newcomer];
    all->candidate[slot] = *c;
    c->group = NONE;
    if (all->candidate[slot].group == IDLE) {
        note_idle(all, newcomer, false);
        note_idle(all, slot, all->candidate[slot].kept);
        return;
    }
    put_into_ring(all, slot, all->ring[newcomer]);
}

void moe_use_set_kept(struct moe_use_groups *all, uint32_t i, bool kept)
{
    uint32_t g = all->candidate[i].group;
    all->candidate[i].kept = kept;
    if (g == IDLE) {
        note_idle(all, i, kept);
        return;
    }
    all->group[g].n_kept += kept ? 1 : UINT32_MAX;
    note_change(all, g);
}

double moe_use_value(struct moe_use_groups *all, uint32_t i)
{
    uint32_t g = all->candidate[i].group;
    set_old_values(all);
    return g == IDLE ? 0 : all->group[g].value;
}

/* --- who goes first -------------------------------------------------------------------------- */

static bool goes_before(const struct moe_use_groups *all, uint32_t now, uint32_t a, uint32_t b)
{
    uint32_t use_a = all->group[a].next_use, use_b = all->group[b].next_use;
    double held_a = use_a > now ? (double)(use_a - now) : 1;
    double held_b = use_b > now ? (double)(use_b - now) : 1;
    double left = all->group[b].value * held_a, right = all->group[a].value * held_b;
    return left < right || (left == right && use_b > use_a);
}

static uint32_t find_latest_of_few(const struct moe_use_groups *all, uint8_t k)
{
    uint64_t most = 0; /* next use + 1, and the group as its last digits: no branch */
    for (uint32_t g = 0; g < all->n_groups; g++) {
        uint64_t use = ((uint64_t)all->group[g].next_use + 1) << 32 | g;
        use &= 0 - (uint64_t)(all->group[g].kind == k);
        most = use > most ? use : most;
    }
    return most ? (uint32_t)most : NONE;
}

/* The group of the kind that is used last, or NONE. */
static uint32_t find_latest(struct moe_use_groups *all, uint8_t k)
{
    struct moe_use_kind *kind = &all->kind[k];
    if (all->n_groups <= FEW)
        return find_latest_of_few(all, k);
    while (kind->n > 0) {
        uint32_t g = kind->late[kind->n - 1].group;
        if (all->group[g].kind == k && all->group[g].next_use == kind->late[kind->n - 1].next_use)
            return g;
        kind->n--;
    }
    if (kind->from == 0)
        return NONE;
    kind->from = 0;
    for (uint32_t g = 0; g < all->n_groups; g++)
        if (all->group[g].kind == k)
            add_late(kind, all->group[g].next_use, g);
    return kind->n > 0 ? kind->late[kind->n - 1].group : NONE;
}

static uint32_t find_least(struct moe_use_groups *all, uint32_t now)
{
    uint32_t best = NONE;
    for (uint8_t k = 0; k < all->n_kinds; k++) {
        uint32_t g = find_latest(all, k);
        if (g != NONE && (best == NONE || goes_before(all, now, best, g)))
            best = g;
    }
    for (uint32_t g = 0; all->n_other > 0 && g < all->n_groups; g++)
        if (all->group[g].kind == OTHER && (best == NONE || goes_before(all, now, best, g)))
            best = g;
    return best;
}

static bool may_go(const struct moe_use_groups *all, uint32_t i, const uint8_t *pinned)
{
    return i >= all->n_slots || !(pinned[i] & ~MOE_PIN_EVENT);
}

/* The idle one that goes first, or NONE; IDLE: none of them can go. */
static uint32_t find_idle(const struct moe_use_groups *all, const uint8_t *pinned)
{
    uint32_t n_words = (uint32_t)count_words(all->n_slots + all->n_new), none = NONE;
    if (all->n_idle == 0)
        return NONE;
    for (uint32_t w = 0; w < n_words; w++)
        for (uint64_t left = all->idle[w]; left; left &= left - 1) {
            uint32_t at = w * 64 + (uint32_t)__builtin_ctzll(left);
            uint32_t i = at < all->n_new ? all->n_slots + at : at - all->n_new;
            if (may_go(all, i, pinned))
                return i;
            none = IDLE;
        }
    return none;
}

static uint32_t find_member(const struct moe_use_groups *all, uint32_t g, const uint8_t *pinned)
{
    uint32_t best = NONE, head = head_of(all, g);
    for (uint32_t i = all->ring[head].after; i != head; i = all->ring[i].after) {
        bool is_new = i >= all->n_slots, best_new = best != NONE && best >= all->n_slots;
        if (!all->candidate[i].kept || !may_go(all, i, pinned))
            continue;
        if (is_new == best_new ? i < best : is_new)
            best = i;
    }
    return best;
}

uint32_t moe_use_first(struct moe_use_groups *all, uint32_t now, const uint8_t *pinned)
{
    uint32_t idle = find_idle(all, pinned);
    set_old_values(all);
    if (idle < IDLE && all->n_other == 0)
        return idle;
    for (;;) {
        uint32_t g = find_least(all, now);
        if (g == NONE || all->group[g].value >= 0) {
            if (idle < IDLE)
                return idle;
            all->some_stuck |= idle == IDLE;
        }
        uint32_t i = g == NONE ? NONE : find_member(all, g, pinned);
        if (g == NONE || i != NONE)
            return i;
        put_worth(all, g, nothing_can_go);
        all->stuck[all->n_stuck++] = g;
    }
}

bool moe_use_unstick(struct moe_use_groups *all)
{
    bool stuck = all->some_stuck || all->n_stuck > 0;
    all->some_stuck = false;
    while (all->n_stuck > 0)
        note_change(all, all->stuck[--all->n_stuck]);
    return stuck;
}
