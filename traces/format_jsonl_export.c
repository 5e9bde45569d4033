/* Writes any trace as JSON lines, losslessly: floats with nine digits, which give the same float32
 * back; absent numbers as null; hashes as hexadecimal text, because JSON numbers end at 2^63. */
#include "base/file.h"
#include "traces/csv.h"
#include "traces/formats.h"
#include "traces/trace.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void write_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*c);
        else
            fputc(*c, out);
    }
    fputc('"', out);
}

static void write_float(FILE *out, float value)
{
    if (isnan(value))
        fputs("null", out);
    else if (value == 0)
        fputs(signbit(value) ? "-0.0" : "0.0", out); /* "-0" would read back as the integer 0 */
    else
        fprintf(out, "%.9g", (double)value);
}

static void write_sizes(FILE *out, const char *key, const uint64_t *sizes, uint32_t n)
{
    if (!sizes)
        return;
    fprintf(out, ", \"%s\": [", key);
    for (uint32_t l = 0; l < n; l++)
        fprintf(out, "%s%" PRIu64, l ? ", " : "", sizes[l]);
    fputc(']', out);
}

static void write_header(FILE *out, const struct moe_trace *trace)
{
    static const struct {
        const char *name;
        unsigned part;
    } parts[] = {{"weights", MOE_HAS_WEIGHT},
                 {"scores", MOE_HAS_SCORE},
                 {"lookahead", MOE_HAS_LOOKAHEAD},
                 {"log", MOE_HAS_LOG},
                 {"requests", MOE_HAS_REQUEST}};
    const struct moe_trace_info *info = &trace->info;
    const struct {
        const char *key, *text;
    } texts[] = {{"model", info->model},     {"source", info->source},   {"licence", info->licence},
                 {"tool", info->tool},       {"created", info->created}, {"note", info->note},
                 {"dialect", info->dialect}, {"header", info->header}};
    fprintf(out, "{\"moelab_trace\": 1, \"n_layers\": %" PRIu32 ", \"n_experts\": %" PRIu32,
            info->n_layers, info->n_experts);
    fprintf(out, ", \"top_k\": %" PRIu32 ", \"parts\": [", info->top_k);
    const char *comma = "";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (moe_tokens_parts(&trace->tokens) & parts[i].part) {
            fprintf(out, "%s\"%s\"", comma, parts[i].name);
            comma = ", ";
        }
    }
    fprintf(out, "], \"synthetic\": %s, \"rows_in_order\": %s", info->synthetic ? "true" : "false",
            info->rows_in_order ? "true" : "false");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!texts[i].text)
            continue;
        fprintf(out, ", \"%s\": ", texts[i].key);
        write_string(out, texts[i].text);
    }
    write_sizes(out, "expert_bytes", info->expert_bytes, info->n_layers);
    write_sizes(out, "dense_bytes", info->dense_bytes, info->n_layers);
    fputs("}\n", out);
}

static void write_sequence(FILE *out, const struct moe_sequence *s, uint64_t i)
{
    fprintf(out, "{\"sequence\": %" PRIu64 ", \"label\": ", i);
    write_string(out, s->label);
    fputs(", \"category\": ", out);
    write_string(out, s->category);
    fprintf(out, ", \"text_hash\": \"%" PRIx64 "\"}\n", s->text_hash);
}

/* One list of layers: what is printed of entry i, at most n a layer. */
struct list {
    const char *key;
    const void *values; /* NULL: the trace has none */
    void (*write)(FILE *out, const void *values, uint64_t i);
};

static void write_expert(FILE *out, const void *values, uint64_t i)
{
    fprintf(out, "%u", ((const moe_expert *)values)[i]);
}

static void write_weight(FILE *out, const void *values, uint64_t i)
{
    write_float(out, ((const float *)values)[i]);
}

static void write_residency(FILE *out, const void *values, uint64_t i)
{
    fprintf(out, "%u", ((const uint8_t *)values)[i]);
}

static void write_bytes(FILE *out, const void *values, uint64_t i)
{
    fprintf(out, "%" PRIu64, ((const uint64_t *)values)[i]);
}

