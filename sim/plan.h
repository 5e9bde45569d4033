/* What more processes would bring: the dealing of sim/deal.h simulated with the measured times of a
 * run's items, for any number of ranks. A prediction from measurements: not the same twice. */
#ifndef MOELAB_SIM_PLAN_H
#define MOELAB_SIM_PLAN_H

#include "sim/team.h"

struct moe_plan {
    const uint64_t *item_ns; /* [n_items] 0: left out */
    size_t n_items;
    uint32_t threads;    /* of each rank */
    uint64_t prepare_ns; /* that every rank needs before its first item */
    double handling_ns;  /* of rank 0, a message */
    double answer_ns;    /* from asking to having items, where rank 0 is not busy */
};

struct moe_plan_row {
    uint32_t ranks;
    double seconds, speedup, efficiency; /* of the whole, over one rank; speedup / ranks */
    uint64_t messages;
    const char *limit; /* what keeps it from being faster */
};

/* Errors: MOE_ERR_MEMORY; MOE_ERR_USAGE where no item has a time. */
enum moe_status moe_plan_ranks(const struct moe_plan *plan, uint32_t ranks,
                               struct moe_plan_row *out, struct moe_err *err);

#endif
