/* OPT for every pool size at once (mrc_opt.h), from the uses so far alone, by AVX-512.
 *
 * A pool keeps an expert from one use to the next in one of its slots. Taken in order of their
 * ends, such intervals are kept by as many as can be if each takes, of the slots left free by its
 * begin, the one left last, and is declined where there is none (Carlisle and Lloyd, On the
 * k-coloring of intervals, 1995): that is what OPT keeps (mrc_opt.h), told when it is used again.
 * A pool of one slot more has the same ends of intervals and one more, so one list serves all
 * sizes: latest end of each slot, in order of time, each with the number of the smallest pool that
 * has it. A use goes from the key's use before back in time; it takes the first end out, and with
 * it its number; each older end with a lower number changes numbers with it. The number that
 * it has at last is its place, and that of the new end. Where numbers are at most 16 bits, 32 of
 * them are one vector.
 *
 * Uses A B A B B, at times 1 to 5. A at 3 finds no end that is not later than its use at 1: a slot
 * more than any so far, place 1, and the end (3, number 1). B at 4 finds none until 2: place 2, end
 * (4, 2). B at 5 takes (4, 2) out; on its way back (3, 1) has the lower number, so that becomes
 * (3, 2) and B goes on with 1: place 1, end (5, 1). One slot keeps B from 4 to 5, as OPT does, and
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
