#include "base/progress.h"
#include "cli/device_options.h"
#include "cli/inference.h"
#include "exec/calibrate.h"
#include "exec/cpu.h"
#include "exec/host_options.h"
#include "policies/platform_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
    struct cli_device_options device;
    char model[CLI_PATH_MAX], shape[1024], kernels[32], check[CLI_PATH_MAX], output[CLI_PATH_MAX];
    uint64_t repeats, threads;
    double power_s, tolerance;
    int quick, pin, gpu, format;
};

#define ALL_SHAPES "mixtral-8x7b,phi-3.5-moe,tiny-mixtral,tiny-phimoe"

static const struct moe_param options[] = {
    CLI_OPTION_DEVICE(struct options, device.device),
    CLI_OPTION_NAME(struct options, model, "model", "",
                    "folder or name of a model whose experts and steps are measured"),
    CLI_OPTION_NAME(struct options, shape, "shape", "",
                    "list of shapes (names or files) whose experts are measured, all of one weight "
                    "type: 16 bits, 8.5 (Q8) or 4.5 (Q4) (default without --model: " ALL_SHAPES
                    "); whole steps are measured on the first that fits, with synthetic weights"),
    CLI_OPTION_U64(struct options, repeats, "repeats", "15", 1, MOE_CALIBRATE_REPEATS, "rounds",
                   "rounds, after one that is not counted; each measures every constant once"),
    CLI_OPTION_SWITCH(struct options, quick, "quick", "off",
                      "for a first look: 3 rounds, and a fifth of --power-seconds"),
    CLI_OPTION_U64(
        struct options, threads, "threads", "0", 0, 1024, "threads",
        "measure with up to N CPU threads, at most one for each processor; 0: one for each core"),
    CLI_OPTION_PIN(struct options, pin),
    CLI_OPTION_SWITCH(struct options, gpu, "gpu", "on",
                      "the device is this machine's GPU, or stands in for one (--no-gpu: measure "
                      "CPU and memory only, and write a platform without a GPU)"),
    CLI_OPTION_KERNELS(struct options, kernels),
    CLI_OPTION_F64(
        struct options, power_s, "power_seconds", "1", 0.05, 60, "s",
        "length of each of the four power measurements, if the machine has energy counters"),
    CLI_OPTION_NAME(struct options, check, "check", "",
                    "platform name or file to compare with; exit code 3 if a constant differs by "
                    "more than its spread and --tolerance; times below 1 us count as 1 us"),
    CLI_OPTION_F64(struct options, tolerance, "tolerance", "3", 0, 1e9, "%",
                   "allowed difference with --check"),
    CLI_OPTION_FORMAT(struct options),
    CLI_OPTION_FILE(
        struct options, output, "output", "", CLI_ENDINGS_YAML,
        "platform file to write, required without --check; -: standard output, without the table"),
    {0},
};

/* One call of the command, and everything that it owns. */
struct job {
    struct moe_device *device;
    struct moe_llm *llm;
    struct moe_power power;
    struct moe_model shape[MOE_CALIBRATE_SHAPES];
    uint32_t n_shapes;
    char *command, date[32];
    struct moe_calibration *result;
};

static enum moe_status add_shapes(struct job *job, const char *list, struct moe_err *err)
{
    for (const char *word = list; *word;) {
        char name[CLI_PATH_MAX];
        const size_t n = strcspn(word, ",");
        if (n == 0 || n >= sizeof name)
            return moe_fail(err, MOE_ERR_USAGE, "--shape '%.60s' has an empty or too long name",
                            list);
        if (job->n_shapes == MOE_CALIBRATE_SHAPES)
            return moe_fail(err, MOE_ERR_USAGE, "--shape '%.60s' has more than %d names", list,
                            MOE_CALIBRATE_SHAPES - (job->llm != NULL));
        memcpy(name, word, n);
        name[n] = '\0';
        enum moe_status s = cli_load_model(name, &job->shape[job->n_shapes], err);
        if (s)
            return s;
        job->n_shapes++;
        word += n + (word[n] == ',');
    }
    return MOE_OK;
}

