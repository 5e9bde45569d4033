/* Specialised replay of LRU, FIFO and clock where every miss is admitted and no pool is limited by
 * bytes. Gives the same counters as the generic path (tests/unit/test_replay_fast.c). */
#ifndef MOELAB_SIM_REPLAY_FAST_H
#define MOELAB_SIM_REPLAY_FAST_H

#include "sim/replay.h"

struct moe_fast; /* opaque; single-threaded */

bool moe_fast_supports(const struct moe_geometry *geometry, const struct moe_policy_spec *policy,
                       const struct moe_replay_options *options);

/* For a geometry and policy that are supported. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_fast_new(struct moe_fast **out, const struct moe_geometry *geometry,
                             const struct moe_policy_spec *policy, uint32_t top_k,
                             enum moe_contract contract, struct moe_err *err);
void moe_fast_free(struct moe_fast *fast);

/* Empties every slot; counters stay. */
void moe_fast_clear(struct moe_fast *fast);

/* Tokens [begin, end) of one forward pass through all layers. */
void moe_fast_step(struct moe_fast *fast, const struct moe_tokens *tokens, uint64_t begin,
                   uint64_t end);

/* Counters of a layer in a phase, as moe_cache_counts. */
struct moe_counts moe_fast_counts(const struct moe_fast *fast, uint32_t layer,
                                  enum moe_phase phase);

#endif
