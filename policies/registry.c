#include "policies/registry.h"

#include "policies/spec.h"

#include <string.h>

const struct moe_policy_ops *const moe_policies[] = {
    &moe_policy_lru,           &moe_policy_fifo,         &moe_policy_lfu,
    &moe_policy_random,        &moe_policy_clock,        &moe_policy_opt,
    &moe_policy_paper_lru,     &moe_policy_slru,         &moe_policy_arc,
    &moe_policy_s3_fifo,       &moe_policy_sieve,        &moe_policy_lecar,
    &moe_policy_lfu_aged,      &moe_policy_lfru,         &moe_policy_least_stale,
    &moe_policy_decayed_count, &moe_policy_moe_infinity, &moe_policy_moe_infinity_code,
    &moe_policy_distance,      &moe_policy_hybrimoe_mrs, &moe_policy_static,
    &moe_policy_prompt_count,  &moe_policy_opt_time,     NULL,
};

enum moe_status moe_policy_check_parts(const struct moe_policy_spec *spec, unsigned parts,
                                       struct moe_err *err)
{
    const struct moe_policy_ops *ops = spec->ops;
    if ((ops->needs & MOE_NEEDS_COSTS) && !spec->costs)
        return moe_fail(err, MOE_ERR_USAGE,
                        "policy '%s' needs a platform: its costs tell what a hit saves; name one, "
                        "as `moelab sim` does, or use opt",
                        ops->name);
    if ((ops->needs & MOE_NEEDS_SCORES) && !(parts & MOE_HAS_SCORE))
        return moe_fail(err, MOE_ERR_USAGE,
                        "policy '%s' needs router scores, which the trace does not have",
                        ops->name);
    if ((ops->needs & MOE_NEEDS_LOOKAHEAD) && !(parts & MOE_HAS_LOOKAHEAD))
        return moe_fail(err, MOE_ERR_USAGE,
                        "policy '%s' needs lookahead scores, which the trace does not have",
                        ops->name);
    return MOE_OK;
}

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

const char *moe_policy_format(const struct moe_policy_spec *spec, char *buf, size_t size)
{
    return moe_spec_format(spec->ops->name, spec->ops->params, spec->params, buf, size);
}
