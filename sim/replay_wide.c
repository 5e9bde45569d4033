/* The specialised replay of pools of any size: rows and counters. The orders, and so the evictions,
 * are in replay_places.h. */
#include "sim/replay_kind.h"
#include "sim/replay_places.h"

#include <stdlib.h>
#include <string.h>

enum { WORD = MOE_PLACES_WORD };

/* Counters of one layer and phase. Evicted is what was filled and is no longer in the pool, evicted
 * after use what had a first hit and is no longer there. So evictions are not counted as they
 * happen, and no victim is looked at. */
struct tally {
    struct moe_counts counts; /* those of an event, and dropped fills */
    uint64_t came, came_used; /* experts in the pool when the phase began, minus those when it
                                 ended; came_used: only those asked for since their fill */
    uint64_t first_hits;      /* hits that are the first since the fill */
};

/* A layer with a pool. */
struct site {
    struct moe_places *pool;
    uint32_t *at; /* [E] the layer's part of pool->at */
    uint32_t key; /* of the layer's expert 0 in the pool */
    uint32_t layer;
    struct tally tally[2];
};

struct wide;
typedef void token_fn(struct wide *w, const moe_expert *rows);

struct wide {
    struct moe_fast_task *task;
    token_fn *token; /* replays one token through all layers */
    uint32_t phase;  /* of the step under way */
    uint32_t n_sites;
    struct site *site;
    struct moe_places *pool; /* [n_pools] */
    uint32_t *was;           /* [E] scratch of events */
};

/* n distinct experts of a layer, as one event or one access after another. At least n places must
 * be left to give out. Returns the number of hits. */
MOE_PLACES_INLINE uint32_t look_up(struct site *site, struct tally *tally, const moe_expert *expert,
                                   uint32_t n, uint32_t *was, enum moe_fast_order order, bool event)
{
    struct moe_places *pool = site->pool;
    struct moe_hand hand = {0};
    uint32_t n_hits = 0;
    uint64_t first = 0;
    if (order == MOE_FAST_CLOCK)
        hand = moe_hand_of(pool);
    for (uint32_t k = 0, step = event ? n : 1; k < n; k += step) {
        if (order == MOE_FAST_RECENCY)
            n_hits += moe_recency_event(pool, site->at, expert + k, step, &tally->first_hits);
        else if (order == MOE_FAST_ARRIVAL)
            n_hits += moe_arrival_event(pool, site->at, expert + k, step, was, &first);
        else if (event)
            n_hits += moe_clock_event(pool, &hand, site->at, site->key, expert, n, was, &first);
        else
            n_hits += moe_clock_access(pool, &hand, site->at, site->key, expert + k, &first);
    }
    if (order == MOE_FAST_CLOCK)
        moe_hand_keep(pool, &hand);
    tally->first_hits += first;
    return n_hits;
}

/* Makes sure that n places are left to give out. */
MOE_PLACES_INLINE void ensure_places(struct moe_places *pool, uint32_t n, enum moe_fast_order order)
{
    if (order != MOE_FAST_CLOCK && __builtin_expect(pool->now + n > pool->end, 0))
        moe_places_renumber(pool, order == MOE_FAST_RECENCY);
}

static bool is_present(const struct site *site, uint32_t expert, enum moe_fast_order order)
{
    const struct moe_places *pool = site->pool;
    uint32_t u = site->at[expert], i = u / 2;
    if (order == MOE_FAST_RECENCY)
        return u >= pool->oldest;
    if (order == MOE_FAST_ARRIVAL)
        return pool->bit[i / WORD] >> i % WORD & 1;
    return pool->key_at[i] == site->key + expert;
}

/* Removes the misses that find no room beside the hits from an event that is larger than the pool.
 * Returns how many experts remain. */
static uint32_t drop_misses(const struct site *site, enum moe_fast_order order, moe_expert *expert,
                            uint32_t n)
{
    uint32_t room = site->pool->n_slots, n_kept = 0;
    for (uint32_t i = 0; i < n; i++)
        room -= is_present(site, expert[i], order);
    for (uint32_t i = 0; i < n; i++) {
        bool hit = is_present(site, expert[i], order);
        if (!hit && room == 0)
            continue;
        room -= !hit;
        expert[n_kept++] = expert[i];
    }
    return n_kept;
}

