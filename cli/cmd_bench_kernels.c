#include "base/progress.h"
#include "base/units.h"
#include "cli/output.h"
#include "cli/words.h"
#include "exec/bench.h"
#include "exec/cpu.h"

#include <string.h>

enum { LIST_MAX = 16 };

struct options {
    char threads[128], tokens[128], dtype[64], kernels[32], output[CLI_PATH_MAX];
    uint64_t d_model, d_ffn, experts, repeats;
    int peers, format;
};

static const struct moe_param options[] = {
    CLI_OPTION_U64(struct options, d_model, "d_model", "4096", 1, 65536, "numbers",
                   "width of the model; the default is Mixtral-8x7B's"),
    CLI_OPTION_U64(struct options, d_ffn, "d_ffn", "14336", 1, 262144, "numbers",
                   "inner width of an expert; the default is Mixtral-8x7B's"),
    CLI_OPTION_U64(struct options, experts, "experts", "8", 1, 1024, NULL,
                   "BF16 experts in memory, read in turn: more than the last-level cache holds"),
    CLI_OPTION_NAME(struct options, dtype, "dtype", "bf16,f16,f32,q8,q4",
                    "types of the weights, a list; q8 and q4 need widths that are multiples of 32"),
    CLI_OPTION_NAME(struct options, kernels, "kernels", "all",
                    "one set: portable, avx2, amx, avx512-bf16, avx512, neon, auto; or all that "
                    "can run here"),
    CLI_OPTION_NAME(struct options, threads, "threads", "1,all",
                    "numbers of threads, a list; all: one for each core"),
    CLI_OPTION_NAME(struct options, tokens, "tokens", "8,32,128",
                    "numbers of tokens of the matrix cases, a list of 2 to 4096; none: left out"),
    CLI_OPTION_U64(struct options, repeats, "repeats", "7", 1, 99, "runs",
                   "runs of each case, after one that is not counted; the median is shown"),
    CLI_OPTION_SWITCH(
        struct options, peers, "peers", "on",
        "OpenBLAS beside the matrix cases, with the conversion to float32 that it needs"),
    CLI_OPTION_RESULT(struct options),
    {0},
};

struct numbers {
    const char *what;
    uint64_t min, max;
    uint32_t all; /* what "all" stands for; 0: not a word here */
    uint32_t n, value[LIST_MAX];
};

static enum moe_status take_number(void *context, const char *word, struct moe_err *err)
{
    struct numbers *list = context;
    uint64_t value = list->all;
    if (list->n == LIST_MAX)
        return moe_fail(err, MOE_ERR_USAGE, "%s has more than %d numbers", list->what, LIST_MAX);
    if (!list->all || strcmp(word, "all") != 0) {
        enum moe_status s = moe_parse_u64(word, list->min, list->max, &value, err);
        if (s)
            return moe_fail_prefix(err, "%s", list->what);
    }
    for (uint32_t i = 0; i < list->n; i++)
        if (list->value[i] == value)
            return MOE_OK; /* "1,all" on one core */
    list->value[list->n++] = (uint32_t)value;
    return MOE_OK;
}

static enum moe_status take_dtype(void *context, const char *word, struct moe_err *err)
{
    bool *wanted = context;
    enum moe_dtype dtype;
    char name[32];
    size_t n = 0;
    for (; word[n] && n + 1 < sizeof name; n++)
        name[n] = (char)(word[n] >= 'a' && word[n] <= 'z' ? word[n] - 'a' + 'A' : word[n]);
    name[n] = '\0';
    if (!moe_dtype_find(name, &dtype))
        return moe_fail(err, MOE_ERR_USAGE, "unknown dtype '%s'; known: bf16, f16, f32, q8, q4",
                        word);
    wanted[dtype] = true;
    return MOE_OK;
}

static void add_row(void *context, const struct moe_kernel_bench_row *row)
{
    struct moe_table *table = context;
    moe_table_row(table);
    moe_table_text(table, "case", row->what);
    moe_table_text(table, "kernels", row->kernels);
    moe_table_text(table, "dtype", row->dtype);
    moe_table_u64(table, "threads", row->threads);
    moe_table_u64(table, "tokens", row->tokens);
    moe_table_f64(table, "gb_per_s", row->gb_per_s);
    moe_table_f64(table, "share_of_read_rate_percent", 100 * row->read_share);
    moe_table_f64(table, "gflop_per_s", row->gflop_per_s);
    moe_table_f64(table, "spread_percent", 100 * row->spread);
}

