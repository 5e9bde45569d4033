#include "exec/tokenizer_fast.h"

#include "base/utf8.h"
#include "exec/json.h"
#include "exec/tokenizer_config.h"
#include "exec/tokenizer_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From sentencepiece_model.proto: types of pieces and numbers of fields. */
enum piece_type { TEXT = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 };
enum {
    MODEL_PIECE = 1,
    MODEL_TRAINER = 2,
    MODEL_NORMALIZER = 3,
    PIECE_TEXT = 1,
    PIECE_SCORE = 2,
    PIECE_TYPE = 3,
    TRAINER_TYPE = 3,
    TRAINER_BYTES = 35,
    TRAINER_UNKNOWN = 45,
    NORMALIZER_NAME = 1,
    NORMALIZER_PREFIX = 3,
    NORMALIZER_TRIM = 4,
    NORMALIZER_ESCAPE = 5,
};
enum { BPE = 2, VARINT = 0, BYTES = 2, FIXED32 = 5 };

struct piece {
    const char *text; /* of the JSON */
    enum piece_type type;
    uint32_t first, n_merges; /* the merges that make it: index of the first, how many (or 0, 0) */
};

struct vocabulary {
    const json_t *ids; /* {"piece": id} */
    struct piece *piece;
    uint32_t n;
};

/* ---- is it SentencePiece's? ---- */

static bool is_text(const json_t *value, const char *text)
{
    const char *told = json_string_value(value);
    return told && strcmp(told, text) == 0;
}

static bool is_empty(const json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) || is_text(value, "");
}

/* A space becomes U+2581, and one more comes in front. */
static bool is_normalizer(const json_t *part)
{
    const json_t *type = json_object_get(part, "type");
    if (is_text(type, "Prepend"))
        return is_text(json_object_get(part, "prepend"), MOE_SPM_BLANK);
    return is_text(type, "Replace") && is_text(json_object_get(part, "content"), MOE_SPM_BLANK) &&
           is_text(json_object_get(json_object_get(part, "pattern"), "String"), " ");
}

static enum moe_status check_normalizer(const json_t *root, struct moe_err *err)
{
    const json_t *normalizer = moe_json_get(root, "normalizer"), *part;
    const json_t *list = json_object_get(normalizer, "normalizers");
    size_t i;
    if (json_array_size(list) != 2)
        return moe_json_refuse(normalizer, "normalizer", "Prepend and Replace are", err);
    json_array_foreach(list, i, part)
    {
        if (!is_normalizer(part))
            return moe_json_refuse(part, "normalizer", "Prepend and Replace by U+2581 are", err);
    }
    if (json_equal(json_array_get(list, 0), json_array_get(list, 1)))
        return moe_json_refuse(normalizer, "normalizer", "one Prepend and one Replace are", err);
    return MOE_OK;
}

static enum moe_status check_splitter(const json_t *root, struct moe_err *err)
{
    const json_t *splitter = moe_json_get(root, "pre_tokenizer");
    if (!splitter)
        return check_normalizer(root, err);
    if (moe_json_get(root, "normalizer") ||
        !is_text(json_object_get(splitter, "type"), "Metaspace") ||
        !is_text(json_object_get(splitter, "replacement"), MOE_SPM_BLANK) ||
        !is_text(json_object_get(splitter, "prepend_scheme"), "first") ||
        !json_is_false(json_object_get(splitter, "split")))
        return moe_json_refuse(splitter, "pre_tokenizer",
                               "none is, or Metaspace of scheme first without split", err);
    return MOE_OK;
}

static enum moe_status check_kind(const json_t *root, const json_t *model, struct moe_err *err)
{
    static const char *const off[] = {"dropout", "ignore_merges", "continuing_subword_prefix",
                                      "end_of_word_suffix"};
    if (!json_is_object(model))
        return moe_fail(err, MOE_ERR_INPUT, "missing object model");
    if (!is_text(json_object_get(model, "type"), "BPE"))
        return moe_json_refuse(json_object_get(model, "type"), "model.type", "BPE is", err);
    if (!json_is_true(json_object_get(model, "byte_fallback")))
        return moe_json_refuse(json_object_get(model, "byte_fallback"), "byte_fallback", "true is",
                               err);
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        const json_t *value = json_object_get(model, off[i]);
        if (!is_empty(value))
            return moe_json_refuse(value, off[i], "none is", err);
    }
    return check_splitter(root, err);
}

