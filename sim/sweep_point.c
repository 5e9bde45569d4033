#include "sim/sweep_point.h"

#include "base/file.h"
#include "base/units.h"
#include "base/version.h"
#include "policies/result_table.h"
#include "sim/simulate.h"
#include "traces/csv.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keys of a replay that no strategy has. */
static const struct moe_param replay_table[] = {
    {.name = "contract",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct moe_sweep_inputs, contract),
     .default_text = "event",
     .choices = "event|access",
     .help = "replay contract"},
    {.name = "phase",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct moe_sweep_inputs, phases),
     .default_text = "both",
     .choices = "both|decode|prefill",
     .help = "tokens to replay"},
    {0},
};

enum { CONFIG_MAX_BYTES = 1 << 20, LIST_MAX_BYTES = 64 << 20 };

/* --- files that points name ----------------------------------------------------------------- */

struct moe_sweep_file {
    char *name;
    char *text; /* hashed into points' identities; NULL: a strategy, of which the keys are */
    size_t length;
    struct moe_text view; /* of text, for a policy */
    union {
        struct moe_model model;
        struct moe_platform platform;
        struct moe_strategy strategy;
    } as;
};

static void free_file(struct moe_sweep_file *file)
{
    if (!file)
        return;
    free(file->name);
    free(file->text);
    free(file);
}

static enum moe_status read_policy_file(struct moe_sweep_file *file, struct moe_err *err)
{
    char path[4096];
    enum moe_status s = moe_file_read(moe_find_data(file->name, path, sizeof path), LIST_MAX_BYTES,
                                      &file->text, &file->length, err);
    file->view = (struct moe_text){file->text, file->length};
    return s;
}

static enum moe_status read_file(enum moe_sweep_kind kind, struct moe_sweep_file *file,
                                 struct moe_err *err)
{
    static const char *const folders[] = {"models", "platforms", "strategies"};
    char path[4096];
    if (kind == MOE_SWEEP_POLICY)
        return read_policy_file(file, err);
    enum moe_status s = moe_find_config(folders[kind], file->name, path, sizeof path, err);
    if (!s && kind != MOE_SWEEP_STRATEGY)
        s = moe_file_read(path, CONFIG_MAX_BYTES, &file->text, &file->length, err);
    if (s)
        return s;
    if (kind == MOE_SWEEP_MODEL)
        return moe_model_load(path, &file->as.model, err);
    if (kind == MOE_SWEEP_PLATFORM)
        return moe_platform_load(path, &file->as.platform, err);
    return moe_strategy_load(path, &file->as.strategy, err);
}

static enum moe_status load_file(enum moe_sweep_kind kind, const char *name,
                                 struct moe_sweep_file **out, struct moe_err *err)
{
    struct moe_sweep_file *file = calloc(1, sizeof *file);
    if (!file || !(file->name = strdup(name))) {
        free_file(file);
        return moe_fail_memory(err, "a point");
    }
    enum moe_status s = read_file(kind, file, err);
    if (s)
        free_file(file);
    else
        *out = file;
    return s;
}

static const struct moe_sweep_file *find_kept(const struct moe_sweep_files *files,
                                              enum moe_sweep_kind kind, const char *name)
{
    for (size_t i = 0; i < files->n[kind]; i++)
        if (strcmp(files->file[kind][i]->name, name) == 0)
            return files->file[kind][i];
    return NULL;
}

/* The caller's description of that name, or NULL: it is a file. */
static const struct moe_model *named_model(const struct moe_experiment *x, const char *name)
{
    for (size_t i = 0; i < x->n_models; i++)
        if (strcmp(x->models[i].name, name) == 0)
            return &x->models[i].model;
    return NULL;
}

static enum moe_status keep_file(struct moe_sweep_files *files, enum moe_sweep_kind kind,
                                 const char *name, struct moe_err *err)
{
    size_t *n = &files->n[kind];
    if (*n == MOE_SWEEP_MAX_KEPT || find_kept(files, kind, name))
        return MOE_OK;
    enum moe_status s = load_file(kind, name, &files->file[kind][*n], err);
    *n += !s;
    return s;
}

void moe_sweep_files_release(struct moe_sweep_files *files)
{
    for (size_t kind = 0; kind < MOE_SWEEP_KINDS; kind++)
        for (size_t i = 0; i < files->n[kind]; i++)
            free_file(files->file[kind][i]);
    *files = (struct moe_sweep_files){0};
}

