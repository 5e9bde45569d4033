/* Generation: a prompt's tokens in, new tokens out, one at a time. */
#ifndef MOELAB_EXEC_GENERATE_H
#define MOELAB_EXEC_GENERATE_H

#include "exec/sampler.h"
#include "exec/session.h"

struct moe_generate_options {
    uint32_t max_new;           /* most tokens to make; 0: only the prompt is processed */
    bool ignore_eos;            /* go on after a stop token */
    struct moe_sampler sampler; /* prepared by the caller */
};

enum moe_stop { MOE_STOP_LENGTH, MOE_STOP_TOKEN, MOE_STOP_CONTEXT, MOE_STOP_INTERRUPTED };
extern const char *const moe_stop_names[]; /* "length", "stop token", ... */

struct moe_generated {
    uint32_t n_prompt, n_new; /* tokens; the stop token is not counted */
    uint32_t n_passes;        /* forward passes of one token: rows of routes beyond the prompt's */
    uint64_t prefill_ns, decode_ns;
    enum moe_stop stop;
};

struct moe_generate_watch {
    /* Every new token that is not a stop token, as soon as it is known; may be NULL. An error ends
     * the generation and is returned. */
    enum moe_status (*token)(void *context, int32_t token, struct moe_err *err);
    /* Progress of the prompt, see moe_session_prefill; may be NULL. */
    void (*prefill)(void *context, uint64_t done);
    void *context;
};

/* Resets the session and generates. routes (NULL: not wanted) takes a row for each token of the
 * prompt, then one for each decode pass (room for n_prompt + max_new - 1 rows), with the token's id
 * in routes->token_id. logits: [V], scratch of the caller. n_prompt >= 1. SIGINT ends the
 * generation with MOE_STOP_INTERRUPTED and MOE_OK. Errors: MOE_ERR_USAGE (prompt longer than the
 * context), MOE_ERR_INPUT (no logit is a finite number, or one of the routes wanted is not; names
 * the weight that is not finite), those of moe_session_forward and of watch. */
enum moe_status moe_generate(struct moe_session *session, const int32_t *prompt, uint32_t n_prompt,
                             struct moe_generate_options *options,
                             const struct moe_generate_watch *watch, float *logits,
                             const struct moe_tokens *routes, struct moe_generated *out,
                             struct moe_err *err);

#endif
