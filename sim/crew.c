#include "sim/crew.h"

#include "base/progress.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct moe_crew {
    moe_crew_run *run;
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t work, news; /* for the crew's threads; for the one that talks */
    uint64_t *queue;           /* [room], items not begun at [head, tail) */
    size_t head, tail, room;
    struct moe_crew_result *first, *last; /* finished, not taken */
    struct moe_crew_result *spare;        /* for threads that begin */
    uint64_t n_finished, busy_ns;
    uint32_t n_threads, n_idle;
    bool ending, told; /* told: there is something to wake up for */
    pthread_t *thread;
};

static void finish(struct moe_crew *crew, struct moe_crew_result *result)
{
    if (crew->last)
        crew->last->next = result;
    else
        crew->first = result;
    crew->last = result;
    crew->n_finished++;
    crew->busy_ns += result->ns;
}

static void compute(struct moe_crew *crew, struct moe_crew_result *result)
{
    uint64_t begin = moe_clock_ns();
    enum moe_status s =
        crew->run(crew->context, result->item, &result->bytes, &result->size, &result->err);
    result->err.status = s;
    result->ns = moe_clock_ns() - begin;
}

static void tell(struct moe_crew *crew)
{
    crew->told = true;
    pthread_cond_signal(&crew->news);
}

/* The next item, written to spare, or NULL at the end; called with the lock held. Without a spare
 * it only waits for the end. */
static struct moe_crew_result *next_item(struct moe_crew *crew, struct moe_crew_result *spare)
{
    if (crew->head == crew->tail || !spare) {
        crew->n_idle++;
        tell(crew);
        while ((crew->head == crew->tail || !spare) && !crew->ending)
            pthread_cond_wait(&crew->work, &crew->lock);
        crew->n_idle--;
    }
    if (crew->ending)
        return NULL;
    *spare = (struct moe_crew_result){.item = (size_t)crew->queue[crew->head++]};
    return spare;
}

static void *work(void *argument)
{
    struct moe_crew *crew = argument;
    pthread_mutex_lock(&crew->lock);
    struct moe_crew_result *spare = crew->spare, *result;
    crew->spare = spare->next;
    while ((result = next_item(crew, spare))) {
        pthread_mutex_unlock(&crew->lock);
        spare = malloc(sizeof *spare);
        if (spare)
            compute(crew, result);
        else
            result->err.status = moe_fail_memory(&result->err, "a result");
        pthread_mutex_lock(&crew->lock);
        finish(crew, result);
        if (result->err.status)
            tell(crew);
    }
    pthread_mutex_unlock(&crew->lock);
    free(spare);
    return NULL;
}

/* Makes a result for each thread's first item. Later ones are made before an item is run, so that
 * the failure to make one is itself a result. */
static bool make_spares(struct moe_crew *crew, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct moe_crew_result *spare = calloc(1, sizeof *spare);
        if (!spare)
            return false;
        spare->next = crew->spare;
        crew->spare = spare;
    }
    return true;
}

static void free_results(struct moe_crew_result *first)
{
    for (struct moe_crew_result *r = first, *next; r; r = next) {
        next = r->next;
        moe_crew_result_free(r);
    }
}

enum moe_status moe_crew_start(struct moe_crew **out, uint32_t threads, moe_crew_run *run,
                               void *context, struct moe_err *err)
{
    struct moe_crew *crew = calloc(1, sizeof *crew);
    pthread_condattr_t monotonic;
    if (!crew || !(crew->thread = calloc(threads, sizeof *crew->thread))) {
        free(crew);
        return moe_fail_memory(err, "threads");
    }
    crew->run = run;
    crew->context = context;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->work, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&crew->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_lock(&crew->lock);
    const bool ready = make_spares(crew, threads);
    while (ready && crew->n_threads < threads &&
           pthread_create(&crew->thread[crew->n_threads], NULL, work, crew) == 0)
        crew->n_threads++;
    pthread_mutex_unlock(&crew->lock);
    if (crew->n_threads == 0) {
        moe_crew_stop(crew);
        return moe_fail_memory(err, "threads");
    }
    *out = crew;
    return MOE_OK;
}

void moe_crew_stop(struct moe_crew *crew)
{
    if (!crew)
        return;
    pthread_mutex_lock(&crew->lock);
    crew->ending = true;
    pthread_cond_broadcast(&crew->work);
    pthread_mutex_unlock(&crew->lock);
    for (uint32_t i = 0; i < crew->n_threads; i++)
        pthread_join(crew->thread[i], NULL);
    free_results(crew->first);
    free_results(crew->spare);
    pthread_cond_destroy(&crew->work);
    pthread_cond_destroy(&crew->news);
    pthread_mutex_destroy(&crew->lock);
    free(crew->thread);
    free(crew->queue);
    free(crew);
}

/* Room for n more; under the lock. */
static bool make_room(struct moe_crew *crew, size_t n)
{
    const size_t waiting = crew->tail - crew->head;
    if (waiting)
        memmove(crew->queue, crew->queue + crew->head, waiting * sizeof *crew->queue);
    crew->head = 0;
    crew->tail = waiting;
    if (waiting + n <= crew->room)
        return true;
    uint64_t *more = realloc(crew->queue, (waiting + n) * sizeof *more);
    if (!more)
        return false;
    crew->queue = more;
    crew->room = waiting + n;
    return true;
}

enum moe_status moe_crew_add(struct moe_crew *crew, const uint64_t *items, size_t n,
                             struct moe_err *err)
{
    pthread_mutex_lock(&crew->lock);
    bool fits = make_room(crew, n);
    if (fits && n) {
        memcpy(crew->queue + crew->tail, items, n * sizeof *items);
        crew->tail += n;
        pthread_cond_broadcast(&crew->work);
    }
    pthread_mutex_unlock(&crew->lock);
    return fits ? MOE_OK : moe_fail_memory(err, "items");
}

void moe_crew_drop(struct moe_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->head = crew->tail = 0;
    pthread_mutex_unlock(&crew->lock);
}

/* A thread may still count as idle although items wait: it has been woken and will take one. */
struct moe_crew_state moe_crew_look(struct moe_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    struct moe_crew_state state = {.waiting = crew->tail - crew->head,
                                   .threads = crew->n_threads,
                                   .idle = crew->n_idle,
                                   .mean_ns =
                                       crew->n_finished ? crew->busy_ns / crew->n_finished : 0};
    pthread_mutex_unlock(&crew->lock);
    return state;
}

struct moe_crew_result *moe_crew_take(struct moe_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    struct moe_crew_result *first = crew->first;
    crew->first = crew->last = NULL;
    pthread_mutex_unlock(&crew->lock);
    return first;
}

void moe_crew_result_free(struct moe_crew_result *result)
{
    free(result->bytes);
    free(result);
}

void moe_crew_wait(struct moe_crew *crew, uint64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    pthread_mutex_lock(&crew->lock);
    while (!crew->told && pthread_cond_timedwait(&crew->news, &crew->lock, &until) == 0)
        ;
    crew->told = false;
    pthread_mutex_unlock(&crew->lock);
}
