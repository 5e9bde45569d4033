/* Byte-level BPE: ids and texts of transformers' fast tokenizers, refusals, long words. */
#include "base/utf8.h"
#include "exec/compose.h"
#include "exec/tokenizer_state.h"
#include "exec/word_pattern.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "tokenizer_files.h"

#include <stdio.h>

static struct file_bytes kind_file(const char *kind)
{
    char path[200];
    snprintf(path, sizeof path, GOLDEN_TOKENIZER "bytes-%s.json", kind);
    return read_bytes(path);
}

static struct moe_tokenizer *open_kind(const char *kind, const char *config)
{
    struct file_bytes fast = kind_file(kind);
    struct moe_tokenizer_files files = {.fast = {fast.data, fast.size},
                                        .config = {config, config ? strlen(config) : 0}};
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    ck_assert_msg(moe_tokenizer_parse(&t, &files, &err) == MOE_OK, "%s", err.text);
    free(fast.data);
    return t;
}

/* ---- against transformers ---- */

static void check_case(const struct moe_tokenizer *t, const json_t *row, const char *config)
{
    const json_t *text = json_array_get(row, 0), *expected = json_array_get(row, 1);
    int32_t *ids = NULL;
    size_t n = 0;
    struct moe_err err = {0};
    enum moe_status s = moe_tokenizer_encode(t, json_string_value(text), json_string_length(text),
                                             false, &ids, &n, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    bool same = n == json_array_size(expected);
    for (size_t i = 0; same && i < n; i++)
        same = ids[i] == (int)json_number_value(json_array_get(expected, i));
    ck_assert_msg(same, "%s: '%s': %zu ids", config, json_string_value(text), n);
    free(ids);
}

/* Appends got bytes, several U+FFFD in a row as one: their number differs (exec/tokenizer.h). */
static void append_text(char *text, size_t *size, const char *got, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool again = *size >= 3 && n - i >= 3 && memcmp(text + *size - 3, "\xef\xbf\xbd", 3) == 0 &&
                     memcmp(got + i, "\xef\xbf\xbd", 3) == 0;
        if (again)
            i += 2;
        else
            text[(*size)++] = got[i];
    }
}

static void check_decoded(const struct moe_tokenizer *t, const int32_t *ids, size_t n,
                          const json_t *expected)
{
    char text[8192], want[8192], buf[MOE_PIECE_MAX];
    size_t size = 0, n_want = 0;
    struct moe_detokenizer d;
    moe_detokenizer_init(&d, t, n % 2);
    for (size_t i = 0; i <= n; i++) {
        size_t got = i < n ? moe_detokenizer_next(&d, ids[i], buf) : moe_detokenizer_end(&d, buf);
        ck_assert_uint_eq(moe_utf8_prefix(buf, got), got);
        ck_assert_int_eq(buf[got], 0);
        ck_assert_uint_lt(size + got, sizeof text);
        append_text(text, &size, buf, got);
    }
    append_text(want, &n_want, json_string_value(expected), json_string_length(expected));
    ck_assert_msg(size == n_want && memcmp(text, want, size) == 0, "ids %d...: '%.*s', not '%.*s'",
                  ids[0], (int)size, text, (int)n_want, want);
}

static void check_texts(const struct moe_tokenizer *t, const json_t *set)
{
    const json_t *alone = json_object_get(set, "alone"), *row;
    size_t i, k;
    ck_assert_uint_eq(json_array_size(alone), moe_tokenizer_size(t));
    for (int32_t id = 0; id < (int32_t)json_array_size(alone); id++)
        check_decoded(t, &id, 1, json_array_get(alone, (size_t)id));
    json_array_foreach(json_object_get(set, "decoded"), i, row)
    {
        int32_t ids[16];
        const json_t *list = json_array_get(row, 0);
        for (k = 0; k < json_array_size(list); k++)
            ids[k] = (int32_t)json_number_value(json_array_get(list, k));
        check_decoded(t, ids, k, json_array_get(row, 1));
    }
    ck_assert_uint_eq(i, 100);
}

