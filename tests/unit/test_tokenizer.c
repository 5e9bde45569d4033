#include "base/rng.h"
#include "base/utf8.h"
#include "exec/sentencepiece.h"
#include "exec/sentencepiece_check.h"
#include "exec/tokenizer_state.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "tokenizer_files.h"

#include <stdio.h>
#include <unistd.h>

static const char small_model[] = GOLDEN_TOKENIZER "tokenizer.model";

/* ---- against golden ids ---- */

static void check_ids(const struct moe_tokenizer *t, const json_t *text, const json_t *expected,
                      const char *set)
{
    int32_t *ids = NULL;
    size_t n = 0;
    struct moe_err err = {0};
    enum moe_status s = moe_tokenizer_encode(t, json_string_value(text), json_string_length(text),
                                             false, &ids, &n, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    bool same = n == json_array_size(expected);
    for (size_t i = 0; same && i < n; i++)
        same = ids[i] == (int)json_number_value(json_array_get(expected, i));
    char *want = json_dumps(expected, JSON_COMPACT), got[4096] = "";
    for (size_t i = 0; i < n && strlen(got) < sizeof got - 16; i++)
        snprintf(got + strlen(got), 16, "%d,", ids[i]);
    ck_assert_msg(same, "%s: '%s': [%s] is not %s", set, json_string_value(text), got, want);
    free(want);
    free(ids);
}

/* The text of all ids, one at a time; heap. */
static char *decode(const struct moe_tokenizer *t, const int32_t *ids, size_t n, size_t *size)
{
    char *text = malloc(n * MOE_PIECE_MAX + MOE_PIECE_MAX), buf[MOE_PIECE_MAX];
    struct moe_detokenizer d;
    *size = 0;
    ck_assert_ptr_nonnull(text);
    moe_detokenizer_init(&d, t, false);
    for (size_t i = 0; i <= n; i++) {
        size_t got = i < n ? moe_detokenizer_next(&d, ids[i], buf) : moe_detokenizer_end(&d, buf);
        ck_assert_uint_lt(got, MOE_PIECE_MAX);
        ck_assert_int_eq(buf[got], 0);
        memcpy(text + *size, buf, got);
        *size += got;
    }
    return text;
}

START_TEST(ids_of_sentencepiece)
{
    json_t *cases = read_json(GOLDEN_TOKENIZER "plain.json"), *row;
    struct moe_tokenizer *t = open_model(small_model, "{\"unk_token\": \"none\", \"bos_token\": "
                                                      "\"none\", \"eos_token\": \"none\", "
                                                      "\"add_bos_token\": false}");
    size_t i;
    ck_assert_uint_gt(json_array_size(cases), 200);
    json_array_foreach(cases, i, row)
    {
        const json_t *expected = json_array_get(row, 1), *text = json_array_get(row, 2);
        int32_t ids[1024];
        size_t n = json_array_size(expected), size = 0;
        check_ids(t, json_array_get(row, 0), expected, "plain");
        for (size_t k = 0; k < n; k++)
            ids[k] = (int32_t)json_number_value(json_array_get(expected, k));
        char *got = decode(t, ids, n, &size);
        ck_assert_uint_eq(size, json_string_length(text));
        ck_assert_mem_eq(got, json_string_value(text), size);
        free(got);
    }
    moe_tokenizer_free(t);
    json_decref(cases);
}
END_TEST

static struct moe_tokenizer_file dump(const json_t *files, const char *name)
{
    const json_t *content = json_object_get(files, name);
    char *text = content ? json_dumps(content, 0) : NULL;
    return (struct moe_tokenizer_file){text, text ? strlen(text) : 0};
}

START_TEST(ids_of_transformers)
{
    json_t *sets = read_json(GOLDEN_TOKENIZER "transformers.json"), *set, *row;
    struct file_bytes model = read_bytes(small_model);
    size_t i, k;
    ck_assert_uint_ge(json_array_size(sets), 12);
    json_array_foreach(sets, i, set)
    {
        const json_t *content = json_object_get(set, "files");
        const char *name = json_string_value(json_object_get(set, "name"));
        struct moe_tokenizer_files files = {
            .model = {model.data, model.size},
            .config = dump(content, "tokenizer_config.json"),
            .added_tokens = dump(content, "added_tokens.json"),
            .special_map = dump(content, "special_tokens_map.json"),
            .fast = dump(content, "tokenizer.json"),
        };
        struct moe_tokenizer *t = NULL;
        struct moe_err err = {0};
        ck_assert_msg(moe_tokenizer_parse(&t, &files, &err) == MOE_OK, "%s: %s", name, err.text);
        json_array_foreach(json_object_get(set, "cases"), k, row)
            check_ids(t, json_array_get(row, 0), json_array_get(row, 1), name);
        ck_assert_uint_gt(k, 70);
        ck_assert_int_eq(t->config.bos, (int)json_number_value(json_object_get(set, "bos")));
        ck_assert_int_eq(moe_tokenizer_adds_bos(t), json_is_true(json_object_get(set, "adds_bos")));
        moe_tokenizer_free(t);
        free((char *)files.config.data);
        free((char *)files.added_tokens.data);
        free((char *)files.special_map.data);
        free((char *)files.fast.data);
    }
    free(model.data);
    json_decref(sets);
}
END_TEST

/* Without tokenizer.model: Phi's ids by transformers' fast tokenizer, and all of SentencePiece's.
 */
START_TEST(ids_without_a_model)
{
    static const char bare[] = "{\"unk_token\": \"none\", \"bos_token\": \"none\", "
                               "\"eos_token\": \"none\", \"add_bos_token\": false, "
                               "\"added_tokens_decoder\": {}}";
    json_t *sets = read_json(GOLDEN_TOKENIZER "transformers.json"), *set, *row;
    json_t *cases = read_json(GOLDEN_TOKENIZER "plain.json");
    struct file_bytes fast = read_bytes(GOLDEN_TOKENIZER "fast.json");
    struct moe_tokenizer_files files = {.fast = {fast.data, fast.size}};
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    size_t i, k, n = 0;
    json_array_foreach(sets, i, set)
    {
        const char *name = json_string_value(json_object_get(set, "name"));
        if (strcmp(name, "phi as published, fast") != 0)
            continue;
        files.config = dump(json_object_get(set, "files"), "tokenizer_config.json");
        ck_assert_msg(moe_tokenizer_parse(&t, &files, &err) == MOE_OK, "%s", err.text);
        json_array_foreach(json_object_get(set, "cases"), k, row)
            check_ids(t, json_array_get(row, 0), json_array_get(row, 1), "fast.json");
        ck_assert_int_eq(t->config.bos, 1);
        moe_tokenizer_free(t);
        free((char *)files.config.data);
        n += k;
    }
    ck_assert_uint_gt(n, 70);
    files.config = (struct moe_tokenizer_file){bare, sizeof bare - 1};
    ck_assert_msg(moe_tokenizer_parse(&t, &files, &err) == MOE_OK, "%s", err.text);
    json_array_foreach(cases, i, row)
        check_ids(t, json_array_get(row, 0), json_array_get(row, 1), "fast.json, plain");
    moe_tokenizer_free(t);
    free(fast.data);
    json_decref(sets);
    json_decref(cases);
}
END_TEST

/* ---- properties ---- */

/* Random UTF-8 of n characters, any but U+2581, which stands for a space; heap. */
static char *random_text(struct moe_rng *rng, size_t n, size_t *size)
{
    static const char *const common[] = {" ", "  ", "e", "the", "\n", "\t", "A", "1", "\xc3\xa9"};
    char *text = malloc(4 * n + 1);
    ck_assert_ptr_nonnull(text);
    *size = 0;
    while (n--) {
        uint32_t c = (uint32_t)moe_rng_below(rng, 0x110000) >> moe_rng_below(rng, 16);
        if (moe_rng_below(rng, 2)) {
            const char *word = common[moe_rng_below(rng, sizeof common / sizeof *common)];
            memcpy(text + *size, word, strlen(word));
            *size += strlen(word);
        } else if ((c < 0xd800 || c > 0xdfff) && c != 0x2581) {
            static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
            size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
            for (size_t i = length; i-- > 1; c >>= 6)
                text[*size + i] = (char)(0x80 | (c & 0x3f));
            text[*size] = (char)(lead[length] | c);
            *size += length;
        }
    }
    return text;
}

static void check_round_trip(const struct moe_tokenizer *t, const char *text, size_t size)
{
    int32_t *ids = NULL;
    size_t n = 0, n_got = 0, n_whole = 0;
    char *whole = NULL;
    struct moe_err err = {0};
    enum moe_status s = moe_tokenizer_encode(t, text, size, false, &ids, &n, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    for (size_t i = 0; i < n; i++)
        ck_assert_uint_lt((uint32_t)ids[i], moe_tokenizer_size(t));
    char *got = decode(t, ids, n, &n_got);
    ck_assert_uint_eq(n_got, size);
    ck_assert(memcmp(got, text, size) == 0);
    ck_assert_int_eq(moe_spm_decode(t->spm, ids, n, &whole, &n_whole, &err), MOE_OK);
    ck_assert_uint_eq(n_got, n_whole);
    ck_assert(memcmp(got, whole, n_whole) == 0);
    free(whole);
    free(got);
    free(ids);
}

static const char mixtral_model[] = "../shared/data/tokenizers/mixtral-v1.model";

START_TEST(every_text_comes_back)
{
    static const char *const models[] = {small_model, mixtral_model};
    for (size_t m = 0; m < 2; m++) {
        struct moe_rng rng;
        moe_rng_init(&rng, 1 + m);
        if (access(models[m], R_OK) != 0) {
            printf("skipped: no %s\n", models[m]);
            continue;
        }
        struct moe_tokenizer *t = open_model(models[m], NULL);
        for (int i = 0; i < 2000; i++) {
            size_t size = 0;
            char *text = random_text(&rng, moe_rng_below(&rng, 60), &size);
            check_round_trip(t, text, size);
            free(text);
        }
        moe_tokenizer_free(t);
    }
}
END_TEST

/* Any ids, most of them bytes, in any order: SentencePiece's text, a whole character at a time. */
START_TEST(any_ids_decode_as_in_sentencepiece)
{
    struct moe_tokenizer *t = open_model(small_model, NULL);
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (int i = 0; i < 20000; i++) {
        int32_t ids[12];
        size_t n = moe_rng_below(&rng, 12), n_got = 0, n_whole = 0;
        char *whole = NULL, buf[MOE_PIECE_MAX];
        struct moe_err err = {0};
        struct moe_detokenizer d;
        for (size_t k = 0; k < n; k++)
            ids[k] = (int32_t)moe_rng_below(&rng, moe_rng_below(&rng, 4) ? 259 : 500);
        char *got = decode(t, ids, n, &n_got);
        ck_assert_int_eq(moe_spm_decode(t->spm, ids, n, &whole, &n_whole, &err), MOE_OK);
        ck_assert_uint_eq(n_got, n_whole);
        ck_assert(memcmp(got, whole, n_whole) == 0);
        moe_detokenizer_init(&d, t, true);
        for (size_t k = 0; k < n; k++) {
            size_t size = moe_detokenizer_next(&d, ids[k], buf);
            ck_assert_uint_eq(moe_utf8_prefix(buf, size), size);
        }
        free(whole);
        free(got);
    }
    moe_tokenizer_free(t);
}
END_TEST

/* ---- details ---- */

static const char phi_config[] = "{\"added_tokens_decoder\": {"
                                 "\"500\": {\"content\": \"<|end|>\", \"special\": true},"
                                 "\"600\": {\"content\": \"<tool>\", \"special\": false}},"
                                 "\"add_bos_token\": true}";

/* Id of a piece or added token by its exact text; -1: none. */
static int32_t id_of(const struct moe_tokenizer *t, const char *piece)
{
    const size_t n = strlen(piece);
    const struct moe_added_token *token = moe_added_exact(&t->config.added, piece, n);
    return token ? token->id : moe_spm_id(t->spm, piece, n);
}

static size_t next(struct moe_detokenizer *d, const struct moe_tokenizer *t, const char *piece,
                   char buf[MOE_PIECE_MAX])
{
    int32_t id = id_of(t, piece);
    ck_assert_msg(id >= 0, "no piece %s", piece);
    return moe_detokenizer_next(d, id, buf);
}

START_TEST(streaming)
{
    struct moe_tokenizer *t = open_model(small_model, phi_config);
    struct moe_detokenizer d;
    char buf[MOE_PIECE_MAX];
    ck_assert_uint_eq(moe_tokenizer_size(t), 601);
    moe_detokenizer_init(&d, t, false);
    ck_assert_uint_eq(moe_detokenizer_next(&d, 1, buf), 0); /* <s>: still at the start */
    ck_assert_uint_eq(moe_detokenizer_next(&d, -1, buf), 0);
    ck_assert_uint_eq(moe_detokenizer_next(&d, 601, buf), 0);
    ck_assert_uint_eq(moe_detokenizer_next(&d, 550, buf), 0); /* a hole */
    next(&d, t, MOE_SPM_BLANK "the", buf);
    ck_assert_str_eq(buf, "the");
    next(&d, t, MOE_SPM_BLANK "the", buf);
    ck_assert_str_eq(buf, " the");
    next(&d, t, "<|end|>", buf);
    ck_assert_str_eq(buf, "");
    next(&d, t, "<tool>", buf);
    ck_assert_str_eq(buf, "<tool>");
    d.show_special = true;
    next(&d, t, "<|end|>", buf);
    ck_assert_str_eq(buf, "<|end|>");
    next(&d, t, "</s>", buf);
    ck_assert_str_eq(buf, "");
    moe_detokenizer_init(&d, t, true);
    next(&d, t, MOE_SPM_BLANK "the", buf);
    ck_assert_str_eq(buf, " the");
    next(&d, t, "<0xE2>", buf);
    next(&d, t, "<0x82>", buf);
    ck_assert_str_eq(buf, "");
    next(&d, t, "<0xAC>", buf);
    ck_assert_str_eq(buf, "\xe2\x82\xac");
    next(&d, t, "<0xF0>", buf);
    next(&d, t, "<0x9F>", buf);
    ck_assert_str_eq(buf, "");
    next(&d, t, MOE_SPM_BLANK "the", buf);
    ck_assert_str_eq(buf, "\xef\xbf\xbd\xef\xbf\xbd the");
    next(&d, t, "<0xC3>", buf);
    ck_assert_uint_eq(moe_detokenizer_end(&d, buf), 3);
    ck_assert_str_eq(buf, "\xef\xbf\xbd");
    ck_assert_uint_eq(moe_detokenizer_end(&d, buf), 0);
    moe_tokenizer_free(t);
}
END_TEST

static void check_encoded(const struct moe_tokenizer *t, const char *text, bool bos,
                          const int32_t *expected, size_t n_expected)
{
    int32_t *ids = NULL;
    size_t n = 0;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_tokenizer_encode(t, text, strlen(text), bos, &ids, &n, &err), MOE_OK);
    ck_assert_uint_eq(n, n_expected);
    ck_assert(n == 0 || memcmp(ids, expected, n * sizeof *ids) == 0);
    free(ids);
}

START_TEST(beginning)
{
    struct moe_tokenizer *t = open_model(small_model, phi_config);
    int32_t *ids = NULL;
    size_t n = 7;
    struct moe_err err = {0};
    check_encoded(t, "", false, NULL, 0);
    check_encoded(t, "", true, (int32_t[]){1}, 1);
    check_encoded(t, "<|end|>", true, (int32_t[]){1, 500}, 2);
    check_encoded(t, "<s><|end|>", true, (int32_t[]){1, 500}, 2); /* not twice */
    ck_assert_int_eq(id_of(t, "<|end|>"), 500);
    ck_assert_int_eq(id_of(t, "</s>"), 2);
    ck_assert_int_eq(id_of(t, "no such piece"), -1);
    ck_assert_int_eq(id_of(t, ""), -1);
    ck_assert_int_eq(moe_tokenizer_encode(t, "abc\xff", 4, true, &ids, &n, &err), MOE_ERR_INPUT);
    ck_assert_str_eq(err.text, "invalid UTF-8 at byte 3");
    ck_assert_int_eq(moe_tokenizer_encode(t, "\xe2\x82", 2, true, &ids, &n, &err), MOE_ERR_INPUT);
    ck_assert_str_eq(err.text, "invalid UTF-8 at byte 0");
    ck_assert_ptr_null(ids);
    ck_assert_uint_eq(n, 7);
    moe_tokenizer_free(t);
    t = open_model(small_model, "{\"bos_token\": null}");
    ck_assert_int_eq(t->config.bos, -1);
    ck_assert(!moe_tokenizer_adds_bos(t));
    ck_assert_int_eq(moe_tokenizer_encode(t, "a", 1, true, &ids, &n, &err), MOE_ERR_USAGE);
    moe_tokenizer_free(t);
}
END_TEST

/* ---- refusals ---- */

enum which { CONFIG, ADDED, MAP, FAST };

static void refused(enum which which, const char *text, const char *expected)
{
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    struct file_bytes model = read_bytes(small_model);
    struct moe_tokenizer_file file = {text, strlen(text)}, none = {NULL, 0};
    struct moe_tokenizer_files files = {.model = {model.data, model.size},
                                        .config = which == CONFIG ? file : none,
                                        .added_tokens = which == ADDED ? file : none,
                                        .special_map = which == MAP ? file : none,
                                        .fast = which == FAST ? file : none};
    ck_assert_int_ne(moe_tokenizer_parse(&t, &files, &err), MOE_OK);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' is not in: %s", expected, err.text);
    ck_assert_ptr_null(t);
    free(model.data);
}

START_TEST(bad_configurations)
{
    refused(CONFIG, "{", "'tokenizer_config.json': not JSON");
    refused(CONFIG, "[]", "'tokenizer_config.json': not a JSON object");
    refused(CONFIG, "{\"legacy\": 1}", "'legacy' is neither true nor false");
    refused(CONFIG, "{\"bos_token\": 1}", "'bos_token' is not a token");
    refused(CONFIG, "{\"bos_token\": \"<nix>\"}", "'<nix>' is not a token of the model");
    refused(CONFIG, "{\"added_tokens_decoder\": []}", "not an object");
    refused(CONFIG, "{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}", "'x' is not a");
    refused(CONFIG, "{\"added_tokens_decoder\": {\"-1\": {\"content\": \"y\"}}}", "'-1' is not a");
    refused(CONFIG, "{\"added_tokens_decoder\": {\"7\": {}}}", "no 'content'");
    refused(CONFIG, "{\"added_tokens_decoder\": {\"7\": {\"content\": \"\"}}}", "id 7 is empty");
    refused(CONFIG,
            "{\"added_tokens_decoder\": {\"7\": {\"content\": \"y\", \"single_word\": true}}}",
            "single_word of token 'y'");
    refused(CONFIG, "{\"added_tokens_decoder\": {\"2147483646\": {\"content\": \"y\"}}}",
            "exceeds 131572");
    refused(
        CONFIG,
        "{\"added_tokens_decoder\": {\"7\": {\"content\": \"y\"}, \"07\": {\"content\": \"z\"}}}",
        "id 7 stands for two tokens");
    refused(
        CONFIG,
        "{\"added_tokens_decoder\": {\"7\": {\"content\": \"y\"}, \"8\": {\"content\": \"y\"}}}",
        "token 'y' has two ids, ");
    refused(CONFIG, "{\"additional_special_tokens\": [1]}", "entry 0 is not a token");
    refused(ADDED, "{\"y\": 500, \"z\": 500}", "id 500 stands for two tokens");
    refused(ADDED, "{\"y\": \"500\"}", "'added_tokens.json': id of an added token is not a number");
    refused(ADDED, "{\"y\": 9223372036854775808}", "is outside 0..2147483647");
    refused(ADDED, "{\"\": 500}", "id 500 is empty");
    refused(MAP, "x", "'special_tokens_map.json': not JSON");
    refused(FAST, "x", "'tokenizer.json': not JSON");
    refused(FAST, "{\"added_tokens\": [{\"content\": \"y\"}]}", "id of an added token");
}
END_TEST

/* fast.json with its first `from` replaced by `to` is no substitute for a model. */
static void no_substitute(const char *from, const char *to, const char *expected)
{
    struct file_bytes fast = read_bytes(GOLDEN_TOKENIZER "fast.json");
    char *text = calloc(fast.size + 200, 1), *at = strstr(fast.data, from);
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    ck_assert_ptr_nonnull(text);
    ck_assert_msg(at != NULL, "no '%s'", from);
    snprintf(text, fast.size + 200, "%.*s%s%s", (int)(at - fast.data), fast.data, to,
             at + strlen(from));
    struct moe_tokenizer_files files = {.fast = {text, strlen(text)}};
    ck_assert_int_ne(moe_tokenizer_parse(&t, &files, &err), MOE_OK);
    ck_assert_msg(strstr(err.text, "'tokenizer.json' is no substitute: ") != NULL &&
                      strstr(err.text, expected) != NULL,
                  "'%s' instead of '%s'", err.text, expected);
    free(text);
    free(fast.data);
}

START_TEST(bad_substitutes)
{
    no_substitute("\"BPE\"", "\"Unigram\"", "model.type \"Unigram\" is not supported (BPE is)");
    no_substitute("\"byte_fallback\":true", "\"byte_fallback\":false", "byte_fallback false");
    no_substitute("\"ignore_merges\":false", "\"ignore_merges\":true", "ignore_merges true");
    no_substitute("\"pre_tokenizer\":null", "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}",
                  "pre_tokenizer {\"type\"");
    no_substitute("\"Prepend\"", "\"NFC\"", "normalizer {");
    no_substitute("{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"}",
                  "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}",
                  "one Prepend and one Replace are");
    no_substitute("\"unk_token\":\"<unk>\"", "\"unk_token\":\"<what>\"", "'<what>' is not a piece");
    no_substitute("\"unk_token\":\"<unk>\"", "\"unk_token\":null", "missing key unk_token");
    no_substitute("\"</s>\":2,", "\"</s>\":1,", "vocab: id 1 of both '<s>' and '</s>'");
    no_substitute("\"</s>\":2,", "\"</s>\":500,", "id of a piece 500 is outside 0..499");
    no_substitute("\"merges\":[", "\"merges\":[[\"e\",\"zzz\"],",
                  "merge 0 to 'ezzz' does not join two pieces");
    no_substitute("\"merges\":[", "\"merges\":[\"ezzz\",", "merge 0 is not two pieces");
    no_substitute("\"merges\":[", "\"merge\":[", "missing list merges");
    no_substitute("\"vocab\":{", "\"words\":{", "missing object vocab");
    no_substitute("\"</s>\":2", "\"</s>\":2,\"qqqq\":500", "piece 'qqqq' has 0 merges, 0 pairs");
}
END_TEST

