/* The specialised replay of pools of at most 8 slots, one a layer: the content of a pool is one
 * 64-bit word, one byte an expert. For LRU the lowest byte is the most recent expert, so that
 * finding an expert, moving it to the front and dropping the last one are a few operations without
 * a branch. FIFO and clock: replay_order.h. */
#include "sim/replay_kind.h"
#include "sim/replay_order.h"

#include <stdlib.h>

enum { MAX_WAYS = 8, MAX_EXPERTS = 255, MAX_TOP_K = 8, EMPTY = 0xff };

/* Short names of enum moe_fast_order. */
enum order { RECENCY = MOE_FAST_RECENCY, ARRIVAL = MOE_FAST_ARRIVAL, CLOCK = MOE_FAST_CLOCK };

#define ONES  0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* Counters of one layer and phase. The fast path (one token with all K experts, a full pool) only
 * counts rows by their number of hits; all other counters follow from that, because the pool was
 * full. Useless fills follow from `first_hits`, the hits that were the first since a fill: an
 * evicted expert had been of use if it had a first hit, so as many were as had a first hit and are
 * no longer in the pool. */
struct tally {
    uint64_t rows_by_hits[MAX_TOP_K + 1]; /* fast path */
    uint64_t first_hits; /* both paths; plus the used experts in the pool when the phase began, less
                            those when it ended */
    struct moe_counts counts; /* slow path */
};

/* A layer with a pool. Byte i of `stack` is the i-th most recently used expert (lru), the i-th most
 * recent arrival (fifo), or the expert in slot i (clock). The pool is the lowest `ways` bytes; the
 * bytes above are stale and masked out by `highs`. */
struct lane {
    uint64_t stack;
    uint64_t highs; /* high bit of each byte that is a way */
    uint32_t layer, ways;
    uint64_t slots, marks, from; /* sets of the clock (replay_order.h); slots: all */
    bool full;
    struct tally tally[2];
    uint8_t unused[256]; /* [expert] 1: filled, and not asked for since */
};

struct narrow;
typedef void token_fn(struct narrow *f, const moe_expert *rows);

struct narrow {
    struct moe_fast_task *task;
    token_fn *token; /* replays one token through all layers */
    uint32_t phase;  /* of the step under way */
    uint32_t n_lanes;
    struct lane lane[]; /* [n_lanes] */
};

/* The high bit of the pool's byte that holds the expert, 0 if none does. Further, false bits may be
 * set above it: only the lowest counts. */
static inline uint64_t find(uint64_t stack, uint64_t highs, moe_expert expert)
{
    uint64_t x = stack ^ expert * ONES;
    return (x - ONES) & ~x & highs;
}

/* Mask of the bytes from the front up to the one found; of all bytes when none was found. */
static inline uint64_t span(uint64_t found)
{
    return found ^ (found - 1);
}

/* Shifts the bytes of a span up by one byte and puts the expert in front. */
static inline uint64_t to_front(uint64_t stack, uint64_t bytes, moe_expert expert)
{
    return stack ^ ((stack ^ (stack << 8 | expert)) & bytes);
}

/* Turns high bits of bytes into a set with one bit a byte; the product gathers them in its highest
 * byte. */
static inline uint64_t slots_of(uint64_t highs)
{
    return (highs >> 7) * 0x0102040810204080u >> 56;
}

static inline struct moe_clock_lane clock_of(const struct lane *lane)
{
    return (struct moe_clock_lane){lane->stack, lane->marks, lane->from};
}

static inline void keep_clock(struct lane *lane, const struct moe_clock_lane *clock)
{
    lane->stack = clock->content;
    lane->marks = clock->marks;
    lane->from = clock->from;
}

/* The lowest bit alone; 0 of 0. */
static inline uint64_t lowest(uint64_t bits)
{
    return bits & (0 - bits);
}