START_TEST(ids_and_texts_of_transformers)
{
    json_t *sets = read_json(GOLDEN_TOKENIZER "bytes.json"), *set, *row;
    size_t i, k;
    ck_assert_uint_eq(json_array_size(sets), 9);
    json_array_foreach(sets, i, set)
    {
        char *config = json_dumps(json_object_get(set, "config"), 0);
        struct moe_tokenizer *t =
            open_kind(json_string_value(json_object_get(set, "kind")), config);
        json_array_foreach(json_object_get(set, "cases"), k, row) check_case(t, row, config);
        ck_assert_uint_ge(k, 160);
        check_texts(t, set);
        ck_assert_int_eq(moe_tokenizer_adds_bos(t), json_is_true(json_object_get(set, "adds_bos")));
        if (moe_tokenizer_adds_bos(t))
            ck_assert_int_eq(t->config.bos, (int)json_number_value(json_object_get(set, "bos")));
        moe_tokenizer_free(t);
        free(config);
    }
    json_decref(sets);
}
END_TEST

/* ---- details ---- */

START_TEST(special_tokens)
{
    struct moe_tokenizer *t = open_kind("qwen", "{\"eos_token\": \"<think>\"}");
    struct moe_detokenizer d;
    char buf[MOE_PIECE_MAX];
    const int32_t end = moe_added_exact(&t->config.added, "<|im_end|>", 10)->id;
    const int32_t think = moe_added_exact(&t->config.added, "<think>", 7)->id;
    ck_assert_ptr_null(moe_tokenizer_bos(t));
    ck_assert_str_eq(moe_tokenizer_eos(t), "<think>");
    moe_detokenizer_init(&d, t, false);
    ck_assert_uint_eq(moe_detokenizer_next(&d, end, buf), 0);
    ck_assert_uint_eq(moe_detokenizer_next(&d, think, buf), 0); /* special, as it has a part */
    ck_assert_uint_eq(moe_detokenizer_next(&d, -1, buf), 0);
    ck_assert_uint_eq(moe_detokenizer_next(&d, 1 << 30, buf), 0);
    d.show_special = true;
    ck_assert_uint_eq(moe_detokenizer_next(&d, end, buf), 10);
    ck_assert_str_eq(buf, "<|im_end|>");
    moe_tokenizer_free(t);
}
END_TEST

START_TEST(beginning)
{
    struct moe_tokenizer *t = open_kind("llama", "{}");
    int32_t *ids = NULL;
    size_t n = 0;
    struct moe_err err = {0};
    ck_assert(moe_tokenizer_adds_bos(t));
    ck_assert_int_eq(moe_tokenizer_encode(t, "", 0, true, &ids, &n, &err), MOE_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(ids[0], t->config.bos);
    free(ids);
    ck_assert_int_eq(moe_tokenizer_encode(t, "<|endoftext|>", 13, true, &ids, &n, &err), MOE_OK);
    ck_assert_uint_eq(n, 1); /* not twice */
    free(ids);
    ck_assert_int_eq(moe_tokenizer_encode(t, "a\xff", 2, true, &ids, &n, &err), MOE_ERR_INPUT);
    ck_assert_str_eq(err.text, "invalid UTF-8 at byte 1");
    moe_tokenizer_free(t);
    t = open_kind("qwen", NULL);
    ck_assert(!moe_tokenizer_adds_bos(t));
    ck_assert_int_eq(moe_tokenizer_encode(t, "a", 1, true, &ids, &n, &err), MOE_ERR_USAGE);
    moe_tokenizer_free(t);
}
END_TEST

/* A word of a megabyte: were merging quadratic, this would take hours. */
START_TEST(long_words)
{
    enum { N = 1 << 20 };
    static const char *const parts[] = {"a", "the", " ", "\n", "\xcc\x81", "1"};
    struct moe_tokenizer *t = open_kind("qwen", NULL);
    char *text = malloc(N + 4), buf[MOE_PIECE_MAX];
    ck_assert_ptr_nonnull(text);
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        const size_t length = strlen(parts[k]), size = N / length * length;
        int32_t *ids = NULL;
        size_t n = 0, at = 0;
        struct moe_err err = {0};
        struct moe_detokenizer d;
        for (size_t i = 0; i < size; i += length)
            memcpy(text + i, parts[k], length);
        enum moe_status s = moe_tokenizer_encode(t, text, size, false, &ids, &n, &err);
        ck_assert_msg(s == MOE_OK, "%s", err.text);
        moe_detokenizer_init(&d, t, true);
        for (size_t i = 0; i < n; i++) {
            size_t got = moe_detokenizer_next(&d, ids[i], buf);
            ck_assert(got <= size - at && memcmp(text + at, buf, got) == 0);
            at += got;
        }
        ck_assert_uint_eq(at, size);
        free(ids);
    }
    free(text);
    moe_tokenizer_free(t);
}
END_TEST