/* Copies the file's content to its place in *out, and adds its text to *hash. */
static enum moe_status take_file(const struct moe_sweep_files *files, enum moe_sweep_kind kind,
                                 const char *name, struct moe_sweep_inputs *out, uint64_t *hash,
                                 struct moe_err *err)
{
    const struct moe_sweep_file *file = find_kept(files, kind, name);
    struct moe_sweep_file *loaded = NULL;
    if (!file) {
        enum moe_status s = load_file(kind, name, &loaded, err);
        if (s)
            return s;
        file = loaded;
    }
    if (kind == MOE_SWEEP_MODEL)
        out->model = file->as.model;
    else if (kind == MOE_SWEEP_PLATFORM)
        out->platform = file->as.platform;
    else if (kind == MOE_SWEEP_STRATEGY)
        out->strategy = file->as.strategy;
    else /* one that is not kept is read again where it is needed */
        out->strategy.policy.file = loaded ? NULL : &file->view;
    if (file->text)
        *hash = moe_hash_bytes(*hash, file->text, file->length);
    free_file(loaded);
    return MOE_OK;
}

/* The model that the caller described under that name, or else the file. */
static enum moe_status take_model(const struct moe_experiment *x,
                                  const struct moe_sweep_files *files, const char *name,
                                  struct moe_sweep_inputs *out, uint64_t *hash, struct moe_err *err)
{
    const struct moe_model *named = named_model(x, name);
    if (!named)
        return take_file(files, MOE_SWEEP_MODEL, name, out, hash, err);
    out->model = *named;
    *hash = moe_hash_bytes(*hash, named, sizeof *named);
    return MOE_OK;
}

/* --- a point's inputs and identity ---------------------------------------------------------- */

static enum moe_status apply_setting(const struct moe_experiment *x,
                                     const struct moe_setting *setting, struct moe_sweep_inputs *in,
                                     struct moe_err *err)
{
    if (x->kind == MOE_EXPERIMENT_REPLAY && moe_param_find(replay_table, setting->key))
        return moe_params_set(replay_table, in, setting->key, setting->value, err);
    if (strncmp(setting->key, "platform.", 9) == 0 && x->kind == MOE_EXPERIMENT_SIM)
        return moe_platform_set(&in->platform, setting->key + 9, setting->value, err);
    return moe_strategy_set(&in->strategy, setting->key, setting->value, err);
}

static enum moe_status take_files(const struct moe_experiment *x,
                                  const struct moe_sweep_files *files,
                                  const struct moe_point *point, struct moe_sweep_inputs *out,
                                  struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    *out = (struct moe_sweep_inputs){.hash = MOE_HASH_SEED};
    moe_params_default(replay_table, out);
    if (point->model) {
        s = take_model(x, files, point->model, out, &out->hash, err);
        out->has_model = !s;
    }
    if (!s && x->kind == MOE_EXPERIMENT_SIM)
        s = take_file(files, MOE_SWEEP_PLATFORM, point->platform, out, &out->hash, err);
    if (!s)
        s = take_file(files, MOE_SWEEP_STRATEGY, point->strategy, out, &out->hash, err);
    out->strategy.lossy = x->lossy;
    return s;
}

static enum moe_status apply_settings(const struct moe_experiment *x, const struct moe_point *point,
                                      struct moe_sweep_inputs *out, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < point->n_settings; i++) {
        const struct moe_setting *set = &point->settings[i];
        s = apply_setting(x, set, out, err);
        out->hash = moe_hash_bytes(out->hash, set->key, strlen(set->key) + 1);
        out->hash = moe_hash_bytes(out->hash, set->value, strlen(set->value) + 1);
    }
    if (!s) /* whether the model fits is checked when the point runs */
        s = moe_geometry_check(out->strategy.geometry, err);
    if (!s) /* parts and needs are checked when the point runs, with its trace */
        s = moe_reroute_check(&out->strategy.reroute, x->lossy, UINT_MAX, 0, err);
    return s;
}

/* The file that the point's policy reads, or "". */
static const char *policy_file(const struct moe_sweep_inputs *in)
{
    const struct moe_policy_spec *policy = &in->strategy.policy;
    return policy->ops->file ? policy->ops->file(policy->params) : "";
}

