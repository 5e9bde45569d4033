/* The policy contract: a policy orders slots. It never changes residency, and never sees a clock,
 * a byte or a device (a bound may ask what a platform's operations take: MOE_NEEDS_COSTS). One
 * instance serves one pool; slots are numbered 0..n_slots-1 within it.
 *
 * Order of calls for one event (see cache.h; a forward pass, on_step, has one for each layer, under
 * the access contract one for each expert of each token): on_route once, then for its experts in
 * gate order on_hit for those resident, wants/victim/on_evict/on_insert for those admitted. Adding
 * a policy: one file (start from lru.c), its lines in registry.h and registry.c; the rest is in
 * CONTRIBUTING.md. */
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

/* One event as the cache and its policy see it: the set of experts a step uses in a layer. */
struct moe_route {
    uint32_t layer;
    uint32_t n; /* different experts */
    enum moe_phase phase;
    const moe_expert *expert; /* [n] gate order; for several tokens, order of first appearance */
    const float *weight;      /* [n] or NULL */
    const uint32_t *tokens;   /* [n] tokens of the event that use the expert; NULL: one each */
    const float *score;       /* [E] router scores of a one-token event; under the access contract
                                 with the first access of a token in a layer only; or NULL */
    const float *lookahead;   /* [E] likewise, or NULL */
    const uint32_t *next_use; /* [n] ordinal of the next event (access) that uses the expert, or
                                 MOE_NEVER; NULL unless some policy has MOE_NEEDS_FUTURE */
    moe_slot *slot;           /* [n] out: pool-local slot, MOE_NO_SLOT on a miss */
    uint8_t *access;          /* [n] out: enum moe_access */
};

enum moe_policy_needs {
    MOE_NEEDS_FUTURE = 1,
    MOE_NEEDS_SCORES = 2,
    MOE_NEEDS_LOOKAHEAD = 4,
    MOE_NEEDS_SEQUENCE = 8, /* wants on_sequence */
    MOE_NEEDS_COSTS = 16,
};

enum moe_policy_flags {
    /* May give up an expert of the event under way (an offline bound decides at the event's end).
     */
    MOE_POLICY_MAY_DROP_EVENT = 1,
    /* May name a pinned or in-flight slot, as the reference code does; each is counted a hazard. */
    MOE_POLICY_IGNORES_PINS = 2,
};

struct moe_policy_env {
    uint32_t n_slots; /* of this pool, > 0 */
    uint32_t n_layers, n_experts, top_k;
    uint64_t seed;                 /* differs by pool */
    const void *params;            /* the struct that ops->params describes */
    const struct moe_costs *costs; /* of a platform, or NULL; read in init only */
    const struct moe_text *file;   /* what ops->file holds, or NULL: not read yet; for initial */
};

/* Why a slot must not be chosen; bits of moe_victim_req.pinned. */
enum moe_pin {
    MOE_PIN_EVENT = 1,    /* the event under way found its expert here */
    MOE_PIN_RESERVED = 2, /* handed out by the event under way */
    MOE_PIN_FLIGHT = 4,   /* its copy has not landed */
    MOE_PIN_HELD = 8,     /* moe_cache_pin */
    MOE_PIN_EMPTY = 16,   /* holds nothing (byte-limited pools) */
};

struct moe_victim_req {
    moe_key key;           /* the expert that wants a slot */
    uint32_t next_use;     /* its next use, MOE_NEVER when unknown */
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
    void (*on_evict)(void *state, moe_slot slot, moe_key key); /* optional */
    /* Optional; asked once for every newcomer before a slot is looked for, free or not. False: the
     * newcomer is not worth one. */
    bool (*wants)(void *state, const struct moe_victim_req *req);
    /* The slot to give up, or MOE_NO_SLOT: every slot is pinned, or the newcomer is not worth one.
     * All slots of the pool are occupied when this is called (in a byte-limited pool: some). */
    moe_slot (*victim)(void *state, const struct moe_victim_req *req);
    /* Optional, for speed, in a policy without wants, on_hit and flags: what victim would say to n
     * newcomers of one event if each that gets a slot took it before the next asked. slot [n] out;
     * on_evict and on_insert follow for each that got one, and nothing else before them. False:
     * nothing was done, victim is to be asked. */
    bool (*victims)(void *state, uint32_t n, const uint8_t *pinned, moe_slot *slot);
    /* Optional: what the slots hold at the start. Writes different experts, the most important
     * first, into keys [L * E] and their number into *n; the cache gives each one a slot of its
     * layer's pool while there is room. Asked once for all pools, by moe_cache_new: env->n_slots is
     * their sum. May read the file of its parameters, unless env has it; errors as
     * moe_cache_new's. */
    enum moe_status (*initial)(const struct moe_policy_env *env, moe_key *keys, uint32_t *n,
                               struct moe_err *err);
    /* Optional: the path of the file that `initial` reads, or "": its content belongs to what a
     * result depends on. */
    const char *(*file)(const void *params);
};

enum { MOE_POLICY_PARAMS_MAX = 1088 };

/* A policy with its parameters set. */
struct moe_policy_spec {
    const struct moe_policy_ops *ops;
    _Alignas(8) unsigned char params[MOE_POLICY_PARAMS_MAX];
    const struct moe_costs *costs; /* of the platform it is to run on, or NULL: who sets a strategy
                                      up gives them; they outlive the cache */
    const struct moe_text *file;   /* what ops->file holds, from who has read it for many caches, or
                                      NULL; outlives moe_cache_new */
};

/* Every policy; ended by NULL. */
extern const struct moe_policy_ops *const moe_policies[];

/* Does a trace with these parts (enum moe_tokens_part) hold what the policy needs, and has the spec
 * costs where it needs them? Errors: MOE_ERR_USAGE naming policy and part. */
enum moe_status moe_policy_check_parts(const struct moe_policy_spec *spec, unsigned parts,
                                       struct moe_err *err);

/* "NAME" or "NAME:key=value,key=value". Errors: MOE_ERR_USAGE with the nearest known name. */
enum moe_status moe_policy_parse(const char *text, struct moe_policy_spec *out,
                                 struct moe_err *err);

/* The text that moe_policy_parse reads back to the same policy, with the parameters that are not at
 * their defaults: "opt:admit=forced". Cut where it does not fit. Returns buf. */
const char *moe_policy_format(const struct moe_policy_spec *spec, char *buf, size_t size);

#endif
