/* The `exec` machine: carries out the step loop's operations (policies/machine.h) for real, on a
 * device and this machine's CPU. Three threads beside the device's own: the host's, which runs the
 * step loop; the fetcher, which copies experts one at a time; and the CPU worker with its
 * pool (with overlap off the host does the worker's part, as it would only wait).
 *
 * Two rules make it correct. A kernel that uses a slot is submitted only after the copy into the
 * slot has landed; until then it and the kernels behind it are held back here, while the host goes
 * on. A copy into a slot begins only after the last kernel that reads it has ended. An expert whose
 * slot was given to another one before it was computed (the reference code does that) is computed
 * on the CPU instead. */
#ifndef MOELAB_EXEC_MACHINE_H
#define MOELAB_EXEC_MACHINE_H

#include "exec/embed.h"
#include "exec/pool.h"
#include "exec/resident.h"
#include "policies/machine.h"
#include "policies/timeline.h"
#include "policies/usage.h"
#include "traces/model.h"

struct moe_exec_setup {
    struct moe_device *device;
    const struct moe_llm *llm;
    const struct moe_model *model; /* the shape of llm, with the top_k of the routes */
    struct moe_resident *resident; /* with n_slots slots and 2 staging buffers */
    struct moe_expert_store *store;
    struct moe_cache *cache;
    uint32_t n_slots;
    struct moe_pool_options pool;  /* of the CPU's experts */
    bool lookahead;                /* compute lookahead scores */
    bool early;                    /* experts may be begun during the layer before (cpu_early) */
    bool serial;                   /* the host waits for every expert of the CPU (overlap off) */
    const uint32_t *next_use;      /* [T, L, K] of the tokens replayed, or NULL */
    struct moe_timeline *timeline; /* or NULL; times from the machine's creation on */
};

struct moe_exec_machine; /* opaque */

extern const struct moe_machine_ops moe_exec_machine_ops;

/* What setup points at must outlive the machine. Errors: MOE_ERR_MEMORY, those of the device and of
 * moe_pool_new. */
enum moe_status moe_exec_machine_new(struct moe_exec_machine **out,
                                     const struct moe_exec_setup *setup, struct moe_err *err);
void moe_exec_machine_free(struct moe_exec_machine *machine); /* waits for what runs */

/* Sets the input of the next step, if that step uses the model's own routes. (A step that replays
 * routes takes the trace's tokens where they are known, its context as position, and computes
 * logits.) */
struct moe_exec_input {
    const int32_t *tokens; /* within the vocabulary; read during begin_step */
    uint32_t position;     /* of the first token: the number of tokens in the KV cache */
    bool far;              /* LongRoPE: use the long factors */
    bool logits;           /* compute the logits of the last token */
};
void moe_exec_machine_input(struct moe_exec_machine *machine, const struct moe_exec_input *input);

/* Logits of the latest step, [V]; valid until the next step. */
const float *moe_exec_machine_logits(const struct moe_exec_machine *machine);

/* Called in attend when the routes of a layer have arrived, whether the model's own or replayed. */
typedef void moe_routes_observer(void *user, uint32_t layer, uint32_t n_tokens,
                                 const moe_expert *expert, const float *weight, const float *score,
                                 const float *ahead);
void moe_exec_machine_observe(struct moe_exec_machine *machine, moe_routes_observer *observer,
                              void *user);

/* Valid until the machine is freed. */
const struct moe_usage *moe_exec_machine_usage(const struct moe_exec_machine *machine,
                                               enum moe_phase phase);

/* The number of experts computed on the CPU because their slot had been given to another one. */
uint64_t moe_exec_machine_redirected(const struct moe_exec_machine *machine);

const struct moe_pool *moe_exec_machine_pool(const struct moe_exec_machine *machine);

#endif
