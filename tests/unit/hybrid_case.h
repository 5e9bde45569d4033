/* Runs a model's tokens under a strategy on any device and compares with the CPU alone. */
#ifndef MOELAB_TESTS_HYBRID_CASE_H
#define MOELAB_TESTS_HYBRID_CASE_H

#include "base/rng.h"
#include "exec/hybrid.h"
#include "tests/unit/llm_dirs.h"
#include "traces/trace.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N_TOKENS = 24, PROMPT = 9, CHUNK = 5 };

struct outcome {
    struct routes routes;
    float *logits;   /* [N_TOKENS, V]; of the last token of each pass */
    uint32_t n_done; /* tokens whose passes succeeded */
};

static inline void random_tokens(int32_t *tokens, uint32_t n, uint32_t n_vocab, uint64_t seed)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    for (uint32_t t = 0; t < n; t++)
        tokens[t] = (int32_t)moe_rng_below(&rng, n_vocab);
}

static inline struct outcome new_outcome(const struct moe_llm_config *c)
{
    return (struct outcome){new_routes(c, N_TOKENS),
                            must_alloc((size_t)N_TOKENS * c->n_vocab, sizeof(float)), 0};
}

static inline void free_outcome(struct outcome *o)
{
    free_routes(&o->routes);
    free(o->logits);
}

/* Runs the prompt in passes of several tokens, then token by token. */
static inline enum moe_status feed(struct moe_session *session, const int32_t *tokens,
                                   struct outcome *out, struct moe_err *err)
{
    const struct moe_llm_config *c = &moe_session_llm(session)->config;
    moe_session_reset(session, PROMPT);
    out->n_done = 0;
    enum moe_status s =
        moe_session_prefill(session, tokens, PROMPT, &out->routes.sink,
                            out->logits + (size_t)(PROMPT - 1) * c->n_vocab, NULL, NULL, err);
    for (uint32_t t = PROMPT; t < N_TOKENS && !s; t++) {
        struct moe_route_sink sink = sink_at(c, &out->routes, t);
        out->n_done = t;
        s = moe_session_forward(session, tokens + t, 1, &sink, out->logits + (size_t)t * c->n_vocab,
                                err);
    }
    if (!s)
        out->n_done = N_TOKENS;
    return s;
}

static inline void set(struct moe_strategy *strategy, const char *key, const char *value)
{
    struct moe_err err = {0};
    enum moe_status s = moe_strategy_set(strategy, key, value, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
}

static inline struct moe_strategy load(const char *name, const char *geometry)
{
    struct moe_strategy strategy;
    struct moe_err err = {0};
    char path[128];
    snprintf(path, sizeof path, "experiments/strategies/%s.yaml", name);
    enum moe_status s = moe_strategy_load(path, &strategy, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    if (geometry)
        set(&strategy, "geometry", geometry);
    set(&strategy, "threads", "2");
    return strategy;
}

/* A model, tokens, and the results of the CPU alone with a kernel set (NULL: "auto"). */
struct subject {
    const struct moe_llm *llm;
    struct moe_llm *opened;              /* llm if opened here, else NULL */
    const struct moe_llm_config *config; /* llm's */
    const char *kernels;
    int32_t tokens[N_TOKENS];
    struct outcome want;
};

static inline struct subject subject_of(const struct moe_llm *llm, const char *kernels,
                                        uint64_t seed)
{
    struct subject x = {.llm = llm, .kernels = kernels};
    const struct moe_session_options options = {
        .context = 64, .threads = 1, .kernels = kernels, .lookahead = true};
    struct moe_session *session = open_session(x.llm, &options);
    struct moe_err err = {0};
    x.config = &x.llm->config;
    random_tokens(x.tokens, N_TOKENS, x.config->n_vocab, seed);
    x.want = new_outcome(x.config);
    ck_assert_msg(feed(session, x.tokens, &x.want, &err) == MOE_OK, "%s", err.text);
    moe_session_free(session);
    return x;
}

static inline struct subject open_subject(const char *model, const char *kernels, uint64_t seed)
{
    struct moe_llm *opened = open_model(model);
    struct subject x = subject_of(opened, kernels, seed);
    x.opened = opened;
    return x;
}

static inline void close_subject(struct subject *x)
{
    free_outcome(&x->want);
    moe_llm_close(x->opened);
}

/* The subject's tokens as a trace with the routes that the CPU chose: a prompt in passes of CHUNK,
 * then one token a pass. */
static inline struct moe_trace trace_of(const struct subject *x)
{
    const struct moe_llm_config *c = x->config;
    struct moe_trace t = {
        .info = {.n_layers = c->n_layers, .n_experts = c->n_experts, .top_k = c->top_k}};
    const struct moe_route_sink *sink = &x->want.routes.sink;
    const size_t lk = (size_t)N_TOKENS * c->n_layers * c->top_k;
    const size_t le = (size_t)N_TOKENS * c->n_layers * c->n_experts;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_tokens_init(&t.tokens, &t.info, N_TOKENS,
                                     MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD, &err),
                     MOE_OK);
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        t.tokens.step[i] = i < PROMPT ? i / CHUNK : i;
        t.tokens.position[i] = (int32_t)i;
        t.tokens.token_id[i] = x->tokens[i];
        t.tokens.phase[i] = i < PROMPT ? MOE_PREFILL : MOE_DECODE;
    }
    memcpy(t.tokens.expert, sink->expert, lk * sizeof *sink->expert);
    memcpy(t.tokens.weight, sink->weight, lk * sizeof *sink->weight);
    memcpy(t.tokens.score, sink->score, le * sizeof *sink->score);
    memcpy(t.tokens.lookahead, sink->lookahead, le * sizeof *sink->lookahead);
    return t;
}

