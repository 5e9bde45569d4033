#include "exec/session.h"

#include "base/progress.h"
#include "exec/forward.h"
#include "exec/session_state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { DEFAULT_CHUNK = 256, ALIGNMENT = 64 };

/* The session's arrays, in the order in which they lie in its mapping. */
enum { PIECES = MOE_ACTIVATION_ARRAYS + 5 };
static void list_pieces(struct moe_session *s, struct moe_array piece[PIECES])
{
    const struct moe_llm_config *c = &s->llm->config;
    const size_t e = c->n_experts,
                 cache = (size_t)c->n_layers * c->n_kv_heads * c->head_dim * s->context;
    piece[0] = (struct moe_array){&s->keys, cache, sizeof *s->keys};
    piece[1] = (struct moe_array){&s->values, cache, sizeof *s->values};
    piece[2] = (struct moe_array){&s->history, c->longrope ? s->context : 0, sizeof *s->history};
    piece[3] = (struct moe_array){&s->jobs, e, sizeof *s->jobs};
    piece[4] = (struct moe_array){&s->fetched, e * c->n_layers, sizeof *s->fetched};
    moe_activations_list(&s->a, c, s->chunk, s->lookahead, piece + 5);
}

/* Bytes of all pieces with their padding; 0 when that overflows size_t. */
static size_t total_bytes(const struct moe_array piece[PIECES])
{
    size_t total = 0;
    for (size_t i = 0; i < PIECES; i++) {
        size_t bytes;
        if (__builtin_mul_overflow(piece[i].items, piece[i].item_bytes, &bytes) ||
            __builtin_add_overflow(bytes, ALIGNMENT - bytes % ALIGNMENT, &bytes) ||
            __builtin_add_overflow(total, bytes, &total))
            return 0;
    }
    return total;
}

/* One mapping, reserved but not committed: the cache of a long context costs memory only for the
 * tokens that have come. No huge pages: each of the L x KV rows of the cache would cost at least 2
 * MiB. */
static enum moe_status reserve(struct moe_session *s, struct moe_err *err)
{
    struct moe_array piece[PIECES];
    list_pieces(s, piece);
    s->memory_bytes = total_bytes(piece);
    if (s->memory_bytes)
        s->memory = mmap(NULL, s->memory_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!s->memory_bytes || s->memory == MAP_FAILED) {
        s->memory = NULL;
        return moe_fail(err, MOE_ERR_MEMORY,
                        "out of memory for the KV cache of %u tokens (%zu MiB): choose a smaller "
                        "context",
                        (unsigned)s->context, s->memory_bytes >> 20);
    }
    (void)madvise(s->memory, s->memory_bytes, MADV_NOHUGEPAGE);
    char *at = s->memory;
    for (size_t i = 0; i < PIECES; i++) {
        void *to = piece[i].items ? at : NULL;
        memcpy(piece[i].at, &to, sizeof to);
        size_t bytes = piece[i].items * piece[i].item_bytes;
        at += bytes + (ALIGNMENT - bytes % ALIGNMENT);
    }
    return MOE_OK;
}

static enum moe_status choose_sizes(struct moe_session *s,
                                    const struct moe_session_options *options, struct moe_err *err)
{
    uint32_t most = s->llm->config.max_context;
    if (options->context > most)
        return moe_fail(err, MOE_ERR_USAGE, "context %u exceeds the model's %u",
                        (unsigned)options->context, (unsigned)most);
    s->context = options->context ? options->context : most;
    s->chunk = options->chunk ? options->chunk : DEFAULT_CHUNK;
    if (s->chunk > s->context)
        s->chunk = s->context;
    s->lookahead = options->lookahead;
    return MOE_OK;
}

static enum moe_status build(struct moe_session *s, const struct moe_session_options *options,
                             struct moe_err *err)
{
    const struct moe_llm_config *c = &s->llm->config;
    enum moe_status status = choose_sizes(s, options, err);
    if (status || (status = reserve(s, err)))
        return status;
    struct moe_pool_options pool = {
        .threads = options->threads, .pin = options->pin, .kernels = options->kernels};
    if ((status = moe_pool_new(&s->pool, &pool, err)))
        return status;
    moe_rope_init(&s->rope, c);
    moe_session_reset(s, 0);
    return MOE_OK;
}

enum moe_status moe_session_new(struct moe_session **out, const struct moe_llm *llm,
                                const struct moe_session_options *options, struct moe_err *err)
{
    struct moe_session *s = calloc(1, sizeof *s);
    if (!s)
        return moe_fail_memory(err, "a session");
    s->llm = llm;
    enum moe_status status = build(s, options, err);
    if (status) {
        moe_session_free(s);
        return status;
    }
    *out = s;
    return MOE_OK;
}

void moe_session_free(struct moe_session *s)
{
    if (!s)
        return;
    moe_pool_free(s->pool);
    if (s->memory)
        munmap(s->memory, s->memory_bytes);
    free(s);
}

const struct moe_llm *moe_session_llm(const struct moe_session *session)
{
    return session->llm;
}

struct moe_pool *moe_session_pool(struct moe_session *session)
{
    return session->pool;
}

uint32_t moe_session_length(const struct moe_session *session)
{
    return session->a.length;
}

uint32_t moe_session_context(const struct moe_session *session)
{
    return session->context;
}

uint32_t moe_session_chunk(const struct moe_session *session)
{
    return session->chunk;
}

bool moe_session_lookahead(const struct moe_session *session)
{
    return session->lookahead;
}

void moe_session_reset(struct moe_session *session, uint32_t expected)
{
    session->a.length = 0;
    session->expected = expected;
    session->far = moe_session_is_far(session, expected);
    if (session->runner)
        session->runner->begin(session->runner->context);
}

