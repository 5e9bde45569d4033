/* The machine contract: what the step loop needs done. `sim` does it in virtual time, `exec` on
 * devices. Calls queue work and return at once, except those that say "waits": they return when the
 * host would know. The machine reports landed copies by calling moe_cache_ready on its cache, only
 * from inside one of its own calls. */
#ifndef MOELAB_POLICIES_MACHINE_H
#define MOELAB_POLICIES_MACHINE_H

#include "policies/decide.h"

typedef uint64_t moe_ns;

struct moe_step {
    const struct moe_tokens *tokens; /* routes to replay; NULL: the machine routes by itself */
    uint64_t first, n_tokens;        /* tokens of this forward pass within `tokens` */
    enum moe_phase phase;
    uint32_t context;  /* tokens already in the KV cache: of the request that has most of them */
    uint64_t cached;   /* in the KV caches of all requests of the pass; for machines that replay */
    uint32_t requests; /* of the pass; the same */
};

struct moe_ffn {
    uint32_t layer;
    moe_expert expert;
    moe_slot slot;     /* gpu_ffn: where the weights are; MOE_NO_SLOT: the machine's staging buffer,
                          filled by the fetch of this expert queued just before (waits for it) */
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
    /* Dense part of the layer on the GPU; waits until the routing is known to the host. */
    enum moe_status (*attend)(void *machine, uint32_t layer, struct moe_layer_routes *out,
                              struct moe_err *err);
    /* Optional, between attend and all else of the layer: `routes`, of one token, are what its
     * experts and weights are from now on (reroute.h). Experts that a machine only counts need it
     * not. */
    void (*reroute)(void *machine, const struct moe_layer_routes *routes);
    void (*gpu_ffn)(void *machine, const struct moe_ffn *ffn);
    /* On the CPU pool, in queue order; the first of a layer brings the activations down first. */
    void (*cpu_ffn)(void *machine, const struct moe_ffn *ffn);
    /* Optional, after the cpu_ffn of a layer and before its cpu_wait and combine: an expert of the
     * next layer on this layer's activations, of one token, behind all that the CPU was asked for.
     * Nothing waits for it unless cpu_take, in place of the next layer's cpu_ffn, asks for it. */
    void (*cpu_early)(void *machine, const struct moe_ffn *ffn);
    void (*cpu_take)(void *machine, const struct moe_ffn *ffn);
    /* Waits until the CPU pool has computed what the layer asked for by cpu_ffn and cpu_take. */
    void (*cpu_wait)(void *machine);
    /* fetch and slot_wait are also called before the first begin_step (moe_loop_preload). */
    void (*fetch)(void *machine, const struct moe_fetch *fetch);
    /* Later gpu_ffn calls wait for the copy into slot; host: the host waits as well. Nothing to do
     * when no copy into slot is queued or running. */
    void (*slot_wait)(void *machine, moe_slot slot, bool host);
    /* Takes back the copy queued last into slot, which nothing waits for; false: it has begun. */
    bool (*cancel)(void *machine, moe_slot slot);
    void (*combine)(void *machine, uint32_t layer); /* sums GPU and CPU parts on the GPU */
    enum moe_status (*end_step)(void *machine, struct moe_err *err); /* waits for the token */
    moe_ns (*now)(void *machine);
};

#endif
