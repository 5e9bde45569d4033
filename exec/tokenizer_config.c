#include "exec/tokenizer_config.h"

#include "base/units.h"
#include "exec/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ID_ABOVE_PIECES = 1 << 17 }; /* ids may have holes and padding, but never so many */

struct parser {
    const struct moe_spm *spm;
    const char *name; /* of the file being read */
    struct moe_tokenizer_config *config;
    json_t *main, *map; /* tokenizer_config.json; special_tokens_map.json if used, else NULL */
};

static enum moe_status parse_json(const char *name, const struct moe_tokenizer_file *file,
                                  json_t **out, struct moe_err *err)
{
    if (file->data && moe_json_parse(file->data, file->size, out, err) != MOE_OK)
        return moe_fail_prefix(err, "'%s'", name);
    return MOE_OK;
}

enum moe_status moe_tokenizer_flag(const char *name, const json_t *object, const char *key,
                                   bool *value, struct moe_err *err)
{
    const json_t *flag = moe_json_get(object, key);
    if (!flag)
        return MOE_OK;
    if (!json_is_boolean(flag))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s' is neither true nor false", name, key);
    *value = json_is_true(flag);
    return MOE_OK;
}

static int32_t n_pieces(const struct parser *p)
{
    return p->spm ? moe_spm_size(p->spm) : 0;
}

static enum moe_status push(struct parser *p, struct moe_added_token *token, uint64_t id,
                            struct moe_err *err)
{
    uint64_t most = (uint64_t)n_pieces(p) + MAX_ID_ABOVE_PIECES;
    token->n = strlen(token->text);
    if (!token->n)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': the token of id %" PRIu64 " is empty", p->name,
                        id);
    if (token->n > MOE_TOKEN_TEXT_MAX)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': the token of id %" PRIu64 " has %zu bytes, limit %d", p->name, id,
                        token->n, MOE_TOKEN_TEXT_MAX);
    if (id > most || id > INT32_MAX - 1)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': id %" PRIu64 " of token '%.100s' exceeds %" PRIu64
                        " (the model has %d pieces)",
                        p->name, id, token->text, most, n_pieces(p));
    token->id = (int32_t)id;
    if (moe_added_push(&p->config->added, token, err) != MOE_OK)
        return moe_fail_prefix(err, "'%s'", p->name);
    return MOE_OK;
}

const char *moe_tokenizer_token_text(const json_t *value)
{
    const json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;
    return json_string_value(text);
}

enum moe_status moe_tokenizer_token(const char *name, const json_t *value,
                                    struct moe_added_token *token, struct moe_err *err)
{
    bool single_word = false;
    *token = (struct moe_added_token){.text = (char *)moe_tokenizer_token_text(value)};
    if (!token->text)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': an added token has no 'content'", name);
    enum moe_status status = moe_tokenizer_flag(name, value, "lstrip", &token->lstrip, err);
    if (status == MOE_OK)
        status = moe_tokenizer_flag(name, value, "rstrip", &token->rstrip, err);
    if (status == MOE_OK)
        status = moe_tokenizer_flag(name, value, "special", &token->special, err);
    if (status == MOE_OK)
        status = moe_tokenizer_flag(name, value, "single_word", &single_word, err);
    token->normalized = !token->special; /* where it is not told */
    if (status == MOE_OK)
        status = moe_tokenizer_flag(name, value, "normalized", &token->normalized, err);
    if (status == MOE_OK && single_word)
        status = moe_fail(err, MOE_ERR_UNSUPPORTED, "'%s': single_word of token '%s'", name,
                          token->text);
    return status;
}

