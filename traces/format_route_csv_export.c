/* Writes a route log: the header lines of the import it came from, or such lines made from the
 * trace, then the rows in execution order. */
#include "base/file.h"
#include "traces/build.h"
#include "traces/csv.h"
#include "traces/formats.h"
#include "traces/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    FILE *out;
    const struct moe_trace *trace;
    const char *eol;
    uint64_t first_turn;
    const char *columns; /* the column line, to its end */
};

/* Six digits, as engines write them, so that their logs come out unchanged; where these would read
 * back as another number, more, up to the nine that distinguish any two floats. */
static void write_weight(FILE *out, float weight)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)weight);
        if (strtof(text, NULL) == weight)
            break;
    }
    fputs(text, out);
}

/* One field of a row; the column's name tells which. */
static void write_field(const struct writer *w, struct moe_text column, uint64_t t, uint32_t l,
                        uint32_t k, uint64_t position)
{
    const struct moe_tokens *x = &w->trace->tokens;
    uint64_t at = (t * w->trace->info.n_layers + l) * w->trace->info.top_k + k;
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"turn", w->first_turn + x->sequence[t]},
        {"phase", x->phase[t]},
        {"step", position},
        {"layer", l},
        {"slot", k},
        {"expert", x->expert[at]},
        {"residency", x->log_residency ? x->log_residency[at] : 0},
        {"expert_bytes", x->log_bytes ? x->log_bytes[at] : 0},
    };
    if (moe_text_equal(column, "weight")) {
        write_weight(w->out, x->weight ? x->weight[at] : 0);
        return;
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (moe_text_equal(column, fields[i].name))
            fprintf(w->out, "%" PRIu64, fields[i].value);
}

static void write_row(const struct writer *w, uint64_t t, uint32_t l, uint32_t k, uint64_t position)
{
    struct moe_text rest = {w->columns, strcspn(w->columns, "\r\n")}, column;
    for (bool first = true; moe_csv_field(&rest, &column); first = false) {
        if (!first)
            fputc(',', w->out);
        write_field(w, column, t, l, k, position);
    }
    fputs(w->eol, w->out);
}

/* Rows of one forward pass: tokens [first, end). An unknown position is the token's place in its
 * sequence. */
static void write_pass(const struct writer *w, uint64_t first, uint64_t end,
                       uint64_t sequence_start)
{
    const struct moe_trace_info *info = &w->trace->info;
    const struct moe_tokens *x = &w->trace->tokens;
    for (uint32_t l = 0; l < info->n_layers; l++) {
        for (uint64_t t = first; t < end; t++) {
            int32_t known = x->position[t];
            uint64_t position = known < 0 ? t - sequence_start : (uint64_t)known;
            const moe_expert *route = x->expert + (t * info->n_layers + l) * info->top_k;
            for (uint32_t k = 0; k < info->top_k && route[k] != MOE_NO_EXPERT; k++)
                write_row(w, t, l, k, position);
        }
    }
}

static void write_made_header(const struct writer *w)
{
    const struct moe_trace_info *info = &w->trace->info;
    fprintf(w->out, "# route_trace v1%s", w->eol);
    fprintf(w->out, "# model=%s n_layer=%" PRIu32 " n_expert=%" PRIu32 " n_expert_used=%" PRIu32,
            info->model, info->n_layers, info->n_experts, info->top_k);
    fputs(w->eol, w->out);
    for (uint32_t l = 0; l < info->n_layers && (info->expert_bytes || info->dense_bytes); l++) {
        fprintf(w->out, "# layer=%" PRIu32, l);
        if (info->expert_bytes)
            fprintf(w->out, " expert_bytes=%" PRIu64, info->expert_bytes[l]);
        if (info->dense_bytes)
            fprintf(w->out, " dense_bytes=%" PRIu64, info->dense_bytes[l]);
        fputs(w->eol, w->out);
    }
    fprintf(w->out, "%s%s", w->columns, w->eol);
}

