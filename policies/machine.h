/* The machine contract: what the step loop needs done. `sim` does it in virtual time, `exec` on
 * devices. Calls queue work and return at once, except those that say "waits": these return when
 * the host would know that the work is done. The machine reports landed copies by calling
 * moe_cache_ready on its cache, only from inside one of the calls below. */
#ifndef MOELAB_POLICIES_MACHINE_H
#define MOELAB_POLICIES_MACHINE_H

#include "policies/decide.h"

typedef uint64_t moe_ns;

struct moe_step {
    const struct moe_tokens *tokens; /* routes to replay; NULL: the machine routes by itself */
    uint64_t first, n_tokens;        /* tokens of this forward pass within `tokens` */
    enum moe_phase phase;
    uint32_t context;  /* tokens already in the KV cache, of the request that has most */
    uint64_t cached;   /* the same summed over the pass's requests; set where routes are replayed */
    uint32_t requests; /* number of requests of the pass; likewise */
};

struct moe_ffn {
    uint32_t layer;
    moe_expert expert;
    moe_slot slot;     /* gpu_ffn: where the weights are; MOE_NO_SLOT: in the staging buffer that
                          the fetch queued just before fills: the GPU waits for that copy */
    uint32_t n_tokens; /* tokens of the step that use it */
};

enum moe_fetch_priority { MOE_FETCH_DEMAND, MOE_FETCH_FILL, MOE_FETCH_PREFETCH };

struct moe_fetch {
    uint32_t layer;
    moe_expert expert;
    moe_slot slot; /* MOE_NO_SLOT: into a staging buffer that the cache does not know */
    enum moe_fetch_priority priority;
    bool pageable;
};

struct moe_machine_ops {
    enum moe_status (*begin_step)(void *machine, const struct moe_step *step, struct moe_err *err);
    /* The layer's dense part on the GPU; waits until the host knows the routing. */
    enum moe_status (*attend)(void *machine, uint32_t layer, struct moe_layer_routes *out,
                              struct moe_err *err);
    /* Optional; called, if at all, right after attend: the layer's experts and weights are those of
     * `routes`, of one token, from now on (reroute.h). A machine that takes them from moe_ffn alone
     * need not have it. */
    void (*reroute)(void *machine, const struct moe_layer_routes *routes);
    /* Computes an expert on the GPU, in queue order. */
    void (*gpu_ffn)(void *machine, const struct moe_ffn *ffn);
    /* Computes an expert on the CPU pool, in queue order; the first one of a layer is preceded by
     * the transfer of the activations to the host. */
    void (*cpu_ffn)(void *machine, const struct moe_ffn *ffn);
    /* Optional; called after the cpu_ffn of a layer, before its cpu_wait and combine. Computes an
     * expert of the next layer on this layer's activations, of one token, after all that is queued
     * for the CPU so far. Nothing waits for the result unless the next layer asks for it by
     * cpu_take, in place of cpu_ffn. */
    void (*cpu_early)(void *machine, const struct moe_ffn *ffn);
    void (*cpu_take)(void *machine, const struct moe_ffn *ffn);
    /* Waits until the CPU pool has computed what the layer asked for by cpu_ffn and cpu_take. */
    void (*cpu_wait)(void *machine);
    /* Queues a copy. fetch and slot_wait are also called before the first begin_step
     * (moe_loop_preload). */
    void (*fetch)(void *machine, const struct moe_fetch *fetch);
    /* Later gpu_ffn calls wait for the copy into slot; host: the host waits as well. Does nothing
     * when no copy into slot is queued or running. */
    void (*slot_wait)(void *machine, moe_slot slot, bool host);
    /* Takes back the copy queued last into slot, for which nothing waits; false: it has begun. */
    bool (*cancel)(void *machine, moe_slot slot);
    void (*combine)(void *machine, uint32_t layer); /* sums GPU and CPU parts on the GPU */
    enum moe_status (*end_step)(void *machine, struct moe_err *err); /* waits for the token */
    moe_ns (*now)(void *machine);
};

#endif
