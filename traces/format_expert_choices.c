/* The reference implementation's log of expert ids. Its header is hard-wired to 32 layers whatever
 * the model, so the rows tell the shape. */
#include "base/file.h"
#include "base/units.h"
#include "traces/build.h"
#include "traces/csv.h"
#include "traces/formats.h"
#include "traces/trace.h"

#include <inttypes.h>
#include <string.h>

/* What the first pass over the rows finds, and where the second one writes. */
struct scan {
    struct moe_csv csv;
    uint64_t top_k;
    uint64_t n_rows, n_sequences;
    uint64_t n_ids;  /* of a row that is not empty; 0: none seen yet */
    uint64_t n_used; /* largest id + 1 */
    uint64_t max_id;
    bool falls;              /* some id is below the one before it in its layer */
    struct moe_trace *trace; /* NULL in the first pass */
};

static enum moe_status scan_ids(struct scan *s, struct moe_text rest, struct moe_err *err)
{
    struct moe_text field;
    uint64_t n = 0, id = 0, before = 0;
    const struct moe_trace *trace = s->trace;
    uint64_t at = trace ? s->n_rows * trace->info.n_layers * trace->info.top_k : 0;
    while (moe_csv_field(&rest, &field)) {
        enum moe_status status = moe_csv_u64(&s->csv, field, "expert", 0, s->max_id, &id, err);
        if (status != MOE_OK)
            return status;
        if (trace && n < s->n_ids)
            trace->tokens.expert[at + n] = (moe_expert)id;
        s->n_used = id >= s->n_used ? id + 1 : s->n_used;
        s->falls |= n % s->top_k && id < before;
        before = id;
        n++;
    }
    if (s->n_ids && n != s->n_ids)
        return moe_csv_fail(&s->csv, err, "row has %" PRIu64 " id%s, the rows above have %" PRIu64,
                            n, moe_plural(n), s->n_ids);
    if (n % s->top_k)
        return moe_csv_fail(&s->csv, err, "%" PRIu64 " ids are not a multiple of top-k %" PRIu64, n,
                            s->top_k);
    s->n_ids = n;
    return MOE_OK;
}

static enum moe_status scan_row(struct scan *s, struct moe_err *err)
{
    struct moe_text rest = s->csv.text, field = {0};
    uint64_t index = 0;
    moe_csv_field(&rest, &field);
    enum moe_status status = moe_csv_u64(&s->csv, field, "index", 0, UINT32_MAX - 1, &index, err);
    if (status == MOE_OK && index != s->n_rows)
        return moe_csv_fail(&s->csv, err, "index %" PRIu64 " is not the expected %" PRIu64, index,
                            s->n_rows);
    bool empty = !rest.at;
    s->n_sequences += empty || s->n_rows == 0;
    if (status == MOE_OK && !empty)
        status = scan_ids(s, rest, err);
    if (status == MOE_OK && s->trace) {
        s->trace->tokens.sequence[s->n_rows] = (uint32_t)(s->n_sequences - 1);
        s->trace->tokens.phase[s->n_rows] = empty ? MOE_PREFILL : MOE_DECODE;
    }
    s->n_rows++;
    return status;
}

/* How often the second name of the header repeats. */
static uint64_t header_top_k(struct moe_text header)
{
    struct moe_text first = {0}, field = {0};
    moe_csv_field(&header, &field);
    if (!moe_csv_field(&header, &first))
        return 2;
    uint64_t k = 1;
    while (moe_csv_field(&header, &field) && field.n == first.n &&
           memcmp(field.at, first.at, field.n) == 0)
        k++;
    return k;
}

static enum moe_status scan_header(struct scan *s, const struct moe_import_options *options,
                                   struct moe_err *err)
{
    bool got = false;
    enum moe_status status = moe_csv_next(&s->csv, &got, err);
    if (status == MOE_OK && !got)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': file is empty", s->csv.name);
    if (status != MOE_OK)
        return status;
    struct moe_text rest = s->csv.text, field = {0};
    moe_csv_field(&rest, &field);
    if (!moe_text_equal(field, "Index"))
        return moe_csv_fail(&s->csv, err, "header does not start with 'Index'");
    s->top_k = options->model ? options->model->top_k : header_top_k(s->csv.text);
    if (s->top_k > MOE_MAX_TOP_K)
        return moe_csv_fail(&s->csv, err, "top-k %" PRIu64 " exceeds %d", s->top_k, MOE_MAX_TOP_K);
    return MOE_OK;
}

/* Both passes: the first counts, the second (with a trace) fills. */
static enum moe_status scan_file(struct scan *s, const struct moe_blob *file,
                                 const struct moe_import_options *options, struct moe_err *err)
{
    s->n_rows = s->n_sequences = s->n_used = 0;
    moe_csv_start(&s->csv, file->name, file->data, file->size);
    enum moe_status status = scan_header(s, options, err);
    while (status == MOE_OK) {
        bool got = false;
        status = moe_csv_next(&s->csv, &got, err);
        if (status != MOE_OK || !got)
            break;
        status = scan_row(s, err);
    }
    return status;
}

