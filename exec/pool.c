#include "exec/pool.h"

#include "exec/cpu.h"

#include <inttypes.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Work is cut into units of rows, and each thread takes the next unit when it is done with one, so
 * that a thread delayed by the system takes fewer. Which thread computes a row does not change its
 * bits. */
enum {
    UNIT_BYTES = 1 << 20,   /* most weights of a unit; the first lines of a unit arrive late */
    UNITS_A_THREAD = 16,    /* at least so many units for each thread, if they stay large enough */
    SERIAL_BYTES = 1 << 20, /* less weights (times tokens / 8) than this, about 0.1 ms of one core,
                               are computed by the caller alone: a parallel region costs
                               microseconds on an idle machine, but milliseconds where a pinned
                               thread's core is busy with other programs */
    MANY_TOKENS = 16,       /* with more tokens, a unit is a multiple of the kernels' many_rows, */
    LEAST_ROWS = 32,        /* or of fewer rows, at least so many, if threads would go without; */
    FEW_ROWS = 8,           /* with fewer tokens, of these */
    LINE = 64,
};

struct counter {
    _Alignas(LINE) atomic_uint_fast64_t next;
};

struct moe_pool {
    struct counter counter[2];
    const struct moe_kernels *kernels;
    uint32_t threads;
    uint16_t home;            /* with pin: the processor left for the caller */
    bool taken[MOE_CPUS_MAX]; /* with pin: processors that the other threads are pinned to */
};

static void pin_threads(struct moe_pool *pool, const uint16_t *order, uint32_t n_cpus)
{
    if (pool->threads == 1 || pool->threads > n_cpus)
        return;
    pool->home = order[0];
#pragma omp parallel num_threads((int)pool->threads)
    {
        const int i = omp_get_thread_num();
        if (i > 0)
            pool->taken[order[i]] = moe_cpu_pin(order[i]);
    }
}

/* Called before a parallel region. If the system has woken the caller on a processor that another
 * thread of the pool is pinned to, both would share it and delay the region by milliseconds; so the
 * caller moves to its own. It is not pinned there, since threads that it starts later would inherit
 * that. */
static void go_home(const struct moe_pool *pool)
{
    const int at = sched_getcpu();
    if (at >= 0 && at < MOE_CPUS_MAX && pool->taken[at])
        moe_cpu_visit(pool->home);
}

enum moe_status moe_pool_new(struct moe_pool **out, const struct moe_pool_options *options,
                             struct moe_err *err)
{
    uint16_t order[MOE_CPUS_MAX];
    uint32_t n_cores, n_nodes;
    const struct moe_kernels *kernels;
    if (options->threads > MOE_CPUS_MAX)
        return moe_fail(err, MOE_ERR_USAGE, "threads %" PRIu32 " exceeds %d", options->threads,
                        MOE_CPUS_MAX);
    enum moe_status s =
        moe_kernels_find(options->kernels ? options->kernels : "auto", &kernels, err);
    if (s)
        return s;
    struct moe_pool *pool = aligned_alloc(LINE, sizeof *pool);
    if (!pool)
        return moe_fail_memory(err, "the CPU pool");
    memset(pool, 0, sizeof *pool);
    const uint32_t n_cpus = moe_cpu_order(order, &n_cores, &n_nodes);
    pool->kernels = kernels;
    pool->threads = options->threads ? options->threads : n_cores;
    if (options->pin)
        pin_threads(pool, order, n_cpus);
    *out = pool;
    return MOE_OK;
}

void moe_pool_free(struct moe_pool *pool)
{
    free(pool);
}

uint32_t moe_pool_threads(const struct moe_pool *pool)
{
    return pool->threads;
}

const struct moe_kernels *moe_pool_kernels(const struct moe_pool *pool)
{
    return pool->kernels;
}

/* The size of a job. */
struct extent {
    uint32_t rows, tokens;
    uint64_t row_bytes;
};

/* Jobs that can be computed in any order: `extent` gives the size of one, `compute` computes its
 * rows [r0, r1). */
