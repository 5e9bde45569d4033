/* Is one strategy faster than another, or was it luck? Intervals by resampling what was held out.
 *
 * The units are whole sequences, drawn with replacement, as many as there are (as in
 * mrc_interval.h); the same draw for both strategies, whose times of a sequence go up and down
 * together. Fewer than 8 sequences are too few: then the units are runs of neighbouring tokens,
 * each up to a sixteenth of all, which treats as independent what is not quite (Kunsch 1989). The
 * order of the sequences, and what caches hold when one begins, stay as they were in the run. */
#ifndef MOELAB_SIM_TUNE_COMPARE_H
#define MOELAB_SIM_TUNE_COMPARE_H

#include "traces/trace.h"

enum { MOE_TUNE_REPLICATES = 1000 };

struct moe_tune_units {
    uint64_t n_tokens; /* of decode */
    uint32_t *unit_of; /* [n_tokens] */
    uint32_t n;
    bool blocks; /* runs of tokens, not sequences */
};

/* Errors: MOE_ERR_MEMORY. */
enum moe_status moe_tune_units_init(struct moe_tune_units *units, const struct moe_trace *held_out,
                                    struct moe_err *err);
void moe_tune_units_release(struct moe_tune_units *units); /* also one that is all zero */

/* Tokens per second of one strategy over those of another, and where the middle 95 % of the
 * replicates lie; low and high are NaN with fewer than two units. */
struct moe_tune_gain {
    double ratio, low, high;
};

/* ms [n_tokens]: of each decode token. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_tune_compare(const struct moe_tune_units *units, const double *ms,
                                 const double *other_ms, uint64_t seed, struct moe_tune_gain *out,
                                 struct moe_err *err);

/* Could the other be as fast or faster? Sums of equal times in another order are equal. */
static inline bool moe_tune_may_be_equal(struct moe_tune_gain gain)
{
    return !(gain.low > 1 + 1e-9);
}

#endif
