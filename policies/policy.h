/* The policy contract: a policy orders slots, that is, it names the slot to evict. It never changes
 * residency itself, and never sees a clock, a byte or a device (a bound may ask how long a
 * platform's operations take: MOE_NEEDS_COSTS). One instance serves one pool; slots are numbered
 * 0..n_slots-1 within it.
 *
 * Order of calls (made by the cache, cache.h):
 *     on_sequence            a sequence begins
 *       on_step              a forward pass begins
 *         on_route           an event begins: one for each layer of the pass; under the access
 *                            contract one for each expert of each token and layer
 *           on_hit           for each expert of the event that is in a slot, and
 *           wants, victim,   for each missed expert that the admission rule lets through;
 *           on_evict,        victim and on_evict only while the pool has no free slot
 *           on_insert        (hits and misses together in gate order)
 * A prefetch calls wants to on_insert as well, outside of an event; a prefetch that is taken back
 * calls on_evict alone, and the initial content on_insert alone.
 *
 * Adding a policy: one file (start from lru.c), its lines in registry.h and registry.c; the rest is
 * in CONTRIBUTING.md. */
#ifndef MOELAB_POLICIES_POLICY_H
#define MOELAB_POLICIES_POLICY_H

#include "base/error.h"
#include "base/param.h"
#include "traces/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t moe_key; /* layer * E + expert */
#define MOE_NO_KEY UINT32_MAX
typedef int32_t moe_slot;
#define MOE_NO_SLOT ((moe_slot)-1)
#define MOE_NEVER   UINT32_MAX /* next use: never again */

struct moe_costs;
struct moe_text; /* traces/csv.h */

enum moe_access { MOE_MISS, MOE_HIT, MOE_HIT_IN_FLIGHT };

/* One event as the cache and its policy see it: the set of experts that a forward pass uses in a
 * layer. */
struct moe_route {
    uint32_t layer;
    uint32_t n; /* distinct experts */
    enum moe_phase phase;
    const moe_expert *expert; /* [n] gate order; for several tokens, order of first appearance */
    const float *weight;      /* [n] or NULL */
    const uint32_t *tokens;   /* [n] tokens of the event that use the expert; NULL: one each */
    const float *score;       /* [E] router scores of a one-token event, or NULL; under the access
                                 contract only with a token's first access in a layer */
    const float *lookahead;   /* [E] next layer's router on this layer's input; NULL as score */
    const uint32_t *next_use; /* [n] ordinal of the next event (access) that uses the expert, or
                                 MOE_NEVER; NULL unless some policy has MOE_NEEDS_FUTURE */
    moe_slot *slot;           /* [n] out: pool-local slot, MOE_NO_SLOT on a miss */
    uint8_t *access;          /* [n] out: enum moe_access */
};

enum moe_policy_needs {
    MOE_NEEDS_FUTURE = 1,
    MOE_NEEDS_SCORES = 2,
    MOE_NEEDS_LOOKAHEAD = 4,
    MOE_NEEDS_SEQUENCE = 8, /* of routes: where sequences begin (on_sequence) */
    MOE_NEEDS_COSTS = 16,
};

enum moe_policy_flags {
    /* May evict an expert of the event under way (an offline bound decides at the event's end). */
    MOE_POLICY_MAY_DROP_EVENT = 1,
    /* May name a pinned or in-flight slot, as the paper's reference code does; each such eviction
     * is counted as a hazard. */
    MOE_POLICY_IGNORES_PINS = 2,
};

struct moe_policy_env {
    uint32_t n_slots; /* of this pool, > 0 */
    uint32_t n_layers, n_experts, top_k;
    uint64_t seed;                 /* differs by pool */
    const void *params;            /* the struct that ops->params describes */
    const struct moe_costs *costs; /* of a platform, or NULL; to be read in init only */
    const struct moe_text *file;   /* for initial: content of the file that ops->file names, or
                                      NULL: not read yet */
};

/* Why a slot must not be evicted; bits of moe_victim_req.pinned. */
enum moe_pin {
    MOE_PIN_EVENT = 1,    /* holds an expert that the event under way hit */
    MOE_PIN_RESERVED = 2, /* reserved for a miss of the event under way */
    MOE_PIN_FLIGHT = 4,   /* a copy into it has not landed */
    MOE_PIN_HELD = 8,     /* moe_cache_pin */
    MOE_PIN_EMPTY = 16,   /* holds nothing (seen by victim in byte-limited pools only) */
};