/* ---- pieces ---- */

static struct piece *find(const struct vocabulary *v, const char *text)
{
    const json_t *id = json_object_get(v->ids, text);
    return id ? &v->piece[(size_t)json_number_value(id)] : NULL;
}

/* The same for the first n bytes of text. */
static struct piece *find_part(const struct vocabulary *v, const char *text, size_t n)
{
    char part[MOE_TOKEN_TEXT_MAX + 1];
    if (n > MOE_TOKEN_TEXT_MAX)
        return NULL;
    memcpy(part, text, n);
    part[n] = 0;
    return find(v, part);
}

static bool is_byte(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    return strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && strchr(hex, text[3]) &&
           strchr(hex, text[4]) && text[5] == '>';
}

static enum moe_status read_pieces(struct vocabulary *v, struct moe_err *err)
{
    const char *text;
    json_t *value;
    json_object_foreach((json_t *)v->ids, text, value)
    {
        uint64_t id = 0;
        if (moe_json_u64(value, "id of a piece", 0, v->n - 1, &id, err) != MOE_OK)
            return moe_fail_prefix(err, "vocab");
        if (v->piece[id].text)
            return moe_fail(err, MOE_ERR_INPUT,
                            "vocab: id %" PRIu64 " of both '%.100s' and '%.100s'", id,
                            v->piece[id].text, text);
        if (strlen(text) > MOE_TOKEN_TEXT_MAX)
            return moe_fail(err, MOE_ERR_INPUT, "vocab: piece %" PRIu64 " has %zu bytes, limit %d",
                            id, strlen(text), MOE_TOKEN_TEXT_MAX);
        v->piece[id] = (struct piece){.text = text, .type = is_byte(text) ? BYTE : TEXT};
    }
    return MOE_OK;
}

static enum moe_status name_pieces(struct vocabulary *v, const json_t *root, const char *unknown,
                                   struct moe_err *err)
{
    size_t i;
    json_t *token;
    json_array_foreach(json_object_get(root, "added_tokens"), i, token)
    {
        const char *text = json_string_value(json_object_get(token, "content"));
        struct piece *piece = text ? find(v, text) : NULL;
        if (piece)
            piece->type = CONTROL;
    }
    struct piece *piece = find(v, unknown);
    if (!piece)
        return moe_fail(err, MOE_ERR_INPUT, "unk_token '%.100s' is not a piece", unknown);
    piece->type = UNKNOWN;
    return MOE_OK;
}

/* ---- merges ---- */

/* "left right" or ["left", "right"]: the bytes of the left part; the whole goes to text. */
static enum moe_status read_merge(const json_t *merge, size_t i, char text[MOE_TOKEN_TEXT_MAX + 1],
                                  size_t *left, struct moe_err *err)
{
    const char *a = json_string_value(json_array_get(merge, 0));
    const char *b = json_string_value(json_array_get(merge, 1));
    const char *both = json_string_value(merge), *space = both ? strchr(both, ' ') : NULL;
    int n = -1;
    if (space) {
        *left = (size_t)(space - both);
        n = snprintf(text, MOE_TOKEN_TEXT_MAX + 1, "%.*s%s", (int)*left, both, space + 1);
    } else if (a && b) {
        *left = strlen(a);
        n = snprintf(text, MOE_TOKEN_TEXT_MAX + 1, "%s%s", a, b);
    }
    if (n < 0 || n > MOE_TOKEN_TEXT_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "merge %zu is not two pieces of at most %d bytes", i,
                        MOE_TOKEN_TEXT_MAX);
    return MOE_OK;
}

static bool is_plain(const struct piece *piece)
{
    return piece && piece->type == TEXT;
}

