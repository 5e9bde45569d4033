/* The threads of one process that compute items from a queue, while its main thread does the
 * talking: a long item never keeps other processes waiting for an answer. */
#ifndef MOELAB_SIM_CREW_H
#define MOELAB_SIM_CREW_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Computes an item, in any thread; on success *bytes (heap, [*size]) is its result. */
typedef enum moe_status moe_crew_run(void *context, size_t item, char **bytes, size_t *size,
                                     struct moe_err *err);

struct moe_crew_result {
    struct moe_crew_result *next;
    size_t item;
    uint64_t ns; /* wall clock that it took: for dealing and reports, never for results */
    char *bytes;
    size_t size;
    struct moe_err err; /* status other than MOE_OK: no bytes */
};

struct moe_crew_state {
    size_t waiting;   /* items not begun */
    uint32_t threads; /* in all */
    uint32_t idle;    /* of them without an item */
    uint64_t mean_ns; /* an item, of those finished so far; 0: none was */
};

struct moe_crew; /* opaque; all functions are for the thread that started it */

/* Errors: MOE_ERR_MEMORY, also where not one thread can be had; fewer than asked for are enough. */
enum moe_status moe_crew_start(struct moe_crew **out, uint32_t threads, moe_crew_run *run,
                               void *context, struct moe_err *err);
/* Lets items end that have begun, forgets the others and every result not taken. NULL is none. */
void moe_crew_stop(struct moe_crew *crew);

enum moe_status moe_crew_add(struct moe_crew *crew, const uint64_t *items, size_t n,
                             struct moe_err *err);
void moe_crew_drop(struct moe_crew *crew); /* items not begun will not be */
struct moe_crew_state moe_crew_look(struct moe_crew *crew);

/* What was finished since the last call, in that order; the caller's, by moe_crew_result_free one
 * by one. NULL: nothing. */
struct moe_crew_result *moe_crew_take(struct moe_crew *crew);
void moe_crew_result_free(struct moe_crew_result *result);

/* Sleeps until a thread has run out of items, an item has failed, or the time is over. */
void moe_crew_wait(struct moe_crew *crew, uint64_t ns);

#endif
