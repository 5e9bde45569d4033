#include "policies/reroute.h"

#include "policies/spec.h"

#include <string.h>

static const struct moe_reroute_ops none = {
    .name = "none",
    .summary = "the experts that the router chose, and no others",
    .source = "the model",
};

const struct moe_reroute_ops *const moe_reroutes[] = {
    &none,
    &moe_reroute_cache_prior,
    &moe_reroute_max_rank,
    &moe_reroute_cumulative,
    &moe_reroute_substitute,
    &moe_reroute_daop,
    &moe_reroute_pre_calculation,
    NULL,
};

const char *moe_reroute_format(const struct moe_reroute_spec *spec, char *buf, size_t size)
{
    return moe_spec_format(spec->ops->name, spec->ops->params, spec->params, buf, size);
}

enum moe_status moe_reroute_parse(const char *text, struct moe_reroute_spec *out,
                                  struct moe_err *err)
{
    const char *names[sizeof moe_reroutes / sizeof *moe_reroutes];
    char name[64];
    const char *rest;
    size_t n = 0;
    enum moe_status s = moe_spec_split("reroute", text, name, sizeof name, &rest, err);
    if (s)
        return s;
    for (; moe_reroutes[n]; n++) {
        if (strcmp(moe_reroutes[n]->name, name) == 0) {
            struct moe_reroute_spec spec = {.ops = moe_reroutes[n]};
            s = moe_spec_params("reroute", name, spec.ops->params, spec.params, rest, err);
            if (!s)
                *out = spec;
            return s;
        }
        names[n] = moe_reroutes[n]->name;
    }
    return moe_spec_unknown("reroute", name, names, n, err);
}

const char *moe_reroute_loss(const struct moe_reroute_spec *spec)
{
    return spec->ops->replaces ? "experts stand in for those that the router chose"
                               : "experts are computed on the input of the layer before";
}

enum moe_status moe_reroute_check(const struct moe_reroute_spec *spec, bool allowed, unsigned parts,
                                  uint32_t needs, struct moe_err *err)
{
    const struct moe_reroute_ops *ops = spec->ops;
    if (!moe_reroute_is_lossy(spec))
        return MOE_OK;
    if (!allowed)
        return moe_fail(err, MOE_ERR_USAGE,
                        "reroute '%s' is lossy: %s, and the text changes; allow it with --lossy "
                        "(in an experiment, 'lossy: yes'), or use reroute=none",
                        ops->name, moe_reroute_loss(spec));
    if ((ops->needs & MOE_NEEDS_SCORES) && !(parts & MOE_HAS_SCORE))
        return moe_fail(err, MOE_ERR_USAGE,
                        "reroute '%s' needs the router's scores of all experts, which the trace "
                        "does not have; `moelab record` writes them",
                        ops->name);
    if ((ops->needs & MOE_NEEDS_LOOKAHEAD) && !(parts & MOE_HAS_LOOKAHEAD))
        return moe_fail(err, MOE_ERR_USAGE,
                        "reroute '%s' needs lookahead scores, which the trace does not have; "
                        "`moelab record` writes them",
                        ops->name);
    if (needs & MOE_NEEDS_FUTURE)
        return moe_fail(err, MOE_ERR_USAGE,
                        "reroute '%s' changes the routes, but the policy or prefetcher relies on "
                        "the recorded future; use ones that do not",
                        ops->name);
    return MOE_OK;
}
