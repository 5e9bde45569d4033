/* Models made in memory: they run, share what they say they share, and are refused by name. */
#include "base/progress.h"
#include "exec/expert_store.h"
#include "exec/synthetic.h"
#include "tests/unit/late_device.h"
#include "tests/unit/llm_dirs.h"
#include "tests/unit/run_suite.h"
#include "traces/model.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>

static struct moe_model tiny_shape(void)
{
    return (struct moe_model){
        .name = "tiny",
        .source = "test",
        .n_layers = 4,
        .n_experts = 6,
        .top_k = 2,
        .d_model = 48,
        .d_ffn = 56,
        .n_heads = 4,
        .n_kv_heads = 2,
        .head_dim = 12,
        .n_vocab = 101,
        .expert_weight_bits = 16,
        .dense_weight_bits = 16,
        .kv_bits = 16,
    };
}

static struct moe_synthetic *make(struct late_device *device, const struct moe_model *shape,
                                  const struct moe_synthetic_options *options)
{
    struct moe_synthetic *s = NULL;
    struct moe_err err = {0};
    enum moe_status status = moe_synthetic_new(&s, shape, &device->device, options, &err);
    ck_assert_msg(!status, "%s", err.text);
    return s;
}

/* Logits of a few tokens; also how large the hidden state became. */
static float *logits_of(const struct moe_llm *llm, uint32_t threads)
{
    static const int32_t tokens[] = {1, 100, 7, 7, 0, 55, 3};
    const struct moe_session_options options = {.context = 16, .threads = threads};
    struct moe_session *session = open_session(llm, &options);
    float *logits = must_alloc(llm->config.n_vocab, sizeof *logits);
    struct moe_err err = {0};
    enum moe_status status =
        moe_session_forward(session, tokens, sizeof tokens / sizeof *tokens, NULL, logits, &err);
    ck_assert_msg(!status, "%s", err.text);
    moe_session_free(session);
    return logits;
}

START_TEST(runs)
{
    struct late_device *device = late_open();
    struct moe_model shape = tiny_shape();
    shape.n_layers = 300;
    static const uint32_t layers[] = {4, 300};
    for (size_t i = 0; i < 2; i++) {
        const struct moe_synthetic_options options = {layers[i], 7, 1};
        struct moe_synthetic *s = make(device, &shape, &options);
        const struct moe_llm *llm = moe_synthetic_llm(s);
        float *logits = logits_of(llm, 2);
        double sum = 0;
        ck_assert_uint_eq(llm->config.n_layers, layers[i]);
        for (uint32_t v = 0; v < llm->config.n_vocab; v++)
            sum += (double)logits[v] * (double)logits[v];
        double size = sqrt(sum / llm->config.n_vocab);
        ck_assert_msg(size > 0.2 && size < 5, "%u layers: logits of size %g", layers[i], size);
        ck_assert_ptr_nonnull(strstr(llm->name, "SYNTHETIC tiny"));
        ck_assert_uint_eq(moe_llm_dense_bytes(llm, 1), /* q, k, v, o, router; norms */
                          2 * 48 * (48 + 24 + 24 + 48 + 6) + 2 * 4 * 48);
        free(logits);
        moe_synthetic_free(s);
    }
    late_close(device);
}
END_TEST

START_TEST(seed_decides)
{
    struct late_device *device = late_open();
    const struct moe_model shape = tiny_shape();
    const struct moe_synthetic_options one = {.seed = 1}, two = {.seed = 2};
    struct moe_synthetic *a = make(device, &shape, &one), *b = make(device, &shape, &one);
    struct moe_synthetic *c = make(device, &shape, &two);
    float *x = logits_of(moe_synthetic_llm(a), 1), *y = logits_of(moe_synthetic_llm(b), 2);
    float *z = logits_of(moe_synthetic_llm(c), 1);
    ck_assert(!memcmp(x, y, shape.n_vocab * sizeof *x));
    ck_assert(memcmp(x, z, shape.n_vocab * sizeof *x) != 0);
    free(x);
    free(y);
    free(z);
    moe_synthetic_free(a);
    moe_synthetic_free(b);
    moe_synthetic_free(c);
    late_close(device);
}
END_TEST