/* All merges that make a piece have to follow one another, since SentencePiece has one score for
 * all of them. */
static enum moe_status take_merge(const struct vocabulary *v, const json_t *merge, uint32_t i,
                                  struct moe_err *err)
{
    char text[MOE_TOKEN_TEXT_MAX + 1];
    size_t left = 0;
    enum moe_status status = read_merge(merge, i, text, &left, err);
    if (status != MOE_OK)
        return status;
    struct piece *whole = find(v, text);
    if (!is_plain(whole) || !is_plain(find(v, text + left)) || !is_plain(find_part(v, text, left)))
        return moe_fail(err, MOE_ERR_INPUT,
                        "merge %" PRIu32 " to '%.100s' does not join two pieces", i, text);
    if (whole->n_merges && whole->first + whole->n_merges != i)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "merges of '%.100s' at %" PRIu32 " and %" PRIu32
                        ", with others between them",
                        text, whole->first, i);
    if (!whole->n_merges)
        whole->first = i;
    whole->n_merges++;
    return MOE_OK;
}

/* SentencePiece merges any two pieces whose concatenation is a piece, tokenizer.json only those
 * listed: so every such pair has to be listed. */
static enum moe_status check_piece(const struct vocabulary *v, const struct piece *piece,
                                   struct moe_err *err)
{
    const char *text = piece->text;
    size_t n = strlen(text);
    uint32_t ways = 0;
    int step = n ? moe_utf8_char(text, n) : 0;
    for (size_t at = 0; step > 0 && (at += (size_t)step) < n;
         step = moe_utf8_char(text + at, n - at))
        ways += is_plain(find(v, text + at)) && is_plain(find_part(v, text, at));
    bool is_char = n && moe_utf8_char(text, n) == (int)n;
    if (ways != piece->n_merges || (!ways && !is_char))
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "piece '%.100s' has %" PRIu32 " merges, %" PRIu32
                        " pairs of pieces would make it",
                        text, piece->n_merges, ways);
    return MOE_OK;
}

/* No merge may be listed twice, as counting them would then not show that another one is missing.
 * (All have the same spelling: read_merges.) */
static enum moe_status check_twice(const json_t *merges, const struct piece *piece,
                                   struct moe_err *err)
{
    for (size_t i = piece->first; i < piece->first + piece->n_merges; i++)
        for (size_t j = piece->first; j < i; j++)
            if (json_equal(json_array_get(merges, i), json_array_get(merges, j)))
                return moe_fail(err, MOE_ERR_INPUT, "merges %zu and %zu are the same", j, i);
    return MOE_OK;
}

static enum moe_status read_merges(const struct vocabulary *v, const json_t *merges,
                                   struct moe_err *err)
{
    enum { MERGES_MAX = 1 << 24 }; /* scores are whole numbers in a float */
    enum moe_status status = MOE_OK;
    const size_t n = json_array_size(merges);
    if (!json_is_array(merges))
        return moe_fail(err, MOE_ERR_INPUT, "missing list merges");
    if (n > MERGES_MAX)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "%zu merges exceed %d", n, MERGES_MAX);
    for (size_t i = 0; i < n && status == MOE_OK; i++) {
        const json_t *merge = json_array_get(merges, i);
        if (json_typeof(merge) != json_typeof(json_array_get(merges, 0)))
            return moe_fail(err, MOE_ERR_INPUT, "merges 0 and %zu are written differently", i);
        status = take_merge(v, merge, (uint32_t)i, err);
    }
    for (uint32_t id = 0; id < v->n && status == MOE_OK; id++)
        if (v->piece[id].type == TEXT) {
            status = check_piece(v, &v->piece[id], err);
            if (status == MOE_OK)
                status = check_twice(merges, &v->piece[id], err);
        }
    return status;
}

/* ---- the model ---- */

static void put_varint(FILE *out, uint64_t value)
{
    for (; value > 0x7f; value >>= 7)
        putc((int)(value & 0x7f) | 0x80, out);
    putc((int)value, out);
}