/* The last line of the kept header lines. */
static const char *column_line(const char *header)
{
    const char *line = header;
    for (const char *c = header; *c; c++)
        if (c[0] == '\n' && c[1])
            line = c + 1;
    return line;
}

static void write_header(struct writer *w)
{
    const struct moe_trace_info *info = &w->trace->info;
    unsigned parts = moe_tokens_parts(&w->trace->tokens);
    if (info->header && moe_dialect_is(info->dialect, "format", "route-csv")) {
        w->columns = column_line(info->header);
        fputs(info->header, w->out);
        return;
    }
    bool weight = parts & MOE_HAS_WEIGHT, log = parts & MOE_HAS_LOG;
    w->columns = weight && log ? "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes"
                 : log         ? "turn,phase,step,layer,slot,expert,residency,expert_bytes"
                 : weight      ? "turn,phase,step,layer,slot,expert,weight"
                               : "turn,phase,step,layer,slot,expert";
    write_made_header(w);
}

/* The first layer in which token t has experts; L: none. */
static uint32_t first_layer(const struct moe_trace *trace, uint64_t t)
{
    const struct moe_trace_info *info = &trace->info;
    const moe_expert *route = trace->tokens.expert + t * info->n_layers * info->top_k;
    uint32_t l = 0;
    while (l < info->n_layers && route[(uint64_t)l * info->top_k] == MOE_NO_EXPERT)
        l++;
    return l;
}

/* A token is its rows: one without any would be lost, and one that begins in a lower layer than the
 * token before it in its pass would be read before that one. Rows of decode are read as passes of
 * one token. */
static enum moe_status check_rows(const struct moe_trace *trace, struct moe_err *err)
{
    const struct moe_tokens *x = &trace->tokens;
    uint32_t before = 0;
    for (uint64_t t = 0, end = 0; t < x->n_tokens; t++) {
        uint32_t first = first_layer(trace, t);
        if (first == trace->info.n_layers)
            return moe_fail(err, MOE_ERR_INPUT,
                            "token %" PRIu64 " has no experts: route-csv cannot hold it; "
                            "jsonl holds any trace",
                            t);
        if (t == end)
            end = moe_step_end(x, t);
        else if (x->phase[t] == MOE_DECODE)
            return moe_fail(err, MOE_ERR_INPUT,
                            "decode token %" PRIu64 " shares its pass with the token before it: "
                            "route-csv cannot hold that; jsonl holds any trace",
                            t);
        else if (first < before)
            return moe_fail(err, MOE_ERR_INPUT,
                            "token %" PRIu64 " has no experts in layer %" PRIu32
                            ", a later one of its pass has: route-csv cannot hold that; "
                            "jsonl holds any trace",
                            t - 1, first);
        before = first;
    }
    return MOE_OK;
}

enum moe_status moe_route_csv_export(const struct moe_trace *trace, const char *path,
                                     struct moe_err *err)
{
    const struct moe_tokens *x = &trace->tokens;
    const char *dialect = trace->info.dialect;
    bool ours = moe_dialect_is(dialect, "format", "route-csv");
    size_t n = 0;
    const char *turn = ours ? moe_dialect_get(dialect, "turn", &n) : NULL;
    struct moe_output out;
    enum moe_status status = check_rows(trace, err);
    if (status == MOE_OK)
        status = moe_output_create(&out, path, err);
    if (status != MOE_OK)
        return status;
    struct writer w = {.out = out.stream,
                       .trace = trace,
                       .eol = ours && moe_dialect_is(dialect, "eol", "crlf") ? "\r\n" : "\n",
                       .first_turn = turn ? strtoull(turn, NULL, 10) : 0};
    write_header(&w);
    uint64_t sequence_start = 0;
    for (uint64_t t = 0, end; t < x->n_tokens; t = end) {
        end = moe_step_end(x, t);
        if (t && x->sequence[t] != x->sequence[t - 1])
            sequence_start = t;
        write_pass(&w, t, end, sequence_start);
    }
    return moe_output_commit(&out, err);
}
