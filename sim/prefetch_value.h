/* What a strategy's prefetcher is worth on a platform: the same run without it, and the precision
 * from which prefetching pays when the link has no time to spare.
 *
 * A prefetch takes the link for one copy, c. A right one saves g, what a miss of the expert would
 * have cost beyond a hit, and the copy that the miss would have caused, as a share a of misses
 * does. With precision p, n prefetches cost n c of link time and save n p (g + a c), so they pay
 * from a precision of
 *     p* = c / (g + a c)
 * Where misses are computed on the CPU, g is the CPU's time for an expert less the GPU's. Where the
 * GPU waits for copies, g is the part of a copy that can overlap with other work, at most c: one
 * layer ahead that is the dense part of a layer and an expert on the GPU. Where the faster of both
 * is chosen, g is the smaller of both. a is counted in the run without prefetcher. If p* is above
 * 1, no prefetcher pays on a busy link. An idle link costs nothing: there wrong prefetches only
 * take slots and host DRAM bandwidth, which this formula leaves out and the simulation has. */
#ifndef MOELAB_SIM_PREFETCH_VALUE_H
#define MOELAB_SIM_PREFETCH_VALUE_H

#include "sim/simulate.h"

struct moe_prefetch_value {
    struct moe_result without; /* the prefetcher */
    double copy_ms, gain_ms;   /* c and g */
    double copied_share;       /* a */
    double break_even;         /* p*; infinity where nothing is gained */
};

/* Errors: those of moe_simulate. */
enum moe_status moe_prefetch_value(const struct moe_sim_input *input,
                                   struct moe_prefetch_value *out, struct moe_err *err);

#endif
