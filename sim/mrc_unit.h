/* A unit of work of a miss ratio curve: one policy over some layers' own pools or over the pool of
 * all layers. Units share nothing but what they read, so each may have a thread of its own. */
#ifndef MOELAB_SIM_MRC_UNIT_H
#define MOELAB_SIM_MRC_UNIT_H

#include "sim/mrc.h"

/* Uses by the position of their key: pools of at least so many slots hit. Index 1..max_slots;
 * max_slots + 1: no pool hits. */
struct moe_mrc_counts {
    uint32_t max_slots;
    uint64_t *uses;  /* [max_slots + 2] */
    uint64_t *first; /* events by their lowest position */
    uint64_t *last;  /* events by their highest position */
};

/* What all units of a computation share, and how far they are together. */
struct moe_mrc_job {
    const struct moe_trace_info *info;
    const struct moe_mrc_options *options;
    bool blocks;                   /* tokens come block by block, without their next uses */
    uint64_t n_units, tokens_done; /* of every unit together */
};

struct moe_mrc_unit; /* opaque; single-threaded */

/* Do units of layers' own pools handle sixteen layers at once (mrc_opt_lanes.h)? */
bool moe_mrc_unit_has_lanes(const struct moe_mrc_job *job, enum moe_mrc_policy policy);

/* Layers [first, end): with a pool each, or with one pool. job outlives the unit. Errors:
 * MOE_ERR_MEMORY. */
enum moe_status moe_mrc_unit_new(struct moe_mrc_unit **out, struct moe_mrc_job *job,
                                 enum moe_mrc_policy policy, bool global, uint32_t first,
                                 uint32_t end, struct moe_err *err);
void moe_mrc_unit_free(struct moe_mrc_unit *unit);

/* Must it be given next uses? */
bool moe_mrc_unit_looks_ahead(const struct moe_mrc_unit *unit);

/* Whole forward passes, one block after another. next_use [T, L, K] as policies/future.h, where
 * any unit looks ahead, or NULL. Errors: MOE_ERR_INTERRUPTED. */
enum moe_status moe_mrc_unit_run(struct moe_mrc_unit *unit, const struct moe_tokens *tokens,
                                 const uint32_t *next_use, struct moe_err *err);

/* After the last block. */
void moe_mrc_unit_end(struct moe_mrc_unit *unit);

/* Counts of a layer of the unit (of the one pool: any) in a phase, after the end. */
const struct moe_mrc_counts *moe_mrc_unit_counts(const struct moe_mrc_unit *unit, uint32_t layer,
                                                 enum moe_phase phase);
uint64_t moe_mrc_unit_tokens(const struct moe_mrc_unit *unit);

#endif
