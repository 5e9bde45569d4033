#include "exec/chat.h"

#include "base/file.h"
#include "exec/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEMPLATE_MAX = 1 << 20, CONFIG_MAX = 16 << 20 }; /* bytes */

/* ---- which one ---- */

/* Marker strings of the published templates, plain()ed; a template is the first family whose `has`
 * all occur and whose `lacks` do not. Sources: tokenizer_config.json of
 *   https://huggingface.co/mistralai/Mixtral-8x7B-Instruct-v0.1 (its first and its last revision),
 *   https://huggingface.co/microsoft/Phi-3.5-MoE-instruct, .../Phi-tiny-MoE-instruct,
 *   https://huggingface.co/Qwen/Qwen3-30B-A3B, .../Qwen3-30B-A3B-Instruct-2507,
 *   .../Qwen3-Coder-30B-A3B-Instruct,
 *   https://huggingface.co/allenai/OLMoE-1B-7B-0924-Instruct, .../OLMo-2-1124-7B-Instruct (another
 *   spelling of the same) */
enum { WORDS = 6 };
static const struct {
    enum moe_chat chat;
    const char *has[WORDS], *lacks[WORDS];
} families[] = {
    {MOE_CHAT_MIXTRAL,
     {"' [INST] ' + ", " + ' [/INST]'", "' ' + message['content'] + eos_token"},
     {"<<SYS>>", "TOOL"}},
    {MOE_CHAT_MIXTRAL_2023,
     {"'[INST] ' + ", " + ' [/INST]'", "message['content'] + eos_token"},
     {"<<SYS>>", "TOOL", "' ' + message['content']", "eos_token + ' '"}},
    {MOE_CHAT_PHI,
     {"<|user|>\n", "<|end|>\n", "'<|assistant|>\n'"},
     {"bos_token", "<|tool|>", "<|im_start|>"}},
    {MOE_CHAT_PHI,
     {"'<|' + message['role'] + '|>\n'", "'<|end|>\n'", "'<|assistant|>\n'"},
     {"bos_token", "<|tool|>"}},
    {MOE_CHAT_PHI,
     {"'<|' + message['role'] + '|>' + '\n' + ", "'<|end|>\n'", "'<|assistant|>\n'"},
     {"bos_token", "<|tool|>"}},
    {MOE_CHAT_CHATML, /* Qwen3 */
     {"'<|im_start|>system\n' + messages[0].content + '<|im_end|>\n'",
      "'<|im_start|>' + message.role + '\n' + ", " + '<|im_end|>' + '\n'",
      "{{- '<|im_start|>assistant\n' }}"},
     {"bos_token", "{{- '<|im_start|>assistant\n<think>", "{{- '<think>\n' }}", "helpful",
      "trim }}"}},
    {MOE_CHAT_CHATML, /* Qwen3-Coder, whose own system message is for tools only */
     {"'<|im_start|>system\n' + system_message }}",
      "{%- if tools is iterable and tools | length > 0 %}\n        {{- '<|im_start|>system\nYou "
      "are "
      "Qwen, ",
      "'<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n'",
      "{{- '<|im_start|>assistant\n' }}"},
     {"bos_token", "think>", "default_system"}},
    {MOE_CHAT_OLMOE,
     {"{{ bos_token }}", "'<|system|>\n' + message['content'] }}\n{%",
      "'<|user|>\n' + message['content'] }}\n{%", "message['content'] + eos_token }}\n{%",
      "{{ '<|assistant|>' }}\n{%"},
     {"<|end|>", "<|im_start|>", "loop.first", "+ '\n' }}"}},
    {MOE_CHAT_OLMOE,
     {"{{ bos_token }}", "'<|system|>\n' + message['content'] + '\n' }}",
      "'<|user|>\n' + message['content'] + '\n' }}",
      "{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}",
      "{{ '<|assistant|>\n' }}"},
     {"<|end|>", "<|im_start|>", "loop.first", "functions"}},
};

/* A copy with ' for either quote, and with line feeds for \\n: both spellings are in use. Heap. */
static char *plain(const char *text)
{
    char *copy = malloc(strlen(text) + 1), *to = copy;
    for (const char *c = text; copy && *c; c++) {
        bool line_feed = c[0] == '\\' && c[1] == 'n';
        *to++ = (char)(line_feed ? '\n' : *c == '"' ? '\'' : *c);
        c += line_feed;
    }
    if (copy)
        *to = '\0';
    return copy;
}

