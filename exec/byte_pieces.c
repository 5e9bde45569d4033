#include "exec/byte_pieces.h"

#include "exec/json.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ALPHABET_END = 0x144 }; /* code points below this may be of the byte alphabet */

/* A pair of neighbours and what they become. */
struct pair {
    int32_t left, right, made; /* made -1: an empty place of the table */
    uint32_t rank;
};

struct moe_byte_pieces {
    char *bytes;     /* of all pieces, one behind the other */
    uint32_t *start; /* [n + 1] */
    uint32_t n;      /* largest id + 1 */
    int32_t byte_id[256];
    struct pair *pair; /* [pair_mask + 1], open addressing */
    size_t pair_mask;
    int32_t *whole; /* with ignore_merges: ids by their bytes, [whole_mask + 1]; -1: empty */
    size_t whole_mask;
};

/* ---- the byte alphabet ---- */

static bool stands_for_itself(uint32_t c)
{
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

/* The byte of a character; -1 for one outside of the alphabet. */
static int byte_of(uint32_t c)
{
    if (c < 0x100)
        return stands_for_itself(c) ? (int)c : -1;
    if (c >= ALPHABET_END)
        return -1;
    uint32_t k = c - 0x100; /* the k-th byte that does not stand for itself */
    if (k < 0x21)
        return (int)k;
    if (k < 0x21 + 0x22) /* U+007F to U+00A0 */
        return (int)(k - 0x21 + 0x7f);
    return 0xad;
}

/* The character at *text of valid UTF-8 and moves *text past it; one that needs more than two
 * bytes is outside of the alphabet, whatever it is. */
static uint32_t next_char(const char **text)
{
    const uint8_t *at = (const uint8_t *)*text;
    if (at[0] < 0x80) {
        *text += 1;
        return at[0];
    }
    if (at[0] >= 0xe0)
        return ALPHABET_END;
    *text += 2;
    return (uint32_t)(at[0] & 0x1f) << 6 | (at[1] & 0x3f);
}

/* The bytes of a piece's text; false if it has a character outside of the alphabet. */
static bool spell(const char *text, char *out, size_t *n)
{
    for (*n = 0; *text; ++*n) {
        int byte = byte_of(next_char(&text));
        if (byte < 0)
            return false;
        out[*n] = (char)byte;
    }
    return true;
}

size_t moe_byte_pieces_spell(const char *text, char *out)
{
    size_t n = 0;
    if (spell(text, out, &n))
        return n;
    n = strlen(text);
    memcpy(out, text, n);
    return n;
}

/* ---- tables ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The place of a pair: where it is, or the empty one where it would be. */
static struct pair *place_pair(const struct moe_byte_pieces *p, int32_t left, int32_t right)
{
    size_t i = mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & p->pair_mask;
    while (p->pair[i].made >= 0 && (p->pair[i].left != left || p->pair[i].right != right))
        i = (i + 1) & p->pair_mask;
    return &p->pair[i];
}

static uint64_t hash_bytes(const char *text, size_t n)
{
    uint64_t hash = n;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3u;
    return mix(hash);
}

static size_t place_whole(const struct moe_byte_pieces *p, const char *text, size_t n)
{
    size_t i = hash_bytes(text, n) & p->whole_mask;
    for (; p->whole[i] >= 0; i = (i + 1) & p->whole_mask) {
        size_t length = 0;
        const char *piece = moe_byte_pieces_text(p, p->whole[i], &length);
        if (length == n && memcmp(piece, text, n) == 0)
            break;
    }
    return i;
}

/* A power of two, at least twice n. */
static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size;
}

/* ---- reading ---- */

static bool is_text(const json_t *value, const char *text)
{
    const char *told = json_string_value(value);
    return told && strcmp(told, text) == 0;
}

static bool is_nothing(const json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) || is_text(value, "") ||
           (json_is_number(value) && json_number_value(value) == 0);
}