static const void *w1_of(const struct moe_llm *llm, uint32_t i)
{
    return llm->layers[i / llm->config.n_experts].experts[i % llm->config.n_experts].w1.data;
}

START_TEST(experts_share_buffers)
{
    enum { N = 24, BUFFERS = 7 };
    struct late_device *device = late_open();
    const struct moe_model shape = tiny_shape();
    const struct moe_synthetic_options options = {.buffers = BUFFERS};
    struct moe_synthetic *s = make(device, &shape, &options);
    const struct moe_llm *llm = moe_synthetic_llm(s);
    struct moe_expert_layout layout;
    struct moe_err err;
    ck_assert(!moe_expert_layout_of(llm, &layout, &err));
    ck_assert_uint_eq(moe_synthetic_buffers(s), BUFFERS);
    ck_assert_uint_eq(device->pinned_bytes, BUFFERS * layout.bytes);
    ck_assert_ptr_eq(llm->pinned_on, &device->device);
    for (uint32_t i = 0; i < N; i++) {
        const struct moe_expert_weights *e = &llm->layers[i / 6].experts[i % 6];
        ck_assert(moe_expert_layout_packed(&layout, e));
        for (uint32_t j = 0; j < i; j++) {
            bool same = i % BUFFERS == j % BUFFERS;
            ck_assert_int_eq(w1_of(llm, i) == w1_of(llm, j), same);
            ck_assert_int_eq(!memcmp(w1_of(llm, i), w1_of(llm, j), layout.at_w3), same);
        }
        ck_assert(memcmp(e->w1.data, e->w3.data, moe_matrix_bytes(&e->w1)) != 0);
    }
    moe_synthetic_free(s);
    late_close(device);
}
END_TEST

/* All bits of the weights: finite, normal or zero, of the variance that was meant. */
START_TEST(values)
{
    struct late_device *device = late_open();
    struct moe_model shape = tiny_shape();
    shape.d_ffn = 4099; /* no multiple of anything; several chunks */
    shape.d_model = 130;
    const struct moe_synthetic_options options = {.layers = 1, .buffers = 1};
    struct moe_synthetic *s = make(device, &shape, &options);
    const struct moe_expert_weights *e = &moe_synthetic_llm(s)->layers[0].experts[5];
    const struct moe_matrix *m[] = {&e->w1, &e->w3, &e->w2};
    for (size_t i = 0; i < 3; i++) {
        const size_t n = (size_t)m[i]->rows * m[i]->cols;
        float *x = must_alloc(n, sizeof *x);
        double sum = 0, squares = 0;
        moe_dtype_info(MOE_BF16)->to_f32(m[i]->data, n, x);
        for (size_t k = 0; k < n; k++) {
            ck_assert(x[k] == 0 || isnormal(x[k]));
            ck_assert_double_le(fabs((double)x[k]), sqrt(3.0 / m[i]->cols) * (1 + 1.0 / 256));
            sum += (double)x[k];
            squares += (double)x[k] * (double)x[k];
        }
        /* Four standard errors of a mean of n values, and of their squares (below 1 / sqrt(n)). */
        double cols = m[i]->cols, close = 4 / sqrt((double)n);
        ck_assert_double_eq_tol(sum / (double)n * sqrt(cols), 0, close);
        ck_assert_double_eq_tol(squares / (double)n * cols, 1, close);
        free(x);
    }
    moe_synthetic_free(s);
    late_close(device);
}
END_TEST

static void expect_refusal(struct late_device *device, const struct moe_model *shape,
                           struct moe_synthetic_options options, enum moe_status status,
                           const char *text)
{
    struct moe_synthetic *s = NULL;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_synthetic_new(&s, shape, &device->device, &options, &err), status);
    ck_assert_msg(!strncmp(err.text, text, strlen(text)), "%s", err.text);
    ck_assert_ptr_null(s);
    ck_assert_uint_eq(device->n_live, 0);
}

