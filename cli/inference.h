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

/* Option records for a table of `owner`, whose member `inference` is a struct cli_inference. */
#define CLI_INFERENCE_OPTIONS(owner)                                                               \
    CLI_OPTION_U64(owner, inference.max_new, "max-new-tokens", "64", 0, 1 << 24, "tokens",         \
                   "generate at most N tokens for a prompt"),                                      \
        CLI_OPTION_SWITCH(owner, inference.ignore_eos, "ignore-eos", "off",                        \
                          "keep generating after the model's stop tokens"),                        \
        CLI_OPTION_CHOICE(                                                                         \
            owner, inference.chat, "chat", "auto|" MOE_CHAT_CHOICES, "auto",                       \
            "chat template for the prompt; auto: that of the model's tokenizer, if it has one"),   \
        CLI_OPTION_F64(owner, inference.temperature, "temperature", "0", 0, 100, NULL,             \
                       "temperature of sampling; 0: always the most likely token"),                \
        CLI_OPTION_U64(owner, inference.top_k, "top-k", "0", 0, 1 << 24, "tokens",                 \
                       "sample from the N most likely tokens; 0: from all"),                       \
        CLI_OPTION_F64(owner, inference.top_p, "top-p", "1", 1e-6, 1, NULL,                        \
                       "sample from the fewest tokens that together have this probability"),       \
        CLI_OPTION_SEED(owner, inference.seed, "sampling"),                                        \
        CLI_OPTION_U64(owner, inference.context, "context", "0", 0, 1 << 24, "tokens",             \
                       "room for prompt and answer; 0: as much as the model allows"),              \
        CLI_OPTION_U64(owner, inference.chunk, "chunk", "512", 1, 65536, "tokens",                 \
                       "tokens in one prefill pass, at most; does not change the routes"),         \
        CLI_OPTION_U64(owner, inference.threads, "threads", "0", 0, 1024, "threads",               \
                       "CPU threads; 0: one for each core; does not change the result"),           \
        CLI_OPTION_PIN(owner, inference.pin),                                                      \
        CLI_OPTION_SWITCH(owner, inference.interleave, "interleave", "on",                         \
                          "spread the weights over all NUMA nodes as they are read"),              \
        CLI_OPTION_KERNELS(owner, inference.kernels)

/* Opens only the model: name is a folder's path, or the name of one in experiments/models. buf
 * receives the folder. interleave: spread its pages over the memory nodes. Free with moe_llm_close.
 */
enum moe_status cli_open_llm(const char *name, bool interleave, char *buf, size_t size,
                             struct moe_llm **llm, struct moe_err *err);

/* Opens model and tokenizer of o->model: a folder's path, or the name of one in experiments/models.
 * buf receives the folder. On failure both are NULL. Free with moe_tokenizer_free, moe_llm_close.
 */
enum moe_status cli_open_model(const struct cli_inference *o, char *buf, size_t size,
                               struct moe_llm **llm, struct moe_tokenizer **tokenizer,
                               struct moe_err *err);

/* The chat template that --chat asks for; "auto": the model's. */
enum moe_status cli_chat(const struct cli_inference *o, const char *folder, enum moe_chat *out,
                         struct moe_err *err);

struct moe_session_options cli_session_options(const struct cli_inference *o);

/* Largest resident memory of this process so far, in bytes. */
uint64_t cli_peak_memory(void);

#endif
