#include "traces/reuse_prompts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The first run of prefill tokens of a sequence, as bytes: token ids or whole routes. */
struct prompt {
    const unsigned char *data;
    size_t bytes;
};

static int compare_prompts(const void *pa, const void *pb)
{
    const struct prompt *a = pa, *b = pb;
    int order = memcmp(a->data, b->data, a->bytes < b->bytes ? a->bytes : b->bytes);
    return order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static size_t common_prefix(const struct prompt *a, const struct prompt *b, size_t unit)
{
    size_t limit = a->bytes < b->bytes ? a->bytes : b->bytes, n = 0;
    while (n < limit && memcmp(a->data + n, b->data + n, unit) == 0)
        n += unit;
    return n;
}

static bool knows_prompt_ids(const struct moe_tokens *tokens)
{
    if (!tokens->token_id)
        return false;
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        if (tokens->phase[t] == MOE_PREFILL && tokens->token_id[t] < 0)
            return false;
    return true;
}

/* Some logs have a row for the prefill but nothing in it: such rows would all seem the same. */
static bool has_route(const struct moe_trace *trace, uint64_t t)
{
    uint64_t n = (uint64_t)trace->info.n_layers * trace->info.top_k;
    for (uint64_t i = 0; i < n; i++)
        if (trace->tokens.expert[t * n + i] != MOE_NO_EXPERT)
            return true;
    return false;
}

static size_t collect_prompts(const struct moe_trace *trace, struct prompt *prompts, size_t *unit)
{
    const struct moe_tokens *x = &trace->tokens;
    bool by_id = knows_prompt_ids(x);
    const unsigned char *base = (const unsigned char *)x->token_id;
    size_t n = 0;
    *unit = sizeof *x->token_id;
    if (!by_id) {
        base = (const unsigned char *)x->expert;
        *unit = (size_t)trace->info.n_layers * trace->info.top_k * sizeof *x->expert;
    }
    for (uint64_t t = 0, end; t < x->n_tokens && n < trace->n_sequences; t = end) {
        uint64_t known = t;
        for (end = t; end < x->n_tokens && x->sequence[end] == x->sequence[t]; end++)
            if (known == end && x->phase[end] == MOE_PREFILL && (by_id || has_route(trace, end)))
                known++;
        if (known > t)
            prompts[n++] = (struct prompt){base + t * *unit, (size_t)(known - t) * *unit};
    }
    return n;
}

static double mean_common_share(const struct prompt *prompts, size_t n, size_t unit)
{
    size_t before = 0;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        size_t after = i + 1 < n ? common_prefix(&prompts[i], &prompts[i + 1], unit) : 0;
        sum += (double)(after > before ? after : before) / (double)prompts[i].bytes;
        before = after;
    }
    return n ? sum / (double)n : NAN;
}

/* In lexicographic order the longest common prefix is with a neighbour. */
enum moe_status moe_prompt_common_share(const struct moe_trace *trace, double *out,
                                        struct moe_err *err)
{
    struct prompt *prompts = calloc(trace->n_sequences + 1, sizeof *prompts);
    if (!prompts)
        return moe_fail_memory(err, "the prompts of the sequences");
    size_t unit, n = collect_prompts(trace, prompts, &unit);
    qsort(prompts, n, sizeof *prompts, compare_prompts);
    *out = mean_common_share(prompts, n, unit);
    free(prompts);
    return MOE_OK;
}
