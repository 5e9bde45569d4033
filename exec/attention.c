#include "exec/attention.h"

#include <string.h>

/* Adds n keys of a block, all visible to the token, for each of its heads in the group. */
static void add_block(const struct moe_attention *a, const float *q, const float *keys,
                      const float *values, uint32_t n, struct moe_softmax *state, float *y)
{
    const size_t hd = a->head_dim;
    for (uint32_t h = 0; h < a->group; h++)
        a->kernels->attend(q + h * hd, keys, values, n, a->head_dim, &state[h], y + h * hd);
}

/* The first key that is visible from a position. */
static uint32_t first_key(const struct moe_attention *a, uint32_t position)
{
    const uint32_t end = position + 1;
    return a->window && end > a->window ? end - a->window : 0;
}

static void begin(const struct moe_attention *a, struct moe_softmax *state, float *y)
{
    memset(y, 0, (size_t)a->group * a->head_dim * sizeof *y);
    for (uint32_t h = 0; h < a->group; h++)
        state[h] = (struct moe_softmax){.max = -INFINITY};
}

static void end(const struct moe_attention *a, const struct moe_softmax *state, float *y)
{
    for (uint32_t h = 0; h < a->group; h++, y += a->head_dim) {
        const float share = 1 / state[h].sum;
        for (uint32_t i = 0; i < a->head_dim; i++)
            y[i] *= share;
    }
}

/* Block by block, so that a block's keys and values stay in the cache for all tokens and heads.
 * Blocks begin at multiples of MOE_ATTENTION_KEYS, whatever the window and the tokens, so that the
 * order of sums depends on positions alone. */
void moe_attention_run(const struct moe_attention *a, uint32_t n_tokens, const float *q,
                       const float *keys, const float *values, uint32_t position,
                       struct moe_softmax *state, float *y)
{
    const size_t hd = a->head_dim, heads = a->n_heads, row = heads * hd;
    const uint32_t first = first_key(a, position), last = position + n_tokens;
    for (uint32_t t = 0; t < n_tokens; t++)
        begin(a, state + t * heads, y + t * row);
    for (uint32_t block = first - first % MOE_ATTENTION_KEYS; block < last;
         block += MOE_ATTENTION_KEYS)
        for (uint32_t t = 0; t < n_tokens; t++) {
            const uint32_t low = first_key(a, position + t), from = low > block ? low : block;
            const uint32_t seen = position + t + 1, stop = block + MOE_ATTENTION_KEYS;
            const uint32_t to = seen < stop ? seen : stop;
            if (from < to)
                add_block(a, q + t * row, keys + from * hd, values + from * hd, to - from,
                          state + t * heads, y + t * row);
        }
    for (uint32_t t = 0; t < n_tokens; t++)
        end(a, state + t * heads, y + t * row);
}