/* A session on a device. */
struct hybrid_run {
    struct moe_session *session;
    struct moe_hybrid *hybrid; /* NULL after an error */
};

static inline enum moe_status hybrid_open(struct hybrid_run *run, const struct subject *x,
                                          struct moe_device *device,
                                          const struct moe_strategy *strategy, struct moe_err *err)
{
    const struct moe_session_options session_options = {
        .context = 64, .chunk = CHUNK, .threads = 1, .kernels = x->kernels};
    const struct moe_hybrid_options options = {
        .strategy = strategy, .store = {.kind = MOE_STORE_PINNED}, .pool = {.kernels = x->kernels}};
    *run = (struct hybrid_run){.session = open_session(x->llm, &session_options)};
    return moe_hybrid_new(&run->hybrid, device, run->session, &options, err);
}

static inline void hybrid_close(struct hybrid_run *run)
{
    moe_hybrid_free(run->hybrid);
    moe_session_free(run->session);
}

/* Runs the tokens on the device under the strategy. */
static inline enum moe_status run_hybrid(const struct subject *x, struct moe_device *device,
                                         const struct moe_strategy *strategy, struct outcome *out,
                                         struct moe_err *err)
{
    struct hybrid_run run;
    out->n_done = 0;
    enum moe_status s = hybrid_open(&run, x, device, strategy, err);
    if (!s)
        s = feed(run.session, x->tokens, out, err);
    hybrid_close(&run);
    return s;
}

/* Expects the same bits as on the CPU for all tokens that were done. */
static inline void expect_same(const struct subject *x, const struct outcome *got, const char *what)
{
    const size_t n = (size_t)got->n_done * x->config->n_layers * x->config->top_k;
    const size_t v = x->config->n_vocab;
    const struct moe_route_sink *a = &x->want.routes.sink, *b = &got->routes.sink;
    ck_assert_msg(!memcmp(a->expert, b->expert, n * sizeof *a->expert), "%s: routes", what);
    ck_assert_msg(!memcmp(a->weight, b->weight, n * sizeof *a->weight), "%s: weights", what);
    for (uint32_t t = PROMPT - 1; t < got->n_done; t++)
        ck_assert_msg(!memcmp(x->want.logits + t * v, got->logits + t * v, v * sizeof(float)),
                      "%s: logits of token %u", what, (unsigned)t);
}

/* Returns true if token t has another route than on the CPU, so that later results cannot be
 * compared. Fails unless the scores of the experts that differ are nearly equal. */
