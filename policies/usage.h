/* What a machine did: time by set of busy lanes, and where the time of tokens went. The simulator
 * counts it as virtual time passes, the executor from the intervals that it measured. */
#ifndef MOELAB_POLICIES_USAGE_H
#define MOELAB_POLICIES_USAGE_H

#include <stddef.h>
#include <stdint.h>

/* What can be busy at one time, each with one operation. */
enum moe_lane {
    MOE_LANE_GPU,  /* compute stream */
    MOE_LANE_CPU,  /* pool of threads, one expert at a time */
    MOE_LANE_H2D,  /* expert copies */
    MOE_LANE_DOWN, /* activations GPU -> CPU */
    MOE_LANE_UP,   /* activations CPU -> GPU */
    MOE_N_LANES
};

/* What was done during the steps of one phase. */
struct moe_usage {
    uint64_t busy_ns[1 << MOE_N_LANES]; /* time by set of busy lanes (bits 1 << MOE_LANE_x); [0]:
                                           nothing was busy but the host */
    uint64_t host_ns; /* launch and framework overhead that is part of the GPU lane's busy time,
                         with the CPU lane idle; 0 where it is measured as busy_ns[0] */
    uint64_t cpu_experts, gpu_experts; /* computed there, one for each event that uses an expert */
    uint64_t cpu_unused;               /* computed early on the CPU, and not taken so far */
    uint64_t h2d_copies;               /* landed */
};

/* The time that passed; the time during which a lane was busy (for the GPU without host_ns). */
uint64_t moe_usage_ns(const struct moe_usage *usage);
uint64_t moe_usage_lane_ns(const struct moe_usage *usage, enum moe_lane lane);

/* Where the time went; the parts sum to moe_usage_ns. */
struct moe_time_by_cause {
    uint64_t gpu_ns;       /* GPU computes, CPU pool does not */
    uint64_t cpu_ns;       /* CPU pool computes experts, GPU does not */
    uint64_t both_ns;      /* both compute */
    uint64_t copy_wait_ns; /* neither; an expert copy is waited for */
    uint64_t state_ns;     /* neither; activations on their way between GPU and CPU */
    uint64_t host_ns;      /* neither; launch and framework overhead */
};

void moe_usage_causes(const struct moe_usage *usage, struct moe_time_by_cause *out);

struct moe_interval {
    enum moe_lane lane;
    uint64_t start_ns, end_ns; /* one that ends before it starts is empty */
};

/* Adds the time from start_ns to end_ns to busy_ns, with the lanes busy as the intervals say.
 * Intervals are clipped to that time; those of one lane may overlap, and count as their union. All
 * entries of busy_ns together grow by end_ns - start_ns. Sorts intervals [n] by their start. */
void moe_usage_add_intervals(struct moe_usage *usage, struct moe_interval *intervals, size_t n,
                             uint64_t start_ns, uint64_t end_ns);

#endif
