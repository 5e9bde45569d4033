#include "policies/hot_list.h"

#include "base/file.h"
#include "traces/csv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FIELDS = 3, MAX_BYTES = 64 << 20 };

/* A list while it is read. */
struct reader {
    struct moe_csv csv; /* for lines only: fields are separated by tabs */
    uint32_t n_layers, n_experts, n_columns;
    uint64_t *seen; /* [L * E] line that lists the expert, 0: none so far */
    moe_key *keys;
    uint32_t n;
};

/* Writes the first MAX_FIELDS fields of the line; returns how many there are. */
static uint32_t split(struct moe_text line, struct moe_text *fields)
{
    uint32_t n = 0;
    for (;;) {
        const char *tab = memchr(line.at, '\t', line.n);
        size_t length = tab ? (size_t)(tab - line.at) : line.n;
        if (n < MAX_FIELDS)
            fields[n] = (struct moe_text){line.at, length};
        n++;
        if (!tab)
            return n;
        line = (struct moe_text){tab + 1, line.n - length - 1};
    }
}

static enum moe_status read_header(struct reader *r, struct moe_err *err)
{
    struct moe_text column[MAX_FIELDS] = {{NULL, 0}};
    r->n_columns = split(r->csv.text, column);
    if ((r->n_columns == 2 || r->n_columns == 3) && moe_text_equal(column[0], "layer") &&
        moe_text_equal(column[1], "expert") &&
        (r->n_columns == 2 || moe_text_equal(column[2], "uses")))
        return MOE_OK;
    return moe_csv_fail(
        &r->csv, err,
        "expected the header 'layer', 'expert' and perhaps 'uses', separated by tabs, not '%.*s'",
        r->csv.text.n < 40 ? (int)r->csv.text.n : 40, r->csv.text.at);
}

static enum moe_status read_row(struct reader *r, struct moe_err *err)
{
    struct moe_text field[MAX_FIELDS] = {{NULL, 0}};
    uint64_t layer, expert, uses;
    uint32_t n = split(r->csv.text, field);
    if (n != r->n_columns)
        return moe_csv_fail(&r->csv, err, "line has %" PRIu32 " field%s, the header has %" PRIu32,
                            n, moe_plural(n), r->n_columns);
    enum moe_status s =
        moe_csv_u64(&r->csv, field[0], "layer", 0, (uint64_t)r->n_layers - 1, &layer, err);
    if (!s)
        s = moe_csv_u64(&r->csv, field[1], "expert", 0, (uint64_t)r->n_experts - 1, &expert, err);
    if (!s && n == 3)
        s = moe_csv_u64(&r->csv, field[2], "uses", 0, UINT64_MAX, &uses, err);
    if (s)
        return s;
    moe_key key = (moe_key)(layer * r->n_experts + expert);
    if (r->seen[key])
        return moe_csv_fail(&r->csv, err,
                            "layer %" PRIu64 ", expert %" PRIu64 " is already in line %" PRIu64,
                            layer, expert, r->seen[key]);
    r->seen[key] = r->csv.line;
    r->keys[r->n++] = key;
    return MOE_OK;
}

/* Refuses the list if it has the note `trace_model: NAME, 32 layers, 8 experts, top-2` of a model
 * of another shape, whose expert numbers mean nothing here. */
static enum moe_status read_note(const struct reader *r, struct moe_err *err)
{
    static const char note[] = "# trace_model: ";
    uint32_t n_layers, n_experts;
    char line[256];
    int length = r->csv.text.n < sizeof line ? (int)r->csv.text.n : (int)sizeof line - 1;
    snprintf(line, sizeof line, "%.*s", length, r->csv.text.at);
    const char *shape = strncmp(line, note, sizeof note - 1) == 0 ? strchr(line, ',') : NULL;
    if (!shape ||
        sscanf(shape, ", %9" SCNu32 " layers, %9" SCNu32 " experts", &n_layers, &n_experts) != 2 ||
        (n_layers == r->n_layers && n_experts == r->n_experts))
        return MOE_OK;
    return moe_csv_fail(&r->csv, err,
                        "the list is for a model of %" PRIu32 " layers with %" PRIu32
                        " experts, this one has %" PRIu32 " with %" PRIu32
                        "; make one with `moelab trace stats TRACE --hot-list FILE`",
                        n_layers, n_experts, r->n_layers, r->n_experts);
}