static enum moe_status check_width(const struct moe_kernel_bench *bench, const char *name,
                                   uint32_t width, struct moe_err *err)
{
    for (int i = 0; i < MOE_N_DTYPES; i++) {
        const struct moe_dtype_info *info = moe_dtype_info((enum moe_dtype)i);
        if (bench->dtype[i] && width % info->block)
            return moe_fail(err, MOE_ERR_USAGE, "%s %u is no multiple of %u, as dtype %s needs",
                            name, width, info->block, info->name);
    }
    return MOE_OK;
}

static enum moe_status parse(const struct options *o, struct moe_kernel_bench *bench,
                             struct numbers *threads, struct numbers *tokens, struct moe_err *err)
{
    uint16_t order[MOE_CPUS_MAX];
    uint32_t n_nodes;
    moe_cpu_order(order, &threads->all, &n_nodes);
    enum moe_status s = cli_each_word(o->threads, take_number, threads, err);
    if (!s && strcmp(o->tokens, "none") != 0)
        s = cli_each_word(o->tokens, take_number, tokens, err);
    if (!s)
        s = cli_each_word(o->dtype, take_dtype, bench->dtype, err);
    if (!s)
        s = check_width(bench, "d_model", bench->d_model, err);
    if (!s)
        s = check_width(bench, "d_ffn", bench->d_ffn, err);
    if (!s && strcmp(o->kernels, "all") != 0)
        s = moe_kernels_find(o->kernels, &bench->only, err);
    return s;
}

static enum moe_status measure(const struct options *o, struct moe_table *table,
                               struct moe_err *err)
{
    struct numbers threads = {.what = "threads", .min = 1, .max = MOE_CPUS_MAX};
    struct numbers tokens = {.what = "tokens", .min = 2, .max = 4096};
    struct moe_kernel_bench bench = {.d_model = (uint32_t)o->d_model,
                                     .d_ffn = (uint32_t)o->d_ffn,
                                     .n_experts = (uint32_t)o->experts,
                                     .repeats = (uint32_t)o->repeats};
    struct moe_gemm gemm = {0};
    struct moe_err absent;
    enum moe_status s = parse(o, &bench, &threads, &tokens, err);
    if (s)
        return s;
    bench.threads = threads.value;
    bench.n_threads = threads.n;
    bench.tokens = tokens.value;
    bench.n_tokens = tokens.n;
    const uint64_t bytes = 6 * o->d_model * o->d_ffn * o->experts, cache = moe_cpu_cache_bytes();
    if (bytes < 2 * cache)
        moe_log("the experts are less than twice the last-level cache: rates are partly the "
                "cache's");
    if (o->peers && moe_gemm_open(&gemm, &absent))
        moe_log("%s", absent.text);
    bench.peer = gemm.library ? &gemm : NULL;
    moe_table_note(table, "repeats", "%u", bench.repeats);
    moe_table_note(table, "weights_bytes", "%llu", (unsigned long long)bytes);
    moe_table_note(table, "cache_bytes", "%llu", (unsigned long long)cache);
    s = moe_bench_kernels(&bench, add_row, table, err);
    moe_gemm_close(&gemm);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_table *table = cli_table_new(call);
    return cli_table_end(table, measure(o, table, err), o->format, o->output, err);
}

const struct cli_command cli_bench_kernels = {
    .name = "bench kernels",
    .usage = "[options]",
    .summary = "speed of the CPU kernels on this machine, beside its read rate and OpenBLAS",
    .description =
        "Case read: threads read the memory of the experts and do nothing with it. Case expert:\n"
        "one expert on one token, in turn with reading as many bytes; its share of the read rate\n"
        "is the median over the pairs. Case matrix: many tokens times 2048 rows.\n"
        "\n"
        "The default takes about two minutes on two cores and 3 GB of memory; --kernels auto "
        "takes\n"
        "less time, --experts 2 less memory.",
    .options = options,
    .options_size = sizeof(struct options),
    .max_args = 0,
    .run = run,
};
