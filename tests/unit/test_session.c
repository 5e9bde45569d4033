/* The same tokens give the same bits in one pass, in chunks and one by one, for any number of
 * threads; and what a session refuses. */
#include "base/progress.h"
#include "base/rng.h"
#include "tests/unit/llm_dirs.h"
#include "tests/unit/run_suite.h"

#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <string.h>

enum { N_TOKENS = 61 };

static const char *const models[] = {
    GOLDEN "mixtral-mqa8-top3-tied", GOLDEN "mixtral-gqa4-window", GOLDEN "mixtral-v5-fused",
    GOLDEN "phimoe-plain",           GOLDEN "phimoe-longrope",     GOLDEN "phimoe-window",
    GOLDEN "qwen3-bias-tied",        GOLDEN "olmoe-v5-gqa",
};
enum { N_MODELS = sizeof models / sizeof *models };

/* How the tokens are passed: chunk tokens at a time, of which the first pass takes `first`. */
struct way {
    uint32_t threads, chunk, first;
};

struct outcome {
    struct routes routes;
    float *logits; /* [V] of the last token */
};

static void random_tokens(int32_t tokens[N_TOKENS], uint32_t n_vocab, uint64_t seed)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    for (int t = 0; t < N_TOKENS; t++)
        tokens[t] = (int32_t)moe_rng_below(&rng, n_vocab);
}

static void feed(struct moe_session *session, const int32_t *tokens, uint32_t from, uint32_t to,
                 uint32_t step, struct outcome *out)
{
    const struct moe_llm_config *c = &moe_session_llm(session)->config;
    struct moe_err err = {0};
    for (uint32_t t = from, n; t < to; t += n) {
        n = to - t < step ? to - t : step;
        struct moe_route_sink sink = sink_at(c, &out->routes, t);
        enum moe_status s = moe_session_forward(session, tokens + t, n, &sink,
                                                t + n == to ? out->logits : NULL, &err);
        ck_assert_msg(s == MOE_OK, "%s", err.text);
        ck_assert_uint_eq(moe_session_length(session), t + n);
    }
}

static struct outcome new_outcome(const struct moe_llm_config *c)
{
    return (struct outcome){new_routes(c, N_TOKENS), must_alloc(c->n_vocab, sizeof(float))};
}

static void free_outcome(struct outcome *o)
{
    free_routes(&o->routes);
    free(o->logits);
}

static struct outcome run_way(const struct moe_llm *llm, const char *kernels, struct way way)
{
    int32_t tokens[N_TOKENS];
    struct outcome out = new_outcome(&llm->config);
    struct moe_session_options options = {
        .chunk = N_TOKENS, .threads = way.threads, .kernels = kernels, .lookahead = true};
    struct moe_session *session = open_session(llm, &options);
    random_tokens(tokens, llm->config.n_vocab, 7);
    moe_session_reset(session, N_TOKENS);
    if (way.first)
        feed(session, tokens, 0, way.first, way.first, &out);
    feed(session, tokens, way.first, N_TOKENS, way.chunk, &out);
    moe_session_free(session);
    return out;
}

/* From token t on. */
static void expect_same(const struct moe_llm_config *c, const struct outcome *a,
                        const struct outcome *b, size_t t, const char *what)
{
    size_t k = (N_TOKENS - t) * c->n_layers * c->top_k,
           e = (N_TOKENS - t) * c->n_layers * c->n_experts;
    struct moe_route_sink x = sink_at(c, &a->routes, t), y = sink_at(c, &b->routes, t);
    ck_assert_msg(!memcmp(x.expert, y.expert, k * sizeof *x.expert), "%s: experts", what);
    ck_assert_msg(!memcmp(x.weight, y.weight, k * sizeof *x.weight), "%s: weights", what);
    ck_assert_msg(!memcmp(x.score, y.score, e * sizeof *x.score), "%s: scores", what);
    ck_assert_msg(!memcmp(x.lookahead, y.lookahead, e * sizeof *x.lookahead), "%s: lookahead",
                  what);
    ck_assert_msg(!memcmp(a->logits, b->logits, c->n_vocab * sizeof *a->logits), "%s: logits",
                  what);
}

