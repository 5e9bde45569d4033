#include "traces/trace.h"

#include "base/units.h"
#include "traces/model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Sum of the arrays' bytes; false when it does not fit in 64 bits. */
static bool tokens_bytes(const struct moe_trace_info *info, uint64_t n, unsigned parts,
                         uint64_t *out)
{
    uint64_t entries = (uint64_t)info->n_layers * info->top_k;
    uint64_t scores = (uint64_t)info->n_layers * info->n_experts;
    uint64_t each = 4 * sizeof(uint32_t) + sizeof(uint8_t) + entries * sizeof(moe_expert);
    if (parts & MOE_HAS_REQUEST)
        each += sizeof(uint32_t);
    if (parts & MOE_HAS_WEIGHT)
        each += entries * sizeof(float);
    if (parts & MOE_HAS_SCORE)
        each += scores * sizeof(float);
    if (parts & MOE_HAS_LOOKAHEAD)
        each += scores * sizeof(float);
    if (parts & MOE_HAS_LOG)
        each += entries * (sizeof(uint8_t) + sizeof(uint64_t));
    return moe_mul_u64(each, n, out) && *out <= PTRDIFF_MAX;
}

/* Linux grants more memory than the machine has and kills later; so ask first. */
static bool fits_in_machine(uint64_t bytes)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages <= 0 || page <= 0 || bytes / (uint64_t)page <= (uint64_t)pages;
}

static void *filled(uint64_t n, size_t size, int byte)
{
    size_t bytes = (size_t)n * size;
    if (byte == 0)
        return calloc(bytes ? bytes : 1, 1);
    void *p = malloc(bytes ? bytes : 1);
    return p ? memset(p, byte, bytes) : NULL;
}

static float *unknown_floats(uint64_t n)
{
    float *p = malloc(n ? (size_t)n * sizeof *p : 1);
    for (uint64_t i = 0; p && i < n; i++)
        p[i] = NAN;
    return p;
}

static bool allocate_parts(struct moe_tokens *x, uint64_t entries, uint64_t scores, unsigned parts)
{
    bool ok = true;
    if (parts & MOE_HAS_REQUEST)
        ok &= (x->request = filled(x->n_tokens, sizeof *x->request, 0)) != NULL;
    if (parts & MOE_HAS_WEIGHT)
        ok &= (x->weight = unknown_floats(entries)) != NULL;
    if (parts & MOE_HAS_SCORE)
        ok &= (x->score = unknown_floats(scores)) != NULL;
    if (parts & MOE_HAS_LOOKAHEAD)
        ok &= (x->lookahead = unknown_floats(scores)) != NULL;
    if (parts & MOE_HAS_LOG) {
        ok &= (x->log_residency = filled(entries, sizeof *x->log_residency, 0)) != NULL;
        ok &= (x->log_bytes = filled(entries, sizeof *x->log_bytes, 0)) != NULL;
    }
    return ok;
}

