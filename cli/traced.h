/* A trace and a model that runs its routes: a real one, or a synthetic one of a given shape. */
#ifndef MOELAB_CLI_TRACED_H
#define MOELAB_CLI_TRACED_H

#include "cli/output.h"
#include "exec/synthetic.h"

struct cli_traced_options {
    char trace[CLI_PATH_MAX], shape[CLI_PATH_MAX];
    uint64_t layers, buffers, max_tokens;
};

/* Option records for a table of `owner`, whose member `traced` is a struct cli_traced_options. */
#define CLI_TRACED_OPTIONS(owner, trace_help)                                                      \
    CLI_OPTION_NAME(owner, traced.trace, "trace", "", trace_help),                                 \
        CLI_OPTION_NAME(owner, traced.shape, "shape", "",                                          \
                        "with --trace, instead of --model: a model from experiments/models, with " \
                        "SYNTHETIC weights made in memory"),                                       \
        CLI_OPTION_U64(owner, traced.layers, "layers", "0", 0, MOE_MAX_LAYERS, "layers",           \
                       "use only the first N layers of shape and trace; 0: all"),                  \
        CLI_OPTION_U64(owner, traced.buffers, "buffers", "0", 0, UINT32_MAX, "experts",            \
                       "make weights for only N experts of the shape, shared by all others; 0: "   \
                       "as many as fit into half of the memory that may be pinned"),               \
        CLI_OPTION_MAX_TOKENS(owner, traced.max_tokens, "the trace")

struct cli_traced {
    struct moe_trace trace;
    struct moe_model shape; /* of llm */
    const struct moe_llm *llm;
    struct moe_llm *opened;          /* or NULL */
    struct moe_synthetic *synthetic; /* or NULL */
};

/* Checks, before anything is opened, that exactly one of model and shape is given. */
enum moe_status cli_traced_check(const struct cli_traced_options *o, const char *model,
                                 struct moe_err *err);

/* model: name or folder, "" with a shape. parts: enum moe_tokens_part wanted beside the weights.
 * On failure nothing is left open. */
enum moe_status cli_traced_open(struct cli_traced *out, const struct cli_traced_options *o,
                                const char *model, unsigned parts, struct moe_device *device,
                                struct moe_err *err);
void cli_traced_close(struct cli_traced *traced); /* before the device is closed; all zero: no-op */

/* Where the weights come from, in words; returns buf. */
const char *cli_traced_weights(const struct cli_traced *traced, char *buf, size_t size);

/* Adds provenance: trace, model and weights. */
void cli_traced_note(const struct cli_traced *traced, const struct cli_traced_options *o,
                     struct moe_table *table);

#endif
