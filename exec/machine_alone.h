/* The machine without a device: the CPU computes the whole model in real time, with a session's
 * forward pass (exec/forward.h), one operation after another. It replays the routes of a trace, for
 * strategies that leave every expert to the CPU (geometry none, nothing streamed). Inside exec
 * only. */
#ifndef MOELAB_EXEC_MACHINE_ALONE_H
#define MOELAB_EXEC_MACHINE_ALONE_H

#include "exec/llm.h"
#include "exec/pool.h"
#include "policies/machine.h"
#include "policies/timeline.h"
#include "policies/usage.h"
#include "traces/model.h"

struct moe_alone_setup {
    const struct moe_llm *llm;
    const struct moe_model *model; /* its shape; top_k that of the routes */
    uint32_t context, chunk;       /* tokens of the KV cache; most tokens of a step */
    struct moe_pool_options pool;
    const uint32_t *next_use;      /* [T, L, K] of the tokens replayed, or NULL */
    struct moe_timeline *timeline; /* or NULL; times from the machine's creation on */
};

struct moe_alone_machine; /* opaque */

extern const struct moe_machine_ops moe_alone_machine_ops;

/* What setup points at outlives the machine. Errors: those of moe_session_new. */
enum moe_status moe_alone_machine_new(struct moe_alone_machine **out,
                                      const struct moe_alone_setup *setup, struct moe_err *err);
void moe_alone_machine_free(struct moe_alone_machine *machine); /* NULL: nothing */

/* Logits of the latest step, [V]; valid until the next step. */
const float *moe_alone_machine_logits(const struct moe_alone_machine *machine);

/* Valid until the machine is freed. */
const struct moe_usage *moe_alone_machine_usage(const struct moe_alone_machine *machine,
                                                enum moe_phase phase);
const struct moe_pool *moe_alone_machine_pool(const struct moe_alone_machine *machine);

#endif