/* Rows as long as the route (absent entries come last); an empty route is null. */
static void write_routes(FILE *out, const struct moe_trace *trace, uint64_t t,
                         const struct list *list)
{
    const struct moe_trace_info *info = &trace->info;
    fprintf(out, ", \"%s\": [", list->key);
    for (uint32_t l = 0; l < info->n_layers; l++) {
        uint64_t at = (t * info->n_layers + l) * info->top_k;
        uint32_t n = 0;
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): every trace has experts */
        while (n < info->top_k && trace->tokens.expert[at + n] != MOE_NO_EXPERT)
            n++;
        fputs(l ? ", " : "", out);
        fputs(n ? "[" : "null", out);
        for (uint32_t k = 0; k < n; k++) {
            fputs(k ? ", " : "", out);
            list->write(out, list->values, at + k);
        }
        fputs(n ? "]" : "", out);
    }
    fputc(']', out);
}

/* Rows of all E scores, or null where they were not recorded. */
static void write_scores(FILE *out, const struct moe_trace *trace, uint64_t t, const char *key,
                         const float *scores)
{
    const struct moe_trace_info *info = &trace->info;
    fprintf(out, ", \"%s\": [", key);
    for (uint32_t l = 0; l < info->n_layers; l++) {
        const float *row = scores + (t * info->n_layers + l) * info->n_experts;
        bool absent = isnan(row[0]);
        fputs(l ? ", " : "", out);
        fputs(absent ? "null" : "[", out);
        for (uint32_t e = 0; !absent && e < info->n_experts; e++) {
            fputs(e ? ", " : "", out);
            write_float(out, row[e]);
        }
        fputs(absent ? "" : "]", out);
    }
    fputc(']', out);
}

static void write_token(FILE *out, const struct moe_trace *trace, uint64_t t)
{
    const struct moe_tokens *x = &trace->tokens;
    const struct list lists[] = {{"layers", x->expert, write_expert},
                                 {"weights", x->weight, write_weight},
                                 {"residency", x->log_residency, write_residency},
                                 {"bytes", x->log_bytes, write_bytes}};
    fprintf(out, "{\"sequence\": %" PRIu32 ", \"step\": %" PRIu32 ", \"phase\": \"%s\"",
            x->sequence[t], x->step[t], x->phase[t] == MOE_PREFILL ? "prefill" : "decode");
    if (x->request)
        fprintf(out, ", \"batch_request\": %" PRIu32, x->request[t]);
    if (x->position[t] != -1)
        fprintf(out, ", \"position\": %" PRId32, x->position[t]);
    if (x->token_id[t] != -1)
        fprintf(out, ", \"token\": %" PRId32, x->token_id[t]);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (lists[i].values)
            write_routes(out, trace, t, &lists[i]);
    if (x->score)
        write_scores(out, trace, t, "scores", x->score);
    if (x->lookahead)
        write_scores(out, trace, t, "lookahead", x->lookahead);
    fputs("}\n", out);
}

static bool text_ok(const char *text)
{
    return !text || moe_text_is_utf8(text, strlen(text));
}

/* JSON text is UTF-8; a trace from a foreign file may hold something else. */
static enum moe_status check_texts(const struct moe_trace *trace, struct moe_err *err)
{
    const struct moe_trace_info *i = &trace->info;
    const char *texts[] = {i->model,   i->source, i->licence, i->tool,
                           i->created, i->note,   i->dialect, i->header};
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
        if (!text_ok(texts[t]))
            return moe_fail(err, MOE_ERR_UNSUPPORTED, "provenance of the trace is not UTF-8");
    for (uint64_t s = 0; s < trace->n_sequences; s++)
        if (!text_ok(trace->sequences[s].label) || !text_ok(trace->sequences[s].category))
            return moe_fail(err, MOE_ERR_UNSUPPORTED, "label of sequence %" PRIu64 " is not UTF-8",
                            s);
    return MOE_OK;
}

enum moe_status moe_jsonl_export(const struct moe_trace *trace, const char *path,
                                 struct moe_err *err)
{
    struct moe_output out;
    uint64_t t = 0;
    enum moe_status status = check_texts(trace, err);
    if (status == MOE_OK)
        status = moe_output_create(&out, path, err);
    if (status != MOE_OK)
        return status;
    write_header(out.stream, trace);
    for (uint64_t s = 0; s < trace->n_sequences; s++) {
        write_sequence(out.stream, &trace->sequences[s], s);
        for (; t < trace->tokens.n_tokens && trace->tokens.sequence[t] == s; t++)
            write_token(out.stream, trace, t);
    }
    return moe_output_commit(&out, err);
}