/* ---- refusals ---- */

/* The file of a kind with its first `from` replaced by `to`, and a tokenizer_config.json. */
static void check_refused(const char *kind, const char *from, const char *to, const char *config,
                          const char *expected)
{
    struct file_bytes fast = kind_file(kind);
    const size_t room = fast.size + strlen(to) + 1;
    char *text = malloc(room), *at = strstr(fast.data, from);
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    ck_assert(text && at);
    snprintf(text, room, "%.*s%s%s", (int)(at - fast.data), fast.data, to, at + strlen(from));
    struct moe_tokenizer_files files = {.fast = {text, strlen(text)},
                                        .config = {config, strlen(config)}};
    ck_assert_int_ne(moe_tokenizer_parse(&t, &files, &err), MOE_OK);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' is not in: %s", expected, err.text);
    ck_assert_ptr_null(t);
    free(text);
    free(fast.data);
}

/* OLMoE's vocabulary lacks the bytes that no UTF-8 has. */
START_TEST(bytes_without_a_piece)
{
    struct file_bytes fast = kind_file("llama");
    struct moe_tokenizer_files files = {.fast = {fast.data, fast.size}};
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    char *at = strstr(fast.data, "\"\\u00c0\":"); /* 0xC0; now a second spelling of nothing */
    ck_assert_ptr_nonnull(at);
    memcpy(at, "\"\\u00a0\":", 9);
    ck_assert_int_eq(moe_tokenizer_parse(&t, &files, &err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "stands for no byte"));
    memcpy(at, "\"<l>\"   :", 9); /* an added token, of another id */
    ck_assert_int_eq(moe_tokenizer_parse(&t, &files, &err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "token '<l>' has two ids"));
    memcpy(at, "\"zqz\"   :", 9);
    ck_assert_msg(moe_tokenizer_parse(&t, &files, &err) == MOE_OK, "%s", err.text);
    moe_tokenizer_free(t);
    free(fast.data);
}
END_TEST

static enum moe_status note_word(void *context, const char *word, size_t n, struct moe_err *err)
{
    char *to = context;
    const size_t at = strlen(to);
    (void)err;
    snprintf(to + at, 64 - at, "[%.*s]", (int)n, word);
    return MOE_OK;
}

START_TEST(words)
{
    struct moe_word_pattern *pattern = NULL;
    struct moe_err err = {0};
    char text[64] = "";
    ck_assert_int_eq(moe_word_pattern_new(&pattern, "b+", &err), MOE_OK);
    ck_assert_int_eq(moe_word_pattern_cut(pattern, "abbac", 5, note_word, text, &err), MOE_OK);
    ck_assert_str_eq(text, "[a][bb][ac]");
    moe_word_pattern_free(pattern);
    ck_assert_int_eq(moe_word_pattern_new(&pattern, "(", &err), MOE_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "PCRE2 cannot handle a pattern: "));
    /* More steps than any text may take. */
    static char many[40000];
    memset(many, 'a', sizeof many);
    memcpy(many + sizeof many - 2, "cb", 2);
    ck_assert_int_eq(moe_word_pattern_new(&pattern, "(a|aa)+(a|aa)+(a|aa)+b", &err), MOE_OK);
    ck_assert_int_eq(moe_word_pattern_cut(pattern, many, sizeof many, note_word, text, &err),
                     MOE_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "PCRE2 cannot handle a text: "));
    moe_word_pattern_free(pattern);
}
END_TEST

