/* Logits, router logits, experts and weights against the reference implementation (Hugging Face
 * transformers in float32, or the code published with a model; tests/golden/logits/make.py), on
 * every kernel set of this machine. */
#include "base/file.h"
#include "exec/quantize_model.h"
#include "tests/unit/llm_dirs.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "traces/npy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Errors are relative to the largest magnitude of the vector. The promise is 1e-4 for float32
 * weights and 2e-2 for the others; as the reference computes with the stored weights in both cases,
 * all are held to what they reach, times about four. One set rounds activations to 16 bits. */
static const double limit_exact = 3e-5, limit_rounding = 3e-4;
static const double limit_weight = 1e-3;

struct run {
    /* folder of the goldens; -q8, -q4: of the model with quantized experts, dense-q8, dense-q4:
     * with dense weights of that type and experts of Q4 */
    const char *name;
    const char *run;   /* and the one below it */
    const char *model; /* directory; NULL: the folder itself */
};

static const struct run runs[] = {
    {"mixtral-gqa2", "whole", NULL},
    {"mixtral-mha-top1", "whole", NULL},
    {"mixtral-mqa8-top3-tied", "whole", NULL},
    {"mixtral-gqa4-window", "whole", NULL},
    {"mixtral-long", "whole", NULL},
    {"mixtral-v5-sharded", "whole", NULL},
    {"mixtral-v5-fused", "whole", NULL},
    {"qwen3-renormalised", "whole", NULL},
    {"qwen3-bias-tied", "whole", NULL},
    {"qwen3-v5-fused", "whole", NULL},
    {"olmoe-mha", "whole", NULL},
    {"olmoe-v5-gqa", "whole", NULL},
    {"phimoe-plain", "whole", NULL},
    {"phimoe-longrope", "below", NULL},
    {"phimoe-longrope", "past", NULL},
    {"phimoe-longrope", "cross", NULL},
    {"phimoe-window", "past", NULL},
    {"phimoe-window", "cross", NULL},
    {"phimoe-v5-heads", "whole", NULL},
    {"phimoe-slim", "whole", NULL},
    {"tiny-mixtral", "prompt0", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral", "prompt1", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral", "prompt2", "experiments/models/tiny-mixtral"},
    {"tiny-phimoe", "prompt0", "experiments/models/tiny-phimoe"},
    {"tiny-phimoe", "prompt1", "experiments/models/tiny-phimoe"},
    {"tiny-phimoe", "prompt2", "experiments/models/tiny-phimoe"},
    {"tiny-mixtral-q8", "prompt0", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral-q8", "text", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral-q4", "prompt0", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral-q4", "text", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral-dense-q4", "prompt0", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral-dense-q4", "text", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral-dense-q8", "prompt0", "experiments/models/tiny-mixtral"},
    {"tiny-mixtral-dense-q8", "text", "experiments/models/tiny-mixtral"},
    {"tiny-phimoe-q8", "prompt0", "experiments/models/tiny-phimoe"},
    {"tiny-phimoe-q8", "text", "experiments/models/tiny-phimoe"},
    {"tiny-phimoe-q4", "prompt0", "experiments/models/tiny-phimoe"},
    {"tiny-phimoe-q4", "text", "experiments/models/tiny-phimoe"},
};
enum { N_RUNS = sizeof runs / sizeof *runs };

/* The reference of one run: see make.py. */
struct golden {
    uint32_t n_tokens, prompt, n_logits;
    int32_t *ids;    /* [T] */
    float *logits;   /* [N, V] of the last N positions */
    float *router;   /* [T, L, E] */
    int32_t *expert; /* [T, L, K] */
    float *weight;   /* [T, L, K] */
};

