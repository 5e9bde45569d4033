#include "exec/bench.h"

#include "base/numbers.h"
#include "base/progress.h"
#include "exec/bench_memory.h"

#include <stdlib.h>

enum { REPEATS_MAX = 99, MATRIX_ROWS = 2048 };

struct work {
    const struct moe_kernel_bench *bench;
    void (*row)(void *context, const struct moe_kernel_bench_row *row);
    void *context;
    struct moe_pool *pool;
    struct moe_bench_memory memory;
    float *x, *h, *y; /* [T, max(D, F)] each */
    float *converted; /* [MATRIX_ROWS, D] for OpenBLAS */
    uint32_t threads;
};

/* Rows to convert. */
struct conversion {
    float *to;
    struct moe_matrix matrix;
};

static void convert_row(void *context, uint32_t r)
{
    const struct conversion *c = context;
    const struct moe_matrix *w = &c->matrix;
    const uint8_t *data = w->data;
    moe_dtype_info(w->dtype)->to_f32(data + r * moe_dtype_row_bytes(w->dtype, w->cols), w->cols,
                                     c->to + (size_t)r * w->cols);
}

static uint64_t expert_bytes(const struct moe_kernel_bench *bench, enum moe_dtype dtype)
{
    return moe_bench_expert_bytes(dtype, bench->d_model, bench->d_ffn);
}

static double read_part(struct work *work, uint64_t bytes)
{
    return moe_bench_read_seconds(&work->memory, work->pool, bytes);
}

static double run_expert(struct work *work, enum moe_dtype dtype)
{
    struct moe_ffn_job job = {.n_tokens = 1, .x = work->x, .h = work->h, .y = work->y};
    moe_bench_expert_at(&job,
                        moe_bench_memory_next(&work->memory, expert_bytes(work->bench, dtype)),
                        dtype, work->bench->d_model, work->bench->d_ffn);
    const uint64_t start = moe_clock_ns();
    moe_pool_experts(work->pool, &job, 1);
    return moe_bench_seconds_since(start);
}

static uint32_t matrix_rows(const struct moe_kernel_bench *bench)
{
    return bench->d_ffn < MATRIX_ROWS ? bench->d_ffn : MATRIX_ROWS;
}

static double run_matrix(struct work *work, enum moe_dtype dtype, uint32_t tokens, bool peer)
{
    const uint32_t rows = matrix_rows(work->bench), d = work->bench->d_model;
    const uint8_t *data =
        moe_bench_memory_next(&work->memory, rows * moe_dtype_row_bytes(dtype, d));
    struct conversion c = {.to = work->converted, .matrix = {data, dtype, rows, d}};
    const uint64_t start = moe_clock_ns();
    if (!peer) {
        moe_pool_linear(work->pool, &c.matrix, NULL, work->x, tokens, work->y);
        return moe_bench_seconds_since(start);
    }
    const float *w = (const float *)(const void *)data;
    if (dtype != MOE_F32) {
        moe_pool_each(work->pool, rows, convert_row, &c);
        w = work->converted;
    }
    moe_gemm_f32(work->bench->peer, w, rows, d, work->x, tokens, work->y, work->threads);
    return moe_bench_seconds_since(start);
}

/* Median of n values, which are sorted; spread as in struct moe_kernel_bench_row. */
static double median_of(double *value, uint32_t n, double *spread)
{
    const double median = moe_median(value, n);
    *spread = (value[n - 1] - value[0]) / median;
    return median;
}

static enum moe_status check_interrupt(struct moe_err *err)
{
    return moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted") : MOE_OK;
}

static enum moe_status bench_read(struct work *work, struct moe_err *err)
{
    double rate[REPEATS_MAX];
    struct moe_kernel_bench_row row = {.what = "read",
                                       .kernels = "-",
                                       .dtype = "-",
                                       .threads = work->threads,
                                       .read_share = NAN,
                                       .gflop_per_s = NAN};
    const uint64_t bytes = expert_bytes(work->bench, MOE_BF16);
    for (uint32_t i = 0; i <= work->bench->repeats; i++) {
        const double seconds = read_part(work, bytes);
        if (i > 0)
            rate[i - 1] = (double)bytes / seconds * 1e-9;
    }
    row.gb_per_s = median_of(rate, work->bench->repeats, &row.spread);
    work->row(work->context, &row);
    return check_interrupt(err);
}

static enum moe_status bench_expert(struct work *work, enum moe_dtype dtype, struct moe_err *err)
{
    double rate[REPEATS_MAX], share[REPEATS_MAX], unused;
    const double bytes = (double)expert_bytes(work->bench, dtype);
    const double flops = 6.0 * work->bench->d_model * work->bench->d_ffn;
    struct moe_kernel_bench_row row = {.what = "expert",
                                       .kernels = moe_pool_kernels(work->pool)->name,
                                       .dtype = moe_dtype_info(dtype)->name,
                                       .threads = work->threads,
                                       .tokens = 1};
    for (uint32_t i = 0; i <= work->bench->repeats; i++) {
        const double alone = read_part(work, (uint64_t)bytes);
        const double seconds = run_expert(work, dtype);
        if (i > 0) {
            rate[i - 1] = bytes / seconds * 1e-9;
            share[i - 1] = alone / seconds;
        }
    }
    row.gb_per_s = median_of(rate, work->bench->repeats, &row.spread);
    row.read_share = median_of(share, work->bench->repeats, &unused);
    row.gflop_per_s = row.gb_per_s * flops / bytes;
    work->row(work->context, &row);
    return check_interrupt(err);
}

