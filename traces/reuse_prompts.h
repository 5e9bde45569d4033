/* Template contamination: how much of the prompts is common to several sequences. */
#ifndef MOELAB_TRACES_REUSE_PROMPTS_H
#define MOELAB_TRACES_REUSE_PROMPTS_H

#include "traces/trace.h"

/* Mean over the sequences with prefill of the share of their prompt tokens (the first run of
 * prefill tokens) that is a common prefix with another sequence; NaN when no sequence has prefill.
 * Tokens are compared by id, or by all their routes where an id is unknown. Errors: MOE_ERR_MEMORY.
 */
enum moe_status moe_prompt_common_share(const struct moe_trace *trace, double *out,
                                        struct moe_err *err);

#endif
