#include "exec/byte_tokens.h"

#include "base/units.h"
#include "exec/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char fast_name[] = "tokenizer.json", config_name[] = "tokenizer_config.json";

struct reader {
    const struct moe_byte_files *files;
    const struct moe_byte_pieces *pieces;
    const json_t *vocab;
    struct moe_tokenizer_config *config;
};

/* The id of a piece by its text in tokenizer.json; -1: none. */
static int32_t piece_id(const struct reader *r, const char *text)
{
    const json_t *id = json_object_get(r->vocab, text);
    return id ? (int32_t)json_real_value(id) : -1;
}

/* ---- added tokens ---- */

static enum moe_status push(struct reader *r, const char *name, struct moe_added_token *token,
                            uint64_t id, struct moe_err *err)
{
    const uint64_t most = (uint64_t)moe_byte_pieces_size(r->pieces) + MOE_BYTE_IDS_ABOVE;
    const int32_t piece = piece_id(r, token->text);
    size_t n = 0;
    token->n = strlen(token->text);
    if (!token->n || token->n > MOE_BYTE_PIECE_MAX)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': the token of id %" PRIu64 " has %zu bytes, not 1 to %d", name, id,
                        token->n, MOE_BYTE_PIECE_MAX);
    if (id > most)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': id %" PRIu64 " of token '%.100s' exceeds %" PRIu64, name, id,
                        token->text, most);
    if (piece >= 0 && (uint64_t)piece != id)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': token '%.100s' has two ids, %" PRIu64 " and %d of vocab", name,
                        token->text, id, piece);
    (void)moe_byte_pieces_text(r->pieces, (int32_t)id, &n);
    if (piece < 0 && n)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': id %" PRIu64 " of token '%.100s' is a piece's",
                        name, id, token->text);
    token->id = (int32_t)id;
    if (moe_added_push(&r->config->added, token, err) != MOE_OK)
        return moe_fail_prefix(err, "'%s'", name);
    return MOE_OK;
}

static enum moe_status read_fast(struct reader *r, struct moe_err *err)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(r->files->fast, "added_tokens"), i, value)
    {
        struct moe_added_token token;
        uint64_t id = 0;
        enum moe_status status = moe_tokenizer_token(fast_name, value, &token, err);
        if (status == MOE_OK && moe_json_u64(json_object_get(value, "id"), "id of an added token",
                                             0, INT32_MAX - 1, &id, err) != MOE_OK)
            status = moe_fail_prefix(err, "'%s'", fast_name);
        if (status == MOE_OK)
            status = push(r, fast_name, &token, id, err);
        if (status != MOE_OK)
            return status;
    }
    return moe_added_finish(&r->config->added, err);
}

/* One of the first n added tokens, which are sorted, by its text; NULL: none. */
static struct moe_added_token *find_added(const struct reader *r, size_t n, const char *text)
{
    struct moe_added_tokens sorted = r->config->added;
    sorted.n = n;
    return (struct moe_added_token *)moe_added_exact(&sorted, text, strlen(text));
}

/* A token of tokenizer_config.json: its flags replace those of tokenizer.json; one that is only a
 * piece there becomes an added token. */
static enum moe_status take_flags(struct reader *r, size_t n_sorted, struct moe_added_token *token,
                                  uint64_t id, struct moe_err *err)
{
    struct moe_added_token *known = find_added(r, n_sorted, token->text);
    const int32_t told = known ? known->id : piece_id(r, token->text);
    if (told < 0 || (uint64_t)told != id)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': token '%.100s' of id %" PRIu64 " is not in tokenizer.json",
                        config_name, token->text, id);
    if (!known)
        return push(r, config_name, token, id, err);
    known->lstrip = token->lstrip;
    known->rstrip = token->rstrip;
    known->special = token->special;
    known->normalized = token->normalized;
    return MOE_OK;
}

static enum moe_status read_decoder(struct reader *r, const json_t *decoder, struct moe_err *err)
{
    const size_t n_sorted = r->config->added.n;
    const char *key;
    json_t *value;
    if (decoder && !json_is_object(decoder))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': 'added_tokens_decoder' is not an object",
                        config_name);
    json_object_foreach((json_t *)decoder, key, value)
    {
        struct moe_added_token token;
        uint64_t id = 0;
        if (moe_parse_u64(key, 0, INT32_MAX - 1, &id, NULL) != MOE_OK)
            return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s' is not a token id", config_name, key);
        enum moe_status status = moe_tokenizer_token(config_name, value, &token, err);
        if (status == MOE_OK)
            status = take_flags(r, n_sorted, &token, id, err);
        if (status != MOE_OK)
            return status;
    }
    return moe_added_finish(&r->config->added, err);
}