/* Any rows of one layer; stride: entries from one token's row to the next one's. */
static void slow_path(struct wide *w, struct site *site, const moe_expert *row, uint64_t n_rows,
                      size_t stride)
{
    struct moe_fast_task *task = w->task;
    struct tally *tally = &site->tally[w->phase];
    uint32_t n = 0, n_hits = 0;
    if (task->contract == MOE_CONTRACT_EVENT) {
        moe_expert *expert = task->event.expert;
        moe_fast_collect(task, row, n_rows, stride);
        n = task->event.n;
        uint32_t n_kept = n > site->pool->n_slots ? drop_misses(site, task->order, expert, n) : n;
        ensure_places(site->pool, n_kept, task->order);
        n_hits = look_up(site, tally, expert, n_kept, w->was, task->order, true);
        tally->counts.dropped_fills += n - n_kept;
    }
    for (uint64_t t = 0; t < n_rows && task->contract == MOE_CONTRACT_ACCESS; t++, row += stride)
        for (uint32_t k = 0; k < task->top_k && row[k] != MOE_NO_EXPERT; k++, n++) {
            ensure_places(site->pool, 1, task->order);
            n_hits += look_up(site, tally, row + k, 1, w->was, task->order, false);
        }
    moe_fast_count(&tally->counts, n_hits, n);
}

/* Replays one token through all layers. Inlined into the callers below with constant arguments. */
MOE_PLACES_INLINE void token(struct wide *w, const moe_expert *rows, uint32_t top_k,
                             enum moe_fast_order order, bool event)
{
    uint32_t was[MOE_PLACES_BRANCHLESS];
    struct site *stop = w->site + w->n_sites;
    for (struct site *site = w->site; site < stop; site++) {
        const moe_expert *row = rows + (size_t)site->layer * top_k;
        struct tally *tally = &site->tally[w->phase];
        if (row[top_k - 1] == MOE_NO_EXPERT || (event && site->pool->n_slots < top_k)) {
            slow_path(w, site, row, 1, 0);
            continue;
        }
        ensure_places(site->pool, top_k, order);
        moe_fast_count(&tally->counts, look_up(site, tally, row, top_k, was, order, event), top_k);
    }
}

MOE_PLACES_INLINE void token_of(struct wide *w, const moe_expert *rows, enum moe_fast_order order,
                                bool event)
{
    switch (w->task->top_k) {
    case 2:
        token(w, rows, 2, order, event);
        break;
    case 4:
        token(w, rows, 4, order, event);
        break;
    case 8:
        token(w, rows, 8, order, event);
        break;
    default:
        token(w, rows, w->task->top_k, order, event);
    }
}

MOE_PLACES_INLINE void token_in(struct wide *w, const moe_expert *rows, enum moe_fast_order order)
{
    if (w->task->contract == MOE_CONTRACT_EVENT)
        token_of(w, rows, order, true);
    else
        token_of(w, rows, order, false);
}

MOE_PLACES_INLINE void token_any(struct wide *w, const moe_expert *rows)
{
    if (w->task->order == MOE_FAST_RECENCY)
        token_in(w, rows, MOE_FAST_RECENCY);
    else if (w->task->order == MOE_FAST_ARRIVAL)
        token_in(w, rows, MOE_FAST_ARRIVAL);
    else
        token_in(w, rows, MOE_FAST_CLOCK);
}

static void token_plain(struct wide *w, const moe_expert *rows)
{
    token_any(w, rows);
}

#ifdef __x86_64__
/* With BMI and POPCNT, a shift by a variable count, the search for a bit and counting the bits are
 * one instruction each. */
__attribute__((target("bmi,bmi2,popcnt"))) static void token_bmi(struct wide *w,
                                                                 const moe_expert *rows)
{
    token_any(w, rows);
}
#endif

static token_fn *best_token(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("popcnt"))
        return token_bmi;
#endif
    return token_plain;
}

struct present {
    uint64_t n, used; /* used: asked for since their fill */
};

/* The layer's experts in the pool. */

static struct present count_present(const struct wide *w, const struct site *site)
{
    struct present present = {0, 0};
    for (uint32_t e = 0; e < w->task->geometry->n_experts; e++) {
        bool is = is_present(site, e, w->task->order);
        present.n += is;
        present.used += is && !(site->at[e] & 1);
    }
    return present;
}

/* At the end of a phase: what is in the pool is taken from its tally and added to the next phase's;
 * enters NULL: to none, as the pool is about to be emptied. */
static void leave_phase(struct wide *w, struct site *site, struct tally *enters)
{
    struct present present = count_present(w, site);
    struct tally *leaves = &site->tally[w->phase];
    leaves->came -= present.n;
    leaves->came_used -= present.used;
    if (enters) {
        enters->came += present.n;
        enters->came_used += present.used;
    }
}

static void step(void *state, const struct moe_tokens *tokens, uint64_t begin, uint64_t end)
{
    struct wide *w = state;
    const struct moe_fast_task *task = w->task;
    size_t stride = (size_t)task->geometry->n_layers * task->top_k;
    const moe_expert *rows = tokens->expert + begin * stride;
    uint32_t phase = tokens->phase[begin];
    for (uint32_t i = 0; i < w->n_sites && phase != w->phase; i++)
        leave_phase(w, &w->site[i], &w->site[i].tally[phase]);
    w->phase = phase;
    if (end - begin > 1 || task->top_k > MOE_PLACES_BRANCHLESS)
        for (uint32_t i = 0; i < w->n_sites; i++)
            slow_path(w, &w->site[i], rows + (size_t)w->site[i].layer * task->top_k, end - begin,
                      stride);
    else
        w->token(w, rows);
}

