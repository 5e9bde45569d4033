#include "exec/tokenizer.h"

#include "base/file.h"
#include "base/utf8.h"
#include "exec/id_list.h"
#include "exec/json.h"
#include "exec/tokenizer_fast.h"
#include "exec/tokenizer_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MODEL_MAX = 64 << 20, CONFIG_MAX = 16 << 20, FAST_MAX = 128 << 20 }; /* bytes */

/* ---- ids ---- */

static bool begins_with(const char *text, size_t n, const char *start)
{
    return n >= strlen(start) && memcmp(text, start, strlen(start)) == 0;
}

static bool is_spaced(const char *text, size_t n)
{
    return begins_with(text, n, " ") || begins_with(text, n, MOE_SPM_BLANK);
}

static enum moe_status encode_plain(const struct moe_tokenizer *t, const char *text, size_t n,
                                    size_t skip, struct moe_id_list *list, struct moe_err *err)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    enum moe_status status = moe_spm_encode(t->spm, text, n, &ids, &n_ids, err);
    if (status != MOE_OK)
        return status;
    skip = n_ids >= skip ? skip : 0;
    status = moe_id_list_append(list, ids + skip, n_ids - skip, err);
    free(ids);
    return status;
}

/* A part that begins with a space is encoded behind the text of the unknown token, whose pieces are
 * then cut off, as transformers does it: SentencePiece would mistake a space at the start for its
 * own prefix. */
static enum moe_status encode_part(const struct moe_tokenizer *t, const struct moe_part *part,
                                   struct moe_id_list *list, struct moe_err *err)
{
    if (t->config.prefix_parts || !is_spaced(part->at, part->n))
        return encode_plain(t, part->at, part->n, 0, list, err);
    size_t before = strlen(t->config.unknown);
    char *text = malloc(before + part->n);
    if (!text)
        return moe_fail_memory(err, "a text");
    memcpy(text, t->config.unknown, before);
    memcpy(text + before, part->at, part->n);
    enum moe_status status = encode_plain(t, text, before + part->n, t->n_unknown, list, err);
    free(text);
    return status;
}

static enum moe_status encode_parts(const struct moe_tokenizer *t, const struct moe_part *parts,
                                    size_t n_parts, struct moe_id_list *list, struct moe_err *err)
{
    enum moe_status status = MOE_OK;
    size_t done = 0; /* parts encoded that are not empty */
    for (size_t i = 0; i < n_parts && status == MOE_OK; i++) {
        const struct moe_added_token *token = parts[i].token;
        if (!parts[i].n)
            continue;
        /* A prefix with nothing behind it is dropped before named tokens such as <s>, but not
         * before others. */
        if (done == 1 && token && token->named && t->drops_prefix && list->n == 1 &&
            list->id[0] == t->blank)
            list->n = 0;
        status = token ? moe_id_list_append(list, &token->id, 1, err)
                       : encode_part(t, &parts[i], list, err);
        done++;
    }
    return status;
}

/* Does this text get a prefix at its start? */
static bool wants_prefix(const struct moe_tokenizer *t, const char *text, size_t size)
{
    if (!t->config.prefix_start || !t->config.prefix_once)
        return t->config.prefix_start;
    return !is_spaced(text, size) && !moe_added_longest(&t->config.added, text, size);
}

/* The text with the prefix at its start and with its spaces as U+2581; heap. */
static char *with_prefix(const struct moe_tokenizer *t, const char *text, size_t size, size_t *n)
{
    const size_t blank = sizeof MOE_SPM_BLANK - 1;
    char *copy = malloc(size + blank);
    bool wanted = wants_prefix(t, text, size);
    for (*n = 0; copy && wanted && *n < blank; ++*n)
        copy[*n] = MOE_SPM_BLANK[*n];
    for (size_t i = 0; copy && i < size;) {
        bool is_blank = begins_with(text + i, size - i, MOE_SPM_BLANK);
        copy[(*n)++] = is_blank ? ' ' : text[i];
        i += is_blank ? blank : 1;
    }
    return copy;
}