static enum moe_status open_shapes(const struct options *o, struct job *job, struct moe_err *err)
{
    char folder[CLI_PATH_MAX];
    enum moe_status s = MOE_OK;
    if (*o->model) {
        s = cli_open_llm(o->model, true, folder, sizeof folder, &job->llm, err);
        if (s)
            return s;
        moe_llm_shape(job->llm, &job->shape[0]);
        job->n_shapes = 1;
    }
    return add_shapes(job, *o->shape || *o->model ? o->shape : ALL_SHAPES, err);
}

/* Today's date in UTC, and the whole command line, for the file. */
static enum moe_status describe(struct job *job, const struct cli_call *call, struct moe_err *err)
{
    size_t size;
    FILE *out = open_memstream(&job->command, &size);
    if (!out)
        return moe_fail_memory(err, "the command");
    fputs("moelab calibrate", out);
    for (int i = 0; i < call->argc; i++)
        fprintf(out, strpbrk(call->argv[i], " '\"\n") ? " '%s'" : " %s", call->argv[i]);
    if (fclose(out))
        return moe_fail_memory(err, "the command");
    time_t now = time(NULL);
    struct tm utc;
    if (!gmtime_r(&now, &utc) || !strftime(job->date, sizeof job->date, "%Y-%m-%d", &utc))
        snprintf(job->date, sizeof job->date, "day unknown");
    return MOE_OK;
}

static enum moe_status measure(const struct options *o, struct job *job, struct moe_err *err)
{
    enum { QUICK_REPEATS = 3 };
    struct moe_progress progress;
    moe_progress_begin(&progress, "calibrating", "measurements", 0);
    const struct moe_calibrate_options c = {.device = job->device,
                                            .shapes = job->shape,
                                            .n_shapes = job->n_shapes,
                                            .llm = job->llm,
                                            .alone = !o->gpu,
                                            .repeats =
                                                o->quick ? QUICK_REPEATS : (uint32_t)o->repeats,
                                            .threads = (uint32_t)o->threads,
                                            .pin = o->pin,
                                            .kernels = o->kernels,
                                            .power_s = o->quick ? o->power_s / 5 : o->power_s,
                                            .power = &job->power,
                                            .date = job->date,
                                            .progress = &progress};
    job->result = calloc(1, sizeof *job->result);
    enum moe_status s =
        job->result ? moe_calibrate(&c, job->result, err) : moe_fail_memory(err, "the calibration");
    moe_progress_end(&progress);
    return s;
}

static const char *kind_of(const struct moe_constant *k, char *buf, size_t size)
{
    snprintf(buf, size, "%.*s", (int)strcspn(k->origin, ":"), k->origin);
    return buf;
}

static double constant_value(const struct moe_platform *p, const struct moe_param *param)
{
    const char *at = (const char *)p + param->offset;
    uint64_t whole;
    double value;
    memcpy(&whole, at, sizeof whole);
    memcpy(&value, at, sizeof value);
    return param->type == MOE_PARAM_F64 ? value : (double)whole;
}

/* Adds the comparison with the file's value to the row; returns whether they differ too much.
 * Values below `least` count as `least`, as a time of nearly nothing may well be twice another one.
 */
static bool add_difference(struct moe_table *table, const struct options *o, double value,
                           double file, double least, double spread)
{
    const double difference = 100 * (value - file) / fmax(fabs(file), least);
    const double allowed = o->tolerance + (isnan(spread) ? 0 : 100 * spread);
    moe_table_f64(table, "in_file", file);
    moe_table_f64(table, "difference_percent", difference);
    moe_table_f64(table, "allowed_percent", allowed);
    return fabs(difference) > allowed;
}

static void add_constant(struct moe_table *table, const struct moe_constant *k,
                         const struct moe_param *param)
{
    char kind[32];
    moe_table_row(table);
    moe_table_text(table, "constant", k->key);
    moe_table_f64(table, "value", k->value);
    moe_table_text(table, "unit", param->unit);
    moe_table_f64(table, "spread_percent", 100 * k->spread);
    moe_table_f64(table, "share_of_read_rate_percent", 100 * k->share);
    moe_table_text(table, "origin", kind_of(k, kind, sizeof kind));
}

static struct moe_constant *constant_named(struct moe_calibration *c, const char *section,
                                           const char *name)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", section, name);
    for (uint32_t i = 0; i < c->n_constants; i++)
        if (strcmp(c->constant[i].key, key) == 0)
            return &c->constant[i];
    return NULL;
}

