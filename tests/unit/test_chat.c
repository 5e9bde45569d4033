#include "exec/chat.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "tokenizer_files.h"

#include <stdio.h>
#include <unistd.h>

static const char *const names[] = {"none", "mixtral", "phi", "mixtral-2023", "chatml", "olmoe"};
static const struct moe_chat_tokens no_tokens = {NULL, NULL};

/* One talk: the golden text, or a refusal where the template refuses. */
static void check_talk(enum moe_chat chat, const json_t *talk)
{
    struct moe_message messages[8];
    const json_t *list = json_object_get(talk, "messages");
    const json_t *expected = json_object_get(talk, "text");
    size_t n = json_array_size(list);
    char *text = NULL;
    struct moe_err err = {0};
    struct moe_chat_tokens tokens = {"<s>", "</s>"}; /* as in make.py */
    ck_assert_uint_le(n, 8);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(list, i);
        messages[i].role = json_string_value(json_array_get(message, 0));
        messages[i].text = json_string_value(json_array_get(message, 1));
    }
    enum moe_status s = moe_chat_format(chat, &tokens, messages, n, &text, &err);
    if (json_is_null(expected)) {
        ck_assert_int_eq(s, MOE_ERR_USAGE);
        ck_assert_ptr_null(text);
        return;
    }
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    ck_assert_str_eq(text, json_string_value(expected));
    free(text);
}

START_TEST(golden_texts)
{
    json_t *templates = read_json(GOLDEN_TOKENIZER "chat.json"), *entry, *talk;
    size_t i, k;
    ck_assert_uint_eq(json_array_size(templates), 12);
    json_array_foreach(templates, i, entry)
    {
        enum moe_chat chat = MOE_CHAT_NONE;
        struct moe_err err = {0};
        const char *text = json_string_value(json_object_get(entry, "template"));
        ck_assert_msg(moe_chat_recognise(text, &chat, &err) == MOE_OK, "%s", err.text);
        ck_assert_str_eq(names[chat], json_string_value(json_object_get(entry, "chat")));
        json_array_foreach(json_object_get(entry, "cases"), k, talk) check_talk(chat, talk);
        ck_assert_uint_ge(k, 5);
    }
    json_decref(templates);
}
END_TEST

#define QWEN3                                                                                      \
    "{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}"                       \
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}"

START_TEST(known_template)
{
    enum moe_chat chat = MOE_CHAT_NONE;
    struct moe_err err = {0};
    const char *text = QWEN3 "{{- '<|im_start|>assistant\\n' }}";
    ck_assert_int_eq(moe_chat_recognise(text, &chat, &err), MOE_OK);
    ck_assert_int_eq(chat, MOE_CHAT_CHATML);
}
END_TEST

START_TEST(unknown_templates)
{
    static const char *const texts[] = {
        "",
        "{{ '<|im_start|>' + message['role'] }}",
        /* Llama 2; Mistral with tools; blanks elsewhere; Phi-3-mini's with its BOS */
        "{{ bos_token + '[INST] ' + '<<SYS>>' + ' [/INST]' + message['content'] + eos_token }}",
        ("{{ '[AVAILABLE_TOOLS]' }}{{ ' [INST] ' + c + ' [/INST]' }}"
         "{{ ' ' + message['content'] + eos_token }}"),
        "{{ ' [INST] ' + c + ' [/INST]' }}{{ ' ' + message['content'] + ' ' + eos_token }}",
        "{{ '[INST] ' + c + ' [/INST]' }}{{ message['content'] + eos_token + ' ' }}",
        "{{ bos_token }}{{'<|user|>\\n' + c + '<|end|>\\n' + '<|assistant|>\\n'}}",
        /* Qwen3-...-Thinking-2507 and later ones; Qwen2 */
        QWEN3 "{{- '<|im_start|>assistant\\n' }}{{- '<|im_start|>assistant\\n<think>\\n' }}",
        QWEN3 "{{- '<|im_start|>assistant\\n' }}{{- '<think>\\n' }}",
        QWEN3 "{{- 'You are a helpful assistant' }}{{- '<|im_start|>assistant\\n' }}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        enum moe_chat chat = (enum moe_chat)77;
        struct moe_err err = {0};
        ck_assert_int_eq(moe_chat_recognise(texts[i], &chat, &err), MOE_ERR_UNSUPPORTED);
        ck_assert_int_eq((int)chat, 77);
    }
}
END_TEST

