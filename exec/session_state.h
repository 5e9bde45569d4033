/* The fields of a session, for exec/session.c and exec/forward.c only.
 *
 * The activations are those of one pass of at most T = `chunk` tokens. All arrays share one mapping
 * in host memory, whose pages exist once they are touched. */
#ifndef MOELAB_EXEC_SESSION_STATE_H
#define MOELAB_EXEC_SESSION_STATE_H

#include "exec/activations.h"
#include "exec/rope.h"
#include "exec/session.h"

#include <inttypes.h>

struct moe_session {
    const struct moe_llm *llm;
    struct moe_pool *pool;
    struct moe_rope rope;
    uint32_t context, chunk;
    bool lookahead;
    const struct moe_pass_runner *runner; /* computes the passes, or NULL */
    bool prefilling;

    uint32_t expected; /* tokens of the sequence that are known to come */
    bool far;          /* LongRoPE: the cache is computed with the long factors */

    void *memory;
    size_t memory_bytes;
    float *keys, *values; /* [L, KV, context, hd] */
    int32_t *history;     /* [context] the tokens, to recompute the cache from; NULL: no LongRoPE */

    struct moe_activations a;
    struct moe_ffn_job *jobs; /* [E] */
    bool *fetched;            /* [L, E] the expert's weights were already requested from disk */

    void (*watch)(void *context, uint64_t done); /* of the prefill under way, or NULL */
    void *watch_context;
    uint64_t watched;
};

/* LongRoPE: does a sequence of this length use the long factors? */
static inline bool moe_session_is_far(const struct moe_session *s, uint64_t length)
{
    return s->llm->config.longrope && length > s->llm->config.original_context;
}

/* MOE_ERR_USAGE unless n more tokens fit. */
static inline enum moe_status moe_session_room(const struct moe_session *s, uint32_t n,
                                               struct moe_err *err)
{
    if (n <= s->context - s->a.length)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "context full: %" PRIu32 " tokens and %" PRIu32 " more exceed its %" PRIu32,
                    s->a.length, n, s->context);
}

#endif
