/* Geometries: how the slots of the GPU cache are divided over the layers.
 *
 * A geometry is a set of pools; each layer uses one pool or none. Strings (design words):
 *     32x2              32 indexes x 2 ways: layers 0..31 own a pool of 2 slots each
 *     global:56         one pool of 56 slots for all layers
 *     global:4000MiB    one pool limited in bytes (experts may differ in size by layer)
 *     per-layer:2,2,3   ways of layer 0, 1, 2; layers after the list have none
 *     ncmoe:20          as llama.cpp -ncmoe 20: layers 0..19 have none, every expert of the layers
 *                       after them has a slot
 *     none              no cache
 *     all               every expert has a slot
 * Slots are numbered globally, pool after pool: pool p owns first_slot .. first_slot + n_slots - 1.
 */
#ifndef MOELAB_POLICIES_GEOMETRY_H
#define MOELAB_POLICIES_GEOMETRY_H

#include "base/error.h"

#include <stdint.h>

struct moe_pool {
    uint32_t first_slot;
    uint32_t n_slots;
    uint64_t bytes; /* capacity in bytes; 0: limited by n_slots alone */
};

struct moe_geometry {
    uint32_t n_layers, n_experts;
    uint32_t n_slots, n_pools;
    struct moe_pool *pool;  /* [n_pools] */
    int32_t *pool_of_layer; /* [L]; -1: this layer has no slots */
    uint64_t *expert_bytes; /* [L], or NULL when sizes are unknown */
};

/* The forms of such strings, for docs/policies.md; ended by a NULL form. */
struct moe_geometry_form {
    const char *form, *meaning;
};
extern const struct moe_geometry_form moe_geometry_forms[];

/* Parses text for a model of L layers and E experts; expert_bytes [L] or NULL (then a geometry in
 * bytes is refused). Errors: MOE_ERR_USAGE naming value and limit: more indexes than layers, more
 * ways than experts, more slots than experts in the model, a pool too small for one expert, no
 * slots where a number of them is asked for (0x2, 3x0, global:0, per-layer:0,0: that is `none`).
 * Release with moe_geometry_release. */
enum moe_status moe_geometry_parse(const char *text, uint32_t n_layers, uint32_t n_experts,
                                   const uint64_t *expert_bytes, struct moe_geometry *out,
                                   struct moe_err *err);
void moe_geometry_release(struct moe_geometry *geometry);

/* Checks text without a model. Errors: MOE_ERR_USAGE, as above, if no model could have such a
 * geometry; MOE_ERR_MEMORY. */
enum moe_status moe_geometry_check(const char *text, struct moe_err *err);

/* Bytes of device memory that the slots take (sum over pools); 0 when sizes are unknown. */
uint64_t moe_geometry_bytes(const struct moe_geometry *geometry);

#endif
