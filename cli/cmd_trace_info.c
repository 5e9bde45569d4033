#include "base/units.h"
#include "cli/output.h"
#include "traces/hdf5.h"

struct options {
    char output[CLI_PATH_MAX];
    int format;
};

static const struct moe_param options[] = {
    CLI_OPTION_RESULT(struct options),
    {0},
};

static void add_parts(struct moe_table *table, unsigned parts)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{MOE_HAS_WEIGHT, "weights"},
                 {MOE_HAS_SCORE, "scores"},
                 {MOE_HAS_LOOKAHEAD, "lookahead"},
                 {MOE_HAS_LOG, "log"},
                 {MOE_HAS_REQUEST, "several_requests_a_sequence"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        moe_table_text(table, names[i].name, parts & names[i].bit ? "yes" : "no");
}

static uint64_t sum_of(const uint64_t *values, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; values && i < n; i++)
        if (!moe_add_u64(sum, values[i], &sum))
            return UINT64_MAX;
    return sum;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_reader *reader;
    enum moe_status s = moe_reader_open(&reader, call->args[0], err);
    if (s)
        return s;
    const struct moe_trace_info *info = moe_reader_info(reader);
    struct moe_table *table = moe_table_new();
    moe_table_row(table);
    moe_table_text(table, "file", call->args[0]);
    moe_table_text(table, "model", info->model);
    moe_table_u64(table, "layers", info->n_layers);
    moe_table_u64(table, "experts", info->n_experts);
    moe_table_u64(table, "top_k", info->top_k);
    moe_table_u64(table, "sequences", moe_reader_n_sequences(reader));
    moe_table_u64(table, "tokens", moe_reader_n_tokens(reader));
    add_parts(table, moe_reader_parts(reader));
    if (info->expert_bytes)
        moe_table_u64(table, "one_expert_of_each_layer_bytes",
                      sum_of(info->expert_bytes, info->n_layers));
    moe_table_text(table, "rows_in_file_order", info->rows_in_order ? "yes" : "no");
    moe_table_text(table, "synthetic", info->synthetic ? "yes" : "no");
    moe_table_text(table, "source", info->source);
    moe_table_text(table, "licence", info->licence);
    moe_table_text(table, "tool", info->tool);
    moe_table_text(table, "created", info->created);
    moe_table_text(table, "note", info->note);
    s = cli_table_end(table, MOE_OK, o->format, o->output, err);
    moe_reader_close(reader);
    return s;
}

const struct cli_command cli_trace_info = {
    .name = "trace info",
    .usage = "TRACE.h5",
    .summary = "shows shape, size and provenance of a trace",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