/* Access contract: one expert after the other. */
static inline __attribute__((always_inline)) void access_row(struct lane *lane, struct tally *tally,
                                                             const moe_expert *row, uint32_t top_k,
                                                             enum order order)
{
    uint64_t stack = lane->stack, highs = lane->highs;
    struct moe_clock_lane clock = clock_of(lane);
    uint32_t n_hits = 0, first_hits = 0;
    for (uint32_t k = 0; k < top_k; k++) {
        uint64_t found = find(order == CLOCK ? clock.content : stack, highs, row[k]);
        uint32_t hit = found != 0;
        first_hits += lane->unused[row[k]] & hit;
        lane->unused[row[k]] = (uint8_t)(hit ^ 1);
        if (order == RECENCY)
            stack = to_front(stack, span(found), row[k]);
        else if (order == ARRIVAL)
            stack = to_front(stack, (uint64_t)hit - 1, row[k]);
        else {
            uint64_t queue = moe_clock_queue(&clock, lane->slots);
            uint64_t rest = moe_clock_put(&clock, queue, clock.content ^ row[k] * ONES, hit ^ 1);
            moe_clock_pass(&clock, lane->slots, queue ^ rest);
            clock.marks |= slots_of(lowest(found));
        }
        n_hits += hit;
    }
    lane->stack = stack;
    if (order == CLOCK)
        keep_clock(lane, &clock);
    tally->rows_by_hits[n_hits]++;
    tally->first_hits += first_hits;
}

/* Event contract, for the orders that hits do not change: the event's hits are pinned, and each
 * miss replaces an expert that is not. */
static inline __attribute__((always_inline)) void fixed_row(struct lane *lane, struct tally *tally,
                                                            const moe_expert *row, uint32_t top_k,
                                                            enum order order)
{
    uint64_t stack = lane->stack, pinned = 0;
    uint32_t hit[MAX_TOP_K], n_hits = 0, first_hits = 0;
    for (uint32_t k = 0; k < top_k; k++) {
        uint64_t found = find(stack, lane->highs, row[k]);
        hit[k] = found != 0;
        pinned |= lowest(found);
        n_hits += hit[k];
        first_hits += lane->unused[row[k]] & hit[k];
        lane->unused[row[k]] = (uint8_t)(hit[k] ^ 1);
    }
    if (order == ARRIVAL) {
        struct moe_arrivals arrivals = {stack, pinned};
        for (uint32_t k = 0; k < top_k; k++)
            moe_arrivals_insert(&arrivals, lane->highs, row[k], hit[k] ^ 1);
        lane->stack = arrivals.stack;
    } else {
        struct moe_clock_lane clock = clock_of(lane);
        uint64_t hits = slots_of(pinned), free = lane->slots ^ hits, queue, rest;
        clock.marks |= hits;
        queue = rest = moe_clock_queue(&clock, free);
        for (uint32_t k = 0; k < top_k; k++)
            rest = moe_clock_put(&clock, rest, stack ^ row[k] * ONES, (hit[k] ^ 1) & (rest != 0));
        moe_clock_pass(&clock, free, queue ^ rest);
        keep_clock(lane, &clock);
    }
    tally->rows_by_hits[n_hits]++;
    tally->first_hits += first_hits;
}

/* Event contract, LRU: all experts are looked for in the stack as it is before the event, so that
 * the searches do not depend on each other. Moving expert k to the front pushes the later ones that
 * lay in front of it up by one byte. too_small: the pool has fewer than K slots; misses that find
 * no room beside the hits are not kept. */
static inline __attribute__((always_inline)) void event_row(struct lane *lane, struct tally *tally,
                                                            const moe_expert *row, uint32_t top_k,
                                                            bool too_small)
{
    uint64_t bytes[MAX_TOP_K], keep[MAX_TOP_K], stack = lane->stack;
    uint32_t hit[MAX_TOP_K], n_hits = 0, first_hits = 0;
    for (uint32_t k = 0; k < top_k; k++) {
        uint64_t found = find(stack, lane->highs, row[k]);
        bytes[k] = span(found);
        hit[k] = found != 0;
        n_hits += hit[k];
    }
    for (uint32_t k = 0, room = lane->ways - n_hits; k < top_k; k++) {
        keep[k] = !too_small || hit[k] || room > 0 ? UINT64_MAX : 0;
        room -= keep[k] && !hit[k];
    }
    for (uint32_t k = 0; k < top_k; k++) {
        first_hits += lane->unused[row[k]] & hit[k];
        lane->unused[row[k]] = (uint8_t)(hit[k] ^ 1);
        bytes[k] &= keep[k];
        stack = to_front(stack, bytes[k], row[k]);
        for (uint32_t j = k + 1; j < top_k; j++)
            bytes[j] |= (bytes[j] << 8 | 0xff) & bytes[k];
    }
    lane->stack = stack;
    tally->rows_by_hits[n_hits]++;
    tally->first_hits += first_hits;
}