/* Takes the policy's file, which is known only after the settings, and completes parts and hash. */
static enum moe_status take_policy_file(const struct moe_sweep_files *files,
                                        struct moe_sweep_inputs *out, struct moe_err *err)
{
    char described[4096];
    const char *name = policy_file(out);
    enum moe_status s =
        *name ? take_file(files, MOE_SWEEP_POLICY, name, out, &out->hash, err) : MOE_OK;
    if (s)
        return s;
    out->parts = moe_strategy_parts(&out->strategy);
    moe_strategy_describe(&out->strategy, described, sizeof described);
    out->hash = moe_hash_bytes(out->hash, described, strlen(described));
    return MOE_OK;
}

enum moe_status moe_sweep_resolve(const struct moe_experiment *x,
                                  const struct moe_sweep_files *files,
                                  const struct moe_point *point, struct moe_sweep_inputs *out,
                                  struct moe_err *err)
{
    enum moe_status s = take_files(x, files, point, out, err);
    if (!s)
        s = apply_settings(x, point, out, err);
    return s ? s : take_policy_file(files, out, err);
}

enum moe_status moe_sweep_keep(struct moe_sweep_files *files, const struct moe_experiment *x,
                               const struct moe_point *point, struct moe_sweep_inputs *out,
                               struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    if (point->model && !named_model(x, point->model))
        s = keep_file(files, MOE_SWEEP_MODEL, point->model, err);
    if (!s && x->kind == MOE_EXPERIMENT_SIM)
        s = keep_file(files, MOE_SWEEP_PLATFORM, point->platform, err);
    if (!s)
        s = keep_file(files, MOE_SWEEP_STRATEGY, point->strategy, err);
    if (!s)
        s = take_files(x, files, point, out, err);
    if (!s)
        s = apply_settings(x, point, out, err);
    if (!s && *policy_file(out))
        s = keep_file(files, MOE_SWEEP_POLICY, policy_file(out), err);
    return s ? s : take_policy_file(files, out, err);
}

uint64_t moe_sweep_identity(const struct moe_experiment *x, const struct moe_sweep_inputs *in)
{
    char text[128];
    int n = snprintf(text, sizeof text, "%s %d %" PRIu64 " %016" PRIx64 " %016" PRIx64,
                     MOELAB_VERSION, x->kind, x->max_tokens, in->trace->hash, in->hash);
    uint64_t hash = moe_hash_bytes(MOE_HASH_SEED, text, (size_t)n);
    const struct moe_sweep_trace *trace = in->trace;
    if (in->parts & MOE_HAS_WEIGHT)
        hash = moe_hash_bytes(hash, &trace->weight_hash, sizeof trace->weight_hash);
    if (in->parts & MOE_HAS_SCORE)
        hash = moe_hash_bytes(hash, &trace->score_hash, sizeof trace->score_hash);
    if (in->parts & MOE_HAS_LOOKAHEAD)
        hash = moe_hash_bytes(hash, &trace->lookahead_hash, sizeof trace->lookahead_hash);
    return hash;
}

/* --- its row -------------------------------------------------------------------------------- */

/* Values of the axes as they stand in the experiment; axes that are columns anyway are left out. */
static void add_axes(struct moe_table *table, const struct moe_experiment *x,
                     const struct moe_point *point)
{
    static const char *const labels[] = {"model",      "platform", "strategy", "geometry", "policy",
                                         "prefetcher", "threads",  "routing",  "lossy"};
    for (size_t a = 0; a < x->n_axes; a++) {
        bool label = false;
        for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
            label = label || strcmp(x->axes[a], labels[i]) == 0;
        if (label)
            continue;
        const char *value = "-";
        if (point && strcmp(x->axes[a], "trace") == 0)
            value = point->trace;
        for (size_t i = 0; point && i < point->n_settings; i++)
            if (strcmp(point->settings[i].key, x->axes[a]) == 0)
                value = point->settings[i].value;
        moe_table_text(table, x->axes[a], value);
    }
}

static void add_replay_cells(struct moe_table *table, const struct moe_replay_result *r)
{
    const struct moe_counts *c = &r->total[MOE_DECODE];
    double lookups = c->lookups ? (double)c->lookups : NAN;
    double events = c->events ? (double)c->events : NAN;
    moe_table_u64(table, "lookups", c->lookups);
    moe_table_u64(table, "hits", c->hits);
    moe_table_u64(table, "misses", c->misses);
    moe_table_f64(table, "hit_rate_percent", 100 * (double)c->hits / lookups);
    moe_table_f64(table, "any_hit_percent", 100 * (double)c->any_hit_events / events);
    moe_table_f64(table, "all_hit_percent", 100 * (double)c->all_hit_events / events);
    moe_table_u64(table, "fills", c->fills);
    moe_table_u64(table, "evictions", c->evictions);
    moe_table_u64(table, "useless_fills", c->useless_fills);
    moe_rerouted_cells(table, &r->rerouted);
}