static enum moe_status encode_text(const struct moe_tokenizer *t, const char *text, size_t size,
                                   struct moe_id_list *list, struct moe_err *err)
{
    struct moe_part *parts = NULL;
    size_t n_parts = 0;
    char *copy = NULL;
    if (!t->config.prefix_parts && size) {
        copy = with_prefix(t, text, size, &size);
        if (!copy)
            return moe_fail_memory(err, "a text");
        text = copy;
    }
    enum moe_status status = moe_added_split(&t->config.added, text, size, &parts, &n_parts, err);
    if (status == MOE_OK)
        status = encode_parts(t, parts, n_parts, list, err);
    free(parts);
    free(copy);
    return status;
}

/* Puts the BOS token in front of ids that do not begin with it. */
static enum moe_status put_bos(const struct moe_tokenizer *t, struct moe_id_list *list,
                               struct moe_err *err)
{
    int32_t bos = t->config.bos;
    if (bos < 0)
        return moe_fail(err, MOE_ERR_USAGE, "the tokenizer has no beginning-of-text token");
    if (list->n && list->id[0] == bos)
        return MOE_OK;
    enum moe_status status = moe_id_list_append(list, &bos, 1, err);
    if (status != MOE_OK)
        return status;
    memmove(list->id + 1, list->id, (list->n - 1) * sizeof *list->id);
    list->id[0] = bos;
    return MOE_OK;
}

enum moe_status moe_tokenizer_encode(const struct moe_tokenizer *tokenizer, const char *text,
                                     size_t size, bool bos, int32_t **ids, size_t *n,
                                     struct moe_err *err)
{
    struct moe_id_list list = {0};
    size_t valid = moe_utf8_prefix(text, size);
    if (valid < size)
        return moe_fail(err, MOE_ERR_INPUT, "invalid UTF-8 at byte %zu", valid);
    enum moe_status status = moe_id_list_append(&list, NULL, 0, err);
    if (status == MOE_OK)
        status = tokenizer->bytes
                     ? moe_byte_tokenizer_encode(tokenizer->bytes, text, size, &list, err)
                     : encode_text(tokenizer, text, size, &list, err);
    if (status == MOE_OK && bos)
        status = put_bos(tokenizer, &list, err);
    if (status != MOE_OK) {
        free(list.id);
        return status;
    }
    *ids = list.id;
    *n = list.n;
    return MOE_OK;
}

uint32_t moe_tokenizer_size(const struct moe_tokenizer *tokenizer)
{
    return tokenizer->n_tokens;
}

bool moe_tokenizer_adds_bos(const struct moe_tokenizer *tokenizer)
{
    return tokenizer->config.adds_bos;
}

const char *moe_tokenizer_bos(const struct moe_tokenizer *tokenizer)
{
    return tokenizer->config.bos_text;
}

const char *moe_tokenizer_eos(const struct moe_tokenizer *tokenizer)
{
    return tokenizer->config.eos_text;
}

/* ---- loading ---- */

/* Ids go up to the last piece or added token. */
static void count_tokens(struct moe_tokenizer *t, uint32_t n_pieces)
{
    const struct moe_added_tokens *added = &t->config.added;
    t->n_tokens = n_pieces;
    if (added->n && (uint32_t)added->token[added->by_id[added->n - 1]].id >= t->n_tokens)
        t->n_tokens = (uint32_t)added->token[added->by_id[added->n - 1]].id + 1;
}

/* Checks what SentencePiece does not check and the detokenizer relies on. */
static enum moe_status check_pieces(const struct moe_spm *spm, struct moe_err *err)
{
    for (int32_t id = 0; id < moe_spm_size(spm); id++) {
        size_t n = 0;
        const char *piece = moe_spm_piece(spm, id, &n);
        if (n > MOE_TOKEN_TEXT_MAX)
            return moe_fail(err, MOE_ERR_INPUT, "piece %d has %zu bytes, limit %d", id, n,
                            MOE_TOKEN_TEXT_MAX);
        if (moe_utf8_prefix(piece, n) < n)
            return moe_fail(err, MOE_ERR_INPUT, "piece %d is not UTF-8", id);
    }
    return MOE_OK;
}

/* Loads the same model without its dummy prefix: one more field at the end of the file (protobuf
 * merges it), normalizer_spec { add_dummy_prefix: false }. */