START_TEST(bad_models)
{
    struct file_bytes model = read_bytes(small_model);
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    for (size_t size = 0; size < model.size; size += 1 + moe_rng_below(&rng, 40)) {
        struct moe_tokenizer_files files = {.model = {model.data, size}};
        enum moe_status s = moe_tokenizer_parse(&t, &files, &err);
        if (s != MOE_OK) {
            ck_assert_msg(strncmp(err.text, "'tokenizer.model': ", 19) == 0, "%s", err.text);
            continue;
        }
        moe_tokenizer_free(t); /* cut between two fields of the end */
        ck_assert_uint_gt(size, model.size / 2);
    }
    free(model.data);
}
END_TEST

#define CHECK_MODEL(bytes, expected)                                                               \
    ck_assert_int_eq(moe_spm_check(bytes, sizeof(bytes) - 1, &err), expected)

/* Framing by hand, and tables of characters, which SentencePiece would read past their ends. */
START_TEST(model_framing)
{
    struct moe_err err = {0};
    CHECK_MODEL("", MOE_OK);
    CHECK_MODEL("\x1a\x02\x12\x00", MOE_OK); /* normalizer_spec, an empty table */
    CHECK_MODEL("\x1a\x03\x12\x01x", MOE_ERR_UNSUPPORTED);
    CHECK_MODEL("\x1a\x00\x2a\x03\x12\x01x", MOE_ERR_UNSUPPORTED); /* denormalizer_spec */
    CHECK_MODEL("\x12\x03\x12\x01x", MOE_OK);                      /* trainer_spec */
    CHECK_MODEL("\x1a\x02\x18\x01\x1a\x05\x18\x00\x12\x01x", MOE_ERR_UNSUPPORTED);
    CHECK_MODEL("\x1a\x03\x12\x02x", MOE_ERR_INPUT); /* longer than what it lies in */
    CHECK_MODEL("\x1a\x04\x12\x01x", MOE_ERR_INPUT);
    CHECK_MODEL("\x1a", MOE_ERR_INPUT);
    CHECK_MODEL("\x0b\x0c", MOE_ERR_INPUT); /* a group */
    CHECK_MODEL("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", MOE_OK);
    CHECK_MODEL("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", MOE_ERR_INPUT);
    CHECK_MODEL("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", MOE_ERR_INPUT);
    CHECK_MODEL("\x0d\x01\x02\x03\x04\x09\x01\x02\x03\x04\x05\x06\x07\x08", MOE_OK);
    CHECK_MODEL("\x0d\x01\x02\x03", MOE_ERR_INPUT);
    CHECK_MODEL("\x09\x01\x02\x03\x04\x05\x06\x07", MOE_ERR_INPUT);
}
END_TEST

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

