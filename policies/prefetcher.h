/* The prefetcher contract: which experts to fetch before they are asked for. It sees routes, never
 * a cache, a clock or a device; the step loop (ahead.h) skips experts that are in a slot already,
 * and cancels copies that became useless. Adding one: one file (start from prefetch_popularity.c),
 * one line below and one in the table of prefetcher.c, one row in
 * tests/unit/test_prefetcher_properties.c. */
#ifndef MOELAB_POLICIES_PREFETCHER_H
#define MOELAB_POLICIES_PREFETCHER_H

#include "policies/policy.h"

struct moe_prefetch_env {
    uint32_t n_layers, n_experts, top_k;
    uint64_t seed;
    const void *params;
};

struct moe_step; /* machine.h */

struct moe_prefetcher_ops {
    const char *name, *summary, *source;
    const char *notes; /* as in struct moe_policy_ops */
    const struct moe_param *params;
    size_t params_size;
    uint32_t needs; /* enum moe_policy_needs bits */
    /* Each prediction replaces the ones before: queued copies that it does not name again are
     * cancelled. Otherwise a copy is cancelled only when its layer turns out not to need it. */
    bool replaces;
    size_t (*state_size)(const struct moe_prefetch_env *env); /* zeroed before init */
    void (*init)(void *state, const struct moe_prefetch_env *env);
    void (*on_sequence)(void *state); /* optional: a sequence begins */
    /* Optional: a forward pass that uses the cache begins; step is valid until it has ended. With
     * MOE_NEEDS_FUTURE, step->tokens is the trace, in which this pass and all that follow can be
     * looked up. Other prefetchers must not read it. */
    void (*on_step)(void *state, const struct moe_step *step);
    /* After the routing of a layer is known: writes up to max different keys, of layers after this
     * one or of the next forward pass, most wanted first; returns how many. */
    uint32_t (*predict)(void *state, const struct moe_route *route, moe_key *out, uint32_t max);
};

struct moe_prefetcher_spec {
    const struct moe_prefetcher_ops *ops;
    _Alignas(8) unsigned char params[MOE_POLICY_PARAMS_MAX];
};

extern const struct moe_prefetcher_ops *const moe_prefetchers[]; /* ended by NULL */

/* Its entries that have a file of their own. */
extern const struct moe_prefetcher_ops moe_prefetcher_oracle;
extern const struct moe_prefetcher_ops moe_prefetcher_markov;
extern const struct moe_prefetcher_ops moe_prefetcher_popularity;
extern const struct moe_prefetcher_ops moe_prefetcher_gate_lookahead;
extern const struct moe_prefetcher_ops moe_prefetcher_moe_infinity;
extern const struct moe_prefetcher_ops moe_prefetcher_prompt_swap;

/* Checks that the routes come with what the prefetcher needs. parts: enum moe_tokens_part bits;
 * future: they are those of a trace. Errors: MOE_ERR_USAGE. */
enum moe_status moe_prefetcher_check(const struct moe_prefetcher_spec *spec, unsigned parts,
                                     bool future, struct moe_err *err);

enum moe_status moe_prefetcher_parse(const char *text, struct moe_prefetcher_spec *out,
                                     struct moe_err *err);

/* The text from which moe_prefetcher_parse makes the same; as moe_policy_format. Returns buf. */
const char *moe_prefetcher_format(const struct moe_prefetcher_spec *spec, char *buf, size_t size);

#endif