static struct moe_npy parse_npy(const struct run *run, const char *name, char **text)
{
    char path[256];
    struct moe_npy npy;
    struct moe_err err = {0};
    size_t size;
    snprintf(path, sizeof path, GOLDEN "%s/%s/%s.npy", run->name, run->run, name);
    enum moe_status s = moe_file_read(path, 1 << 24, text, &size, &err);
    if (!s)
        s = moe_npy_parse(path, *text, size, &npy, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return npy;
}

static int32_t *read_integers(const struct run *run, const char *name, size_t expected)
{
    char *text;
    struct moe_npy npy = parse_npy(run, name, &text);
    ck_assert_uint_eq(npy.n_items, expected ? expected : npy.n_items);
    int32_t *out = must_alloc(npy.n_items, sizeof *out);
    for (size_t i = 0; i < npy.n_items; i++)
        out[i] = (int32_t)moe_npy_integer(&npy, i);
    free(text);
    return out;
}

static float *read_reals(const struct run *run, const char *name, size_t expected, uint32_t *rows)
{
    char *text;
    struct moe_npy npy = parse_npy(run, name, &text);
    if (expected)
        ck_assert_uint_eq(npy.n_items, expected);
    float *out = must_alloc(npy.n_items, sizeof *out);
    for (size_t i = 0; i < npy.n_items; i++)
        out[i] = (float)moe_npy_real(&npy, i);
    if (rows)
        *rows = (uint32_t)npy.shape[0];
    free(text);
    return out;
}

static struct golden read_golden(const struct run *run, const struct moe_llm_config *c)
{
    struct golden g = {0};
    char *text;
    struct moe_npy ids = parse_npy(run, "ids", &text);
    g.n_tokens = (uint32_t)ids.n_items;
    free(text);
    int32_t *prompt = read_integers(run, "prompt", 1);
    g.prompt = (uint32_t)*prompt;
    free(prompt);
    size_t lk = (size_t)c->n_layers * c->top_k, le = (size_t)c->n_layers * c->n_experts;
    g.ids = read_integers(run, "ids", g.n_tokens);
    g.logits = read_reals(run, "logits", 0, &g.n_logits);
    g.router = read_reals(run, "router", g.n_tokens * le, NULL);
    g.expert = read_integers(run, "expert", g.n_tokens * lk);
    g.weight = read_reals(run, "weight", g.n_tokens * lk, NULL);
    ck_assert_uint_ge(g.n_tokens, g.prompt);
    ck_assert_uint_ge(g.n_tokens, g.n_logits);
    ck_assert_uint_ge(g.n_logits, 1);
    return g;
}

static void free_golden(struct golden *g)
{
    free(g->ids);
    free(g->logits);
    free(g->router);
    free(g->expert);
    free(g->weight);
}

/* max |a - b| and max |b|. */
static double difference(const float *a, const float *b, size_t n, double *scale)
{
    double most = 0;
    *scale = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        most = d <= most ? most : d; /* a NaN is the most */
        *scale = fmax(*scale, fabs((double)b[i]));
    }
    return most;
}