static void refused(const char *from, const char *to, const char *expected)
{
    check_refused("qwen", from, to, "{}", expected);
}

START_TEST(other_kinds)
{
    refused("\"dropout\":null", "\"dropout\":0.1", "'tokenizer.json': dropout 0.1");
    refused("\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"",
            "continuing_subword_prefix \"##\"");
    refused("\"type\":\"NFC\"", "\"type\":\"NFKC\"", "normalizer {\"type\":\"NFKC\"}");
    refused("\"Isolated\"", "\"MergedWithNext\"", "behavior Isolated, not inverted, is");
    refused("\"invert\":false", "\"invert\":true", "behavior Isolated, not inverted, is");
    refused("|\\\\p{N}|", "|\\\\p{N}{1,4}|", "pre_tokenizer: pattern {\"Regex\":\"(?i:'s");
    refused("\"use_regex\":false", "\"use_regex\":true", "pre_tokenizer {");
    refused("\"type\":\"Split\"", "\"type\":\"Digits\"", "pre_tokenizer {");
    refused("\"post_processor\":{\"type\":\"ByteLevel\"",
            "\"post_processor\":{\"type\":\"RobertaProcessing\"", "post_processor {");
    check_refused("llama", "\"single\":[{\"SpecialToken\"", "\"single\":[{\"Token\"", "{}",
                  "post_processor: single {\"Token\"");
    check_refused("olmoe", "\"use_regex\":true", "\"use_regex\":false", "{}",
                  "ByteLevel alone with use_regex is");
}
END_TEST

START_TEST(broken_pieces)
{
    refused("\"!\":0", "\"!\":1", "vocab: id 1 of both '!' and '\"'");
    refused("\"!\":0", "\"!\":1.5", "vocab: id of a piece 1.5 is not a whole number");
    refused("\"!\":0", "\"!\":-1", "vocab: id of a piece -1 is outside 0..");
    refused("\"!\":0", "\"!\":9000000", "id of a piece 9000000 is outside 0..131611");
    refused("\"!\":0", "\"! \":0", "vocab: '! ' has a character that stands for no byte");
    refused("\"!\":0", "\"\xe4\xb8\x96\":0", "has a character that stands for no byte");
    refused("\"!\":0", "\"\xc5\x84\":0", "has a character that stands for no byte"); /* U+0144 */
    refused("\"!\":0", "\"!!!\":0", "vocab: no piece for byte 0x21");
    refused("\"!\":0", "\"\":0", "vocab: the piece of id 0 is empty");
    refused("\"vocab\":{", "\"words\":{", "missing object vocab");
    refused("\"merges\":[", "\"merge\":[", "missing list merges");
    refused("\"merges\":[", "\"merges\":[\"!!\",", "merge 0 is not two pieces of at most");
    refused("\"merges\":[", "\"merges\":[\"! ! !\",", "merge 0 is not two pieces of at most");
    refused("\"merges\":[", "\"merges\":[[\"!\"],", "merge 0 is not two pieces of at most");
    refused("\"merges\":[", "\"merges\":[7,", "merge 0 is not two pieces of at most");
    refused("\"merges\":[", "\"merges\":[\"! zzz\",", "merge 0 to '!zzz' does not join two pieces");
    refused("\"merges\":[[", "\"merges\":[[\"h\",\"e\"],[\"h\",\"e\"],[",
            "merges 0 and 1 are the same");
    char longest[1500] = "\"!\":0,\"";
    memset(longest + strlen(longest), 'x', 641);
    snprintf(longest + strlen(longest), 16, "\":20000");
    refused("\"!\":0", longest, "vocab: piece 20000 has 641 bytes, limit 640");
}
END_TEST

