/* The reroute contract: whether an expert that lies in a slot may stand in for one that the router
 * chose and that does not. This changes what the model computes: LOSSY. A strategy has one rule,
 * `none` unless it says otherwise, and every other is refused where the user has not allowed it
 * (moe_strategy.lossy); every result says which rule and how much it changed (rerouter.h). Rules
 * see the router's scores and what is resident, never a clock or a device. A rule may also, or
 * only, have the CPU begin a layer's experts before the layer's input is known (`early`).
 *
 * Decode events of one token are rerouted, before the cache is asked: prompts, and passes of
 * several tokens, keep their routes. Order of calls for an event (rerouter.h makes them): on_route
 * once; then `replaces` for missing choices from the last in gate order on, each with the resident
 * outsider that the router scores highest, until it says no or one of both is used up. So a route
 * keeps its number of experts, and has none twice. Adding a rule: one file (start from
 * reroute_substitute.c), one line below and one in reroute.c. */
#ifndef MOELAB_POLICIES_REROUTE_H
#define MOELAB_POLICIES_REROUTE_H

#include "policies/policy.h"

struct moe_reroute_env {
    uint32_t n_layers, n_experts, top_k;
    const void *params; /* the struct that ops->params describes */
};

struct moe_reroute_req {
    uint32_t layer, n, n_experts;
    const moe_expert *expert; /* [n] the choices in gate order, those replaced so far replaced */
    const float *logit;       /* [E] that they were chosen by; where scores are probabilities, the
                                 logarithms of these */
    const bool *resident;     /* [E] in a slot, or on its way into one */
    bool predicted;           /* chosen by the layer before's guess (ops->predicted) */
};

struct moe_reroute_ops {
    const char *name, *summary, *source;
    const char *notes; /* as in struct moe_policy_ops */
    const struct moe_param *params;
    size_t params_size;
    uint32_t needs; /* enum moe_policy_needs bits: scores, lookahead */
    /* Bytes of state, arrays included; zeroed before init. NULL: the state is a copy of the
     * parameters, and init is not called. Being one block, it needs no release of its own. */
    size_t (*state_size)(const struct moe_reroute_env *env);
    void (*init)(void *state, const struct moe_reroute_env *env); /* with state_size */
    /* Optional: are the layer's choices those that its router made of the layer before's input
     * (lookahead), and their weights with them? Only where such scores are known. */
    bool (*predicted)(void *state, uint32_t layer);
    /* Optional: does the CPU compute those of the layer's experts that its router makes of the
     * layer before's input, and that are not resident then, early and on that input? LOSSY. Asked
     * of the parameters alone, which are the state: state_size is NULL. */
    bool (*early)(const void *params, uint32_t layer);
    void (*on_route)(void *state, const struct moe_reroute_req *req); /* optional */
    /* Shall resident expert `by` stand in for choice i, which is not resident? NULL: never; then
     * nothing is asked, and without `early` the rule is not lossy. */
    bool (*replaces)(void *state, const struct moe_reroute_req *req, uint32_t i, moe_expert by);
};

struct moe_reroute_spec {
    const struct moe_reroute_ops *ops;
    _Alignas(8) unsigned char params[MOE_POLICY_PARAMS_MAX];
};

extern const struct moe_reroute_ops *const moe_reroutes[]; /* ended by NULL */

/* In that table; each in a file of its own. */
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

/* Does it have experts computed early in any layer? */
static inline bool moe_reroute_is_early(const struct moe_reroute_spec *spec)
{
    return spec->ops->early && spec->ops->early(spec->params, UINT32_MAX);
}

/* What a lossy rule does that the model does not, for messages: "experts stand in ...". */
const char *moe_reroute_loss(const struct moe_reroute_spec *spec);

/* "NAME" or "NAME:key=value,...". */
enum moe_status moe_reroute_parse(const char *text, struct moe_reroute_spec *out,
                                  struct moe_err *err);

/* The text that moe_reroute_parse reads back to the same, as moe_policy_format. Returns buf. */
const char *moe_reroute_format(const struct moe_reroute_spec *spec, char *buf, size_t size);

/* May the rule be used? allowed: the user wants lossy results. parts: enum moe_tokens_part bits
 * that the routes come with. needs: of the strategy's other rules; what knows the future knows that
 * of the routes as they were. Errors: MOE_ERR_USAGE. */
enum moe_status moe_reroute_check(const struct moe_reroute_spec *spec, bool allowed, unsigned parts,
                                  uint32_t needs, struct moe_err *err);

#endif
