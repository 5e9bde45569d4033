#include "policies/future.h"

#include "policies/policy.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Walks the visited accesses backwards, so that last[] always holds the next use. */
struct walk {
    const struct moe_tokens *tokens;
    uint32_t n_layers, n_experts, top_k;
    enum moe_contract contract;
    enum moe_replay_order order;
    enum moe_phases phases;
    uint32_t *last;   /* [L * E] ordinal of the use met last (the next in time), or MOE_NEVER */
    uint32_t *next;   /* [T * L * K] out */
    uint64_t ordinal; /* of the first event of the step under way, or of the access met last */
};

static bool visited(const struct moe_tokens *tokens, uint64_t t, enum moe_phases phases)
{
    return phases == MOE_PHASES_BOTH ||
           (phases == MOE_PHASES_DECODE) == (tokens->phase[t] == MOE_DECODE);
}

static uint64_t step_begin(const struct moe_tokens *tokens, uint64_t end,
                           enum moe_replay_order order)
{
    uint64_t t = end - 1;
    if (order == MOE_ORDER_TOKEN)
        return t;
    while (t > 0 && tokens->sequence[t - 1] == tokens->sequence[t] &&
           tokens->step[t - 1] == tokens->step[t])
        t--;
    return t;
}

static size_t row_of(const struct walk *w, uint64_t t, uint32_t layer)
{
    return ((size_t)t * w->n_layers + layer) * w->top_k;
}

static void walk_event(struct walk *w, uint64_t begin, uint64_t end, uint32_t layer)
{
    const moe_expert *expert = w->tokens->expert;
    uint32_t *last = w->last + (size_t)layer * w->n_experts;
    for (uint64_t t = begin; t < end; t++)
        for (size_t at = row_of(w, t, layer), stop = at + w->top_k; at < stop; at++)
            w->next[at] = expert[at] != MOE_NO_EXPERT ? last[expert[at]] : MOE_NEVER;
    for (uint64_t t = begin; t < end; t++)
        for (size_t at = row_of(w, t, layer), stop = at + w->top_k; at < stop; at++)
            if (expert[at] != MOE_NO_EXPERT)
                last[expert[at]] = (uint32_t)(w->ordinal + layer);
}

static void walk_accesses(struct walk *w, uint64_t begin, uint64_t end, uint32_t layer)
{
    const moe_expert *expert = w->tokens->expert;
    uint32_t *last = w->last + (size_t)layer * w->n_experts;
    for (uint64_t t = end; t-- > begin;)
        for (size_t start = row_of(w, t, layer), at = start + w->top_k; at-- > start;) {
            w->next[at] = MOE_NEVER;
            if (expert[at] != MOE_NO_EXPERT) {
                w->next[at] = last[expert[at]];
                last[expert[at]] = (uint32_t)--w->ordinal;
            }
        }
}

/* Layers [first, end) of a step of one token. No route has an expert twice, so that one pass over
 * the entries can both read and write last[]. */
static void walk_token(struct walk *w, uint64_t t, uint32_t first, uint32_t end)
{
    const bool accesses = w->contract == MOE_CONTRACT_ACCESS;
    const moe_expert *expert = w->tokens->expert + row_of(w, t, 0);
    uint32_t *next = w->next + row_of(w, t, 0), ordinal = (uint32_t)w->ordinal, top_k = w->top_k;
    for (uint32_t layer = end; layer-- > first;) {
        uint32_t *last = w->last + (size_t)layer * w->n_experts;
        ordinal = accesses ? ordinal : (uint32_t)w->ordinal + layer;
        for (size_t start = (size_t)layer * top_k, at = start + top_k; at-- > start;) {
            next[at] = MOE_NEVER;
            if (expert[at] == MOE_NO_EXPERT)
                continue;
            ordinal -= accesses;
            next[at] = last[expert[at]];
            last[expert[at]] = ordinal;
        }
    }
    w->ordinal = accesses ? ordinal : w->ordinal;
}