static void put_field(FILE *out, uint32_t number, uint32_t kind, uint64_t value)
{
    put_varint(out, number << 3 | kind);
    put_varint(out, value);
}

static void put_text(FILE *out, uint32_t number, const char *text)
{
    put_field(out, number, BYTES, strlen(text));
    fputs(text, out);
}

static size_t varint_bytes(uint64_t value)
{
    size_t n = 1;
    for (; value > 0x7f; value >>= 7)
        n++;
    return n;
}

static void put_piece(FILE *out, const struct piece *piece, float score)
{
    uint32_t bits;
    const size_t n = strlen(piece->text);
    memcpy(&bits, &score, sizeof bits);
    put_field(out, MODEL_PIECE, BYTES, 1 + varint_bytes(n) + n + 5 + 2);
    put_text(out, PIECE_TEXT, piece->text);
    put_varint(out, PIECE_SCORE << 3 | FIXED32);
    for (int i = 0; i < 4; i++)
        putc((int)(bits >> (8 * i) & 0xff), out);
    put_field(out, PIECE_TYPE, VARINT, piece->type);
}

static void put_model(FILE *out, const struct vocabulary *v, const char *unknown, size_t n_merges)
{
    static const char name[] = "identity";
    const size_t n = strlen(unknown);
    for (uint32_t id = 0; id < v->n; id++) {
        const struct piece *piece = &v->piece[id];
        if (piece->text) /* always true: n different ids below n */
            put_piece(out, piece, -(float)(piece->n_merges ? piece->first : n_merges));
    }
    put_field(out, MODEL_TRAINER, BYTES, 2 + 3 + 2 + varint_bytes(n) + n);
    put_field(out, TRAINER_TYPE, VARINT, BPE);
    put_field(out, TRAINER_BYTES, VARINT, 1);
    put_text(out, TRAINER_UNKNOWN, unknown);
    put_field(out, MODEL_NORMALIZER, BYTES, 2 + strlen(name) + 6);
    put_text(out, NORMALIZER_NAME, name);
    put_field(out, NORMALIZER_PREFIX, VARINT, 1);
    put_field(out, NORMALIZER_TRIM, VARINT, 0);
    put_field(out, NORMALIZER_ESCAPE, VARINT, 1);
}

static enum moe_status write_model(const struct vocabulary *v, const char *unknown, size_t n_merges,
                                   char **model, size_t *n, struct moe_err *err)
{
    char *data = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&data, &size);
    if (!out)
        return moe_fail_memory(err, "a tokenizer");
    put_model(out, v, unknown, n_merges);
    bool failed = ferror(out) != 0;
    failed = fclose(out) != 0 || failed;
    if (failed) {
        free(data);
        return moe_fail_memory(err, "a tokenizer");
    }
    *model = data;
    *n = size;
    return MOE_OK;
}

enum moe_status moe_tokenizer_fast_model(const json_t *root, char **model, size_t *n,
                                         struct moe_err *err)
{
    const json_t *bpe = json_object_get(root, "model"), *merges = json_object_get(bpe, "merges");
    const char *unknown = json_string_value(json_object_get(bpe, "unk_token"));
    struct vocabulary v = {.ids = json_object_get(bpe, "vocab")};
    enum moe_status status = check_kind(root, bpe, err);
    if (status != MOE_OK)
        return status;
    if (json_object_size(v.ids) == 0 || json_object_size(v.ids) > INT32_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "missing object vocab");
    if (!unknown)
        return moe_fail(err, MOE_ERR_INPUT, "missing key unk_token");
    v.n = (uint32_t)json_object_size(v.ids);
    v.piece = calloc(v.n, sizeof *v.piece);
    if (!v.piece)
        return moe_fail_memory(err, "a tokenizer");
    status = read_pieces(&v, err);
    if (status == MOE_OK)
        status = name_pieces(&v, root, unknown, err);
    if (status == MOE_OK)
        status = read_merges(&v, merges, err);
    if (status == MOE_OK)
        status = write_model(&v, unknown, json_array_size(merges), model, n, err);
    free(v.piece);
    return status;
}
