#include "base/file.h"
#include "cli/repro.h"

#include <unistd.h>

/* The commands that make the traces; {trace} stands for the output file. */
static const struct {
    const char *trace, *needs;
    const struct cli_command *command;
    const char *words[20];
} makers[] = {
    {"results/traces/tiny-mixtral.h5",
     "experiments/prompts/demo.jsonl",
     &cli_record,
     {"--model", "tiny-mixtral", "--chat", "none", "--threads", "1", "--prompts",
      "experiments/prompts/demo.jsonl", "--temperature", "0.8", "--max-new-tokens", "96",
      "--ignore-eos", "--out"}},
    {"results/traces/tiny-phimoe.h5",
     "experiments/prompts/demo.jsonl",
     &cli_record,
     {"--model", "tiny-phimoe", "--chat", "none", "--threads", "1", "--prompts",
      "experiments/prompts/demo.jsonl", "--temperature", "0.8", "--max-new-tokens", "96",
      "--ignore-eos", "--out"}},
    {"results/traces/minicpm-moe-8x2b.h5",
     "../shared/data/traces/minicpm-moe-8x2b/expert_choices.csv",
     &cli_trace_import,
     {"../shared/data/traces/minicpm-moe-8x2b/expert_choices.csv", "--format", "expert-choices",
      "-o"}},
    {"results/traces/gpt-oss-20b.h5",
     "../shared/data/traces/gpt-oss-20b/ids.npy",
     &cli_trace_import,
     {"../shared/data/traces/gpt-oss-20b/ids.npy", "--format", "npy", "--experts", "32",
      "--sequences", "../shared/data/traces/gpt-oss-20b/sequences.csv", "-o"}},
    {"results/traces/qwen3-30b-a3b.h5",
     "../shared/data/traces/qwen3-30b-a3b/qwen.route.csv",
     &cli_trace_import,
     {"../shared/data/traces/qwen3-30b-a3b/qwen.route.csv", "--format", "route-csv", "-o"}},
};

static enum moe_status make(size_t i, struct moe_err *err)
{
    const char *words[21];
    int n = 0;
    while (makers[i].words[n]) {
        words[n] = makers[i].words[n];
        n++;
    }
    words[n++] = makers[i].trace;
    return repro_command(makers[i].command, n, words, err);
}

enum moe_status repro_traces(const struct repro *r, struct moe_err *err)
{
    (void)r;
    enum moe_status s = moe_make_directories("results/traces", err);
    for (size_t i = 0; !s && i < sizeof makers / sizeof *makers; i++)
        if (access(makers[i].trace, R_OK) != 0 && access(makers[i].needs, R_OK) == 0)
            s = make(i, err);
    return s;
}