struct phase {
    const void *jobs;
    uint32_t n_jobs;
    const float *x; /* linears: [T, cols] */
    uint32_t n_tokens;
    struct extent (*extent)(const struct phase *phase, uint32_t job);
    void (*compute)(const struct phase *phase, const struct moe_kernels *kernels, uint32_t job,
                    uint32_t r0, uint32_t r1);
};

/* A measure of the phase's time: bytes of weights, counted once more for every 8 tokens. */
static uint64_t phase_bytes(const struct phase *phase)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < phase->n_jobs; i++) {
        const struct extent e = phase->extent(phase, i);
        bytes += e.tokens ? e.rows * e.row_bytes * (1 + e.tokens / 8) : 0;
    }
    return bytes;
}

/* Many tokens: rows of which a unit is a multiple. */
static uint32_t many_rows(const struct moe_pool *pool, uint32_t rows)
{
    const uint32_t share = rows / pool->threads / LEAST_ROWS * LEAST_ROWS;
    const uint32_t most = pool->kernels->many_rows;
    return share < LEAST_ROWS ? LEAST_ROWS : share < most ? share : most;
}

static uint32_t unit_rows(const struct moe_pool *pool, const struct extent *e, uint64_t unit_bytes)
{
    const uint32_t grain = e->tokens > MANY_TOKENS ? many_rows(pool, e->rows) : FEW_ROWS;
    const uint64_t rows = unit_bytes / (e->row_bytes * (1 + e->tokens / 8) + 1) / grain * grain;
    return rows < grain ? grain : rows < e->rows ? (uint32_t)rows : e->rows;
}

/* One thread of a region: takes units until there are none left. */
static void work_on(const struct moe_pool *pool, const struct phase *phase, uint64_t unit_bytes,
                    struct counter *counter)
{
    uint64_t base = 0; /* units of the jobs before this one */
    for (uint32_t job = 0;;) {
        const uint64_t i = atomic_fetch_add_explicit(&counter->next, 1, memory_order_relaxed);
        for (;; job++) {
            if (job == phase->n_jobs)
                return;
            const struct extent e = phase->extent(phase, job);
            const uint32_t step = unit_rows(pool, &e, unit_bytes);
            const uint64_t n = e.tokens && e.rows ? (e.rows + (uint64_t)step - 1) / step : 0;
            if (i - base >= n) {
                base += n;
                continue;
            }
            const uint32_t r0 = (uint32_t)(i - base) * step;
            const uint32_t r1 = e.rows - r0 < step ? e.rows : r0 + step;
            phase->compute(phase, pool->kernels, job, r0, r1);
            break;
        }
    }
}

static void run_alone(const struct moe_pool *pool, const struct phase *phase)
{
    for (uint32_t i = 0; i < phase->n_jobs; i++) {
        const struct extent e = phase->extent(phase, i);
        if (e.tokens && e.rows)
            phase->compute(phase, pool->kernels, i, 0, e.rows);
    }
}

/* Computes up to 2 phases, the second after a barrier. */
static void run(struct moe_pool *pool, const struct phase *phases, uint32_t n_phases)
{
    uint64_t unit_bytes[2];
    for (uint32_t i = 0; i < n_phases; i++) {
        const uint64_t bytes = phase_bytes(&phases[i]);
        if (pool->threads == 1 || bytes < SERIAL_BYTES) {
            for (uint32_t k = 0; k < n_phases; k++)
                run_alone(pool, &phases[k]);
            return;
        }
        unit_bytes[i] = bytes / ((uint64_t)pool->threads * UNITS_A_THREAD);
        unit_bytes[i] = unit_bytes[i] < UNIT_BYTES ? unit_bytes[i] : UNIT_BYTES;
        atomic_store_explicit(&pool->counter[i].next, 0, memory_order_relaxed);
    }
    go_home(pool);
#pragma omp parallel num_threads((int)pool->threads)
    for (uint32_t i = 0; i < n_phases; i++) {
        if (i > 0) {
#pragma omp barrier
        }
        work_on(pool, &phases[i], unit_bytes[i], &pool->counter[i]);
    }
}

