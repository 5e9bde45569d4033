#include "cli/device_options.h"
#include "cli/words.h"
#include "exec/bench_device.h"
#include "exec/host_options.h"

#include <string.h>

struct options {
    struct cli_device_options on; /* device and deterministic only */
    char shapes[256], output[CLI_PATH_MAX];
    uint64_t rounds, max_tokens, context, walk;
    int format;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, on.device, "device", "auto",
                    "auto (cuda where there is one, else host), cuda, cuda:N, host, or "
                    "host:KEY=VALUE,..."),
    CLI_OPTION_NAME(struct options, shapes, "shapes", "mixtral-8x7b,phi-3.5-moe,tiny-mixtral",
                    "models of experiments/models whose sizes are measured, a list"),
    {.name = "rounds",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct options, rounds),
     .default_text = "15",
     .min = 1,
     .max = MOE_BENCH_ROUNDS_MAX,
     .unit = "rounds",
     .help = "each measures every case once, after one that is not counted; medians are shown"},
    {.name = "max_tokens",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct options, max_tokens),
     .default_text = "256",
     .min = 1,
     .max = 256,
     .unit = "tokens",
     .help = "experts on 1, 2, 8, 64 and 256 tokens, as far as this"},
    {.name = "context",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct options, context),
     .default_text = "512",
     .min = 1,
     .max = 131072,
     .unit = "tokens",
     .help = "in the KV cache for case attend"},
    {.name = "walk",
     .type = MOE_PARAM_BYTES,
     .offset = offsetof(struct options, walk),
     .default_text = "1GiB",
     .min = 1,
     .max = 1ull << 40,
     .unit = "bytes",
     .help = "experts on the device take so much, two at least, and are used in turn: more than "
             "its caches hold"},
    {.name = "deterministic",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct options, on.deterministic),
     .default_text = "off",
     .help = "kernels that sum in the order of the CPU"},
    CLI_OPTION_FORMAT(struct options),
    CLI_OPTION_OUTPUT(struct options, "file for the result; - is standard output"),
    {0},
};

struct work {
    const struct options *options;
    struct moe_table *table;
    struct moe_device *device;
    const char *shape; /* of the rows */
};

static void add_row(void *context, const struct moe_device_bench_row *row)
{
    const struct work *w = context;
    moe_table_row(w->table);
    moe_table_text(w->table, "case", row->what);
    moe_table_text(w->table, "shape", w->shape);
    moe_table_u64(w->table, "tokens", row->tokens);
    moe_table_u64(w->table, "bytes", row->bytes);
    moe_table_f64(w->table, "us", row->us);
    moe_table_f64(w->table, "spread_percent", 100 * row->spread);
    moe_table_f64(w->table, "gb_per_s", row->gb_per_s);
    moe_table_f64(w->table, "gflop_per_s", row->gflop_per_s);
    moe_table_f64(w->table, "share_percent", 100 * row->share);
    moe_table_f64(w->table, "aim_percent", 100 * row->aim);
}

static enum moe_status measure_shape(void *context, const char *name, struct moe_err *err)
{
    struct work *w = context;
    const struct options *o = w->options;
    struct moe_model model;
    enum moe_status s = cli_load_model(name, &model, err);
    if (s)
        return s;
    const struct moe_device_bench bench = {.device = w->device,
                                           .model = &model,
                                           .rounds = (uint32_t)o->rounds,
                                           .max_tokens = (uint32_t)o->max_tokens,
                                           .context = (uint32_t)o->context,
                                           .walk_bytes = o->walk};
    w->shape = model.name;
    s = moe_bench_device(&bench, add_row, w, err);
    return s ? moe_fail_prefix(err, "shape '%s'", name) : MOE_OK;
}

static enum moe_status measure(const struct options *o, struct moe_table *table,
                               struct moe_err *err)
{
    struct work w = {.options = o, .table = table};
    char name[300];
    enum moe_status s = cli_open_device(&o->on, NULL, &w.device, err);
    if (s)
        return s;
    moe_table_note(table, "device", "%s%s", cli_device_name(w.device, name, sizeof name),
                   w.device->deterministic ? ", deterministic" : "");
    moe_table_note(table, "weights", "SYNTHETIC, made in memory");
    moe_table_note(table, "rounds", "%llu", (unsigned long long)o->rounds);
    s = cli_each_word(o->shapes, measure_shape, &w, err);
    moe_device_close(w.device);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_table *table = moe_table_new();
    if (!table)
        return moe_fail_memory(err, "the result");
    cli_note_run(table, call, "bench device");
    enum moe_status s = measure(o, table, err);
    if (!s)
        s = cli_write_table(table, o->format, o->output, err);
    moe_table_free(table);
    return s;
}

const struct cli_command cli_bench_device = {
    .name = "bench device",
    .usage = "[options]",
    .summary = "copies, kernels and waits of a device, beside its own copy bandwidth",
    .description =
        "Cases h2d, d2h: host to device and back, of several sizes and of an expert; share of\n"
        "the best rate of pinned memory found, aim 95 % for one expert. Case d2d: within device\n"
        "memory, reads and writes counted (2 x bytes). Cases expert, attend, head: the kernels of\n"
        "one token and, for experts, of several; for one token with their share of d2d's rate in\n"
        "the same round, aim 85 % for an expert. Then what it costs to queue and to wait: 64\n"
        "combinations of one token in a row, the host's time for each of them, an event recorded\n"
        "and waited for, and one layer's dense part from queue to routes_wait. Aims are of\n"
        "experts of 64 MiB or more.\n\n"
        "Memory on the device for mixtral-8x7b: 1.9 GB. On the host device give it as much:\n"
        "--device host:memory_bytes=2GiB.",
    .options = options,
    .options_size = sizeof(struct options),
    .max_args = 0,
    .spec = moe_host_params,
    .run = run,
};
