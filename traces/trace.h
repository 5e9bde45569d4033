/* Routing traces in memory: what the router chose for each (token, layer).
 *
 * Dimensions: T tokens, L layers, E experts of a layer, K experts of a route.
 * Arrays are row-major, in host memory. expert[(t * L + l) * K + k] is the k-th choice in gate
 * order (falling weight where the source keeps it). MOE_NO_EXPERT marks an absent entry: a layer
 * that has no row for a token has all K absent (the last layer of a prefill often computes only the
 * last token), and a row with fewer than K choices has its absent entries last.
 *
 * Tokens are stored in sequence order; the tokens of one forward pass ("step") are neighbours.
 * Execution order is: sequence, step, layer, token of the step, k. */
#ifndef MOELAB_TRACES_TRACE_H
#define MOELAB_TRACES_TRACE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef uint16_t moe_expert;
#define MOE_NO_EXPERT ((moe_expert)0xffff)

/* Is e among the n experts? */
static inline bool moe_route_has(const moe_expert *expert, uint32_t n, uint32_t e)
{
    for (uint32_t i = 0; i < n; i++)
        if (expert[i] == e)
            return true;
    return false;
}

enum moe_phase { MOE_PREFILL = 0, MOE_DECODE = 1 };

enum { MOE_TEXT_MAX = 256, MOE_HEADER_MAX = 65536 };

/* What is true of the whole trace. */
struct moe_trace_info {
    char model[MOE_TEXT_MAX]; /* name; "unknown" if the source does not tell */
    uint32_t n_layers, n_experts, top_k;
    uint64_t *expert_bytes; /* [L] bytes of one expert of each layer, or NULL: unknown */
    uint64_t *dense_bytes;  /* [L] bytes of the layer's dense part, or NULL: unknown */
    bool synthetic;         /* made by a generator, not by a model */
    bool rows_in_order;     /* the imported file's rows stood in execution order */
    /* provenance; "" or "unknown" where not known */
    char source[MOE_TEXT_MAX]; /* what it was made from: file format and content hash, or prompts */
    char licence[MOE_TEXT_MAX];
    char tool[MOE_TEXT_MAX];    /* program and version that made the routes */
    char created[MOE_TEXT_MAX]; /* time of the recording, RFC 3339; imports keep "unknown" */
    char note[MOE_TEXT_MAX];
    char *header;               /* verbatim header lines of the imported text file, or NULL */
    char dialect[MOE_TEXT_MAX]; /* details an exporter needs to give the same bytes, "key=value ..."
                                 */
};

/* One sequence: a request with its prefill and decode tokens. */
struct moe_sequence {
    uint64_t n_tokens;
    uint64_t text_hash; /* FNV-1a of the prompt text; 0 unknown */
    char *label;        /* where it comes from: data set; never NULL */
    char *category;     /* its subdivision; never NULL */
};

/* A run of consecutive tokens. Optional arrays are NULL when the trace has none. */
struct moe_tokens {
    uint64_t n_tokens;    /* T */
    uint64_t first_token; /* index of the first one in the whole trace */
    uint32_t *sequence;   /* [T] index of the sequence */
    uint32_t *step;       /* [T] forward pass within the sequence, from 0, not falling */
    int32_t *position;    /* [T] position in the context; -1 unknown */
    int32_t *token_id;    /* [T] vocabulary id; -1 unknown */
    uint8_t *phase;       /* [T] enum moe_phase, equal within a step */
    uint32_t *request;  /* [T] request within the sequence, not falling within a step, and then all
                           positions are known; NULL: a sequence is one request */
    moe_expert *expert; /* [T, L, K] */
    float *weight;      /* [T, L, K] gate weights, or NULL; NaN where absent */
    float *score;       /* [T, L, E] router scores (softmax or logits as `dialect` says), or NULL */
    float *lookahead;   /* [T, L, E] scores of layer l+1's router on layer l's input, or NULL */
    /* a log of the engine that ran, or NULL */
    uint8_t *log_residency; /* [T, L, K] the engine's own residency column */
    uint64_t *log_bytes;    /* [T, L, K] bytes the engine loaded for the access: 0 means a hit */
};

