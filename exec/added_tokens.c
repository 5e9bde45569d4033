#include "exec/added_tokens.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum moe_status moe_added_push(struct moe_added_tokens *added, const struct moe_added_token *token,
                               struct moe_err *err)
{
    if (added->n == MOE_ADDED_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "more than %d added tokens", MOE_ADDED_MAX);
    if (added->n == added->room) {
        size_t room = added->room ? 2 * added->room : 16;
        struct moe_added_token *more = realloc(added->token, room * sizeof *more);
        if (!more)
            return moe_fail_memory(err, "added tokens");
        added->token = more;
        added->room = room;
    }
    char *text = malloc(token->n + 1);
    if (!text)
        return moe_fail_memory(err, "an added token");
    memcpy(text, token->text, token->n);
    text[token->n] = '\0';
    struct moe_added_token *to = &added->token[added->n];
    *to = *token;
    to->text = text;
    to->rank = (uint32_t)added->n++;
    return MOE_OK;
}

static int compare_texts(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order ? order : (n_a > n_b) - (n_a < n_b);
}

static int by_text(const void *a, const void *b)
{
    const struct moe_added_token *x = a, *y = b;
    int order = compare_texts(x->text, x->n, y->text, y->n);
    return order ? order : (x->rank > y->rank) - (x->rank < y->rank);
}

