#include "base/file.h"
#include "base/progress.h"
#include "cli/validate_table.h"
#include "exec/host_options.h"
#include "policies/geometry_fit.h"
#include "policies/result_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    struct cli_traced_options traced;
    struct cli_device_options device;
    char model[CLI_PATH_MAX], strategy[CLI_PATH_MAX], geometry[4096], platform[CLI_PATH_MAX];
    char timeline[CLI_PATH_MAX], kernels[32], output[CLI_PATH_MAX];
    uint64_t repeats, threads;
    double tolerance, tolerance_p95;
    int pin, lossy, format;
};

static const struct moe_param options[] = {
    CLI_TRACED_OPTIONS(struct options,
                       "trace whose routes are run: x.h5, synth:SPEC, ... (required)"),
    CLI_OPTION_NAME(struct options, model, "model", "",
                    "folder of a Hugging Face model, or tiny-mixtral, tiny-phimoe (or --shape)"),
    CLI_OPTION_NAME(struct options, strategy, "strategy", "collab",
                    "a name or file, or several separated by commas"),
    CLI_OPTION_LOSSY(struct options, lossy),
    CLI_OPTION_NAME(struct options, geometry, "geometry", "",
                    "instead of the strategies' own: one, or several separated by commas"),
    CLI_OPTION_NAME(struct options, platform, "platform", "",
                    "platform file of this machine and device, from `moelab calibrate` (required)"),
    CLI_OPTION_U64(struct options, threads, "threads", "0", 0, 1024, "threads",
                   "CPU threads; 0: the strategy's, at most one for each core"),
    CLI_OPTION_U64(struct options, repeats, "repeats", "5", 1, 1000, "runs of each point",
                   "runs of each point, in rounds over all points, so that a drift of the machine "
                   "affects them alike"),
    CLI_OPTION_F64(struct options, tolerance, "tolerance", "5", 0, 1e9, "percent",
                   "allowed median error of the time of a token"),
    CLI_OPTION_F64(struct options, tolerance_p95, "tolerance_p95", "10", 0, 1e9, "percent",
                   "allowed 95th percentile of that error"),
    CLI_DEVICE_OPTIONS(struct options, device),
    CLI_OPTION_PIN(struct options, pin),
    CLI_OPTION_KERNELS(struct options, kernels),
    CLI_OPTION_FILE(struct options, timeline, "timeline", "", "",
                    "with one strategy and geometry: write the timelines of one more run and of a "
                    "simulation to TEXT-exec.json and TEXT-sim.json (open in ui.perfetto.dev)"),
    CLI_OPTION_RESULT(struct options),
    {0},
};

enum { MAX_LIST = 64 };

struct list {
    char text[4096];
    char *item[MAX_LIST];
    size_t n;
};

struct state {
    const struct cli_call *call;
    const struct options *o;
    struct list strategies, geometries;
    struct moe_strategy loaded[MAX_LIST];
    struct cli_validation v;
    struct cli_traced traced;
    struct moe_power power;
    bool power_open;
    struct cli_point *points;
    size_t n_points;
};

/* Splits at commas, except before a number, which continues a list of ways ("per-layer:2,3"). */
static enum moe_status split(const char *text, const char *option, struct list *list,
                             struct moe_err *err)
{
    list->n = 0;
    snprintf(list->text, sizeof list->text, "%s", text);
    for (char *at = list->text, *end; at; at = end) {
        end = strchr(at, ',');
        size_t digits = strspn(at, "0123456789");
        if (list->n && digits && digits == strcspn(at, ","))
            at[-1] = ',';
        else if (list->n == MAX_LIST)
            return moe_fail(err, MOE_ERR_USAGE, "--%s has more than %d items", option, MAX_LIST);
        else
            list->item[list->n++] = at;
        if (end)
            *end++ = 0;
    }
    for (size_t i = 0; i < list->n; i++)
        if (!*list->item[i] && *text)
            return moe_fail(err, MOE_ERR_USAGE, "--%s '%.60s' has an empty item", option, text);
    return MOE_OK;
}

