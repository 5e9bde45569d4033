#include "base/progress.h"
#include "traces/hdf5.h"
#include "traces/hdf5_schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_BYTES = 4 << 20, /* of memory a block; other sizes gain nothing (format.md) */
    WINDOW = 4096,         /* sequence lengths held at a time */
    RECORDS = 256,         /* sequence records held at a time: four calls of HDF5 take 7 us */
    TEXT_ROW = MOE_H5_LABEL_MAX + 2, /* the type has at most one byte more than the text */
};

/* Records of sequences [first, first + n). */
struct records {
    uint64_t first, n;
    uint64_t n_tokens[RECORDS], text_hash[RECORDS];
    char label[RECORDS * TEXT_ROW], category[RECORDS * TEXT_ROW];
};

/* A place between two tokens. */
struct cursor {
    uint64_t token, sequence;
    uint64_t used; /* tokens of that sequence before the place */
};

struct moe_reader {
    char *path;
    struct moe_h5_file file;
    struct moe_trace_info info;
    uint64_t n_tokens, n_sequences;

    struct cursor at;
    uint64_t length[WINDOW]; /* of sequences from window_first */
    uint64_t window_first, window_n;
    struct records records;

    struct moe_tokens block; /* n_tokens is what the caller sees */
    uint64_t capacity;
    unsigned block_parts;
    uint8_t *narrow; /* [capacity, L, K] ids as they are in the file; NULL: not one byte each */
    bool follows;    /* last_step is of the sequence at the cursor */
    uint32_t last_step;
};

enum moe_status moe_reader_open(struct moe_reader **out, const char *path, struct moe_err *err)
{
    moe_h5_begin();
    struct moe_reader *r = calloc(1, sizeof *r);
    if (!r || !(r->path = strdup(path))) {
        free(r);
        return moe_fail_memory(err, "a trace reader");
    }
    enum moe_status status =
        moe_h5_open(path, false, &r->file, &r->info, &r->n_tokens, &r->n_sequences, err);
    if (status) {
        free(r->path);
        free(r);
        return status;
    }
    *out = r;
    return MOE_OK;
}

void moe_reader_close(struct moe_reader *reader)
{
    if (!reader)
        return;
    moe_h5_abandon(&reader->file);
    moe_trace_info_release(&reader->info);
    moe_tokens_release(&reader->block);
    free(reader->narrow);
    free(reader->path);
    free(reader);
}

const struct moe_trace_info *moe_reader_info(const struct moe_reader *reader)
{
    return &reader->info;
}

uint64_t moe_reader_n_tokens(const struct moe_reader *reader)
{
    return reader->n_tokens;
}

uint64_t moe_reader_n_sequences(const struct moe_reader *reader)
{
    return reader->n_sequences;
}

unsigned moe_reader_parts(const struct moe_reader *reader)
{
    return moe_h5_parts(&reader->file);
}

/* "'x.h5': dataset 'routes/expert': cause" */
static enum moe_status name_dataset(const struct moe_reader *r, const char *name,
                                    enum moe_status status, struct moe_err *err)
{
    return err ? moe_fail_prefix(err, "'%s': dataset '%s'", r->path, name) : status;
}

static enum moe_status read_numbers(struct moe_reader *r, enum moe_h5_list list, uint64_t first,
                                    uint64_t n, uint64_t *out, struct moe_err *err)
{
    enum moe_status status =
        moe_h5_read_rows(r->file.list[list], H5T_NATIVE_UINT64, first, n, out, err);
    return status ? name_dataset(r, moe_h5_lists[list], status, err) : MOE_OK;
}

/* Strings of sequences [first, first + n), one every TEXT_ROW bytes of rows. */
static enum moe_status read_texts(struct moe_reader *r, enum moe_h5_list list, uint64_t first,
                                  uint64_t n, char *rows, struct moe_err *err)
{
    hid_t set = r->file.list[list], type = H5Dget_type(set);
    enum moe_status status = moe_h5_read_rows(set, type, first, n, rows, err);
    if (status) {
        H5Tclose(type);
        return name_dataset(r, moe_h5_lists[list], status, err);
    }
    size_t size = H5Tget_size(type);
    for (uint64_t i = n; i-- > 0;) { /* they come without gaps: the last moves first */
        memmove(rows + i * TEXT_ROW, rows + i * size, size);
        moe_h5_trim(type, rows + i * TEXT_ROW);
    }
    H5Tclose(type);
    return MOE_OK;
}