static enum moe_status load_bare(struct moe_tokenizer *t, const struct moe_tokenizer_file *model,
                                 struct moe_err *err)
{
    static const char field[] = {0x1a, 0x02, 0x18, 0x00};
    struct moe_spm *bare = NULL;
    char *data = malloc(model->size + sizeof field);
    if (!data)
        return moe_fail_memory(err, "a tokenizer");
    memcpy(data, model->data, model->size);
    memcpy(data + model->size, field, sizeof field);
    enum moe_status status = moe_spm_load(&bare, data, model->size + sizeof field, err);
    free(data);
    if (status != MOE_OK)
        return status;
    moe_spm_free(t->spm);
    t->spm = bare;
    return MOE_OK;
}

static enum moe_status count_unknown(struct moe_tokenizer *t, struct moe_err *err)
{
    struct moe_id_list list = {0};
    enum moe_status status =
        encode_plain(t, t->config.unknown, strlen(t->config.unknown), 0, &list, err);
    t->n_unknown = list.n;
    free(list.id);
    return status;
}

/* Finds out whether the model itself puts a space in front of a text. */
static enum moe_status find_prefix(struct moe_tokenizer *t, struct moe_err *err)
{
    struct moe_id_list list = {0};
    enum moe_status status = encode_plain(t, "a", 1, 0, &list, err);
    if (status == MOE_OK && list.n) {
        size_t n = 0;
        const char *piece = moe_spm_piece(t->spm, list.id[0], &n);
        t->has_prefix = begins_with(piece, n, MOE_SPM_BLANK);
    }
    free(list.id);
    return status;
}

static enum moe_status load(struct moe_tokenizer *t, const struct moe_tokenizer_files *files,
                            struct moe_err *err)
{
    if (!files->model.data || files->model.size == 0)
        return moe_fail(err, MOE_ERR_INPUT, "'tokenizer.model': empty file");
    enum moe_status status = moe_spm_load(&t->spm, files->model.data, files->model.size, err);
    if (status == MOE_OK)
        status = check_pieces(t->spm, err);
    if (status != MOE_OK)
        return moe_fail_prefix(err, "'tokenizer.model'");
    status = moe_tokenizer_config_parse(files, t->spm, &t->config, err);
    if (status != MOE_OK)
        return status;
    count_tokens(t, (uint32_t)moe_spm_size(t->spm));
    t->blank = moe_spm_id(t->spm, MOE_SPM_BLANK, strlen(MOE_SPM_BLANK));
    if (t->config.prefix_parts)
        return find_prefix(t, err);
    t->has_prefix = t->config.prefix_start;
    t->drops_prefix = !t->config.prefix_once;
    status = load_bare(t, &files->model, err);
    return status == MOE_OK ? count_unknown(t, err) : status;
}

/* Loads the SentencePiece model from which tokenizer.json was made. */
static enum moe_status load_rebuilt(struct moe_tokenizer *t,
                                    const struct moe_tokenizer_files *files, const json_t *root,
                                    struct moe_err *err)
{
    struct moe_tokenizer_files all = *files;
    char *model = NULL;
    enum moe_status status = moe_tokenizer_fast_model(root, &model, &all.model.size, err);
    if (status != MOE_OK)
        return moe_fail_prefix(err, "no tokenizer.model, and 'tokenizer.json' is no substitute");
    all.model.data = model;
    status = load(t, &all, err);
    free(model);
    return status;
}

/* *root: NULL where there is no file. */
static enum moe_status parse_file(const char *name, const struct moe_tokenizer_file *file,
                                  json_t **root, struct moe_err *err)
{
    *root = NULL;
    if (file->data && moe_json_parse(file->data, file->size, root, err) != MOE_OK)
        return moe_fail_prefix(err, "'%s'", name);
    return MOE_OK;
}

static enum moe_status load_bytes(struct moe_tokenizer *t, const struct moe_tokenizer_files *files,
                                  const json_t *root, struct moe_err *err)
{
    json_t *config = NULL, *map = NULL;
    enum moe_status status = parse_file("tokenizer_config.json", &files->config, &config, err);
    if (status == MOE_OK)
        status = parse_file("special_tokens_map.json", &files->special_map, &map, err);
    if (status == MOE_OK)
        status = moe_byte_tokenizer_read(
            &t->bytes, &(struct moe_byte_files){.fast = root, .config = config, .map = map},
            &t->config, err);
    if (status == MOE_OK)
        count_tokens(t, moe_byte_tokenizer_pieces(t->bytes));
    json_decref(config);
    json_decref(map);
    return status;
}

