/* The reroute contract: whether an expert that is in a slot may stand in for one that the router
 * chose and that is not. This changes what the model computes: LOSSY. A strategy has one rule,
 * `none` unless it says otherwise, and every other is refused unless the user has allowed it
 * (moe_strategy.lossy); every result says which rule was used and how much it changed (rerouter.h).
 * Rules see the router's scores and what is resident, never a clock or a device. A rule may also,
 * or only, have the CPU begin a layer's experts before the layer's input is known (`early`).
 *
 * Only decode events of one token are rerouted, before the cache sees them: prompts, and passes of
 * several tokens, keep their routes. Order of calls for an event (rerouter.h makes them): on_route
 * once; then `replaces` for each choice that is not resident, the last in gate order first, with
 * the resident expert outside the route that the router scores highest; until it says no, or no
 * choice or no such resident is left. So a route keeps its number of experts, and has none twice.
 * Adding a rule: one file (start from reroute_substitute.c), one line below and one in
 * reroute.c. */
#ifndef MOELAB_POLICIES_REROUTE_H
#define MOELAB_POLICIES_REROUTE_H

#include "policies/policy.h"

struct moe_reroute_env {
    uint32_t n_layers, n_experts, top_k;
    const void *params; /* the struct that ops->params describes */
};

struct moe_reroute_req {
    uint32_t layer, n, n_experts;
    const moe_expert *expert; /* [n] the choices in gate order, replacements so far included */
    const float *logit;       /* [E] by which they were chosen; logarithms where the scores are
                                 probabilities */
    const bool *resident;     /* [E] in a slot, or in flight into one */
    bool predicted;           /* they are those predicted in the layer before (ops->predicted) */
};

struct moe_reroute_ops {
    const char *name, *summary, *source;
    const char *notes; /* as in struct moe_policy_ops */
    const struct moe_param *params;
    size_t params_size;
    uint32_t needs; /* enum moe_policy_needs bits: scores, lookahead */
    /* Bytes of state, arrays included, as one block; zeroed before init. NULL: the state is a copy
     * of the parameters, and init is not called. */
    size_t (*state_size)(const struct moe_reroute_env *env);
    void (*init)(void *state, const struct moe_reroute_env *env); /* if there is a state_size */
    /* Optional: does the layer use, in place of its router's choices and weights, those that its
     * router gives for the input of the layer before (lookahead scores)? Only where such scores are
     * known. */
    bool (*predicted)(void *state, uint32_t layer);
    /* Optional: does the CPU begin early, on the input of the layer before, those experts that the
     * layer's router chooses for that input and that are not resident then? LOSSY. A rule that has
     * it has no state_size: it is asked with the parameters. */
    bool (*early)(const void *params, uint32_t layer);
    void (*on_route)(void *state, const struct moe_reroute_req *req); /* optional */
    /* Shall resident expert `by` stand in for choice i, which is not resident? NULL: never; without
     * `early` either, the rule is not lossy. */
    bool (*replaces)(void *state, const struct moe_reroute_req *req, uint32_t i, moe_expert by);
};

struct moe_reroute_spec {
    const struct moe_reroute_ops *ops;
    _Alignas(8) unsigned char params[MOE_POLICY_PARAMS_MAX];
};

extern const struct moe_reroute_ops *const moe_reroutes[]; /* ended by NULL */

/* Its entries but `none`; each has a file of its own. */
extern const struct moe_reroute_ops moe_reroute_cache_prior;
extern const struct moe_reroute_ops moe_reroute_max_rank;
extern const struct moe_reroute_ops moe_reroute_cumulative;
extern const struct moe_reroute_ops moe_reroute_substitute;
extern const struct moe_reroute_ops moe_reroute_daop;
extern const struct moe_reroute_ops moe_reroute_pre_calculation;

/* Does the rule change what the model computes? */
static inline bool moe_reroute_is_lossy(const struct moe_reroute_spec *spec)
{
    return spec->ops->replaces || spec->ops->early;
}

/* Does the rule have experts begun early in any layer? */
static inline bool moe_reroute_is_early(const struct moe_reroute_spec *spec)
{
    return spec->ops->early && spec->ops->early(spec->params, UINT32_MAX);
}

/* How a lossy rule departs from the model, for messages: "experts stand in ...". */
const char *moe_reroute_loss(const struct moe_reroute_spec *spec);

/* "NAME" or "NAME:key=value,...". */
enum moe_status moe_reroute_parse(const char *text, struct moe_reroute_spec *out,
                                  struct moe_err *err);

/* The text from which moe_reroute_parse makes the same; as moe_policy_format. Returns buf. */
const char *moe_reroute_format(const struct moe_reroute_spec *spec, char *buf, size_t size);

/* Checks that the rule may be used. allowed: the user wants lossy results. parts: enum
 * moe_tokens_part bits that the routes come with. needs: of the strategy's policy and prefetcher; a
 * lossy rule is refused if one of them knows the future, which would be that of the original
 * routes. Errors: MOE_ERR_USAGE. */
enum moe_status moe_reroute_check(const struct moe_reroute_spec *spec, bool allowed, unsigned parts,
                                  uint32_t needs, struct moe_err *err);

#endif