struct moe_victim_req {
    moe_key key;           /* the expert that wants a slot */
    uint32_t next_use;     /* its next use; MOE_NEVER: none, or unknown */
    const uint8_t *pinned; /* [n_slots] enum moe_pin bits; non-zero: must not be chosen */
};

struct moe_policy_ops {
    const char *name, *summary, *source; /* source: paper and section, or repository and file */
    const char *notes; /* for docs/policies.md: which of several readings this is, traps; or NULL */
    const struct moe_param *params; /* NULL: none; offsets into a struct of params_size bytes */
    size_t params_size;
    uint32_t needs; /* enum moe_policy_needs bits */
    uint32_t flags; /* enum moe_policy_flags bits */
    /* Bytes of state that one pool needs, arrays included; zeroed before init. */
    size_t (*state_size)(const struct moe_policy_env *env);
    void (*init)(void *state, const struct moe_policy_env *env);
    void (*on_sequence)(void *state); /* optional: a sequence begins */
    void (*on_step)(void *state);     /* optional: a forward pass begins */
    void (*on_route)(void *state, const struct moe_route *route); /* optional; once per event */
    void (*on_hit)(void *state, moe_slot slot, moe_key key);      /* optional */
    void (*on_insert)(void *state, moe_slot slot, moe_key key);
    /* Optional: the expert in the slot is gone. Mostly victim has just named the slot; otherwise a
     * prefetch was taken back, whose copy never landed: no ghost, no ageing. */
    void (*on_evict)(void *state, moe_slot slot, moe_key key);
    /* Optional: asked once for every newcomer, even while the pool has free slots. False: the
     * newcomer is not worth a slot. */
    bool (*wants)(void *state, const struct moe_victim_req *req);
    /* The slot to evict, or MOE_NO_SLOT: every slot is pinned, or the newcomer is not worth one.
     * Called only when no slot of the pool is free (in a byte-limited pool: when the newcomer does
     * not fit; some slots may be empty). */
    moe_slot (*victim)(void *state, const struct moe_victim_req *req);
    /* Optional, for speed; only for a policy without wants, on_hit and flags. Writes to slot [n]
     * what victim would return for n newcomers of one event, each inserted before the next asks.
     * on_evict and on_insert follow for each that got a slot, with no other call in between. False:
     * nothing was done, victim is to be asked. */
    bool (*victims)(void *state, uint32_t n, const uint8_t *pinned, moe_slot *slot);
    /* Optional: what the slots hold at the start. Writes distinct experts, the most important
     * first, into keys [L * E] and their number into *n; the cache gives each of them a slot of its
     * layer's pool while there is room. moe_cache_new calls it once for all pools: env->n_slots is
     * the sum over them. Reads the file that ops->file names unless env->file has its content;
     * errors are passed on by moe_cache_new. */
    enum moe_status (*initial)(const struct moe_policy_env *env, moe_key *keys, uint32_t *n,
                               struct moe_err *err);
    /* Optional: the path of the file that `initial` reads, or "" for none. Results depend on its
     * content. */
    const char *(*file)(const void *params);
};

enum { MOE_POLICY_PARAMS_MAX = 1088 };

/* A policy with its parameters set. */
struct moe_policy_spec {
    const struct moe_policy_ops *ops;
    _Alignas(8) unsigned char params[MOE_POLICY_PARAMS_MAX];
    const struct moe_costs *costs; /* of the platform, set by whoever sets up the strategy, or NULL;
                                      must outlive the cache */
    const struct moe_text *file;   /* content of the file that ops->file names, from a caller that
                                      makes many caches of it, or NULL: the policy reads it; must
                                      outlive moe_cache_new */
};

/* Every policy; ended by NULL. */
extern const struct moe_policy_ops *const moe_policies[];

/* Checks that a trace with these parts (enum moe_tokens_part) has what the policy needs, and the
 * spec the costs if it needs them. Errors: MOE_ERR_USAGE naming policy and part. */
enum moe_status moe_policy_check_parts(const struct moe_policy_spec *spec, unsigned parts,
                                       struct moe_err *err);

/* "NAME" or "NAME:key=value,key=value". Errors: MOE_ERR_USAGE with the nearest known name. */
enum moe_status moe_policy_parse(const char *text, struct moe_policy_spec *out,
                                 struct moe_err *err);

/* The text from which moe_policy_parse makes the same policy: its name and the parameters that are
 * not at their defaults, "opt:admit=forced". Truncated to fit size. Returns buf. */
const char *moe_policy_format(const struct moe_policy_spec *spec, char *buf, size_t size);

#endif