static enum moe_status settle_shape(struct scan *s, const struct moe_blob *file,
                                    const struct moe_import_options *options,
                                    struct moe_trace *trace, struct moe_err *err)
{
    trace->info.top_k = (uint32_t)s->top_k;
    enum moe_status status =
        moe_import_layers(trace, file->name, options, s->n_ids / s->top_k, err);
    if (status == MOE_OK)
        status = moe_import_experts(trace, file->name, options, 0, s->n_used, err);
    if (status == MOE_OK)
        status = moe_import_alloc(trace, file->name, s->n_rows, s->n_sequences, 0, file->size, err);
    return status;
}

static enum moe_status keep_dialect(struct moe_trace *trace, const struct scan *s,
                                    const struct moe_blob *file, struct moe_err *err)
{
    const char *end = memchr(file->data, '\n', file->size);
    snprintf(trace->info.dialect, sizeof trace->info.dialect, "format=expert-choices eol=%s",
             s->csv.eol == MOE_EOL_CRLF ? "crlf" : "lf");
    if (s->top_k > 1 && !s->falls)
        snprintf(trace->info.note, sizeof trace->info.note,
                 "ids as logged: ascending within a layer, not in gate order");
    return moe_import_header(trace, file->name, file->data, (size_t)(end + 1 - file->data), err);
}

enum moe_status moe_expert_choices_parse(const char *name, const char *data, size_t size,
                                         const struct moe_import_options *options,
                                         struct moe_trace *out, struct moe_err *err)
{
    struct moe_blob file = {name, data, size};
    struct scan s = {.max_id = MOE_MAX_EXPERTS - 1};
    struct moe_trace trace;
    if (options->model)
        s.max_id = options->model->n_experts - 1;
    else if (options->n_experts && options->n_experts <= MOE_MAX_EXPERTS)
        s.max_id = options->n_experts - 1;
    moe_import_start(&trace, "expert-choices", options, size,
                     moe_hash_bytes(MOE_HASH_SEED, data, size));
    enum moe_status status = scan_file(&s, &file, options, err);
    if (status == MOE_OK)
        status = settle_shape(&s, &file, options, &trace, err);
    s.trace = &trace;
    if (status == MOE_OK)
        status = scan_file(&s, &file, options, err);
    if (status == MOE_OK)
        status = keep_dialect(&trace, &s, &file, err);
    for (uint64_t t = 1; status == MOE_OK && t < trace.tokens.n_tokens; t++)
        if (trace.tokens.sequence[t] == trace.tokens.sequence[t - 1])
            trace.tokens.step[t] = trace.tokens.step[t - 1] + 1;
    trace.info.rows_in_order = true; /* a row is a forward pass */
    return moe_import_finish(&trace, name, status, out, err);
}

enum moe_status moe_expert_choices_import(const char *path,
                                          const struct moe_import_options *options,
                                          struct moe_trace *out, struct moe_err *err)
{
    return moe_import_file(path, moe_expert_choices_parse, options, out, err);
}

static void write_header(FILE *out, const struct moe_trace_info *info, const char *eol)
{
    if (info->header && moe_dialect_is(info->dialect, "format", "expert-choices")) {
        fputs(info->header, out);
        return;
    }
    fputs("Index", out);
    for (uint32_t l = 0; l < info->n_layers; l++)
        for (uint32_t k = 0; k < info->top_k; k++)
            fprintf(out, ",Block_%" PRIu32, l);
    fputs(eol, out);
}

static enum moe_status write_route(FILE *out, const struct moe_trace *trace, uint64_t t,
                                   struct moe_err *err)
{
    uint64_t n = (uint64_t)trace->info.n_layers * trace->info.top_k;
    for (uint64_t i = 0; i < n; i++) {
        moe_expert e = trace->tokens.expert[t * n + i];
        if (e == MOE_NO_EXPERT)
            return moe_fail(err, MOE_ERR_UNSUPPORTED,
                            "token %" PRIu64 " layer %" PRIu64
                            " has absent experts: expert-choices holds whole rows only",
                            t, i / trace->info.top_k);
        fprintf(out, ",%u", e);
    }
    return MOE_OK;
}

/* One row a decode token, and one empty row where a sequence starts (none before a first sequence
 * that has no prefill). */
static enum moe_status write_rows(FILE *out, const struct moe_trace *trace, const char *eol,
                                  struct moe_err *err)
{
    const struct moe_tokens *x = &trace->tokens;
    uint64_t row = 0;
    for (uint64_t t = 0; t < x->n_tokens; t++) {
        bool first = t == 0 || x->sequence[t] != x->sequence[t - 1];
        bool prefill = x->phase[t] == MOE_PREFILL;
        if (first && (prefill || t > 0))
            fprintf(out, "%" PRIu64 "%s", row++, eol);
        if (prefill)
            continue;
        fprintf(out, "%" PRIu64, row++);
        enum moe_status status = write_route(out, trace, t, err);
        if (status != MOE_OK)
            return status;
        fputs(eol, out);
    }
    return MOE_OK;
}

enum moe_status moe_expert_choices_export(const struct moe_trace *trace, const char *path,
                                          struct moe_err *err)
{
    const char *eol = moe_dialect_is(trace->info.dialect, "eol", "lf") ? "\n" : "\r\n";
    struct moe_output out;
    enum moe_status status = moe_output_create(&out, path, err);
    if (status != MOE_OK)
        return status;
    write_header(out.stream, &trace->info, eol);
    return moe_output_end(&out, write_rows(out.stream, trace, eol, err), err);
}