static bool has_all(const char *text, const char *const words[WORDS], bool wanted)
{
    for (size_t i = 0; i < WORDS && words[i]; i++)
        if ((strstr(text, words[i]) != NULL) != wanted)
            return false;
    return true;
}

enum moe_status moe_chat_recognise(const char *template_text, enum moe_chat *out,
                                   struct moe_err *err)
{
    char *text = plain(template_text);
    if (!text)
        return moe_fail_memory(err, "a chat template");
    size_t n = sizeof families / sizeof *families, i = 0;
    while (i < n &&
           !(has_all(text, families[i].has, true) && has_all(text, families[i].lacks, false)))
        i++;
    free(text);
    if (i == n)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "the chat template is not one of those known (%s): choose the nearest with "
                        "--chat, or --chat none",
                        MOE_CHAT_CHOICES);
    *out = families[i].chat;
    return MOE_OK;
}

/* The template of a configuration: a string, or the one called "default" of a list; NULL: none. */
static const char *config_template(const json_t *root)
{
    const json_t *value = moe_json_get(root, "chat_template");
    size_t i;
    json_t *entry;
    json_array_foreach(value, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(entry, "template"));
    }
    return json_string_value(value);
}

enum moe_status moe_chat_config(const char *data, size_t size, enum moe_chat *out,
                                struct moe_err *err)
{
    json_t *root = NULL;
    enum moe_chat chat = MOE_CHAT_NONE;
    enum moe_status status = moe_json_parse(data, size, &root, err);
    if (status != MOE_OK)
        return status;
    const char *text = config_template(root);
    if (text)
        status = moe_chat_recognise(text, &chat, err);
    json_decref(root);
    if (status == MOE_OK)
        *out = chat;
    return status;
}

static enum moe_status read_template(const char *path, enum moe_chat *out, struct moe_err *err)
{
    char *text = NULL;
    size_t size = 0;
    enum moe_status status = moe_file_read(path, TEMPLATE_MAX, &text, &size, err);
    if (status != MOE_OK)
        return status;
    if (moe_chat_recognise(text, out, err) != MOE_OK)
        status = moe_fail_prefix(err, "'%s'", path);
    free(text);
    return status;
}

static enum moe_status read_config(const char *path, enum moe_chat *out, struct moe_err *err)
{
    char *text = NULL;
    size_t size = 0;
    enum moe_status status = moe_file_read(path, CONFIG_MAX, &text, &size, err);
    if (status != MOE_OK)
        return status;
    if (moe_chat_config(text, size, out, err) != MOE_OK)
        status = moe_fail_prefix(err, "'%s'", path);
    free(text);
    return status;
}

enum moe_status moe_chat_detect(const char *dir, enum moe_chat *out, struct moe_err *err)
{
    static const struct {
        const char *name;
        enum moe_status (*read)(const char *path, enum moe_chat *out, struct moe_err *err);
    } files[] = {{"chat_template.jinja", read_template}, {"tokenizer_config.json", read_config}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[4096];
        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, files[i].name) >= sizeof path)
            return moe_fail(err, MOE_ERR_IO, "'%.100s...': path is too long", dir);
        if (access(path, F_OK) == 0)
            return files[i].read(path, out, err);
    }
    *out = MOE_CHAT_NONE;
    return MOE_OK;
}

/* ---- its text ---- */

static bool is_role(const struct moe_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

static void put(FILE *out, const char *a, const char *b, const char *c)
{
    fputs(a, out);
    fputs(b, out);
    fputs(c, out);
}

static void write_mixtral(FILE *out, enum moe_chat chat, const struct moe_message *messages,
                          size_t n)
{
    const char *space = chat == MOE_CHAT_MIXTRAL ? " " : "";
    const char *system = is_role(messages, "system") ? messages[0].text : NULL;
    put(out, "<s>", "", "");
    for (size_t i = system != NULL; i < n; i++) {
        if (is_role(&messages[i], "assistant")) {
            put(out, space, messages[i].text, "</s>");
            continue;
        }
        put(out, space, "[INST] ", "");
        if (system)
            put(out, system, "\n\n", "");
        system = NULL; /* it belongs to the first message */
        put(out, messages[i].text, " [/INST]", "");
    }
}

static void write_phi(FILE *out, const struct moe_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (is_role(&messages[i], "system") && !*messages[i].text)
            continue;
        put(out, "<|", messages[i].role, "|>\n");
        put(out, messages[i].text, "<|end|>\n", "");
    }
    put(out, "<|assistant|>\n", "", "");
}

