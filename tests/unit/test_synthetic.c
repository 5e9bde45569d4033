/* Models made in memory: they run, share the weights that they say they share; refusals by name. */
#include "base/progress.h"
#include "exec/expert_store.h"
#include "exec/hybrid.h"
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

/* The same with experts of so many bits, in sizes that every type can have. */
static struct moe_model shape_of_bits(double bits)
{
    struct moe_model shape = tiny_shape();
    shape.expert_weight_bits = bits;
    shape.d_model = 64;
    shape.d_ffn = 96;
    shape.head_dim = 16;
    return shape;
}

static const struct {
    double bits;
    enum moe_dtype dtype;
} types[] = {{16, MOE_BF16}, {8.5, MOE_Q8}, {4.5, MOE_Q4}};
enum { N_TYPES = sizeof types / sizeof *types };

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

/* Experts of every type, the rest in BF16; the shape that comes back is the one that went in. */
START_TEST(runs_in_every_type)
{
    struct late_device *device = late_open();
    struct moe_model shape = shape_of_bits(types[_i].bits), back;
    shape.n_layers = 300;
    const struct moe_synthetic_options options = {.buffers = 7};
    struct moe_synthetic *s = make(device, &shape, &options);
    const struct moe_llm *llm = moe_synthetic_llm(s);
    const struct moe_expert_weights *e = &llm->layers[7].experts[5];
    float *logits = logits_of(llm, 2);
    double sum = 0;
    for (uint32_t v = 0; v < llm->config.n_vocab; v++)
        sum += (double)logits[v] * (double)logits[v];
    const double size = sqrt(sum / llm->config.n_vocab);
    ck_assert_msg(size > 0.2 && size < 5, "logits of size %g", size);
    ck_assert(e->w1.dtype == types[_i].dtype && e->w3.dtype == types[_i].dtype);
    ck_assert(e->w2.dtype == types[_i].dtype && llm->layers[7].router.dtype == MOE_BF16);
    moe_llm_shape(llm, &back);
    ck_assert_double_eq(back.expert_weight_bits, types[_i].bits);
    ck_assert_double_eq(back.dense_weight_bits, 16);
    ck_assert_uint_eq(moe_llm_expert_bytes(llm, 0), moe_model_expert_bytes(&shape));
    ck_assert_uint_eq(moe_model_expert_bytes(&back), moe_model_expert_bytes(&shape));
    free(logits);
    moe_synthetic_free(s);
    late_close(device);
}
END_TEST

START_TEST(seed_decides)
{
    struct late_device *device = late_open();
    const struct moe_model shape = shape_of_bits(types[_i].bits);
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

/* Row by row, as a matrix's rows lie. */
static void read_matrix(const struct moe_matrix *m, float *x)
{
    const uint64_t row_bytes = moe_dtype_row_bytes(m->dtype, m->cols);
    for (uint32_t r = 0; r < m->rows; r++)
        moe_dtype_info(m->dtype)->to_f32((const char *)m->data + r * row_bytes, m->cols,
                                         x + (size_t)r * m->cols);
}

/* All bits of the weights: finite, normal or zero, of the variance that was meant. */
START_TEST(values)
{
    struct late_device *device = late_open();
    struct moe_model shape = shape_of_bits(types[_i].bits);
    shape.d_ffn = _i ? 4128 : 4099; /* no multiple of anything but 32; several chunks */
    shape.d_model = _i ? 160 : 130;
    const struct moe_synthetic_options options = {.layers = 1, .buffers = 1};
    struct moe_synthetic *s = make(device, &shape, &options);
    const struct moe_expert_weights *e = &moe_synthetic_llm(s)->layers[0].experts[5];
    const struct moe_matrix *m[] = {&e->w1, &e->w3, &e->w2};
    for (size_t i = 0; i < 3; i++) {
        const size_t n = (size_t)m[i]->rows * m[i]->cols;
        float *x = must_alloc(n, sizeof *x);
        double sum = 0, squares = 0;
        read_matrix(m[i], x);
        for (size_t k = 0; k < n; k++) {
            ck_assert(x[k] == 0 || isnormal(x[k]));
            ck_assert_double_le(fabs((double)x[k]), sqrt(3.0 / m[i]->cols) * (1 + 1.0 / 256));
            sum += (double)x[k];
            squares += (double)x[k] * (double)x[k];
        }
        /* Four standard errors of a mean of n values, and of their squares (below 1 / sqrt(n)). */
        double cols = m[i]->cols, close = 4 / sqrt((double)n);
        ck_assert_double_eq_tol(sum / (double)n * sqrt(cols), 0, close);
        ck_assert_double_eq_tol(squares / (double)n * cols, 1, close + (_i ? 1.0 / 1024 : 0));
        free(x);
    }
    moe_synthetic_free(s);
    late_close(device);
}
END_TEST

/* No row, block or matrix is another's. */
START_TEST(rows_differ)
{
    struct late_device *device = late_open();
    const struct moe_model shape = shape_of_bits(types[_i].bits);
    const struct moe_synthetic_options options = {.layers = 1, .buffers = 2};
    struct moe_synthetic *s = make(device, &shape, &options);
    const struct moe_expert_weights *e = moe_synthetic_llm(s)->layers[0].experts;
    const struct moe_matrix *m[] = {&e[0].w1, &e[0].w3, &e[0].w2, &e[1].w1, &e[1].w3, &e[1].w2};
    enum { ROWS = 64, BYTES = 32, N = 6 * ROWS };
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < i; k++) {
            const struct moe_matrix *a = m[i / ROWS], *b = m[k / ROWS];
            const char *x = a->data, *y = b->data;
            x += i % ROWS * moe_dtype_row_bytes(a->dtype, a->cols);
            y += k % ROWS * moe_dtype_row_bytes(b->dtype, b->cols);
            ck_assert(memcmp(x, y, BYTES) != 0);
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
    expect_refusal(
        device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
        "model 'tiny' has dense weights of 32 bits, and those made in memory have 16 (BF16)");
    odd = shape;
    odd.dense_weight_bits = 8.5;
    expect_refusal(device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
                   "model 'tiny' has dense weights of 8.5 bits");
    odd = shape;
    odd.expert_weight_bits = 4.5; /* 48 x 56 */
    expect_refusal(device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
                   "model 'tiny' has experts of 48 x 56, no multiples of the 32 weights that share "
                   "a scale in Q4");
    odd = shape_of_bits(8.5);
    odd.d_ffn = 80;
    expect_refusal(device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
                   "model 'tiny' has experts of 64 x 80");
    odd = shape;
    odd.head_dim = 13;
    expect_refusal(device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
                   "model 'tiny' has heads of width 13");
    ck_assert(!moe_model_load("experiments/models/gpt-oss-20b.yaml", &odd, &err));
    expect_refusal(
        device, &odd, (struct moe_synthetic_options){0}, MOE_ERR_UNSUPPORTED,
        "model 'gpt-oss-20b' has expert weights of 4.25 bits, and those made in memory have "
        "16 (BF16), 8.5 (Q8) or 4.5 (Q4): choose a shape of these");
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
    tcase_add_loop_test(tc, runs_in_every_type, 0, N_TYPES);
    tcase_add_loop_test(tc, seed_decides, 0, N_TYPES);
    tcase_add_test(tc, experts_share_buffers);
    tcase_add_loop_test(tc, values, 0, N_TYPES);
    tcase_add_loop_test(tc, rows_differ, 0, N_TYPES);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, too_little_memory);
    tcase_add_test(tc, shapes_of_files);
    tcase_add_test(tc, interrupted); /* last: the flag stays */
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