static enum moe_status check_kind(const json_t *model, struct moe_err *err)
{
    static const char *const off[] = {"byte_fallback", "dropout", "continuing_subword_prefix",
                                      "end_of_word_suffix"};
    if (!is_text(json_object_get(model, "type"), "BPE"))
        return moe_json_refuse(json_object_get(model, "type"), "model.type", "BPE is", err);
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        const json_t *value = json_object_get(model, off[i]);
        if (!is_nothing(value))
            return moe_json_refuse(value, off[i], "none is", err);
    }
    if (!json_is_object(json_object_get(model, "vocab")))
        return moe_fail(err, MOE_ERR_INPUT, "missing object vocab");
    if (!json_is_array(json_object_get(model, "merges")))
        return moe_fail(err, MOE_ERR_INPUT, "missing list merges");
    return MOE_OK;
}

/* text[id]: the piece of each id as the file writes it, or NULL; heap. */
static enum moe_status list_texts(const json_t *vocab, const char ***text, uint32_t *n,
                                  struct moe_err *err)
{
    const size_t n_pieces = json_object_size(vocab), room = n_pieces + MOE_BYTE_IDS_ABOVE;
    const char *piece;
    json_t *value;
    if (room > INT32_MAX / 2)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "vocab: %zu pieces", n_pieces);
    *text = calloc(room, sizeof **text);
    if (!*text)
        return moe_fail_memory(err, "a tokenizer");
    *n = 0;
    json_object_foreach((json_t *)vocab, piece, value)
    {
        uint64_t id = 0;
        if (moe_json_u64(value, "id of a piece", 0, room - 1, &id, err) != MOE_OK)
            return moe_fail_prefix(err, "vocab");
        if ((*text)[id])
            return moe_fail(err, MOE_ERR_INPUT,
                            "vocab: id %" PRIu64 " of both '%.100s' and '%.100s'", id, (*text)[id],
                            piece);
        if (!*piece)
            return moe_fail(err, MOE_ERR_INPUT, "vocab: the piece of id %" PRIu64 " is empty", id);
        (*text)[id] = piece;
        if (id >= *n)
            *n = (uint32_t)id + 1;
    }
    return MOE_OK;
}

/* The texts of the added tokens as keys; NULL: out of memory. */
static json_t *added_texts(const json_t *root)
{
    json_t *set = json_object(), *token;
    size_t i;
    json_array_foreach(json_object_get(root, "added_tokens"), i, token)
    {
        const char *text = json_string_value(json_object_get(token, "content"));
        if (text && set && json_object_set_new(set, text, json_true()) != 0) {
            json_decref(set);
            set = NULL;
        }
    }
    return set;
}

/* Bytes of the pieces, and the ids of single bytes. */
static enum moe_status take_texts(struct moe_byte_pieces *p, const char *const *text,
                                  const json_t *added, struct moe_err *err)
{
    uint32_t at = 0;
    for (uint32_t id = 0; id < p->n; id++) {
        p->start[id] = at;
        if (!text[id])
            continue;
        size_t n = 0;
        bool spelt = spell(text[id], p->bytes + at, &n);
        if (!spelt) {
            if (!json_object_get(added, text[id]))
                return moe_fail(err, MOE_ERR_INPUT,
                                "vocab: '%.100s' has a character that stands for no byte",
                                text[id]);
            n = strlen(text[id]);
            memcpy(p->bytes + at, text[id], n);
        }
        if (n > MOE_BYTE_PIECE_MAX)
            return moe_fail(err, MOE_ERR_INPUT, "vocab: piece %" PRIu32 " has %zu bytes, limit %d",
                            id, n, MOE_BYTE_PIECE_MAX);
        if (spelt && n == 1)
            p->byte_id[(uint8_t)p->bytes[at]] = (int32_t)id;
        at += (uint32_t)n;
    }
    p->start[p->n] = at;
    return MOE_OK;
}

static enum moe_status check_bytes(const struct moe_byte_pieces *p, struct moe_err *err)
{
    for (unsigned byte = 0; byte < 0xf5; byte++)
        if (p->byte_id[byte] < 0 && byte != 0xc0 && byte != 0xc1)
            return moe_fail(err, MOE_ERR_INPUT, "vocab: no piece for byte 0x%02X", byte);
    return MOE_OK;
}

