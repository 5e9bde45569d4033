/* How many slots each layer gets, exactly: the division of a budget over layers that is worth most.
 *
 * A curve says what m ways are worth in a layer, whatever the others have: hits (sim/mrc.h), or ns
 * saved. Pools of different layers do not affect each other, so the worth of a division is the sum
 * over layers, and dynamic programming over layers finds the best of all divisions; curves need be
 * neither concave (LRU's have cliffs below an event's demand) nor rising. */
#ifndef MOELAB_SIM_TUNE_WAYS_H
#define MOELAB_SIM_TUNE_WAYS_H

#include "policies/cost.h"
#include "sim/mrc.h"

/* worth [L, E + 1] by layer and ways. Writes ways [L], sum at most `slots`, and *best (may be NULL)
 * their worth. Of equal divisions that with the fewest slots in the last layer, then in the one
 * before it, and so on. Time L * slots * E. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_tune_ways(const uint64_t *worth, uint32_t n_layers, uint32_t n_experts,
                              uint64_t slots, uint32_t *ways, uint64_t *best, struct moe_err *err);

/* Decode hits of one pool a layer: worth [L, E + 1]. */
void moe_tune_worth_hits(const struct moe_mrc *mrc, enum moe_mrc_policy policy, uint64_t *worth);

/* ns of decode that they save while the CPU computes misses: each hit the CPU's time for an expert
 * less the GPU's, each event that hits entirely the way of the activations to the CPU and back. */
void moe_tune_worth_ns(const struct moe_mrc *mrc, enum moe_mrc_policy policy,
                       const struct moe_costs *costs, uint64_t *worth);

/* Uses of the m most used experts of each layer. uses [L * E]. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_tune_worth_static(const uint64_t *uses, uint32_t n_layers, uint32_t n_experts,
                                      uint64_t *worth, struct moe_err *err);

/* Writes "per-layer:2,0,3", or "none". False where it does not fit: then it is cut. */
bool moe_tune_ways_format(const uint32_t *ways, uint32_t n_layers, char *buf, size_t size);

#endif