START_TEST(bad_messages)
{
    const struct moe_message user = {"user", "a"}, other = {"tool", "a"};
    char *text = NULL;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_chat_format(MOE_CHAT_PHI, &no_tokens, &user, 0, &text, &err),
                     MOE_ERR_USAGE);
    ck_assert_int_eq(moe_chat_format(MOE_CHAT_PHI, &no_tokens, &other, 1, &text, &err),
                     MOE_ERR_USAGE);
    struct moe_message two[] = {other, user};
    ck_assert_int_eq(moe_chat_format(MOE_CHAT_PHI, &no_tokens, two, 2, &text, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "role 'tool'"));
    two[0] = user;
    ck_assert_int_eq(moe_chat_format(MOE_CHAT_NONE, &no_tokens, two, 2, &text, &err),
                     MOE_ERR_USAGE);
    ck_assert_ptr_null(text);
    ck_assert_int_eq(moe_chat_format(MOE_CHAT_NONE, &no_tokens, two, 1, &text, &err), MOE_OK);
    ck_assert_str_eq(text, "a");
    free(text);
    /* An answer with its thoughts, which Qwen3 cuts off and its successors leave; one without EOS.
     */
    struct moe_message talk[] = {user, {"assistant", "<think>\nx\n</think>\n\nb"}, user};
    ck_assert_int_eq(moe_chat_format(MOE_CHAT_CHATML, &no_tokens, talk, 3, &text, &err),
                     MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "'</think>'"));
    ck_assert_int_eq(moe_chat_format(MOE_CHAT_OLMOE, &no_tokens, talk, 3, &text, &err),
                     MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "no eos_token"));
    ck_assert_int_eq(moe_chat_format(MOE_CHAT_OLMOE, &no_tokens, &user, 1, &text, &err), MOE_OK);
    ck_assert_str_eq(text, "<|user|>\na\n<|assistant|>\n");
    free(text);
}
END_TEST

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void check_detected(const char *dir, enum moe_status expected, enum moe_chat chat)
{
    enum moe_chat got = (enum moe_chat)77;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_chat_detect(dir, &got, &err), expected);
    ck_assert_int_eq((int)got, expected == MOE_OK ? (int)chat : 77);
}

START_TEST(folders)
{
    char dir[200];
    const char *config = "tokenizer_config.json", *jinja = "chat_template.jinja";
    temporary_folder(dir, sizeof dir);
    check_detected(dir, MOE_OK, MOE_CHAT_NONE);
    write_file(dir, config, "{}");
    check_detected(dir, MOE_OK, MOE_CHAT_NONE);
    write_file(dir, config, "{\"chat_template\": \"x\"}");
    check_detected(dir, MOE_ERR_UNSUPPORTED, MOE_CHAT_NONE);
    write_file(dir, config, "{");
    check_detected(dir, MOE_ERR_INPUT, MOE_CHAT_NONE);
    write_file(dir, config,
               "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"x\"}, {\"name\": "
               "\"default\", \"template\": \"{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ "
               "message['content'] + eos_token }}\"}]}");
    check_detected(dir, MOE_OK, MOE_CHAT_MIXTRAL_2023);
    write_file(dir, jinja, "{{'<|user|>\\n' + c + '<|end|>\\n'}}{{ '<|assistant|>\\n' }}");
    check_detected(dir, MOE_OK, MOE_CHAT_PHI);
    remove_folder(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chat");
    TCase *tcase = tcase_create("chat");
    tcase_add_test(tcase, golden_texts);
    tcase_add_test(tcase, known_template);
    tcase_add_test(tcase, unknown_templates);
    tcase_add_test(tcase, bad_messages);
    tcase_add_test(tcase, folders);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