/* tokenizer_config.json: {"32010": {...}, ...} */
static enum moe_status read_decoder(struct parser *p, json_t *decoder, struct moe_err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(decoder))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': 'added_tokens_decoder' is not an object",
                        p->name);
    json_object_foreach(decoder, key, value)
    {
        struct moe_added_token token;
        uint64_t id = 0;
        if (moe_parse_u64(key, 0, INT32_MAX, &id, NULL) != MOE_OK)
            return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s' is not a token id", p->name, key);
        enum moe_status status = moe_tokenizer_token(p->name, value, &token, err);
        if (status == MOE_OK)
            status = push(p, &token, id, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

/* tokenizer.json: [{"id": 32010, "content": ...}, ...] */
static enum moe_status read_fast_tokens(struct parser *p, const json_t *list, struct moe_err *err)
{
    size_t i;
    json_t *value;
    json_array_foreach(list, i, value)
    {
        struct moe_added_token token;
        uint64_t id = 0;
        enum moe_status status = moe_tokenizer_token(p->name, value, &token, err);
        if (status == MOE_OK && moe_json_u64(json_object_get(value, "id"), "id of an added token",
                                             0, INT32_MAX, &id, err) != MOE_OK)
            status = moe_fail_prefix(err, "'%s'", p->name);
        if (status == MOE_OK)
            status = push(p, &token, id, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

/* added_tokens.json: {"<|user|>": 32010, ...} */
static enum moe_status read_plain_tokens(struct parser *p, json_t *object, struct moe_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        struct moe_added_token token = {.text = (char *)key};
        uint64_t id = 0;
        if (moe_json_u64(value, "id of an added token", 0, INT32_MAX, &id, err) != MOE_OK)
            return moe_fail_prefix(err, "'%s'", p->name);
        enum moe_status status = push(p, &token, id, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

/* ---- tokens by their part: bos_token and so on ---- */

static const struct {
    const char *key, *fallback;
} parts[] = {
    {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", NULL},
    {"sep_token", NULL},  {"cls_token", NULL},   {"mask_token", NULL},
};

/* The value of a part in the files, first in the map if that is used. */
static const json_t *part_value(const struct parser *p, const char *key)
{
    const json_t *value = json_object_get(p->map, key);
    return value ? value : json_object_get(p->main, key);
}

/* The id of a text among the first n added tokens, which are sorted, or among the model's pieces;
 * -1: none. */
static int32_t find_id(const struct parser *p, size_t n, const char *text)
{
    struct moe_added_tokens sorted = p->config->added;
    sorted.n = n;
    const struct moe_added_token *token = moe_added_exact(&sorted, text, strlen(text));
    if (token)
        return token->id;
    return p->spm ? moe_spm_id(p->spm, text, strlen(text)) : -1;
}

static enum moe_status push_named(struct parser *p, const json_t *value, const char *text,
                                  size_t n_sorted, struct moe_err *err)
{
    struct moe_added_token token = {.text = (char *)text};
    int32_t id = find_id(p, n_sorted, text);
    if (id < 0)
        return MOE_OK;
    if (json_is_object(value)) {
        enum moe_status status = moe_tokenizer_token(p->name, value, &token, err);
        if (status != MOE_OK)
            return status;
    }
    token.named = token.special = true;
    return push(p, &token, (uint64_t)id, err);
}

static enum moe_status read_additional(struct parser *p, size_t n_sorted, struct moe_err *err)
{
    const json_t *list = part_value(p, "additional_special_tokens");
    size_t i;
    json_t *value;
    json_array_foreach(list, i, value)
    {
        const char *text = moe_tokenizer_token_text(value);
        if (!text)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s': additional_special_tokens: entry %zu is not a token", p->name,
                            i);
        enum moe_status status = push_named(p, value, text, n_sorted, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

/* *text: the token's text for part i, or NULL; valid as long as the JSON. */
static enum moe_status part_text(const struct parser *p, size_t i, const char **text,
                                 struct moe_err *err)
{
    const json_t *value = part_value(p, parts[i].key);
    *text = value ? moe_tokenizer_token_text(value) : parts[i].fallback;
    if (value && !*text && !json_is_null(value))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s' is not a token", p->name, parts[i].key);
    return MOE_OK;
}

static enum moe_status read_named(struct parser *p, struct moe_err *err)
{
    size_t n_sorted = p->config->added.n;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *text = NULL;
        enum moe_status status = part_text(p, i, &text, err);
        if (status == MOE_OK && text)
            status = push_named(p, part_value(p, parts[i].key), text, n_sorted, err);
        if (status != MOE_OK)
            return status;
    }
    return read_additional(p, n_sorted, err);
}

/* ---- the rest ---- */

static bool has_type(const json_t *object, const char *type)
{
    const char *told = json_string_value(json_object_get(object, "type"));
    return told && strcmp(told, type) == 0;
}

static bool has_prepend(const json_t *normalizer)
{
    bool found = has_type(normalizer, "Prepend");
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(normalizer, "normalizers"), i, part) found =
        found || has_type(part, "Prepend");
    return found;
}

/* Takes the prefix settings from tokenizer.json, if it has them. */
static void read_fast_prefix(struct moe_tokenizer_config *config, const json_t *fast)
{
    const json_t *splitter = json_object_get(fast, "pre_tokenizer");
    const char *scheme = json_string_value(json_object_get(splitter, "prepend_scheme"));
    if (has_prepend(json_object_get(fast, "normalizer"))) {
        config->prefix_parts = true;
    } else if (has_type(splitter, "Metaspace") && scheme && strcmp(scheme, "first") == 0) {
        config->prefix_parts = false;
        config->prefix_start = config->prefix_once = true;
    }
}

static enum moe_status read_flags(struct parser *p, const json_t *fast, struct moe_err *err)
{
    struct moe_tokenizer_config *config = p->config;
    const char *bos = NULL, *eos = NULL, *unknown = NULL;
    enum moe_status status =
        moe_tokenizer_flag(p->name, p->main, "legacy", &config->prefix_parts, err);
    if (status == MOE_OK)
        status =
            moe_tokenizer_flag(p->name, p->main, "add_prefix_space", &config->prefix_start, err);
    if (status == MOE_OK)
        status = moe_tokenizer_flag(p->name, p->main, "add_bos_token", &config->adds_bos, err);
    if (status == MOE_OK)
        status = part_text(p, 0, &bos, err);
    if (status == MOE_OK)
        status = part_text(p, 1, &eos, err);
    if (status == MOE_OK)
        status = part_text(p, 2, &unknown, err);
    if (status != MOE_OK)
        return status;
    read_fast_prefix(config, fast);
    config->bos = bos ? find_id(p, config->added.n, bos) : -1;
    config->adds_bos = config->adds_bos && bos;
    if (config->adds_bos && config->bos < 0)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': bos_token '%.100s' is not a token of the model",
                        p->name, bos);
    config->unknown = strdup(unknown ? unknown : "<unk>");
    config->bos_text = bos ? strdup(bos) : NULL;
    config->eos_text = eos ? strdup(eos) : NULL;
    if (!config->unknown || (bos && !config->bos_text) || (eos && !config->eos_text))
        return moe_fail_memory(err, "a tokenizer");
    return MOE_OK;
}

/* Reads the added tokens when tokenizer_config.json has no list of them. The first file that has a
 * token decides its flags, so the file with the most complete entries comes first. */
static enum moe_status read_older(struct parser *p, const json_t *fast, json_t *plain,
                                  struct moe_err *err)
{
    p->name = "tokenizer.json";
    enum moe_status status = read_fast_tokens(p, json_object_get(fast, "added_tokens"), err);
    p->name = "added_tokens.json";
    if (status == MOE_OK)
        status = read_plain_tokens(p, plain, err);
    p->name = "special_tokens_map.json";
    return status;
}

static enum moe_status read_all(struct parser *p, const json_t *fast, json_t *plain, json_t *map,
                                struct moe_err *err)
{
    json_t *decoder = json_object_get(p->main, "added_tokens_decoder");
    p->map = decoder ? NULL : map;
    p->name = "tokenizer_config.json";
    enum moe_status status =
        decoder ? read_decoder(p, decoder, err) : read_older(p, fast, plain, err);
    if (status == MOE_OK)
        status = moe_added_finish(&p->config->added, err);
    if (status == MOE_OK)
        status = read_named(p, err);
    if (status == MOE_OK)
        status = moe_added_finish(&p->config->added, err);
    p->name = "tokenizer_config.json";
    return status == MOE_OK ? read_flags(p, fast, err) : status;
}

enum moe_status moe_tokenizer_config_parse(const struct moe_tokenizer_files *files,
                                           const struct moe_spm *spm,
                                           struct moe_tokenizer_config *out, struct moe_err *err)
{
    struct moe_tokenizer_config config = {
        .prefix_parts = true, .prefix_start = true, .adds_bos = true, .bos = -1};
    struct parser p = {.spm = spm, .config = &config};
    json_t *fast = NULL, *plain = NULL, *map = NULL;
    enum moe_status status = parse_json("tokenizer_config.json", &files->config, &p.main, err);
    if (status == MOE_OK)
        status = parse_json("tokenizer.json", &files->fast, &fast, err);
    if (status == MOE_OK)
        status = parse_json("added_tokens.json", &files->added_tokens, &plain, err);
    if (status == MOE_OK)
        status = parse_json("special_tokens_map.json", &files->special_map, &map, err);
    if (status == MOE_OK)
        status = read_all(&p, fast, plain, map, err);
    json_decref(p.main);
    json_decref(fast);
    json_decref(plain);
    json_decref(map);
    if (status == MOE_OK)
        *out = config;
    else
        moe_tokenizer_config_release(&config);
    return status;
}

void moe_tokenizer_config_release(struct moe_tokenizer_config *config)
{
    moe_added_release(&config->added);
    free(config->unknown);
    free(config->bos_text);
    free(config->eos_text);
    *config = (struct moe_tokenizer_config){.bos = -1};
}
