#include "exec/host_stream.h"

#include "base/progress.h"
#include "base/rng.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* The place behind the number-th operation of a stream, counted from 1; 0: no place. */
struct place {
    enum moe_stream stream;
    uint64_t number;
};

struct moe_event {
    struct place place; /* of the latest record */
    uint64_t ns;        /* when that was reached */
    uint32_t pending;   /* records that are queued */
    bool freed;         /* by its owner; the last of the pending records releases its memory */
};

struct operation {
    enum { WORK, RECORD, WAIT } kind;
    uint64_t queued_ns;
    struct moe_host_work work;
    bool awaited;            /* WORK: a caller of moe_host_streams_run waits for its end */
    struct moe_event *event; /* RECORD */
    struct place place;      /* WAIT */
    _Alignas(64) char payload[MOE_HOST_PAYLOAD];
};

struct stream {
    struct moe_host_streams *all;
    pthread_t thread;
    pthread_cond_t fed;                /* an operation was queued */
    pthread_cond_t room;               /* an operation is done, its place in the queue is free */
    pthread_cond_t reached;            /* a place that someone may wait for was reached */
    uint64_t queued, done;             /* operations since the start */
    uint64_t end_ns;                   /* end of the latest operation that is done */
    uint64_t ended_ns[MOE_HOST_QUEUE]; /* ends of the latest ones, placed as in operations */
    uint32_t crowd;                    /* callers that wait for room */
    struct moe_rng rng;                /* used by the stream's thread only */
    struct operation *operations;      /* [MOE_HOST_QUEUE], by (number - 1) % MOE_HOST_QUEUE */
};

struct moe_host_streams {
    pthread_mutex_t lock; /* guards everything here and in events, except the operation being run */
    pthread_cond_t raised; /* a flag was raised, or there is an error */
    void *context;
    uint64_t delay_ns;
    bool closing;
    struct moe_err error; /* the first one */
    uint32_t n_started;
    struct stream stream[MOE_N_STREAMS];
};

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void sleep_until(uint64_t ns)
{
    const struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u),
                               .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static void keep_error(struct moe_host_streams *all, const struct moe_err *err)
{
    if (all->error.status)
        return;
    all->error = *err;
    pthread_cond_broadcast(&all->raised);
}

/* Called with the lock held, which is released while the work runs. Returns the operation's end. */
static uint64_t run_work(struct stream *s, const struct operation *op, uint64_t start)
{
    struct moe_host_streams *all = s->all;
    const struct moe_host_work *work = &op->work;
    if (all->error.status)
        return start;
    struct moe_err err;
    pthread_mutex_unlock(&all->lock);
    enum moe_status status = work->run(all->context, op->payload, &err);
    const uint64_t deadline = start + work->set_ns;
    uint64_t end = moe_clock_ns();
    if (!status && end < deadline)
        sleep_until(end = deadline);
    if (!status && work->finish)
        work->finish(all->context, op->payload);
    pthread_mutex_lock(&all->lock);
    if (status)
        keep_error(all, &err);
    return end;
}

static uint64_t run_record(const struct stream *s, struct moe_event *event, uint64_t start)
{
    if (event->place.stream == (enum moe_stream)(s - s->all->stream) &&
        event->place.number == s->done + 1)
        event->ns = start;
    if (--event->pending == 0 && event->freed)
        free(event);
    return start;
}

/* Returns when the place was reached; if that is so long ago that the time is no longer kept, the
 * present time. */
static uint64_t run_wait(struct moe_host_streams *all, struct place place, uint64_t start)
{
    struct stream *of = &all->stream[place.stream];
    if (place.number == 0)
        return start;
    while (of->done < place.number)
        pthread_cond_wait(&of->reached, &all->lock);
    if (of->done - place.number < MOE_HOST_QUEUE)
        return later(start, of->ended_ns[(place.number - 1) % MOE_HOST_QUEUE]);
    return later(start, moe_clock_ns());
}

static uint64_t random_delay(struct stream *s, uint64_t start)
{
    struct moe_host_streams *all = s->all;
    if (all->delay_ns == 0 || all->error.status)
        return start;
    const uint64_t until = moe_clock_ns() + moe_rng_below(&s->rng, all->delay_ns + 1);
    pthread_mutex_unlock(&all->lock);
    sleep_until(until);
    pthread_mutex_lock(&all->lock);
    return later(start, until);
}