enum moe_status moe_tokens_init(struct moe_tokens *tokens, const struct moe_trace_info *info,
                                uint64_t n, unsigned parts, struct moe_err *err)
{
    if (info->n_layers > MOE_MAX_LAYERS || info->n_experts > MOE_MAX_EXPERTS ||
        info->top_k > MOE_MAX_TOP_K)
        return moe_fail(err, MOE_ERR_INPUT,
                        "shape of %u layers, %u experts, top-k %u exceeds %d, "
                        "%d, %d",
                        info->n_layers, info->n_experts, info->top_k, MOE_MAX_LAYERS,
                        MOE_MAX_EXPERTS, MOE_MAX_TOP_K);
    uint64_t bytes;
    char text[32];
    if (!tokens_bytes(info, n, parts, &bytes))
        return moe_fail(err, MOE_ERR_MEMORY, "out of memory for %" PRIu64 " tokens", n);
    if (!fits_in_machine(bytes))
        return moe_fail(err, MOE_ERR_MEMORY,
                        "out of memory for %" PRIu64 " tokens: %s is more than this machine has", n,
                        moe_format_bytes(bytes, text, sizeof text));
    struct moe_tokens x = {.n_tokens = n};
    uint64_t entries = n * info->n_layers * info->top_k,
             scores = n * info->n_layers * info->n_experts;
    x.sequence = filled(n, sizeof *x.sequence, 0);
    x.step = filled(n, sizeof *x.step, 0);
    x.position = filled(n, sizeof *x.position, 0xff); /* two's complement -1: unknown */
    x.token_id = filled(n, sizeof *x.token_id, 0xff);
    x.phase = filled(n, sizeof *x.phase, 0);
    x.expert = filled(entries, sizeof *x.expert, 0xff); /* MOE_NO_EXPERT */
    bool ok = x.sequence && x.step && x.position && x.token_id && x.phase && x.expert;
    if (!allocate_parts(&x, entries, scores, parts) || !ok) {
        moe_tokens_release(&x);
        return moe_fail(err, MOE_ERR_MEMORY, "out of memory for %" PRIu64 " tokens (%s)", n,
                        moe_format_bytes(bytes, text, sizeof text));
    }
    *tokens = x;
    return MOE_OK;
}

void moe_tokens_release(struct moe_tokens *tokens)
{
    free(tokens->sequence);
    free(tokens->step);
    free(tokens->position);
    free(tokens->token_id);
    free(tokens->phase);
    free(tokens->request);
    free(tokens->expert);
    free(tokens->weight);
    free(tokens->score);
    free(tokens->lookahead);
    free(tokens->log_residency);
    free(tokens->log_bytes);
    *tokens = (struct moe_tokens){0};
}

unsigned moe_tokens_parts(const struct moe_tokens *tokens)
{
    return (tokens->weight ? MOE_HAS_WEIGHT : 0u) | (tokens->score ? MOE_HAS_SCORE : 0u) |
           (tokens->lookahead ? MOE_HAS_LOOKAHEAD : 0u) |
           (tokens->log_residency && tokens->log_bytes ? MOE_HAS_LOG : 0u) |
           (tokens->request ? MOE_HAS_REQUEST : 0u);
}

static void copy_rows(void *to, uint64_t at, const void *from, uint64_t first, uint64_t n,
                      size_t row_bytes)
{
    if (to && from)
        memcpy((unsigned char *)to + at * row_bytes,
               (const unsigned char *)from + first * row_bytes, n * row_bytes);
}

void moe_tokens_copy(struct moe_tokens *to, uint64_t at, const struct moe_tokens *from,
                     uint64_t first, uint64_t n, const struct moe_trace_info *info)
{
    const size_t k = (size_t)info->n_layers * info->top_k,
                 e = (size_t)info->n_layers * info->n_experts;
    copy_rows(to->sequence, at, from->sequence, first, n, sizeof *to->sequence);
    copy_rows(to->step, at, from->step, first, n, sizeof *to->step);
    copy_rows(to->position, at, from->position, first, n, sizeof *to->position);
    copy_rows(to->token_id, at, from->token_id, first, n, sizeof *to->token_id);
    copy_rows(to->phase, at, from->phase, first, n, sizeof *to->phase);
    copy_rows(to->request, at, from->request, first, n, sizeof *to->request);
    copy_rows(to->expert, at, from->expert, first, n, k * sizeof *to->expert);
    copy_rows(to->weight, at, from->weight, first, n, k * sizeof *to->weight);
    copy_rows(to->score, at, from->score, first, n, e * sizeof *to->score);
    copy_rows(to->lookahead, at, from->lookahead, first, n, e * sizeof *to->lookahead);
    copy_rows(to->log_residency, at, from->log_residency, first, n, k * sizeof *to->log_residency);
    copy_rows(to->log_bytes, at, from->log_bytes, first, n, k * sizeof *to->log_bytes);
}

void moe_trace_info_release(struct moe_trace_info *info)
{
    free(info->expert_bytes);
    free(info->dense_bytes);
    free(info->header);
    *info = (struct moe_trace_info){0};
}

