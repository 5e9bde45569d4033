#include "traces/trace_layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Shortens n rows from `before` to `after` bytes each, in place. */
static void keep_front(void *array, uint64_t n, size_t before, size_t after)
{
    unsigned char *bytes = array;
    for (uint64_t t = 1; array && t < n; t++)
        memmove(bytes + t * after, bytes + t * before, after);
}

static void forget_last(float *lookahead, uint64_t n, uint32_t n_layers, uint32_t n_experts)
{
    for (uint64_t t = 0; lookahead && t < n; t++)
        for (uint32_t e = 0; e < n_experts; e++)
            lookahead[(t * n_layers + n_layers - 1) * n_experts + e] = NAN;
}

static void keep_tokens(struct moe_tokens *x, const struct moe_trace_info *info, uint32_t n_layers)
{
    const size_t k = info->top_k, e = info->n_experts, before = info->n_layers, after = n_layers;
    const struct {
        void *array;
        size_t layer_bytes;
    } parts[] = {
        {x->expert, k * sizeof *x->expert},
        {x->weight, k * sizeof *x->weight},
        {x->score, e * sizeof *x->score},
        {x->lookahead, e * sizeof *x->lookahead},
        {x->log_residency, k * sizeof *x->log_residency},
        {x->log_bytes, k * sizeof *x->log_bytes},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        keep_front(parts[i].array, x->n_tokens, before * parts[i].layer_bytes,
                   after * parts[i].layer_bytes);
    forget_last(x->lookahead, x->n_tokens, n_layers, info->n_experts);
}

static void add_note(struct moe_trace_info *info, uint32_t n_layers)
{
    char before[sizeof info->note];
    memcpy(before, info->note, sizeof before);
    snprintf(info->note, sizeof info->note, "first %u of %u layers%s%.200s", n_layers,
             info->n_layers, *before ? "; " : "", before);
}

enum moe_status moe_trace_keep_layers(struct moe_trace *trace, uint32_t n_layers,
                                      struct moe_err *err)
{
    struct moe_trace_info *info = &trace->info;
    if (n_layers == 0 || n_layers > info->n_layers)
        return moe_fail(err, MOE_ERR_USAGE, "%u layers are outside 1..%u, which the trace has",
                        n_layers, info->n_layers);
    if (n_layers == info->n_layers)
        return MOE_OK;
    keep_tokens(&trace->tokens, info, n_layers);
    add_note(info, n_layers);
    free(info->header);
    info->header = NULL;
    info->n_layers = n_layers;
    return MOE_OK;
}
