/* Finished operations, kept and written as Chrome trace JSON, which Perfetto opens: one track for
 * each resource. */
#ifndef MOELAB_POLICIES_TIMELINE_H
#define MOELAB_POLICIES_TIMELINE_H

#include "base/error.h"

#include <stdint.h>

enum moe_track {
    MOE_TRACK_GPU,
    MOE_TRACK_CPU,
    MOE_TRACK_H2D,
    MOE_TRACK_STATE,
    MOE_TRACK_TOKEN,
    MOE_N_TRACKS
};

/* One finished operation. Strings are static. */
struct moe_operation {
    enum moe_track track;
    const char *name; /* "attend", "expert", "fill", "state down", "state up", "combine", "token" */
    const char *cause; /* "hit", "miss", "late fill", "on demand", "prefetch", ... or NULL */
    int32_t layer, expert, slot; /* -1: none */
    uint64_t start_ns, end_ns;
};

struct moe_timeline; /* opaque */

/* Keeps up to max_operations in memory; drops and counts those after. */
enum moe_status moe_timeline_new(struct moe_timeline **out, uint64_t max_operations,
                                 struct moe_err *err);
void moe_timeline_free(struct moe_timeline *timeline);
void moe_timeline_add(struct moe_timeline *timeline, const struct moe_operation *op);
uint64_t moe_timeline_count(const struct moe_timeline *timeline);
const struct moe_operation *moe_timeline_at(const struct moe_timeline *timeline, uint64_t i);
uint64_t moe_timeline_dropped(const struct moe_timeline *timeline);

/* Writes Chrome trace JSON; title shows as the process name. Errors: MOE_ERR_IO; MOE_ERR_MEMORY,
 * also if an operation within max_operations could not be kept. */
enum moe_status moe_timeline_write(const struct moe_timeline *timeline, const char *title,
                                   const char *path, struct moe_err *err);

#endif