START_TEST(same_bits_however_passed)
{
    static const struct way ways[] = {
        {1, 1, 0},        {1, 7, 0}, {1, 32, 5}, {1, 1, 40},
        {2, N_TOKENS, 0}, {3, 9, 0}, {8, 1, 30}, {5, 16, 0},
    };
    struct moe_llm *llm = open_model(models[_i]);
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        const char *kernels = moe_kernel_sets[i]->name;
        if (!moe_kernel_sets[i]->usable())
            continue;
        struct outcome whole = run_way(llm, kernels, (struct way){1, N_TOKENS, 0});
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            char what[200];
            struct outcome other = run_way(llm, kernels, ways[w]);
            snprintf(what, sizeof what, "%s, %s, %u threads, %u tokens, then %u at a time",
                     models[_i], kernels, ways[w].threads, ways[w].first, ways[w].chunk);
            expect_same(&llm->config, &whole, &other, 0, what);
            free_outcome(&other);
        }
        free_outcome(&whole);
    }
    moe_llm_close(llm);
}
END_TEST

/* Nobody said how long the sequence becomes: up to the switch the routes are those of the short
 * factors, from the first token past it everything is as if it had been known. */
START_TEST(crossing_the_switch_unannounced)
{
    struct moe_llm *llm = open_model(GOLDEN "phimoe-longrope");
    const uint32_t original = llm->config.original_context;
    ck_assert_uint_eq(original, 24);
    struct moe_session_options options = {.chunk = 10, .threads = 2, .lookahead = true};
    struct moe_session *session = open_session(llm, &options);
    struct outcome known = run_way(llm, "auto", (struct way){1, N_TOKENS, 0});
    static const uint32_t steps[] = {1, 5, 6, 10};
    int32_t tokens[N_TOKENS];
    random_tokens(tokens, llm->config.n_vocab, 7);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct outcome got = new_outcome(&llm->config);
        uint32_t first = original - original % steps[i]; /* of the pass that crosses it */
        moe_session_reset(session, 0);
        feed(session, tokens, 0, N_TOKENS, steps[i], &got);
        expect_same(&llm->config, &known, &got, first, "past the switch");
        ck_assert(memcmp(known.routes.sink.score, got.routes.sink.score,
                         first * llm->config.n_experts * sizeof(float)) != 0);
        free_outcome(&got);
    }
    free_outcome(&known);
    moe_session_free(session);
    moe_llm_close(llm);
}
END_TEST

/* What a watch saw: how often it was called, the last value, and whether it only rose. */
struct calls {
    uint64_t n, last;
    bool rising;
};

static void count_calls(void *context, uint64_t done)
{
    struct calls *seen = context;
    seen->rising = seen->rising && done > seen->last;
    seen->last = done;
    seen->n++;
}

/* Prefill knows the whole prompt, so the switch is no matter; watch sees every layer of each of the
 * seven passes. */
START_TEST(prefill_in_chunks)
{
    for (size_t m = 0; m < N_MODELS; m++) {
        struct moe_llm *llm = open_model(models[m]);
        struct moe_session_options options = {.chunk = 10, .threads = 2, .lookahead = true};
        struct moe_session *session = open_session(llm, &options);
        struct outcome known = run_way(llm, "auto", (struct way){1, N_TOKENS, 0}),
                       got = new_outcome(&llm->config);
        struct calls seen = {.rising = true};
        int32_t tokens[N_TOKENS];
        struct moe_err err;
        random_tokens(tokens, llm->config.n_vocab, 7);
        ck_assert_int_eq(moe_session_prefill(session, tokens, N_TOKENS, &got.routes.sink,
                                             got.logits, count_calls, &seen, &err),
                         MOE_OK);
        expect_same(&llm->config, &known, &got, 0, "prefill");
        ck_assert_uint_eq(seen.n, (uint64_t)7 * llm->config.n_layers);
        ck_assert_uint_eq(seen.last, (uint64_t)N_TOKENS * llm->config.n_layers);
        ck_assert(seen.rising);
        free_outcome(&known);
        free_outcome(&got);
        moe_session_free(session);
        moe_llm_close(llm);
    }
}
END_TEST

/* A session that was used is as good as a new one; NULL sinks and logits change nothing; and no
 * pass allocates. */
