#include "exec/attention.h"

#include <string.h>

/* Keys of one block: their scores are on the stack, and their keys and values stay in the first
 * cache while all heads of the group use them. */
enum { BLOCK = 32 };

static void scale(float *y, uint32_t n, float s)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] *= s;
}

/* One head on the keys of one block: y and the running softmax take them in. */
static void add_block(const struct moe_attention *a, const float *q, const float *keys,
                      const float *values, uint32_t n, struct moe_softmax *r, float *y)
{
    const struct moe_kernels *kernels = a->kernels;
    uint32_t hd = a->head_dim;
    float score[BLOCK], top = r->max, shrink = 1 / sqrtf((float)hd);
    for (uint32_t i = 0; i < n; i++) {
        score[i] = kernels->dot_f32(q, keys + (size_t)i * hd, hd) * shrink;
        top = score[i] > top ? score[i] : top;
    }
    if (top > r->max) {
        float old = moe_expf(r->max - top); /* 0 for the first block: its max was -inf */
        scale(y, hd, old);
        r->sum *= old;
        r->max = top;
    }
    for (uint32_t i = 0; i < n; i++) {
        float p = moe_expf(score[i] - top);
        r->sum += p;
        kernels->axpy_f32(p, values + (size_t)i * hd, hd, y);
    }
}

void moe_attention_run(const struct moe_attention *a, const float *q, const float *keys,
                       const float *values, uint32_t position, struct moe_softmax *state, float *y)
{
    uint32_t hd = a->head_dim, end = position + 1;
    uint32_t first = a->window && end > a->window ? end - a->window : 0;
    memset(y, 0, (size_t)a->group * hd * sizeof *y);
    for (uint32_t h = 0; h < a->group; h++)
        state[h] = (struct moe_softmax){.max = -INFINITY};
    for (uint32_t from = first, to; from < end; from = to) {
        to = from - from % BLOCK + BLOCK; /* blocks end at multiples, whatever the window */
        to = to < end ? to : end;
        for (uint32_t h = 0; h < a->group; h++)
            add_block(a, q + (size_t)h * hd, keys + (size_t)from * hd, values + (size_t)from * hd,
                      to - from, &state[h], y + (size_t)h * hd);
    }
    for (uint32_t h = 0; h < a->group; h++)
        scale(y + (size_t)h * hd, hd, 1 / state[h].sum);
}