static bool copy_u64(uint64_t **to, const uint64_t *from, uint32_t n)
{
    *to = from ? malloc(n ? n * sizeof *from : 1) : NULL;
    if (*to)
        memcpy(*to, from, n * sizeof *from);
    return !from || *to;
}

enum moe_status moe_trace_info_copy(struct moe_trace_info *to, const struct moe_trace_info *from,
                                    struct moe_err *err)
{
    struct moe_trace_info copy = *from;
    bool ok = copy_u64(&copy.expert_bytes, from->expert_bytes, from->n_layers);
    ok &= copy_u64(&copy.dense_bytes, from->dense_bytes, from->n_layers);
    copy.header = from->header ? strdup(from->header) : NULL;
    if (!ok || (from->header && !copy.header)) {
        moe_trace_info_release(&copy);
        return moe_fail_memory(err, "the description of a trace");
    }
    *to = copy;
    return MOE_OK;
}

void moe_trace_release(struct moe_trace *trace)
{
    moe_trace_info_release(&trace->info);
    moe_tokens_release(&trace->tokens);
    for (uint64_t i = 0; i < trace->n_sequences; i++) {
        free(trace->sequences[i].label);
        free(trace->sequences[i].category);
    }
    free(trace->sequences);
    *trace = (struct moe_trace){0};
}

static bool same_sequence(const struct moe_tokens *x, uint64_t a, uint64_t b)
{
    return !x->sequence || x->sequence[a] == x->sequence[b];
}

uint64_t moe_step_end(const struct moe_tokens *tokens, uint64_t t)
{
    uint64_t end = t + 1;
    while (end < tokens->n_tokens && tokens->step[end] == tokens->step[t] &&
           same_sequence(tokens, end, t))
        end++;
    return end;
}