/* Experts in the pool that were asked for since their fill. */
static uint32_t count_used(const struct lane *lane)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < lane->ways; i++) {
        uint32_t expert = lane->stack >> 8 * i & 0xff;
        n += expert != EMPTY && !lane->unused[expert];
    }
    return n;
}

static bool is_full(const struct lane *lane)
{
    return (lane->stack >> 8 * (lane->ways - 1) & 0xff) != EMPTY;
}

/* LRU: looks one expert up, inserts it if it is missing, and updates all counters. Returns whether
 * it was found. */
static bool touch_or_insert(struct lane *lane, struct tally *tally, moe_expert expert)
{
    uint64_t found = find(lane->stack, lane->highs, expert);
    tally->counts.fills += !found;
    tally->counts.evictions += !found && lane->full;
    tally->first_hits += found && lane->unused[expert];
    lane->unused[expert] = !found;
    lane->stack = to_front(lane->stack, span(found), expert);
    lane->full = is_full(lane);
    return found;
}

/* LRU: the n distinct experts of an event; the pool may be smaller than n or have empty slots. The
 * hits go to the front first, so that inserting the misses evicts none of them. */
static void slow_recency_event(struct lane *lane, struct tally *tally, const moe_expert *expert,
                               uint32_t n)
{
    uint32_t n_hits = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t found = find(lane->stack, lane->highs, expert[i]);
        if (found) {
            lane->stack = to_front(lane->stack, span(found), expert[i]);
            n_hits++;
        }
    }
    uint32_t room = lane->ways - n_hits;
    for (uint32_t i = 0; i < n; i++) {
        if (room == 0 && !find(lane->stack, lane->highs, expert[i]))
            tally->counts.dropped_fills++;
        else
            room -= !touch_or_insert(lane, tally, expert[i]);
    }
    moe_fast_count(&tally->counts, n_hits, n);
}

/* FIFO and clock: inserts a missed expert. False: every slot is pinned. */
static bool insert_fixed(struct lane *lane, enum order order, struct moe_arrivals *arrivals,
                         moe_expert expert)
{
    struct moe_clock_lane clock = clock_of(lane);
    uint64_t empty = lowest(find(lane->stack, lane->highs, EMPTY));
    if (order == ARRIVAL) {
        if (!moe_arrivals_insert(arrivals, lane->highs, expert, 1))
            return false;
        lane->stack = arrivals->stack;
        return true;
    }
    if (empty) { /* the lowest free slot, and the hand stays */
        lane->stack ^= (lane->stack ^ expert * ONES) & ((empty << 1) - (empty >> 7));
        arrivals->pinned |= empty;
        return true;
    }
    uint64_t free = lane->slots & ~slots_of(arrivals->pinned);
    uint64_t queue = moe_clock_queue(&clock, free), rest;
    if (queue == 0)
        return false;
    rest = moe_clock_put(&clock, queue, lane->stack ^ expert * ONES, 1);
    moe_clock_pass(&clock, free, queue ^ rest);
    arrivals->pinned |= lowest(find(clock.content, lane->highs, expert));
    keep_clock(lane, &clock);
    return true;
}

/* FIFO and clock: the n distinct experts of an event, or a single access (n is 1). Counts fills,
 * but not the event. Returns the number of hits. */
static uint32_t slow_fixed_event(struct lane *lane, struct tally *tally, enum order order,
                                 const moe_expert *expert, uint32_t n)
{
    struct moe_arrivals arrivals = {lane->stack, 0};
    uint32_t n_hits = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t found = find(lane->stack, lane->highs, expert[i]);
        if (!found)
            continue;
        arrivals.pinned |= lowest(found);
        lane->marks |= slots_of(lowest(found));
        tally->first_hits += lane->unused[expert[i]];
        lane->unused[expert[i]] = 0;
        n_hits++;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (find(lane->stack, lane->highs, expert[i]))
            continue;
        if (!insert_fixed(lane, order, &arrivals, expert[i])) {
            tally->counts.dropped_fills++;
            continue;
        }
        tally->counts.fills++;
        tally->counts.evictions += lane->full;
        lane->unused[expert[i]] = 1;
        lane->full = is_full(lane);
    }
    return n_hits;
}

