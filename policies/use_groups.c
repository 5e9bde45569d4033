#include "policies/use_groups.h"

enum {
    OTHER = MOE_USE_VALUES, /* kind of groups whose value is not in all->value, or not positive */
    CANNOT_GO,              /* kind of groups that are stuck, or of which none is kept */
    KINDS = MOE_USE_KINDS,
    BLOCK = MOE_USE_BLOCK,
    LANES = 8,
    FEW = 16, /* groups, at most, that are scanned without bounds */
};

#define NONE MOE_USE_NONE
#define IDLE MOE_USE_IDLE

#ifdef __x86_64__
#define AVX2     __attribute__((target("avx2")))
#define HAS_AVX2 __builtin_cpu_supports("avx2")
#else
#define AVX2
#define HAS_AVX2 false
#endif

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

static uint32_t count_row(const struct moe_policy_env *env)
{
    return (uint32_t)(count_candidates(env) + LANES - 1) / LANES * LANES;
}

static uint32_t count_blocks(uint32_t row)
{
    return (row + BLOCK - 1) / BLOCK;
}

size_t moe_use_groups_size(const struct moe_policy_env *env)
{
    size_t n = count_candidates(env), row = count_row(env);
    size_t size =
        KINDS * (row + count_blocks((uint32_t)row)) * sizeof(uint32_t) +
        n * (sizeof(struct moe_use_group) + sizeof(struct moe_use_candidate) + sizeof(uint32_t)) +
        count_words(n) * sizeof(uint64_t) + count_buckets(env) * sizeof(uint32_t) +
        (size_t)env->top_k + 1;
    return (size + 7) / 8 * 8;
}

static void place_arrays(struct moe_use_groups *all, const struct moe_policy_env *env, void *memory)
{
    size_t n = count_candidates(env);
    all->idle = memory;
    all->candidate = (struct moe_use_candidate *)(all->idle + count_words(n));
    all->group = (struct moe_use_group *)(all->candidate + n);
    all->use = (uint32_t *)(all->group + n);
    all->bound = all->use + (size_t)KINDS * all->row;
    all->bucket = all->bound + (size_t)KINDS * all->n_blocks;
    all->stuck = all->bucket + all->n_buckets;
    all->kind_by = (uint8_t *)(all->stuck + n);
}

static double saved_by_each(const struct moe_use_groups *all, uint32_t n, uint32_t n_kept)
{
    return moe_use_saved_by_each(&all->times, all->top_k, n, n_kept);
}

static uint8_t kind_of_value(const struct moe_use_groups *all, double value)
{
    uint8_t k = 0;
    while (k < all->n_kinds && all->value[k] != value)
        k++;
    return k < all->n_kinds ? k : OTHER;
}

/* --- the latest of a kind -------------------------------------------------------------------- */

/* n: a multiple of LANES. */
static inline uint32_t highest(const uint32_t *use, uint32_t n)
{
    uint32_t lane[LANES] = {0}, most = 0;
    for (uint32_t i = 0; i < n; i += LANES)
        for (uint32_t k = 0; k < LANES; k++)
            lane[k] = use[i + k] > lane[k] ? use[i + k] : lane[k];
    for (uint32_t k = 0; k < LANES; k++)
        most = lane[k] > most ? lane[k] : most;
    return most;
}

/* The block of the highest bound. */
static inline uint32_t highest_block(const uint32_t *bound, uint32_t n)
{
    uint32_t most = 0;
    for (uint32_t b = 1; b < n; b++)
        most = bound[b] > bound[most] ? b : most;
    return most;
}

/* 1 + the latest next use among the groups of a kind, of which there is at least one. Scans the
 * block of the highest bound and corrects that bound, until the bound of the scanned block is the
 * highest. */
static inline __attribute__((always_inline)) uint32_t latest(struct moe_use_groups *all,
                                                             uint8_t kind)
{
    const uint32_t *use = all->use + (size_t)kind * all->row;
    uint32_t *bound = all->bound + (size_t)kind * all->n_blocks;
    uint32_t n = (all->n_groups + LANES - 1) / LANES * LANES, n_blocks = count_blocks(n);
    if (n_blocks == 1)
        return highest(use, n);
    for (uint32_t b = highest_block(bound, n_blocks), next;; b = next) {
        uint32_t first = b * BLOCK, left = n - first;
        bound[b] = highest(use + first, left < BLOCK ? left : BLOCK);
        next = highest_block(bound, n_blocks);
        if (next == b)
            return bound[b];
    }
}

