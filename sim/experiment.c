#include "sim/experiment.h"

#include "base/units.h"
#include "sim/experiment_columns.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Texts live in a chain of blocks that the experiment owns. */
struct block {
    struct block *next;
    char text[];
};

const char *moe_experiment_keep(struct moe_experiment *x, const char *text)
{
    struct block *b = malloc(sizeof *b + strlen(text) + 1);
    if (!b)
        return NULL;
    memcpy(b->text, text, strlen(text) + 1);
    b->next = x->memory;
    x->memory = b;
    return b->text;
}

enum { MAX_AXES = 16, MAX_VALUES = 100000 };

struct axis {
    const char *key;
    size_t n;
    const char **values;
};

/* One grid: defaults of the top level with its own keys over them. */
struct grid {
    const char *trace, *model, *platform, *strategy;
    const struct moe_yaml *set, *axes;
    size_t n_axes;
    struct axis axis[MAX_AXES];
};

static const char *const grid_keys[] = {"trace", "model", "platform", "strategy", "set", "axes"};
static const char *const top_keys[] = {"trace", "model", "platform", "strategy",
                                       "set",   "axes",  "plot",     "grids"};

struct header {
    char name[64], title[256], show[512], rank[64];
    int kind, lossy;
    uint64_t max_tokens;
};

static const struct moe_param header_table[] = {
    {.name = "experiment",
     .type = MOE_PARAM_STRING,
     .offset = offsetof(struct header, name),
     .size = sizeof((struct header *)0)->name,
     .flags = MOE_PARAM_REQUIRED,
     .help = "name of the result files"},
    {.name = "title",
     .type = MOE_PARAM_STRING,
     .offset = offsetof(struct header, title),
     .default_text = "",
     .size = sizeof((struct header *)0)->title,
     .help = "title on the plots"},
    {.name = "show",
     .type = MOE_PARAM_STRING,
     .offset = offsetof(struct header, show),
     .default_text = "",
     .size = sizeof((struct header *)0)->show,
     .help = "columns that are printed"},
    {.name = "rank",
     .type = MOE_PARAM_STRING,
     .offset = offsetof(struct header, rank),
     .default_text = "",
     .size = sizeof((struct header *)0)->rank,
     .help = "column to print them by, the highest first"},
    {.name = "kind",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct header, kind),
     .default_text = "sim",
     .choices = "sim|replay",
     .help = "timed simulation, or hits only"},
    {.name = "max_tokens",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct header, max_tokens),
     .default_text = "0",
     .unit = "decode tokens",
     .help = "per point; 0: the whole trace"},
    {.name = "lossy",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct header, lossy),
     .default_text = "no",
     .help = "allow rules that change which experts are computed"},
    {0},
};

static const struct moe_param no_table[] = {{0}};

static enum moe_status scalar(struct moe_experiment *x, const struct moe_yaml *map, const char *key,
                              const char **out, struct moe_err *err)
{
    const struct moe_yaml *node = moe_yaml_get(map, key);
    if (!node)
        return MOE_OK;
    if (node->kind != MOE_YAML_SCALAR || !*node->text)
        return moe_yaml_fail(node, err, "'%s' is not a single value", key);
    *out = moe_experiment_keep(x, node->text);
    return *out ? MOE_OK : moe_fail_memory(err, "an experiment");
}

static enum moe_status add_value(struct moe_experiment *x, struct axis *axis, const char *text,
                                 struct moe_err *err)
{
    axis->values[axis->n] = moe_experiment_keep(x, text);
    return axis->values[axis->n++] ? MOE_OK : moe_fail_memory(err, "an experiment");
}

/* "a..b" or "a..b step c" with whole numbers: how many values, 0 when text is not a range. */
static uint64_t range_of(const char *text, uint64_t *first, uint64_t *step)
{
    uint64_t last = 0;
    int end = 0;
    *step = 1;
    if (sscanf(text, "%" SCNu64 "..%" SCNu64 "%n", first, &last, &end) != 2 || end == 0)
        return 0;
    if (text[end]) {
        int more = 0;
        if (sscanf(text + end, " step %" SCNu64 "%n", step, &more) != 1 || text[end + more])
            return 0;
    }
    if (*step == 0 || last < *first)
        return 0;
    const uint64_t more = (last - *first) / *step;
    return more < UINT64_MAX ? more + 1 : more;
}

