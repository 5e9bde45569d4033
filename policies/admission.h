/* The admission contract: whether a missed expert is fetched into a slot at all. A strategy has one
 * rule. Rules see routes and the platform's costs, never a clock; but the decisions of a rule that
 * asks how many copies are under way depend on time, which its flags say (MOE_ADMISSION_ON_TIME).
 *
 * Order of calls: on_step at the start of each forward pass that uses the cache; then for each
 * event of a layer that has slots on_route once, after the classification, and admit for each
 * missed expert in gate order. (Under the access contract an event is one expert.) Adding a rule:
 * one file (start from admission_second_miss.c), its lines in admission_rules.h and admission.c,
 * one row in tests/unit/test_rules_together.c. */
#ifndef MOELAB_POLICIES_ADMISSION_H
#define MOELAB_POLICIES_ADMISSION_H

#include "policies/policy.h"

struct moe_costs;

struct moe_admission_env {
    uint32_t n_layers, n_experts;
    uint64_t seed;
    const struct moe_costs *costs; /* of the platform, or NULL; outlives the rule */
    bool pageable;                 /* copies come from pageable memory */
    bool miss_waits;               /* dispatch.miss=wait: every missed expert is copied anyway */
    const void *params;            /* the struct that ops->params describes */
};

struct moe_admit_req {
    const struct moe_route *route;
    uint32_t i;      /* which expert of the route */
    uint32_t copies; /* number of copies into slots that are queued or running, those into slots
                        reserved by this event included; 0 unless the rule is
                        MOE_ADMISSION_ON_TIME */
};

enum moe_admission_flags {
    MOE_ADMISSION_NEEDS_COSTS = 1,
    /* Its decisions depend on when copies land: two machines may decide differently even if no
     * expert is ever asked for while in flight. */
    MOE_ADMISSION_ON_TIME = 2,
};

struct moe_admission_ops {
    const char *name, *summary, *source;
    const char *notes; /* as in struct moe_policy_ops */
    const struct moe_param *params;
    size_t params_size;
    uint32_t flags; /* enum moe_admission_flags bits */
    /* Bytes of state, arrays included, as one block; zeroed before init. NULL: no state. */
    size_t (*state_size)(const struct moe_admission_env *env);
    void (*init)(void *state, const struct moe_admission_env *env); /* optional */
    void (*on_step)(void *state);                                   /* optional */
    void (*on_route)(void *state, const struct moe_route *route);   /* optional */
    bool (*admit)(void *state, const struct moe_admit_req *req);
};

struct moe_admission_spec {
    const struct moe_admission_ops *ops;
    _Alignas(8) unsigned char params[MOE_POLICY_PARAMS_MAX];
};

/* An instance. */
struct moe_admission {
    const struct moe_admission_ops *ops;
    void *state; /* heap; NULL where the rule has none */
};

extern const struct moe_admission_ops *const moe_admissions[]; /* ended by NULL */

/* "NAME" or "NAME:key=value,...". */
enum moe_status moe_admission_parse(const char *text, struct moe_admission_spec *out,
                                    struct moe_err *err);

/* env->params is taken from the spec. Errors: MOE_ERR_USAGE (the rule needs costs and there are
 * none), MOE_ERR_MEMORY; then nothing needs releasing. */
enum moe_status moe_admission_init(struct moe_admission *admission,
                                   const struct moe_admission_spec *spec,
                                   const struct moe_admission_env *env, struct moe_err *err);
void moe_admission_release(struct moe_admission *admission); /* also one that is all zero */

/* A forward pass that uses the cache begins. */
static inline void moe_admission_step(struct moe_admission *admission)
{
    if (admission->ops->on_step)
        admission->ops->on_step(admission->state);
}

/* An event was classified. */
static inline void moe_admission_route(struct moe_admission *admission,
                                       const struct moe_route *route)
{
    if (admission->ops->on_route)
        admission->ops->on_route(admission->state, route);
}

static inline bool moe_admission_on_time(const struct moe_admission *admission)
{
    return admission->ops->flags & MOE_ADMISSION_ON_TIME;
}

/* Shall the missed expert route->expert[i] be fetched into a slot? copies: as in moe_admit_req. */
static inline bool moe_admission_admits(struct moe_admission *admission,
                                        const struct moe_route *route, uint32_t i, uint32_t copies)
{
    struct moe_admit_req req = {route, i, copies};
    return admission->ops->admit(admission->state, &req);
}

#endif