static void add_labels(struct moe_table *table, const struct moe_experiment *x,
                       const struct moe_point *point, const struct moe_sweep_inputs *in)
{
    const struct moe_model *model = &in->model;
    struct moe_model unknown = {0};
    struct moe_strategy used = in->strategy;
    if (x->kind == MOE_EXPERIMENT_SIM && used.threads > in->platform.cpu.cores)
        used.threads = in->platform.cpu.cores; /* as it is simulated, and as `sim` tells */
    if (!in->has_model) {
        snprintf(unknown.name, sizeof unknown.name, "%.63s", in->trace->trace.info.model);
        model = &unknown;
    }
    moe_result_labels(table, &in->trace->trace.info, model,
                      x->kind == MOE_EXPERIMENT_SIM ? in->platform.name : "-", &used);
    add_axes(table, x, point);
}

static enum moe_status replay_point(const struct moe_sweep_inputs *in,
                                    struct moe_replay_result *result, struct moe_err *err)
{
    const struct moe_trace *trace = &in->trace->trace;
    struct moe_geometry geometry;
    struct moe_replay_options options = {.contract = (enum moe_contract)in->contract,
                                         .phases = (enum moe_phases)in->phases,
                                         .seed = in->strategy.seed,
                                         .admission = &in->strategy.admission,
                                         .reroute = &in->strategy.reroute,
                                         .lossy = in->strategy.lossy};
    enum moe_status s =
        moe_geometry_parse(in->strategy.geometry, trace->info.n_layers, trace->info.n_experts,
                           trace->info.expert_bytes, &geometry, err);
    if (s)
        return s;
    s = moe_replay(trace, &geometry, &in->strategy.policy, &options, result, err);
    moe_geometry_release(&geometry);
    return s;
}

static enum moe_status run_replay(const struct moe_sweep_inputs *in, struct moe_table *table,
                                  struct moe_err *err)
{
    struct moe_replay_result result = {0};
    enum moe_status s = replay_point(in, &result, err);
    if (!s)
        add_replay_cells(table, &result);
    moe_replay_release(&result);
    return s;
}

static enum moe_status run_sim(const struct moe_experiment *x, const struct moe_sweep_inputs *in,
                               struct moe_table *table, struct moe_err *err)
{
    struct moe_result result;
    struct moe_sim_input input = {.trace = &in->trace->trace,
                                  .model = &in->model,
                                  .platform = &in->platform,
                                  .strategy = &in->strategy,
                                  .max_tokens = x->max_tokens,
                                  .bound = true};
    enum moe_status s = moe_simulate(&input, &result, err);
    if (!s)
        moe_result_cells(table, &result);
    if (!s && x->lossy)
        moe_early_cells(table, &result);
    return s;
}

enum moe_status moe_sweep_point(const struct moe_experiment *x, const struct moe_point *point,
                                const struct moe_sweep_inputs *in, struct moe_table *table,
                                bool *failed, struct moe_err *err)
{
    char hex[24];
    struct moe_err why = {0};
    snprintf(hex, sizeof hex, "%016" PRIx64, moe_sweep_identity(x, in));
    moe_table_row(table);
    moe_table_text(table, "point", hex);
    moe_table_text(table, "status", "ok");
    add_labels(table, x, point, in);
    enum moe_status s =
        x->kind == MOE_EXPERIMENT_SIM ? run_sim(x, in, table, &why) : run_replay(in, table, &why);
    *failed = s != MOE_OK;
    if (s)
        moe_table_text(table, "status", why.text);
    if (s == MOE_ERR_MEMORY || s == MOE_ERR_INTERRUPTED)
        return moe_fail(err, s, "%s", why.text);
    return MOE_OK;
}

void moe_sweep_columns(const struct moe_experiment *x, struct moe_table *table)
{
    struct moe_result result = {0};
    struct moe_replay_result hits = {0};
    struct moe_sweep_trace trace = {0};
    struct moe_sweep_inputs in = {.trace = &trace};
    moe_strategy_default(&in.strategy);
    moe_table_row(table);
    moe_table_text(table, "point", "");
    moe_table_text(table, "status", "");
    add_labels(table, x, NULL, &in);
    if (x->kind == MOE_EXPERIMENT_SIM) {
        moe_result_cells(table, &result);
        if (x->lossy)
            moe_early_cells(table, &result);
    } else {
        add_replay_cells(table, &hits);
    }
}