/* ---- tokens by their part ---- */

/* What transformers' classes have where the file does not say; others follow post_processor. */
static const struct {
    const char *name, *bos, *eos;
    bool adds_bos;
} classes[] = {
    {"GPTNeoXTokenizer", "<|endoftext|>", "<|endoftext|>", false},
    {"GPTNeoXTokenizerFast", "<|endoftext|>", "<|endoftext|>", false},
    {"LlamaTokenizer", "<s>", "</s>", true},
    {"LlamaTokenizerFast", "<s>", "</s>", true},
};
enum { N_CLASSES = sizeof classes / sizeof *classes };

/* The place of tokenizer_class in classes; N_CLASSES: another one, or none told. */
static size_t find_class(const struct reader *r)
{
    const char *told = json_string_value(json_object_get(r->files->config, "tokenizer_class"));
    size_t i = 0;
    while (i < N_CLASSES && (!told || strcmp(told, classes[i].name) != 0))
        i++;
    return i;
}

/* The value of a part in the files: first in the map, if that is used. */
static const json_t *part_value(const struct reader *r, const char *key)
{
    const bool uses_map = !json_object_get(r->files->config, "added_tokens_decoder");
    const json_t *value = uses_map ? json_object_get(r->files->map, key) : NULL;
    return value ? value : json_object_get(r->files->config, key);
}

/* *text: that of the token for a part, or the fallback; NULL: none. */
static enum moe_status part_text(const struct reader *r, const char *key, const char *fallback,
                                 const char **text, struct moe_err *err)
{
    const json_t *value = part_value(r, key);
    *text = value ? moe_tokenizer_token_text(value) : fallback;
    if (value && !*text && !json_is_null(value))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s' is not a token", config_name, key);
    return MOE_OK;
}

static enum moe_status name_token(struct reader *r, size_t n_sorted, const json_t *value,
                                  const char *text, struct moe_err *err)
{
    struct moe_added_token token = {.text = (char *)text}, *known = find_added(r, n_sorted, text);
    if (known) {
        known->special = known->named = true;
        return MOE_OK;
    }
    const int32_t id = piece_id(r, text);
    if (id < 0)
        return MOE_OK;
    if (json_is_object(value)) {
        enum moe_status status = moe_tokenizer_token(config_name, value, &token, err);
        if (status != MOE_OK)
            return status;
    }
    token.special = token.named = true;
    return push(r, config_name, &token, (uint64_t)id, err);
}

static enum moe_status read_named(struct reader *r, struct moe_err *err)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                       "sep_token", "cls_token", "mask_token"};
    const json_t *list = part_value(r, "additional_special_tokens");
    const size_t n_sorted = r->config->added.n;
    enum moe_status status = MOE_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && status == MOE_OK; i++) {
        const char *text = NULL;
        status = part_text(r, keys[i], NULL, &text, err);
        if (status == MOE_OK && text)
            status = name_token(r, n_sorted, part_value(r, keys[i]), text, err);
    }
    for (size_t i = 0; i < json_array_size(list) && status == MOE_OK; i++) {
        const json_t *value = json_array_get(list, i);
        const char *text = moe_tokenizer_token_text(value);
        if (text)
            status = name_token(r, n_sorted, value, text, err);
        else
            status = moe_fail(err, MOE_ERR_INPUT,
                              "'%s': additional_special_tokens: entry %zu is not a token",
                              config_name, i);
    }
    return status == MOE_OK ? moe_added_finish(&r->config->added, err) : status;
}

/* ---- the beginning of a text ---- */

static bool has_type(const json_t *object, const char *type)
{
    const char *told = json_string_value(json_object_get(object, "type"));
    return told && strcmp(told, type) == 0;
}

