/* Next uses, for policies that know the future (Belady): for each access the ordinal of the event,
 * or access, that uses the same expert next. */
#ifndef MOELAB_POLICIES_FUTURE_H
#define MOELAB_POLICIES_FUTURE_H

#include "traces/trace.h"

#include <stdint.h>

enum moe_contract { MOE_CONTRACT_EVENT, MOE_CONTRACT_ACCESS };

/* Order in which a replay visits the accesses of a trace. */
enum moe_replay_order {
    MOE_ORDER_STEP,  /* execution order: sequence, step, layer, token, k */
    MOE_ORDER_FILE,  /* rows of the imported file; refused if these were not in execution order */
    MOE_ORDER_TOKEN, /* token by token, layer, k: as if prefill ran one token at a time */
};

enum moe_phases { MOE_PHASES_BOTH, MOE_PHASES_DECODE, MOE_PHASES_PREFILL };

/* From this many entries on, threads are used (event contract only): with fewer, waking them takes
 * longer than the work where cores of a virtual machine are halted (500,000 entries: replays of
 * `opt-time` 0.6 of the speed, `bench sim`, 2 cores, 2026-11-22). The result is the same. */
enum { MOE_FUTURE_THREADS_FROM = 1 << 22 };

/* *next_use [T * L * K], index as tokens->expert: the ordinal of the event (or access) that uses
 * this expert of this layer next, under the given contract, order and phases; MOE_NEVER where none
 * does or the entry is absent. Event ordinals count (step, layer) pairs, access ordinals the
 * entries that are present. The caller frees it. Errors: MOE_ERR_MEMORY; MOE_ERR_UNSUPPORTED when
 * ordinals do not fit 32 bits. */
enum moe_status moe_future_build(const struct moe_tokens *tokens, uint32_t n_layers,
                                 uint32_t n_experts, uint32_t top_k, enum moe_contract contract,
                                 enum moe_replay_order order, enum moe_phases phases,
                                 uint32_t **next_use, struct moe_err *err);

#endif
