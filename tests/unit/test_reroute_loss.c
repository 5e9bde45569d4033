/* What lossy rules cost the embedded models, beside what a trace tells of that cost: text that a
 * model generated itself (temperature 1, seeded) is read again under each rule. Prints the mean
 * Kullback-Leibler divergence of the next token from the lossless model's, and the share of
 * positions where another token would have been the likeliest. */
#include "base/rng.h"
#include "exec/hybrid.h"
#include "tests/unit/llm_dirs.h"
#include "tests/unit/run_suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N = 160, CONTEXT = 192 };

static struct moe_err err;

struct text {
    struct moe_llm *llm;
    uint32_t n_vocab;
    int32_t token[N];
    float *logits; /* [N, V] lossless */
};

static void softmax(const float *logits, uint32_t n, double *p)
{
    double top = logits[0], all = 0;
    for (uint32_t i = 1; i < n; i++)
        top = fmax(top, logits[i]);
    for (uint32_t i = 0; i < n; i++)
        all += p[i] = exp(logits[i] - top);
    for (uint32_t i = 0; i < n; i++)
        p[i] /= all;
}

static int32_t draw(struct moe_rng *rng, const double *p, uint32_t n)
{
    double left = moe_rng_unit(rng);
    uint32_t i = 0;
    while (i + 1 < n && (left -= p[i]) >= 0)
        i++;
    return (int32_t)i;
}

/* Token by token; what is asked for, token 0 apart, is drawn. */
static void write_text(struct text *x, struct moe_session *session)
{
    struct moe_rng rng;
    double *p = must_alloc(x->n_vocab, sizeof *p);
    moe_rng_init(&rng, 11);
    x->token[0] = 1;
    for (uint32_t t = 0; t < N; t++) {
        float *at = x->logits + (size_t)t * x->n_vocab;
        ck_assert_msg(!moe_session_forward(session, x->token + t, 1, NULL, at, &err), "%s",
                      err.text);
        softmax(at, x->n_vocab, p);
        if (t + 1 < N)
            x->token[t + 1] = draw(&rng, p, x->n_vocab);
    }
    free(p);
}

static struct text open_text(const char *model)
{
    struct text x = {.llm = open_model(model)};
    const struct moe_session_options options = {.context = CONTEXT, .threads = 1};
    struct moe_session *session = open_session(x.llm, &options);
    x.n_vocab = x.llm->config.n_vocab;
    x.logits = must_alloc((size_t)N * x.n_vocab, sizeof *x.logits);
    write_text(&x, session);
    moe_session_free(session);
    return x;
}

struct loss {
    double divergence, changed; /* nats a token; share of tokens */
    struct moe_rerouted_shares share;
};

static void compare(const struct text *x, uint32_t t, const float *got, struct loss *loss)
{
    double *p = must_alloc(x->n_vocab, sizeof *p), *q = must_alloc(x->n_vocab, sizeof *q);
    uint32_t a = 0, b = 0;
    softmax(x->logits + (size_t)t * x->n_vocab, x->n_vocab, p);
    softmax(got, x->n_vocab, q);
    for (uint32_t i = 0; i < x->n_vocab; i++) {
        loss->divergence += p[i] > 0 ? p[i] * log(p[i] / q[i]) / N : 0;
        a = p[i] > p[a] ? i : a;
        b = q[i] > q[b] ? i : b;
    }
    loss->changed += (a != b) / (double)N;
    free(p);
    free(q);
}

/* The first slots are kept, and the CPU computes what is not there: what is begun early does not
 * depend on when copies land. */
static enum moe_status keep_slots(struct moe_strategy *strategy)
{
    enum moe_status s = moe_strategy_set(strategy, "policy", "static", &err);
    if (!s)
        s = moe_strategy_set(strategy, "admission", "never", &err);
    return s ? s : moe_strategy_set(strategy, "dispatch.miss", "cpu", &err);
}