static enum moe_status fail_count(const struct moe_yaml *node, const struct axis *axis, uint64_t n,
                                  struct moe_err *err)
{
    return moe_yaml_fail(node, err, "axis '%s' has %" PRIu64 " values, outside 1..%d", axis->key, n,
                         MAX_VALUES);
}

static enum moe_status range_values(struct moe_experiment *x, const struct moe_yaml *node,
                                    struct axis *axis, struct moe_err *err)
{
    uint64_t first = 0, step = 1;
    const uint64_t n = range_of(node->text, &first, &step);
    if (n > MAX_VALUES)
        return fail_count(node, axis, n, err);
    const char **values = calloc(n ? n : 1, sizeof *values);
    enum moe_status s = values ? MOE_OK : moe_fail_memory(err, "an experiment");
    axis->values = values;
    if (n == 0 && !s)
        return add_value(x, axis, node->text, err);
    for (uint64_t i = 0; !s && i < n; i++) {
        char text[24];
        snprintf(text, sizeof text, "%" PRIu64, first + i * step);
        s = add_value(x, axis, text, err);
    }
    return s;
}

static enum moe_status list_values(struct moe_experiment *x, const struct moe_yaml *node,
                                   struct axis *axis, struct moe_err *err)
{
    if (node->n == 0 || node->n > MAX_VALUES)
        return fail_count(node, axis, node->n, err);
    axis->values = calloc(node->n, sizeof *axis->values);
    enum moe_status s = axis->values ? MOE_OK : moe_fail_memory(err, "an experiment");
    for (size_t i = 0; !s && i < node->n; i++) {
        if (node->item[i]->kind != MOE_YAML_SCALAR)
            return moe_yaml_fail(node->item[i], err, "a value of axis '%s' is not a single value",
                                 axis->key);
        s = add_value(x, axis, node->item[i]->text, err);
    }
    return s;
}

static enum moe_status read_axes(struct moe_experiment *x, struct grid *grid, struct moe_err *err)
{
    const struct moe_yaml *axes = grid->axes;
    if (!axes)
        return MOE_OK;
    if (axes->kind != MOE_YAML_MAP)
        return moe_yaml_fail(axes, err, "'axes' is not a mapping of keys to values");
    if (axes->n > MAX_AXES)
        return moe_yaml_fail(axes, err, "%zu axes exceed the limit of %d", axes->n, MAX_AXES);
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < axes->n; i++) {
        struct axis *axis = &grid->axis[grid->n_axes++];
        const struct moe_yaml *node = axes->item[i];
        axis->key = moe_experiment_keep(x, axes->keys[i]);
        if (!axis->key)
            return moe_fail_memory(err, "an experiment");
        if (node->kind == MOE_YAML_MAP)
            return moe_yaml_fail(node, err, "axis '%s' is a mapping, but a list is expected",
                                 axis->key);
        s = node->kind == MOE_YAML_LIST ? list_values(x, node, axis, err)
                                        : range_values(x, node, axis, err);
    }
    return s;
}

static enum moe_status read_grid(struct moe_experiment *x, const struct moe_yaml *map,
                                 struct grid *grid, struct moe_err *err)
{
    enum moe_status s = scalar(x, map, "trace", &grid->trace, err);
    if (!s)
        s = scalar(x, map, "model", &grid->model, err);
    if (!s)
        s = scalar(x, map, "platform", &grid->platform, err);
    if (!s)
        s = scalar(x, map, "strategy", &grid->strategy, err);
    if (s)
        return s;
    if (moe_yaml_get(map, "set"))
        grid->set = moe_yaml_get(map, "set");
    if (moe_yaml_get(map, "axes"))
        grid->axes = moe_yaml_get(map, "axes");
    if (grid->set && grid->set->kind != MOE_YAML_MAP)
        return moe_yaml_fail(grid->set, err, "'set' is not a mapping of keys");
    return MOE_OK;
}

/* Axes and set keys that name what to load take the place of the grid's own. */
static void apply(struct moe_point *point, const char *key, const char *value)
{
    const char **names[] = {&point->trace, &point->model, &point->platform, &point->strategy};
    for (size_t i = 0; i < 4; i++) {
        if (strcmp(key, grid_keys[i]) == 0) {
            *names[i] = value;
            return;
        }
    }
    point->settings[point->n_settings++] = (struct moe_setting){key, value};
}