struct moe_step_context moe_step_context(const struct moe_tokens *tokens, uint64_t t,
                                         uint64_t sequence_start)
{
    const uint32_t *request = tokens->request;
    const uint64_t end = request ? moe_step_end(tokens, t) : t + 1;
    struct moe_step_context context = {0};
    for (uint64_t i = t; i < end; i++) {
        if (i > t && request[i] == request[i - 1])
            continue;
        uint64_t n = tokens->position[i] >= 0 ? (uint64_t)tokens->position[i] : i - sequence_start;
        context.n_requests++;
        context.longest = n > context.longest ? n : context.longest;
        context.all += n;
    }
    return context;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

struct moe_trace_extent moe_trace_extent(const struct moe_trace *trace, uint64_t max_tokens)
{
    const struct moe_tokens *x = &trace->tokens;
    struct moe_trace_extent extent = {1, 1, 1};
    uint64_t most = max_tokens ? max_tokens : UINT64_MAX, n_decode = 0, start = 0;
    for (uint64_t t = 0, end; t < x->n_tokens && n_decode < most; t = end) {
        end = moe_step_end(x, t);
        if (t > 0 && !same_sequence(x, t, t - 1))
            start = t;
        struct moe_step_context before = moe_step_context(x, t, start);
        extent.context = larger(extent.context, before.longest + end - t);
        extent.caches = larger(extent.caches, before.all + end - t);
        extent.chunk = larger(extent.chunk, end - t);
        n_decode += x->phase[t] == MOE_DECODE ? end - t : 0;
    }
    return extent;
}

static enum moe_status check_request(const struct moe_tokens *x, uint64_t t, struct moe_err *err)
{
    uint64_t at = x->first_token + t;
    if (!x->request)
        return MOE_OK;
    if (x->position[t] < 0)
        return moe_fail(err, MOE_ERR_INPUT,
                        "token %" PRIu64 ": position %d of request %u is not known", at,
                        (int)x->position[t], x->request[t]);
    if (t > 0 && same_sequence(x, t, t - 1) && x->step[t] == x->step[t - 1] &&
        x->request[t] < x->request[t - 1])
        return moe_fail(err, MOE_ERR_INPUT,
                        "token %" PRIu64 ": request %u follows request %u in step %u", at,
                        x->request[t], x->request[t - 1], x->step[t]);
    return MOE_OK;
}

/* Steps, phases and the order of sequences at token t. */
static enum moe_status check_order(const struct moe_tokens *x, uint64_t t, struct moe_err *err)
{
    uint64_t at = x->first_token + t;
    if (x->phase[t] > MOE_DECODE)
        return moe_fail(err, MOE_ERR_INPUT,
                        "token %" PRIu64 ": phase %u is neither 0 (prefill) nor 1 (decode)", at,
                        x->phase[t]);
    if (t == 0)
        return MOE_OK;
    if (x->sequence && x->sequence[t] < x->sequence[t - 1])
        return moe_fail(err, MOE_ERR_INPUT, "token %" PRIu64 ": sequence %u follows sequence %u",
                        at, x->sequence[t], x->sequence[t - 1]);
    if (!same_sequence(x, t, t - 1))
        return MOE_OK;
    if (x->step[t] < x->step[t - 1])
        return moe_fail(err, MOE_ERR_INPUT, "token %" PRIu64 ": step %u follows step %u", at,
                        x->step[t], x->step[t - 1]);
    if (x->step[t] == x->step[t - 1] && x->phase[t] != x->phase[t - 1])
        return moe_fail(err, MOE_ERR_INPUT,
                        "token %" PRIu64 ": phase %u differs from phase %u of its step %u", at,
                        x->phase[t], x->phase[t - 1], x->step[t]);
    return MOE_OK;
}

/* True when one route keeps the format; seen[] is all zero before and after. */
static bool route_ok(const moe_expert *e, const float *w, uint32_t top_k, uint32_t n_experts,
                     uint64_t *seen)
{
    uint32_t n = 0;
    bool ok = true;
    for (; n < top_k && e[n] < n_experts; n++) {
        uint64_t bit = UINT64_C(1) << (e[n] % 64);
        ok &= !(seen[e[n] / 64] & bit);
        seen[e[n] / 64] |= bit;
        ok &= !w || isfinite(w[n]);
    }
    for (uint32_t k = n; k < top_k; k++)
        ok &= e[k] == MOE_NO_EXPERT;
    for (uint32_t k = 0; k < n; k++)
        seen[e[k] / 64] = 0;
    return ok;
}

/* Fast check of the usual route, all present and E <= 64, without branches. False only means that
 * route_ok has to decide. */
static bool route_is_plain(const moe_expert *e, const float *w, uint32_t top_k, uint32_t n_experts)
{
    uint64_t seen = 0, bad = 0;
    for (uint32_t k = 0; k < top_k; k++) {
        uint64_t bit = UINT64_C(1) << (e[k] & 63);
        bad |= (seen & bit) | (e[k] >= n_experts);
        seen |= bit;
    }
    for (uint32_t k = 0; w && k < top_k; k++)
        bad |= isfinite(w[k]) ? 0 : 1;
    return bad == 0;
}

/* Names the first fault of a route known to be bad. */
static enum moe_status explain_route(const moe_expert *e, const float *w,
                                     const struct moe_trace_info *info, uint64_t token,
                                     uint32_t layer, struct moe_err *err)
{
    char place[64];
    snprintf(place, sizeof place, "token %" PRIu64 " layer %u", token, layer);
    for (uint32_t k = 0; k < info->top_k; k++) {
        if (e[k] == MOE_NO_EXPERT)
            continue;
        if (e[k] >= info->n_experts)
            return moe_fail(err, MOE_ERR_INPUT, "%s: expert %u is outside 0..%u", place, e[k],
                            info->n_experts - 1);
        if (k > 0 && e[k - 1] == MOE_NO_EXPERT)
            return moe_fail(err, MOE_ERR_INPUT, "%s: expert %u follows an absent entry", place,
                            e[k]);
        for (uint32_t j = 0; j < k; j++)
            if (e[j] == e[k])
                return moe_fail(err, MOE_ERR_INPUT, "%s: expert %u appears twice in the route",
                                place, e[k]);
        if (w && !isfinite(w[k]))
            return moe_fail(err, MOE_ERR_INPUT, "%s: weight %g of expert %u is not finite", place,
                            isnan(w[k]) ? (double)NAN : (double)w[k], e[k]);
    }
    return moe_fail(err, MOE_ERR_INPUT, "%s: route is not valid", place);
}

/* A row of E scores is all finite, or all NaN where it was not recorded. */
static bool scores_ok(const float *s, uint32_t n)
{
    uint32_t finite = 0, missing = 0;
    for (uint32_t e = 0; e < n; e++) {
        finite += isfinite(s[e]) != 0;
        missing += isnan(s[e]) != 0;
    }
    return finite == n || missing == n;
}

static enum moe_status check_scores(const float *s, const char *what,
                                    const struct moe_trace_info *info, uint64_t token,
                                    struct moe_err *err)
{
    for (uint32_t l = 0; s && l < info->n_layers; l++)
        if (!scores_ok(s + (uint64_t)l * info->n_experts, info->n_experts))
            return moe_fail(err, MOE_ERR_INPUT,
                            "token %" PRIu64 " layer %u: %s scores are neither all finite nor all "
                            "absent",
                            token, l, what);
    return MOE_OK;
}

static enum moe_status check_routes(const struct moe_tokens *x, const struct moe_trace_info *info,
                                    uint64_t t, struct moe_err *err)
{
    uint64_t seen[MOE_MAX_EXPERTS / 64] = {0};
    uint32_t K = info->top_k, E = info->n_experts;
    for (uint32_t l = 0; l < info->n_layers; l++) {
        uint64_t at = (t * info->n_layers + l) * K;
        const moe_expert *e = x->expert + at;
        const float *w = x->weight ? x->weight + at : NULL;
        if (!(E <= 64 && route_is_plain(e, w, K, E)) && !route_ok(e, w, K, E, seen))
            return explain_route(e, w, info, x->first_token + t, l, err);
    }
    return MOE_OK;
}

/* Tokens [begin, end). */
static enum moe_status check_rows(const struct moe_tokens *tokens,
                                  const struct moe_trace_info *info, uint64_t begin, uint64_t end,
                                  struct moe_err *err)
{
    uint64_t row = (uint64_t)info->n_layers * info->n_experts;
    for (uint64_t t = begin; t < end; t++) {
        uint64_t at = tokens->first_token + t;
        const float *score = tokens->score ? tokens->score + t * row : NULL;
        const float *ahead = tokens->lookahead ? tokens->lookahead + t * row : NULL;
        enum moe_status status = check_order(tokens, t, err);
        if (!status)
            status = check_request(tokens, t, err);
        if (!status)
            status = check_routes(tokens, info, t, err);
        if (!status)
            status = check_scores(score, "router", info, at, err);
        if (!status)
            status = check_scores(ahead, "lookahead", info, at, err);
        if (status)
            return status;
    }
    return MOE_OK;
}

/* Large traces are checked by several threads; the first fault in order is the one reported. */
enum moe_status moe_tokens_check(const struct moe_tokens *tokens, const struct moe_trace_info *info,
                                 struct moe_err *err)
{
    enum { PARTS = 16 };
    enum moe_status status[PARTS];
    struct moe_err fault[PARTS];
    const uint64_t n = tokens->n_tokens;
    const unsigned parts = n * info->n_layers * info->top_k < MOE_CHECK_THREADS_FROM ? 1 : PARTS;
#pragma omp parallel for if (parts > 1)
    for (unsigned p = 0; p < parts; p++)
        status[p] = check_rows(tokens, info, n / parts * p, p + 1 < parts ? n / parts * (p + 1) : n,
                               &fault[p]);
    for (unsigned p = 0; p < parts; p++)
        if (status[p]) {
            if (err)
                *err = fault[p];
            return status[p];
        }
    return MOE_OK;
}
