/* Do sequences of one kind use the same experts because they say the same? Items B5 to B7 of the
 * reporting checklist of arXiv 2608.07911 (section 10.2, definitions in 5.3 and 5.4).
 *
 * Two sequences are compared decode token by decode token, the first with the first and so on as
 * far as both go. Agreement is the share of positions with the same token id. Jaccard is
 * |A n B| / |A u B| of the two routes of a layer, its mean over the positions and layers that have
 * both. Pairs are averaged, each counting once. */
#ifndef MOELAB_TRACES_PAIRS_H
#define MOELAB_TRACES_PAIRS_H

#include "traces/trace.h"

struct moe_pairs_mean {
    uint64_t n;                /* pairs that share a position with routes */
    double agreement, jaccard; /* NaN where n is 0 */
};

struct moe_pairs {
    uint64_t n_sequences, n_unique; /* with decode tokens; different in their ids */
    struct moe_pairs_mean within;   /* of one category */
    struct moe_pairs_mean apart;    /* those of them with little text in common: agreement < 5 % */
    struct moe_pairs_mean across;   /* of two categories, one of them `category` */
};

/* Over decode tokens [from, to) of each sequence; category NULL: every one. The trace holds what
 * moe_tokens_check promises. Errors: MOE_ERR_UNSUPPORTED (decode tokens without ids, several
 * requests in a sequence), MOE_ERR_MEMORY. */
enum moe_status moe_pairs_compute(const struct moe_trace *trace, const char *category,
                                  uint64_t from, uint64_t to, struct moe_pairs *out,
                                  struct moe_err *err);

#endif
