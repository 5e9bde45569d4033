/* The parts of a real run, built in order, on a device or without one: what moe_hybrid_* and
 * moe_execute have in common. Inside exec only. */
#ifndef MOELAB_EXEC_STAGE_H
#define MOELAB_EXEC_STAGE_H

#include "exec/hybrid.h"
#include "exec/machine.h"
#include "exec/machine_alone.h"
#include "policies/cost.h"
#include "policies/setup.h"

struct moe_stage {
    /* Set by the caller before the first call; everything below is zero then. */
    struct moe_device *device; /* NULL: the CPU computes everything */
    const struct moe_llm *llm;
    uint32_t context, chunk; /* tokens of the KV cache; most tokens of a pass */

    /* The spec of moe_stage_spec points at these three. */
    struct moe_model shape;
    struct moe_costs costs;
    char device_name[288];

    struct moe_expert_layout layout;
    struct moe_expert_store *store;
    struct moe_resident *resident;
    struct moe_exec_machine *machine; /* with a device */
    struct moe_alone_machine *alone;  /* without */
    uint64_t free_bytes;              /* of the device, when all was allocated */

    struct moe_power *power; /* or NULL */
    struct moe_joules at;    /* the meter at the end of the latest step */
    struct moe_joules used;  /* by decode steps so far */
};

/* Fills the spec from which a strategy is set up on this device; with costs if platform is not
 * NULL. The spec points into the stage, which must not move while the spec is used. */
enum moe_status moe_stage_spec(struct moe_stage *stage, const struct moe_strategy *strategy,
                               const struct moe_platform *platform, struct moe_setup_spec *out,
                               struct moe_err *err);

/* Builds resident weights, store and machine for a strategy that is set up; next_use: see struct
 * moe_exec_setup. After an error, too, moe_stage_release is to be called. Errors: MOE_ERR_USAGE
 * without a device, when the strategy does not leave every expert to the CPU. */
enum moe_status moe_stage_build(struct moe_stage *stage, const struct moe_hybrid_options *options,
                                const struct moe_setup *setup, const struct moe_setup_spec *spec,
                                const uint32_t *next_use, struct moe_err *err);

/* Measures the energy of decode: _begin_energy starts the meter (power NULL: nothing is measured),
 * _add_energy is called after each step. */
void moe_stage_begin_energy(struct moe_stage *stage, struct moe_power *power);
void moe_stage_add_energy(struct moe_stage *stage, enum moe_phase phase);

/* Adds counts, usage and energy to a result that has the steps' times already. */
void moe_stage_result(const struct moe_stage *stage, const struct moe_setup *setup,
                      struct moe_result *result);

void moe_stage_release(struct moe_stage *stage); /* all zero: no-op */

void moe_stage_allocation(const struct moe_stage *stage, const struct moe_setup *setup,
                          struct moe_allocation *out);

#endif
