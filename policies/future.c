#include "policies/future.h"

#include "policies/policy.h"

#include <stdlib.h>
#include <string.h>

/* Walks the visited accesses backwards, so that last[] always holds the next use. */
struct walk {
    const struct moe_tokens *tokens;
    uint32_t n_layers, n_experts, top_k;
    uint32_t *last; /* [L * E] ordinal of the use met last, MOE_NEVER before the first */
    uint32_t *next; /* [T * L * K] */
    uint64_t ordinal;
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
            if (expert[at] != MOE_NO_EXPERT)
                w->next[at] = last[expert[at]];
    w->ordinal--;
    for (uint64_t t = begin; t < end; t++)
        for (size_t at = row_of(w, t, layer), stop = at + w->top_k; at < stop; at++)
            if (expert[at] != MOE_NO_EXPERT)
                last[expert[at]] = (uint32_t)w->ordinal;
}

static void walk_accesses(struct walk *w, uint64_t begin, uint64_t end, uint32_t layer)
{
    const moe_expert *expert = w->tokens->expert;
    uint32_t *last = w->last + (size_t)layer * w->n_experts;
    for (uint64_t t = end; t-- > begin;)
        for (size_t start = row_of(w, t, layer), at = start + w->top_k; at-- > start;)
            if (expert[at] != MOE_NO_EXPERT) {
                w->next[at] = last[expert[at]];
                last[expert[at]] = (uint32_t)--w->ordinal;
            }
}

/* How many ordinals the visited part of the trace takes. */
static uint64_t count_ordinals(const struct walk *w, enum moe_contract contract,
                               enum moe_replay_order order, enum moe_phases phases)
{
    const struct moe_tokens *tokens = w->tokens;
    uint64_t n = 0;
    for (uint64_t end = tokens->n_tokens, begin; end > 0; end = begin) {
        begin = step_begin(tokens, end, order);
        if (!visited(tokens, begin, phases))
            continue;
        if (contract == MOE_CONTRACT_EVENT)
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
    struct walk w = {
        .tokens = tokens, .n_layers = n_layers, .n_experts = n_experts, .top_k = top_k};
    w.ordinal = count_ordinals(&w, contract, order, phases);
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
    memset(w.next, 0xff, n_next * sizeof *w.next);
    for (uint64_t end = tokens->n_tokens, begin; end > 0; end = begin) {
        begin = step_begin(tokens, end, order);
        if (!visited(tokens, begin, phases))
            continue;
        for (uint32_t layer = n_layers; layer-- > 0;) {
            if (contract == MOE_CONTRACT_EVENT)
                walk_event(&w, begin, end, layer);
            else
                walk_accesses(&w, begin, end, layer);
        }
    }
    free(w.last);
    *next_use = w.next;
    return MOE_OK;
}
