/* An engine's route log: one row a (token, layer, slot). Rows are read once into an array, because
 * the shape is known only at the end; then tokens and forward passes are found and filled. */
#include "base/units.h"
#include "traces/build.h"
#include "traces/csv.h"
#include "traces/formats.h"
#include "traces/trace.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COL_TURN,
    COL_PHASE,
    COL_STEP,
    COL_LAYER,
    COL_SLOT,
    COL_EXPERT,
    COL_WEIGHT,
    COL_RESIDENCY,
    COL_BYTES,
    N_COLUMNS
};

static const char *const names[N_COLUMNS] = {"turn",   "phase",  "step",      "layer",       "slot",
                                             "expert", "weight", "residency", "expert_bytes"};
static const uint32_t required =
    1u << COL_PHASE | 1u << COL_STEP | 1u << COL_LAYER | 1u << COL_SLOT | 1u << COL_EXPERT;

struct row {
    uint64_t bytes;
    uint32_t line, turn;
    int32_t position;
    float weight;
    moe_expert expert;
    uint16_t layer;
    uint8_t phase, slot, residency;
};

/* A token as found: its place in the context, and the forward pass it belongs to. */
struct token {
    uint32_t sequence, pass;
    int32_t position;
    uint8_t phase;
};

struct parser {
    struct moe_csv csv;
    int column[N_COLUMNS];
    size_t n_columns;
    uint64_t n_layers, n_experts, top_k; /* told by the header lines; 0: not told */
    char model[MOE_TEXT_MAX];
    uint64_t sizes[2][MOE_MAX_LAYERS]; /* expert_bytes, dense_bytes */
    uint8_t has_size[2][MOE_MAX_LAYERS];
    size_t header_bytes; /* of the lines above the column line */
    char *columns;       /* the column line, without what was skipped */
    struct moe_ignored ignored;
    struct row *rows;
    size_t n_rows, room;
    uint64_t used_layers, used_experts, used_slots; /* largest + 1 */
    struct token *tokens;
    size_t n_tokens, token_room;
    size_t *token_of; /* [n_rows] */
    bool in_order;
};

/* ---- header lines ---- */

struct header_key {
    const char *name;
    size_t offset;
    uint64_t max;
};

static const struct header_key shape_keys[] = {
    {"n_layer", offsetof(struct parser, n_layers), MOE_MAX_LAYERS},
    {"n_expert", offsetof(struct parser, n_experts), MOE_MAX_EXPERTS},
    {"n_expert_used", offsetof(struct parser, top_k), MOE_MAX_TOP_K},
};

/* The value of " key=" in a header line. */
static bool header_value(struct moe_text line, const char *key, struct moe_text *value)
{
    size_t n = strlen(key);
    for (size_t i = 1; i + n < line.n; i++) {
        const char *at = line.at + i;
        if ((at[-1] != ' ' && at[-1] != '#') || memcmp(at, key, n) != 0 || at[n] != '=')
            continue;
        const char *start = at + n + 1, *end = line.at + line.n;
        const char *blank = memchr(start, ' ', (size_t)(end - start));
        *value = (struct moe_text){start, (size_t)((blank ? blank : end) - start)};
        return true;
    }
    return false;
}

static enum moe_status parse_layer_line(struct parser *p, struct moe_err *err)
{
    static const char *const keys[2] = {"expert_bytes", "dense_bytes"};
    struct moe_text value;
    uint64_t layer = 0;
    header_value(p->csv.text, "layer", &value);
    enum moe_status status =
        moe_csv_u64(&p->csv, value, "layer", 0, MOE_MAX_LAYERS - 1, &layer, err);
    for (int i = 0; status == MOE_OK && i < 2; i++) {
        if (!header_value(p->csv.text, keys[i], &value))
            continue;
        if (p->has_size[i][layer])
            return moe_csv_fail(&p->csv, err, "%s of layer %" PRIu64 " appears twice", keys[i],
                                layer);
        p->has_size[i][layer] = 1;
        status = moe_csv_u64(&p->csv, value, keys[i], 0, INT64_MAX, &p->sizes[i][layer], err);
    }
    return status;
}

