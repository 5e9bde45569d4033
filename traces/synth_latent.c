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
    const uint32_t n = g->n_experts;
    double *restrict score = g->score;
    moe_rng_fill(rng, g->draw, (size_t)n * MOE_LATENT_PROCESSES);
    memcpy(score, params->bias, n * sizeof *score);
    for (int i = 0; i < MOE_LATENT_PROCESSES; i++) {
        double memory = g->started ? moe_latent_memory[i] : 0;
        double fresh = sqrt(1 - memory * memory), scale = sqrt(params->share[i]);
        double *restrict x = g->x + (size_t)i * n;
        const uint64_t *restrict draw = g->draw + (size_t)i * n;
        for (uint32_t e = 0; e < n; e++) {
            x[e] = memory * x[e] + fresh * normal(draw[e]);
            score[e] += scale * x[e];
        }
    }
    g->started = true;
}

/* Puts expert e into best[0..n), falling by key (the lower id first where equal); a full list
 * of `limit` loses its last. Returns the new n. */
static uint32_t insert(moe_expert *best, uint32_t n, uint32_t limit, const double *key, uint32_t e)
{
    uint32_t at = n;
    while (at > 0 && key[best[at - 1]] < key[e])
        at--;
    if (at == limit)
        return n;
    uint32_t kept = n < limit ? n : limit - 1;
    memmove(best + at + 1, best + at, (kept - at) * sizeof *best);
    best[at] = (moe_expert)e;
    return kept + 1;
}

void moe_latent_next(struct moe_latent *g, const struct moe_latent_params *params,
                     struct moe_rng *rng, moe_expert *route)
{
    bool copy = g->started && moe_rng_unit(rng) < params->copy;
    advance(g, params, rng);
    if (!copy) {
        uint32_t n = 0, ordered = 0;
        for (uint32_t e = 0; e < g->n_experts; e++)
            n = insert(route, n, g->top_k, g->score, e);
        for (uint32_t k = 0; k < n; k++)
            g->score[route[k]] += params->order_bias[route[k]];
        for (uint32_t k = 0; k < n; k++)
            ordered = insert(g->route, ordered, g->top_k, g->score, route[k]);
    }
    memcpy(route, g->route, g->top_k * sizeof *route);
}
