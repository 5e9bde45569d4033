/* The admission contract: whether a missed expert is fetched into a slot at all. */
#ifndef MOELAB_POLICIES_ADMISSION_H
#define MOELAB_POLICIES_ADMISSION_H

#include "policies/policy.h"

struct moe_admit_req {
    const struct moe_route *route;
    uint32_t i; /* which expert of the route */
};

struct moe_admission_ops {
    const char *name, *summary, *source;
    const struct moe_param *params;
    size_t params_size;
    size_t state_size;                             /* zeroed before init */
    void (*init)(void *state, const void *params); /* optional */
    void (*on_step)(void *state);                  /* optional: a forward pass begins */
    bool (*admit)(void *state, const struct moe_admit_req *req);
};

struct moe_admission_spec {
    const struct moe_admission_ops *ops;
    _Alignas(8) unsigned char params[MOE_POLICY_PARAMS_MAX];
};

enum { MOE_ADMISSION_STATE_MAX = 256 };

/* An instance: spec plus state. */
struct moe_admission {
    struct moe_admission_spec spec;
    _Alignas(8) unsigned char state[MOE_ADMISSION_STATE_MAX];
};

extern const struct moe_admission_ops *const moe_admissions[]; /* ended by NULL */

/* "NAME" or "NAME:key=value,...". */
enum moe_status moe_admission_parse(const char *text, struct moe_admission_spec *out,
                                    struct moe_err *err);
void moe_admission_init(struct moe_admission *admission, const struct moe_admission_spec *spec);
/* A forward pass begins. */
static inline void moe_admission_step(struct moe_admission *admission)
{
    if (admission->spec.ops->on_step)
        admission->spec.ops->on_step(admission->state);
}

/* Shall the missed expert route->expert[i] be fetched into a slot? */
static inline bool moe_admission_admits(struct moe_admission *admission,
                                        const struct moe_route *route, uint32_t i)
{
    struct moe_admit_req req = {route, i};
    return admission->spec.ops->admit(admission->state, &req);
}

#endif
