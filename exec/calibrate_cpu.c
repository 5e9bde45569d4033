#include "exec/calibrate_state.h"

#include "base/numbers.h"
#include "exec/cpu_worker.h"

#include <math.h>

enum { LEAST_SAMPLES = 3, SAMPLES = 255, EXPERTS = MOE_MAX_TOP_K };

/* A CPU worker with some threads, as the real machine has one. */
struct rig {
    struct moe_calibrator *c;
    struct moe_shared shared;
    struct moe_cpu_worker *worker;
    struct moe_ffn_job jobs[EXPERTS];
};

static enum moe_status rig_init(struct rig *rig, struct moe_calibrator *c, uint32_t threads,
                                struct moe_err *err)
{
    const struct moe_pool_options options = {
        .threads = threads, .pin = c->o->pin, .kernels = c->o->kernels};
    rig->c = c;
    rig->worker = NULL;
    moe_shared_init(&rig->shared);
    enum moe_status s =
        moe_cpu_worker_new(&rig->worker, &rig->shared, c->device, &options, false, err);
    if (s)
        moe_shared_release(&rig->shared);
    return s;
}

static void rig_release(struct rig *rig)
{
    moe_cpu_worker_free(rig->worker);
    moe_shared_release(&rig->shared);
}

/* Sets n jobs. They share their activations, which are only read, and their results are not used.
 */
static void set_jobs(struct rig *rig, const struct moe_cal_size *size, uint32_t n,
                     uint32_t n_tokens)
{
    struct moe_calibrator *c = rig->c;
    for (uint32_t i = 0; i < n; i++) {
        const size_t row = n_tokens > 1 ? 0 : (size_t)i * c->widest;
        rig->jobs[i] =
            (struct moe_ffn_job){.n_tokens = n_tokens, .x = c->x, .h = c->h + row, .y = c->y + row};
        moe_bench_expert_at(&rig->jobs[i], moe_cal_next_expert(c, size), size->dtype, size->d_model,
                            size->d_ffn);
    }
}

/* Runs n jobs on the worker and waits for them. *seconds: the time that it computed. */
static enum moe_status work(struct rig *rig, uint32_t n, double *seconds, struct moe_err *err)
{
    struct moe_cpu_work work = {.jobs = rig->jobs, .n_jobs = n};
    moe_cpu_worker_start(rig->worker, &work);
    pthread_mutex_lock(&rig->shared.lock);
    while (!work.done)
        pthread_cond_wait(&rig->shared.host, &rig->shared.lock);
    const struct moe_err failed = rig->shared.err;
    pthread_mutex_unlock(&rig->shared.lock);
    if (failed.status) {
        if (err)
            *err = failed;
        return failed.status;
    }
    *seconds = (double)(work.end_ns > work.start_ns ? work.end_ns - work.start_ns : 1) * 1e-9;
    return MOE_OK;
}

/* Goes once through the size's memory, or part of it, so that caches, pages and threads are as in
 * the middle of a run. */
static enum moe_status warm_up(struct rig *rig, const struct moe_cal_size *size, uint32_t jobs,
                               uint32_t n_tokens, struct moe_err *err)
{
    const uint64_t most = 16u << 20, wanted = size->walk < most ? size->walk : most;
    double ignored;
    enum moe_status s = MOE_OK;
    for (uint64_t bytes = 0; bytes < wanted && !s; bytes += jobs * size->bytes) {
        set_jobs(rig, size, jobs, n_tokens);
        s = moe_cal_go_on(rig->c, err);
        if (!s)
            s = work(rig, jobs, &ignored, err);
    }
    return s;
}

/* Median time of `jobs` experts of n_tokens tokens each, computed together, over as many samples as
 * fit into some milliseconds. */
static enum moe_status job_seconds(struct rig *rig, const struct moe_cal_size *size, uint32_t jobs,
                                   uint32_t n_tokens, double *out, struct moe_err *err)
{
    const double enough = 10e-3;
    double sample[SAMPLES], sum = 0;
    uint32_t n = 0;
    enum moe_status s = warm_up(rig, size, jobs, n_tokens, err);
    while (!s && n < SAMPLES && (n < LEAST_SAMPLES || sum < enough)) {
        s = moe_cal_go_on(rig->c, err);
        if (!s && !rig->c->o->alone)
            s = moe_cal_device_touch(rig->c, err);
        set_jobs(rig, size, jobs, n_tokens);
        if (!s)
            s = work(rig, jobs, &sample[n], err);
        if (!s)
            sum += sample[n++];
    }
    if (s)
        return s;
    *out = moe_median(sample, n);
    return MOE_OK;
}

/* Rate at which `threads` threads read memory, in bytes a second; with a pool of its own, as the
 * worker's belongs to the worker's thread. */
static enum moe_status read_rate(struct moe_calibrator *c, uint32_t threads, double *out,
                                 struct moe_err *err)
{
    const struct moe_pool_options options = {
        .threads = threads, .pin = c->o->pin, .kernels = c->o->kernels};
    struct moe_pool *pool;
    enum moe_status s = moe_pool_new(&pool, &options, err);
    if (s)
        return s;
    *out = (double)c->memory.bytes / moe_bench_read_seconds(&c->memory, pool, c->memory.bytes);
    moe_pool_free(pool);
    return MOE_OK;
}

static enum moe_status many_tokens(struct rig *rig, uint32_t threads, double *gflops,
                                   struct moe_err *err)
{
    const struct moe_cal_size *size = moe_cal_largest(rig->c);
    double seconds;
    enum moe_status s = job_seconds(rig, size, 1, MOE_CAL_HOST_TOKENS, &seconds, err);
    if (!s)
        *gflops = moe_cal_flops(size) * MOE_CAL_HOST_TOKENS / seconds * 1e-9 / threads;
    return s;
}

enum moe_status moe_cal_cpu_round(struct moe_calibrator *c, struct moe_cal_round *r,
                                  struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (uint32_t t = 0; t < c->n_threads && !s; t++) {
        struct rig rig;
        s = read_rate(c, c->threads[t], &r->read[t], err);
        if (!s)
            s = rig_init(&rig, c, c->threads[t], err);
        if (s)
            return s;
        for (uint32_t i = 0; i < c->n_sizes && !s; i++) {
            s = job_seconds(&rig, &c->size[i], c->size[i].n, 1, &r->ffn[t][i], err);
            r->ffn[t][i] /= c->size[i].n;
            if (!s)
                s = moe_cal_tick(c, err);
        }
        if (!s && t + 1 == c->n_threads)
            s = many_tokens(&rig, c->threads[t], &r->gflops, err);
        rig_release(&rig);
    }
    return s ? s : moe_cal_tick(c, err);
}

enum moe_status moe_cal_cpu_while(struct moe_calibrator *c,
                                  bool (*go_on)(struct moe_calibrator *c, void *context),
                                  void *context, double *seconds, uint64_t *experts,
                                  struct moe_err *err)
{
    const struct moe_cal_size *size = moe_cal_largest(c);
    struct rig rig;
    enum moe_status s = rig_init(&rig, c, c->threads[c->n_threads - 1], err);
    if (s)
        return s;
    double sum = 0, one = 0;
    uint64_t n = 0;
    do {
        set_jobs(&rig, size, size->n, 1);
        s = work(&rig, size->n, &one, err);
        sum += s ? 0 : one;
        n += size->n;
    } while (!s && go_on(c, context));
    rig_release(&rig);
    if (s)
        return s;
    *seconds = sum;
    *experts = n;
    return MOE_OK;
}