static inline bool expect_routes_near(const struct subject *x, const struct outcome *got,
                                      uint32_t t, double limit, const char *what)
{
    const struct moe_llm_config *c = x->config;
    const struct moe_route_sink a = sink_at(c, &x->want.routes, t), b = sink_at(c, &got->routes, t);
    for (uint32_t i = 0; i < c->n_layers * c->top_k; i++) {
        const float *score = a.score + (size_t)(i / c->top_k) * c->n_experts;
        double scale = 0;
        if (a.expert[i] == b.expert[i])
            continue;
        for (uint32_t e = 0; e < c->n_experts; e++)
            scale = fmax(scale, fabs((double)score[e]));
        ck_assert_msg(fabs((double)score[a.expert[i]] - (double)score[b.expert[i]]) <=
                          limit * scale,
                      "%s: token %u has another route", what, (unsigned)t);
        return true;
    }
    return false;
}

/* Returns the largest difference of logits relative to the largest logit; fails if it exceeds
 * `limit`. */
static inline double expect_near(const struct subject *x, const struct outcome *got, double limit,
                                 const char *what)
{
    const struct moe_llm_config *c = x->config;
    double worst = 0;
    for (uint32_t t = 0; t < got->n_done; t++) {
        const float *a = x->want.logits + (size_t)t * c->n_vocab;
        const float *b = got->logits + (size_t)t * c->n_vocab;
        double scale = 0, most = 0;
        if (expect_routes_near(x, got, t, limit, what))
            return worst;
        for (uint32_t i = 0; i < c->n_vocab && t >= PROMPT - 1; i++) {
            const double d = fabs((double)a[i] - (double)b[i]);
            most = d <= most ? most : d; /* keeps a NaN */
            scale = fmax(scale, fabs((double)a[i]));
        }
        ck_assert_msg(most <= limit * scale, "%s: logits of token %u off by %g", what, (unsigned)t,
                      most / scale);
        worst = fmax(worst, scale > 0 ? most / scale : 0);
    }
    return worst;
}

static const char *const models[] = {GOLDEN "mixtral-mqa8-top3-tied", GOLDEN "mixtral-gqa4-window",
                                     GOLDEN "phimoe-longrope", GOLDEN "qwen3-renormalised",
                                     GOLDEN "olmoe-mha"};
enum { N_MODELS = sizeof models / sizeof *models };

static const struct hybrid_case {
    const char *strategy, *geometry;
} hybrid_cases[] = {
    {"cpu-only", NULL},       {"on-demand", NULL},         {"collab", "2x2"},
    {"collab", "1x3"},        {"collab", "global:3"},      {"collab", "all"},
    {"collab", "global:1"},   {"collab-reference", "2x2"}, {"collab-reference", "1x1"},
    {"static-random", "2x2"}, {"ncmoe", "ncmoe:1"},
};
enum { N_HYBRID_CASES = sizeof hybrid_cases / sizeof *hybrid_cases };

/* Cases in which slots are overwritten all the time. */
static const struct hybrid_case busy_cases[] = {
    {"collab", "global:2"},
    {"collab", "2x2"}, /* with copies begun at once and prefetches: load_busy */
    {"on-demand", NULL},
    {"collab-reference", "2x1"},
};
enum { N_BUSY_CASES = sizeof busy_cases / sizeof *busy_cases };

static inline struct moe_strategy load_busy(size_t k)
{
    struct moe_strategy strategy = load(busy_cases[k].strategy, busy_cases[k].geometry);
    if (k == 1) {
        set(&strategy, "fill.when", "at-once");
        set(&strategy, "prefetcher", "previous-token");
    }
    return strategy;
}

/* Repeats the run on one device until at least n steps are done; each run must have the bits of the
 * CPU. Returns the number of steps. */
static inline uint32_t expect_same_again(const struct subject *x, struct moe_device *device,
                                         size_t busy, uint32_t n)
{
    enum { STEPS = N_TOKENS - PROMPT + 2 };
    const struct moe_strategy strategy = load_busy(busy);
    struct outcome got = new_outcome(x->config);
    struct hybrid_run run;
    struct moe_err err = {0};
    uint32_t done = 0;
    ck_assert_msg(!hybrid_open(&run, x, device, &strategy, &err), "%s", err.text);
    for (; done < n; done += STEPS) {
        ck_assert_msg(!feed(run.session, x->tokens, &got, &err), "%s", err.text);
        expect_same(x, &got, busy_cases[busy].strategy);
    }
    hybrid_close(&run);
    free_outcome(&got);
    return done;
}

#endif
