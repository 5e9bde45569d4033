/* A synthetic model with two of its layers on a device, and one function for every operation whose
 * speed exec/bench_device.c measures. Copies and experts use their buffers in turn, so that no
 * cache holds the next one. */
#ifndef MOELAB_EXEC_BENCH_RIG_H
#define MOELAB_EXEC_BENCH_RIG_H

#include "exec/bench_device.h"
#include "exec/expert_store.h"
#include "exec/resident.h"
#include "exec/synthetic.h"

struct moe_bench_rig {
    struct moe_device *device;
    struct moe_synthetic *synthetic;
    const struct moe_llm *llm; /* its experts are the pinned memory that is copied from */
    struct moe_expert_layout layout;
    struct moe_resident *resident;
    struct moe_event *start, *end;
    struct moe_route_box box;
    struct moe_activations token; /* resident's, for one token at the end of the KV cache */
    unsigned char *pageable;      /* [layout.bytes] heap */
    unsigned char *landing;       /* [layout.bytes] pinned: copies down */
    float *input;                 /* pinned: a small random vector [D] for every row, and angles */
    uint32_t n_slots, slot, layer, n_buffers, buffer;
};

/* Allocates and fills everything, and waits for it. Call _release after a failure, too. */
enum moe_status moe_bench_rig_init(struct moe_bench_rig *r, const struct moe_device_bench *bench,
                                   struct moe_err *err);
void moe_bench_rig_release(struct moe_bench_rig *r);

/* Waits for all streams and restores the initial activations. */
enum moe_status moe_bench_rig_calm(struct moe_bench_rig *r, struct moe_err *err);

uint64_t moe_bench_rig_half(const struct moe_bench_rig *r); /* bytes that _within copies */
uint64_t moe_bench_rig_expert_bytes(const struct moe_bench_rig *r, enum moe_dtype dtype);
double moe_bench_rig_expert_weights(const struct moe_bench_rig *r); /* number of weights */
uint64_t moe_bench_rig_attend_bytes(const struct moe_bench_rig *r); /* weights, keys and values */

/* Can the experts' bytes also be used as weights of Q8 and Q4? Those of BF16 can, if rows are whole
 * blocks: the bits of a BF16 number below 2 are those of a binary16 scale below 2. */
bool moe_bench_rig_retypes(const struct moe_bench_rig *r);

/* Each queues one operation. bytes: at most an expert's; dtype: the experts' own, or Q8 or Q4 where
 * moe_bench_rig_retypes. */
void moe_bench_rig_up(struct moe_bench_rig *r, uint64_t bytes, enum moe_memory host);
void moe_bench_rig_down(struct moe_bench_rig *r, uint64_t bytes);
void moe_bench_rig_within(struct moe_bench_rig *r);
void moe_bench_rig_expert(struct moe_bench_rig *r, enum moe_dtype dtype, uint32_t n_tokens);
void moe_bench_rig_attend(struct moe_bench_rig *r);
void moe_bench_rig_head(struct moe_bench_rig *r);
void moe_bench_rig_combine(struct moe_bench_rig *r);

#endif
