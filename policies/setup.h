/* A strategy set up on a model and a device: its geometry, which is checked against the device's
 * memory, and its cache. Whether routes come from a trace or a router does not matter here. */
#ifndef MOELAB_POLICIES_SETUP_H
#define MOELAB_POLICIES_SETUP_H

#include "policies/cache.h"
#include "policies/geometry.h"
#include "policies/strategy.h"
#include "traces/model.h"

struct moe_setup_spec {
    const struct moe_strategy *strategy;
    const struct moe_model *model; /* with the top-k of the routes */
    uint64_t expert_bytes;         /* of a slot in device memory */
    uint64_t dense_bytes;          /* device memory taken besides slots and staging buffers */
    uint64_t memory_bytes;         /* of the device */
    uint64_t host_expert_bytes;    /* where host and device share one memory: what an expert on the
                                      host takes of memory_bytes; else 0 */
    const char *device;            /* in messages: "the GPU of platform 'paper-4090'" */
    unsigned parts;                /* MOE_HAS_* that the routes come with */
    bool future;                   /* they come with next uses */
    const struct moe_costs *costs; /* of the platform, or NULL; outlives the setup */
};

/* Stays where it was initialised: the cache points at the geometry. */
struct moe_setup {
    struct moe_geometry geometry;
    struct moe_cache *cache;
};

/* Bytes of the staging buffers for experts that are computed on the GPU without a slot: those of
 * two experts if the strategy may compute any in this way, else 0. */
uint64_t moe_setup_staging_bytes(const struct moe_setup_spec *spec);

/* The number of slots, at most one for each expert, that fit into `room` bytes; beside the host's
 * experts where these lie there too. */
uint32_t moe_setup_slots_in(const struct moe_setup_spec *spec, uint64_t room);

/* Keeps no pointer to spec itself. Errors: MOE_ERR_USAGE (a rule needs parts, next uses or costs
 * that are not there; the geometry does not suit the model; slots, staging buffers, dense_bytes and
 * the host's experts together exceed memory_bytes; slots or staging buffers although the costs are
 * of a platform without a GPU), MOE_ERR_MEMORY, those of moe_cache_new. Then nothing needs
 * releasing. */
enum moe_status moe_setup_init(struct moe_setup *setup, const struct moe_setup_spec *spec,
                               struct moe_err *err);
void moe_setup_release(struct moe_setup *setup); /* also one that is all zero */

#endif