static enum moe_status parse_header_line(struct parser *p, struct moe_err *err)
{
    struct moe_text value;
    if (header_value(p->csv.text, "layer", &value))
        return parse_layer_line(p, err);
    for (size_t i = 0; i < sizeof shape_keys / sizeof *shape_keys; i++) {
        const struct header_key *key = &shape_keys[i];
        uint64_t *member = (uint64_t *)(void *)((char *)p + key->offset);
        enum moe_status status =
            header_value(p->csv.text, key->name, &value)
                ? moe_csv_u64(&p->csv, value, key->name, 1, key->max, member, err)
                : MOE_OK;
        if (status != MOE_OK)
            return status;
    }
    if (!p->model[0] && header_value(p->csv.text, "model", &value)) {
        for (size_t i = value.n; i > 0; i--) { /* the file's name without its folders */
            if (value.at[i - 1] == '/') {
                value = (struct moe_text){value.at + i, value.n - i};
                break;
            }
        }
        size_t n = value.n < sizeof p->model ? value.n : 0; /* a longer one stays in the header */
        memcpy(p->model, value.at, n);
    }
    return MOE_OK;
}

/* "# ..." lines, then the column line. */
static enum moe_status parse_header(struct parser *p, const char *data, struct moe_err *err)
{
    for (;;) {
        bool got = false;
        enum moe_status status = moe_csv_next(&p->csv, &got, err);
        if (status == MOE_OK && !got)
            return moe_fail(err, MOE_ERR_INPUT, "'%s': no column line", p->csv.name);
        if (status != MOE_OK)
            return status;
        if (p->csv.text.n == 0 || p->csv.text.at[0] != '#')
            break;
        p->header_bytes = (size_t)(p->csv.next - data);
        status = parse_header_line(p, err);
        if (status != MOE_OK)
            return status;
    }
    enum moe_status status = moe_csv_columns(&p->csv, names, N_COLUMNS, required, 0, p->column,
                                             &p->n_columns, &p->ignored, err);
    if (status == MOE_OK)
        status = moe_csv_kept_columns(&p->csv, p->column, N_COLUMNS, &p->columns, err);
    if (status == MOE_OK && p->column[COL_RESIDENCY] >= 0 && p->column[COL_BYTES] < 0)
        return moe_csv_fail(&p->csv, err, "column 'residency' needs column 'expert_bytes'");
    return status;
}

/* ---- rows ---- */

