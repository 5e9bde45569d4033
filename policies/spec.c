#include "policies/spec.h"

#include "base/units.h"
#include "policies/policy.h"

#include <stdio.h>
#include <string.h>

enum moe_status moe_spec_split(const char *what, const char *text, char *name, size_t size,
                               const char **rest, struct moe_err *err)
{
    size_t n = strcspn(text, ":");
    if (n == 0)
        return moe_fail(err, MOE_ERR_USAGE, "empty %s name", what);
    if (n >= size)
        return moe_fail(err, MOE_ERR_USAGE, "%s name '%.40s...' exceeds %zu characters", what, text,
                        size - 1);
    memcpy(name, text, n);
    name[n] = 0;
    *rest = text[n] ? text + n + 1 : text + n;
    return MOE_OK;
}

enum moe_status moe_spec_unknown(const char *what, const char *name, const char *const *known,
                                 size_t n, struct moe_err *err)
{
    char list[300];
    moe_join_names(known, n, " ", ": moelab list", list, sizeof list);
    const char *nearest = moe_nearest_name(name, known, n);
    if (nearest)
        return moe_fail(err, MOE_ERR_USAGE, "unknown %s '%s' (did you mean '%s'?); known: %s", what,
                        name, nearest, list);
    return moe_fail(err, MOE_ERR_USAGE, "unknown %s '%s'; known: %s", what, name, list);
}

enum moe_status moe_spec_params(const char *what, const char *name, const struct moe_param *table,
                                void *params, const char *rest, struct moe_err *err)
{
    if (!table) {
        if (!*rest)
            return MOE_OK;
        return moe_fail(err, MOE_ERR_USAGE, "%s '%s' has no parameters, but '%.60s' was given",
                        what, name, rest);
    }
    moe_params_default(table, params);
    enum moe_status s = moe_params_parse_list(table, params, rest, err);
    return s ? moe_fail_prefix(err, "%s '%s'", what, name) : MOE_OK;
}

const char *moe_spec_format(const char *name, const struct moe_param *table, const void *params,
                            char *buf, size_t size)
{
    _Alignas(8) unsigned char plain[MOE_POLICY_PARAMS_MAX];
    char value[MOE_POLICY_PARAMS_MAX], usual[MOE_POLICY_PARAMS_MAX];
    const char *before = ":";
    size_t at = (size_t)snprintf(buf, size, "%s", name);
    moe_params_default(table, plain);
    for (const struct moe_param *p = table; p && p->name && at < size; p++) {
        moe_param_format(p, params, value, sizeof value);
        moe_param_format(p, plain, usual, sizeof usual);
        if (strcmp(value, usual) == 0)
            continue;
        at += (size_t)snprintf(buf + at, size - at, "%s%s=%s", before, p->name, value);
        before = ",";
    }
    return buf;
}
