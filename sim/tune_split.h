/* Training and held-out parts of a trace, for the tuner.
 *
 * Whole sequences are divided: in an order drawn by a seed, the first half of them trains. Where
 * that leaves a side less than a quarter of the decode passes, as many train as come nearest to
 * half of the passes. Where that does not help, as with a single sequence, all are cut in time:
 * their first halves train. Sequences without decode tokens belong to neither part. Training
 * sequences stay in the order drawn, so that any prefix is a sample of them all; held-out ones are
 * in the order of the trace. */
#ifndef MOELAB_SIM_TUNE_SPLIT_H
#define MOELAB_SIM_TUNE_SPLIT_H

#include "traces/trace.h"

struct moe_tune_split {
    struct moe_trace train, held_out; /* sequences numbered anew, from 0 */
    bool in_time;                     /* sequences were cut */
};

/* Release with moe_tune_split_release. Errors: MOE_ERR_USAGE (fewer than two forward passes of
 * decode: nothing could be held out), MOE_ERR_MEMORY. */
enum moe_status moe_tune_split(const struct moe_trace *trace, uint64_t seed,
                               struct moe_tune_split *out, struct moe_err *err);
void moe_tune_split_release(struct moe_tune_split *split); /* also one that is all zero */

uint64_t moe_tune_decode_tokens(const struct moe_trace *trace);

/* Decode tokens of the shortest run of whole sequences, from the first on, that has at least
 * `tokens` of them; `tokens` itself where that run has more than twice as many. */
uint64_t moe_tune_prefix(const struct moe_trace *trace, uint64_t tokens);

#endif
