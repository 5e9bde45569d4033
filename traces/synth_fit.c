#include "base/progress.h"
#include "traces/synth_stats.h"

#include <math.h>
#include <stdlib.h>

/* Stochastic approximation: every round simulates new sequences, measures them with
 * moe_reuse_compute_repeats, and corrects each parameter by its own error; the gain falls, so that
 * the sampling noise averages out. Numbers found by trial on the committed Mixtral statistics. */
enum { ROUNDS = 40, ROUND_TOKENS = 1200, DESCENT_STEPS = 30 };

static const double first_gain = 0.6;   /* of the correction in the first round */
static const double gain_half_time = 4; /* rounds until the gain is half */
static const double share_floor = 1e-3; /* keeps quotients of shares finite */
static const double bias_limit = 20;    /* scores have unit variance: beyond it nothing changes */
static const double least_noise = 0.02; /* share of the memoryless process */
static const double most_copy = 0.9;

struct fit {
    const struct moe_stats_layer *target;
    struct moe_latent_params *params;
    struct moe_latent latent;
    struct moe_rng rng;
    struct moe_trace sample; /* one layer */
    uint64_t sequence_tokens;
};

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

static enum moe_status fit_init(struct fit *f, const struct moe_stats *stats, uint32_t layer,
                                struct moe_latent_params *params, struct moe_err *err)
{
    uint64_t length = moe_stats_sequence_tokens(stats);
    if (length > ROUND_TOKENS / 2)
        length = ROUND_TOKENS / 2;
    uint64_t n = ROUND_TOKENS / length;
    *f = (struct fit){.target = &stats->layer[layer], .params = params, .sequence_tokens = length};
    f->sample.info = (struct moe_trace_info){
        .n_layers = 1, .n_experts = stats->n_experts, .top_k = stats->top_k};
    f->sample.n_sequences = n;
    moe_rng_init(&f->rng, moe_mix64(layer));
    enum moe_status s = moe_latent_init(&f->latent, stats->n_experts, stats->top_k, err);
    return s ? s : moe_tokens_init(&f->sample.tokens, &f->sample.info, n * length, 0, err);
}

static void fit_release(struct fit *f)
{
    moe_latent_release(&f->latent);
    moe_tokens_release(&f->sample.tokens);
}

static void simulate(struct fit *f)
{
    struct moe_tokens *tokens = &f->sample.tokens;
    for (uint64_t t = 0; t < tokens->n_tokens; t++) {
        if (t % f->sequence_tokens == 0)
            moe_latent_restart(&f->latent);
        tokens->sequence[t] = (uint32_t)(t / f->sequence_tokens);
        moe_latent_next(&f->latent, f->params, &f->rng, tokens->expert + t * f->sample.info.top_k);
    }
}

/* About log(target / now); without libm, whose last bits differ between machines. */
static double relative_error(double target, double now)
{
    return 2 * (target - now) / (target + now + share_floor);
}

static double power_of(double x, uint32_t n)
{
    double power = 1;
    for (; n; n--)
        power *= x;
    return power;
}

static void correct_biases(struct fit *f, const struct moe_reuse_layer *now, double gain)
{
    const struct moe_stats_layer *target = f->target;
    for (uint32_t e = 0; e < f->sample.info.n_experts; e++) {
        double popularity = relative_error(target->popularity[e], now->popularity[e]);
        double first = relative_error(target->first_popularity[e], now->first_popularity[e]);
        double *bias = &f->params->bias[e], *order = &f->params->order_bias[e];
        *bias = clamp(*bias + gain * popularity, -bias_limit, bias_limit);
        *order = clamp(*order + gain * (first - popularity), -bias_limit, bias_limit);
    }
}

/* Least squares: shares whose change in score correlation, sum share_i memory_i^lag, accounts for
 * `wanted` at every lag; by coordinate descent, kept within [0, 1 - least_noise]. */
static void solve_shares(double share[MOE_LATENT_PROCESSES],
                         double power[MOE_LATENT_PROCESSES][MOE_LAGS], double wanted[MOE_LAGS])
{
    for (int step = 0; step < DESCENT_STEPS; step++)
        for (int i = 1; i < MOE_LATENT_PROCESSES; i++) {
            double over = 0, under = share_floor, room = 1 - least_noise;
            for (int l = 0; l < MOE_LAGS; l++) {
                over += power[i][l] * wanted[l];
                under += power[i][l] * power[i][l];
            }
            for (int j = 1; j < MOE_LATENT_PROCESSES; j++)
                room -= j == i ? 0 : share[j];
            double change = clamp(share[i] + over / under, 0, fmax(room, 0)) - share[i];
            share[i] += change;
            for (int l = 0; l < MOE_LAGS; l++)
                wanted[l] -= change * power[i][l];
        }
}

static void correct_shares(struct fit *f, const struct moe_reuse_layer *now, double gain)
{
    double power[MOE_LATENT_PROCESSES][MOE_LAGS], wanted[MOE_LAGS], share[MOE_LATENT_PROCESSES];
    /* Repeat rises from chance to 1 as the correlation rises from 0 to 1, at first slowly. */
    double slope = 2.0 / 3 * (1 - (double)f->sample.info.top_k / f->sample.info.n_experts);
    for (int l = 0; l < MOE_LAGS; l++) {
        double error = f->target->repeat_expert[l] - now->repeat_expert[l];
        wanted[l] = isnan(error) || slope <= 0 ? 0 : error / slope;
        for (int i = 0; i < MOE_LATENT_PROCESSES; i++)
            power[i][l] = power_of(moe_latent_memory[i], moe_lags[l]);
    }
    for (int i = 0; i < MOE_LATENT_PROCESSES; i++)
        share[i] = f->params->share[i];
    solve_shares(share, power, wanted);
    double sum = 0;
    for (int i = 1; i < MOE_LATENT_PROCESSES; i++)
        sum += f->params->share[i] += gain * (share[i] - f->params->share[i]);
    f->params->share[0] = clamp(1 - sum, 0, 1);
}

static void correct_copy(struct fit *f, const struct moe_reuse_layer *now, double gain)
{
    double error = f->target->repeat_all - now->repeat_all[0];
    if (!isnan(error))
        f->params->copy = clamp(f->params->copy + gain * error, 0, most_copy);
}

static enum moe_status fit_round(struct fit *f, int round, struct moe_err *err)
{
    struct moe_reuse now;
    simulate(f);
    enum moe_status s = moe_reuse_compute_repeats(&f->sample, &now, err);
    if (s)
        return s;
    double gain = first_gain / (1 + round / gain_half_time);
    correct_biases(f, &now.layer[0], gain);
    correct_shares(f, &now.layer[0], gain);
    correct_copy(f, &now.layer[0], gain);
    moe_reuse_release(&now);
    return MOE_OK;
}

enum moe_status moe_stats_fit(const struct moe_stats *stats, uint32_t layer,
                              struct moe_latent_params *params, struct moe_err *err)
{
    struct fit f;
    enum moe_status s = fit_init(&f, stats, layer, params, err);
    for (int round = 0; !s && round < ROUNDS; round++)
        s = moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted")
                              : fit_round(&f, round, err);
    fit_release(&f);
    return s;
}
