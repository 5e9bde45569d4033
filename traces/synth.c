#include "traces/synth.h"

#include "base/progress.h"
#include "base/rng.h"
#include "base/version.h"
#include "traces/model.h"
#include "traces/synth_spec.h"
#include "traces/synth_stats.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A generator under way. */
struct maker {
    struct moe_synth_config config;
    struct moe_trace trace;
    struct moe_rng rng;
    uint64_t token; /* the one being made */
    bool fresh;     /* it is the first of its sequence */
    uint32_t n_layers, n_experts, top_k;
    moe_expert *order;  /* [L, E] uniform, sticky: a permutation to draw from; zipf: by rank */
    double *popularity; /* [E] zipf: by rank, not normalised */
    /* stats */
    struct moe_stats stats;
    struct moe_latent *latent;        /* [L] */
    struct moe_latent_params *params; /* [L] */
};

static void shuffle_prefix(struct moe_rng *rng, moe_expert *order, uint32_t n, uint32_t prefix)
{
    for (uint32_t i = 0; i < prefix; i++) {
        uint32_t j = i + (uint32_t)moe_rng_below(rng, n - i);
        moe_expert swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

static moe_expert *order_of(struct maker *m, uint32_t layer)
{
    return m->order + (size_t)layer * m->n_experts;
}

static void uniform_route(struct maker *m, uint32_t layer, moe_expert *route)
{
    moe_expert *order = order_of(m, layer);
    shuffle_prefix(&m->rng, order, m->n_experts, m->top_k);
    memcpy(route, order, m->top_k * sizeof *route);
}

/* Draws a rank with probability proportional to left[rank], then sets that to 0. */
static uint32_t draw_rank(struct maker *m, double *left)
{
    double total = 0;
    uint32_t last = 0;
    for (uint32_t r = 0; r < m->n_experts; r++)
        total += left[r];
    double u = moe_rng_unit(&m->rng) * total;
    for (uint32_t r = 0; r < m->n_experts; r++) {
        if (left[r] <= 0)
            continue;
        last = r;
        if (u < left[r])
            break;
        u -= left[r];
    }
    left[last] = 0;
    return last;
}

static void zipf_route(struct maker *m, uint32_t layer, moe_expert *route)
{
    double *left = m->popularity + m->n_experts;
    memcpy(left, m->popularity, m->n_experts * sizeof *left);
    for (uint32_t k = 0; k < m->top_k; k++)
        route[k] = order_of(m, layer)[draw_rank(m, left)];
}

/* The layer's order holds the previous route in its first K places. Each of them is kept with
 * probability `repeat` or gives its place to one that the route did not have, so that `repeat` is
 * exactly the expected repeat per expert. */
static void sticky_route(struct maker *m, uint32_t layer, moe_expert *route)
{
    moe_expert *order = order_of(m, layer);
    uint32_t k_all = m->top_k, n_new = 0;
    if (m->fresh) {
        uniform_route(m, layer, route);
        return;
    }
    shuffle_prefix(&m->rng, order + k_all, m->n_experts - k_all, k_all);
    for (uint32_t k = 0; k < k_all; k++)
        if (moe_rng_unit(&m->rng) >= m->config.repeat) {
            moe_expert swap = order[k];
            order[k] = order[k_all + n_new];
            order[k_all + n_new++] = swap;
        }
    /* A kept expert does not keep its rank in the gate order. */
    shuffle_prefix(&m->rng, order, k_all, k_all);
    memcpy(route, order, k_all * sizeof *route);
}

static void stats_route(struct maker *m, uint32_t layer, moe_expert *route)
{
    if (m->fresh)
        moe_latent_restart(&m->latent[layer]);
    moe_latent_next(&m->latent[layer], &m->params[layer], &m->rng, route);
}

static enum moe_status init_order(struct maker *m, struct moe_err *err)
{
    m->order = calloc((size_t)m->n_layers * m->n_experts, sizeof *m->order);
    m->popularity = calloc((size_t)m->n_experts * 2, sizeof *m->popularity);
    if (!m->order || !m->popularity)
        return moe_fail_memory(err, "a synthetic trace");
    for (uint32_t e = 0; e < m->n_experts; e++)
        m->popularity[e] = pow(e + 1, -m->config.alpha);
    for (uint32_t l = 0; l < m->n_layers; l++) {
        moe_expert *order = order_of(m, l);
        for (uint32_t e = 0; e < m->n_experts; e++)
            order[e] = (moe_expert)e;
        shuffle_prefix(&m->rng, order, m->n_experts, m->n_experts);
    }
    return MOE_OK;
}

static enum moe_status init_latent(struct maker *m, struct moe_err *err)
{
    m->latent = calloc(m->n_layers, sizeof *m->latent);
    m->params = calloc(m->n_layers, sizeof *m->params);
    if (!m->latent || !m->params)
        return moe_fail_memory(err, "a synthetic trace");
    enum moe_status s = MOE_OK;
    for (uint32_t l = 0; !s && l < m->n_layers; l++) {
        s = moe_latent_init(&m->latent[l], m->n_experts, m->top_k, err);
        if (!s)
            s = moe_latent_params_init(&m->params[l], m->n_experts, err);
        if (!s)
            s = moe_stats_fit(&m->stats, l, &m->params[l], err);
    }
    return s;
}

static const struct {
    enum moe_status (*init)(struct maker *, struct moe_err *);
    void (*route)(struct maker *, uint32_t layer, moe_expert *route);
} kinds[] = {
    [MOE_SYNTH_UNIFORM] = {init_order, uniform_route},
    [MOE_SYNTH_ZIPF] = {init_order, zipf_route},
    [MOE_SYNTH_STICKY] = {init_order, sticky_route},
    [MOE_SYNTH_STATS] = {init_latent, stats_route},
};

/* Gate weights: K uniform numbers in (0, 1], falling, divided by their sum; independent of the
 * experts. A stand-in, not a measurement: for K = 2 the first choice has ln 2 = 0.69 on average. */
static void draw_weights(struct maker *m, float *weight)
{
    double draw[MOE_MAX_TOP_K], sum = 0;
    for (uint32_t k = 0; k < m->top_k; k++) {
        double u = 1 - moe_rng_unit(&m->rng);
        uint32_t at = k;
        for (; at > 0 && draw[at - 1] < u; at--)
            draw[at] = draw[at - 1];
        draw[at] = u;
        sum += u;
    }
    for (uint32_t k = 0; k < m->top_k; k++)
        weight[k] = (float)(draw[k] / sum);
}

static void make_token(struct maker *m, uint32_t sequence, uint64_t index)
{
    struct moe_tokens *tokens = &m->trace.tokens;
    uint64_t t = m->token, prompt = m->config.prompt;
    bool decode = index >= prompt;
    tokens->sequence[t] = sequence;
    tokens->position[t] = (int32_t)index;
    tokens->phase[t] = decode ? MOE_DECODE : MOE_PREFILL;
    tokens->step[t] = decode ? (uint32_t)(index - prompt + (prompt > 0)) : 0;
    m->fresh = index == 0;
    for (uint32_t l = 0; l < m->n_layers; l++) {
        uint64_t at = (t * m->n_layers + l) * m->top_k;
        kinds[m->config.kind].route(m, l, tokens->expert + at);
        draw_weights(m, tokens->weight + at);
    }
}

/* Decode tokens of a sequence: divided evenly, the first ones get one more for the remainder. */
static uint64_t decode_tokens(const struct moe_synth_config *c, uint64_t sequence)
{
    uint64_t share = c->tokens / c->sequences;
    return share + (sequence < c->tokens % c->sequences);
}

static enum moe_status make_tokens(struct maker *m, struct moe_err *err)
{
    enum { TOKENS_BETWEEN_LOOKS = 4096 };
    for (uint64_t s = 0; s < m->trace.n_sequences; s++) {
        struct moe_sequence *sequence = &m->trace.sequences[s];
        char kind[16];
        sequence->n_tokens = m->config.prompt + decode_tokens(&m->config, s);
        sequence->label = strdup("synthetic");
        sequence->category =
            strdup(moe_choice_name(moe_synth_kinds, (int)m->config.kind, kind, sizeof kind));
        if (!sequence->label || !sequence->category)
            return moe_fail_memory(err, "a synthetic trace");
        for (uint64_t i = 0; i < sequence->n_tokens; i++, m->token++) {
            if (m->token % TOKENS_BETWEEN_LOOKS == 0 && moe_interrupted())
                return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
            make_token(m, (uint32_t)s, i);
        }
    }
    return MOE_OK;
}

/* Takes a dimension from the statistics file; the spec may repeat it, but not change it. */
static enum moe_status take_shape(uint64_t *asked, uint32_t told, const char *what,
                                  struct moe_err *err)
{
    if (*asked && *asked != told)
        return moe_fail(err, MOE_ERR_USAGE,
                        "%s %" PRIu64 " differs from the %" PRIu32 " of the statistics file", what,
                        *asked, told);
    *asked = told;
    return MOE_OK;
}

static enum moe_status take_statistics(struct maker *m, struct moe_err *err)
{
    struct moe_synth_config *c = &m->config;
    enum moe_status s = moe_stats_load(c->file, &m->stats, err);
    if (!s)
        s = take_shape(&c->layers, m->stats.n_layers, "layers", err);
    if (!s)
        s = take_shape(&c->experts, m->stats.n_experts, "experts", err);
    if (!s)
        s = take_shape(&c->top_k, m->stats.top_k, "top_k", err);
    if (s)
        return s;
    uint64_t length = moe_stats_sequence_tokens(&m->stats);
    if (!c->sequences)
        c->sequences = (c->tokens + length / 2) / length;
    if (!c->sequences)
        c->sequences = 1;
    if (!*c->model)
        memcpy(c->model, m->stats.model, sizeof c->model);
    return MOE_OK;
}

static void set_info(struct maker *m)
{
    struct moe_trace_info *info = &m->trace.info;
    char spec[MOE_TEXT_MAX - 16];
    info->n_layers = m->n_layers = (uint32_t)m->config.layers;
    info->n_experts = m->n_experts = (uint32_t)m->config.experts;
    info->top_k = m->top_k = (uint32_t)m->config.top_k;
    info->synthetic = true;
    info->rows_in_order = true;
    snprintf(info->model, sizeof info->model, "%s", *m->config.model ? m->config.model : "unknown");
    snprintf(info->source, sizeof info->source, "synthetic: %s",
             moe_synth_format(&m->config, spec, sizeof spec));
    snprintf(info->licence, sizeof info->licence, "unknown");
    snprintf(info->tool, sizeof info->tool, "moelab %s synth", MOELAB_VERSION);
    snprintf(info->created, sizeof info->created, "unknown");
    if (m->config.kind == MOE_SYNTH_STATS)
        snprintf(info->note, sizeof info->note,
                 "fitted to routing statistics of %.120s (fnv1a64 %016" PRIx64
                 "); no route is a model's",
                 m->stats.model, m->stats.hash);
}

static enum moe_status allocate(struct maker *m, struct moe_err *err)
{
    const struct moe_synth_config *c = &m->config;
    uint64_t longest = decode_tokens(c, 0) + c->prompt;
    if (longest > INT32_MAX)
        return moe_fail(err, MOE_ERR_USAGE, "%" PRIu64 " tokens of a sequence exceed %" PRId32,
                        longest, INT32_MAX);
    uint64_t n = c->tokens + c->prompt * c->sequences;
    enum moe_status s = moe_tokens_init(&m->trace.tokens, &m->trace.info, n, MOE_HAS_WEIGHT, err);
    if (s)
        return s;
    m->trace.sequences = calloc(c->sequences, sizeof *m->trace.sequences);
    if (!m->trace.sequences)
        return moe_fail_memory(err, "a synthetic trace");
    m->trace.n_sequences = c->sequences;
    return MOE_OK;
}

static enum moe_status make(struct maker *m, struct moe_err *err)
{
    enum moe_status s = m->config.kind == MOE_SYNTH_STATS ? take_statistics(m, err) : MOE_OK;
    if (s)
        return s;
    set_info(m);
    moe_rng_init(&m->rng, m->config.seed);
    s = allocate(m, err);
    if (!s)
        s = kinds[m->config.kind].init(m, err);
    return s ? s : make_tokens(m, err);
}

static void release(struct maker *m)
{
    for (uint32_t l = 0; l < m->n_layers; l++) {
        if (m->latent)
            moe_latent_release(&m->latent[l]);
        if (m->params)
            moe_latent_params_release(&m->params[l]);
    }
    free(m->latent);
    free(m->params);
    free(m->order);
    free(m->popularity);
    moe_stats_release(&m->stats);
}

enum moe_status moe_synth_make(const char *spec, struct moe_trace *out, struct moe_err *err)
{
    return moe_synth_make_for(spec, NULL, out, err);
}

enum moe_status moe_synth_make_for(const char *spec, const struct moe_model *model,
                                   struct moe_trace *out, struct moe_err *err)
{
    struct maker m = {0};
    enum moe_status s = moe_synth_parse_for(spec, model, &m.config, err);
    if (!s)
        s = make(&m, err);
    release(&m);
    if (s) {
        moe_trace_release(&m.trace);
        return s;
    }
    *out = m.trace;
    return MOE_OK;
}