AVX2 static uint32_t latest_avx2(struct moe_use_groups *all, uint8_t kind)
{
    return latest(all, kind);
}

static uint32_t latest_plain(struct moe_use_groups *all, uint8_t kind)
{
    return latest(all, kind);
}

void moe_use_groups_init(struct moe_use_groups *all, const struct moe_policy_env *env,
                         const struct moe_use_times *times, void *memory)
{
    *all = (struct moe_use_groups){.times = *times,
                                   .n_slots = env->n_slots,
                                   .n_new = env->n_experts + 1,
                                   .top_k = env->top_k,
                                   .n_buckets = count_buckets(env),
                                   .row = count_row(env),
                                   .n_blocks = count_blocks(count_row(env)),
                                   .latest = HAS_AVX2 ? latest_avx2 : latest_plain,
                                   .unused = NONE};
    all->shift = 32 - (uint32_t)__builtin_ctz(all->n_buckets);
    place_arrays(all, env, memory);
    for (uint32_t i = 0; i < all->n_buckets; i++)
        all->bucket[i] = NONE;
    for (uint32_t i = 0; i < count_candidates(env); i++) {
        all->candidate[i].group = NONE;
        all->group[i].kind = CANNOT_GO;
    }
    all->kind_by[0] = CANNOT_GO;
    for (uint32_t n = 1; n <= all->top_k; n++) {
        double value = saved_by_each(all, n, n);
        uint8_t kind = kind_of_value(all, value);
        if (kind == OTHER && value > 0 && all->n_kinds < MOE_USE_VALUES) {
            kind = all->n_kinds++;
            all->value[kind] = value;
        }
        all->kind_by[n] = kind;
    }
}

/* --- groups ---------------------------------------------------------------------------------- */

/* Enters the group's next use into the row of a kind. */
static inline void put_use(struct moe_use_groups *all, uint32_t g, uint8_t kind)
{
    uint32_t use = all->group[g].next_use + 1;
    all->use[kind * all->row + g] = use;
    all->top[kind] = use > all->top[kind] ? use : all->top[kind];
    if (all->n_blocks > 1) {
        uint32_t *bound = &all->bound[kind * all->n_blocks + g / BLOCK];
        *bound = use > *bound ? use : *bound;
    }
}

static inline void set_kind(struct moe_use_groups *all, uint32_t g, uint8_t kind)
{
    struct moe_use_group *group = &all->group[g];
    all->n_of[group->kind]--;
    all->n_of[kind]++;
    all->use[group->kind * all->row + g] = 0;
    group->kind = kind;
    put_use(all, g, kind);
}

static uint8_t kind_of_many(const struct moe_use_groups *all, const struct moe_use_group *group)
{
    if (group->n_kept == 0)
        return CANNOT_GO;
    return kind_of_value(all, saved_by_each(all, group->n, group->n_kept));
}

/* Finds the group's kind anew, after n or n_kept changed. */
static inline void update_kind(struct moe_use_groups *all, uint32_t g)
{
    struct moe_use_group *group = &all->group[g];
    uint8_t kind = group->n <= all->top_k ? all->kind_by[group->n_kept] : kind_of_many(all, group);
    if (kind != group->kind)
        set_kind(all, g, kind);
}

/* Multiplicative hashing by the product's highest bits: next uses of a layer are multiples of
 * n_layers apart, so that their lowest bits may all be the same. */
static inline uint32_t *find_bucket(const struct moe_use_groups *all, uint32_t next_use)
{
    return &all->bucket[next_use * 2654435761u >> all->shift];
}

/* The group of that next use, or NONE. */
static inline uint32_t find_group(const struct moe_use_groups *all, uint32_t next_use)
{
    uint32_t g = *find_bucket(all, next_use);
    while (g != NONE && all->group[g].next_use != next_use)
        g = all->group[g].chained;
    return g;
}

/* Makes a group of candidate i alone; returns its number. */
static inline uint32_t new_group(struct moe_use_groups *all, uint32_t i, uint32_t next_use)
{
    uint32_t *bucket = find_bucket(all, next_use), g = all->unused;
    uint8_t kind = all->kind_by[1];
    if (g == NONE)
        g = all->n_groups++;
    else
        all->unused = all->group[g].chained;
    all->group[g] = (struct moe_use_group){next_use, *bucket, i, 1, 1, kind};
    *bucket = g;
    all->n_of[kind]++;
    put_use(all, g, kind);
    return g;
}

static inline void unlink_group(struct moe_use_groups *all, uint32_t g)
{
    uint32_t *link = find_bucket(all, all->group[g].next_use);
    while (*link != g)
        link = &all->group[*link].chained;
    *link = all->group[g].chained;
}