static enum moe_status parse_numbers(struct parser *p, const struct moe_text *fields,
                                     uint64_t value[N_COLUMNS], struct moe_err *err)
{
    const uint64_t max[N_COLUMNS] = {
        [COL_TURN] = UINT32_MAX - 1,
        [COL_PHASE] = MOE_DECODE,
        [COL_STEP] = INT32_MAX,
        [COL_LAYER] = (p->n_layers ? p->n_layers : MOE_MAX_LAYERS) - 1,
        [COL_SLOT] = (p->top_k ? p->top_k : MOE_MAX_TOP_K) - 1,
        [COL_EXPERT] = (p->n_experts ? p->n_experts : MOE_MAX_EXPERTS) - 1,
        [COL_RESIDENCY] = UINT8_MAX,
        [COL_BYTES] = INT64_MAX,
    };
    for (int c = 0; c < N_COLUMNS; c++) {
        value[c] = 0;
        if (p->column[c] < 0 || c == COL_WEIGHT)
            continue;
        const char *what = c == COL_PHASE ? "phase (0: prefill, 1: decode)" : names[c];
        enum moe_status status =
            moe_csv_u64(&p->csv, fields[p->column[c]], what, 0, max[c], &value[c], err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

static enum moe_status append_row(struct parser *p, const struct row *row, struct moe_err *err)
{
    if (p->n_rows == p->room) {
        size_t wanted = p->room ? 2 * p->room : 1024;
        struct row *grown = realloc(p->rows, wanted * sizeof *grown);
        if (!grown)
            return moe_fail_memory(err, "rows of a route log");
        p->rows = grown;
        p->room = wanted;
    }
    p->rows[p->n_rows++] = *row;
    if (row->layer >= p->used_layers)
        p->used_layers = row->layer + 1u;
    if (row->expert >= p->used_experts)
        p->used_experts = row->expert + 1u;
    if (row->slot >= p->used_slots)
        p->used_slots = row->slot + 1u;
    return MOE_OK;
}

static enum moe_status parse_row(struct parser *p, struct moe_err *err)
{
    struct moe_text fields[MOE_CSV_MAX_COLUMNS];
    uint64_t value[N_COLUMNS];
    float weight = 0;
    if (p->csv.line > UINT32_MAX)
        return moe_csv_fail(&p->csv, err, "more lines than 2^32");
    enum moe_status status = moe_csv_row(&p->csv, fields, p->n_columns, err);
    if (status == MOE_OK)
        status = parse_numbers(p, fields, value, err);
    if (status == MOE_OK && p->column[COL_WEIGHT] >= 0)
        status = moe_csv_f32(&p->csv, fields[p->column[COL_WEIGHT]], "weight", &weight, err);
    if (status != MOE_OK)
        return status;
    struct row row = {
        .bytes = value[COL_BYTES],
        .line = (uint32_t)p->csv.line,
        .turn = (uint32_t)value[COL_TURN],
        .position = (int32_t)value[COL_STEP],
        .weight = weight,
        .expert = (moe_expert)value[COL_EXPERT],
        .layer = (uint16_t)value[COL_LAYER],
        .phase = (uint8_t)value[COL_PHASE],
        .slot = (uint8_t)value[COL_SLOT],
        .residency = (uint8_t)value[COL_RESIDENCY],
    };
    return append_row(p, &row, err);
}

static enum moe_status parse_rows(struct parser *p, const char *data,
                                  const struct moe_import_options *options, struct moe_err *err)
{
    for (;;) {
        bool got = false;
        enum moe_status status = moe_csv_next(&p->csv, &got, err);
        if (status != MOE_OK || !got)
            return status;
        status = parse_row(p, err);
        if (status == MOE_OK && p->n_rows % 4096 == 0)
            status = moe_import_tick(options, (uint64_t)(p->csv.next - data),
                                     (uint64_t)(p->csv.end - data), err);
        if (status != MOE_OK)
            return status;
    }
}

/* ---- tokens and forward passes ---- */

/* The pass under way: its tokens are the last of p->tokens, positions rising. */
struct pass {
    size_t first; /* of p->tokens */
    uint16_t layer;
};

static enum moe_status row_fail(const struct parser *p, const struct row *row, struct moe_err *err,
                                const char *what, long value)
{
    return moe_fail(err, MOE_ERR_INPUT, "'%s':%" PRIu32 ": %s %ld", p->csv.name, row->line, what,
                    value);
}

/* Index of the pass's token at a position, or p->n_tokens. */
static size_t find_token(const struct parser *p, const struct pass *pass, int32_t position)
{
    size_t low = pass->first, high = p->n_tokens;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->tokens[middle].position < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->n_tokens && p->tokens[low].position == position ? low : p->n_tokens;
}

/* Starts a new sequence when the turn rises or, in a log without turns, when positions go back. */
static uint32_t sequence_of(const struct parser *p, const struct row *row)
{
    if (p->n_tokens == 0)
        return 0;
    const struct token *last = &p->tokens[p->n_tokens - 1];
    bool next = row > p->rows && row->turn != row[-1].turn;
    if (p->column[COL_TURN] < 0)
        next = row->position <= last->position;
    return last->sequence + next;
}

static enum moe_status append_token(struct parser *p, struct pass *pass, const struct row *row,
                                    bool new_pass, struct moe_err *err)
{
    if (!p->tokens || p->n_tokens == p->token_room) {
        size_t wanted = p->token_room ? 2 * p->token_room : 256;
        struct token *grown = realloc(p->tokens, wanted * sizeof *grown);
        if (!grown)
            return moe_fail_memory(err, "tokens of a route log");
        p->tokens = grown;
        p->token_room = wanted;
    }
    struct token last = {0}, token = {.position = row->position, .phase = row->phase};
    if (p->n_tokens > 0)
        last = p->tokens[p->n_tokens - 1];
    token.sequence = new_pass ? sequence_of(p, row) : last.sequence;
    if (p->n_tokens > 0 && last.sequence == token.sequence)
        token.pass = last.pass + new_pass;
    if (new_pass)
        pass->first = p->n_tokens;
    else if (row->position < last.position)
        return row_fail(p, row, err, "positions of a prefill pass must rise: step",
                        (long)row->position);
    p->tokens[p->n_tokens++] = token;
    return MOE_OK;
}

/* True when the row cannot belong to the pass under way. A layer that falls back with a token not
 * seen in this pass starts the next pass: a log written token by token, or prefill in chunks. */
static bool starts_pass(const struct parser *p, const struct pass *pass, const struct row *row,
                        size_t token)
{
    if (p->n_tokens == 0)
        return true;
    const struct token *last = &p->tokens[p->n_tokens - 1];
    if (row->turn != row[-1].turn || row->phase != last->phase)
        return true;
    bool seen = token < p->n_tokens;
    if (row->phase == MOE_DECODE)
        return !seen;
    return !seen && row->layer < pass->layer;
}

static enum moe_status place_row(struct parser *p, struct pass *pass, size_t i, struct moe_err *err)
{
    const struct row *row = &p->rows[i], *before = i ? row - 1 : NULL;
    size_t token = i ? find_token(p, pass, row->position) : 0;
    if (before && row->turn < before->turn)
        return row_fail(p, row, err, "turns must rise, the rows of one together: turn",
                        (long)row->turn);
    bool new_pass = starts_pass(p, pass, row, token);
    if (new_pass || token == p->n_tokens) {
        enum moe_status status = append_token(p, pass, row, new_pass, err);
        if (status != MOE_OK)
            return status;
        token = p->n_tokens - 1;
    } else if (row->layer < pass->layer) {
        return row_fail(p, row, err, "rows of a forward pass go back to layer", row->layer);
    }
    bool same = before && !new_pass && before->layer == row->layer;
    if (same &&
        (token < p->token_of[i - 1] || (token == p->token_of[i - 1] && row->slot < before->slot)))
        p->in_order = false;
    pass->layer = row->layer;
    p->token_of[i] = token;
    return MOE_OK;
}

static enum moe_status find_tokens(struct parser *p, struct moe_err *err)
{
    struct pass pass = {0};
    p->in_order = true;
    if (p->n_rows == 0)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': no rows", p->csv.name);
    p->token_of = malloc(p->n_rows * sizeof *p->token_of);
    if (!p->token_of)
        return moe_fail_memory(err, "rows of a route log");
    enum moe_status status = MOE_OK;
    for (size_t i = 0; status == MOE_OK && i < p->n_rows; i++)
        status = place_row(p, &pass, i, err);
    return status;
}

/* ---- filling the trace ---- */

static enum moe_status copy_sizes(const struct parser *p, int which, uint32_t n_layers,
                                  uint64_t **out, struct moe_err *err)
{
    uint32_t known = 0;
    for (uint32_t l = 0; l < MOE_MAX_LAYERS; l++) {
        known += p->has_size[which][l];
        if (p->has_size[which][l] && l >= n_layers)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s': header line of layer %" PRIu32 " is outside 0..%" PRIu32,
                            p->csv.name, l, n_layers - 1);
    }
    if (known == 0)
        return MOE_OK;
    if (known < n_layers)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': header lines give sizes of %" PRIu32 " of the %" PRIu32 " layers",
                        p->csv.name, known, n_layers);
    *out = malloc(n_layers * sizeof **out);
    if (!*out)
        return moe_fail_memory(err, "sizes of layers");
    memcpy(*out, p->sizes[which], n_layers * sizeof **out);
    return MOE_OK;
}

static enum moe_status settle_shape(const struct parser *p, struct moe_trace *trace,
                                    const struct moe_import_options *options, size_t file_bytes,
                                    struct moe_err *err)
{
    const char *name = p->csv.name;
    struct moe_trace_info *info = &trace->info;
    unsigned parts = (p->column[COL_WEIGHT] >= 0 ? MOE_HAS_WEIGHT : 0u) |
                     (p->column[COL_BYTES] >= 0 ? MOE_HAS_LOG : 0u);
    uint64_t layers = p->n_layers || options->model ? p->n_layers : p->used_layers;
    info->top_k = (uint32_t)(p->top_k ? p->top_k : p->used_slots);
    enum moe_status status = moe_import_layers(trace, name, options, layers, err);
    if (status == MOE_OK && p->used_layers > info->n_layers)
        status = moe_fail(err, MOE_ERR_INPUT, "'%s': layer %" PRIu64 " is outside 0..%" PRIu32,
                          name, p->used_layers - 1, info->n_layers - 1);
    if (status == MOE_OK)
        status = moe_import_experts(trace, name, options, p->n_experts, p->used_experts, err);
    if (status == MOE_OK)
        status = copy_sizes(p, 0, info->n_layers, &info->expert_bytes, err);
    if (status == MOE_OK)
        status = copy_sizes(p, 1, info->n_layers, &info->dense_bytes, err);
    if (status == MOE_OK)
        status = moe_import_alloc(trace, name, p->n_tokens,
                                  p->tokens[p->n_tokens - 1].sequence + UINT64_C(1), parts,
                                  file_bytes, err);
    return status;
}

static enum moe_status fill_row(const struct parser *p, size_t i, struct moe_trace *trace,
                                struct moe_err *err)
{
    const struct row *row = &p->rows[i];
    struct moe_tokens *x = &trace->tokens;
    uint64_t at =
        ((uint64_t)p->token_of[i] * trace->info.n_layers + row->layer) * trace->info.top_k +
        row->slot;
    if (x->expert[at] != MOE_NO_EXPERT)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s':%" PRIu32 ": step %" PRId32 " layer %u slot %u appears twice",
                        p->csv.name, row->line, row->position, row->layer, row->slot);
    x->expert[at] = row->expert;
    if (x->weight)
        x->weight[at] = row->weight;
    if (x->log_bytes) {
        x->log_bytes[at] = row->bytes;
        x->log_residency[at] = row->residency;
    }
    return MOE_OK;
}