START_TEST(broken_tokens)
{
    refused("\"content\":\"<think>\"", "\"content\":\"\"", "has 0 bytes, not 1 to 640");
    refused("\"content\":\"<think>\"", "\"content\":\"he\"", "token 'he' has two ids, ");
    refused("\"id\":540", "\"id\":5", "id 5 of token '<|endoftext|>' is a piece's");
    refused("\"id\":540", "\"id\":541", "id 541 stands for two tokens");
    refused("\"id\":540", "\"id\":900000", "exceeds ");
    refused("\"single_word\":false", "\"single_word\":true", "single_word of token");
    check_refused("qwen", "{", "{", "{\"added_tokens_decoder\": {\"1\": {\"content\": \"<n>\"}}}",
                  "token '<n>' of id 1 is not in tokenizer.json");
    check_refused("qwen", "{", "{", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"<n>\"}}}",
                  "'x' is not a token id");
    check_refused("qwen", "{", "{", "{\"added_tokens_decoder\": 1}", "is not an object");
    check_refused("qwen", "{", "{", "{\"eos_token\": 1}", "'eos_token' is not a token");
    check_refused("qwen", "{", "{", "{\"add_prefix_space\": 1}", "neither true nor false");
    check_refused("qwen", "{", "{", "{\"additional_special_tokens\": [1]}", "entry 0 is not a");
    check_refused("qwen", "{", "{", "x", "'tokenizer_config.json': not JSON");
    check_refused("qwen", "{", "{",
                  "{\"tokenizer_class\": \"GPTNeoXTokenizer\", \"bos_token\": \"<none>\", "
                  "\"add_bos_token\": true}",
                  "'<none>', which begins a text, is no token");
}
END_TEST

START_TEST(folders)
{
    char dir[200], path[256];
    static const char *const names[] = {"vocab.json", "merges.txt"};
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    temporary_folder(dir, sizeof dir);
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        FILE *f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        fclose(f);
    }
    ck_assert_int_eq(moe_tokenizer_open(&t, dir, &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "no tokenizer.json (vocab.json and merges.txt do not"));
    remove_folder(dir);
}
END_TEST

/* ---- without the libraries ---- */

START_TEST(libraries_that_lack)
{
    struct moe_word_pattern *pattern = NULL;
    struct file_bytes fast = kind_file("qwen");
    struct moe_tokenizer_files files = {.fast = {fast.data, fast.size}};
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    bool cuts = moe_word_pattern_new(&pattern, "a", &err) == MOE_OK;
    moe_word_pattern_free(pattern);
    if (cuts)
        ck_assert_int_ne(moe_compose_check(&err), MOE_OK);
    ck_assert_int_eq(moe_tokenizer_parse(&t, &files, &err), MOE_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "-dev and build again"));
    free(fast.data);
}
END_TEST

int main(void)
{
    struct moe_word_pattern *pattern = NULL;
    Suite *suite = suite_create("tokenizer_bytes");
    TCase *tcase = tcase_create("tokenizer_bytes");
    bool whole =
        moe_compose_check(NULL) == MOE_OK && moe_word_pattern_new(&pattern, "a", NULL) == MOE_OK;
    moe_word_pattern_free(pattern);
    if (whole) {
        tcase_add_test(tcase, ids_and_texts_of_transformers);
        tcase_add_test(tcase, special_tokens);
        tcase_add_test(tcase, beginning);
        tcase_add_test(tcase, long_words);
        tcase_add_test(tcase, bytes_without_a_piece);
        tcase_add_test(tcase, words);
        tcase_add_test(tcase, other_kinds);
        tcase_add_test(tcase, broken_pieces);
        tcase_add_test(tcase, broken_tokens);
    } else {
        tcase_add_test(tcase, libraries_that_lack);
    }
    tcase_add_test(tcase, folders);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
