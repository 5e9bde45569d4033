/* Where the time of a simulated strategy lies, from the least there could be up to what it took: a
 * ladder of runs that differ from the one before in one thing. A part is the difference of two
 * steps, so the parts sum to the whole, in whole nanoseconds of decode.
 *
 *   floor       the bound (sim/bound.h) as if every use could be a hit: nothing is ever missing
 *   + cold      the bound with a slot for every expert: first uses. (In all bounds each prompt may
 *               leave as many experts as the strategy has slots, and the strategy's initial
 *               content is there: so a few first uses cost nothing.)
 *   + capacity  the bound with as many slots as the strategy has: the bound that results print
 *   + conflict  the bound where each pool serves its own layers only: slots as the geometry divides
 *               them, and layers that have none
 *   + dispatch  a simulation: the geometry, policy opt, every miss admitted, no prefetcher, fills
 *               that land when they are queued; the strategy decides where and in which order
 *               experts are computed. Work of a layer that cannot overlap counts here, and so do
 *               activations sent to the CPU and back, and copies that the GPU waits for on demand
 *   + victim    the strategy's policy in place of opt (its declining a newcomer is admission by
 *               policy and counts here), and its initial content
 *   + admission the strategy's rule in place of `always`
 *   + prefetch  the strategy's prefetcher
 *   + late fill fills and prefetches take time: the run itself. Experts waited for, or computed on
 *               the CPU, because their copy is on its way; slots that cannot be given up meanwhile;
 *               DRAM that copies take from the CPU; a host that pageable copies block
 *
 * The first three parts are never negative. The others may be: opt has the most hits, which need
 * not be the least time; copies that the GPU waits for may take longer than the CPU would. An order
 * of the steps is a choice, and where two causes work together the later one gets what they share.
 * Rules that look at copies under way (MOE_ADMISSION_ON_TIME) see those of their own event alone
 * until the last step: the rest of their part is in `late fill`. */
#ifndef MOELAB_SIM_GAP_H
#define MOELAB_SIM_GAP_H

#include "base/table.h"
#include "sim/simulate.h"

enum moe_gap_part {
    MOE_GAP_COLD,
    MOE_GAP_CAPACITY,
    MOE_GAP_CONFLICT,
    MOE_GAP_DISPATCH,
    MOE_GAP_VICTIM,
    MOE_GAP_ADMISSION,
    MOE_GAP_PREFETCH,
    MOE_GAP_LATE_FILL,
    MOE_N_GAP_PARTS
};

struct moe_gap {
    uint64_t floor_ns, bound_ns, decode_ns; /* bound = floor + cold + capacity */
    int64_t part_ns[MOE_N_GAP_PARTS];       /* floor + all of them = decode */
};

/* result: of moe_simulate with this input; as many decode tokens are split as it has. Runs four
 * simulations more, without the input's timeline, decisions and token_ms. Errors: those of
 * moe_simulate. */
enum moe_status moe_gap_split(const struct moe_sim_input *input, const struct moe_result *result,
                              struct moe_gap *out, struct moe_err *err);

/* Cells of the row begun last: gap_floor_ms_per_token, gap_cold_ms_per_token, ... */
void moe_gap_cells(struct moe_table *table, const struct moe_gap *gap, uint64_t decode_tokens);

#endif
