/* A prediction of when the copies that a step loop queued land, from the platform's costs and the
 * time at which they were queued, as no machine tells. A demand begins when the running copy has
 * ended; that it delays the queued ones, and that copies share the host DRAM with the CPU, is left
 * out. */
#ifndef MOELAB_POLICIES_LINK_H
#define MOELAB_POLICIES_LINK_H

#include "policies/machine.h"

struct moe_link {
    uint64_t *landed_ns; /* [L * E] on the machine's clock; NULL: not needed, nothing is kept */
    uint64_t free_ns;    /* when all that was queued has been copied, likewise */
    uint64_t copy_ns;    /* that one copy takes */
};

/* The time until the copy that runs at now_ns has ended; 0: none runs. */
static inline uint64_t moe_link_running_ns(const struct moe_link *link, uint64_t now_ns)
{
    return link->free_ns > now_ns ? (link->free_ns - now_ns) % link->copy_ns : 0;
}

static inline void moe_link_queue(struct moe_link *link, moe_key key,
                                  enum moe_fetch_priority priority, uint64_t now_ns)
{
    uint64_t from = link->free_ns > now_ns ? link->free_ns : now_ns;
    link->free_ns = from + link->copy_ns;
    if (priority == MOE_FETCH_DEMAND)
        from = now_ns + moe_link_running_ns(link, now_ns);
    link->landed_ns[key] = from + link->copy_ns;
}

/* A copy was taken back. */
static inline void moe_link_cancel(struct moe_link *link)
{
    link->free_ns -= link->free_ns < link->copy_ns ? link->free_ns : link->copy_ns;
}

/* The time until the key's copy, which is queued or running, has landed; at least 1. */
static inline uint64_t moe_link_lands_ns(const struct moe_link *link, moe_key key, uint64_t now_ns)
{
    return link->landed_ns[key] > now_ns ? link->landed_ns[key] - now_ns : 1;
}

#endif