START_TEST(folders)
{
    char dir[200], path[256];
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_tokenizer_open(&t, "tests/golden/tokenizer", &err), MOE_OK);
    ck_assert_int_eq(t->config.bos, 1);
    moe_tokenizer_free(t);
    t = NULL;
    ck_assert_int_eq(moe_tokenizer_open(&t, "nowhere", &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "'nowhere': no tokenizer.model, no tokenizer.json");
    temporary_folder(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    write_file(path, "{}");
    ck_assert_int_eq(moe_tokenizer_open(&t, dir, &err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "': no tokenizer.model, and 'tokenizer.json' is no "
                                           "substitute: missing object model"));
    remove(path);
    snprintf(path, sizeof path, "%s/tokenizer.model", dir);
    write_file(path, "nonsense");
    ck_assert_int_eq(moe_tokenizer_open(&t, dir, &err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "'tokenizer.model': "));
    ck_assert_ptr_null(t);
    remove_folder(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *tcase = tcase_create("tokenizer");
    tcase_add_test(tcase, ids_of_sentencepiece);
    tcase_add_test(tcase, ids_of_transformers);
    tcase_add_test(tcase, ids_without_a_model);
    tcase_add_test(tcase, bad_substitutes);
    tcase_add_test(tcase, every_text_comes_back);
    tcase_add_test(tcase, any_ids_decode_as_in_sentencepiece);
    tcase_add_test(tcase, streaming);
    tcase_add_test(tcase, beginning);
    tcase_add_test(tcase, bad_configurations);
    tcase_add_test(tcase, bad_models);
    tcase_add_test(tcase, model_framing);
    tcase_add_test(tcase, folders);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
