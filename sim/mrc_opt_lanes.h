/* OPT for every pool size at once (mrc_opt.h), for the pools of sixteen layers at once.
 *
 * Layers with pools of their own do not affect each other, so layer i of sixteen has lane i of the
 * vectors: place p of all their stacks is one vector, and a newcomer of each passes it in one step.
 * No place is skipped or searched for, so the cost does not depend on the routes: it pays where
 * pools are small. Contract `event` only. */
#ifndef MOELAB_SIM_MRC_OPT_LANES_H
#define MOELAB_SIM_MRC_OPT_LANES_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { MOE_OPT_LANES = 16 };

struct moe_opt_lanes; /* opaque; single-threaded */

/* Is it faster here than a stack for each layer? */
bool moe_opt_lanes_pay(uint32_t n_layers, uint32_t n_keys);

/* Pools of up to n_keys slots. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_opt_lanes_new(struct moe_opt_lanes **out, uint32_t n_keys, struct moe_err *err);
void moe_opt_lanes_free(struct moe_opt_lanes *lanes);

/* Every pool is empty again. */
void moe_opt_lanes_clear(struct moe_opt_lanes *lanes);

/* Where an event's keys were found: how many, the lowest and the highest place (1..n_keys; without
 * meaning where n is 0). */
struct moe_opt_found {
    uint32_t n[MOE_OPT_LANES], first[MOE_OPT_LANES], last[MOE_OPT_LANES];
};

/* An event of each layer. now: its ordinal. next_use [n, 16]: the ordinals that its keys are used
 * at next, MOE_NEVER for none and where a layer has fewer keys. uses [n_keys, 16]: one more at each
 * place, from 0, where a key was found. */
void moe_opt_lanes_event(struct moe_opt_lanes *lanes, const uint32_t *now, const uint32_t *next_use,
                         uint32_t n, uint32_t *uses, struct moe_opt_found *found);

#endif