/* Layers [first, end) of the whole trace. */
static void walk_layers(struct walk w, uint32_t first, uint32_t end)
{
    size_t row = (size_t)(end - first) * w.top_k * sizeof *w.next;
    for (uint64_t stop = w.tokens->n_tokens, begin; stop > 0; stop = begin) {
        begin = step_begin(w.tokens, stop, w.order);
        bool here = visited(w.tokens, begin, w.phases);
        for (uint64_t t = begin; !here && t < stop; t++)
            memset(w.next + row_of(&w, t, first), 0xff, row);
        if (here && w.contract == MOE_CONTRACT_EVENT)
            w.ordinal -= w.n_layers;
        if (here && stop - begin == 1) {
            walk_token(&w, begin, first, end);
            continue;
        }
        for (uint32_t layer = end; here && layer-- > first;) {
            if (w.contract == MOE_CONTRACT_EVENT)
                walk_event(&w, begin, stop, layer);
            else
                walk_accesses(&w, begin, stop, layer);
        }
    }
}

/* Experts belong to one layer, so layers can be walked in parallel, except that ordinals of
 * accesses run through all layers. */
static void walk_all(const struct walk *w)
{
    size_t n_entries = row_of(w, w->tokens->n_tokens, 0);
    bool alone = w->contract == MOE_CONTRACT_ACCESS || n_entries < MOE_FUTURE_THREADS_FROM ||
                 omp_in_parallel();
    uint32_t most = alone ? 1 : (uint32_t)omp_get_max_threads();
    const uint32_t n = most < w->n_layers ? most : w->n_layers;
#pragma omp parallel for num_threads(n)
    for (uint32_t i = 0; i < n; i++)
        walk_layers(*w, w->n_layers * i / n, w->n_layers * (i + 1) / n);
}

/* The number of ordinals that the visited part of the trace has. */
static uint64_t count_ordinals(const struct walk *w)
{
    const struct moe_tokens *tokens = w->tokens;
    uint64_t n = 0;
    for (uint64_t end = tokens->n_tokens, begin; end > 0; end = begin) {
        begin = step_begin(tokens, end, w->order);
        if (!visited(tokens, begin, w->phases))
            continue;
        if (w->contract == MOE_CONTRACT_EVENT)
            n += w->n_layers;
        else
            for (size_t at = row_of(w, begin, 0), stop = row_of(w, end, 0); at < stop; at++)
                n += tokens->expert[at] != MOE_NO_EXPERT;
    }
    return n;
}

enum moe_status moe_future_build(const struct moe_tokens *tokens, uint32_t n_layers,
                                 uint32_t n_experts, uint32_t top_k, enum moe_contract contract,
                                 enum moe_replay_order order, enum moe_phases phases,
                                 uint32_t **next_use, struct moe_err *err)
{
    struct walk w = {.tokens = tokens,
                     .n_layers = n_layers,
                     .n_experts = n_experts,
                     .top_k = top_k,
                     .contract = contract,
                     .order = order,
                     .phases = phases};
    w.ordinal = count_ordinals(&w);
    if (w.ordinal >= MOE_NEVER)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "trace too long for a policy that knows the future: %llu uses exceed the "
                        "limit %llu",
                        (unsigned long long)w.ordinal, (unsigned long long)MOE_NEVER - 1);
    size_t n_last = (size_t)n_layers * n_experts, n_next = row_of(&w, tokens->n_tokens, 0);
    w.last = malloc(n_last * sizeof *w.last + 1);
    w.next = malloc(n_next * sizeof *w.next + 1);
    if (!w.last || !w.next) {
        free(w.last);
        free(w.next);
        return moe_fail_memory(err, "next uses");
    }
    memset(w.last, 0xff, n_last * sizeof *w.last);
    walk_all(&w);
    free(w.last);
    *next_use = w.next;
    return MOE_OK;
}