static enum moe_status make_point(struct moe_experiment *x, const struct grid *grid, size_t index,
                                  struct moe_err *err)
{
    struct moe_point *point = &x->points[x->n_points];
    size_t n_set = grid->set ? grid->set->n : 0;
    *point = (struct moe_point){grid->trace, grid->model, grid->platform, grid->strategy, 0, NULL};
    point->settings = calloc(n_set + grid->n_axes + 1, sizeof *point->settings);
    if (!point->settings)
        return moe_fail_memory(err, "an experiment");
    x->n_points++;
    for (size_t i = 0; i < n_set; i++) {
        const struct moe_yaml *value = grid->set->item[i];
        if (value->kind != MOE_YAML_SCALAR)
            return moe_yaml_fail(value, err, "'set.%s' is not a single value", grid->set->keys[i]);
        const char *key = moe_experiment_keep(x, grid->set->keys[i]),
                   *text = moe_experiment_keep(x, value->text);
        if (!key || !text)
            return moe_fail_memory(err, "an experiment");
        apply(point, key, text);
    }
    size_t stride = 1;
    for (size_t a = grid->n_axes; a-- > 0;)
        stride *= grid->axis[a].n;
    for (size_t a = 0; a < grid->n_axes; a++) {
        stride /= grid->axis[a].n;
        apply(point, grid->axis[a].key, grid->axis[a].values[index / stride % grid->axis[a].n]);
    }
    return MOE_OK;
}

static enum moe_status note_axis(struct moe_experiment *x, const char *key, struct moe_err *err)
{
    for (size_t i = 0; i < x->n_axes; i++)
        if (strcmp(x->axes[i], key) == 0)
            return MOE_OK;
    const char **axes = realloc(x->axes, (x->n_axes + 1) * sizeof *axes);
    if (!axes)
        return moe_fail_memory(err, "an experiment");
    x->axes = axes;
    x->axes[x->n_axes++] = key;
    return MOE_OK;
}

static enum moe_status note_axes(struct moe_experiment *x, const struct grid *grid,
                                 struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t a = 0; !s && a < grid->n_axes; a++)
        s = note_axis(x, grid->axis[a].key, err);
    return s;
}

/* Grids may differ in their trace; nothing else in a row would tell which it was. */
static enum moe_status note_traces(struct moe_experiment *x, struct moe_err *err)
{
    for (size_t i = 1; i < x->n_points; i++)
        if (strcmp(x->points[i].trace, x->points[0].trace) != 0)
            return note_axis(x, "trace", err);
    return MOE_OK;
}

static enum moe_status add_points(struct moe_experiment *x, const struct moe_yaml *at,
                                  const struct grid *grid, struct moe_err *err)
{
    uint64_t n = 1;
    for (size_t a = 0; a < grid->n_axes; a++)
        if (!moe_mul_u64(n, grid->axis[a].n, &n) || n > MOE_MAX_POINTS)
            return moe_yaml_fail(at, err, "the axes make more than %d points", MOE_MAX_POINTS);
    struct moe_point *points = realloc(x->points, (x->n_points + n) * sizeof *points);
    if (!points)
        return moe_fail_memory(err, "an experiment");
    x->points = points;
    enum moe_status s = note_axes(x, grid, err);
    for (size_t i = 0; !s && i < n; i++)
        s = make_point(x, grid, i, err);
    return s;
}

static enum moe_status expand(struct moe_experiment *x, const struct moe_yaml *at,
                              struct grid *grid, struct moe_err *err)
{
    enum moe_status s = read_axes(x, grid, err);
    if (!s)
        s = add_points(x, at, grid, err);
    for (size_t a = 0; a < grid->n_axes; a++)
        free(grid->axis[a].values);
    return s;
}

static enum moe_status read_plots(const struct moe_yaml *root, struct moe_experiment *x,
                                  struct moe_err *err)
{
    const struct moe_yaml *plot = moe_yaml_get(root, "plot");
    if (!plot)
        return MOE_OK;
    bool list = plot->kind == MOE_YAML_LIST;
    size_t n = list ? plot->n : 1;
    if (plot->kind == MOE_YAML_MAP || n > MOE_MAX_PLOTS)
        return moe_yaml_fail(plot, err, "'plot' is not a name or a list of at most %d",
                             MOE_MAX_PLOTS);
    for (size_t i = 0; i < n; i++) {
        const struct moe_yaml *item = list ? plot->item[i] : plot;
        if (item->kind != MOE_YAML_SCALAR || strchr(item->text, '/') ||
            strlen(item->text) >= sizeof x->plot[i])
            return moe_yaml_fail(item, err, "a plot is not the name of a script in plots/");
        snprintf(x->plot[i], sizeof x->plot[i], "%s", item->text);
        x->plot_line[i] = item->line;
    }
    x->n_plots = n;
    return MOE_OK;
}