static enum moe_status load_fast(struct moe_tokenizer *t, const struct moe_tokenizer_files *files,
                                 struct moe_err *err)
{
    json_t *root = NULL;
    enum moe_status status = parse_file("tokenizer.json", &files->fast, &root, err);
    if (status != MOE_OK)
        return status;
    status = moe_byte_tokenizer_is(root) ? load_bytes(t, files, root, err)
                                         : load_rebuilt(t, files, root, err);
    json_decref(root);
    return status;
}

enum moe_status moe_tokenizer_parse(struct moe_tokenizer **out,
                                    const struct moe_tokenizer_files *files, struct moe_err *err)
{
    struct moe_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return moe_fail_memory(err, "a tokenizer");
    bool fast = !files->model.data && files->fast.data;
    enum moe_status status = fast ? load_fast(t, files, err) : load(t, files, err);
    if (status == MOE_OK)
        *out = t;
    else
        moe_tokenizer_free(t);
    return status;
}

void moe_tokenizer_free(struct moe_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    moe_spm_free(tokenizer->spm);
    moe_byte_tokenizer_free(tokenizer->bytes);
    moe_tokenizer_config_release(&tokenizer->config);
    free(tokenizer);
}

/* ---- the folder ---- */

static const struct {
    const char *name;
    size_t at; /* in struct moe_tokenizer_files */
    uint64_t max_bytes;
} known_files[] = {
    {"tokenizer.model", offsetof(struct moe_tokenizer_files, model), MODEL_MAX},
    {"tokenizer_config.json", offsetof(struct moe_tokenizer_files, config), CONFIG_MAX},
    {"added_tokens.json", offsetof(struct moe_tokenizer_files, added_tokens), CONFIG_MAX},
    {"special_tokens_map.json", offsetof(struct moe_tokenizer_files, special_map), CONFIG_MAX},
    {"tokenizer.json", offsetof(struct moe_tokenizer_files, fast), FAST_MAX},
};
enum { N_FILES = sizeof known_files / sizeof *known_files };

/* vocab.json and merges.txt hold pieces and merges, but not how a text is cut into words. */
static enum moe_status fail_missing(const char *dir, struct moe_err *err)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/merges.txt", dir);
    bool found = n > 0 && (size_t)n < sizeof path && access(path, F_OK) == 0;
    return moe_fail(err, MOE_ERR_IO, "'%s': no tokenizer.model, no tokenizer.json%s", dir,
                    found ? " (vocab.json and merges.txt do not say how to cut a text: "
                            "tokenizer.json is needed)"
                          : "");
}

/* Reads the files that are there; *content[i]: heap. */
static enum moe_status read_files(const char *dir, struct moe_tokenizer_files *files,
                                  char *content[N_FILES], struct moe_err *err)
{
    for (size_t i = 0; i < N_FILES; i++) {
        char path[4096];
        struct moe_tokenizer_file *file = (void *)((char *)files + known_files[i].at);
        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, known_files[i].name) >= sizeof path)
            return moe_fail(err, MOE_ERR_IO, "'%.100s...': path is too long", dir);
        if (access(path, F_OK) != 0)
            continue;
        enum moe_status status =
            moe_file_read(path, known_files[i].max_bytes, &content[i], &file->size, err);
        if (status != MOE_OK)
            return status;
        file->data = content[i];
    }
    return files->model.data || files->fast.data ? MOE_OK : fail_missing(dir, err);
}

enum moe_status moe_tokenizer_open(struct moe_tokenizer **out, const char *dir, struct moe_err *err)
{
    struct moe_tokenizer_files files = {.model = {0}};
    char *content[N_FILES] = {0};
    enum moe_status status = read_files(dir, &files, content, err);
    if (status == MOE_OK && moe_tokenizer_parse(out, &files, err) != MOE_OK)
        status = moe_fail_prefix(err, "'%s'", dir);
    for (size_t i = 0; i < N_FILES; i++)
        free(content[i]);
    return status;
}