/* Any rows of one layer; stride: entries from one token's row to the next one's. */
static void slow_path(struct narrow *f, struct lane *lane, const moe_expert *row, uint64_t n_rows,
                      size_t stride)
{
    struct moe_fast_task *task = f->task;
    const struct moe_fast_event *event = &task->event;
    struct tally *tally = &lane->tally[f->phase];
    enum order order = (enum order)task->order;
    uint32_t n = 0, n_hits = 0;
    if (task->contract == MOE_CONTRACT_EVENT) {
        moe_fast_collect(task, row, n_rows, stride);
        if (order == RECENCY)
            slow_recency_event(lane, tally, event->expert, event->n);
        else
            moe_fast_count(&tally->counts,
                           slow_fixed_event(lane, tally, order, event->expert, event->n), event->n);
        return;
    }
    for (uint64_t t = 0; t < n_rows; t++, row += stride)
        for (uint32_t k = 0; k < task->top_k && row[k] != MOE_NO_EXPERT; k++, n++)
            n_hits += order == RECENCY ? touch_or_insert(lane, tally, row[k])
                                       : slow_fixed_event(lane, tally, order, row + k, 1);
    moe_fast_count(&tally->counts, n_hits, n);
}

/* Replays one token through all layers. Inlined into the callers below with constant arguments,
 * top_k only where that pays. */
static inline __attribute__((always_inline)) void
token(struct narrow *f, const moe_expert *rows, uint32_t top_k, bool event, enum order order)
{
    uint32_t phase = f->phase;
    struct lane *stop = f->lane + f->n_lanes;
    for (struct lane *lane = f->lane; lane < stop; lane++) {
        const moe_expert *row = rows + (size_t)lane->layer * top_k;
        if (!lane->full || row[top_k - 1] == MOE_NO_EXPERT)
            slow_path(f, lane, row, 1, 0);
        else if (!event)
            access_row(lane, &lane->tally[phase], row, top_k, order);
        else if (order != RECENCY)
            fixed_row(lane, &lane->tally[phase], row, top_k, order);
        else if (lane->ways >= top_k)
            event_row(lane, &lane->tally[phase], row, top_k, false);
        else
            event_row(lane, &lane->tally[phase], row, top_k, true);
    }
}

static inline __attribute__((always_inline)) void token_in(struct narrow *f, const moe_expert *rows,
                                                           bool event, enum order order)
{
    if (f->task->top_k != 2)
        token(f, rows, f->task->top_k, event, order);
    else if (event)
        token(f, rows, 2, true, order);
    else
        token(f, rows, 2, false, order);
}

static inline __attribute__((always_inline)) void token_any(struct narrow *f,
                                                            const moe_expert *rows)
{
    bool event = f->task->contract == MOE_CONTRACT_EVENT;
    if (f->task->order == MOE_FAST_RECENCY)
        token_in(f, rows, event, RECENCY);
    else if (f->task->order == MOE_FAST_ARRIVAL)
        token_in(f, rows, event, ARRIVAL);
    else
        token_in(f, rows, event, CLOCK);
}

static void token_plain(struct narrow *f, const moe_expert *rows)
{
    token_any(f, rows);
}

#ifdef __x86_64__
/* With BMI, a shift by a variable count and the search for a bit are one instruction each. */
__attribute__((target("bmi,bmi2"))) static void token_bmi(struct narrow *f, const moe_expert *rows)
{
    token_any(f, rows);
}
#endif

static token_fn *best_token(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
        return token_bmi;
#endif
    return token_plain;
}

/* Experts used in one phase may be evicted in the other: those in the pool move with it, so that
 * each phase's useless fills come out right (struct tally). */
static void change_phase(struct narrow *f, uint32_t phase)
{
    for (uint32_t i = 0; i < f->n_lanes; i++) {
        uint32_t n = count_used(&f->lane[i]);
        f->lane[i].tally[f->phase].first_hits -= n;
        f->lane[i].tally[phase].first_hits += n;
    }
    f->phase = phase;
}

static void step(void *state, const struct moe_tokens *tokens, uint64_t begin, uint64_t end)
{
    struct narrow *f = state;
    const struct moe_fast_task *task = f->task;
    size_t stride = (size_t)task->geometry->n_layers * task->top_k;
    const moe_expert *rows = tokens->expert + begin * stride;
    if (tokens->phase[begin] != f->phase)
        change_phase(f, tokens->phase[begin]);
    if (end - begin > 1 || task->top_k > MAX_TOP_K)
        for (uint32_t i = 0; i < f->n_lanes; i++)
            slow_path(f, &f->lane[i], rows + (size_t)f->lane[i].layer * task->top_k, end - begin,
                      stride);
    else
        f->token(f, rows);
}