static void clear_pool(const struct wide *w, struct moe_places *pool)
{
    if (w->task->order == MOE_FAST_CLOCK)
        moe_places_clear_clock(pool);
    else
        moe_places_clear_order(pool);
}

static void clear(void *state)
{
    struct wide *w = state;
    for (uint32_t i = 0; i < w->n_sites; i++)
        leave_phase(w, &w->site[i], NULL);
    for (uint32_t p = 0; p < w->task->geometry->n_pools; p++)
        clear_pool(w, &w->pool[p]);
}

/* The size of a pool's places. Those beyond the slots delay the next renumbering, which visits all
 * keys and places. */
static uint32_t places_of(const struct wide *w, const struct moe_places *pool)
{
    uint32_t n_experts = w->task->geometry->n_experts;
    if (w->task->order == MOE_FAST_CLOCK)
        return WORD + pool->n_slots;
    uint32_t most = pool->n_keys > pool->n_slots ? pool->n_keys : pool->n_slots;
    return 1 + pool->n_slots + n_experts + 8 * most + 1024;
}

static bool make_pool(struct wide *w, struct moe_places *pool)
{
    pool->end = (places_of(w, pool) + WORD - 1) / WORD * WORD;
    pool->at = calloc(pool->n_keys + 1u, sizeof *pool->at);
    pool->bit = calloc(pool->end / WORD, sizeof *pool->bit);
    if (w->task->order == MOE_FAST_CLOCK)
        pool->key_at = calloc(pool->end, sizeof *pool->key_at);
    else
        pool->before = calloc(pool->end / WORD, sizeof *pool->before);
    if (!pool->at || !pool->bit || (!pool->key_at && !pool->before))
        return false;
    clear_pool(w, pool);
    return true;
}

static bool make_pools(struct wide *w)
{
    const struct moe_geometry *g = w->task->geometry;
    for (uint32_t layer = 0; layer < g->n_layers; layer++) {
        if (g->pool_of_layer[layer] < 0)
            continue;
        struct moe_places *pool = &w->pool[g->pool_of_layer[layer]];
        w->site[w->n_sites++] = (struct site){.pool = pool, .key = pool->n_keys, .layer = layer};
        pool->n_keys += g->n_experts;
    }
    for (uint32_t p = 0; p < g->n_pools; p++) {
        w->pool[p].n_slots = g->pool[p].n_slots;
        if (!make_pool(w, &w->pool[p]))
            return false;
    }
    for (uint32_t i = 0; i < w->n_sites; i++)
        w->site[i].at = w->site[i].pool->at + w->site[i].key;
    return true;
}

static void destroy(void *state)
{
    struct wide *w = state;
    for (uint32_t p = 0; w->pool && p < w->task->geometry->n_pools; p++) {
        free(w->pool[p].at);
        free(w->pool[p].bit);
        free(w->pool[p].key_at);
        free(w->pool[p].before);
    }
    free(w->pool);
    free(w->site);
    free(w->was);
    free(w);
}

static void *create(struct moe_fast_task *task)
{
    const struct moe_geometry *g = task->geometry;
    struct wide *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->task = task;
    w->token = best_token();
    w->pool = calloc(g->n_pools + 1u, sizeof *w->pool);
    w->site = calloc(g->n_layers + 1u, sizeof *w->site);
    w->was = calloc(g->n_experts + 1u, sizeof *w->was);
    if (w->pool && w->site && w->was && make_pools(w))
        return w;
    destroy(w);
    return NULL;
}

static struct moe_counts counts(const void *state, uint32_t layer, enum moe_phase phase)
{
    const struct wide *w = state;
    const struct moe_geometry *g = w->task->geometry;
    uint32_t i = 0;
    while (i < w->n_sites && w->site[i].layer != layer)
        i++;
    if (i == w->n_sites)
        return (struct moe_counts){0};
    const struct tally *tally = &w->site[i].tally[phase];
    struct present present = {0, 0};
    if (phase == w->phase)
        present = count_present(w, &w->site[i]);
    struct moe_counts sum = tally->counts;
    sum.fills = sum.misses - sum.dropped_fills;
    sum.evictions = sum.fills + tally->came - present.n;
    sum.useless_fills = sum.evictions - (tally->first_hits + tally->came_used - present.used);
    if (g->expert_bytes)
        sum.fill_bytes = sum.fills * g->expert_bytes[layer];
    return sum;
}

const struct moe_fast_kind moe_fast_wide = {
    .create = create, .destroy = destroy, .clear = clear, .step = step, .counts = counts};
