/* Chat templates: the text around a user's message that instruction-tuned models were trained with.
 * The two that Mixtral-8x7B-Instruct and Phi-3.5-MoE-instruct use, in C (no Jinja). */
#ifndef MOELAB_EXEC_CHAT_H
#define MOELAB_EXEC_CHAT_H

#include "base/error.h"

#include <stddef.h>

enum moe_chat {
    MOE_CHAT_NONE,
    MOE_CHAT_MIXTRAL,      /* "<s> [INST] a [/INST] b</s> [INST] c [/INST]" */
    MOE_CHAT_PHI,          /* "<|user|>\na<|end|>\n<|assistant|>\n" */
    MOE_CHAT_MIXTRAL_2023, /* its first form: "<s>[INST] a [/INST]b</s>[INST] c [/INST]" */
};
#define MOE_CHAT_CHOICES "none|mixtral|phi|mixtral-2023"

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

/* The whole prompt, with the template's own "<s>" if it has one, so it is encoded without another
 * BOS. Heap, caller frees. The last message must be the user's; the text ends where the assistant's
 * answer begins. Errors: MOE_ERR_USAGE for roles that the template refuses (mixtral: user and
 * assistant must alternate after an optional system message, which mixtral-2023 does not know); no
 * messages, or the last not the user's; MOE_CHAT_NONE with anything but one user's message, which
 * is copied. */
enum moe_status moe_chat_format(enum moe_chat chat, const struct moe_message *messages, size_t n,
                                char **out, struct moe_err *err);

#endif