bool moe_fast_is_narrow(const struct moe_fast_task *task)
{
    const struct moe_geometry *geometry = task->geometry;
    uint32_t n_covered = 0;
    for (uint32_t i = 0; i < geometry->n_layers; i++)
        n_covered += geometry->pool_of_layer[i] >= 0;
    if (n_covered != geometry->n_pools) /* several layers share a pool */
        return false;
    for (uint32_t p = 0; p < geometry->n_pools; p++)
        if (geometry->pool[p].n_slots > MAX_WAYS)
            return false;
    return geometry->n_experts <= MAX_EXPERTS;
}

static void set_lane(struct lane *lane, uint32_t layer, uint32_t ways)
{
    lane->layer = layer;
    lane->ways = ways;
    lane->highs = HIGHS >> (64 - 8 * ways);
    lane->slots = lane->from = slots_of(lane->highs);
    lane->stack = UINT64_MAX; /* EMPTY in every byte */
}

static void *create(struct moe_fast_task *task)
{
    const struct moe_geometry *geometry = task->geometry;
    struct narrow *f = calloc(1, sizeof *f + geometry->n_pools * sizeof *f->lane);
    if (!f)
        return NULL;
    f->task = task;
    f->token = best_token();
    for (uint32_t layer = 0; layer < geometry->n_layers; layer++) {
        int32_t pool = geometry->pool_of_layer[layer];
        if (pool >= 0)
            set_lane(&f->lane[f->n_lanes++], layer, geometry->pool[pool].n_slots);
    }
    return f;
}

static void clear(void *state)
{
    struct narrow *f = state;
    for (uint32_t i = 0; i < f->n_lanes; i++) {
        struct lane *lane = &f->lane[i];
        lane->tally[f->phase].first_hits -= count_used(lane);
        lane->stack = UINT64_MAX; /* EMPTY in every byte */
        lane->marks = 0;
        lane->from = lane->slots;
        lane->full = false;
    }
}

/* Adds the counters of the rows that took the fast path. */
static void add_fast_rows(struct moe_counts *counts, const struct narrow *f,
                          const struct lane *lane, const struct tally *tally)
{
    uint32_t k = f->task->top_k;
    uint32_t n_kept = f->task->contract == MOE_CONTRACT_EVENT && lane->ways < k ? lane->ways : k;
    for (uint32_t h = 0; h <= n_kept && h <= MAX_TOP_K; h++) {
        uint64_t rows = tally->rows_by_hits[h];
        counts->events += rows;
        counts->any_hit_events += h > 0 ? rows : 0;
        counts->all_hit_events += h == k ? rows : 0;
        counts->lookups += rows * k;
        counts->hits += rows * h;
        counts->misses += rows * (k - h);
        counts->fills += rows * (n_kept - h);
        counts->evictions += rows * (n_kept - h); /* the pool was full */
        counts->dropped_fills += rows * (k - n_kept);
    }
}

static struct moe_counts lane_counts(const struct narrow *f, const struct lane *lane,
                                     uint32_t phase)
{
    const struct tally *tally = &lane->tally[phase];
    struct moe_counts counts = tally->counts;
    add_fast_rows(&counts, f, lane, tally);
    uint64_t used_evictions = tally->first_hits - (phase == f->phase ? count_used(lane) : 0);
    counts.useless_fills = counts.evictions - used_evictions;
    if (f->task->geometry->expert_bytes)
        counts.fill_bytes = counts.fills * f->task->geometry->expert_bytes[lane->layer];
    return counts;
}

static struct moe_counts counts(const void *state, uint32_t layer, enum moe_phase phase)
{
    const struct narrow *f = state;
    for (uint32_t i = 0; i < f->n_lanes; i++)
        if (f->lane[i].layer == layer)
            return lane_counts(f, &f->lane[i], phase);
    return (struct moe_counts){0};
}

const struct moe_fast_kind moe_fast_narrow = {
    .create = create, .destroy = free, .clear = clear, .step = step, .counts = counts};
