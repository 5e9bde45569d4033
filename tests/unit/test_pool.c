/* The pool: the bits of plain kernel calls for any number of threads, and nothing written beside
 * the output. */
#include "base/rng.h"
#include "exec/cpu.h"
#include "exec/pool.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* From many threads to few: clang's OpenMP runtime loses memory when a team grows for good. */
enum { GUARD = 16, THREADS = 5 };

static float *random_floats(struct moe_rng *rng, size_t n)
{
    float *p = malloc(n * sizeof *p);
    ck_assert(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(moe_rng_unit(rng) - 0.5);
    return p;
}

/* Room for n results between guards; guards_hold also frees it. */
static float *guarded(size_t n)
{
    float *p = malloc((n + 2 * GUARD) * sizeof *p);
    ck_assert(p);
    for (size_t i = 0; i < n + 2 * GUARD; i++)
        p[i] = 1234.5f;
    return p + GUARD;
}

static void guards_hold(float *p, size_t n)
{
    for (size_t i = 0; i < GUARD; i++)
        ck_assert(p[-1 - (ptrdiff_t)i] == 1234.5f && p[n + i] == 1234.5f);
    free(p - GUARD);
}

static struct moe_pool *pool_of(uint32_t threads, bool pin)
{
    struct moe_pool *pool;
    struct moe_err err;
    const struct moe_pool_options options = {.threads = threads, .pin = pin};
    ck_assert_msg(!moe_pool_new(&pool, &options, &err), "%s", err.text);
    return pool;
}

static struct moe_matrix matrix(struct moe_rng *rng, uint32_t rows, uint32_t cols)
{
    return (struct moe_matrix){random_floats(rng, (size_t)rows * cols), MOE_F32, rows, cols};
}

static void linears_once(struct moe_pool *pool, const struct moe_matrix *w, const float *bias,
                         const float *x, uint32_t tokens, float *const want[3])
{
    float *y[3];
    struct moe_linear jobs[3];
    for (int i = 0; i < 3; i++) {
        y[i] = guarded((size_t)tokens * w[i].rows);
        jobs[i] = (struct moe_linear){&w[i], i == 1 ? bias : NULL, y[i]};
    }
    moe_pool_linears(pool, jobs, 3, x, tokens);
    for (int i = 0; i < 3; i++) {
        ck_assert(memcmp(y[i], want[i], (size_t)tokens * w[i].rows * sizeof **y) == 0);
        guards_hold(y[i], (size_t)tokens * w[i].rows);
    }
    float *one = guarded((size_t)tokens * w[1].rows);
    moe_pool_linear(pool, &w[1], bias, x, tokens, one);
    ck_assert(memcmp(one, want[1], (size_t)tokens * w[1].rows * sizeof *one) == 0);
    guards_hold(one, (size_t)tokens * w[1].rows);
}

/* 3.5 MB of weights: enough for the threads to be used; and so little that they are not. */
START_TEST(linears_are_one_kernel_call)
{
    static const uint32_t shapes[][2] = {{600, 700}, {13, 9}};
    static const uint32_t tokens[] = {1, 5, 40};
    struct moe_rng rng;
    moe_rng_init(&rng, 1);
    const uint32_t *shape = shapes[_i % 2], n = tokens[_i / 2];
    const struct moe_kernels *kernels = moe_kernels_best();
    struct moe_matrix w[3] = {matrix(&rng, shape[0], shape[1]),
                              matrix(&rng, shape[0] + 33, shape[1]), matrix(&rng, 1, shape[1])};
    float *x = random_floats(&rng, (size_t)n * shape[1]), *want[3];
    float *bias = random_floats(&rng, w[1].rows);
    for (int i = 0; i < 3; i++) {
        want[i] = malloc((size_t)n * w[i].rows * sizeof **want);
        kernels->dot(&w[i], 0, w[i].rows, x, n, want[i], w[i].rows);
    }
    for (size_t i = 0; i < (size_t)n * w[1].rows; i++)
        want[1][i] += bias[i % w[1].rows];
    for (uint32_t threads = THREADS; threads > 0; threads--) {
        struct moe_pool *pool = pool_of(threads, threads % 2 == 0);
        ck_assert_uint_eq(moe_pool_threads(pool), threads);
        linears_once(pool, w, bias, x, n, want);
        moe_pool_free(pool);
    }
    for (int i = 0; i < 3; i++) {
        free(want[i]);
        free((void *)(uintptr_t)w[i].data);
    }
    free(bias);
    free(x);
}
END_TEST

static struct moe_ffn_job job_of(struct moe_rng *rng, uint32_t d, uint32_t f, uint32_t tokens)
{
    return (struct moe_ffn_job){.w1 = matrix(rng, f, d),
                                .w3 = matrix(rng, f, d),
                                .w2 = matrix(rng, d, f),
                                .n_tokens = tokens,
                                .x = random_floats(rng, (size_t)tokens * d)};
}

static void job_free(struct moe_ffn_job *job)
{
    free((void *)(uintptr_t)job->w1.data);
    free((void *)(uintptr_t)job->w3.data);
    free((void *)(uintptr_t)job->w2.data);
    free((void *)(uintptr_t)job->x);
}

static void experts_once(struct moe_pool *pool, struct moe_ffn_job *jobs, uint32_t n,
                         float *const *want)
{
    for (uint32_t i = 0; i < n; i++) {
        jobs[i].h = guarded((size_t)jobs[i].n_tokens * jobs[i].w1.rows);
        jobs[i].y = guarded((size_t)jobs[i].n_tokens * jobs[i].w2.rows);
    }
    moe_pool_experts(pool, jobs, n);
    for (uint32_t i = 0; i < n; i++) {
        const size_t n_y = (size_t)jobs[i].n_tokens * jobs[i].w2.rows;
        ck_assert(memcmp(jobs[i].y, want[i], n_y * sizeof(float)) == 0);
        guards_hold(jobs[i].h, (size_t)jobs[i].n_tokens * jobs[i].w1.rows);
        guards_hold(jobs[i].y, n_y);
    }
}

START_TEST(experts_are_two_kernel_calls_each)
{
    enum { JOBS = 4, REPEATS = 20 };
    struct moe_rng rng;
    moe_rng_init(&rng, 2);
    const uint32_t d = _i ? 200 : 10, f = _i ? 330 : 7;
    const struct moe_kernels *kernels = moe_kernels_best();
    struct moe_ffn_job jobs[JOBS];
    float *want[JOBS];
    for (uint32_t i = 0; i < JOBS; i++) {
        jobs[i] = job_of(&rng, d, f, i * i * i); /* 0, 1, 8, 27 tokens; shapes may differ too */
        float *h = malloc((size_t)jobs[i].n_tokens * f * sizeof *h + 1);
        want[i] = malloc((size_t)jobs[i].n_tokens * d * sizeof **want + 1);
        kernels->gate_up(&jobs[i].w1, &jobs[i].w3, 0, f, jobs[i].x, jobs[i].n_tokens, h, f);
        kernels->dot(&jobs[i].w2, 0, d, h, jobs[i].n_tokens, want[i], d);
        free(h);
    }
    for (uint32_t threads = THREADS; threads > 0; threads--) {
        struct moe_pool *pool = pool_of(threads, false);
        for (int k = 0; k < REPEATS; k++) /* a lost barrier shows only now and then */
            experts_once(pool, jobs, JOBS, want);
        moe_pool_experts(pool, jobs, 0);
        moe_pool_free(pool);
    }
    for (uint32_t i = 0; i < JOBS; i++) {
        job_free(&jobs[i]);
        free(want[i]);
    }
}
END_TEST

static void count(void *context, uint32_t i)
{
    atomic_fetch_add(&((atomic_uint *)context)[i], 1);
}

START_TEST(each_is_called_once)
{
    for (uint32_t threads = THREADS; threads > 0; threads--)
        for (uint32_t n = 0; n < 100; n += 1 + n / 3) {
            atomic_uint calls[101] = {0};
            struct moe_pool *pool = pool_of(threads, true);
            moe_pool_each(pool, n, count, calls);
            for (uint32_t i = 0; i < 101; i++)
                ck_assert_uint_eq(atomic_load(&calls[i]), i < n);
            moe_pool_free(pool);
        }
}
END_TEST

struct where {
    pthread_t caller;
    int first; /* processor of the caller's first call, -1: none so far */
};

static void note_processor(void *context, uint32_t i)
{
    struct where *where = context;
    (void)i;
    if (pthread_equal(pthread_self(), where->caller) && where->first < 0)
        where->first = sched_getcpu();
}

/* Woken on the processor of another thread of the pool, it would hold that one up. Most times: the
 * system may move it at any moment. */
START_TEST(the_caller_leaves_the_others_their_processors)
{
    enum { TIMES = 40 };
    uint16_t order[MOE_CPUS_MAX];
    uint32_t n_cores, n_nodes, apart = 0, called = 0;
    if (moe_cpu_order(order, &n_cores, &n_nodes) < 2)
        return;
    struct moe_pool *pool = pool_of(2, true);
    for (int i = 0; i < TIMES; i++) {
        struct where where = {pthread_self(), -1};
        ck_assert(moe_cpu_visit(order[1]));
        moe_pool_each(pool, 1000, note_processor, &where);
        called += where.first >= 0;
        apart += where.first >= 0 && where.first != order[1];
    }
    moe_pool_free(pool);
    ck_assert_msg(2 * apart >= called, "apart %u times of %u", apart, called);
}
END_TEST

static uint32_t cores_at_start;

/* A pool that pins its threads leaves the caller free: the next one finds all processors. */
START_TEST(pools_after_pools_see_the_same_machine)
{
    struct moe_pool *a = pool_of(0, true), *b = pool_of(0, true);
    ck_assert_uint_eq(moe_pool_threads(a), cores_at_start);
    ck_assert_uint_eq(moe_pool_threads(a), moe_pool_threads(b));
    moe_pool_free(a);
    struct moe_pool *c = pool_of(0, true);
    ck_assert_uint_eq(moe_pool_threads(b), moe_pool_threads(c));
    ck_assert_ptr_eq(moe_pool_kernels(c), moe_kernels_best());
    moe_pool_free(b);
    moe_pool_free(c);
}
END_TEST

START_TEST(refuses_with_the_reason)
{
    struct moe_pool *pool = NULL;
    struct moe_err err;
    struct moe_pool_options options = {.threads = 1025};
    ck_assert_int_eq(moe_pool_new(&pool, &options, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "threads 1025 exceeds 1024");
    options = (struct moe_pool_options){.kernels = "none"};
    ck_assert_int_eq(moe_pool_new(&pool, &options, &err), MOE_ERR_USAGE);
    ck_assert_ptr_null(pool);
}
END_TEST

int main(void)
{
    uint16_t order[MOE_CPUS_MAX];
    uint32_t n_nodes;
    moe_cpu_order(order, &cores_at_start, &n_nodes);
    Suite *suite = suite_create("pool");
    TCase *tc = tcase_create("pool");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, linears_are_one_kernel_call, 0, 6);
    tcase_add_loop_test(tc, experts_are_two_kernel_calls_each, 0, 2);
    tcase_add_test(tc, each_is_called_once);
    tcase_add_test(tc, the_caller_leaves_the_others_their_processors);
    tcase_add_test(tc, pools_after_pools_see_the_same_machine);
    tcase_add_test(tc, refuses_with_the_reason);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
