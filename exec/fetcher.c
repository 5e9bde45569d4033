#include "exec/fetcher.h"

#include "base/progress.h"

#include <stdlib.h>

enum { N_PRIORITIES = 3, FIRST_ROOM = 64 };

/* A first-in, first-out queue that grows. */
struct queue {
    struct moe_fetch_job *job;
    size_t first, n, room;
};

struct moe_fetcher {
    struct moe_shared *shared;
    struct moe_device *device;
    struct moe_expert_store *store;
    pthread_t thread;
    pthread_cond_t wake, idle;
    struct queue waiting[N_PRIORITIES], landed;
    struct moe_fetch_job running;
    bool is_running; /* `running` is being copied */
    bool awaits_use; /* the thread waits for the event of a use, without the lock */
    bool end;        /* the thread has to stop */
    struct moe_event *start_event, *end_event;
};

/* Room for n jobs in all. */
static enum moe_status reserve(struct queue *q, size_t n, struct moe_err *err)
{
    size_t room = q->room ? q->room : FIRST_ROOM;
    if (n <= q->room)
        return MOE_OK;
    while (room < n)
        room *= 2;
    struct moe_fetch_job *job = malloc(room * sizeof *job);
    if (!job)
        return moe_fail_memory(err, "the queue of copies");
    for (size_t i = 0, at = q->first; i < q->n; i++) {
        job[i] = q->job[at];
        at = at + 1 < q->room ? at + 1 : 0;
    }
    free(q->job);
    *q = (struct queue){job, 0, q->n, room};
    return MOE_OK;
}

static void push(struct queue *q, const struct moe_fetch_job *job)
{
    q->job[(q->first + q->n++) % q->room] = *job;
}

static struct moe_fetch_job *head(struct queue *q)
{
    return q->n ? &q->job[q->first] : NULL;
}

static void pop(struct queue *q)
{
    q->first = (q->first + 1) % q->room;
    q->n--;
}

/* The most urgent queue whose first copy may begin now; NULL: none. *use: then the kernel to wait
 * for, or NULL if no copy is waiting for a submitted kernel. */
static struct queue *choose(struct moe_fetcher *f, const struct moe_use **use)
{
    *use = NULL;
    for (int p = 0; p < N_PRIORITIES; p++) {
        struct moe_fetch_job *job = head(&f->waiting[p]);
        if (!job || job->buffer->n_landed + 1 != job->ordinal)
            continue;
        if (job->use && !job->use->submitted)
            continue;
        if (!job->use || f->device->ops->done(f->device, job->use->end))
            return &f->waiting[p];
        if (!*use)
            *use = job->use;
    }
    return NULL;
}

/* Makes the copy `running`, which nothing changes meanwhile. Called without the lock. */
static enum moe_status carry_out(struct moe_fetcher *f, uint64_t span_ns[2], struct moe_err *err)
{
    struct moe_device *device = f->device;
    const struct moe_fetch_job *job = &f->running;
    device->ops->record(device, MOE_STREAM_EXPERTS, f->start_event);
    moe_expert_store_copy(f->store, job->what.layer, job->what.expert, job->buffer->memory,
                          job->what.pageable);
    device->ops->record(device, MOE_STREAM_EXPERTS, f->end_event);
    enum moe_status s = device->ops->sync(device, f->end_event, err);
    if (s)
        return s;
    span_ns[0] = device->ops->event_ns(device, f->start_event);
    span_ns[1] = device->ops->event_ns(device, f->end_event);
    return MOE_OK;
}

/* Makes one copy, or waits for something that lets one begin. Lock held before and after. */
static void work(struct moe_fetcher *f)
{
    const struct moe_use *use;
    struct queue *q = choose(f, &use);
    struct moe_err err = {0};
    if (!q && !use) {
        pthread_cond_wait(&f->wake, &f->shared->lock);
        return;
    }
    enum moe_status s = MOE_OK;
    if (q) {
        f->running = *head(q);
        f->running.start_ns = moe_clock_ns();
        f->is_running = true;
        pop(q);
    }
    f->awaits_use = !q;
    pthread_mutex_unlock(&f->shared->lock);
    uint64_t span_ns[2];
    s = q ? carry_out(f, span_ns, &err) : f->device->ops->sync(f->device, use->end, &err);
    pthread_mutex_lock(&f->shared->lock);
    if (q && !s) {
        f->running.buffer->n_landed++;
        f->running.start_ns = span_ns[0];
        f->running.end_ns = span_ns[1];
        push(&f->landed, &f->running);
        pthread_cond_signal(&f->shared->host);
    }
    f->is_running = f->awaits_use = false;
    pthread_cond_signal(&f->idle);
    if (s)
        moe_shared_fail(f->shared, &err);
}

