/* The processes of one job (mpirun -n N), or one process alone: they divide items among them.
 *
 * Every process calls the same functions in the same order. Rank 0 deals (sim/deal.h), takes all
 * results and computes as well; in each process a crew of threads computes (sim/crew.h) while the
 * main thread talks. Which rank computes an item may differ from run to run, so an item's result
 * must depend on the item only.
 *
 * A rank that has items and is not heard from for `lost_after` seconds is considered lost: its
 * items go to others. If it was only slow, its results are still accepted. A rank that was never
 * heard from may still be reading traces: it gets items when it asks, and once the work is done it
 * is waited for ten times as long. Rank 0 cannot be replaced: when it is lost the others end with
 * an error, but they wait for its first message without limit. All this needs a launcher that lets
 * a job live on without one of its processes (Open MPI: `mpirun --enable-recovery`); by default
 * launchers end the whole job. */
#ifndef MOELAB_SIM_TEAM_H
#define MOELAB_SIM_TEAM_H

#include "base/error.h"
#include "sim/crew.h"
#include "sim/team_link.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct moe_team; /* opaque; NULL is a process alone */

/* Joins the processes that a launcher started with this one: *out is NULL where there is none.
 * MPI is initialised only then. lost_after: seconds. Errors: MOE_ERR_UNSUPPORTED (started as one of
 * several, but this build has no MPI, or another one than the launcher's). */
enum moe_status moe_team_open(double lost_after, struct moe_team **out, struct moe_err *err);

/* The same over a given link, which the team closes, also on failure. */
enum moe_status moe_team_over(const struct moe_team_link *link, double lost_after,
                              struct moe_team **out, struct moe_err *err);

/* Leaves the job and frees the team. s, err: how this process's part ended; the first failure of
 * any rank ends the others' maps with the same error. Returns what this process is to report: s on
 * rank 0, MOE_OK on the others. Where rank 0 is lost the others log it and the job is aborted. */
enum moe_status moe_team_close(struct moe_team *team, enum moe_status s, struct moe_err *err);

uint32_t moe_team_rank(const struct moe_team *team); /* 0 alone */
uint32_t moe_team_size(const struct moe_team *team);
/* Threads for this process where `wanted` is 0: its part of the machine, or OMP_NUM_THREADS. */
uint32_t moe_team_threads(const struct moe_team *team, uint32_t wanted);

struct moe_team_work {
    size_t n_items;
    const bool *skip;  /* [n_items] not to be run; read on rank 0 only; NULL: none */
    uint32_t threads;  /* of this process; not 0 */
    uint64_t identity; /* of all that decides the results: ranks must agree; 0: not compared */
    bool share;        /* `done` is called on every rank, not on rank 0 alone */
    moe_crew_run *run; /* see sim/crew.h; MOE_ERR_INTERRUPTED where moe_interrupted() */
    /* Takes the result of an item, once each, in the thread that called moe_team_map. ns: time that
     * it took to compute, 0 on ranks other than 0. bytes: valid during the call. */
    enum moe_status (*done)(void *context, size_t item, const char *bytes, size_t size, uint64_t ns,
                            struct moe_err *err);
    void *context;
    struct moe_team_cost *cost; /* filled on rank 0; may be NULL */
};

/* What dealing cost, measured: for sim/plan.h. */
struct moe_team_cost {
    uint64_t messages, handling_ns; /* that rank 0 took from others, and its time for them */
    uint64_t answers, waiting_ns;   /* of other ranks: from asking to being dealt items */
};

/* Runs all items, each somewhere. Errors: the first one of any rank (from others as "rank N: ...");
 * MOE_ERR_INTERRUPTED; MOE_ERR_IO (rank 0 was lost); MOE_ERR_USAGE (identities differ). Results
 * that were finished before an error are taken as well. */
enum moe_status moe_team_map(struct moe_team *team, const struct moe_team_work *work,
                             struct moe_err *err);

/* The rank that a launcher gave this process, without asking MPI; 0 alone. */
uint32_t moe_team_launched_rank(void);

#endif
