#include "sim/sweep_point.h"

#include "base/file.h"
#include "base/units.h"
#include "base/version.h"
#include "policies/result_table.h"
#include "sim/simulate.h"

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

static enum moe_status hash_file(const char *path, uint64_t max_bytes, uint64_t *hash,
                                 struct moe_err *err)
{
    char *text;
    size_t length;
    enum moe_status s = moe_file_read(path, max_bytes, &text, &length, err);
    if (s)
        return s;
    *hash = moe_hash_bytes(*hash, text, length);
    free(text);
    return MOE_OK;
}

/* Path of a configuration by name, its content mixed into *hash. */
static enum moe_status find_and_hash(const char *kind, const char *name, char *path, size_t size,
                                     uint64_t *hash, struct moe_err *err)
{
    enum moe_status s = moe_find_config(kind, name, path, size, err);
    return s ? s : hash_file(path, CONFIG_MAX_BYTES, hash, err);
}

/* From the caller, or the description of that name. */
static enum moe_status find_model(const struct moe_experiment *x, const char *name,
                                  struct moe_model *out, uint64_t *hash, struct moe_err *err)
{
    char path[4096];
    for (size_t i = 0; i < x->n_models; i++)
        if (strcmp(x->models[i].name, name) == 0) {
            *out = x->models[i].model;
            *hash = moe_hash_bytes(*hash, out, sizeof *out);
            return MOE_OK;
        }
    enum moe_status s = find_and_hash("models", name, path, sizeof path, hash, err);
    return s ? s : moe_model_load(path, out, err);
}

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

enum moe_status moe_sweep_resolve(const struct moe_experiment *x, const struct moe_point *point,
                                  struct moe_sweep_inputs *out, struct moe_err *err)
{
    char path[4096], described[4096];
    uint64_t hash = MOE_HASH_SEED;
    enum moe_status s = MOE_OK;
    *out = (struct moe_sweep_inputs){0};
    moe_params_default(replay_table, out);
    if (point->model) {
        s = find_model(x, point->model, &out->model, &hash, err);
        out->has_model = !s;
    }
    if (!s && x->kind == MOE_EXPERIMENT_SIM) {
        s = find_and_hash("platforms", point->platform, path, sizeof path, &hash, err);
        if (!s)
            s = moe_platform_load(path, &out->platform, err);
    }
    if (!s)
        s = moe_find_config("strategies", point->strategy, path, sizeof path, err);
    if (!s)
        s = moe_strategy_load(path, &out->strategy, err);
    out->strategy.lossy = x->lossy;
    for (size_t i = 0; !s && i < point->n_settings; i++) {
        s = apply_setting(x, &point->settings[i], out, err);
        hash = moe_hash_bytes(hash, point->settings[i].key, strlen(point->settings[i].key) + 1);
        hash = moe_hash_bytes(hash, point->settings[i].value, strlen(point->settings[i].value) + 1);
    }
    if (!s) /* whether the model has room for it, its point tells */
        s = moe_geometry_check(out->strategy.geometry, err);
    if (!s) /* parts and needs are looked at where the trace is known */
        s = moe_reroute_check(&out->strategy.reroute, x->lossy, UINT_MAX, 0, err);
    const struct moe_policy_spec *policy = &out->strategy.policy;
    const char *list = !s && policy->ops->file ? policy->ops->file(policy->params) : "";
    if (*list)
        s = hash_file(moe_find_data(list, path, sizeof path), LIST_MAX_BYTES, &hash, err);
    if (s)
        return s;
    moe_strategy_describe(&out->strategy, described, sizeof described);
    out->hash = moe_hash_bytes(hash, described, strlen(described));
    return MOE_OK;
}

uint64_t moe_sweep_identity(const struct moe_experiment *x, const struct moe_sweep_inputs *in)
{
    char text[128];
    int n = snprintf(text, sizeof text, "%s %d %" PRIu64 " %016" PRIx64 " %016" PRIx64,
                     MOELAB_VERSION, x->kind, x->max_tokens, in->trace->hash, in->hash);
    return moe_hash_bytes(MOE_HASH_SEED, text, (size_t)n);
}

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