static void *run(void *context)
{
    struct moe_fetcher *f = context;
    pthread_mutex_lock(&f->shared->lock);
    while (!f->end && !f->shared->err.status)
        work(f);
    pthread_mutex_unlock(&f->shared->lock);
    return NULL;
}

static void release(struct moe_fetcher *f)
{
    for (int p = 0; p < N_PRIORITIES; p++)
        free(f->waiting[p].job);
    free(f->landed.job);
    f->device->ops->event_free(f->device, f->start_event);
    f->device->ops->event_free(f->device, f->end_event);
    pthread_cond_destroy(&f->wake);
    pthread_cond_destroy(&f->idle);
    free(f);
}

enum moe_status moe_fetcher_new(struct moe_fetcher **out, struct moe_shared *shared,
                                struct moe_device *device, struct moe_expert_store *store,
                                struct moe_err *err)
{
    struct moe_fetcher *f = calloc(1, sizeof *f);
    if (!f)
        return moe_fail_memory(err, "the fetcher");
    f->shared = shared;
    f->device = device;
    f->store = store;
    pthread_cond_init(&f->wake, NULL);
    pthread_cond_init(&f->idle, NULL);
    enum moe_status s = device->ops->event_new(device, &f->start_event, err);
    if (!s)
        s = device->ops->event_new(device, &f->end_event, err);
    if (!s && pthread_create(&f->thread, NULL, run, f))
        s = moe_fail(err, MOE_ERR_MEMORY, "cannot start a thread for the copies of experts");
    if (s)
        release(f);
    else
        *out = f;
    return s;
}

void moe_fetcher_free(struct moe_fetcher *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->shared->lock);
    f->end = true;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->shared->lock);
    pthread_join(f->thread, NULL);
    release(f);
}

enum moe_status moe_fetcher_queue(struct moe_fetcher *f, const struct moe_fetch *what,
                                  struct moe_buffer *buffer, struct moe_err *err)
{
    struct queue *q = &f->waiting[what->priority];
    enum moe_status s = reserve(q, q->n + 1, err);
    /* Reserve room in `landed`, too: the thread has no way to fail there. */
    size_t jobs = f->landed.n + f->is_running + 1;
    for (int p = 0; p < N_PRIORITIES; p++)
        jobs += f->waiting[p].n;
    if (!s)
        s = reserve(&f->landed, jobs, err);
    if (s)
        return s;
    buffer->layer = what->layer;
    buffer->expert = what->expert;
    push(q,
         &(struct moe_fetch_job){
             .what = *what, .buffer = buffer, .use = buffer->use, .ordinal = ++buffer->n_queued});
    pthread_cond_signal(&f->wake);
    return MOE_OK;
}

bool moe_fetcher_cancel(struct moe_fetcher *f, struct moe_buffer *buffer)
{
    struct queue *q = &f->waiting[MOE_FETCH_PREFETCH];
    bool found = false;
    for (size_t i = 0; i < q->n; i++) {
        struct moe_fetch_job *job = &q->job[(q->first + i) % q->room];
        if (found)
            q->job[(q->first + i - 1) % q->room] = *job;
        found = found || (job->buffer == buffer && job->ordinal == buffer->n_queued);
    }
    q->n -= found;
    buffer->n_queued -= found;
    pthread_cond_signal(&f->wake); /* the queue may have another first copy now */
    return found;
}

bool moe_fetcher_landed(struct moe_fetcher *f, struct moe_fetch_job *out)
{
    struct moe_fetch_job *job = head(&f->landed);
    if (!job)
        return false;
    *out = *job;
    pop(&f->landed);
    return true;
}

bool moe_fetcher_running(const struct moe_fetcher *f, struct moe_fetch_job *out)
{
    if (f->is_running)
        *out = f->running;
    return f->is_running;
}

void moe_fetcher_wake(struct moe_fetcher *f)
{
    pthread_cond_signal(&f->wake);
}

void moe_fetcher_forget_uses(struct moe_fetcher *f)
{
    while (f->awaits_use)
        pthread_cond_wait(&f->idle, &f->shared->lock);
    for (int p = 0; p < N_PRIORITIES; p++)
        for (size_t i = 0; i < f->waiting[p].n; i++)
            f->waiting[p].job[(f->waiting[p].first + i) % f->waiting[p].room].use = NULL;
}