START_TEST(reset_and_absent_outputs)
{
    struct moe_llm *llm = open_model(GOLDEN "phimoe-longrope");
    struct moe_session_options options = {.chunk = N_TOKENS, .threads = 2, .lookahead = true};
    struct moe_session *session = open_session(llm, &options);
    struct outcome known = run_way(llm, "auto", (struct way){1, N_TOKENS, 0}),
                   got = new_outcome(&llm->config);
    int32_t tokens[N_TOKENS], others[N_TOKENS];
    struct moe_route_sink nothing = {0};
    struct moe_err err;
    random_tokens(tokens, llm->config.n_vocab, 7);
    random_tokens(others, llm->config.n_vocab, 8);
    ck_assert_int_eq(moe_session_forward(session, others, 50, NULL, NULL, &err), MOE_OK);
    size_t before = mallinfo2().uordblks;
    moe_session_reset(session, N_TOKENS);
    ck_assert_uint_eq(moe_session_length(session), 0);
    ck_assert_int_eq(moe_session_forward(session, tokens, 20, &nothing, NULL, &err), MOE_OK);
    feed(session, tokens, 20, N_TOKENS, 30, &got);
    ck_assert_uint_eq(mallinfo2().uordblks, before);
    expect_same(&llm->config, &known, &got, 20, "after a reset");
    free_outcome(&known);
    free_outcome(&got);
    moe_session_free(session);
    moe_llm_close(llm);
}
END_TEST

/* Lookahead is what the next layer's router says of this layer's vector: with that router in this
 * layer's place it would be the score. The last layer has none, and unasked there is none at all.
 */
START_TEST(lookahead)
{
    struct moe_llm *llm = open_model(GOLDEN "mixtral-gqa2");
    size_t e = llm->config.n_experts, layers = llm->config.n_layers;
    struct outcome truth = run_way(llm, "auto", (struct way){1, N_TOKENS, 0});
    ck_assert_uint_eq(layers, 2);
    struct moe_matrix own = llm->layers[0].router;
    llm->layers[0].router = llm->layers[1].router;
    struct outcome swapped = run_way(llm, "auto", (struct way){1, N_TOKENS, 0});
    llm->layers[0].router = own;
    for (size_t t = 0; t < N_TOKENS; t++) {
        const float *ahead = truth.routes.sink.lookahead + t * layers * e;
        ck_assert_mem_eq(ahead, swapped.routes.sink.score + t * layers * e, e * sizeof *ahead);
        for (size_t i = 0; i < e; i++)
            ck_assert(isnan(ahead[e + i]));
    }
    struct moe_session_options options = {.chunk = N_TOKENS, .threads = 1};
    struct moe_session *session = open_session(llm, &options);
    int32_t tokens[N_TOKENS];
    random_tokens(tokens, llm->config.n_vocab, 7);
    feed(session, tokens, 0, N_TOKENS, N_TOKENS, &swapped);
    for (size_t i = 0; i < swapped.routes.n_scores; i++)
        ck_assert(isnan(swapped.routes.sink.lookahead[i]));
    ck_assert_mem_eq(swapped.routes.sink.score, truth.routes.sink.score,
                     truth.routes.n_scores * sizeof(float));
    moe_session_free(session);
    free_outcome(&truth);
    free_outcome(&swapped);
    moe_llm_close(llm);
}
END_TEST

static void expect_error(enum moe_status got, const struct moe_err *err, enum moe_status status,
                         const char *text)
{
    ck_assert_int_eq(got, status);
    ck_assert_str_eq(err->text, text);
}

