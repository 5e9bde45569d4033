#include "exec/tokenizer_bytes.h"

#include "exec/json.h"
#include "exec/splitter.h"

#include <stdlib.h>
#include <string.h>

struct moe_byte_tokenizer {
    struct moe_byte_pieces *pieces;
    struct moe_splitter *splitter;
    struct moe_added_tokens raw;        /* found in the text as it is */
    struct moe_added_tokens normalized; /* found in the normalised text; so is theirs */
};

/* ---- reading ---- */

static bool has_type(const json_t *object, const char *type)
{
    const char *told = json_string_value(json_object_get(object, "type"));
    return told && strcmp(told, type) == 0;
}

bool moe_byte_tokenizer_is(const json_t *root)
{
    const json_t *model = json_object_get(root, "model"), *part;
    const json_t *cutting = json_object_get(root, "pre_tokenizer");
    bool found = has_type(cutting, "ByteLevel");
    size_t i;
    json_array_foreach(json_object_get(cutting, "pretokenizers"), i, part) found =
        found || has_type(part, "ByteLevel");
    return found && has_type(model, "BPE") &&
           !json_is_true(json_object_get(model, "byte_fallback"));
}

static enum moe_status push_normalized(struct moe_byte_tokenizer *t,
                                       const struct moe_added_token *token, struct moe_err *err)
{
    struct moe_added_token copy = *token;
    enum moe_status status =
        moe_splitter_normalize(t->splitter, token->text, token->n, &copy.text, &copy.n, err);
    if (status != MOE_OK)
        return status;
    status = moe_added_push(&t->normalized, &copy, err);
    if (copy.text != token->text)
        free(copy.text);
    return status;
}

static enum moe_status sort_tokens(struct moe_byte_tokenizer *t,
                                   const struct moe_added_tokens *added, struct moe_err *err)
{
    enum moe_status status = MOE_OK;
    for (size_t i = 0; i < added->n && status == MOE_OK; i++)
        status = added->token[i].normalized ? push_normalized(t, &added->token[i], err)
                                            : moe_added_push(&t->raw, &added->token[i], err);
    if (status == MOE_OK)
        status = moe_added_finish(&t->raw, err);
    return status == MOE_OK ? moe_added_finish(&t->normalized, err) : status;
}

enum moe_status moe_byte_tokenizer_read(struct moe_byte_tokenizer **out,
                                        const struct moe_byte_files *files,
                                        struct moe_tokenizer_config *config, struct moe_err *err)
{
    struct moe_tokenizer_config read = {.bos = -1};
    struct moe_byte_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return moe_fail_memory(err, "a tokenizer");
    enum moe_status status = moe_byte_pieces_read(&t->pieces, files->fast, err);
    if (status != MOE_OK)
        status = moe_fail_prefix(err, "'tokenizer.json'");
    else
        status = moe_byte_tokens_read(files, t->pieces, &read, err);
    if (status == MOE_OK) {
        status = moe_splitter_read(&t->splitter, files->fast, read.prefix_start, err);
        if (status == MOE_OK)
            status = sort_tokens(t, &read.added, err);
        if (status != MOE_OK)
            status = moe_fail_prefix(err, "'tokenizer.json'");
    }
    if (status != MOE_OK) {
        moe_tokenizer_config_release(&read);
        moe_byte_tokenizer_free(t);
        return status;
    }
    *out = t;
    *config = read;
    return MOE_OK;
}

void moe_byte_tokenizer_free(struct moe_byte_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    moe_byte_pieces_free(tokenizer->pieces);
    moe_splitter_free(tokenizer->splitter);
    moe_added_release(&tokenizer->raw);
    moe_added_release(&tokenizer->normalized);
    free(tokenizer);
}

uint32_t moe_byte_tokenizer_pieces(const struct moe_byte_tokenizer *tokenizer)
{
    return moe_byte_pieces_size(tokenizer->pieces);
}

const char *moe_byte_tokenizer_piece(const struct moe_byte_tokenizer *tokenizer, int32_t id,
                                     size_t *n)
{
    return moe_byte_pieces_text(tokenizer->pieces, id, n);
}

/* ---- encoding ---- */

struct encoding {
    const struct moe_byte_tokenizer *tokenizer;
    struct moe_byte_work work;
    struct moe_id_list *list;
};

static enum moe_status encode_word(void *context, const char *word, size_t n, struct moe_err *err)
{
    struct encoding *e = context;
    return moe_byte_pieces_encode(e->tokenizer->pieces, word, n, &e->work, e->list, err);
}

static enum moe_status encode_words(struct encoding *e, const char *text, size_t n,
                                    struct moe_err *err)
{
    return moe_splitter_cut(e->tokenizer->splitter, text, n, encode_word, e, err);
}

typedef enum moe_status encoder(struct encoding *e, const char *text, size_t n,
                                struct moe_err *err);

/* Cuts a text at added tokens; what lies between them goes to encode. */
static enum moe_status encode_between(struct encoding *e, const struct moe_added_tokens *added,
                                      const char *text, size_t n, encoder *encode,
                                      struct moe_err *err)
{
    struct moe_part *parts = NULL;
    size_t n_parts = 0;
    enum moe_status status = moe_added_match(added, text, n, &parts, &n_parts, err);
    for (size_t i = 0; i < n_parts && status == MOE_OK; i++)
        status = parts[i].token ? moe_id_list_append(e->list, &parts[i].token->id, 1, err)
                                : encode(e, parts[i].at, parts[i].n, err);
    free(parts);
    return status;
}

static enum moe_status encode_part(struct encoding *e, const char *text, size_t n,
                                   struct moe_err *err)
{
    char *normal = NULL;
    size_t n_normal = 0;
    enum moe_status status =
        moe_splitter_normalize(e->tokenizer->splitter, text, n, &normal, &n_normal, err);
    if (status != MOE_OK)
        return status;
    status = encode_between(e, &e->tokenizer->normalized, normal, n_normal, encode_words, err);
    if (normal != text)
        free(normal);
    return status;
}

enum moe_status moe_byte_tokenizer_encode(const struct moe_byte_tokenizer *tokenizer,
                                          const char *text, size_t n, struct moe_id_list *list,
                                          struct moe_err *err)
{
    struct encoding e = {.tokenizer = tokenizer, .list = list};
    enum moe_status status = encode_between(&e, &tokenizer->raw, text, n, encode_part, err);
    moe_byte_work_release(&e.work);
    return status;
}
