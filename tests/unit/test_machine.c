/* The real machine on the `host` device: the same bits as the CPU alone for every strategy,
 * geometry and number of threads, whatever is delayed; and what is left of it after faults. */
#include "base/rng.h"
#include "exec/hybrid.h"
#include "tests/unit/llm_dirs.h"
#include "tests/unit/sanitizer.h"

#include <string.h>

enum { N_TOKENS = 24, PROMPT = 9, CHUNK = 5 };

struct outcome {
    struct routes routes;
    float *logits; /* [N_TOKENS, V]; of the last token of each pass */
};

static void random_tokens(int32_t *tokens, uint32_t n, uint32_t n_vocab, uint64_t seed)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    for (uint32_t t = 0; t < n; t++)
        tokens[t] = (int32_t)moe_rng_below(&rng, n_vocab);
}

static struct outcome new_outcome(const struct moe_llm_config *c)
{
    return (struct outcome){new_routes(c, N_TOKENS),
                            must_alloc((size_t)N_TOKENS * c->n_vocab, sizeof(float))};
}

static void free_outcome(struct outcome *o)
{
    free_routes(&o->routes);
    free(o->logits);
}

/* A prompt in passes, then token by token. */
static enum moe_status feed(struct moe_session *session, const int32_t *tokens, struct outcome *out,
                            struct moe_err *err)
{
    const struct moe_llm_config *c = &moe_session_llm(session)->config;
    moe_session_reset(session, PROMPT);
    enum moe_status s =
        moe_session_prefill(session, tokens, PROMPT, &out->routes.sink,
                            out->logits + (size_t)(PROMPT - 1) * c->n_vocab, NULL, NULL, err);
    for (uint32_t t = PROMPT; t < N_TOKENS && !s; t++) {
        struct moe_route_sink sink = sink_at(c, &out->routes, t);
        s = moe_session_forward(session, tokens + t, 1, &sink, out->logits + (size_t)t * c->n_vocab,
                                err);
    }
    return s;
}

static struct moe_device *open_device(const char *spec)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    const struct moe_device_options options = {.spec = spec};
    enum moe_status s = moe_device_open(&device, &options, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return device;
}