static enum moe_status check(const struct options *o, struct moe_err *err)
{
    if (!*o->traced.trace)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--trace' is required: routes to run (made by 'moelab record')");
    if (!*o->platform)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--platform' is required: constants of this machine, made by "
                        "'moelab calibrate -o this-machine.yaml'");
    return cli_traced_check(&o->traced, o->model, err);
}

static enum moe_status load_strategies(struct state *st, struct moe_err *err)
{
    const struct options *o = st->o;
    enum moe_status s = split(o->strategy, "strategy", &st->strategies, err);
    if (!s)
        s = split(o->geometry, "geometry", &st->geometries, err);
    if (!s)
        s = cli_load_platform(o->platform, &st->v.platform, err);
    st->v.alone = !s && !moe_platform_has_gpu(&st->v.platform);
    if (st->v.alone && strcmp(o->device.device, "auto") != 0)
        s = moe_fail(err, MOE_ERR_USAGE,
                     "--device '%.60s': platform '%s' has no GPU, so the CPU computes everything",
                     o->device.device, st->v.platform.name);
    for (size_t i = 0; !s && i < st->strategies.n; i++) {
        const struct cli_strategy_choice choice = {
            .strategy = st->strategies.item[i], .threads = o->threads, .lossy = o->lossy};
        s = cli_choose_strategy(st->call, &choice, &st->loaded[i], &st->v.platform, err);
    }
    return s;
}

static enum moe_status make_points(struct state *st, struct moe_err *err)
{
    st->points = calloc(st->strategies.n * st->geometries.n, sizeof *st->points);
    if (!st->points)
        return moe_fail_memory(err, "the points");
    for (size_t i = 0; i < st->strategies.n; i++)
        for (size_t j = 0; j < st->geometries.n; j++) {
            struct cli_point *point = &st->points[st->n_points++];
            point->strategy = st->loaded[i];
            enum moe_status s = MOE_OK;
            if (*st->geometries.item[j])
                s = moe_strategy_set(&point->strategy, "geometry", st->geometries.item[j], err);
            if (s)
                return s;
        }
    if (*st->o->timeline && st->n_points > 1)
        return moe_fail(err, MOE_ERR_USAGE, "--timeline is for one strategy and geometry, not %zu",
                        st->n_points);
    return MOE_OK;
}

static enum moe_status open_machine(struct state *st, struct moe_err *err)
{
    const struct options *o = st->o;
    unsigned parts = 0;
    for (size_t i = 0; i < st->strategies.n; i++)
        parts |= moe_strategy_parts(&st->loaded[i]);
    struct cli_device_options device = o->device;
    if (st->v.alone) /* the device only holds weights that are made in memory */
        snprintf(device.device, sizeof device.device, "host");
    enum moe_status s = cli_open_device(&device, o->kernels, &st->v.device, err);
    if (s)
        return s;
    cli_open_power(&device, st->v.device, &st->power);
    st->power_open = true;
    s = cli_traced_open(&st->traced, &o->traced, o->model, parts, st->v.device, err);
    st->v.traced = &st->traced;
    st->v.store = (struct moe_store_options){.kind = (enum moe_store_kind)o->device.store,
                                             .pinned_bytes = o->device.pinned_bytes};
    st->v.pool = (struct moe_pool_options){.pin = o->pin, .kernels = o->kernels};
    st->v.power = &st->power;
    st->v.max_tokens = o->traced.max_tokens;
    st->v.repeats = (uint32_t)o->repeats;
    st->v.tolerance = o->tolerance;
    st->v.tolerance_p95 = o->tolerance_p95;
    st->v.asleep = strcmp(st->v.device->ops->name, "host") == 0 && !st->v.alone &&
                   !strstr(o->device.device, "awake=");
    if (!st->v.alone)
        st->v.platform.gpu.memory_bytes = st->v.device->memory_bytes;
    return s;
}