static enum moe_status read_pieces(struct moe_byte_pieces *p, const json_t *root,
                                   const json_t *vocab, struct moe_err *err)
{
    const char **text = NULL;
    size_t total = 1;
    enum moe_status status = list_texts(vocab, &text, &p->n, err);
    for (uint32_t id = 0; status == MOE_OK && id < p->n; id++)
        total += text[id] ? strlen(text[id]) : 0;
    if (status == MOE_OK && total > UINT32_MAX)
        status = moe_fail(err, MOE_ERR_UNSUPPORTED, "vocab: %zu bytes", total);
    if (status == MOE_OK) {
        json_t *added = added_texts(root);
        p->bytes = malloc(total);
        p->start = malloc(((size_t)p->n + 1) * sizeof *p->start);
        memset(p->byte_id, -1, sizeof p->byte_id);
        if (p->bytes && p->start && added)
            status = take_texts(p, text, added, err);
        else
            status = moe_fail_memory(err, "a tokenizer");
        json_decref(added);
    }
    free(text);
    return status == MOE_OK ? check_bytes(p, err) : status;
}

/* "left right" or ["left", "right"]: the whole goes to text, the bytes of its left part to *left.
 */
static enum moe_status spell_merge(const json_t *merge, size_t i, char *text, size_t room,
                                   size_t *left, struct moe_err *err)
{
    const char *a = json_string_value(json_array_get(merge, 0));
    const char *b = json_string_value(json_array_get(merge, 1));
    const char *both = json_string_value(merge), *space = both ? strchr(both, ' ') : NULL;
    size_t n_b = 0;
    if (space && !strchr(space + 1, ' ')) {
        a = both;
        b = space + 1;
        *left = (size_t)(space - both);
    } else if (json_array_size(merge) == 2 && a && b) {
        *left = strlen(a);
    } else {
        a = NULL;
    }
    n_b = a ? strlen(b) : 0;
    if (!a || *left >= room || n_b >= room - *left)
        return moe_fail(err, MOE_ERR_INPUT, "merge %zu is not two pieces of at most %d bytes", i,
                        MOE_BYTE_PIECE_MAX);
    memcpy(text, a, *left);
    memcpy(text + *left, b, n_b + 1);
    return MOE_OK;
}

/* The id of a text in the vocabulary, whose values have been checked; -1: none. */
static int32_t find_id(const json_t *vocab, const char *text)
{
    const json_t *id = json_object_get(vocab, text);
    return id ? (int32_t)json_real_value(id) : -1;
}

static enum moe_status take_merge(struct moe_byte_pieces *p, const json_t *vocab,
                                  const json_t *merge, size_t i, struct moe_err *err)
{
    char text[4 * MOE_BYTE_PIECE_MAX + 1], part[4 * MOE_BYTE_PIECE_MAX + 1];
    size_t left = 0;
    enum moe_status status = spell_merge(merge, i, text, sizeof text, &left, err);
    if (status != MOE_OK)
        return status;
    memcpy(part, text, left);
    part[left] = '\0';
    struct pair pair = {.left = find_id(vocab, part),
                        .right = find_id(vocab, text + left),
                        .made = find_id(vocab, text),
                        .rank = (uint32_t)i};
    if (pair.left < 0 || pair.right < 0 || pair.made < 0)
        return moe_fail(err, MOE_ERR_INPUT, "merge %zu to '%.100s' does not join two pieces", i,
                        text);
    struct pair *place = place_pair(p, pair.left, pair.right);
    if (place->made >= 0)
        return moe_fail(err, MOE_ERR_INPUT, "merges %" PRIu32 " and %zu are the same", place->rank,
                        i);
    *place = pair;
    return MOE_OK;
}