static enum moe_status fill(const struct parser *p, struct moe_trace *trace, struct moe_err *err)
{
    struct moe_tokens *x = &trace->tokens;
    for (size_t t = 0; t < p->n_tokens; t++) {
        x->sequence[t] = p->tokens[t].sequence;
        x->step[t] = p->tokens[t].pass;
        x->position[t] = p->tokens[t].position;
        x->phase[t] = p->tokens[t].phase;
    }
    enum moe_status status = MOE_OK;
    for (size_t i = 0; status == MOE_OK && i < p->n_rows; i++)
        status = fill_row(p, i, trace, err);
    return status;
}

/* The header lines and the column line, with the line ends of the file. */
static enum moe_status keep_header(const struct parser *p, const char *data,
                                   struct moe_trace *trace, struct moe_err *err)
{
    size_t n = p->header_bytes, size = n + strlen(p->columns) + sizeof "\r\n";
    char *text = malloc(size);
    if (!text)
        return moe_fail_memory(err, "header lines");
    memcpy(text, data, n);
    snprintf(text + n, size - n, "%s%s", p->columns, p->csv.eol == MOE_EOL_CRLF ? "\r\n" : "\n");
    enum moe_status status = moe_import_header(trace, p->csv.name, text, strlen(text), err);
    free(text);
    return status;
}