static struct loss loss_of(const struct text *x, struct moe_device *device, const char *rule,
                           bool keep)
{
    const struct moe_session_options session_options = {.context = CONTEXT, .threads = 1};
    struct moe_session *session = open_session(x->llm, &session_options);
    struct moe_strategy strategy;
    struct moe_hybrid *hybrid;
    struct moe_result result;
    struct loss loss = {0};
    float *got = must_alloc(x->n_vocab, sizeof *got);
    moe_strategy_default(&strategy);
    strategy.lossy = true;
    enum moe_status s = moe_strategy_set(&strategy, "geometry", "8x3", &err);
    if (!s)
        s = moe_strategy_set(&strategy, "threads", "1", &err);
    if (!s)
        s = moe_strategy_set(&strategy, "dispatch.miss", "wait", &err);
    if (!s)
        s = moe_strategy_set(&strategy, "reroute", rule, &err);
    if (!s && keep)
        s = keep_slots(&strategy);
    const struct moe_hybrid_options options = {.strategy = &strategy,
                                               .store = {.kind = MOE_STORE_PINNED}};
    if (!s)
        s = moe_hybrid_new(&hybrid, device, session, &options, &err);
    ck_assert_msg(!s, "%s", err.text);
    for (uint32_t t = 0; t < N; t++) {
        ck_assert_msg(!moe_session_forward(session, x->token + t, 1, NULL, got, &err), "%s",
                      err.text);
        compare(x, t, got, &loss);
    }
    ck_assert_int_eq(moe_hybrid_result(hybrid, &result, &err), MOE_OK);
    loss.share = moe_rerouted_shares(&result.rerouted);
    moe_hybrid_free(hybrid);
    moe_session_free(session);
    free(got);
    return loss;
}

/* The first loses nothing, and the next two more each. */
static const char *const rules[] = {
    "cache-prior:lambda=0", "cache-prior:lambda=0.1", "cache-prior:lambda=0.5", "daop:first=5",
    "substitute:ratio=0.5", "max-rank:rank=4", "daop:first=1",
    /* with slots kept */
    "daop:first=5", "daop:first=5,pre_calculation=on", "daop:first=1",
    "daop:first=1,pre_calculation=on", "pre-calculation"};
enum { N_RULES = sizeof rules / sizeof *rules, N_GROWING = 3, FIRST_KEPT = 7 };

START_TEST(more_is_lost_the_more_a_rule_may)
{
    static const char *const models[] = {"experiments/models/tiny-mixtral",
                                         "experiments/models/tiny-phimoe"};
    const struct moe_device_options options = {.spec = "host"};
    struct moe_device *device;
    ck_assert_msg(!moe_device_open(&device, &options, &err), "%s", err.text);
    struct text x = open_text(models[_i]);
    double before = -1;
    printf("%s, 8x3 slots, %d tokens of its own text\n", strrchr(models[_i], '/') + 1, N);
    printf("%-32s divergence_nats  changed_%%  rerouted_%%  weight_moved_%%  mass_lost_%%\n", "");
    for (int i = 0; i < N_RULES; i++) {
        const struct loss loss = loss_of(&x, device, rules[i], i >= FIRST_KEPT);
        if (i == FIRST_KEPT)
            printf("the first slots kept, misses on the CPU\n");
        printf("%-32s %15.4f  %9.1f  %10.2f  %14.2f  %11.2f\n", rules[i], loss.divergence,
               100 * loss.changed, loss.share.replaced, loss.share.weight_moved,
               loss.share.mass_lost);
        if (i == 0)
            ck_assert(loss.divergence == 0 && loss.changed == 0);
        if (i < N_GROWING)
            ck_assert_double_gt(loss.divergence, before);
        else
            ck_assert_double_gt(loss.divergence, 0);
        before = loss.divergence;
    }
    free(x.logits);
    moe_llm_close(x.llm);
    moe_device_close(device);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reroute loss");
    TCase *tc = tcase_create("loss");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, more_is_lost_the_more_a_rule_may, 0, 2);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