static void write_chatml(FILE *out, const struct moe_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put(out, "<|im_start|>", messages[i].role, "\n");
        put(out, messages[i].text, "<|im_end|>\n", "");
    }
    put(out, "<|im_start|>assistant\n", "", "");
}

static void write_olmoe(FILE *out, const struct moe_chat_tokens *tokens,
                        const struct moe_message *messages, size_t n)
{
    put(out, tokens->bos ? tokens->bos : "", "", "");
    for (size_t i = 0; i < n; i++) {
        put(out, "<|", messages[i].role, "|>\n");
        put(out, messages[i].text, is_role(&messages[i], "assistant") ? tokens->eos : "", "\n");
    }
    put(out, "<|assistant|>\n", "", "");
}

/* What a template does with an earlier answer, where that is known. */
static enum moe_status check_answer(enum moe_chat chat, const struct moe_chat_tokens *tokens,
                                    const struct moe_message *answer, struct moe_err *err)
{
    if (chat == MOE_CHAT_CHATML && strstr(answer->text, "</think>"))
        return moe_fail(err, MOE_ERR_USAGE,
                        "an earlier answer contains '</think>', which templates of chatml treat "
                        "differently: leave out what was thought");
    if (chat == MOE_CHAT_OLMOE && !tokens->eos)
        return moe_fail(err, MOE_ERR_USAGE, "the tokenizer has no eos_token to end an answer");
    return MOE_OK;
}

static enum moe_status check_roles(enum moe_chat chat, const struct moe_chat_tokens *tokens,
                                   const struct moe_message *messages, size_t n,
                                   struct moe_err *err)
{
    bool mixtral = chat == MOE_CHAT_MIXTRAL || chat == MOE_CHAT_MIXTRAL_2023;
    size_t first = n && is_role(messages, "system");
    if (!n || !is_role(&messages[n - 1], "user"))
        return moe_fail(err, MOE_ERR_USAGE, "the last message is not the user's");
    if (chat == MOE_CHAT_NONE && n > 1)
        return moe_fail(err, MOE_ERR_USAGE, "without a chat template there is one message only");
    if (chat == MOE_CHAT_MIXTRAL_2023 && first)
        return moe_fail(err, MOE_ERR_USAGE, "this chat template has no place for a system message");
    for (size_t i = 0; i < n; i++) {
        bool user = is_role(&messages[i], "user"), assistant = is_role(&messages[i], "assistant");
        if (!user && !assistant && !is_role(&messages[i], "system"))
            return moe_fail(err, MOE_ERR_USAGE,
                            "role '%.40s' is not one of system, user, assistant", messages[i].role);
        if (mixtral && i >= first && !((i - first) % 2 ? assistant : user))
            return moe_fail(err, MOE_ERR_USAGE,
                            "message %zu is the %s's: user and assistant must alternate", i + 1,
                            messages[i].role);
        if (assistant && check_answer(chat, tokens, &messages[i], err) != MOE_OK)
            return MOE_ERR_USAGE;
    }
    return MOE_OK;
}

static void write_text(FILE *out, enum moe_chat chat, const struct moe_chat_tokens *tokens,
                       const struct moe_message *messages, size_t n)
{
    switch (chat) {
    case MOE_CHAT_NONE:
        put(out, messages[0].text, "", "");
        break;
    case MOE_CHAT_MIXTRAL:
    case MOE_CHAT_MIXTRAL_2023:
        write_mixtral(out, chat, messages, n);
        break;
    case MOE_CHAT_PHI:
        write_phi(out, messages, n);
        break;
    case MOE_CHAT_CHATML:
        write_chatml(out, messages, n);
        break;
    case MOE_CHAT_OLMOE:
        write_olmoe(out, tokens, messages, n);
        break;
    }
}

enum moe_status moe_chat_format(enum moe_chat chat, const struct moe_chat_tokens *tokens,
                                const struct moe_message *messages, size_t n, char **out,
                                struct moe_err *err)
{
    char *text = NULL;
    size_t size = 0;
    enum moe_status status = check_roles(chat, tokens, messages, n, err);
    if (status != MOE_OK)
        return status;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return moe_fail_memory(err, "a prompt");
    write_text(stream, chat, tokens, messages, n);
    bool bad = ferror(stream);
    if (fclose(stream) != 0 || bad) {
        free(text);
        return moe_fail_memory(err, "a prompt");
    }
    *out = text;
    return MOE_OK;
}
