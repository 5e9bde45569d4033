/* Private to mrc_opt*.c: the stack of mrc_opt.h, and the pass of newcomers down it, in plain C and
 * with AVX2 vectors of eight. Both leave the same stack and return the same positions. */
#ifndef MOELAB_SIM_MRC_OPT_PASS_H
#define MOELAB_SIM_MRC_OPT_PASS_H

#include "sim/mrc_opt.h"

#include <stdbool.h>

/* Places are kept in blocks, and blocks in groups that the vectors look at together. Ordinal 0 is
 * nobody's next use. */
enum { MOE_OPT_BLOCK = 16, MOE_OPT_GROUP = 16, MOE_OPT_AT_ONCE = 8, MOE_OPT_NOT_DUE = 0 };

/* Passes n newcomers, at most MOE_OPT_AT_ONCE, down from the top. comer: [n] their next uses. n_due
 * keys in the stack have the next use `now`: min(n, n_due) of them leave their places, and their
 * positions (from 1) are written. Returns how many. */
typedef uint32_t moe_opt_pass(struct moe_opt_stack *st, const uint32_t *comer, uint32_t n,
                              uint32_t now, uint32_t n_due, uint32_t *position);

struct moe_opt_stack {
    struct moe_opt_ends *ends; /* instead of all that follows (mrc_opt_ends.h), or NULL */
    uint32_t n_keys, n_blocks; /* for vectors, whole groups */
    uint32_t *next_use;        /* [n_blocks * BLOCK] from the top; MOE_NEVER: the place is free */
    uint32_t *low, *high;      /* [n_blocks] least and greatest next use of each block */
    uint32_t *due;             /* [n_keys] the next use that was given at the latest use */
    moe_opt_pass *pass;
};

moe_opt_pass moe_opt_pass_plain, moe_opt_pass_avx2;

/* moe_opt_stack_new by this pass, or with NULL by mrc_opt_ends.h. */
enum moe_status moe_opt_stack_new_as(struct moe_opt_stack **out, uint32_t n_keys,
                                     moe_opt_pass *pass, struct moe_err *err);

/* Is it a processor for the pass of that name? */
bool moe_opt_has_avx2(void);

#endif
