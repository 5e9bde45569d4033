/* Shrinking a geometry until it fits. */
#ifndef MOELAB_POLICIES_GEOMETRY_FIT_H
#define MOELAB_POLICIES_GEOMETRY_FIT_H

#include "policies/geometry.h"

#include <stddef.h>

/* Writes to buf the largest geometry of the same form as `text` that has at most max_slots slots:
 * NxM loses indexes, then ways; a global pool gets smaller; `all` and ncmoe:N keep more layers on
 * the CPU; a list of ways loses ways of its last layers. Unchanged where it fits already; "none"
 * where not even one slot does. A pool in bytes also has at most max_slots * expert_bytes bytes.
 * expert_bytes: of one expert; 0: unknown. Errors: those of moe_geometry_parse; MOE_ERR_USAGE when
 * buf is too small. */
enum moe_status moe_geometry_fit(const char *text, uint32_t n_layers, uint32_t n_experts,
                                 uint64_t expert_bytes, uint64_t max_slots, char *buf, size_t size,
                                 struct moe_err *err);

#endif
