/* Chat templates: the text around a user's message that instruction-tuned models were trained with.
 * The two that Mixtral-8x7B-Instruct and Phi-3.5-MoE-instruct use, in C (no Jinja). */
#ifndef MOELAB_EXEC_CHAT_H
#define MOELAB_EXEC_CHAT_H

#include "base/error.h"

#include <stddef.h>

enum moe_chat { MOE_CHAT_NONE, MOE_CHAT_MIXTRAL, MOE_CHAT_PHI };
#define MOE_CHAT_CHOICES "none|mixtral|phi"

/* Which one DIR/tokenizer_config.json (or chat_template.jinja) asks for, by its marker strings;
 * MOE_CHAT_NONE where there is no template. MOE_ERR_UNSUPPORTED: a template that is neither. */
enum moe_status moe_chat_detect(const char *dir, enum moe_chat *out, struct moe_err *err);

struct moe_message {
    const char *role; /* "system", "user", "assistant" */
    const char *text;
};

/* The whole prompt, ready to be encoded with BOS where the template has one; heap, caller frees.
 * The last message is the user's; the text ends where the assistant begins. Errors: MOE_ERR_USAGE
 * for roles that the template refuses (mixtral: must alternate user and assistant; no system). */
enum moe_status moe_chat_format(enum moe_chat chat, const struct moe_message *messages, size_t n,
                                char **out, struct moe_err *err);

#endif