static enum moe_status read_records(struct moe_reader *r, uint64_t first, struct moe_err *err)
{
    struct records *x = &r->records;
    uint64_t n = r->n_sequences - first < RECORDS ? r->n_sequences - first : RECORDS;
    x->n = 0;
    enum moe_status status = read_numbers(r, MOE_H5_N_TOKENS, first, n, x->n_tokens, err);
    if (!status)
        status = read_numbers(r, MOE_H5_TEXT_HASH, first, n, x->text_hash, err);
    if (!status)
        status = read_texts(r, MOE_H5_LABEL, first, n, x->label, err);
    if (!status)
        status = read_texts(r, MOE_H5_CATEGORY, first, n, x->category, err);
    if (status)
        return status;
    x->first = first;
    x->n = n;
    return MOE_OK;
}

enum moe_status moe_reader_sequence(struct moe_reader *reader, uint64_t i, struct moe_sequence *out,
                                    struct moe_err *err)
{
    const struct records *x = &reader->records;
    if (i >= reader->n_sequences)
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%s': sequence %" PRIu64 " of %" PRIu64 " does not exist", reader->path, i,
                        reader->n_sequences);
    if (i < x->first || i >= x->first + x->n) {
        enum moe_status status = read_records(reader, i, err);
        if (status)
            return status;
    }
    uint64_t at = i - x->first;
    struct moe_sequence s = {.n_tokens = x->n_tokens[at],
                             .text_hash = x->text_hash[at],
                             .label = strdup(x->label + at * TEXT_ROW),
                             .category = strdup(x->category + at * TEXT_ROW)};
    if (!s.label || !s.category) {
        free(s.label);
        free(s.category);
        return moe_fail_memory(err, "a label");
    }
    *out = s;
    return MOE_OK;
}

static enum moe_status sequence_length(struct moe_reader *r, uint64_t i, uint64_t *out,
                                       struct moe_err *err)
{
    if (i < r->window_first || i >= r->window_first + r->window_n) {
        uint64_t n = r->n_sequences - i < WINDOW ? r->n_sequences - i : WINDOW;
        r->window_n = 0;
        enum moe_status status = moe_h5_read_rows(r->file.list[MOE_H5_N_TOKENS], H5T_NATIVE_UINT64,
                                                  i, n, r->length, err);
        if (status)
            return name_dataset(r, moe_h5_lists[MOE_H5_N_TOKENS], status, err);
        r->window_first = i;
        r->window_n = n;
    }
    *out = r->length[i - r->window_first];
    return MOE_OK;
}

/* Moves the cursor n tokens on and writes the sequence of each into sequence[n], if not NULL. */
static enum moe_status walk(struct moe_reader *r, struct cursor *at, uint64_t n, uint32_t *sequence,
                            struct moe_err *err)
{
    for (uint64_t i = 0; i < n;) {
        uint64_t length;
        enum moe_status status = sequence_length(r, at->sequence, &length, err);
        if (status)
            return status;
        if (at->used >= length) {
            at->sequence++;
            at->used = 0;
            continue;
        }
        uint64_t run = length - at->used < n - i ? length - at->used : n - i;
        for (uint64_t k = 0; sequence && k < run; k++)
            sequence[i + k] = (uint32_t)at->sequence;
        at->used += run;
        i += run;
    }
    at->token += n;
    return MOE_OK;
}

/* Ids of one byte each, widened; 0xff means absent. */
static void widen(moe_expert *to, const uint8_t *from, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        to[i] = from[i] == UINT8_MAX ? MOE_NO_EXPERT : from[i];
}

static enum moe_status read_column(struct moe_reader *r, int i, uint64_t first, uint64_t n,
                                   const struct moe_tokens *to, uint64_t at, uint8_t *narrow,
                                   struct moe_err *err)
{
    const struct moe_h5_column *c = &moe_h5_columns[i];
    void *rows = moe_h5_at(c, &r->info, to, at);
    bool small = i == MOE_H5_EXPERT && r->file.narrow;
    hid_t type = small ? H5T_NATIVE_UINT8 : moe_h5_memory_type(c->kind);
    enum moe_status status =
        moe_h5_read_rows(r->file.column[i], type, first, n, small ? narrow : rows, err);
    if (status)
        return name_dataset(r, c->name, status, err);
    if (small)
        widen(rows, narrow, n * moe_h5_row(c, &r->info));
    return MOE_OK;
}

