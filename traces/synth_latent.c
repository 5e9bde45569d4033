#include "traces/synth_latent.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Half-lives of 0, 1, 4 and 34 tokens: a guess that spans the lags 1 to 16 of the statistics. */
const double moe_latent_memory[MOE_LATENT_PROCESSES] = {0, 0.5, 0.85, 0.98};

enum moe_status moe_latent_params_init(struct moe_latent_params *params, uint32_t n_experts,
                                       struct moe_err *err)
{
    struct moe_latent_params p = {.share = {1}};
    p.bias = calloc((size_t)n_experts + 1, sizeof *p.bias);
    p.order_bias = calloc((size_t)n_experts + 1, sizeof *p.order_bias);
    if (!p.bias || !p.order_bias) {
        moe_latent_params_release(&p);
        return moe_fail_memory(err, "a synthetic layer");
    }
    *params = p;
    return MOE_OK;
}

void moe_latent_params_release(struct moe_latent_params *params)
{
    free(params->bias);
    free(params->order_bias);
    *params = (struct moe_latent_params){0};
}

enum moe_status moe_latent_init(struct moe_latent *latent, uint32_t n_experts, uint32_t top_k,
                                struct moe_err *err)
{
    struct moe_latent g = {.n_experts = n_experts, .top_k = top_k};
    g.x = calloc((size_t)n_experts * MOE_LATENT_PROCESSES + 1, sizeof *g.x);
    g.draw = calloc((size_t)n_experts * MOE_LATENT_PROCESSES + 1, sizeof *g.draw);
    g.score = calloc((size_t)n_experts + 1, sizeof *g.score);
    g.route = calloc((size_t)top_k + 1, sizeof *g.route);
    if (!g.x || !g.draw || !g.score || !g.route) {
        moe_latent_release(&g);
        return moe_fail_memory(err, "a synthetic layer");
    }
    *latent = g;
    return MOE_OK;
}

void moe_latent_release(struct moe_latent *latent)
{
    free(latent->x);
    free(latent->draw);
    free(latent->score);
    free(latent->route);
    *latent = (struct moe_latent){0};
}

void moe_latent_restart(struct moe_latent *latent)
{
    latent->started = false;
}

/* Nearly normal, mean 0, variance 1: the sum of four 16-bit uniform numbers, scaled. Exact in
 * double, and one random number a draw. */
static double normal(uint64_t x)
{
    uint32_t low = (uint32_t)x, high = (uint32_t)(x >> 32);
    int32_t sum = (int32_t)((low & 0xffff) + (low >> 16) + (high & 0xffff) + (high >> 16));
    return ((double)sum - 4 * 32767.5) * (1.7320508075688772 / 65536);
}

static void advance(struct moe_latent *g, const struct moe_latent_params *params,
                    struct moe_rng *rng)
{
    enum { P = MOE_LATENT_PROCESSES };
    const size_t n = g->n_experts;
    double memory[P], fresh[P], scale[P];
    const double *restrict bias = params->bias;
    double *restrict score = g->score, *restrict x = g->x;
    const uint64_t *restrict draw = g->draw;
    for (int i = 0; i < P; i++) {
        memory[i] = g->started ? moe_latent_memory[i] : 0;
        fresh[i] = sqrt(1 - memory[i] * memory[i]);
        scale[i] = sqrt(params->share[i]);
    }
    moe_rng_fill(rng, g->draw, n * P);
    for (size_t e = 0; e < n; e++) {
        double sum = bias[e];
        for (size_t i = 0; i < P; i++) {
            size_t at = i * n + e;
            x[at] = memory[i] * x[at] + fresh[i] * normal(draw[at]);
            sum += scale[i] * x[at];
        }
        score[e] = sum;
    }
    g->started = true;
}

/* Puts expert e into best[0..n), falling by key (the lower id first where equal); a full list
 * of `limit` loses its last. Returns the new n. */
static uint32_t insert(moe_expert *best, uint32_t n, uint32_t limit, const double *key, uint32_t e)
{
    uint32_t at = n;
    for (; at > 0 && key[best[at - 1]] < key[e]; at--)
        if (at < limit)
            best[at] = best[at - 1];
    if (at < limit)
        best[at] = (moe_expert)e;
    return n < limit ? n + 1 : n;
}

/* What `insert` would choose of all experts where K is 2, from registers: with eight experts that
 * was a third of fitting. */
static void choose_two(moe_expert best[2], const double *score, uint32_t n_experts)
{
    double high = -INFINITY, low = -INFINITY;
    uint32_t first = 0, second = 0;
    for (uint32_t e = 0; e < n_experts; e++)
        if (score[e] > high) {
            second = first;
            low = high;
            first = e;
            high = score[e];
        } else if (score[e] > low) {
            second = e;
            low = score[e];
        }
    best[0] = (moe_expert)first;
    best[1] = (moe_expert)second;
}

static void choose(const struct moe_latent *g, moe_expert *route)
{
    uint32_t n = 0;
    if (g->top_k == 2)
        choose_two(route, g->score, g->n_experts);
    else
        for (uint32_t e = 0; e < g->n_experts; e++)
            n = insert(route, n, g->top_k, g->score, e);
}

void moe_latent_next(struct moe_latent *g, const struct moe_latent_params *params,
                     struct moe_rng *rng, moe_expert *route)
{
    bool copy = g->started && moe_rng_unit(rng) < params->copy;
    advance(g, params, rng);
    if (!copy) {
        uint32_t ordered = 0;
        choose(g, route);
        for (uint32_t k = 0; k < g->top_k; k++)
            g->score[route[k]] += params->order_bias[route[k]];
        for (uint32_t k = 0; k < g->top_k; k++)
            ordered = insert(g->route, ordered, g->top_k, g->score, route[k]);
    }
    memcpy(route, g->route, g->top_k * sizeof *route);
}