START_TEST(refusals)
{
    struct late_device *device = late_open();
    const struct moe_model shape = tiny_shape();
    struct moe_model odd = shape;
    struct moe_err err;
    expect_refusal(device, &shape, (struct moe_synthetic_options){.layers = 5}, MOE_ERR_USAGE,
                   "5 layers exceed the 4 of model 'tiny'");
    expect_refusal(device, &shape, (struct moe_synthetic_options){.layers = 2, .buffers = 13},
                   MOE_ERR_USAGE, "13 expert buffers exceed the 12 experts in 2 layers of model");
    odd.dense_ffn = 64;
    expect_refusal(device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
                   "model 'tiny' has a dense FFN of width 64 beside its experts");
    odd = shape;
    odd.dense_weight_bits = 32;
    expect_refusal(device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
                   "model 'tiny' has weights of 32 bits");
    odd = shape;
    odd.head_dim = 13;
    expect_refusal(device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
                   "model 'tiny' has heads of width 13");
    ck_assert(!moe_model_load("experiments/models/gpt-oss-20b.yaml", &odd, &err));
    expect_refusal(device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
                   "model 'gpt-oss-20b' has weights of 4.25 bits");
    late_close(device);
}
END_TEST

START_TEST(too_little_memory)
{
    struct late_device *device = late_open();
    struct moe_model shape = tiny_shape();
    device->pinned_limit = 1000;
    expect_refusal(device, &shape, (struct moe_synthetic_options){.buffers = 5}, MOE_ERR_MEMORY,
                   "5 expert buffers (choose fewer): pinned memory: no");
    shape.n_layers = shape.n_experts = 1000; /* 10^6 experts of 3 GiB */
    shape.d_model = 65536;
    shape.d_ffn = 8192;
    shape.n_vocab = 2;
    shape.n_heads = shape.n_kv_heads = 1;
    expect_refusal(device, &shape, (struct moe_synthetic_options){.buffers = 1000000},
                   MOE_ERR_MEMORY, "1000000 expert buffers take ");
    late_close(device);
}
END_TEST

/* Shapes of files: an expert has the bytes that the cost model counts. */
START_TEST(shapes_of_files)
{
    static const char *const names[] = {"tiny-mixtral", "tiny-phimoe"};
    struct late_device *device = late_open();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        struct moe_model shape;
        struct moe_err err = {0};
        snprintf(path, sizeof path, "experiments/models/%s.yaml", names[i]);
        ck_assert_msg(!moe_model_load(path, &shape, &err), "%s", err.text);
        const struct moe_synthetic_options options = {.layers = 1, .buffers = 1};
        struct moe_synthetic *s = make(device, &shape, &options);
        struct moe_expert_layout layout;
        ck_assert(!moe_expert_layout_of(moe_synthetic_llm(s), &layout, &err));
        ck_assert_uint_eq(moe_llm_expert_bytes(moe_synthetic_llm(s), 0),
                          moe_model_expert_bytes(&shape));
        float *logits = logits_of(moe_synthetic_llm(s), 2);
        ck_assert(isfinite(logits[0]));
        free(logits);
        moe_synthetic_free(s);
    }
    late_close(device);
}
END_TEST

START_TEST(interrupted)
{
    struct late_device *device = late_open();
    const struct moe_model shape = tiny_shape();
    moe_catch_interrupts();
    ck_assert_int_eq(raise(SIGINT), 0);
    expect_refusal(device, &shape, (struct moe_synthetic_options){0}, MOE_ERR_INTERRUPTED,
                   "interrupted");
    late_close(device);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("synthetic");
    TCase *tc = tcase_create("synthetic");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, runs);
    tcase_add_test(tc, seed_decides);
    tcase_add_test(tc, experts_share_buffers);
    tcase_add_test(tc, values);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, too_little_memory);
    tcase_add_test(tc, shapes_of_files);
    tcase_add_test(tc, interrupted); /* last: the flag stays */
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
