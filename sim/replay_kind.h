/* What the kinds of specialised replay share: narrow (replay_narrow.c) and wide (replay_wide.c).
 * replay_fast.c chooses; no other file may include this. */
#ifndef MOELAB_SIM_REPLAY_KIND_H
#define MOELAB_SIM_REPLAY_KIND_H

#include "sim/replay.h"

/* The order in which experts are evicted: by last use (lru), by arrival (fifo), by the clock. */
enum moe_fast_order {
    MOE_FAST_RECENCY,
    MOE_FAST_ARRIVAL,
    MOE_FAST_CLOCK,
    MOE_FAST_ORDERS /* their number; also: the order of another policy */
};

/* The distinct experts of an event. */
struct moe_fast_event {
    moe_expert *expert; /* [E] */
    uint8_t *seen;      /* [E] scratch of moe_fast_collect, 0 between its calls */
    uint32_t n;
};

struct moe_fast_task {
    const struct moe_geometry *geometry;
    enum moe_fast_order order;
    enum moe_contract contract;
    uint32_t top_k;
    struct moe_fast_event event;
};

/* Functions of replay_fast.h with the state of one kind. */
struct moe_fast_kind {
    void *(*create)(struct moe_fast_task *task); /* NULL: no memory; the task outlives it */
    void (*destroy)(void *state);
    void (*clear)(void *state);
    void (*step)(void *state, const struct moe_tokens *tokens, uint64_t begin, uint64_t end);
    struct moe_counts (*counts)(const void *state, uint32_t layer, enum moe_phase phase);
};

/* One pool a layer, of at most 8 slots; at most 255 experts. */
extern const struct moe_fast_kind moe_fast_narrow;
/* Pools of any number of slots and layers, not limited by bytes. */
extern const struct moe_fast_kind moe_fast_wide;

bool moe_fast_is_narrow(const struct moe_fast_task *task);

/* Collects the distinct experts of n_rows rows of a layer into task->event, in order of appearance.
 * stride: entries from one token's row to the next one's. */
void moe_fast_collect(struct moe_fast_task *task, const moe_expert *row, uint64_t n_rows,
                      size_t stride);

/* Counts an event of n experts, n_hits of them hits, but no fills. */
static inline void moe_fast_count(struct moe_counts *counts, uint32_t n_hits, uint32_t n)
{
    counts->events += n > 0;
    counts->any_hit_events += n_hits > 0;
    counts->all_hit_events += n > 0 && n_hits == n;
    counts->lookups += n;
    counts->hits += n_hits;
    counts->misses += n - n_hits;
}

#endif