/* Adds the rows of one of the CPU's lists; returns as fill_table. */
static uint32_t fill_points(struct moe_table *table, const struct options *o, const char *list,
                            const struct moe_ffn_point *point, uint32_t n, const double *spread,
                            const double *share, const struct moe_platform *against)
{
    const bool dense = strcmp(list, "dense") == 0;
    uint32_t far = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct moe_ffn_point *p = &point[i];
        const double gb_per_s = (double)p->expert_bytes / p->ms * 1e-6;
        char name[96];
        snprintf(name, sizeof name, "cpu.%s, %u thread%s, %llu bytes", list, p->threads,
                 p->threads == 1 ? "" : "s", (unsigned long long)p->expert_bytes);
        moe_table_row(table);
        moe_table_text(table, "constant", name);
        moe_table_f64(table, "value", p->ms);
        moe_table_text(table, "unit", "ms");
        moe_table_f64(table, "spread_percent", 100 * spread[i]);
        moe_table_f64(table, "share_of_read_rate_percent", 100 * share[i]);
        moe_table_text(table, "origin", "measured");
        if (against) {
            const double file =
                dense ? moe_platform_dense_gb_per_s(against, p->threads, p->expert_bytes)
                      : moe_platform_expert_gb_per_s(against, p->threads, p->expert_bytes);
            far += add_difference(table, o, p->ms, p->ms * gb_per_s / file, 0, spread[i]);
        }
    }
    return far;
}

/* Adds the rows of all constants; against: the platform to compare with, or NULL. Returns how many
 * differ too much. */
static uint32_t fill_table(struct moe_table *table, const struct options *o,
                           struct moe_calibration *c, const struct moe_platform *against)
{
    uint32_t far = 0;
    for (const struct moe_platform_section *s = moe_platform_sections; s->name; s++)
        for (const struct moe_param *p = s->table; p->name; p++) {
            const struct moe_constant *k = constant_named(c, s->name, p->name);
            if (!k)
                continue;
            add_constant(table, k, p);
            if (against)
                far += add_difference(table, o, k->value, constant_value(against, p),
                                      p->min > 0 ? p->min : 1, k->spread) &&
                       k->n > 0;
        }
    const struct moe_platform *own = &c->platform;
    far += fill_points(table, o, "expert_ffn", own->cpu.point, own->cpu.n_points, c->point_spread,
                       c->point_share, against);
    far += fill_points(table, o, "dense", own->cpu.dense, own->cpu.n_dense, c->dense_spread,
                       c->dense_share, against);
    return far;
}

static void warn_of_guesses(const struct moe_calibration *c)
{
    for (uint32_t i = 0; i < c->n_constants; i++)
        if (strncmp(c->constant[i].origin, "guess", 5) == 0)
            moe_log("%s is a %s", c->constant[i].key, c->constant[i].origin);
}

static enum moe_status save(const struct options *o, const struct job *job, struct moe_err *err)
{
    char *head;
    size_t size;
    uint32_t generation, lanes;
    FILE *out = open_memstream(&head, &size);
    if (!out)
        return moe_fail_memory(err, "the platform file");
    fprintf(out, "Measured by `%s` on %s.\nDevice: %s, %s. CPU: %llu cores.\n", job->command,
            job->date, job->device->ops->name, job->device->name,
            (unsigned long long)job->result->platform.cpu.cores);
    if (cli_device_slot(&o->device, job->device, &generation, &lanes))
        fprintf(out,
                "Slot: `moelab whatif --pcie-generation %" PRIu32 " --pcie-lanes %" PRIu32
                "`, as the system tells.\n",
                generation, lanes);
    fprintf(out,
            "Whole steps: %s. A spread is how far a repeat may be off (exec/calibrate.h), over "
            "the median.",
            job->result->steps_of);
    enum moe_status s = fclose(out) ? moe_fail_memory(err, "the platform file") : MOE_OK;
    const struct moe_platform_notes notes = {head, moe_calibration_origin, job->result};
    if (!s)
        s = moe_platform_save(&job->result->platform, &notes, o->output, err);
    free(head);
    return s;
}