static enum moe_status bench_matrix(struct work *work, enum moe_dtype dtype, uint32_t tokens,
                                    bool peer, struct moe_err *err)
{
    double rate[REPEATS_MAX];
    const uint32_t rows = matrix_rows(work->bench), d = work->bench->d_model;
    const double bytes = (double)(rows * moe_dtype_row_bytes(dtype, d));
    const double flops = 2.0 * rows * d * tokens;
    struct moe_kernel_bench_row row = {.what = "matrix",
                                       .kernels =
                                           peer ? "OpenBLAS" : moe_pool_kernels(work->pool)->name,
                                       .dtype = moe_dtype_info(dtype)->name,
                                       .threads = work->threads,
                                       .tokens = tokens,
                                       .read_share = NAN};
    for (uint32_t i = 0; i <= work->bench->repeats; i++) {
        const double seconds = run_matrix(work, dtype, tokens, peer);
        if (i > 0)
            rate[i - 1] = flops / seconds * 1e-9;
    }
    row.gflop_per_s = median_of(rate, work->bench->repeats, &row.spread);
    row.gb_per_s = row.gflop_per_s / flops * bytes;
    work->row(work->context, &row);
    return check_interrupt(err);
}

/* Every case of one set (NULL: those that no set computes) with work->threads threads. */
static enum moe_status bench_set(struct work *work, const struct moe_kernels *set,
                                 struct moe_err *err)
{
    const struct moe_kernel_bench *bench = work->bench;
    const struct moe_pool_options options = {
        .threads = work->threads, .pin = true, .kernels = set ? set->name : NULL};
    enum moe_status s = moe_pool_new(&work->pool, &options, err);
    if (s)
        return s;
    if (!set)
        s = bench_read(work, err);
    for (int i = 0; i < MOE_N_DTYPES && !s; i++) {
        const enum moe_dtype dtype = (enum moe_dtype)i;
        if (!bench->dtype[i])
            continue;
        if (set)
            s = bench_expert(work, dtype, err);
        for (uint32_t k = 0; k < bench->n_tokens && !s && (set || bench->peer); k++)
            s = bench_matrix(work, dtype, bench->tokens[k], !set, err);
    }
    moe_pool_free(work->pool);
    return s;
}

static enum moe_status bench_all(struct work *work, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (uint32_t i = 0; i < work->bench->n_threads && !s; i++) {
        work->threads = work->bench->threads[i];
        s = bench_set(work, NULL, err);
        for (size_t k = 0; k < moe_n_kernel_sets && !s; k++) {
            const struct moe_kernels *set = moe_kernel_sets[k];
            if (set->usable() && (!work->bench->only || work->bench->only == set))
                s = bench_set(work, set, err);
        }
    }
    return s;
}

static enum moe_status with_vectors(struct work *work, struct moe_err *err)
{
    const struct moe_kernel_bench *bench = work->bench;
    uint32_t tokens = 1;
    for (uint32_t i = 0; i < bench->n_tokens; i++)
        tokens = bench->tokens[i] > tokens ? bench->tokens[i] : tokens;
    const size_t widest = bench->d_model > bench->d_ffn ? bench->d_model : bench->d_ffn;
    const size_t n = tokens * widest;
    work->x = malloc(n * sizeof *work->x);
    work->h = malloc(widest * sizeof *work->h);
    work->y = malloc(n * sizeof *work->y);
    work->converted = malloc((size_t)matrix_rows(bench) * bench->d_model * sizeof *work->converted);
    enum moe_status s = MOE_OK;
    if (!work->x || !work->h || !work->y || !work->converted) {
        s = moe_fail_memory(err, "the activations of the benchmark");
    } else {
        for (size_t i = 0; i < n; i++)
            work->x[i] = (float)(i % 17) * 0.125f - 1;
        s = bench_all(work, err);
    }
    free(work->x);
    free(work->h);
    free(work->y);
    free(work->converted);
    return s;
}

enum moe_status moe_bench_kernels(const struct moe_kernel_bench *bench,
                                  void (*row)(void *context,
                                              const struct moe_kernel_bench_row *row),
                                  void *context, struct moe_err *err)
{
    struct work work = {.bench = bench, .row = row, .context = context};
    const uint64_t least = expert_bytes(bench, bench->dtype[MOE_F32] ? MOE_F32 : MOE_BF16);
    const uint64_t wanted = bench->n_experts * expert_bytes(bench, MOE_BF16);
    enum moe_status s = moe_bench_memory_init(&work.memory, wanted > least ? wanted : least, err);
    if (!s)
        s = with_vectors(&work, err);
    moe_bench_memory_release(&work.memory);
    return s;
}
