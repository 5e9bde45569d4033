#include "sim/experiment_sets.h"

#include "base/file.h"
#include "base/param.h"
#include "policies/strategy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct moe_param of_all_points[] = {
    {.name = "max_tokens",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct moe_experiment, max_tokens),
     .default_text = "0"},
    {0},
};

/* Sets the key's value if the point has the key; value NULL: only looks. Returns whether it has. */
static bool replace(struct moe_point *point, const char *key, const char *value)
{
    const char **const loaded[] = {&point->trace, &point->model, &point->platform,
                                   &point->strategy};
    static const char *const names[] = {"trace", "model", "platform", "strategy"};
    const char **there = NULL;
    for (size_t i = 0; i < 4; i++)
        if (strcmp(key, names[i]) == 0)
            there = loaded[i];
    for (size_t i = 0; !there && i < point->n_settings; i++)
        if (strcmp(key, point->settings[i].key) == 0)
            there = &point->settings[i].value;
    if (there && value)
        *there = value;
    return there != NULL;
}

static enum moe_status set_point(struct moe_point *point, const char *key, const char *value,
                                 struct moe_err *err)
{
    if (replace(point, key, value))
        return MOE_OK;
    struct moe_setting *more =
        realloc(point->settings, (point->n_settings + 1) * sizeof *point->settings);
    if (!more)
        return moe_fail_memory(err, "an experiment");
    point->settings = more;
    point->settings[point->n_settings++] = (struct moe_setting){key, value};
    return MOE_OK;
}

/* A key of one policy or rule (policy.list) that the file gives to some points is for those: others
 * may have a policy that knows no such key. */
static bool is_for_some(struct moe_experiment *x, const char *key)
{
    for (size_t i = 0; strchr(key, '.') && i < x->n_points; i++)
        if (replace(&x->points[i], key, NULL))
            return true;
    return false;
}

/* Strategies by name, and whether they have slots; one that is not kept is read again. */
struct known {
    size_t n;
    struct {
        const char *name;
        bool slots;
    } strategy[64];
};

/* A strategy that cannot be read counts as one with slots: running the point will report it. */
static bool strategy_has_slots(struct known *known, const char *name)
{
    enum { MAX_KEPT = sizeof known->strategy / sizeof *known->strategy };
    for (size_t i = 0; i < known->n; i++)
        if (strcmp(known->strategy[i].name, name) == 0)
            return known->strategy[i].slots;
    char path[4096];
    struct moe_strategy strategy;
    const bool slots = moe_find_config("strategies", name, path, sizeof path, NULL) ||
                       moe_strategy_load(path, &strategy, NULL) ||
                       strcmp(strategy.geometry, "none") != 0;
    if (known->n < MAX_KEPT) {
        known->strategy[known->n].name = name;
        known->strategy[known->n++].slots = slots;
    }
    return slots;
}

static bool has_slots(struct known *known, const struct moe_point *point)
{
    for (size_t i = 0; i < point->n_settings; i++)
        if (strcmp(point->settings[i].key, "geometry") == 0)
            return strcmp(point->settings[i].value, "none") != 0;
    return !point->strategy || strategy_has_slots(known, point->strategy);
}

/* For the points that have slots; where none has, for all. */
static enum moe_status set_geometry(struct moe_experiment *x, const char *key, const char *value,
                                    struct moe_err *err)
{
    struct known known = {0};
    bool some = false;
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !some && i < x->n_points; i++)
        some = has_slots(&known, &x->points[i]);
    for (size_t i = 0; !s && i < x->n_points; i++)
        if (!some || has_slots(&known, &x->points[i]))
            s = set_point(&x->points[i], key, value, err);
    return s;
}

static enum moe_status set(struct moe_experiment *x, const char *key, const char *value,
                           struct moe_err *err)
{
    for (size_t i = 0; i < x->n_axes; i++)
        if (strcmp(x->axes[i], key) == 0)
            return moe_fail(err, MOE_ERR_USAGE,
                            "--set: experiment '%s' varies '%s' itself; change its file", x->name,
                            key);
    if (moe_param_find(of_all_points, key))
        return moe_params_set(of_all_points, x, key, value, err);
    if (strcmp(key, "geometry") == 0)
        return set_geometry(x, key, value, err);
    const bool some = is_for_some(x, key);
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < x->n_points; i++)
        if (some)
            (void)replace(&x->points[i], key, value);
        else
            s = set_point(&x->points[i], key, value, err);
    return s;
}

/* Replaces the title, which no longer holds, by name and settings. Of paths the last part is
 * enough: it is one line. */
static void entitle(struct moe_experiment *x, const char *const *sets, size_t n_sets)
{
    size_t at = (size_t)snprintf(x->title, sizeof x->title, "%s", x->name);
    for (size_t i = 0; i < n_sets && at < sizeof x->title; i++) {
        const char *equals = strchr(sets[i], '='), *slash = strrchr(equals, '/');
        at += (size_t)snprintf(x->title + at, sizeof x->title - at, "%s %.*s=%s", i ? "," : ":",
                               (int)(equals - sets[i]), sets[i], slash ? slash + 1 : equals + 1);
    }
}

enum moe_status moe_experiment_set(struct moe_experiment *x, const char *const *sets, size_t n_sets,
                                   struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < n_sets; i++) {
        const char *equals = strchr(sets[i], '=');
        char key[64];
        if (!equals || equals == sets[i] || !equals[1] || (size_t)(equals - sets[i]) >= sizeof key)
            return moe_fail(err, MOE_ERR_USAGE, "--set '%.200s': KEY=VALUE is expected", sets[i]);
        snprintf(key, sizeof key, "%.*s", (int)(equals - sets[i]), sets[i]);
        const char *kept = moe_experiment_keep(x, key);
        s = kept ? set(x, kept, equals + 1, err) : moe_fail_memory(err, "an experiment");
    }
    if (!s && n_sets)
        entitle(x, sets, n_sets);
    return s;
}
