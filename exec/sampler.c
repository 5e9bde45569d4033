#include "exec/sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum moe_status moe_sampler_init(struct moe_sampler *sampler, uint32_t n_vocab, double temperature,
                                 uint32_t top_k, double top_p, uint64_t seed, struct moe_err *err)
{
    if (!(temperature >= 0) || !isfinite(temperature))
        return moe_fail(err, MOE_ERR_USAGE, "temperature %g is not 0 or more", temperature);
    if (!(top_p > 0 && top_p <= 1))
        return moe_fail(err, MOE_ERR_USAGE, "top_p %g is outside (0, 1]", top_p);
    if (!n_vocab || n_vocab > INT32_MAX)
        return moe_fail(err, MOE_ERR_USAGE, "a vocabulary of %u tokens is outside 1..%d", n_vocab,
                        INT32_MAX);
    struct moe_sampler s = {
        .temperature = temperature, .top_k = top_k, .top_p = top_p, .n_vocab = n_vocab};
    s.order = malloc(n_vocab * sizeof *s.order);
    s.prob = malloc(n_vocab * sizeof *s.prob);
    if (!s.order || !s.prob) {
        moe_sampler_release(&s);
        return moe_fail_memory(err, "a sampler");
    }
    moe_rng_init(&s.rng, seed);
    *sampler = s;
    return MOE_OK;
}

void moe_sampler_release(struct moe_sampler *sampler)
{
    free(sampler->order);
    free(sampler->prob);
    sampler->order = NULL;
    sampler->prob = NULL;
}

static int32_t largest(const float *x, uint32_t n)
{
    int32_t best = -1;
    for (uint32_t i = 0; i < n; i++)
        if (!isnan(x[i]) && (best < 0 || x[i] > x[best]))
            best = (int32_t)i;
    return best;
}

/* Order of tokens: by falling value, equal ones by rising id. */
static bool before(const float *x, uint32_t a, uint32_t b)
{
    return x[a] > x[b] || (!(x[a] < x[b]) && a < b);
}

/* Lets heap[at] sink to its place in a heap of n. first: the root comes before all others, else
 * after them. */
static void sink(uint32_t *heap, size_t n, size_t at, const float *x, bool first)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            return;
        if (child + 1 < n && before(x, heap[child + 1], heap[child]) == first)
            child++;
        if (before(x, heap[child], heap[at]) != first)
            return;
        uint32_t t = heap[at];
        heap[at] = heap[child];
        heap[child] = t;
        at = child;
    }
}

static void make_heap(uint32_t *heap, size_t n, const float *x, bool first)
{
    for (size_t at = n / 2; at-- > 0;)
        sink(heap, n, at, x, first);
}

/* The k-th largest of the logits that are not NaN, with a heap of the k largest so far, whose root
 * is the least; -INFINITY if there are fewer than k. */
static float kth_largest(const float *x, uint32_t n, uint32_t k, uint32_t *heap)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (isnan(x[i]))
            continue;
        if (held == k && x[i] > x[heap[0]]) {
            heap[0] = i;
            sink(heap, k, 0, x, false);
        } else if (held < k) {
            heap[held++] = i;
            if (held == k)
                make_heap(heap, k, x, false);
        }
    }
    return held < k ? -INFINITY : x[heap[0]];
}

/* For the tokens that top_k leaves: weights relative to that of `max` into prob, ids into order.
 * Returns how many. */
static uint32_t weigh(struct moe_sampler *s, const float *logits, float max, double *total)
{
    float least = s->top_k && s->top_k < s->n_vocab
                      ? kth_largest(logits, s->n_vocab, s->top_k, s->order)
                      : -INFINITY;
    uint32_t n = 0;
    *total = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        if (!(logits[i] >= least)) /* NaN, too */
            continue;
        s->prob[i] = (float)exp(((double)logits[i] - (double)max) / s->temperature);
        *total += (double)s->prob[i];
        s->order[n++] = i;
    }
    return n;
}

/* Moves the most probable tokens to the end of order, the first of them last, until they reach
 * top_p; returns how many. Only these are sorted. */
static uint32_t nucleus(struct moe_sampler *s, uint32_t n, double *total)
{
    double wanted = s->top_p * *total, kept = 0;
    uint32_t left = n;
    make_heap(s->order, n, s->prob, true);
    while (left && kept < wanted) {
        uint32_t best = s->order[0];
        s->order[0] = s->order[--left];
        s->order[left] = best;
        kept += (double)s->prob[best];
        sink(s->order, left, 0, s->prob, true);
    }
    *total = kept;
    return n - left;
}

/* Draws one of n tokens by their weights, in order from the last to the first. */
static int32_t draw(struct moe_sampler *s, const uint32_t *tokens, uint32_t n, double total)
{
    double at = moe_rng_unit(&s->rng) * total;
    uint32_t chosen = 0;
    while (n-- > 0) {
        double weight = (double)s->prob[tokens[n]];
        if (weight > 0) /* rounding may leave a remainder, which goes to the last possible token */
            chosen = tokens[n];
        if (at < weight)
            break;
        at -= weight;
    }
    return (int32_t)chosen;
}

int32_t moe_sampler_next(struct moe_sampler *sampler, const float *logits)
{
    int32_t best = largest(logits, sampler->n_vocab);
    if (best < 0 || sampler->temperature <= 0 || !isfinite(logits[best]))
        return best;
    double total = 0;
    uint32_t n = weigh(sampler, logits, logits[best], &total);
    uint32_t kept = sampler->top_p < 1 ? nucleus(sampler, n, &total) : n;
    return draw(sampler, sampler->order + (n - kept), kept, total);
}
