#include "traces/streaks.h"

static const moe_expert *route_of(const struct moe_trace *trace, uint64_t t, uint32_t layer)
{
    const struct moe_trace_info *info = &trace->info;
    return trace->tokens.expert + (t * info->n_layers + layer) * info->top_k;
}

static bool uses(const struct moe_trace *trace, uint64_t t, uint32_t layer, moe_expert expert)
{
    const moe_expert *route = route_of(trace, t, layer);
    for (uint32_t k = 0; k < trace->info.top_k && route[k] != MOE_NO_EXPERT; k++)
        if (route[k] == expert)
            return true;
    return false;
}

/* Is t - back a decode token of the same sequence? */
static bool has_before(const struct moe_tokens *tokens, uint64_t t, uint64_t back)
{
    return back <= t && tokens->sequence[t - back] == tokens->sequence[t] &&
           tokens->phase[t - back] == MOE_DECODE;
}

static uint32_t streak_of(const struct moe_trace *trace, uint64_t t, uint32_t layer)
{
    const moe_expert *route = route_of(trace, t, layer);
    uint32_t longest = 0;
    for (uint32_t k = 0; k < trace->info.top_k && route[k] != MOE_NO_EXPERT; k++) {
        uint32_t n = 0;
        while (n < MOE_STREAK_MAX && has_before(&trace->tokens, t, n + 1) &&
               uses(trace, t - n - 1, layer, route[k]))
            n++;
        longest = n > longest ? n : longest;
    }
    return longest;
}

struct moe_streaks moe_streaks_of_layer(const struct moe_trace *trace, uint32_t layer)
{
    struct moe_streaks s = {0};
    for (uint64_t t = 1; t < trace->tokens.n_tokens; t++) {
        if (trace->tokens.phase[t] != MOE_DECODE || !has_before(&trace->tokens, t, 1) ||
            route_of(trace, t, layer)[0] == MOE_NO_EXPERT)
            continue;
        s.n++;
        s.count[streak_of(trace, t, layer)]++;
    }
    return s;
}
