/* Random traces for property tests: every shape that a trace may have, small. */
#ifndef MOELAB_TESTS_RANDOM_TRACE_H
#define MOELAB_TESTS_RANDOM_TRACE_H

#include "base/rng.h"
#include "tests/unit/run_suite.h"
#include "traces/trace.h"

#include <stdlib.h>
#include <string.h>

/* The shape that random_trace fills. */
struct random_shape {
    uint32_t n_layers, n_experts, top_k, n_tokens;
    bool absent; /* some rows have fewer than K experts, or none */
    bool many;   /* some passes have several tokens (prefill) */
};

static void random_row(struct moe_rng *rng, const struct random_shape *shape,
                       const moe_expert *before, moe_expert *row)
{
    uint32_t n = shape->top_k;
    if (shape->absent && moe_rng_below(rng, 8) == 0)
        n = (uint32_t)moe_rng_below(rng, shape->top_k + 1u);
    for (uint32_t k = 0; k < n; k++) {
        bool again;
        do {
            bool repeat = before && before[k] != MOE_NO_EXPERT && moe_rng_below(rng, 3) == 0;
            row[k] = repeat ? before[k] : (moe_expert)moe_rng_below(rng, shape->n_experts);
            again = false;
            for (uint32_t j = 0; j < k; j++)
                again |= row[j] == row[k];
        } while (again);
    }
}

static void random_steps(struct moe_rng *rng, const struct random_shape *shape,
                         struct moe_tokens *tokens)
{
    uint32_t sequence = 0, step = 0;
    for (uint32_t t = 0, end; t < shape->n_tokens; t = end) {
        bool prefill = shape->many && moe_rng_below(rng, 5) == 0;
        uint32_t n = prefill ? 1 + (uint32_t)moe_rng_below(rng, 6) : 1;
        end = t + n < shape->n_tokens ? t + n : shape->n_tokens;
        if (t > 0 && moe_rng_below(rng, 12) == 0) {
            sequence++;
            step = 0;
        }
        for (uint32_t i = t; i < end; i++) {
            tokens->sequence[i] = sequence;
            tokens->step[i] = step;
            tokens->phase[i] = prefill ? MOE_PREFILL : MOE_DECODE;
        }
        step++;
    }
}

static void random_trace(struct moe_rng *rng, const struct random_shape *shape,
                         struct moe_trace *trace)
{
    struct moe_err err;
    memset(trace, 0, sizeof *trace);
    trace->info.n_layers = shape->n_layers;
    trace->info.n_experts = shape->n_experts;
    trace->info.top_k = shape->top_k;
    trace->info.rows_in_order = true;
    ck_assert_int_eq(moe_tokens_init(&trace->tokens, &trace->info, shape->n_tokens, 0, &err),
                     MOE_OK);
    random_steps(rng, shape, &trace->tokens);
    size_t token = (size_t)shape->n_layers * shape->top_k;
    for (uint32_t t = 0; t < shape->n_tokens; t++)
        for (uint32_t l = 0; l < shape->n_layers; l++) {
            moe_expert *row = trace->tokens.expert + t * token + (size_t)l * shape->top_k;
            random_row(rng, shape, t > 0 ? row - token : NULL, row);
        }
    ck_assert_int_eq(moe_tokens_check(&trace->tokens, &trace->info, &err), MOE_OK);
}

#endif
