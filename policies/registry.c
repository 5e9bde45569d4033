#include "policies/registry.h"

#include "policies/spec.h"

#include <string.h>

const struct moe_policy_ops *const moe_policies[] = {
    &moe_policy_lru,   &moe_policy_fifo, &moe_policy_lfu,       &moe_policy_random,
    &moe_policy_clock, &moe_policy_opt,  &moe_policy_paper_lru, NULL,
};

enum moe_status moe_policy_parse(const char *text, struct moe_policy_spec *out, struct moe_err *err)
{
    const char *names[sizeof moe_policies / sizeof *moe_policies];
    char name[64];
    const char *rest;
    size_t n = 0;
    enum moe_status s = moe_spec_split("policy", text, name, sizeof name, &rest, err);
    if (s)
        return s;
    for (; moe_policies[n]; n++) {
        if (strcmp(moe_policies[n]->name, name) == 0) {
            struct moe_policy_spec spec = {.ops = moe_policies[n]};
            s = moe_spec_params("policy", name, spec.ops->params, spec.params, rest, err);
            if (!s)
                *out = spec;
            return s;
        }
        names[n] = moe_policies[n]->name;
    }
    return moe_spec_unknown("policy", name, names, n, err);
}
