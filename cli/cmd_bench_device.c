#include "cli/device_options.h"
#include "cli/words.h"
#include "exec/bench_device.h"
#include "exec/host_options.h"

struct options {
    struct cli_device_options on; /* device and deterministic only */
    char shapes[256], output[CLI_PATH_MAX];
    uint64_t rounds, max_tokens, context, walk;
    int format;
};

static const struct moe_param options[] = {
    CLI_OPTION_DEVICE(struct options, on.device),
    CLI_OPTION_NAME(struct options, shapes, "shapes", "mixtral-8x7b,phi-3.5-moe,tiny-mixtral",
                    "models of experiments/models whose sizes are measured, a list"),
    CLI_OPTION_U64(
        struct options, rounds, "rounds", "15", 1, MOE_BENCH_ROUNDS_MAX, "rounds",
        "rounds, after one that is not counted; each measures every case once; medians are shown"),
    CLI_OPTION_U64(struct options, max_tokens, "max_tokens", "256", 1, 256, "tokens",
                   "time experts on 1, 2, 8, 64 and 256 tokens, up to N"),
    CLI_OPTION_U64(struct options, context, "context", "512", 1, 131072, "tokens",
                   "tokens in the KV cache for case attend"),
    {.name = "walk",
     .type = MOE_PARAM_BYTES,
     .offset = offsetof(struct options, walk),
     .default_text = "1GiB",
     .min = 1,
     .max = 1ull << 40,
     .unit = "bytes",
     .help =
         "memory for the experts used in turn, at least two: more than the device's caches hold"},
    CLI_OPTION_SWITCH(struct options, on.deterministic, "deterministic", "off",
                      "kernels that sum in the CPU's order"),
    CLI_OPTION_RESULT(struct options),
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
    struct moe_table *table = cli_table_new(call);
    return cli_table_end(table, measure(o, table, err), o->format, o->output, err);
}

const struct cli_command cli_bench_device = {
    .name = "bench device",
    .usage = "[options]",
    .summary = "copies, kernels and waits of a device, beside its own copy bandwidth",
    .description =
        "Cases h2d, d2h: from host to device and back, for several sizes and for an expert, as a\n"
        "share of the best rate found for pinned memory; the aim is 95 % for one expert. Case\n"
        "d2d: within device memory, reads and writes counted (2 x bytes). Cases expert, attend,\n"
        "head: the kernels of one token and, for experts, of several, BF16 ones also taken for Q8\n"
        "and Q4; those of one token with their share of d2d's rate in the same round, where the\n"
        "aim is 85 % for an expert. Then the cost of queueing and waiting: the host's time for\n"
        "each of 64 kernels `combine` of one token in a row, for an event recorded and waited\n"
        "for, and for one layer's dense part from queueing to routes_wait. The aims are for\n"
        "experts of 64 MiB or more.\n"
        "\n"
        "Device memory needed for mixtral-8x7b: 1.9 GB. On the host device ask for as much:\n"
        "--device host:memory_bytes=2GiB.",
    .options = options,
    .options_size = sizeof(struct options),
    .max_args = 0,
    .spec = moe_host_params,
    .run = run,
};
