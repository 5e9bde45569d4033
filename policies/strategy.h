/* Strategies: geometry + policy + admission + prefetcher + dispatch in one YAML file, and a reroute
 * rule where the strategy is lossy. */
#ifndef MOELAB_POLICIES_STRATEGY_H
#define MOELAB_POLICIES_STRATEGY_H

#include "base/yaml.h"
#include "policies/admission.h"
#include "policies/policy.h"
#include "policies/prefetcher.h"
#include "policies/reroute.h"

/* Where a missed expert is computed. */
enum moe_dispatch_miss {
    MOE_MISS_CPU,
    MOE_MISS_WAIT,     /* on the GPU, when its copy has landed */
    MOE_MISS_FASTEST,  /* where it ends first: place.h */
    MOE_MISS_ADMITTED, /* as WAIT if admission and policy gave it a slot, else as CPU */
};
enum moe_dispatch_in_flight { MOE_FLIGHT_WAIT, MOE_FLIGHT_CPU, MOE_FLIGHT_FASTEST };
enum moe_dispatch_order { MOE_ORDER_HITS_FIRST, MOE_ORDER_GATE };
enum moe_fill_when { MOE_FILL_AFTER_COMPUTE, MOE_FILL_AT_ONCE };
enum moe_fill_memory { MOE_FILL_PINNED, MOE_FILL_PAGEABLE };
enum moe_prefill_place {
    MOE_PREFILL_CPU,
    MOE_PREFILL_CACHE,
    MOE_PREFILL_STREAM,
    MOE_PREFILL_AUTO, /* where it ends first: place.h; if it is in a slot, from there */
};

struct moe_strategy {
    char name[64];
    char source[256];
    char geometry[1024]; /* text; resolved against a model by moe_geometry_parse */
    struct moe_policy_spec policy;
    struct moe_admission_spec admission;
    struct moe_prefetcher_spec prefetcher;
    struct moe_reroute_spec reroute;
    bool lossy;      /* the user wants lossy results. There is no key for it, so that no file and no
                        --set can allow them: only a command or an experiment itself */
    int miss;        /* enum moe_dispatch_miss */
    int in_flight;   /* enum moe_dispatch_in_flight: an expert asked for while its copy runs */
    int order;       /* enum moe_dispatch_order */
    int overlap;     /* bool: the host queues GPU work while the CPU pool computes; false: the host
                        waits for each expert that the CPU computes, as version V2 of the paper's
                        code does */
    int fill_when;   /* enum moe_fill_when; after-compute: with overlap, when the CPU has computed
                        all misses of the layer; without, when it has computed that miss */
    int fill_memory; /* enum moe_fill_memory */
    int prefill;     /* enum moe_prefill_place */
    int prefill_warm; /* bool, for stream and auto: prompts use the cache as decode does */
    uint64_t threads; /* CPU threads for experts */
    uint64_t seed;
};

/* Defaults: none, lru, always, none, cpu, wait, hits-first, ... as strategy.c's table says. */
void moe_strategy_default(struct moe_strategy *strategy);

/* Reads experiments/strategies/NAME.yaml or any path. Errors: MOE_ERR_IO, MOE_ERR_USAGE. */
enum moe_status moe_strategy_load(const char *path, struct moe_strategy *out, struct moe_err *err);
enum moe_status moe_strategy_from_yaml(const struct moe_yaml *root, struct moe_strategy *out,
                                       struct moe_err *err);

/* Sets one key: "geometry", "policy", "policy.hazards", "admission.quota", "dispatch.miss",
 * "fill.when", "prefill", "threads", "seed", ... An unknown key names the nearest one. */
enum moe_status moe_strategy_set(struct moe_strategy *strategy, const char *key, const char *text,
                                 struct moe_err *err);

/* The keys for members of struct moe_strategy itself (not of its rules), by section; ended by a
 * NULL table. */
struct moe_strategy_section {
    const char *name; /* "" for keys without one */
    const struct moe_param *table;
};
extern const struct moe_strategy_section moe_strategy_sections[];

/* Do prompts use the cache? Otherwise cache and policy do not see them. */
static inline bool moe_strategy_caches_prompts(const struct moe_strategy *strategy)
{
    return strategy->prefill == MOE_PREFILL_CACHE || strategy->prefill_warm;
}

/* Does it change which experts are computed? */
static inline bool moe_strategy_is_lossy(const struct moe_strategy *strategy)
{
    return moe_reroute_is_lossy(&strategy->reroute);
}

/* Are experts computed on the GPU without a slot of their own? */
static inline bool moe_strategy_streams(const struct moe_strategy *strategy)
{
    return strategy->miss == MOE_MISS_WAIT || strategy->miss == MOE_MISS_FASTEST ||
           strategy->prefill == MOE_PREFILL_STREAM || strategy->prefill == MOE_PREFILL_AUTO;
}

/* Canonical "key=value" lines, for provenance. */
void moe_strategy_describe(const struct moe_strategy *strategy, char *buf, size_t size);

#endif
