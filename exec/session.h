/* One sequence on one model: KV cache, activations, and the forward pass in the pieces that the
 * step loop's machine contract asks for (attend, expert, combine). Only _new and _free allocate
 * and release memory.
 *
 * The same tokens give the same routes and logits, bit for bit, in one pass, in chunks or one by
 * one, and for any number of threads. */
#ifndef MOELAB_EXEC_SESSION_H
#define MOELAB_EXEC_SESSION_H

#include "exec/llm.h"
#include "exec/pool.h"

struct moe_session; /* opaque */

struct moe_session_options {
    uint32_t context;    /* most tokens of the sequence; 0: the model's maximum */
    uint32_t chunk;      /* most tokens of one pass; 0: 256 */
    uint32_t threads;    /* see moe_pool_options */
    const char *kernels; /* NULL: "auto" */
    bool pin;
    bool lookahead; /* compute lookahead scores as well (E x D more work a layer) */
};

/* Memory: 8 x L x KV x hd bytes for each token of context (float32 keys and values; pages are
 * touched as the sequence grows) and the activations of one chunk. Errors: MOE_ERR_USAGE (context
 * beyond the model's), MOE_ERR_MEMORY, those of moe_pool_new. llm must outlive the session. */
enum moe_status moe_session_new(struct moe_session **out, const struct moe_llm *llm,
                                const struct moe_session_options *options, struct moe_err *err);
void moe_session_free(struct moe_session *session);

const struct moe_llm *moe_session_llm(const struct moe_session *session);
struct moe_pool *moe_session_pool(struct moe_session *session);
uint32_t moe_session_length(const struct moe_session *session);  /* tokens in the KV cache */
uint32_t moe_session_context(const struct moe_session *session); /* most it can hold */
uint32_t moe_session_chunk(const struct moe_session *session);
bool moe_session_lookahead(const struct moe_session *session); /* as its options said */

/* Empties the KV cache for a new sequence of which `expected` tokens are known now (the prompt):
 * LongRoPE chooses its factors by the length of the sequence, not of the pass. */
void moe_session_reset(struct moe_session *session, uint32_t expected);

/* Where a pass stores its routes: arrays laid out as in struct moe_tokens, for the n tokens of the
 * pass; an array that is NULL is not filled. score and lookahead are router logits; the last layer
 * has no lookahead, its entries are NaN. */
struct moe_route_sink {
    moe_expert *expert; /* [n, L, K] gate order */
    float *weight;      /* [n, L, K] */
    float *score;       /* [n, L, E] */
    float *lookahead;   /* [n, L, E] */
};

/* Stores the routes of one layer for all n tokens of a pass. expert, weight: [n, K]; score, ahead:
 * [n, E], or NULL: NaN is stored. */
void moe_route_sink_put(const struct moe_route_sink *sink, const struct moe_llm_config *config,
                        uint32_t layer, uint32_t n, const moe_expert *expert, const float *weight,
                        const float *score, const float *ahead);

/* The part of the sink that begins at token t. sink NULL: a sink whose arrays are all NULL. */
struct moe_route_sink moe_route_sink_from(const struct moe_route_sink *sink,
                                          const struct moe_llm_config *config, uint64_t t);

/* One pass over n tokens (1 <= n <= chunk) at positions length .. length + n - 1: all layers, every
 * expert on the CPU. logits: [V] of the last token, or NULL. LongRoPE: when the pass makes the
 * sequence longer than original_context but the cache was computed with the short factors, the
 * cache is first computed again with the long ones, as transformers' generate does. Errors:
 * MOE_ERR_USAGE (token id outside the vocabulary, context full); MOE_ERR_INTERRUPTED between
 * layers. After an error the session must be reset. */
enum moe_status moe_session_forward(struct moe_session *session, const int32_t *tokens, uint32_t n,
                                    const struct moe_route_sink *sink, float *logits,
                                    struct moe_err *err);

/* Runs a whole prompt of n tokens in passes of at most chunk tokens. All n count as known to come
 * (see moe_session_reset). The sink's arrays hold all n tokens. watch (may be NULL) is called after
 * every layer of every pass with the number of (token, layer) pairs done so far, of n x L: progress
 * by layer, since each takes long when the model is read from disk. Errors: as above; nothing is
 * computed when n tokens do not fit. */
enum moe_status moe_session_prefill(struct moe_session *session, const int32_t *tokens, uint32_t n,
                                    const struct moe_route_sink *sink, float *logits,
                                    void (*watch)(void *context, uint64_t done), void *context,
                                    struct moe_err *err);

/* One pass, as given to a runner: something that computes the session's passes in its place and
 * then owns the KV cache (exec/hybrid.h). */
struct moe_pass {
    const int32_t *tokens; /* [n] */
    uint32_t n, position;  /* of the first token */
    bool far;              /* LongRoPE: use the long factors */
    enum moe_phase phase;
    const struct moe_route_sink *sink; /* or NULL */
    float *logits;                     /* [V] of the last token, or NULL */
};
struct moe_pass_runner {
    void (*begin)(void *context); /* a sequence begins */
    enum moe_status (*run)(void *context, const struct moe_pass *pass, struct moe_err *err);
    void *context;
};

/* Passes are computed by `runner` from now on; NULL: by the session itself again. The session must
 * be reset before its next pass. */
void moe_session_run_on(struct moe_session *session, const struct moe_pass_runner *runner);

#endif
