#include "sim/experiment_columns.h"

#include "base/table.h"
#include "base/units.h"
#include "sim/sweep_point.h"

#include <stdbool.h>
#include <string.h>

struct columns {
    const char *const *name;
    size_t n;
};

/* One name, text[0..length). key: `show` or `rank`. */
static enum moe_status check(const struct columns *columns, const struct moe_yaml *root,
                             const char *key, const char *text, size_t length, struct moe_err *err)
{
    for (size_t i = 0; i < columns->n; i++)
        if (strlen(columns->name[i]) == length && memcmp(columns->name[i], text, length) == 0)
            return MOE_OK;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(length < 63 ? length : 63), text);
    const char *near = moe_nearest_name(name, columns->name, columns->n);
    return moe_yaml_fail(moe_yaml_get(root, key), err, "%s: the result has no column '%s'%s%s%s",
                         key, name, near ? " (did you mean '" : "", near ? near : "",
                         near ? "'?)" : "");
}

static enum moe_status check_shown(const struct moe_experiment *x, const struct columns *columns,
                                   const struct moe_yaml *root, struct moe_err *err)
{
    size_t n = 0;
    for (const char *at = x->show + strspn(x->show, ", "); *at; at += strspn(at, ", ")) {
        const size_t length = strcspn(at, ", ");
        enum moe_status s = check(columns, root, "show", at, length, err);
        if (s)
            return s;
        if (n++ == MOE_MAX_SHOWN)
            return moe_yaml_fail(moe_yaml_get(root, "show"), err, "show: more than %d columns",
                                 MOE_MAX_SHOWN);
        at += length;
    }
    return MOE_OK;
}

enum moe_status moe_experiment_check_columns(const struct moe_experiment *x,
                                             const struct moe_yaml *root, struct moe_err *err)
{
    if (!*x->show && !*x->rank)
        return MOE_OK;
    struct moe_table *table = moe_table_new();
    if (!table)
        return moe_fail_memory(err, "the columns of a result");
    struct columns columns;
    moe_sweep_columns(x, table);
    columns.name = moe_table_columns(table, &columns.n);
    enum moe_status s = check_shown(x, &columns, root, err);
    if (!s && *x->rank)
        s = check(&columns, root, "rank", x->rank, strlen(x->rank), err);
    moe_table_free(table);
    return s;
}