static enum moe_status read_grids(struct moe_experiment *x, const struct moe_yaml *root,
                                  const struct grid *top, struct moe_err *err)
{
    const struct moe_yaml *grids = moe_yaml_get(root, "grids");
    if (!grids) {
        struct grid only = *top;
        return expand(x, root, &only, err);
    }
    if (grids->kind != MOE_YAML_LIST || grids->n == 0)
        return moe_yaml_fail(grids, err, "'grids' is not a list of mappings");
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < grids->n; i++) {
        struct grid grid = *top;
        if (grids->item[i]->kind != MOE_YAML_MAP)
            return moe_yaml_fail(grids->item[i], err, "a grid is not a mapping of keys");
        s = moe_yaml_check_keys(grids->item[i], no_table, grid_keys,
                                sizeof grid_keys / sizeof *grid_keys, err);
        if (!s)
            s = read_grid(x, grids->item[i], &grid, err);
        if (!s)
            s = expand(x, grids->item[i], &grid, err);
    }
    return s;
}

static enum moe_status check_points(const struct moe_experiment *x, const struct moe_yaml *root,
                                    struct moe_err *err)
{
    for (size_t i = 0; i < x->n_points; i++) {
        const struct moe_point *p = &x->points[i];
        const char *missing = !p->trace                                       ? "trace"
                              : !p->strategy                                  ? "strategy"
                              : !p->model && x->kind == MOE_EXPERIMENT_SIM    ? "model"
                              : !p->platform && x->kind == MOE_EXPERIMENT_SIM ? "platform"
                                                                              : NULL;
        if (missing)
            return moe_yaml_fail(root, err, "the experiment has no '%s'", missing);
    }
    return MOE_OK;
}

enum moe_status moe_experiment_from_yaml(const struct moe_yaml *root, struct moe_experiment *out,
                                         struct moe_err *err)
{
    struct moe_experiment x = {0};
    struct header header;
    struct grid top = {0};
    if (root->kind != MOE_YAML_MAP)
        return moe_yaml_fail(root, err, "the experiment is not a mapping of keys");
    moe_params_default(header_table, &header);
    enum moe_status s =
        moe_yaml_check_keys(root, header_table, top_keys, sizeof top_keys / sizeof *top_keys, err);
    if (!s)
        s = moe_yaml_bind(root, header_table, &header, err);
    if (!s && (strchr(header.name, '/') || header.name[0] == '.' || !*header.name))
        s = moe_yaml_fail(root, err, "experiment '%s' is not a file name", header.name);
    if (!s)
        s = read_plots(root, &x, err);
    if (!s) {
        memcpy(x.name, header.name, sizeof x.name);
        memcpy(x.title, header.title, sizeof x.title);
        memcpy(x.show, header.show, sizeof x.show);
        memcpy(x.rank, header.rank, sizeof x.rank);
        x.kind = header.kind;
        x.max_tokens = header.max_tokens;
        x.lossy = header.lossy;
        s = read_grid(&x, root, &top, err);
    }
    if (!s)
        s = read_grids(&x, root, &top, err);
    if (!s)
        s = check_points(&x, root, err);
    if (!s)
        s = note_traces(&x, err);
    if (!s)
        s = moe_experiment_check_columns(&x, root, err);
    if (s)
        moe_experiment_release(&x);
    else
        *out = x;
    return s;
}

enum moe_status moe_experiment_load(const char *path, struct moe_experiment *out,
                                    struct moe_err *err)
{
    struct moe_yaml *root;
    enum moe_status s = moe_yaml_load(path, &root, err);
    if (s)
        return s;
    s = moe_experiment_from_yaml(root, out, err);
    moe_yaml_free(root);
    return s;
}

void moe_experiment_release(struct moe_experiment *x)
{
    for (size_t i = 0; i < x->n_points; i++)
        free(x->points[i].settings);
    free(x->points);
    free(x->axes);
    for (struct block *b = x->memory, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *x = (struct moe_experiment){0};
}
