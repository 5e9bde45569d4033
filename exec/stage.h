/* The parts of a real run, built in order on a device. Inside exec only. */
#ifndef MOELAB_EXEC_STAGE_H
#define MOELAB_EXEC_STAGE_H

#include "exec/hybrid.h"
#include "exec/machine.h"
#include "policies/setup.h"

struct moe_stage {
    struct moe_device *device;
    const struct moe_llm *llm;
    struct moe_expert_layout layout;
    struct moe_expert_store *store;
    struct moe_resident *resident;
    struct moe_exec_machine *machine;
    uint64_t free_bytes; /* of the device, when all was allocated */
};

/* What the setup of a strategy has to know of the device. device_name: where the text is kept, as
 * long as the spec is used. Fills stage->device, llm and layout. */
enum moe_status moe_stage_spec(struct moe_stage *stage, struct moe_device *device,
                               const struct moe_llm *llm, const struct moe_strategy *strategy,
                               const struct moe_model *model, uint32_t context, uint32_t chunk,
                               char device_name[288], struct moe_setup_spec *out,
                               struct moe_err *err);

/* Store, resident weights and machine, for a strategy set up. model: with the top-k of the routes.
 * What fails is released by moe_stage_release. */
enum moe_status moe_stage_build(struct moe_stage *stage, const struct moe_hybrid_options *options,
                                const struct moe_setup *setup, const struct moe_setup_spec *spec,
                                uint32_t context, uint32_t chunk, const uint32_t *next_use,
                                struct moe_err *err);
void moe_stage_release(struct moe_stage *stage); /* also one that is all zero */

void moe_stage_allocation(const struct moe_stage *stage, const struct moe_setup *setup,
                          struct moe_allocation *out);

#endif
