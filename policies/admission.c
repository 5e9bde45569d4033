#include "policies/admission.h"

#include "policies/admission_rules.h"
#include "policies/spec.h"

#include <stdlib.h>
#include <string.h>

const struct moe_admission_ops *const moe_admissions[] = {
    &moe_admission_always,      &moe_admission_never,         &moe_admission_quota,
    &moe_admission_queue_limit, &moe_admission_probabilistic, &moe_admission_second_miss,
    &moe_admission_pay_back,    &moe_admission_q_star,        NULL,
};

enum moe_status moe_admission_parse(const char *text, struct moe_admission_spec *out,
                                    struct moe_err *err)
{
    const char *names[sizeof moe_admissions / sizeof *moe_admissions];
    char name[64];
    const char *rest;
    size_t n = 0;
    enum moe_status s = moe_spec_split("admission", text, name, sizeof name, &rest, err);
    if (s)
        return s;
    for (; moe_admissions[n]; n++) {
        if (strcmp(moe_admissions[n]->name, name) == 0) {
            struct moe_admission_spec spec = {.ops = moe_admissions[n]};
            s = moe_spec_params("admission", name, spec.ops->params, spec.params, rest, err);
            if (!s)
                *out = spec;
            return s;
        }
        names[n] = moe_admissions[n]->name;
    }
    return moe_spec_unknown("admission", name, names, n, err);
}

enum moe_status moe_admission_init(struct moe_admission *admission,
                                   const struct moe_admission_spec *spec,
                                   const struct moe_admission_env *env, struct moe_err *err)
{
    const struct moe_admission_ops *ops = spec->ops;
    struct moe_admission made = {.ops = ops};
    struct moe_admission_env with_params = *env;
    with_params.params = spec->params;
    if ((ops->flags & MOE_ADMISSION_NEEDS_COSTS) && !env->costs)
        return moe_fail(
            err, MOE_ERR_USAGE,
            "admission '%s' needs a platform: its costs tell what a copy takes and what "
            "it saves; name one, or use admission=quota",
            ops->name);
    if (ops->state_size) {
        made.state = calloc(1, ops->state_size(&with_params));
        if (!made.state)
            return moe_fail_memory(err, "the admission rule's state");
    }
    if (ops->init)
        ops->init(made.state, &with_params);
    *admission = made;
    return MOE_OK;
}

void moe_admission_release(struct moe_admission *admission)
{
    free(admission->state);
    *admission = (struct moe_admission){0};
}
