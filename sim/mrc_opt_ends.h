/* OPT for every pool size at once (mrc_opt.h), from past uses alone, by AVX-512.
 *
 * Keeping an expert in a slot from one use to the next is an interval. As many intervals as
 * possible are kept if they are taken in order of their ends, and each gets, of the slots that were
 * free by its begin, the one that became free last, or is declined if there is none (Carlisle and
 * Lloyd, On the k-coloring of intervals, 1995). That is what OPT keeps (mrc_opt.h), but known only
 * when the expert is used again.
 *
 * What is needed of the past is when the latest interval of each slot ended. A pool of one slot
 * more has the same ends and one more, so one list serves all sizes: the ends in order of time,
 * each with a number, that of the smallest pool that has it. A use walks the list from the key's
 * last use back in time. It takes the first end that it meets out of the list, and carries its
 * number on; with each older end that has a lower number it swaps numbers. The number that it
 * carries at last is the key's position, and the number of the new end. Numbers are at most 16
 * bits, so 32 of them are one vector.
 *
 * Uses A B A B B, at times 1 to 5. A at 3 finds no end at or before its use at 1, so it needs a
 * slot more than there were: position 1, end (3, number 1). B at 4 finds none at or before 2:
 * position 2, end (4, 2). B at 5 takes (4, 2) out; then (3, 1) has a lower number and becomes (3,
 * 2), while B carries 1 on: position 1, end (5, 1). One slot keeps B from 4 to 5, as OPT does, and
 * the two slots of the next size have the ends 3 and 5. */
#ifndef MOELAB_SIM_MRC_OPT_ENDS_H
#define MOELAB_SIM_MRC_OPT_ENDS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { MOE_OPT_ENDS_MOST = UINT16_MAX - 1 };

struct moe_opt_ends; /* opaque; single-threaded */

/* Is it a processor for this file, and for mrc_opt_lanes.h? */
bool moe_opt_has_avx512(void);

/* For keys 0..n_keys-1, at most MOE_OPT_ENDS_MOST. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_opt_ends_new(struct moe_opt_ends **out, uint32_t n_keys, struct moe_err *err);
void moe_opt_ends_free(struct moe_opt_ends *ends);
void moe_opt_ends_clear(struct moe_opt_ends *ends);

/* As moe_opt_stack_event. */
void moe_opt_ends_event(struct moe_opt_ends *ends, const uint32_t *key, uint32_t n,
                        uint32_t *position);

#endif