static void perform(struct stream *s, const struct operation *op)
{
    uint64_t end = random_delay(s, later(s->end_ns, op->queued_ns));
    if (op->kind == WORK)
        end = run_work(s, op, end);
    else if (op->kind == RECORD)
        end = run_record(s, op->event, end);
    else
        end = run_wait(s->all, op->place, end);
    s->end_ns = s->ended_ns[s->done % MOE_HOST_QUEUE] = end;
    s->done++;
    if (op->kind == RECORD || op->awaited)
        pthread_cond_broadcast(&s->reached);
    if (s->crowd)
        pthread_cond_signal(&s->room);
}

static void *serve(void *context)
{
    struct stream *s = context;
    struct moe_host_streams *all = s->all;
    /* Without this, sleeps would end up to 50 us late. */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    pthread_mutex_lock(&all->lock);
    for (;;) {
        while (s->queued == s->done && !all->closing)
            pthread_cond_wait(&s->fed, &all->lock);
        if (s->queued == s->done)
            break;
        perform(s, &s->operations[s->done % MOE_HOST_QUEUE]);
    }
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

static void release(struct stream *s)
{
    pthread_cond_destroy(&s->fed);
    pthread_cond_destroy(&s->room);
    pthread_cond_destroy(&s->reached);
    free(s->operations);
}

static enum moe_status start(struct moe_host_streams *all, uint32_t i, uint64_t seed,
                             struct moe_err *err)
{
    struct stream *s = &all->stream[i];
    s->all = all;
    moe_rng_init(&s->rng, moe_mix64(moe_mix64(seed) + i));
    s->operations = aligned_alloc(64, MOE_HOST_QUEUE * sizeof *s->operations);
    if (!s->operations)
        return moe_fail_memory(err, "a stream's queue");
    pthread_cond_init(&s->fed, NULL);
    pthread_cond_init(&s->room, NULL);
    pthread_cond_init(&s->reached, NULL);
    all->n_started++;
    const int failed = pthread_create(&s->thread, NULL, serve, s);
    if (!failed)
        return MOE_OK;
    all->n_started--;
    release(s);
    return moe_fail(err, MOE_ERR_MEMORY, "device 'host': cannot start a thread: %s",
                    strerror(failed));
}

enum moe_status moe_host_streams_new(struct moe_host_streams **out, void *context,
                                     uint64_t delay_ns, uint64_t seed, struct moe_err *err)
{
    struct moe_host_streams *all = calloc(1, sizeof *all);
    if (!all)
        return moe_fail_memory(err, "a device's streams");
    all->context = context;
    all->delay_ns = delay_ns;
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->raised, NULL);
    for (uint32_t i = 0; i < MOE_N_STREAMS; i++) {
        enum moe_status status = start(all, i, seed, err);
        if (status) {
            moe_host_streams_free(all);
            return status;
        }
    }
    *out = all;
    return MOE_OK;
}