static enum moe_status read_lines(struct reader *r, struct moe_err *err)
{
    bool header = false;
    for (;;) {
        bool got;
        enum moe_status s = moe_csv_next(&r->csv, &got, err);
        if (s)
            return s;
        if (!got)
            break;
        bool note = !header && r->csv.text.n > 0 && r->csv.text.at[0] == '#';
        s = note ? read_note(r, err) : header ? read_row(r, err) : read_header(r, err);
        if (s)
            return s;
        header |= !note;
    }
    if (!header)
        return moe_fail(err, MOE_ERR_INPUT, "'%s' has no header line 'layer', 'expert'",
                        r->csv.name);
    return MOE_OK;
}

enum moe_status moe_hot_list_parse(const char *name, const char *text, size_t size,
                                   uint32_t n_layers, uint32_t n_experts, moe_key *keys,
                                   uint32_t *n, struct moe_err *err)
{
    struct reader r = {.n_layers = n_layers, .n_experts = n_experts, .keys = keys};
    if (n_layers == 0 || n_experts == 0)
        return moe_fail(err, MOE_ERR_USAGE, "'%s': a model without experts has no hot list", name);
    r.seen = calloc((size_t)n_layers * n_experts + 1, sizeof *r.seen);
    if (!r.seen)
        return moe_fail_memory(err, "a hot list");
    moe_csv_start(&r.csv, name, text, size);
    enum moe_status s = read_lines(&r, err);
    free(r.seen);
    if (!s)
        *n = r.n;
    return s;
}

static enum moe_status load(const struct moe_policy_env *env, const char *path, moe_key *keys,
                            uint32_t *n, struct moe_err *err)
{
    char *text, found[4096];
    size_t size;
    enum moe_status s =
        moe_file_read(moe_find_data(path, found, sizeof found), MAX_BYTES, &text, &size, err);
    if (s)
        return s;
    s = moe_hot_list_parse(path, text, size, env->n_layers, env->n_experts, keys, n, err);
    free(text);
    return s;
}

struct ranked {
    moe_key key;
    uint64_t uses;
};

static int by_uses(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->uses != y->uses)
        return x->uses > y->uses ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

static void count_uses(const struct moe_trace *trace, const uint8_t *chosen, enum moe_phases phases,
                       uint64_t *uses)
{
    const struct moe_tokens *tokens = &trace->tokens;
    uint32_t n_layers = trace->info.n_layers, top_k = trace->info.top_k;
    for (uint64_t t = 0; t < tokens->n_tokens; t++) {
        bool decode = tokens->phase[t] == MOE_DECODE;
        if ((chosen && !chosen[tokens->sequence[t]]) ||
            (phases != MOE_PHASES_BOTH && (phases == MOE_PHASES_DECODE) != decode))
            continue;
        const moe_expert *row = tokens->expert + t * n_layers * top_k;
        for (uint32_t l = 0; l < n_layers; l++)
            for (uint32_t k = 0; k < top_k && row[l * top_k + k] != MOE_NO_EXPERT; k++)
                uses[l * trace->info.n_experts + row[l * top_k + k]]++;
    }
}

enum moe_status moe_hot_list_fit(const struct moe_trace *trace, const uint8_t *chosen,
                                 enum moe_phases phases, moe_key *keys, uint64_t *uses,
                                 struct moe_err *err)
{
    size_t n = (size_t)trace->info.n_layers * trace->info.n_experts;
    struct ranked *ranked = calloc(n + 1, sizeof *ranked);
    if (!ranked)
        return moe_fail_memory(err, "a hot list");
    memset(uses, 0, n * sizeof *uses);
    count_uses(trace, chosen, phases, uses);
    for (size_t i = 0; i < n; i++)
        ranked[i] = (struct ranked){(moe_key)i, uses[i]};
    qsort(ranked, n, sizeof *ranked, by_uses);
    for (size_t i = 0; i < n; i++)
        keys[i] = ranked[i].key;
    free(ranked);
    return MOE_OK;
}

enum moe_status moe_hot_list_or_all(const struct moe_policy_env *env, const char *path,
                                    moe_key *keys, uint32_t *n, struct moe_err *err)
{
    if (*path && env->file)
        return moe_hot_list_parse(path, env->file->at, env->file->n, env->n_layers, env->n_experts,
                                  keys, n, err);
    if (*path)
        return load(env, path, keys, n, err);
    *n = 0;
    for (uint32_t e = 0; e < env->n_experts; e++)
        for (uint32_t l = 0; l < env->n_layers; l++)
            keys[(*n)++] = l * env->n_experts + e;
    return MOE_OK;
}
