/* Traces of several requests that decode together, made of traces of single requests.
 *
 * Sequences are taken in order, `size` of them at a time: request r of sequence g is sequence
 * g * size + r of the inputs (the last sequence may have fewer). Its passes are
 *
 *   prompts   the passes of one request after those of another, or, together, the first passes of
 *             all in one, then the second ones
 *   decode    the first decode passes of all requests in one, then the second ones, and so on; a
 *             request that has ended is missing from there on
 *
 * Within a pass tokens are in the order of requests (struct moe_tokens, request). Rows are copied
 * unchanged: routes, weights, scores, lookahead, token ids, positions, phases. `step` numbers the
 * new passes. Unknown positions become what every reader takes them for, the number of tokens since
 * the request began: in a pass of several requests they could not be found otherwise.
 *
 * This is what would have been recorded, as far as a token's route depends on its own request only:
 * attention reads one request's keys and values, everything else is computed token by token. Two
 * exceptions: kernels that round otherwise for other numbers of tokens, and routers that limit the
 * tokens of an expert (capacity), which real batches would have dropped or sent elsewhere. */
#ifndef MOELAB_TRACES_BATCH_H
#define MOELAB_TRACES_BATCH_H

#include "traces/trace.h"

enum moe_batch_prefill { MOE_BATCH_ONE_BY_ONE, MOE_BATCH_TOGETHER };

enum { MOE_BATCH_MAX = 4096 };

struct moe_batch_options {
    uint32_t size; /* 1..MOE_BATCH_MAX requests */
    int prefill;   /* enum moe_batch_prefill */
};

/* Makes one trace of the inputs; a size of 1 only joins them, one after the other.
 *
 * Errors: MOE_ERR_USAGE (size; inputs that differ in model, shape, sizes of experts or in what was
 * recorded; inputs that have requests already; with a size above 1 an engine's log, which is of a
 * cache that served one request), MOE_ERR_INPUT (a prompt behind decode passes, positions known in
 * part), MOE_ERR_MEMORY. names: of the inputs, for messages. Release with moe_trace_release. */
enum moe_status moe_batch_make(const struct moe_trace *inputs, const char *const *names,
                               uint64_t n_inputs, const struct moe_batch_options *options,
                               struct moe_trace *out, struct moe_err *err);

#endif