static void set(struct moe_strategy *strategy, const char *key, const char *value)
{
    struct moe_err err = {0};
    enum moe_status s = moe_strategy_set(strategy, key, value, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
}

static struct moe_strategy load(const char *name, const char *geometry)
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

/* Runs the tokens on a device under the strategy. */
static enum moe_status run_hybrid(const struct moe_llm *llm, const char *spec,
                                  const struct moe_strategy *strategy,
                                  const struct moe_session_options *session_options,
                                  const int32_t *tokens, struct outcome *out, struct moe_err *err)
{
    struct moe_device *device = open_device(spec);
    struct moe_session *session = open_session(llm, session_options);
    const struct moe_hybrid_options options = {.strategy = strategy,
                                               .store = {.kind = MOE_STORE_PINNED}};
    struct moe_hybrid *hybrid = NULL;
    enum moe_status s = moe_hybrid_new(&hybrid, device, session, &options, err);
    if (!s)
        s = feed(session, tokens, out, err);
    moe_hybrid_free(hybrid);
    moe_session_free(session);
    moe_device_close(device);
    return s;
}

static void expect_same(const struct moe_llm_config *c, const struct outcome *a,
                        const struct outcome *b, const char *what)
{
    ck_assert_msg(!memcmp(a->routes.sink.expert, b->routes.sink.expert,
                          a->routes.n_choices * sizeof(moe_expert)),
                  "%s: routes", what);
    ck_assert_msg(
        !memcmp(a->routes.sink.weight, b->routes.sink.weight, a->routes.n_choices * sizeof(float)),
        "%s: weights", what);
    for (uint32_t t = PROMPT - 1; t < N_TOKENS; t++)
        ck_assert_msg(!memcmp(a->logits + (size_t)t * c->n_vocab,
                              b->logits + (size_t)t * c->n_vocab, c->n_vocab * sizeof(float)),
                      "%s: logits of token %u", what, t);
}

static const char *const models[] = {GOLDEN "mixtral-mqa8-top3-tied", GOLDEN "mixtral-gqa4-window",
                                     GOLDEN "phimoe-longrope"};

/* What the CPU alone computes. */
static struct outcome reference(const struct moe_llm *llm, const int32_t *tokens)
{
    const struct moe_session_options options = {.context = 64, .threads = 1};
    struct moe_session *session = open_session(llm, &options);
    struct outcome out = new_outcome(&llm->config);
    struct moe_err err = {0};
    ck_assert_msg(feed(session, tokens, &out, &err) == MOE_OK, "%s", err.text);
    moe_session_free(session);
    return out;
}

static const struct {
    const char *strategy, *geometry;
} strategies[] = {
    {"cpu-only", NULL},       {"on-demand", NULL},         {"collab", "2x2"},
    {"collab", "1x3"},        {"collab", "global:3"},      {"collab", "all"},
    {"collab", "global:1"},   {"collab-reference", "2x2"}, {"collab-reference", "1x1"},
    {"static-random", "2x2"}, {"ncmoe", "ncmoe:1"},
};

START_TEST(test_same_bits)
{
    struct moe_llm *llm = open_model(models[_i]);
    int32_t tokens[N_TOKENS];
    random_tokens(tokens, N_TOKENS, llm->config.n_vocab, 7);
    struct outcome want = reference(llm, tokens);
    for (size_t k = 0; k < sizeof strategies / sizeof *strategies; k++) {
        const struct moe_strategy strategy = load(strategies[k].strategy, strategies[k].geometry);
        const struct moe_session_options options = {.context = 64, .chunk = CHUNK, .threads = 1};
        struct outcome got = new_outcome(&llm->config);
        struct moe_err err = {0};
        enum moe_status s =
            run_hybrid(llm, "host:memory_bytes=64MiB", &strategy, &options, tokens, &got, &err);
        ck_assert_msg(s == MOE_OK, "%s: %s", strategies[k].strategy, err.text);
        expect_same(&llm->config, &want, &got, strategies[k].strategy);
        free_outcome(&got);
    }
    free_outcome(&want);
    moe_llm_close(llm);
}
END_TEST

/* Every way to dispatch and to fill, with prompts through the cache and streamed. */
START_TEST(test_same_bits_dispatch)
{
    static const struct {
        const char *key, *value;
    } sets[] = {{"dispatch.miss", "wait"},
                {"dispatch.in_flight", "cpu"},
                {"dispatch.order", "gate"},
                {"dispatch.overlap", "false"},
                {"fill.when", "at-once"},
                {"fill.memory", "pageable"},
                {"prefill", "cache"},
                {"prefill", "stream"},
                {"prefetcher", "previous-token"},
                {"policy", "lfu"}};
    struct moe_llm *llm = open_model(models[0]);
    int32_t tokens[N_TOKENS];
    random_tokens(tokens, N_TOKENS, llm->config.n_vocab, 11);
    struct outcome want = reference(llm, tokens);
    const struct moe_session_options options = {.context = 64, .chunk = CHUNK, .threads = 1};
    for (unsigned mask = 0; mask < 1u << (sizeof sets / sizeof *sets); mask++) {
        struct moe_strategy strategy = load("collab", "2x3");
        struct outcome got = new_outcome(&llm->config);
        struct moe_err err = {0};
        if (mask % 7) /* a seventh of the combinations, every key in both states */
            continue;
        for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
            if (mask >> i & 1)
                set(&strategy, sets[i].key, sets[i].value);
        enum moe_status s =
            run_hybrid(llm, "host:memory_bytes=64MiB", &strategy, &options, tokens, &got, &err);
        ck_assert_msg(s == MOE_OK, "mask %x: %s", mask, err.text);
        expect_same(&llm->config, &want, &got, "dispatch");
        free_outcome(&got);
    }
    free_outcome(&want);
    moe_llm_close(llm);
}
END_TEST

/* Schedules: every operation of every stream is delayed at random, anew at each step. A slot that
 * was overwritten under a kernel, or used before its copy landed, would change the logits. */
START_TEST(test_random_schedules)
{
    enum { SCHEDULES = ADDRESS_SANITIZER || THREAD_SANITIZER ? 500 : 10000 };
    static const struct {
        const char *strategy, *geometry, *spec;
    } cases[] = {
        {"collab", "global:2", "host:memory_bytes=64MiB,delay_us=40,seed=1"},
        {"collab", "2x2", "host:memory_bytes=64MiB,delay_us=20,seed=2"},
        {"on-demand", NULL, "host:memory_bytes=64MiB,delay_us=40,seed=3"},
        {"collab-reference", "2x1", "host:memory_bytes=64MiB,delay_us=40,seed=4"},
    };
    enum { N_CASES = sizeof cases / sizeof *cases, STEPS = N_TOKENS - PROMPT + 2 };
    struct moe_llm *llm = open_model(models[0]);
    int32_t tokens[N_TOKENS];
    random_tokens(tokens, N_TOKENS, llm->config.n_vocab, 5);
    struct outcome want = reference(llm, tokens);
    for (size_t k = 0; k < N_CASES; k++) {
        struct moe_strategy strategy = load(cases[k].strategy, cases[k].geometry);
        struct moe_device *device = open_device(cases[k].spec);
        const struct moe_session_options options = {.context = 64, .chunk = CHUNK, .threads = 1};
        struct moe_session *session = open_session(llm, &options);
        if (k == 1) {
            set(&strategy, "fill.when", "at-once");
            set(&strategy, "prefetcher", "previous-token");
        }
        const struct moe_hybrid_options hybrid_options = {.strategy = &strategy,
                                                          .store = {.kind = MOE_STORE_PINNED}};
        struct moe_hybrid *hybrid = NULL;
        struct moe_err err = {0};
        ck_assert_msg(!moe_hybrid_new(&hybrid, device, session, &hybrid_options, &err), "%s",
                      err.text);
        struct outcome got = new_outcome(&llm->config);
        for (int n = 0; n < SCHEDULES / N_CASES; n += STEPS) {
            ck_assert_msg(!feed(session, tokens, &got, &err), "%s", err.text);
            expect_same(&llm->config, &want, &got, cases[k].strategy);
        }
        free_outcome(&got);
        moe_hybrid_free(hybrid);
        moe_session_free(session);
        moe_device_close(device);
    }
    free_outcome(&want);
    moe_llm_close(llm);
}
END_TEST

/* A copy that fails midway: one clear error, no wrong token before it, and everything is freed. */
START_TEST(test_failing_copy)
{
    struct moe_llm *llm = open_model(models[0]);
    int32_t tokens[N_TOKENS];
    random_tokens(tokens, N_TOKENS, llm->config.n_vocab, 5);
    struct outcome got = new_outcome(&llm->config);
    int n_failed = 0, more = 1;
    for (int copy = 1; more; copy += 3) {
        const struct moe_strategy strategy = load("collab", "2x2");
        const struct moe_session_options options = {.context = 64, .chunk = CHUNK, .threads = 1};
        char spec[96];
        struct moe_err err = {0};
        snprintf(spec, sizeof spec, "host:memory_bytes=64MiB,fail_copy=%d", copy);
        enum moe_status s = run_hybrid(llm, spec, &strategy, &options, tokens, &got, &err);
        more = s != MOE_OK; /* until there are fewer copies than that */
        n_failed += more;
        ck_assert_msg(!more || strlen(err.text) > 10, "copy %d: '%s'", copy, err.text);
    }
    ck_assert_int_gt(n_failed, 30);
    free_outcome(&got);
    moe_llm_close(llm);
}
END_TEST

START_TEST(test_too_small_device)
{
    struct moe_llm *llm = open_model(models[0]);
    const struct moe_strategy strategy = load("collab", "all");
    const struct moe_session_options options = {.context = 64, .chunk = CHUNK, .threads = 1};
    int32_t tokens[N_TOKENS] = {0};
    struct outcome got = new_outcome(&llm->config);
    struct moe_err err = {0};
    ck_assert_int_eq(
        run_hybrid(llm, "host:memory_bytes=96KiB", &strategy, &options, tokens, &got, &err),
        MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "geometry 'all'"));
    free_outcome(&got);
    moe_llm_close(llm);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine");
    TCase *t = tcase_create("machine");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, test_same_bits, 0, sizeof models / sizeof *models);
    tcase_add_test(t, test_same_bits_dispatch);
    tcase_add_test(t, test_random_schedules);
    tcase_add_test(t, test_failing_copy);
    tcase_add_test(t, test_too_small_device);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
