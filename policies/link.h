/* When the copies that a step loop queued will have landed, by the platform's costs and the time at
 * which they were queued: no machine tells. Demands begin when the copy that runs has ended; what
 * they delay, and the host DRAM that copies share with the CPU, is left out. */
#ifndef MOELAB_POLICIES_LINK_H
#define MOELAB_POLICIES_LINK_H

#include "policies/machine.h"

struct moe_link {
    uint64_t *landed_ns; /* [L * E] on the machine's clock; heap; NULL: nobody asks, nothing kept */
    uint64_t free_ns;    /* when all that was queued has been copied */
    uint64_t copy_ns;
};

/* Until the copy that runs at now_ns has ended. */
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

/* Until the key's copy has landed, which is under way; at least 1. */
static inline uint64_t moe_link_lands_ns(const struct moe_link *link, moe_key key, uint64_t now_ns)
{
    return link->landed_ns[key] > now_ns ? link->landed_ns[key] - now_ns : 1;
}

#endif