START_TEST(refusals)
{
    struct moe_llm *llm = open_model(GOLDEN "mixtral-gqa2");
    struct moe_session_options options = {.context = 9, .chunk = 4, .threads = 1};
    struct moe_session *session = open_session(llm, &options), *other = NULL;
    struct moe_err err;
    int32_t tokens[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    float logits[50], again[50];
    ck_assert_uint_eq(llm->config.n_vocab, 50);
    ck_assert_uint_eq(moe_session_context(session), 9);
    ck_assert_uint_eq(moe_session_chunk(session), 4);
    expect_error(moe_session_forward(session, tokens, 5, NULL, NULL, &err), &err, MOE_ERR_USAGE,
                 "pass of 5 tokens is outside 1..4");
    expect_error(moe_session_forward(session, tokens, 0, NULL, NULL, &err), &err, MOE_ERR_USAGE,
                 "pass of 0 tokens is outside 1..4");
    expect_error(moe_session_forward(session, (int32_t[]){1, 50}, 2, NULL, NULL, &err), &err,
                 MOE_ERR_USAGE, "token id 50 is outside the vocabulary of 50");
    expect_error(moe_session_forward(session, (int32_t[]){-1}, 1, NULL, NULL, &err), &err,
                 MOE_ERR_USAGE, "token id -1 is outside the vocabulary of 50");
    expect_error(moe_session_prefill(session, tokens, 10, NULL, NULL, NULL, NULL, &err), &err,
                 MOE_ERR_USAGE, "context full: 0 tokens and 10 more exceed its 9");
    ck_assert_int_eq(moe_session_prefill(session, tokens, 8, NULL, NULL, NULL, NULL, &err), MOE_OK);
    expect_error(moe_session_forward(session, tokens, 2, NULL, NULL, &err), &err, MOE_ERR_USAGE,
                 "context full: 8 tokens and 2 more exceed its 9");
    ck_assert_int_eq(moe_session_forward(session, tokens + 8, 1, NULL, logits, &err), MOE_OK);
    expect_error(moe_session_forward(session, tokens, 1, NULL, NULL, &err), &err, MOE_ERR_USAGE,
                 "context full: 9 tokens and 1 more exceed its 9");
    /* A refused pass leaves no trace. */
    moe_session_reset(session, 0);
    ck_assert_int_eq(moe_session_prefill(session, tokens, 9, NULL, again, NULL, NULL, &err),
                     MOE_OK);
    ck_assert_mem_eq(logits, again, sizeof logits);
    moe_session_free(session);
    options.context = 129;
    expect_error(moe_session_new(&other, llm, &options, &err), &err, MOE_ERR_USAGE,
                 "context 129 exceeds the model's 128");
    options = (struct moe_session_options){.threads = 1, .kernels = "fastest"};
    ck_assert_int_eq(moe_session_new(&other, llm, &options, &err), MOE_ERR_USAGE);
    ck_assert_ptr_null(other);
    moe_llm_close(llm);
}
END_TEST

START_TEST(defaults)
{
    struct moe_llm *llm = open_model(GOLDEN "mixtral-gqa2");
    struct moe_session *session = open_session(llm, &(struct moe_session_options){.threads = 2});
    ck_assert_uint_eq(moe_session_context(session), 128);
    ck_assert_uint_eq(moe_session_chunk(session), 128); /* 256, but no more than the context */
    ck_assert_uint_eq(moe_pool_threads(moe_session_pool(session)), 2);
    ck_assert_ptr_eq(moe_session_llm(session), llm);
    moe_session_free(session);
    moe_session_free(NULL);
    moe_llm_close(llm);
}
END_TEST

/* The last test: the flag stays up. */
START_TEST(interrupted)
{
    struct moe_llm *llm = open_model(GOLDEN "phimoe-longrope");
    struct moe_session *session = open_session(llm, &(struct moe_session_options){.threads = 1});
    int32_t tokens[N_TOKENS];
    struct moe_err err;
    random_tokens(tokens, llm->config.n_vocab, 7);
    ck_assert_int_eq(moe_session_forward(session, tokens, 20, NULL, NULL, &err), MOE_OK);
    moe_catch_interrupts();
    ck_assert_int_eq(raise(SIGINT), 0);
    ck_assert_int_eq(moe_session_forward(session, tokens, 1, NULL, NULL, &err),
                     MOE_ERR_INTERRUPTED);
    ck_assert_uint_eq(moe_session_length(session), 20);
    ck_assert_int_eq(moe_session_forward(session, tokens, 10, NULL, NULL, &err),
                     MOE_ERR_INTERRUPTED);
    ck_assert_uint_eq(moe_session_length(session), 0); /* while the cache was made again */
    moe_session_free(session);
    moe_llm_close(llm);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *tc = tcase_create("session");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, same_bits_however_passed, 0, N_MODELS);
    tcase_add_test(tc, crossing_the_switch_unannounced);
    tcase_add_test(tc, prefill_in_chunks);
    tcase_add_test(tc, reset_and_absent_outputs);
    tcase_add_test(tc, lookahead);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, defaults);
    tcase_add_test(tc, interrupted);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
