/* How long experts are used without a break. The streak of a decode route is the largest number of
 * consecutive tokens right before it, of the same sequence, that all used one same expert of it, up
 * to MOE_STREAK_MAX. */
#ifndef MOELAB_TRACES_STREAKS_H
#define MOELAB_TRACES_STREAKS_H

#include "traces/trace.h"

enum { MOE_STREAK_MAX = 3 };

struct moe_streaks {
    uint64_t n;                         /* routes with a decode token of the sequence before them */
    uint64_t count[MOE_STREAK_MAX + 1]; /* of them by streak; the last: that or more */
};

/* Of one layer. Tokens without routes break a streak. */
struct moe_streaks moe_streaks_of_layer(const struct moe_trace *trace, uint32_t layer);

#endif