/* Only the first turn is kept: an export numbers the turns from it on. */
static void keep_dialect(const struct parser *p, struct moe_trace *trace,
                         const struct moe_import_options *options)
{
    struct moe_trace_info *info = &trace->info;
    snprintf(info->dialect, sizeof info->dialect, "format=route-csv eol=%s turn=%" PRIu32,
             p->csv.eol == MOE_EOL_CRLF ? "crlf" : "lf", p->rows[0].turn);
    info->rows_in_order = p->in_order;
    moe_ignored_note(&p->ignored, "columns", info);
    if (!options->model && p->model[0])
        snprintf(info->model, sizeof info->model, "%s", p->model);
}

static enum moe_status parse_all(struct parser *p, const char *data, size_t size,
                                 const struct moe_import_options *options, struct moe_trace *trace,
                                 struct moe_err *err)
{
    enum moe_status status = parse_header(p, data, err);
    if (status == MOE_OK)
        status = parse_rows(p, data, options, err);
    if (status == MOE_OK)
        status = find_tokens(p, err);
    if (status == MOE_OK)
        status = settle_shape(p, trace, options, size, err);
    if (status == MOE_OK)
        status = fill(p, trace, err);
    if (status == MOE_OK)
        status = keep_header(p, data, trace, err);
    if (status == MOE_OK)
        keep_dialect(p, trace, options);
    return status;
}

enum moe_status moe_route_csv_parse(const char *name, const char *data, size_t size,
                                    const struct moe_import_options *options, struct moe_trace *out,
                                    struct moe_err *err)
{
    struct parser *p = calloc(1, sizeof *p);
    if (!p)
        return moe_fail_memory(err, "a route log");
    struct moe_trace trace;
    moe_csv_start(&p->csv, name, data, size);
    moe_import_start(&trace, "route-csv", options, size, moe_hash_bytes(MOE_HASH_SEED, data, size));
    enum moe_status status = parse_all(p, data, size, options, &trace, err);
    free(p->rows);
    free(p->tokens);
    free(p->token_of);
    free(p->columns);
    free(p);
    return moe_import_finish(&trace, name, status, out, err);
}

enum moe_status moe_route_csv_import(const char *path, const struct moe_import_options *options,
                                     struct moe_trace *out, struct moe_err *err)
{
    return moe_import_file(path, moe_route_csv_parse, options, out, err);
}
