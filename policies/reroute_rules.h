/* What several reroute rules share. */
#ifndef MOELAB_POLICIES_REROUTE_RULES_H
#define MOELAB_POLICIES_REROUTE_RULES_H

#include "policies/reroute.h"

/* The entry of a parameter table for member `keep`, a uint64_t, of the struct `owner`. */
#define MOE_REROUTE_KEEP(owner)                                                                    \
    {                                                                                              \
        .name = "keep", .type = MOE_PARAM_U64, .offset = offsetof(owner, keep),                    \
        .default_text = "1", .max = 65535, .unit = "experts",                                      \
        .help = "the first N choices are never replaced (J of arXiv 2412.00099)"                   \
    }

/* Does the router rank expert a before b? Of equal logits the lower number comes first. */
static inline bool moe_reroute_before(const struct moe_reroute_req *req, uint32_t a, uint32_t b)
{
    return req->logit[a] > req->logit[b] || (a < b && !(req->logit[a] < req->logit[b]));
}

#endif