/* The special token with which a template for one text begins; *name NULL: with none. */
static enum moe_status first_of_template(const json_t *template, const char **name,
                                         struct moe_err *err)
{
    const json_t *first = json_array_get(json_object_get(template, "single"), 0);
    const json_t *special = json_object_get(first, "SpecialToken");
    *name = json_string_value(json_object_get(special, "id"));
    if ((!special && !json_object_get(first, "Sequence")) || (special && !*name))
        return moe_json_refuse(first, "post_processor: single", "SpecialToken and Sequence are",
                               err);
    return MOE_OK;
}

/* The token that post_processor, or a part of its sequence, puts first. */
static enum moe_status read_processor(const json_t *processor, const char **name,
                                      struct moe_err *err)
{
    if (!processor || has_type(processor, "ByteLevel"))
        return MOE_OK;
    if (has_type(processor, "TemplateProcessing") && !*name)
        return first_of_template(processor, name, err);
    return moe_json_refuse(processor, "post_processor", "ByteLevel is, and one TemplateProcessing",
                           err);
}

static enum moe_status read_processors(const struct reader *r, const char **name,
                                       struct moe_err *err)
{
    const json_t *processor = moe_json_get(r->files->fast, "post_processor");
    const json_t *list = json_object_get(processor, "processors");
    enum moe_status status = MOE_OK;
    *name = NULL;
    if (!has_type(processor, "Sequence"))
        status = read_processor(processor, name, err);
    else
        for (size_t i = 0; i < json_array_size(list) && status == MOE_OK; i++)
            status = read_processor(json_array_get(list, i), name, err);
    return status == MOE_OK ? status : moe_fail_prefix(err, "'%s'", fast_name);
}

static int32_t token_id(const struct reader *r, const char *text)
{
    const struct moe_added_token *token = find_added(r, r->config->added.n, text);
    return token ? token->id : piece_id(r, text);
}

static enum moe_status copy_text(char **to, const char *text, struct moe_err *err)
{
    *to = text ? strdup(text) : NULL;
    return text && !*to ? moe_fail_memory(err, "a tokenizer") : MOE_OK;
}

static enum moe_status read_beginning(struct reader *r, struct moe_err *err)
{
    const size_t kind = find_class(r);
    const char *bos = NULL, *eos = NULL, *first = NULL;
    struct moe_tokenizer_config *c = r->config;
    enum moe_status status =
        part_text(r, "bos_token", kind < N_CLASSES ? classes[kind].bos : NULL, &bos, err);
    if (status == MOE_OK)
        status = part_text(r, "eos_token", kind < N_CLASSES ? classes[kind].eos : NULL, &eos, err);
    if (status == MOE_OK)
        status = copy_text(&c->bos_text, bos, err);
    if (status == MOE_OK)
        status = copy_text(&c->eos_text, eos, err);
    if (status == MOE_OK && kind < N_CLASSES) {
        c->adds_bos = classes[kind].adds_bos;
        status =
            moe_tokenizer_flag(config_name, r->files->config, "add_bos_token", &c->adds_bos, err);
        first = c->adds_bos ? bos : NULL;
        c->adds_bos = first != NULL;
    } else if (status == MOE_OK) {
        status = read_processors(r, &first, err);
        c->adds_bos = first != NULL;
    }
    if (status != MOE_OK)
        return status;
    first = first ? first : bos;
    c->bos = first ? token_id(r, first) : -1;
    if (c->adds_bos && c->bos < 0)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': '%.100s', which begins a text, is no token",
                        fast_name, first);
    return MOE_OK;
}

enum moe_status moe_byte_tokens_read(const struct moe_byte_files *files,
                                     const struct moe_byte_pieces *pieces,
                                     struct moe_tokenizer_config *out, struct moe_err *err)
{
    struct moe_tokenizer_config config = {.bos = -1};
    struct reader r = {.files = files,
                       .pieces = pieces,
                       .vocab = json_object_get(json_object_get(files->fast, "model"), "vocab"),
                       .config = &config};
    enum moe_status status = read_fast(&r, err);
    if (status == MOE_OK)
        status = read_decoder(&r, moe_json_get(files->config, "added_tokens_decoder"), err);
    if (status == MOE_OK)
        status = read_named(&r, err);
    if (status == MOE_OK)
        status = read_beginning(&r, err);
    if (status == MOE_OK)
        status = moe_tokenizer_flag(config_name, files->config, "add_prefix_space",
                                    &config.prefix_start, err);
    if (status == MOE_OK)
        *out = config;
    else
        moe_tokenizer_config_release(&config);
    return status;
}
