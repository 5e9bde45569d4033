/* What the threads of the real machine share: the host's thread that runs the step loop, the
 * fetcher (exec/fetcher.h) and the CPU worker (exec/cpu_worker.h). Inside exec only. */
#ifndef MOELAB_EXEC_SHARED_H
#define MOELAB_EXEC_SHARED_H

#include "base/error.h"

#include <pthread.h>

struct moe_shared {
    pthread_mutex_t lock; /* guards everything that more than one thread touches */
    pthread_cond_t host;  /* signalled when something happens that the host may wait for */
    struct moe_err err;   /* the first error of any thread; the run is over then */
};

static inline void moe_shared_init(struct moe_shared *shared)
{
    *shared = (struct moe_shared){.err = {.status = MOE_OK}};
    pthread_mutex_init(&shared->lock, NULL);
    pthread_cond_init(&shared->host, NULL);
}

static inline void moe_shared_release(struct moe_shared *shared)
{
    pthread_mutex_destroy(&shared->lock);
    pthread_cond_destroy(&shared->host);
}

/* With the lock held. */
static inline void moe_shared_fail(struct moe_shared *shared, const struct moe_err *err)
{
    if (!shared->err.status)
        shared->err = *err;
    pthread_cond_signal(&shared->host);
}

/* The error of any thread, copied; MOE_OK when there is none. err may be NULL. */
static inline enum moe_status moe_shared_status(struct moe_shared *shared, struct moe_err *err)
{
    pthread_mutex_lock(&shared->lock);
    const enum moe_status s = shared->err.status;
    if (s && err)
        *err = shared->err;
    pthread_mutex_unlock(&shared->lock);
    return s;
}

#endif