/* Refuses a geometry that does not fit before anything is timed. */
static enum moe_status check_fit(const struct state *st, const struct cli_point *point,
                                 struct moe_err *err)
{
    const struct moe_llm *llm = st->traced.llm;
    struct moe_trace_extent extent = moe_trace_extent(&st->traced.trace, st->v.max_tokens);
    struct moe_expert_layout layout;
    char fitted[1024];
    uint32_t slots;
    enum moe_status s =
        moe_hybrid_room(st->v.device, llm, &point->strategy, (uint32_t)extent.context,
                        (uint32_t)extent.chunk, &slots, err);
    if (!s)
        s = moe_expert_layout_of(llm, &layout, err);
    if (!s)
        s = moe_geometry_fit(point->strategy.geometry, llm->config.n_layers, llm->config.n_experts,
                             layout.bytes, slots, fitted, sizeof fitted, err);
    if (s || strcmp(fitted, point->strategy.geometry) == 0)
        return s;
    if (slots == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "geometry '%.60s' does not fit into device '%s', not even one slot does: "
                        "take a device with more memory or fewer layers",
                        point->strategy.geometry, st->v.device->ops->name);
    return moe_fail(err, MOE_ERR_USAGE,
                    "geometry '%.60s' does not fit into device '%s', '%.60s' does",
                    point->strategy.geometry, st->v.device->ops->name, fitted);
}

static enum moe_status begin(struct state *st, struct moe_err *err)
{
    const struct moe_tokens *tokens = &st->traced.trace.tokens;
    enum moe_status s = MOE_OK;
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        st->v.n_decode += tokens->phase[t] == MOE_DECODE;
    if (st->v.n_decode == 0)
        return moe_fail(err, MOE_ERR_USAGE, "the trace has no decode tokens to time");
    for (size_t i = 0; !s && !st->v.alone && i < st->n_points; i++)
        s = check_fit(st, &st->points[i], err);
    for (size_t i = 0; !s && i < st->n_points; i++)
        s = cli_point_begin(&st->points[i], &st->v, err);
    return s;
}

static enum moe_status measure(struct state *st, struct moe_err *err)
{
    struct moe_progress progress;
    uint64_t done = 0;
    enum moe_status s = begin(st, err);
    moe_progress_begin(&progress, "running", "runs", st->n_points * st->v.repeats);
    for (uint32_t r = 0; !s && r < st->v.repeats; r++)
        for (size_t i = 0; !s && i < st->n_points; i++) {
            moe_progress_update(&progress, done++);
            s = cli_point_repeat(&st->points[i], &st->v, err);
        }
    moe_progress_end(&progress);
    for (size_t i = 0; !s && i < st->n_points; i++)
        s = cli_point_end(&st->points[i], &st->v, err);
    if (!s && *st->o->timeline)
        s = cli_point_draw(&st->points[0], &st->v, st->o->timeline, err);
    return s;
}

static void add_notes(const struct state *st, struct moe_table *table)
{
    char line[512];
    cli_traced_note(&st->traced, &st->o->traced, table);
    moe_table_note(table, "platform", "%s: %s", st->v.platform.name, st->v.platform.description);
    cli_note_device(table, st->v.alone ? NULL : st->v.device, &st->power);
    moe_table_note(table, "store", "%s", st->points[0].allocation.store_note);
    moe_table_note(table, "kernels", "%s", st->points[0].allocation.kernels);
    cli_validate_summary(st->points, st->n_points, &st->v, line, sizeof line);
    moe_table_note(table, "summary", "%s", line);
}

/* On a terminal the causes go below the points, since they do not fit beside them. */
static enum moe_status write_text(const struct state *st, struct moe_table *points,
                                  struct moe_err *err)
{
    struct moe_output out;
    struct moe_table *causes = moe_table_new();
    cli_validate_causes(causes, st->points, st->n_points);
    enum moe_status s = moe_output_create(&out, st->o->output, err);
    if (!s) {
        s = moe_table_write_text(points, out.stream, err);
        fprintf(out.stream, "\nms of a token by cause, predicted / measured:\n");
        if (!s)
            s = moe_table_write_text(causes, out.stream, err);
        s = moe_output_end(&out, s, err);
    }
    moe_table_free(causes);
    moe_table_free(points);
    return s;
}

