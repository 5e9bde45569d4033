/* What `run` and `record` share: options of model, sampling and speed. */
#ifndef MOELAB_CLI_INFERENCE_H
#define MOELAB_CLI_INFERENCE_H

#include "cli/output.h"
#include "exec/chat.h"
#include "exec/session.h"
#include "exec/tokenizer.h"

enum { CLI_CHAT_AUTO = 0 }; /* "auto", then the words of MOE_CHAT_CHOICES */

struct cli_inference {
    char model[CLI_PATH_MAX], kernels[32];
    uint64_t max_new, top_k, seed, threads, context, chunk;
    double temperature, top_p;
    int chat, ignore_eos, pin, interleave;
};

#define CLI_INFERENCE_U64(owner, field, what, fallback, least, most, of, text)                     \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_U64, .offset = offsetof(owner, inference.field),           \
        .default_text = fallback, .min = least, .max = most, .unit = of, .help = text              \
    }
#define CLI_INFERENCE_BOOL(owner, field, what, fallback, text)                                     \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_BOOL, .offset = offsetof(owner, inference.field),          \
        .default_text = fallback, .help = text                                                     \
    }

/* The records, for a table of `owner`, whose member `inference` is a struct cli_inference. */
#define CLI_INFERENCE_OPTIONS(owner)                                                               \
    CLI_INFERENCE_U64(owner, max_new, "max-new-tokens", "64", 0, 1 << 24, "tokens",                \
                      "most tokens to generate for a prompt"),                                     \
        CLI_INFERENCE_BOOL(owner, ignore_eos, "ignore-eos", "off",                                 \
                           "go on after the model's stop tokens"),                                 \
        {.name = "chat",                                                                           \
         .type = MOE_PARAM_CHOICE,                                                                 \
         .offset = offsetof(owner, inference.chat),                                                \
         .default_text = "auto",                                                                   \
         .choices = "auto|" MOE_CHAT_CHOICES,                                                      \
         .help = "template around the prompt; auto: the one of the model's tokenizer, if any"},    \
        {.name = "temperature",                                                                    \
         .type = MOE_PARAM_F64,                                                                    \
         .offset = offsetof(owner, inference.temperature),                                         \
         .default_text = "0",                                                                      \
         .min = 0,                                                                                 \
         .max = 100,                                                                               \
         .help = "of sampling; 0: always the most likely token"},                                  \
        CLI_INFERENCE_U64(owner, top_k, "top-k", "0", 0, 1 << 24, "tokens",                        \
                          "sample from so many most likely tokens; 0: all"),                       \
        {.name = "top-p",                                                                          \
         .type = MOE_PARAM_F64,                                                                    \
         .offset = offsetof(owner, inference.top_p),                                               \
         .default_text = "1",                                                                      \
         .min = 1e-6,                                                                              \
         .max = 1,                                                                                 \
         .help = "sample from the fewest tokens that together have this probability"},             \
        CLI_INFERENCE_U64(owner, seed, "seed", "1", 0, 0, "", "of sampling"),                      \
        CLI_INFERENCE_U64(owner, context, "context", "0", 0, 1 << 24, "tokens",                    \
                          "room for prompt and answer; 0: as long as the model allows"),           \
        CLI_INFERENCE_U64(owner, chunk, "chunk", "512", 1, 65536, "tokens",                        \
                          "most tokens of one prefill pass; changes no route"),                    \
        CLI_INFERENCE_U64(owner, threads, "threads", "0", 0, 1024, "threads",                      \
                          "0: one for each core; changes no result"),                              \
        CLI_INFERENCE_BOOL(owner, pin, "pin", "on", "keep each thread on its core"),               \
        CLI_INFERENCE_BOOL(owner, interleave, "interleave", "on",                                  \
                           "spread the weights over all memory nodes as they are read in"),        \
    {                                                                                              \
        .name = "kernels", .type = MOE_PARAM_STRING, .offset = offsetof(owner, inference.kernels), \
        .default_text = "auto", .size = 32,                                                        \
        .help = "CPU kernels, by instruction set (`moelab bench kernels` lists them)"              \
    }

/* Opens the model alone: name is a folder's path, or the name of one in experiments/models. buf
 * receives the folder. Free with moe_llm_close. */
enum moe_status cli_open_llm(const char *name, bool interleave, char *buf, size_t size,
                             struct moe_llm **llm, struct moe_err *err);

/* Opens model and tokenizer of o->model: a folder's path, or the name of one in experiments/models.
 * buf receives the folder. On failure both are NULL. Free with moe_tokenizer_free, moe_llm_close.
 */
enum moe_status cli_open_model(const struct cli_inference *o, char *buf, size_t size,
                               struct moe_llm **llm, struct moe_tokenizer **tokenizer,
                               struct moe_err *err);

/* Settles --chat. */
enum moe_status cli_chat(const struct cli_inference *o, const char *folder, enum moe_chat *out,
                         struct moe_err *err);

struct moe_session_options cli_session_options(const struct cli_inference *o);

/* Most memory that this process has had resident, in bytes. */
uint64_t cli_peak_memory(void);

#endif