static int by_id(const void *a, const void *b)
{
    const struct moe_added_token *x = *(const struct moe_added_token *const *)a;
    const struct moe_added_token *y = *(const struct moe_added_token *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Keeps only the first of neighbours with the same text. */
static enum moe_status merge_equals(struct moe_added_tokens *added, struct moe_err *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < added->n; i++) {
        struct moe_added_token *token = &added->token[i];
        struct moe_added_token *last = kept ? &added->token[kept - 1] : NULL;
        if (!last || strcmp(last->text, token->text) != 0) {
            added->token[kept++] = *token;
            continue;
        }
        int32_t ids[] = {last->id, token->id};
        last->named = last->named || token->named;
        free(token->text);
        token->text = NULL;
        if (ids[0] != ids[1]) { /* keep the list in a state that can be released */
            for (i++; i < added->n; i++)
                added->token[kept++] = added->token[i];
            added->n = kept;
            return moe_fail(err, MOE_ERR_INPUT, "token '%s' has two ids, %d and %d", last->text,
                            ids[0], ids[1]);
        }
    }
    added->n = kept;
    return MOE_OK;
}

/* Sorts by_id. Sorts pointers first, as qsort's comparison has no context. */
static enum moe_status index_ids(struct moe_added_tokens *added, struct moe_err *err)
{
    const struct moe_added_token **order = calloc(added->n + 1, sizeof *order);
    uint32_t *places = realloc(added->by_id, (added->n + 1) * sizeof *places);
    if (places)
        added->by_id = places;
    if (!order || !places) {
        free(order);
        return moe_fail_memory(err, "added tokens");
    }
    for (size_t i = 0; i < added->n; i++)
        order[i] = &added->token[i];
    qsort(order, added->n, sizeof *order, by_id);
    enum moe_status status = MOE_OK;
    for (size_t i = 0; i < added->n; i++) {
        places[i] = (uint32_t)(order[i] - added->token);
        if (i && order[i]->id == order[i - 1]->id && status == MOE_OK)
            status = moe_fail(err, MOE_ERR_INPUT, "id %d stands for two tokens, '%s' and '%s'",
                              order[i]->id, order[i - 1]->text, order[i]->text);
    }
    free(order);
    return status;
}

enum moe_status moe_added_finish(struct moe_added_tokens *added, struct moe_err *err)
{
    if (added->n)
        qsort(added->token, added->n, sizeof *added->token, by_text);
    enum moe_status status = merge_equals(added, err);
    return status == MOE_OK ? index_ids(added, err) : status;
}

void moe_added_release(struct moe_added_tokens *added)
{
    for (size_t i = 0; i < added->n; i++)
        free(added->token[i].text);
    free(added->token);
    free(added->by_id);
    *added = (struct moe_added_tokens){0};
}

/* The first of the tokens [low, high) whose byte `at` is c or greater; all are longer than `at`
 * bytes and agree in these. */
static size_t first_not_below(const struct moe_added_tokens *added, size_t low, size_t high,
                              size_t at, unsigned c)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((unsigned char)added->token[middle].text[at] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct moe_added_token *moe_added_longest(const struct moe_added_tokens *added,
                                                const char *text, size_t n)
{
    const struct moe_added_token *found = NULL;
    size_t low = 0, high = added->n;
    for (size_t at = 0; low < high; at++) {
        if (added->token[low].n == at) /* the shortest of those with this beginning comes first */
            found = &added->token[low++];
        if (at == n)
            break;
        unsigned c = (unsigned char)text[at];
        low = first_not_below(added, low, high, at, c);
        high = first_not_below(added, low, high, at, c + 1);
    }
    return found;
}

const struct moe_added_token *moe_added_exact(const struct moe_added_tokens *added,
                                              const char *text, size_t n)
{
    const struct moe_added_token *found = n ? moe_added_longest(added, text, n) : NULL;
    return found && found->n == n ? found : NULL;
}

const struct moe_added_token *moe_added_by_id(const struct moe_added_tokens *added, int32_t id)
{
    size_t low = 0, high = added->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct moe_added_token *token = &added->token[added->by_id[middle]];
        if (token->id == id)
            return token;
        if (token->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* ---- white space ---- */

/* Unicode's White_Space. */
static const struct {
    uint32_t first, last;
} blanks[] = {
    {0x09, 0x0d},     {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680},
    {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
};

/* Is the character of n bytes white space? For Python's str.strip four separators are, too. */
static bool is_blank(const char *at, size_t n, bool python)
{
    static const uint8_t bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t value = (uint8_t)at[0] & bits[n];
    for (size_t i = 1; i < n; i++)
        value = value << 6 | ((uint8_t)at[i] & 0x3f);
    for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++)
        if (value >= blanks[i].first && value <= blanks[i].last)
            return true;
    return python && value >= 0x1c && value <= 0x1f;
}

static void strip_left(struct moe_part *part, bool python)
{
    while (part->n) {
        int length = moe_utf8_char(part->at, part->n);
        if (length <= 0 || !is_blank(part->at, (size_t)length, python))
            break;
        part->at += length;
        part->n -= (size_t)length;
    }
}

static void strip_right(struct moe_part *part, bool python)
{
    while (part->n) {
        size_t length = 1;
        while (length < part->n && length < 4 && (part->at[part->n - length] & 0xc0) == 0x80)
            length++;
        if (!is_blank(part->at + part->n - length, length, python))
            break;
        part->n -= length;
    }
}

/* ---- cutting ---- */

struct part_list {
    struct moe_part *part;
    size_t n, room;
};

static enum moe_status append(struct part_list *list, const char *at, size_t n, struct moe_err *err)
{
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 16;
        struct moe_part *more = realloc(list->part, room * sizeof *more);
        if (!more)
            return moe_fail_memory(err, "parts of a text");
        list->part = more;
        list->room = room;
    }
    list->part[list->n++] = (struct moe_part){.at = at, .n = n};
    return MOE_OK;
}

static enum moe_status cut(const struct moe_added_tokens *added, const char *text, size_t n,
                           struct part_list *list, struct moe_err *err)
{
    size_t done = 0, i = 0;
    enum moe_status status = MOE_OK;
    while (i < n && status == MOE_OK) {
        const struct moe_added_token *token = moe_added_longest(added, text + i, n - i);
        if (!token) {
            i++;
            continue;
        }
        if (i > done)
            status = append(list, text + done, i - done, err);
        if (status == MOE_OK)
            status = append(list, text + i, token->n, err);
        i += token->n;
        done = i;
    }
    return status == MOE_OK && done < n ? append(list, text + done, n - done, err) : status;
}

enum moe_status moe_added_split(const struct moe_added_tokens *added, const char *text, size_t n,
                                struct moe_part **parts, size_t *n_parts, struct moe_err *err)
{
    struct part_list list = {0};
    enum moe_status status = cut(added, text, n, &list, err);
    if (status == MOE_OK && !list.n)
        status = append(&list, text, 0, err);
    if (status != MOE_OK) {
        free(list.part);
        return status;
    }
    for (size_t i = 0; i < list.n; i++) {
        /* Look the part up as it is after stripping. */
        const struct moe_added_token *token =
            moe_added_exact(added, list.part[i].at, list.part[i].n);
        if (token && token->rstrip && i + 1 < list.n)
            strip_left(&list.part[i + 1], true);
        if (token && token->lstrip && i)
            strip_right(&list.part[i - 1], true);
    }
    for (size_t i = 0; i < list.n; i++)
        list.part[i].token = moe_added_exact(added, list.part[i].at, list.part[i].n);
    *parts = list.part;
    *n_parts = list.n;
    return MOE_OK;
}

/* Adds a token found in [first, end) of a text, and the text between *done and it. */
static enum moe_status add_match(struct part_list *list, const char *text, size_t n, size_t *done,
                                 const struct moe_added_token *token, size_t first,
                                 struct moe_err *err)
{
    struct moe_part before = {.at = text, .n = first};
    struct moe_part behind = {.at = text + first + token->n, .n = n - first - token->n};
    if (token->lstrip)
        strip_right(&before, false);
    if (token->rstrip)
        strip_left(&behind, false);
    enum moe_status status = MOE_OK;
    if (before.n > *done)
        status = append(list, text + *done, before.n - *done, err);
    if (status == MOE_OK)
        status = append(list, text + first, token->n, err);
    if (status == MOE_OK)
        list->part[list->n - 1].token = token;
    *done = n - behind.n;
    return status;
}

enum moe_status moe_added_match(const struct moe_added_tokens *added, const char *text, size_t n,
                                struct moe_part **parts, size_t *n_parts, struct moe_err *err)
{
    struct part_list list = {0};
    enum moe_status status = MOE_OK;
    size_t done = 0;
    for (size_t i = 0; i < n && status == MOE_OK;) {
        const struct moe_added_token *token = moe_added_longest(added, text + i, n - i);
        if (token)
            status = add_match(&list, text, n, &done, token, i, err);
        i += token ? token->n : 1;
    }
    if (status == MOE_OK && done < n)
        status = append(&list, text + done, n - done, err);
    if (status != MOE_OK) {
        free(list.part);
        return status;
    }
    *parts = list.part;
    *n_parts = list.n;
    return MOE_OK;
}
