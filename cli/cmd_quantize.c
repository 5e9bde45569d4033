#include "base/numbers.h"
#include "base/progress.h"
#include "base/units.h"
#include "cli/inference.h"
#include "exec/quantize_model.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct options {
    char model[CLI_PATH_MAX], experts[16], dense[16], output[CLI_PATH_MAX];
    uint64_t threads;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, model, "model", "",
                    "folder of a Hugging Face model with weights in BF16, F16 or F32, or "
                    "tiny-mixtral, tiny-phimoe (required)"),
    CLI_OPTION_NAME(struct options, experts, "experts", "",
                    "type of the new expert weights: q8 (8.5 bits) or q4 (4.5 bits) (required)"),
    CLI_OPTION_NAME(struct options, dense, "dense", "same",
                    "type of attention's projections and of the head: q8, q4, or same: as they "
                    "are"),
    CLI_OPTION_NAME(struct options, output, "output", "",
                    "folder to create; must not exist yet (required)"),
    CLI_OPTION_U64(struct options, threads, "threads", "0", 0, 1024, "threads",
                   "threads; 0: OMP_NUM_THREADS, or every core; does not change the result"),
    {0},
};

static enum moe_status find_type(const char *option, const char *name, const char *choices,
                                 enum moe_dtype *out, struct moe_err *err)
{
    for (int i = 0; i < MOE_N_DTYPES; i++) {
        if (moe_dtype_plain((enum moe_dtype)i) ||
            strcasecmp(moe_dtype_info((enum moe_dtype)i)->name, name) != 0)
            continue;
        *out = (enum moe_dtype)i;
        return MOE_OK;
    }
    return moe_fail(err, MOE_ERR_USAGE, "option '%s': '%s' is not one of %s", option, name,
                    choices);
}

static enum moe_status find_types(const struct options *o, struct moe_quantize *what,
                                  struct moe_err *err)
{
    what->dense = MOE_F32;
    if (!*o->experts)
        return moe_fail(err, MOE_ERR_USAGE, "option '--experts' is required: q8 or q4");
    enum moe_status s = find_type("--experts", o->experts, "q8, q4", &what->experts, err);
    if (!s && strcmp(o->dense, "same") != 0)
        s = find_type("--dense", o->dense, "same, q8, q4", &what->dense, err);
    return s;
}

static double bits(uint64_t bytes, uint64_t weights)
{
    return weights ? 8 * (double)bytes / (double)weights : 0;
}

static double bits_of(enum moe_dtype type)
{
    return bits(moe_dtype_row_bytes(type, MOE_QUANT_BLOCK), MOE_QUANT_BLOCK);
}

static void tell(const struct moe_quantize *what, const struct moe_quantized *done, double seconds)
{
    char before[32], after[32], types[64];
    if (moe_dtype_plain(what->dense))
        snprintf(types, sizeof types, "experts %.1f", bits_of(what->experts));
    else
        snprintf(types, sizeof types, "experts %.1f, dense weights %.1f", bits_of(what->experts),
                 bits_of(what->dense));
    moe_log("wrote '%s': %s became %s, %.2f bits a weight instead of %.2f (%s, %.1f %% of the "
            "weights), %.1f s",
            what->out, moe_format_bytes(done->bytes_before, before, sizeof before),
            moe_format_bytes(done->bytes_after, after, sizeof after),
            bits(done->bytes_after, done->weights), bits(done->bytes_before, done->weights), types,
            moe_percent(done->quantized_weights, done->weights), seconds);
}

/* Reports folders OUT.PID.part that killed processes have left: each may be as large as the model.
 */
static void tell_left(const char *out)
{
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/')
        n--;
    size_t base = n;
    while (base > 0 && out[base - 1] != '/')
        base--;
    char folder[CLI_PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", base ? (int)base : 1, base ? out : ".");
    DIR *stream = opendir(folder);
    for (struct dirent *e; stream && (e = readdir(stream));) {
        if (strncmp(e->d_name, out + base, n - base) != 0)
            continue;
        const char *rest = e->d_name + (n - base);
        if (*rest != '.')
            continue;
        char *end;
        const long pid = strtol(rest + 1, &end, 10);
        if (pid > 0 && strcmp(end, ".part") == 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH)
            moe_log("'%.*s%s' belongs to a process that is not running here: if it was killed, "
                    "remove that folder",
                    (int)base, out, e->d_name);
    }
    if (stream)
        closedir(stream);
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    char folder[CLI_PATH_MAX];
    struct moe_llm *llm = NULL;
    struct moe_quantized done;
    struct moe_quantize what = {.from = folder, .out = o->output, .threads = (uint32_t)o->threads};
    if (!*o->output)
        return moe_fail(err, MOE_ERR_USAGE, "option '--output' is required: the folder to make");
    if (strcmp(o->output, "-") == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--output': '-' is standard output, but a folder is written");
    const uint64_t start = moe_clock_ns();
    enum moe_status s = find_types(o, &what, err);
    if (!s)
        s = cli_open_llm(o->model, false, folder, sizeof folder, &llm, err);
    what.llm = llm;
    if (!s)
        tell_left(o->output);
    if (!s)
        s = moe_quantize_model(&what, &done, err);
    if (!s)
        tell(&what, &done, (double)(moe_clock_ns() - start) / 1e9);
    moe_llm_close(llm);
    return s;
}

const struct cli_command cli_quantize = {
    .name = "quantize",
    .usage = "--model FOLDER --experts q8|q4 [--dense q8|q4] -o FOLDER",
    .summary = "converts a model's weights from 16 or 32 bits to 8 or 4",
    .description =
        "q8 takes 8.5 bits for each weight, q4 4.5: numbers of 8 or 4 bits, rounded to the\n"
        "nearest, and one scale for every 32. Without --dense only experts change. With it\n"
        "attention's projections and a head that is not tied change, too, which pays where they\n"
        "are much of what a token reads (Qwen3-30B-A3B: two thirds, once its experts are q4).\n"
        "Norms, biases, routers and the embedding stay as they are. Every moelab command that\n"
        "takes a model's folder takes the new one; transformers and other tools do not.\n"
        "\n"
        "The new folder holds the *.safetensors and their index under their old names, "
        "config.json\n"
        "with a quantization_config, and copies of the other files that end in .json, .model,\n"
        ".jinja, .md, .txt or begin with LICENSE or NOTICE. It appears only when it is complete:\n"
        "after an error, a full disk or Ctrl-C nothing is left, after a kill at most a folder "
        "that\n"
        "ends in .part. The model is read once, in order, and never held in memory; a few "
        "megabytes\n"
        "are enough for any size.\n"
        "\n"
        "Refused: rows to quantize whose length is not a multiple of 32 (hidden_size, an expert's\n"
        "width, all heads together), weights that are not finite or too large for a scale, and a\n"
        "model that is already quantized.\n"
        "\n"
        "examples:\n"
        "  moelab quantize --model tiny-mixtral --experts q4 -o tiny-q4\n"
        "  moelab run --model tiny-q4 -p \"It was a dark night\"\n"
        "  moelab quantize --model Mixtral-8x7B-Instruct-v0.1 --experts q8 -o Mixtral-8x7B-q8\n"
        "  moelab quantize --model Qwen3-30B-A3B --experts q4 --dense q8 -o Qwen3-30B-A3B-q4",
    .options = options,
    .options_size = sizeof(struct options),
    .run = run,
};
