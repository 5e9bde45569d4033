/* The decode time that no schedule can beat on a platform, given the model, the number of slots,
 * the CPU threads and the routes. Schedule means: which experts run where, what is copied when, any
 * replacement and any prefetching, with the future known.
 *
 * Let U = x + y + z be the expert uses of decode (different experts of each step and layer), of
 * which
 *
 *   x run on the CPU,
 *
 *   z run on the GPU as the first use after a copy of the expert into device memory,
 *
 *   y run on the GPU otherwise: resident since an earlier use.
 *
 * c, g, k are the times of one expert on the CPU and on the GPU at batch 1 and of one copy (the
 * faster kind of memory), b its bytes, B the DRAM bandwidth, D the dense parts of all layers and
 * steps with their overheads. Then, for the decode time T:
 *
 *   T >= D + max(c x, g (y + z))
 *
 *     the experts of a layer need its routing, and the next layer needs their sum: their time adds
 *     to the dense parts; each pool of the layer computes one expert at a time; more tokens cost no
 *     less
 *
 *   T >= k z
 *
 *     the link carries one copy at a time
 *
 *   T B >= b (x + z)
 *
 *     weights that the CPU reads, and those copied, come from DRAM
 *
 *   y <= H + S P
 *
 *     see below
 *
 * Without a GPU y = z = 0, D is the CPU's and its dense weights come from DRAM as well:
 *
 *   T B >= b x + bytes of the dense parts
 *
 * Where GPU and CPU share the DRAM, all that is computed reads it, and a copy writes it, too:
 *
 *   T B >= b (x + y + 3 z) + bytes of the dense parts
 *
 * (still greedy: x and y take what they take of the DRAM for one use each, z thrice.)
 *
 * T's smallest value over x, y, z >= 0 is the bound: a linear program, solved by bisection over T,
 * where the largest x + y + z is found greedily (x and y first: each is in one constraint that z is
 * in too, so taking z for them gains nothing).
 *
 * H: y is the number of uses whose expert stayed in a slot since a use before. At most S experts
 * stay from one event to the next, whatever their layer, so y is at most what Belady's rule reaches
 * that keeps, after each event, the S experts used again soonest: the registered policy `opt` with
 * bypass on geometry global:S, contract `event`, cold start, decode only. S P: copies that land
 * during the prompt take no decode time; a prompt can leave each slot with one expert that saves
 * one copy. P counts the prompts that are followed by decode steps. An expert that was in a slot
 * before time began (moe_loop_preload) saves one copy likewise: the caller adds their number. */
#ifndef MOELAB_SIM_BOUND_H
#define MOELAB_SIM_BOUND_H

#include "policies/cost.h"
#include "policies/result.h"
#include "traces/trace.h"

struct moe_bound_case {
    const struct moe_costs *costs;
    uint64_t dense_ns;  /* D */
    double dense_bytes; /* that the dense parts read from DRAM */
    uint64_t uses;      /* U */
    uint64_t max_hits;  /* H + S P, and the experts preloaded */
};

/* T in ns. */
uint64_t moe_bound_ns(const struct moe_bound_case *bound);

/* H + S P for the first n_tokens tokens of the trace (the end of a step).
 * Errors: MOE_ERR_MEMORY, MOE_ERR_UNSUPPORTED (more events than ordinals). */
enum moe_status moe_bound_hits(const struct moe_trace *trace, uint64_t n_tokens, uint32_t slots,
                               uint64_t *max_hits, struct moe_err *err);

/* H alone, where each pool of the geometry keeps experts of its own layers only: `opt` there. In a
 * single pool the H above. */
enum moe_status moe_bound_hits_in(const struct moe_trace *trace, uint64_t n_tokens,
                                  const struct moe_geometry *geometry, uint64_t *hits,
                                  struct moe_err *err);

/* P of the first n_tokens tokens. */
uint64_t moe_bound_prompts(const struct moe_trace *trace, uint64_t n_tokens);

/* D and U of a result of the first tokens of the trace, and max_hits 0. */
struct moe_bound_case moe_bound_case_of(const struct moe_trace *trace,
                                        const struct moe_costs *costs,
                                        const struct moe_result *result);

/* Fills both bounds and shares of a result, simulated or measured, of the first tokens of the
 * trace: as many as the result has. costs: of the model with the trace's top-k. Where a lossy rule
 * changed routes, the first bound, which is that of the trace's routes, stays as it is: not known.
 * Errors: of moe_bound_hits. */
enum moe_status moe_bound_add(const struct moe_trace *trace, const struct moe_costs *costs,
                              struct moe_result *result, struct moe_err *err);

/* The second bound: of the decisions that were made, not the best ones. In ns, of decode:
 *
 *   max(path_ns, k (F - P), b (C + F - P) / B)
 *
 * and b (C + F - P) is b (C + G + 2 (F - P)) + bytes of the dense parts where GPU and CPU share the
 * DRAM, G: experts that the GPU computed; without a GPU, b C + those bytes.
 *
 * path_ns: dense parts and, layer by layer, the longest of what CPU, GPU and awaited copies have to
 * do (policies/path.h); C, F: experts that the CPU computed and copies that landed; the link
 * carries one copy at a time, and at most one began in each prompt. How far a run is above it is
 * what its machine lost: waiting, late copies, shared memory bandwidth, overheads that no cost has.
 */
uint64_t moe_bound_schedule_ns(const struct moe_trace *trace, const struct moe_costs *costs,
                               const struct moe_result *result);

/* Fills schedule_bound_ms and its share; NaN as long as the result has no path_ns. */
void moe_bound_add_schedule(const struct moe_trace *trace, const struct moe_costs *costs,
                            struct moe_result *result);

#endif