static enum moe_status read_merges(struct moe_byte_pieces *p, const json_t *model,
                                   struct moe_err *err)
{
    const json_t *vocab = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    const size_t n = json_array_size(merges), size = table_size(n);
    if (n > INT32_MAX / 4)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "%zu merges", n);
    p->pair = malloc(size * sizeof *p->pair);
    if (!p->pair)
        return moe_fail_memory(err, "a tokenizer");
    for (size_t i = 0; i < size; i++)
        p->pair[i].made = -1;
    p->pair_mask = size - 1;
    for (size_t i = 0; i < n; i++) {
        enum moe_status status = take_merge(p, vocab, json_array_get(merges, i), i, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

/* Only pieces of the byte alphabet: among these, different ones have different bytes. */
static enum moe_status index_whole(struct moe_byte_pieces *p, const json_t *vocab,
                                   struct moe_err *err)
{
    const size_t size = table_size(p->n);
    const char *text;
    json_t *value;
    p->whole = malloc(size * sizeof *p->whole);
    if (!p->whole)
        return moe_fail_memory(err, "a tokenizer");
    memset(p->whole, -1, size * sizeof *p->whole);
    p->whole_mask = size - 1;
    json_object_foreach((json_t *)vocab, text, value)
    {
        char bytes[2 * MOE_BYTE_PIECE_MAX];
        size_t n = 0;
        if (strlen(text) <= sizeof bytes && spell(text, bytes, &n))
            p->whole[place_whole(p, bytes, n)] = (int32_t)json_real_value(value);
    }
    return MOE_OK;
}

enum moe_status moe_byte_pieces_read(struct moe_byte_pieces **out, const json_t *root,
                                     struct moe_err *err)
{
    const json_t *model = json_object_get(root, "model");
    enum moe_status status = check_kind(model, err);
    if (status != MOE_OK)
        return status;
    struct moe_byte_pieces *p = calloc(1, sizeof *p);
    if (!p)
        return moe_fail_memory(err, "a tokenizer");
    status = read_pieces(p, root, json_object_get(model, "vocab"), err);
    if (status == MOE_OK)
        status = read_merges(p, model, err);
    if (status == MOE_OK && json_is_true(json_object_get(model, "ignore_merges")))
        status = index_whole(p, json_object_get(model, "vocab"), err);
    if (status == MOE_OK)
        *out = p;
    else
        moe_byte_pieces_free(p);
    return status;
}

void moe_byte_pieces_free(struct moe_byte_pieces *pieces)
{
    if (!pieces)
        return;
    free(pieces->bytes);
    free(pieces->start);
    free(pieces->pair);
    free(pieces->whole);
    free(pieces);
}

uint32_t moe_byte_pieces_size(const struct moe_byte_pieces *pieces)
{
    return pieces->n;
}

const char *moe_byte_pieces_text(const struct moe_byte_pieces *pieces, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || (uint32_t)id >= pieces->n)
        return pieces->bytes;
    *n = pieces->start[id + 1] - pieces->start[id];
    return pieces->bytes + pieces->start[id];
}

/* ---- merging ---- */

struct moe_byte_symbol {
    int32_t id; /* -1: joined to the one before */
    uint32_t before, behind;
};

struct moe_byte_merge {
    uint32_t rank, at; /* of the left symbol */
    int32_t made;
};

#define NO_SYMBOL UINT32_MAX

void moe_byte_work_release(struct moe_byte_work *work)
{
    free(work->symbol);
    free(work->queue);
    *work = (struct moe_byte_work){0};
}

/* Every merge leaves the queue and adds at most two, and one symbol less remains. */
static enum moe_status make_room(struct moe_byte_work *work, size_t n, struct moe_err *err)
{
    if (n <= work->room)
        return MOE_OK;
    size_t room = 2 * n;
    struct moe_byte_symbol *symbol = realloc(work->symbol, room * sizeof *symbol);
    if (symbol)
        work->symbol = symbol;
    struct moe_byte_merge *queue = realloc(work->queue, 3 * room * sizeof *queue);
    if (queue)
        work->queue = queue;
    if (!symbol || !queue)
        return moe_fail_memory(err, "a word");
    work->room = room;
    return MOE_OK;
}

static bool is_earlier(const struct moe_byte_merge *a, const struct moe_byte_merge *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

/* A binary heap, the earliest merge on top. */
static void push_merge(struct moe_byte_merge *queue, size_t *n, struct moe_byte_merge merge)
{
    size_t i = (*n)++;
    for (; i && is_earlier(&merge, &queue[(i - 1) / 2]); i = (i - 1) / 2)
        queue[i] = queue[(i - 1) / 2];
    queue[i] = merge;
}

static struct moe_byte_merge pop_merge(struct moe_byte_merge *queue, size_t *n)
{
    struct moe_byte_merge top = queue[0], last = queue[--*n];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && is_earlier(&queue[child + 1], &queue[child]))
            child++;
        if (!is_earlier(&queue[child], &last))
            break;
        queue[i] = queue[child];
    }
    queue[i] = last;
    return top;
}