static enum moe_status show(const struct cli_call *call, struct job *job,
                            const struct moe_platform *against, uint32_t *far, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_table *table = cli_table_new(call);
    moe_table_note(table, "device", "%s, %s", job->device->ops->name, job->device->name);
    moe_table_note(table, "steps_of", "%s", job->result->steps_of);
    moe_table_note(table, "cpu_energy", "%s", job->power.cpu);
    moe_table_note(table, "gpu_energy", "%s", job->power.gpu);
    *far = fill_table(table, o, job->result, against);
    if (strcmp(o->output, "-") != 0)
        return cli_table_end(table, MOE_OK, o->format, "-", err);
    moe_table_free(table);
    return MOE_OK;
}

/* Does this machine have another kind of memory than the file says? */
static bool other_memory(const struct options *o, const struct moe_platform *here,
                         const struct moe_platform *against)
{
    const bool shared = moe_platform_shares_dram(here);
    if (!o->gpu || shared == moe_platform_shares_dram(against))
        return false;
    moe_log("memory is %s here, '%s' says %s", shared ? "unified" : "separate", o->check,
            shared ? "separate" : "unified");
    return true;
}

static enum moe_status calibrate(const struct cli_call *call, struct job *job, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_platform *against = NULL;
    enum moe_status s = MOE_OK;
    uint32_t far = 0;
    if (*o->check) {
        against = malloc(sizeof *against);
        s = against ? cli_load_platform(o->check, against, err)
                    : moe_fail_memory(err, "a platform");
        if (!s && o->gpu && !moe_platform_has_gpu(against))
            s = moe_fail(err, MOE_ERR_USAGE,
                         "platform '%s' has no GPU: --no-gpu compares with what it has", o->check);
    }
    if (!s)
        s = measure(o, job, err);
    if (!s) {
        warn_of_guesses(job->result);
        s = show(call, job, against, &far, err);
        far += against && other_memory(o, &job->result->platform, against);
    }
    if (!s && *o->output)
        s = save(o, job, err);
    free(against);
    if (!s && far)
        s = moe_fail(err, MOE_ERR_CHECK, "%u constant%s from '%s' by more than %s spread and %g %%",
                     far, far == 1 ? " differs" : "s differ", o->check, far == 1 ? "its" : "their",
                     o->tolerance);
    return s;
}

/* Refuses more threads than there are cores, as every simulation would believe such a platform
 * file. */
static enum moe_status check_threads(const struct options *o, struct moe_err *err)
{
    uint16_t order[MOE_CPUS_MAX];
    uint32_t cores, nodes;
    const uint32_t n = moe_cpu_order(order, &cores, &nodes);
    if (o->threads <= n)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE, "threads %llu exceeds the %u processor%s of this machine",
                    (unsigned long long)o->threads, n, moe_plural(n));
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return moe_fail_memory(err, "the calibration");
    enum moe_status s = check_threads(o, err);
    if (!s && !*o->output && !*o->check)
        s = moe_fail(err, MOE_ERR_USAGE,
                     "option '--output' is required: the platform file to "
                     "write (or --check, to compare with one)");
    if (!s)
        s = describe(job, call, err);
    if (!s && *o->output) /* checked now, not after a minute of measuring */
        s = moe_output_check(o->output, err);
    if (!s)
        s = open_shapes(o, job, err);
    if (!s)
        s = cli_open_device(&o->device, o->kernels, &job->device, err);
    if (!s) {
        cli_open_power(&o->device, job->device, &job->power);
        s = calibrate(call, job, err);
        moe_power_close(&job->power);
    }
    moe_device_close(job->device);
    moe_llm_close(job->llm);
    free(job->result);
    free(job->command);
    free(job);
    return s;
}

const struct cli_command cli_calibrate = {
    .name = "calibrate",
    .usage = "-o PLATFORM.yaml [options]",
    .summary = "measures this machine into a platform file for sim, sweep and tune",
    .description =
        "Measures what the simulator needs to know about this machine: experts on the CPU by\n"
        "number of threads, the link, the GPU, whole steps, power. Every round measures every\n"
        "constant once; a constant is the median over the rounds. Its spread, the range of the\n"
        "middle 80 % of the rounds, says how far a repeat may be off. What cannot be measured\n"
        "is guessed, and the file says so.\n"
        "\n"
        "With the device `host` a compute stream on a CPU thread stands in for the GPU. The\n"
        "keys below are those of --device host:KEY=VALUE,...",
    .options = options,
    .options_size = sizeof(struct options),
    .max_args = 0,
    .spec = moe_host_params,
    .run = run,
};
