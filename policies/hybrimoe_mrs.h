/* What hybrimoe_mrs.c does with a token's scores where the processor has AVX-512, to the same bits.
 */
#ifndef MOELAB_POLICIES_HYBRIMOE_MRS_H
#define MOELAB_POLICIES_HYBRIMOE_MRS_H

#include "policies/score_loops.h"

enum { MOE_MRS_UNIT = 32 };

/* Of a layer. */
struct moe_mrs_row {
    size_t n;
    uint32_t p;
    float alpha;
    float *mean;             /* [n] S */
    uint32_t *turn;          /* [n] of residents: the highest goes; of others 0 */
    float *weight, *near;    /* [n], [n + 8] scratch */
    struct moe_start *start; /* of the search for the p largest */
};

/* S and turns by a token's logits [n]. */
typedef void moe_mrs_take(const struct moe_mrs_row *row, const float *score);

/* NULL where the processor has none, or n is not whole units. */
moe_mrs_take *moe_mrs_take_avx512(size_t n);

#endif