/* Queues the merge of the symbols at `at` and behind it, if they have one. */
static void consider(const struct moe_byte_pieces *p, struct moe_byte_work *work, uint32_t at,
                     size_t *n_queue)
{
    const struct moe_byte_symbol *left = &work->symbol[at];
    if (left->behind == NO_SYMBOL)
        return;
    const struct pair *pair = place_pair(p, left->id, work->symbol[left->behind].id);
    if (pair->made >= 0)
        push_merge(work->queue, n_queue,
                   (struct moe_byte_merge){.rank = pair->rank, .at = at, .made = pair->made});
}

/* Is a queued merge still possible? What it makes decides, as in the source. */
static bool is_current(const struct moe_byte_pieces *p, const struct moe_byte_work *work,
                       const struct moe_byte_merge *merge)
{
    const struct moe_byte_symbol *left = &work->symbol[merge->at];
    if (left->id < 0 || left->behind == NO_SYMBOL)
        return false;
    return place_pair(p, left->id, work->symbol[left->behind].id)->made == merge->made;
}

static void join(const struct moe_byte_pieces *p, struct moe_byte_work *work)
{
    size_t n_queue = 0;
    for (uint32_t i = 0; work->symbol[i].behind != NO_SYMBOL; i++)
        consider(p, work, i, &n_queue);
    while (n_queue) {
        struct moe_byte_merge merge = pop_merge(work->queue, &n_queue);
        if (!is_current(p, work, &merge))
            continue;
        struct moe_byte_symbol *left = &work->symbol[merge.at];
        struct moe_byte_symbol *right = &work->symbol[left->behind];
        left->id = merge.made;
        left->behind = right->behind;
        right->id = -1;
        if (left->behind != NO_SYMBOL)
            work->symbol[left->behind].before = merge.at;
        if (left->before != NO_SYMBOL)
            consider(p, work, left->before, &n_queue);
        consider(p, work, merge.at, &n_queue);
    }
}

enum moe_status moe_byte_pieces_encode(const struct moe_byte_pieces *pieces, const char *word,
                                       size_t n, struct moe_byte_work *work,
                                       struct moe_id_list *list, struct moe_err *err)
{
    if (n > MOE_BYTE_WORD_MAX)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "a word of %zu bytes, limit %u", n,
                        (unsigned)MOE_BYTE_WORD_MAX);
    if (!n)
        return MOE_OK;
    int32_t whole = pieces->whole ? pieces->whole[place_whole(pieces, word, n)] : -1;
    if (whole >= 0)
        return moe_id_list_append(list, &whole, 1, err);
    enum moe_status status = make_room(work, n, err);
    if (status != MOE_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        work->symbol[i] = (struct moe_byte_symbol){
            .id = pieces->byte_id[(uint8_t)word[i]],
            .before = i ? (uint32_t)i - 1 : NO_SYMBOL,
            .behind = i + 1 < n ? (uint32_t)i + 1 : NO_SYMBOL,
        };
    join(pieces, work);
    for (uint32_t i = 0; i != NO_SYMBOL && status == MOE_OK; i = work->symbol[i].behind)
        status = moe_id_list_append(list, &work->symbol[i].id, 1, err);
    return status;
}