/* Tokens that fill about BLOCK_BYTES. */
static uint64_t block_tokens(const struct moe_reader *r, unsigned parts)
{
    uint64_t row = 0;
    for (int i = 0; i < MOE_H5_COLUMNS; i++) {
        const struct moe_h5_column *c = &moe_h5_columns[i];
        if ((c->part & parts) == c->part)
            row += moe_h5_row(c, &r->info) * moe_h5_size(c->kind);
    }
    uint64_t n = BLOCK_BYTES / row;
    if (n == 0)
        n = 1;
    return n < r->n_tokens ? n : r->n_tokens;
}

/* Room for n tokens with the parts. */
static enum moe_status make_block(struct moe_reader *r, uint64_t n, unsigned parts,
                                  struct moe_err *err)
{
    if (r->capacity >= n && r->block_parts == parts)
        return MOE_OK;
    moe_tokens_release(&r->block);
    free(r->narrow);
    r->narrow = NULL;
    r->capacity = 0;
    enum moe_status status = moe_tokens_init(&r->block, &r->info, n, parts, err);
    if (status)
        return err ? moe_fail_prefix(err, "'%s'", r->path) : status;
    if (r->file.narrow && !(r->narrow = malloc(n * r->info.n_layers * r->info.top_k)))
        return moe_fail_memory(err, "expert ids");
    r->capacity = n;
    r->block_parts = parts;
    return MOE_OK;
}

/* Tokens of [0, n) that are whole passes; n itself when nothing follows; 0: not even one. */
static uint64_t whole_passes(const struct moe_reader *r, uint64_t n)
{
    if (r->at.token + n == r->n_tokens)
        return n;
    const struct moe_tokens *x = &r->block;
    uint64_t end = n - 1;
    while (end > 0 && x->step[end - 1] == x->step[end] && x->sequence[end - 1] == x->sequence[end])
        end--;
    return end;
}

/* Reads sequences and steps of about a block of tokens, more if they are not yet a whole pass, and
 * finds how many make whole passes. */
static enum moe_status plan_block(struct moe_reader *r, unsigned parts, uint64_t *out,
                                  struct moe_err *err)
{
    enum { STEP = 0 };
    uint64_t left = r->n_tokens - r->at.token;
    for (uint64_t n = block_tokens(r, parts);; n = n > left / 2 ? left : 2 * n) {
        if (n > left)
            n = left;
        struct cursor at = r->at;
        enum moe_status status = make_block(r, n, parts, err);
        if (!status)
            status = walk(r, &at, n, r->block.sequence, err);
        if (!status)
            status = read_column(r, STEP, r->at.token, n, &r->block, 0, NULL, err);
        if (status)
            return status;
        if ((*out = whole_passes(r, n)) > 0)
            return MOE_OK;
    }
}

/* Steps must not fall from one block to the next, either. */
static enum moe_status check_seam(struct moe_reader *r, struct moe_err *err)
{
    if (r->follows && r->block.step[0] < r->last_step)
        return moe_fail(err, MOE_ERR_INPUT, "token %" PRIu64 ": step %u follows step %u",
                        r->at.token, r->block.step[0], r->last_step);
    return MOE_OK;
}

static enum moe_status advance(struct moe_reader *r, uint64_t n, struct moe_err *err)
{
    enum moe_status status = walk(r, &r->at, n, NULL, err);
    uint64_t length;
    if (!status)
        status = sequence_length(r, r->at.sequence, &length, err);
    if (status)
        return status;
    r->follows = r->at.used < length;
    r->last_step = r->block.step[n - 1];
    return MOE_OK;
}

enum moe_status moe_reader_next(struct moe_reader *reader, unsigned want,
                                const struct moe_tokens **out, struct moe_err *err)
{
    struct moe_reader *r = reader;
    unsigned parts = (want | MOE_HAS_REQUEST) & moe_reader_parts(r);
    uint64_t n;
    if (r->at.token == r->n_tokens) {
        *out = NULL;
        return MOE_OK;
    }
    enum moe_status status = plan_block(r, parts, &n, err);
    for (int i = 1; !status && i < MOE_H5_COLUMNS; i++)
        if ((moe_h5_columns[i].part & parts) == moe_h5_columns[i].part)
            status = read_column(r, i, r->at.token, n, &r->block, 0, r->narrow, err);
    if (status)
        return status;
    r->block.n_tokens = n;
    r->block.first_token = r->at.token;
    status = check_seam(r, err);
    if (!status)
        status = moe_tokens_check(&r->block, &r->info, err);
    if (status)
        return err ? moe_fail_prefix(err, "'%s'", r->path) : status;
    if ((status = advance(r, n, err)))
        return status;
    *out = &r->block;
    return MOE_OK;
}

