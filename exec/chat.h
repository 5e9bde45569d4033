/* Chat templates: the text around a user's message that instruction-tuned models were trained with.
 * Those that Mixtral-8x7B-Instruct, Phi-3.5-MoE-instruct, Qwen3's and OLMoE's models use, in C (no
 * Jinja). */
#ifndef MOELAB_EXEC_CHAT_H
#define MOELAB_EXEC_CHAT_H

#include "base/error.h"

#include <stddef.h>

enum moe_chat {
    MOE_CHAT_NONE,
    MOE_CHAT_MIXTRAL,      /* "<s> [INST] a [/INST] b</s> [INST] c [/INST]" */
    MOE_CHAT_PHI,          /* "<|user|>\na<|end|>\n<|assistant|>\n" */
    MOE_CHAT_MIXTRAL_2023, /* its first form: "<s>[INST] a [/INST]b</s>[INST] c [/INST]" */
    MOE_CHAT_CHATML,       /* "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n" */
    MOE_CHAT_OLMOE,        /* BOS, then "<|user|>\na\n<|assistant|>\nb", EOS, "\n..." */
};
#define MOE_CHAT_CHOICES "none|mixtral|phi|mixtral-2023|chatml|olmoe"

/* Which one DIR/chat_template.jinja or else DIR/tokenizer_config.json asks for; MOE_CHAT_NONE where
 * there is no template. Errors: those of moe_chat_recognise; MOE_ERR_IO, MOE_ERR_INPUT for a broken
 * file. */
enum moe_status moe_chat_detect(const char *dir, enum moe_chat *out, struct moe_err *err);

/* The same from the bytes of a tokenizer_config.json. */
enum moe_status moe_chat_config(const char *data, size_t size, enum moe_chat *out,
                                struct moe_err *err);

/* Which one a Jinja template is, by its marker strings. MOE_ERR_UNSUPPORTED: none of these. */
enum moe_status moe_chat_recognise(const char *template_text, enum moe_chat *out,
                                   struct moe_err *err);

struct moe_message {
    const char *role; /* "system", "user", "assistant" */
    const char *text;
};

/* The texts of the model's bos_token and eos_token (moe_tokenizer_bos, moe_tokenizer_eos), for the
 * templates that name them instead of writing "<s>"; NULL: none. */
struct moe_chat_tokens {
    const char *bos, *eos;
};

/* The whole prompt, with the template's own BOS if it has one, so it is encoded without another
 * BOS. Heap, caller frees. The last message must be the user's; the text ends where the assistant's
 * answer begins. Errors: MOE_ERR_USAGE for roles that the template refuses (mixtral: user and
 * assistant must alternate after an optional system message, which mixtral-2023 does not know); no
 * messages, or the last not the user's; MOE_CHAT_NONE with anything but one user's message, which
 * is copied.
 *
 * chatml is the template of Qwen3, Qwen3-...-Instruct-2507 and Qwen3-Coder, which give the same
 * text without tools: a system message only if there is one. Qwen3 itself is not told to skip
 * thinking (enable_thinking is not set, which is its default), so its answer begins with <think>.
 * An earlier answer that contains "</think>" is refused, as they treat it differently (Qwen3 cuts
 * off what was thought). The templates of ...-Thinking-2507, which begin the answer with <think>
 * themselves, and of Qwen2, which have a system message of their own, are not recognised. olmoe
 * with an answer among the messages, but no EOS token, is refused. */
enum moe_status moe_chat_format(enum moe_chat chat, const struct moe_chat_tokens *tokens,
                                const struct moe_message *messages, size_t n, char **out,
                                struct moe_err *err);

#endif
