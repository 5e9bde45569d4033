/* The parts of a real run, built in order on a device, or without one. Inside exec only. */
#ifndef MOELAB_EXEC_STAGE_H
#define MOELAB_EXEC_STAGE_H

#include "exec/hybrid.h"
#include "exec/machine.h"
#include "exec/machine_alone.h"
#include "policies/cost.h"
#include "policies/setup.h"

struct moe_stage {
    struct moe_device *device; /* these four are the caller's to set; the rest is all zero. NULL:
                                  the CPU computes all */
    const struct moe_llm *llm;
    uint32_t context, chunk; /* tokens of the KV cache; most tokens of a pass */

    struct moe_model shape; /* the spec points at the first three */
    struct moe_costs costs;
    char device_name[288];
    struct moe_expert_layout layout;
    struct moe_expert_store *store;
    struct moe_resident *resident;
    struct moe_exec_machine *machine; /* with a device */
    struct moe_alone_machine *alone;  /* without */
    uint64_t free_bytes;              /* of the device, when all was allocated */

    struct moe_power *power;    /* or NULL */
    struct moe_joules at, used; /* at the end of the latest step; of decode so far */
};

/* What the setup of a strategy has to know of the device; with costs, where there is a platform.
 * Stays where it is as long as the spec is used. */
enum moe_status moe_stage_spec(struct moe_stage *stage, const struct moe_strategy *strategy,
                               const struct moe_platform *platform, struct moe_setup_spec *out,
                               struct moe_err *err);

/* Store, resident weights and machine, for a strategy set up; next_use: see struct moe_exec_setup.
 * What fails is released by moe_stage_release. Errors: MOE_ERR_USAGE without a device, where the
 * strategy leaves not all to the CPU. */
enum moe_status moe_stage_build(struct moe_stage *stage, const struct moe_hybrid_options *options,
                                const struct moe_setup *setup, const struct moe_setup_spec *spec,
                                const uint32_t *next_use, struct moe_err *err);

/* The energy of decode: from the first call on, and of each step once it has ended. power NULL: is
 * not measured. */
void moe_stage_begin_energy(struct moe_stage *stage, struct moe_power *power);
void moe_stage_add_energy(struct moe_stage *stage, enum moe_phase phase);

/* Adds to a result what is counted beside the steps' times, which it has. */
void moe_stage_result(const struct moe_stage *stage, const struct moe_setup *setup,
                      struct moe_result *result);

void moe_stage_release(struct moe_stage *stage); /* also one that is all zero */

void moe_stage_allocation(const struct moe_stage *stage, const struct moe_setup *setup,
                          struct moe_allocation *out);

#endif