void moe_session_run_on(struct moe_session *s, const struct moe_pass_runner *runner)
{
    s->runner = runner;
}

void moe_route_sink_put(const struct moe_route_sink *sink, const struct moe_llm_config *c,
                        uint32_t layer, uint32_t n, const moe_expert *expert, const float *weight,
                        const float *score, const float *ahead)
{
    const size_t k = c->top_k, e = c->n_experts;
    for (size_t t = 0; t < n; t++) {
        const size_t at = t * c->n_layers + layer;
        if (sink->expert)
            memcpy(sink->expert + at * k, expert + t * k, k * sizeof *expert);
        if (sink->weight)
            memcpy(sink->weight + at * k, weight + t * k, k * sizeof *weight);
        for (size_t i = 0; sink->score && i < e; i++)
            sink->score[at * e + i] = score ? score[t * e + i] : NAN;
        for (size_t i = 0; sink->lookahead && i < e; i++)
            sink->lookahead[at * e + i] = ahead ? ahead[t * e + i] : NAN;
    }
}

struct moe_route_sink moe_route_sink_from(const struct moe_route_sink *sink,
                                          const struct moe_llm_config *c, uint64_t t)
{
    struct moe_route_sink part = {0};
    const uint64_t k = t * c->n_layers * c->top_k, e = t * c->n_layers * c->n_experts;
    if (!sink)
        return part;
    part.expert = sink->expert ? sink->expert + k : NULL;
    part.weight = sink->weight ? sink->weight + k : NULL;
    part.score = sink->score ? sink->score + e : NULL;
    part.lookahead = sink->lookahead ? sink->lookahead + e : NULL;
    return part;
}

static void watch_layer(struct moe_session *s)
{
    if (s->watch)
        s->watch(s->watch_context, s->watched += s->a.n);
}

/* One pass on the runner; the session keeps the tokens and its length up to date. */
static enum moe_status run_pass_on_runner(struct moe_session *s, const int32_t *tokens, uint32_t n,
                                          const struct moe_route_sink *sink, float *logits,
                                          struct moe_err *err)
{
    const struct moe_pass pass = {.tokens = tokens,
                                  .n = n,
                                  .position = s->a.length,
                                  .far = s->far,
                                  .phase = s->prefilling ? MOE_PREFILL : MOE_DECODE,
                                  .sink = sink,
                                  .logits = logits};
    enum moe_status status = s->runner->run(s->runner->context, &pass, err);
    if (status)
        return status;
    for (uint32_t t = 0; t < n && s->history; t++)
        s->history[s->a.length + t] = tokens[t];
    s->a.length += n;
    return MOE_OK;
}

/* As moe_session_forward. Recomputes the cache at LongRoPE's switch, as exec/forward.c does. */
static enum moe_status forward_on_runner(struct moe_session *s, const int32_t *tokens, uint32_t n,
                                         const struct moe_route_sink *sink, float *logits,
                                         struct moe_err *err)
{
    enum moe_status status = moe_forward_check(s, tokens, n, err);
    const uint32_t length = s->a.length,
                   known = length + n > s->expected ? length + n : s->expected;
    if (!status && !s->far && moe_session_is_far(s, known)) {
        s->far = true;
        s->a.length = 0;
        for (uint32_t part; !status && s->a.length < length;) {
            part = length - s->a.length < s->chunk ? length - s->a.length : s->chunk;
            status = run_pass_on_runner(s, s->history + s->a.length, part, NULL, NULL, err);
        }
    }
    if (!status)
        status = run_pass_on_runner(s, tokens, n, sink, logits, err);
    s->a.n = n;
    for (uint32_t l = 0; l < s->llm->config.n_layers && !status; l++)
        watch_layer(s);
    return status;
}

enum moe_status moe_session_forward(struct moe_session *s, const int32_t *tokens, uint32_t n,
                                    const struct moe_route_sink *sink, float *logits,
                                    struct moe_err *err)
{
    const struct moe_llm_config *c = &s->llm->config;
    if (s->runner)
        return forward_on_runner(s, tokens, n, sink, logits, err);
    enum moe_status status = moe_forward_begin(s, tokens, n, err);
    for (uint32_t l = 0; l < c->n_layers && !status; l++) {
        if (moe_interrupted())
            return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
        moe_forward_attend(s, l);
        if (sink)
            moe_route_sink_put(sink, c, l, s->a.n, s->a.expert, s->a.weight, s->a.score,
                               s->lookahead && l + 1 < c->n_layers ? s->a.ahead : NULL);
        moe_forward_experts(s, l);
        moe_forward_combine(s, l);
        watch_layer(s);
    }
    if (!status)
        moe_forward_end(s, logits);
    return status;
}

enum moe_status moe_session_prefill(struct moe_session *s, const int32_t *tokens, uint32_t n,
                                    const struct moe_route_sink *sink, float *logits,
                                    void (*watch)(void *context, uint64_t done), void *context,
                                    struct moe_err *err)
{
    enum moe_status status = moe_session_room(s, n, err);
    if (!status && s->expected < s->a.length + n)
        s->expected = s->a.length + n;
    s->watch = watch;
    s->watch_context = context;
    s->watched = 0;
    s->prefilling = true;
    for (uint32_t done = 0, part; done < n && !status; done += part) {
        part = n - done < s->chunk ? n - done : s->chunk;
        struct moe_route_sink to = moe_route_sink_from(sink, &s->llm->config, done);
        status =
            moe_session_forward(s, tokens + done, part, &to, done + part == n ? logits : NULL, err);
    }
    s->watch = NULL;
    s->prefilling = false;
    return status;
}