static inline void drop_group(struct moe_use_groups *all, uint32_t g)
{
    struct moe_use_group *group = &all->group[g];
    unlink_group(all, g);
    all->n_of[group->kind]--;
    all->use[group->kind * all->row + g] = 0;
    group->chained = all->unused;
    all->unused = g;
}

/* --- candidates ------------------------------------------------------------------------------ */

/* Sets or clears i's bit of `idle`, where newcomers come before residents. */
static void set_idle(struct moe_use_groups *all, uint32_t i, bool kept)
{
    uint32_t at = i < all->n_slots ? all->n_new + i : i - all->n_slots;
    uint64_t bit = (uint64_t)1 << at % 64, *word = &all->idle[at / 64];
    all->n_idle += kept - (uint32_t)(*word >> at % 64 & 1);
    *word = kept ? *word | bit : *word & ~bit;
}

static inline void join(struct moe_use_groups *all, uint32_t i, uint32_t next_use)
{
    struct moe_use_candidate *c = &all->candidate[i];
    if (next_use == MOE_NEVER) {
        *c = (struct moe_use_candidate){next_use, IDLE, NONE, true};
        set_idle(all, i, true);
        return;
    }
    uint32_t g = find_group(all, next_use);
    if (g == NONE) {
        g = new_group(all, i, next_use);
        *c = (struct moe_use_candidate){next_use, g, NONE, true};
        return;
    }
    struct moe_use_group *group = &all->group[g];
    *c = (struct moe_use_candidate){next_use, g, group->first, true};
    group->first = i;
    group->n++;
    group->n_kept++;
    update_kind(all, g);
}

void moe_use_join(struct moe_use_groups *all, uint32_t i, uint32_t next_use)
{
    join(all, i, next_use);
}

/* The link of the group's list that points to candidate i. */
static uint32_t *find_link(struct moe_use_groups *all, uint32_t g, uint32_t i)
{
    uint32_t *link = &all->group[g].first;
    while (*link != i)
        link = &all->candidate[*link].after;
    return link;
}

void moe_use_leave(struct moe_use_groups *all, uint32_t i)
{
    struct moe_use_candidate *c = &all->candidate[i];
    uint32_t g = c->group;
    c->group = NONE;
    if (g == IDLE) {
        set_idle(all, i, false);
        return;
    }
    if (all->group[g].n == 1) {
        drop_group(all, g);
        return;
    }
    *find_link(all, g, i) = c->after;
    all->group[g].n_kept -= c->kept;
    all->group[g].n--;
    update_kind(all, g);
}