void moe_h5_seek(struct moe_reader *reader, uint64_t token, uint64_t sequence)
{
    reader->at = (struct cursor){token, sequence, 0};
    reader->follows = false;
}

enum moe_status moe_reader_rewind(struct moe_reader *reader, struct moe_err *err)
{
    (void)err;
    moe_h5_seek(reader, 0, 0);
    return MOE_OK;
}

/* All rows of one column, in slices so that the narrow ids need no second whole array. */
static enum moe_status load_column(struct moe_reader *r, int i, const struct moe_tokens *to,
                                   uint64_t slice, uint8_t *narrow, struct moe_progress *progress,
                                   struct moe_err *err)
{
    enum moe_status status = MOE_OK;
    for (uint64_t t = 0; !status && t < r->n_tokens; t += slice) {
        uint64_t n = r->n_tokens - t < slice ? r->n_tokens - t : slice;
        status = moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted")
                                   : read_column(r, i, t, n, to, t, narrow, err);
        moe_progress_update(progress, ((uint64_t)i * r->n_tokens + t) / MOE_H5_COLUMNS);
    }
    return status;
}

static enum moe_status load_tokens(struct moe_reader *r, unsigned parts, struct moe_tokens *x,
                                   struct moe_err *err)
{
    struct cursor start = {0};
    uint64_t slice = block_tokens(r, parts);
    uint8_t *narrow = malloc((slice ? slice : 1) * r->info.n_layers * r->info.top_k);
    if (!narrow)
        return moe_fail_memory(err, "expert ids");
    struct moe_progress progress;
    moe_progress_begin(&progress, "loading", "tokens", r->n_tokens);
    enum moe_status status = walk(r, &start, r->n_tokens, x->sequence, err);
    for (int i = 0; !status && i < MOE_H5_COLUMNS; i++)
        if ((moe_h5_columns[i].part & parts) == moe_h5_columns[i].part)
            status = load_column(r, i, x, slice, narrow, &progress, err);
    moe_progress_end(&progress);
    free(narrow);
    if (status)
        return status;
    status = moe_tokens_check(x, &r->info, err);
    return status && err ? moe_fail_prefix(err, "'%s'", r->path) : status;
}

static enum moe_status load_sequences(struct moe_reader *r, struct moe_trace *trace,
                                      struct moe_err *err)
{
    enum moe_status status = MOE_OK;
    trace->sequences = calloc(r->n_sequences ? r->n_sequences : 1, sizeof *trace->sequences);
    if (!trace->sequences)
        return moe_fail_memory(err, "sequences");
    for (uint64_t i = 0; !status && i < r->n_sequences; i++) {
        status = moe_reader_sequence(r, i, &trace->sequences[i], err);
        if (!status)
            trace->n_sequences = i + 1;
    }
    return status;
}

enum moe_status moe_trace_load(const char *path, unsigned want, struct moe_trace *out,
                               struct moe_err *err)
{
    struct moe_reader *r;
    struct moe_trace x = {0};
    enum moe_status status = moe_reader_open(&r, path, err);
    if (status)
        return status;
    unsigned parts = (want | MOE_HAS_REQUEST) & moe_reader_parts(r);
    status = moe_trace_info_copy(&x.info, &r->info, err);
    if (!status && (status = moe_tokens_init(&x.tokens, &r->info, r->n_tokens, parts, err)) && err)
        moe_fail_prefix(err, "'%s'", path);
    if (!status)
        status = load_sequences(r, &x, err);
    if (!status)
        status = load_tokens(r, parts, &x.tokens, err);
    moe_reader_close(r);
    if (status)
        moe_trace_release(&x);
    else
        *out = x;
    return status;
}

#define TEXT(x)   #x
#define DIGITS(x) TEXT(x)
const char *moe_hdf5_version(void)
{
    return DIGITS(H5_VERS_MAJOR) "." DIGITS(H5_VERS_MINOR) "." DIGITS(H5_VERS_RELEASE);
}