static enum moe_status show(const struct state *st, struct moe_err *err)
{
    const struct options *o = st->o;
    char line[512], weights[128];
    struct moe_table *table = cli_table_new(st->call);
    add_notes(st, table);
    cli_validate_rows(table, st->points, st->n_points, &st->v, o->format != CLI_TEXT);
    enum moe_status s = o->format == CLI_TEXT
                            ? write_text(st, table, err)
                            : cli_table_end(table, MOE_OK, o->format, o->output, err);
    if (s)
        return s;
    cli_validate_summary(st->points, st->n_points, &st->v, line, sizeof line);
    moe_log("weights: %s", cli_traced_weights(&st->traced, weights, sizeof weights));
    moe_log("%s", line);
    return cli_validate_verdict(st->points, st->n_points, &st->v, err);
}

static enum moe_status validate(struct state *st, struct moe_err *err)
{
    enum moe_status s = check(st->o, err);
    if (!s)
        s = load_strategies(st, err);
    if (!s)
        s = make_points(st, err);
    if (!s)
        s = open_machine(st, err);
    if (!s)
        s = measure(st, err);
    return s ? s : show(st, err);
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    struct state *st = calloc(1, sizeof *st);
    if (!st)
        return moe_fail_memory(err, "the validation");
    st->call = call;
    st->o = call->options;
    enum moe_status s = *st->o->output ? moe_output_check(st->o->output, err) : MOE_OK;
    if (!s)
        s = validate(st, err);
    for (size_t i = 0; i < st->n_points; i++)
        cli_point_release(&st->points[i]);
    free(st->points);
    cli_traced_close(&st->traced);
    if (st->power_open)
        moe_power_close(&st->power);
    moe_device_close(st->v.device);
    free(st);
    return s;
}

const struct cli_command cli_validate = {
    .name = "validate",
    .usage = "(--model FOLDER | --shape NAME) --trace TRACE --platform FILE [options]",
    .summary = "runs and simulates the same trace, compares decisions and times",
    .description =
        "Each strategy with each geometry is a point. A point is simulated once on the platform\n"
        "and run --repeats times on the device, with the routes of the trace.\n"
        "\n"
        "Decisions are compared event by event: 'equal' means byte for byte; 'equal but for\n"
        "flights' that only copies landed at other times; 'differ by time' that in one of the\n"
        "two a slot was needed while its copy still ran; 'DIFFER' is an error.\n"
        "\n"
        "Times: m is the time of a decode token, median over the repeats; p is the predicted\n"
        "time. error_percent is 100 (mean p - mean m) / mean m. token_error_median_percent and\n"
        "token_error_p95_percent are median and 95th percentile over the tokens of 100 |p - m| /\n"
        "m; --tolerance and --tolerance-p95 limit these two. repeats_spread_percent is (largest\n"
        "- smallest) / median of the repeats' means: how well the machine repeats itself. The\n"
        "time by cause is that of the median repeat.\n"
        "\n"
        "To find out why tokens miss a tolerance: token_repeat_p95_percent is how far a repeat\n"
        "of a token lies from the median of its repeats (95th percentile); no prediction can be\n"
        "nearer than that. Decisions that differ by time give later tokens other work:\n"
        "decided_alike_percent of the tokens had the work that was predicted, and\n"
        "decided_alike_error_* are the errors of these alone. The verdict is over all tokens.\n"
        "\n"
        "On a platform without a GPU (moelab calibrate --no-gpu) the CPU computes everything:\n"
        "validate --strategy cpu-only, once for each number of --threads of interest.\n"
        "\n"
        "Exit code 3: a point misses a tolerance, or its decisions DIFFER. The keys below are\n"
        "those of --device host:KEY=VALUE,...",
    .options = options,
    .options_size = sizeof(struct options),
    .takes_sets = true,
    .spec = moe_host_params,
    .run = run,
};