/* Usually they are all the candidates of one group, which is then dropped as a whole. */
static inline void leave_all(struct moe_use_groups *all, const struct moe_used *used, uint32_t n)
{
    uint32_t g = all->candidate[used[0].candidate].group, n_same = 1;
    while (n_same < n && all->candidate[used[n_same].candidate].group == g)
        n_same++;
    if (n_same == n && g != IDLE && all->group[g].n == n) {
        drop_group(all, g);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        moe_use_leave(all, used[i].candidate);
}

void moe_use_one_again(struct moe_use_groups *all, uint32_t i, uint32_t next_use)
{
    struct moe_use_candidate *c = &all->candidate[i];
    uint32_t g = c->group;
    if (g == IDLE || all->group[g].n > 1 || next_use == MOE_NEVER ||
        find_group(all, next_use) != NONE) {
        moe_use_leave(all, i);
        join(all, i, next_use);
        return;
    }
    unlink_group(all, g); /* i is alone in its group, which changes its next use */
    uint32_t *bucket = find_bucket(all, next_use);
    c->next_use = all->group[g].next_use = next_use;
    all->group[g].chained = *bucket;
    *bucket = g;
    put_use(all, g, all->group[g].kind);
}

void moe_use_again(struct moe_use_groups *all, const struct moe_used *used, uint32_t n)
{
    if (n > 0)
        leave_all(all, used, n);
    for (uint32_t i = 0; i < n; i++)
        join(all, used[i].candidate, used[i].next_use);
}

void moe_use_settle(struct moe_use_groups *all, uint32_t newcomer, uint32_t slot)
{
    struct moe_use_candidate *c = &all->candidate[newcomer];
    uint32_t g = c->group;
    all->candidate[slot] = *c;
    c->group = NONE;
    if (g == IDLE) {
        set_idle(all, newcomer, false);
        set_idle(all, slot, c->kept);
        return;
    }
    *find_link(all, g, newcomer) = slot;
}

void moe_use_set_kept(struct moe_use_groups *all, uint32_t i, bool kept)
{
    uint32_t g = all->candidate[i].group;
    all->candidate[i].kept = kept;
    if (g == IDLE) {
        set_idle(all, i, kept);
        return;
    }
    all->group[g].n_kept += kept ? 1 : UINT32_MAX;
    update_kind(all, g);
}

static inline double value_of(const struct moe_use_groups *all, uint32_t g)
{
    const struct moe_use_group *group = &all->group[g];
    return group->kind < MOE_USE_VALUES ? all->value[group->kind]
                                        : saved_by_each(all, group->n, group->n_kept);
}

double moe_use_value(const struct moe_use_groups *all, uint32_t i)
{
    uint32_t g = all->candidate[i].group;
    return g == IDLE ? 0 : value_of(all, g);
}

/* --- who goes first -------------------------------------------------------------------------- */

/* Does group b go before group a? Compares value / time held crosswise, without division. */
static bool b_goes_first(const struct moe_use_groups *all, uint32_t now, uint32_t a, uint32_t b)
{
    uint32_t use_a = all->group[a].next_use, use_b = all->group[b].next_use;
    double held_a = use_a > now ? (double)(use_a - now) : 1;
    double held_b = use_b > now ? (double)(use_b - now) : 1;
    double left = value_of(all, b) * held_a, right = value_of(all, a) * held_b;
    return left < right || (left == right && use_b > use_a);
}

static uint32_t find_latest_of_few(const struct moe_use_groups *all, uint8_t k)
{
    const uint32_t *row = all->use + (size_t)k * all->row;
    uint64_t most = 0; /* next use, then group, in one number: no branch */
    for (uint32_t g = 0; g < all->n_groups; g++) {
        uint64_t use = (uint64_t)row[g] << 32 | g;
        most = use > most ? use : most;
    }
    return (uint32_t)most;
}

/* The group of the kind, of which there is at least one, that is used last. top is often exact: it
 * is tried first. */
static inline uint32_t find_latest(struct moe_use_groups *all, uint8_t k)
{
    if (all->n_groups <= FEW)
        return find_latest_of_few(all, k);
    uint32_t g = find_group(all, all->top[k] - 1);
    if (g != NONE && all->group[g].kind == k)
        return g;
    all->top[k] = all->latest(all, k);
    return find_group(all, all->top[k] - 1);
}

/* The group that goes first, or NONE: there is none that can go. */
static uint32_t find_least(struct moe_use_groups *all, uint32_t now)
{
    uint32_t best = NONE;
    for (uint8_t k = 0; k < all->n_kinds; k++) {
        if (all->n_of[k] == 0)
            continue;
        uint32_t g = find_latest(all, k);
        if (best == NONE || b_goes_first(all, now, best, g))
            best = g;
    }
    for (uint32_t g = 0; all->n_of[OTHER] > 0 && g < all->n_groups; g++)
        if (all->use[OTHER * all->row + g] > 0 && (best == NONE || b_goes_first(all, now, best, g)))
            best = g;
    return best;
}

static bool may_go(const struct moe_use_groups *all, uint32_t i, const uint8_t *pinned)
{
    return i >= all->n_slots || !(pinned[i] & ~MOE_PIN_EVENT);
}

/* The kept idle candidate that goes first; IDLE: there are some, but none can go; NONE: there are
 * none. */
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

/* The kept candidate of the group that goes first, or NONE: none can go. */
static uint32_t find_member(const struct moe_use_groups *all, uint32_t g, const uint8_t *pinned)
{
    uint32_t best = NONE;
    for (uint32_t i = all->group[g].first; i != NONE; i = all->candidate[i].after) {
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
    if (idle < IDLE && all->n_of[OTHER] == 0)
        return idle;
    for (;;) {
        uint32_t g = find_least(all, now);
        if (g == NONE || value_of(all, g) >= 0) {
            if (idle < IDLE)
                return idle;
            all->some_stuck |= idle == IDLE;
        }
        uint32_t i = g == NONE ? NONE : find_member(all, g, pinned);
        if (g == NONE || i != NONE)
            return i;
        set_kind(all, g, CANNOT_GO);
        all->stuck[all->n_stuck++] = g;
    }
}

bool moe_use_unstick_all(struct moe_use_groups *all)
{
    all->some_stuck = false;
    while (all->n_stuck > 0)
        update_kind(all, all->stuck[--all->n_stuck]);
    return true;
}