/* A whole trace in memory. */
struct moe_trace {
    struct moe_trace_info info;
    struct moe_tokens tokens;
    uint64_t n_sequences;
    struct moe_sequence *sequences;
};

enum moe_tokens_part {
    MOE_HAS_WEIGHT = 1,
    MOE_HAS_SCORE = 2,
    MOE_HAS_LOOKAHEAD = 4,
    MOE_HAS_LOG = 8,       /* log_residency and log_bytes */
    MOE_HAS_REQUEST = 256, /* the bits between are enum moe_format_holds'; loaders always read it */
};

/* Allocates arrays for n tokens of the shape with the parts wanted; all absent/unknown/zero.
 * Errors: MOE_ERR_MEMORY (also when the product overflows). Release with moe_tokens_release. */
enum moe_status moe_tokens_init(struct moe_tokens *tokens, const struct moe_trace_info *info,
                                uint64_t n, unsigned parts, struct moe_err *err);
void moe_tokens_release(struct moe_tokens *tokens);
unsigned moe_tokens_parts(const struct moe_tokens *tokens);

/* Copies rows [first, first + n) of every array that both have to rows [at, at + n). info: shape of
 * both. */
void moe_tokens_copy(struct moe_tokens *to, uint64_t at, const struct moe_tokens *from,
                     uint64_t first, uint64_t n, const struct moe_trace_info *info);

/* Releases the heap members; the struct may then be reused. */
void moe_trace_info_release(struct moe_trace_info *info);
enum moe_status moe_trace_info_copy(struct moe_trace_info *to, const struct moe_trace_info *from,
                                    struct moe_err *err);
void moe_trace_release(struct moe_trace *trace);

/* moe_tokens_check uses threads from so many entries (T L K) on. 31 pairs a size in fresh
 * processes, one and two threads, 2 cores, 2026-11-22: beside other work two threads took 1.3
 * to 6.7 times as long for 2^18 to 2^21 entries, as the second one is waited for, and 1.1 times for
 * 2^22; with both cores to themselves 0.5 to 0.7 times, which saves 1 ms of 2^18 and 4 to 12 ms of
 * 2^22. A reader's blocks are smaller: streaming took as long with one. The result is the same. */
enum { MOE_CHECK_THREADS_FROM = 1 << 22 };

/* Checks what the format promises of `tokens` against info and gives the place of the first fault:
 * ids below E, no expert twice in a route, absent entries last, weights finite, steps not falling,
 * one phase a step, requests not falling within a step and with known positions. */
enum moe_status moe_tokens_check(const struct moe_tokens *tokens, const struct moe_trace_info *info,
                                 struct moe_err *err);

/* End (exclusive) of the forward pass that token t belongs to, t < n_tokens. */
uint64_t moe_step_end(const struct moe_tokens *tokens, uint64_t t);

/* Tokens in the KV caches of the requests of a forward pass, before it. */
struct moe_step_context {
    uint32_t n_requests;
    uint64_t longest; /* of the request that has most */
    uint64_t all;     /* of all of them */
};

/* For the pass that begins with token t. A request has as many as the position of its first token
 * in the pass; where that is unknown, the tokens since sequence_start, the sequence's first. */
struct moe_step_context moe_step_context(const struct moe_tokens *tokens, uint64_t t,
                                         uint64_t sequence_start);

/* What a machine needs room for, in tokens, each at least 1. */
struct moe_trace_extent {
    uint64_t chunk;   /* the longest forward pass */
    uint64_t context; /* one KV cache: the longest request, with a forward pass behind it */
    uint64_t caches;  /* the KV caches of all requests of a pass, with that pass */
};

/* Of the trace up to the end of the step with its max_tokens-th decode token; 0: of all of it. */
struct moe_trace_extent moe_trace_extent(const struct moe_trace *trace, uint64_t max_tokens);

#endif