void moe_host_streams_free(struct moe_host_streams *all)
{
    pthread_mutex_lock(&all->lock);
    all->closing = true;
    for (uint32_t i = 0; i < all->n_started; i++)
        pthread_cond_signal(&all->stream[i].fed);
    pthread_mutex_unlock(&all->lock);
    for (uint32_t i = 0; i < all->n_started; i++)
        pthread_join(all->stream[i].thread, NULL);
    for (uint32_t i = 0; i < all->n_started; i++)
        release(&all->stream[i]);
    pthread_cond_destroy(&all->raised);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

/* Waits for room and returns the next operation of the stream, for `publish`. */
static struct operation *next_operation(struct stream *s)
{
    s->crowd++;
    while (s->queued - s->done == MOE_HOST_QUEUE)
        pthread_cond_wait(&s->room, &s->all->lock);
    s->crowd--;
    struct operation *op = &s->operations[s->queued % MOE_HOST_QUEUE];
    op->queued_ns = moe_clock_ns();
    op->awaited = false;
    return op;
}

static void publish(struct stream *s)
{
    if (s->queued++ == s->done) /* otherwise its thread is not idle and needs no signal */
        pthread_cond_signal(&s->fed);
}

static struct stream *push(struct moe_host_streams *all, enum moe_stream stream,
                           const struct moe_host_work *work, bool awaited)
{
    struct stream *s = &all->stream[stream];
    struct operation *op = next_operation(s);
    op->kind = WORK;
    op->work = *work;
    op->awaited = awaited;
    memcpy(op->payload, work->payload, work->payload_bytes);
    publish(s);
    return s;
}

void moe_host_streams_push(struct moe_host_streams *all, enum moe_stream stream,
                           const struct moe_host_work *work)
{
    pthread_mutex_lock(&all->lock);
    push(all, stream, work, false);
    pthread_mutex_unlock(&all->lock);
}

void moe_host_streams_run(struct moe_host_streams *all, enum moe_stream stream,
                          const struct moe_host_work *work)
{
    pthread_mutex_lock(&all->lock);
    struct stream *s = push(all, stream, work, true);
    const uint64_t number = s->queued;
    while (s->done < number)
        pthread_cond_wait(&s->reached, &all->lock);
    pthread_mutex_unlock(&all->lock);
}

void moe_host_streams_fail(struct moe_host_streams *all, const struct moe_err *err)
{
    pthread_mutex_lock(&all->lock);
    keep_error(all, err);
    pthread_mutex_unlock(&all->lock);
}

enum moe_status moe_host_event_new(struct moe_event **out, struct moe_err *err)
{
    struct moe_event *event = calloc(1, sizeof *event);
    if (!event)
        return moe_fail_memory(err, "an event");
    *out = event;
    return MOE_OK;
}

void moe_host_event_free(struct moe_host_streams *all, struct moe_event *event)
{
    if (!event)
        return;
    pthread_mutex_lock(&all->lock);
    event->freed = true;
    const bool queued = event->pending > 0;
    pthread_mutex_unlock(&all->lock);
    if (!queued)
        free(event);
}

void moe_host_event_record(struct moe_host_streams *all, enum moe_stream stream,
                           struct moe_event *event)
{
    pthread_mutex_lock(&all->lock);
    struct stream *s = &all->stream[stream];
    struct operation *op = next_operation(s);
    op->kind = RECORD;
    op->event = event;
    event->pending++;
    event->place = (struct place){stream, s->queued + 1};
    publish(s);
    pthread_mutex_unlock(&all->lock);
}

void moe_host_event_wait(struct moe_host_streams *all, enum moe_stream stream,
                         const struct moe_event *event)
{
    pthread_mutex_lock(&all->lock);
    const struct place place = event->place;
    struct stream *s = &all->stream[stream];
    struct operation *op = next_operation(s);
    op->kind = WAIT;
    op->place = place;
    publish(s);
    pthread_mutex_unlock(&all->lock);
}

static bool is_done(const struct moe_host_streams *all, struct place place)
{
    return all->stream[place.stream].done >= place.number;
}

bool moe_host_event_done(struct moe_host_streams *all, const struct moe_event *event)
{
    pthread_mutex_lock(&all->lock);
    const bool done = is_done(all, event->place);
    pthread_mutex_unlock(&all->lock);
    return done;
}

static enum moe_status report(const struct moe_host_streams *all, struct moe_err *err)
{
    if (!all->error.status)
        return MOE_OK;
    return moe_fail(err, all->error.status, "%s", all->error.text);
}

enum moe_status moe_host_event_sync(struct moe_host_streams *all, const struct moe_event *event,
                                    struct moe_err *err)
{
    pthread_mutex_lock(&all->lock);
    const struct place place = event->place;
    while (!is_done(all, place))
        pthread_cond_wait(&all->stream[place.stream].reached, &all->lock);
    enum moe_status status = report(all, err);
    pthread_mutex_unlock(&all->lock);
    return status;
}

uint64_t moe_host_event_ns(struct moe_host_streams *all, const struct moe_event *event)
{
    pthread_mutex_lock(&all->lock);
    const uint64_t ns = event->ns;
    pthread_mutex_unlock(&all->lock);
    return ns;
}

void moe_host_flag_raise(struct moe_host_streams *all, uint64_t *flag, uint64_t value)
{
    __atomic_store_n(flag, value, __ATOMIC_RELEASE);
    pthread_mutex_lock(&all->lock); /* whoever saw the old value is waiting by now, and is woken */
    pthread_cond_broadcast(&all->raised);
    pthread_mutex_unlock(&all->lock);
}

enum moe_status moe_host_flag_await(struct moe_host_streams *all, const uint64_t *flag,
                                    uint64_t value, struct moe_err *err)
{
    pthread_mutex_lock(&all->lock);
    while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) < value && !all->error.status)
        pthread_cond_wait(&all->raised, &all->lock);
    enum moe_status status = report(all, err);
    pthread_mutex_unlock(&all->lock);
    return status;
}