static size_t argmax(const float *x, size_t n, float *margin)
{
    size_t best = 0;
    *margin = INFINITY;
    for (size_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    for (size_t i = 0; i < n; i++)
        if (i != best)
            *margin = fminf(*margin, x[best] - x[i]);
    return best;
}

struct place { /* for messages */
    const struct run *run;
    const char *kernels;
    uint32_t token;
};

static double compare_logits(const float *ours, const float *theirs, size_t n, struct place at,
                             double limit)
{
    double scale, most = difference(ours, theirs, n, &scale);
    float margin, our_margin;
    size_t best = argmax(theirs, n, &margin);
    ck_assert_msg(most / scale <= limit, "%s/%s, %s, token %u: logits off by %g", at.run->name,
                  at.run->run, at.kernels, (unsigned)at.token, most / scale);
    ck_assert_msg((double)margin <= most || argmax(ours, n, &our_margin) == best,
                  "%s/%s, %s, token %u: another best token", at.run->name, at.run->run, at.kernels,
                  (unsigned)at.token);
    return most / scale;
}

static double compare_routes(const struct moe_llm_config *c, const struct routes *ours,
                             const struct golden *g, struct place at, double limit)
{
    double worst = 0;
    for (size_t i = 0; i < ours->n_choices; i++) {
        ck_assert_msg(ours->sink.expert[i] == g->expert[i], "%s/%s, %s: choice %zu is %u, not %d",
                      at.run->name, at.run->run, at.kernels, i, ours->sink.expert[i], g->expert[i]);
        double d = fabs((double)ours->sink.weight[i] - (double)g->weight[i]);
        ck_assert_msg(d <= limit_weight, "%s/%s, %s: weight %zu off by %g", at.run->name,
                      at.run->run, at.kernels, i, d);
    }
    for (size_t i = 0; i < ours->n_scores; i += c->n_experts) {
        double scale, d = difference(ours->sink.score + i, g->router + i, c->n_experts, &scale);
        ck_assert_msg(d / scale <= limit, "%s/%s, %s: router logits %zu off by %g", at.run->name,
                      at.run->run, at.kernels, i, d / scale);
        worst = fmax(worst, d / scale);
    }
    return worst;
}

static double limit_of(const struct moe_llm *llm, const char *kernels)
{
    bool rounds = llm->embedding.dtype == MOE_BF16 && strcmp(kernels, "avx512-bf16") == 0;
    return rounds ? limit_rounding : limit_exact;
}

/* Token by token, so that there are logits at every position. */
static double compare_run(const struct moe_llm *llm, const struct run *run, const struct golden *g,
                          const char *kernels)
{
    const struct moe_llm_config *c = &llm->config;
    struct moe_session_options options = {.chunk = 4, .threads = 1, .kernels = kernels};
    struct moe_session *session = open_session(llm, &options);
    struct routes routes = new_routes(c, g->n_tokens);
    struct place at = {run, kernels, 0};
    float *logits = must_alloc(c->n_vocab, sizeof *logits);
    double worst = 0, limit = limit_of(llm, kernels);
    uint32_t first = g->n_tokens - g->n_logits;
    moe_session_reset(session, g->prompt);
    for (uint32_t t = 0; t < g->n_tokens; t++) {
        struct moe_route_sink sink = sink_at(c, &routes, t);
        struct moe_err err = {0};
        enum moe_status s =
            moe_session_forward(session, &g->ids[t], 1, &sink, t < first ? NULL : logits, &err);
        ck_assert_msg(s == MOE_OK, "%s", err.text);
        at.token = t;
        if (t >= first)
            worst = fmax(worst, compare_logits(logits, g->logits + (size_t)(t - first) * c->n_vocab,
                                               c->n_vocab, at, limit));
    }
    worst = fmax(worst, compare_routes(c, &routes, g, at, limit));
    free(logits);
    free_routes(&routes);
    moe_session_free(session);
    return worst;
}

/* The type that the name ends in; MOE_F32: none. */
static enum moe_dtype quantized_as(const struct run *run)
{
    const char *end = strrchr(run->name, '-');
    return end && !strcmp(end, "-q8") ? MOE_Q8 : end && !strcmp(end, "-q4") ? MOE_Q4 : MOE_F32;
}

/* The model in dir; a quantized one is made of it, and is gone from the disk once it is mapped. */
static struct moe_llm *open_or_quantize(const struct run *run, const char *dir)
{
    struct moe_llm *llm = open_model(dir);
    const enum moe_dtype type = quantized_as(run);
    if (moe_dtype_plain(type))
        return llm;
    char folder[64], out[80];
    struct moe_err err = {0};
    struct moe_quantized done;
    temporary_folder(folder, sizeof folder);
    snprintf(out, sizeof out, "%s/model", folder);
    const bool dense = strstr(run->name, "-dense-");
    const struct moe_quantize what = {llm, dir, out, dense ? MOE_Q4 : type, dense ? type : MOE_F32,
                                      2};
    ck_assert_msg(moe_quantize_model(&what, &done, &err) == MOE_OK, "%s", err.text);
    moe_llm_close(llm);
    llm = open_model(out);
    ck_assert_int_eq((int)llm->layers[0].experts[0].w1.dtype, (int)what.experts);
    ck_assert_int_eq((int)llm->layers[0].q.dtype, (int)(dense ? type : MOE_BF16));
    remove_folder(folder);
    return llm;
}

START_TEST(equals_the_reference)
{
    const struct run *run = &runs[_i];
    char dir[256];
    snprintf(dir, sizeof dir, "%s%s", run->model ? "" : GOLDEN,
             run->model ? run->model : run->name);
    if (run->model && access(dir, F_OK) != 0) {
        printf("%s is not here: its goldens are not compared\n", dir);
        return;
    }
    struct moe_llm *llm = open_or_quantize(run, dir);
    struct golden g = read_golden(run, &llm->config);
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        const struct moe_kernels *set = moe_kernel_sets[i];
        if (set->usable())
            printf("%s/%s, %s: largest relative error %.1e\n", run->name, run->run, set->name,
                   compare_run(llm, run, &g, set->name));
    }
    free_golden(&g);
    moe_llm_close(llm);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("llm_golden");
    TCase *tc = tcase_create("llm_golden");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, equals_the_reference, 0, N_RUNS);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
