/* What the processes of a job need to talk: messages of bytes, in order from one rank to another.
 * MPI is behind it (sim/team_mpi.c), and in tests threads with queues. Called by one thread. */
#ifndef MOELAB_SIM_TEAM_LINK_H
#define MOELAB_SIM_TEAM_LINK_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum moe_leave {
    MOE_LEAVE_TOGETHER, /* every rank leaves */
    MOE_LEAVE_SOME,     /* some rank is lost: the others do not wait for it */
    MOE_LEAVE_BROKEN,   /* rank 0 is lost: all others should end */
};

struct moe_team_link_ops {
    /* Takes the message over (heap) and returns at once. */
    enum moe_status (*send)(void *link, uint32_t to, char *bytes, size_t size, struct moe_err *err);
    /* A message that has come (heap, the caller's), or *bytes = NULL. */
    enum moe_status (*poll)(void *link, uint32_t *from, char **bytes, size_t *size,
                            struct moe_err *err);
    /* Lets messages that were sent arrive, for at most `wait_ns`; ends the connection and frees the
     * link. MOE_LEAVE_BROKEN need not return. */
    void (*close)(void *link, uint64_t wait_ns, enum moe_leave how);
};

struct moe_team_link {
    const struct moe_team_link_ops *ops;
    void *self;
    uint32_t rank, size;
    uint32_t threads; /* this process's part of the processors of its machine; 0: not known */
};

#endif