static uint64_t row_bytes(const struct moe_matrix *w)
{
    return moe_dtype_row_bytes(w->dtype, w->cols);
}

static struct extent linear_extent(const struct phase *phase, uint32_t job)
{
    const struct moe_matrix *w = ((const struct moe_linear *)phase->jobs)[job].w;
    return (struct extent){w->rows, phase->n_tokens, row_bytes(w)};
}

static void linear_compute(const struct phase *phase, const struct moe_kernels *kernels,
                           uint32_t job, uint32_t r0, uint32_t r1)
{
    const struct moe_linear *l = (const struct moe_linear *)phase->jobs + job;
    const size_t ldy = l->w->rows;
    kernels->dot(l->w, r0, r1, phase->x, phase->n_tokens, l->y, ldy);
    if (l->bias)
        for (uint32_t t = 0; t < phase->n_tokens; t++)
            for (uint32_t r = r0; r < r1; r++)
                l->y[t * ldy + r] += l->bias[r];
}

void moe_pool_linears(struct moe_pool *pool, const struct moe_linear *jobs, uint32_t n_jobs,
                      const float *x, uint32_t n_tokens)
{
    const struct phase phase = {jobs, n_jobs, x, n_tokens, linear_extent, linear_compute};
    run(pool, &phase, 1);
}

void moe_pool_linear(struct moe_pool *pool, const struct moe_matrix *w, const float *bias,
                     const float *x, uint32_t n_tokens, float *y)
{
    const struct moe_linear job = {w, bias, y};
    moe_pool_linears(pool, &job, 1, x, n_tokens);
}

static struct extent up_extent(const struct phase *phase, uint32_t job)
{
    const struct moe_ffn_job *j = (const struct moe_ffn_job *)phase->jobs + job;
    return (struct extent){j->w1.rows, j->n_tokens, row_bytes(&j->w1) + row_bytes(&j->w3)};
}

static void up_compute(const struct phase *phase, const struct moe_kernels *kernels, uint32_t job,
                       uint32_t r0, uint32_t r1)
{
    const struct moe_ffn_job *j = (const struct moe_ffn_job *)phase->jobs + job;
    kernels->gate_up(&j->w1, &j->w3, r0, r1, j->x, j->n_tokens, j->h, j->w1.rows);
}

static struct extent down_extent(const struct phase *phase, uint32_t job)
{
    const struct moe_ffn_job *j = (const struct moe_ffn_job *)phase->jobs + job;
    return (struct extent){j->w2.rows, j->n_tokens, row_bytes(&j->w2)};
}

static void down_compute(const struct phase *phase, const struct moe_kernels *kernels, uint32_t job,
                         uint32_t r0, uint32_t r1)
{
    const struct moe_ffn_job *j = (const struct moe_ffn_job *)phase->jobs + job;
    kernels->dot(&j->w2, r0, r1, j->h, j->n_tokens, j->y, j->w2.rows);
}

void moe_pool_experts(struct moe_pool *pool, const struct moe_ffn_job *jobs, uint32_t n_jobs)
{
    const struct phase phases[2] = {
        {.jobs = jobs, .n_jobs = n_jobs, .extent = up_extent, .compute = up_compute},
        {.jobs = jobs, .n_jobs = n_jobs, .extent = down_extent, .compute = down_compute},
    };
    run(pool, phases, 2);
}

void moe_pool_each(struct moe_pool *pool, uint32_t n, void (*f)(void *context, uint32_t i),
                   void *context)
{
    if (pool->threads == 1 || n == 1) {
        for (uint32_t i = 0; i < n; i++)
            f(context, i);
        return;
    }
    atomic_uint_fast64_t *next = &pool->counter[0].next;
    atomic_store_explicit(next, 0, memory_order_relaxed);
    go_home(pool);
#pragma omp parallel num_threads((int)pool->threads)
    for (uint64_t i; (i = atomic_fetch_add_explicit(next, 1, memory_order_relaxed)) < n;)
        f(context, (uint32_t)i);
}
