#include "exec/cpu_worker.h"

#include "base/progress.h"

#include <stdlib.h>

enum { QUEUE = 64 };

struct moe_cpu_worker {
    struct moe_shared *shared;
    struct moe_device *device;
    struct moe_pool_options options;
    struct moe_pool *pool;
    bool in_caller; /* no thread of its own */
    pthread_t thread;
    pthread_cond_t wake;
    struct moe_cpu_work *queue[QUEUE];
    unsigned first, n;
    bool started;       /* the thread has created the pool, or failed to (err) */
    bool end;           /* no more work will come */
    struct moe_err err; /* of creating the pool */
};

/* Called without the lock; returns with the lock held. */
static void compute(struct moe_cpu_worker *w, struct moe_cpu_work *work)
{
    struct moe_err err = {0};
    enum moe_status s = work->after ? w->device->ops->sync(w->device, work->after, &err) : MOE_OK;
    work->start_ns = moe_clock_ns();
    if (!s && work->gather)
        work->gather(work->context, w->pool);
    if (!s)
        moe_pool_experts(w->pool, work->jobs, work->n_jobs);
    work->end_ns = moe_clock_ns();
    pthread_mutex_lock(&w->shared->lock);
    work->done = true;
    if (s)
        moe_shared_fail(w->shared, &err);
    pthread_cond_signal(&w->shared->host);
}

/* Creates the pool in this thread, since an OpenMP team belongs to the thread that starts it. */
static void *run(void *context)
{
    struct moe_cpu_worker *w = context;
    struct moe_err err = {0};
    enum moe_status s = moe_pool_new(&w->pool, &w->options, &err);
    pthread_mutex_lock(&w->shared->lock);
    w->started = true;
    w->err = err;
    pthread_cond_broadcast(&w->wake);
    while (!s) {
        while (!w->n && !w->end)
            pthread_cond_wait(&w->wake, &w->shared->lock);
        if (!w->n)
            break;
        struct moe_cpu_work *work = w->queue[w->first];
        w->first = (w->first + 1) % QUEUE;
        w->n--;
        pthread_mutex_unlock(&w->shared->lock);
        compute(w, work);
    }
    pthread_mutex_unlock(&w->shared->lock);
    moe_pool_free(w->pool);
    return NULL;
}

enum moe_status moe_cpu_worker_new(struct moe_cpu_worker **out, struct moe_shared *shared,
                                   struct moe_device *device,
                                   const struct moe_pool_options *options, bool in_caller,
                                   struct moe_err *err)
{
    struct moe_cpu_worker *w = calloc(1, sizeof *w);
    if (!w)
        return moe_fail_memory(err, "the CPU worker");
    w->shared = shared;
    w->device = device;
    w->options = *options;
    w->in_caller = in_caller;
    pthread_cond_init(&w->wake, NULL);
    if (in_caller) {
        enum moe_status failed = moe_pool_new(&w->pool, options, err);
        if (failed)
            moe_cpu_worker_free(w);
        else
            *out = w;
        return failed;
    }
    if (pthread_create(&w->thread, NULL, run, w)) {
        pthread_cond_destroy(&w->wake);
        free(w);
        return moe_fail(err, MOE_ERR_MEMORY, "cannot start a thread for the CPU's experts");
    }
    pthread_mutex_lock(&shared->lock);
    while (!w->started)
        pthread_cond_wait(&w->wake, &shared->lock);
    enum moe_status s = w->err.status;
    if (s && err)
        *err = w->err;
    pthread_mutex_unlock(&shared->lock);
    if (s)
        moe_cpu_worker_free(w);
    else
        *out = w;
    return s;
}

void moe_cpu_worker_free(struct moe_cpu_worker *w)
{
    if (!w)
        return;
    if (w->in_caller) {
        moe_pool_free(w->pool);
    } else {
        pthread_mutex_lock(&w->shared->lock);
        w->end = true;
        pthread_cond_broadcast(&w->wake);
        pthread_mutex_unlock(&w->shared->lock);
        pthread_join(w->thread, NULL);
    }
    pthread_cond_destroy(&w->wake);
    free(w);
}

void moe_cpu_worker_start(struct moe_cpu_worker *w, struct moe_cpu_work *work)
{
    work->done = false;
    if (w->in_caller) {
        compute(w, work);
        pthread_mutex_unlock(&w->shared->lock);
        return;
    }
    pthread_mutex_lock(&w->shared->lock);
    while (w->n == QUEUE)
        pthread_cond_wait(&w->shared->host, &w->shared->lock);
    w->queue[(w->first + w->n++) % QUEUE] = work;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->shared->lock);
}

const struct moe_pool *moe_cpu_worker_pool(const struct moe_cpu_worker *w)
{
    return w->pool;
}
