#include "traces/build.h"

#include "base/progress.h"
#include "base/units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_text(char *to, const char *text)
{
    snprintf(to, MOE_TEXT_MAX, "%s", text);
}

void moe_import_start(struct moe_trace *trace, const char *format,
                      const struct moe_import_options *options, uint64_t n_bytes, uint64_t hash)
{
    *trace = (struct moe_trace){0};
    struct moe_trace_info *info = &trace->info;
    set_text(info->model, options->model ? options->model->name : "unknown");
    set_text(info->licence, options->licence ? options->licence : "unknown");
    set_text(info->tool, "unknown");
    set_text(info->created, "unknown");
    if (options->source)
        set_text(info->source, options->source);
    else
        snprintf(info->source, sizeof info->source, "%s, %llu bytes, fnv1a64 %016llx", format,
                 (unsigned long long)n_bytes, (unsigned long long)hash);
}

enum moe_status moe_import_tick(const struct moe_import_options *options, uint64_t done,
                                uint64_t total, struct moe_err *err)
{
    if (moe_interrupted())
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    if (options->progress) {
        options->progress->total = total;
        moe_progress_update(options->progress, done);
    }
    return MOE_OK;
}

enum moe_status moe_import_header(struct moe_trace *trace, const char *name, const char *text,
                                  size_t n, struct moe_err *err)
{
    if (n > MOE_HEADER_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': header of %zu bytes exceeds %d", name, n,
                        MOE_HEADER_MAX);
    char *copy = malloc(n + 1);
    if (!copy)
        return moe_fail_memory(err, "header lines");
    memcpy(copy, text, n);
    copy[n] = '\0';
    free(trace->info.header);
    trace->info.header = copy;
    return MOE_OK;
}

enum moe_status moe_import_layers(struct moe_trace *trace, const char *name,
                                  const struct moe_import_options *options, uint64_t found,
                                  struct moe_err *err)
{
    const struct moe_model *model = options->model;
    if (model && found && model->n_layers != found)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': %llu layer%s, but model '%s' has %llu", name,
                        (unsigned long long)found, moe_plural(found), model->name,
                        (unsigned long long)model->n_layers);
    uint64_t n = found ? found : model ? model->n_layers : 0;
    if (n < 1 || n > MOE_MAX_LAYERS)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': number of layers %llu is outside 1..%d", name,
                        (unsigned long long)n, MOE_MAX_LAYERS);
    trace->info.n_layers = (uint32_t)n;
    return MOE_OK;
}

enum moe_status moe_import_experts(struct moe_trace *trace, const char *name,
                                   const struct moe_import_options *options, uint64_t told,
                                   uint64_t n_used, struct moe_err *err)
{
    uint64_t asked = options->model ? options->model->n_experts : options->n_experts;
    if (told && asked && told != asked)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': %llu experts, but %s has %llu", name,
                        (unsigned long long)told, options->model ? "the model" : "--experts",
                        (unsigned long long)asked);
    uint64_t least = n_used > trace->info.top_k ? n_used : trace->info.top_k;
    uint64_t n = told ? told : asked ? asked : least;
    if (n < 1 || n > MOE_MAX_EXPERTS)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': number of experts %llu is outside 1..%d", name,
                        (unsigned long long)n, MOE_MAX_EXPERTS);
    if (n_used > n)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': expert %llu is outside 0..%llu", name,
                        (unsigned long long)(n_used - 1), (unsigned long long)(n - 1));
    if (trace->info.top_k > n)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': top-k %lu exceeds the %llu experts of a layer",
                        name, (unsigned long)trace->info.top_k, (unsigned long long)n);
    trace->info.n_experts = (uint32_t)n;
    return MOE_OK;
}

/* Bytes of one token's arrays; the shape is within its limits, so nothing overflows. */
static uint64_t token_bytes(const struct moe_trace_info *info, unsigned parts)
{
    uint64_t choices = (uint64_t)info->n_layers * info->top_k;
    uint64_t scores = (uint64_t)info->n_layers * info->n_experts * sizeof(float);
    uint64_t bytes = 17 + choices * sizeof(moe_expert);
    if (parts & MOE_HAS_REQUEST)
        bytes += sizeof(uint32_t);
    if (parts & MOE_HAS_WEIGHT)
        bytes += choices * sizeof(float);
    if (parts & MOE_HAS_LOG)
        bytes += choices * (sizeof(uint8_t) + sizeof(uint64_t));
    if (parts & MOE_HAS_SCORE)
        bytes += scores;
    if (parts & MOE_HAS_LOOKAHEAD)
        bytes += scores;
    return bytes;
}

static enum moe_status alloc_sequences(struct moe_trace *trace, uint64_t n, struct moe_err *err)
{
    if (n > SIZE_MAX / sizeof *trace->sequences)
        return moe_fail_memory(err, "sequences");
    trace->sequences = calloc(n ? (size_t)n : 1, sizeof *trace->sequences);
    if (!trace->sequences)
        return moe_fail_memory(err, "sequences");
    for (; trace->n_sequences < n; trace->n_sequences++) {
        struct moe_sequence *s = &trace->sequences[trace->n_sequences];
        s->label = calloc(1, 1);
        s->category = calloc(1, 1);
        if (!s->label || !s->category) {
            free(s->label);
            free(s->category);
            return moe_fail_memory(err, "sequences");
        }
    }
    return MOE_OK;
}

enum moe_status moe_import_alloc(struct moe_trace *trace, const char *name, uint64_t n_tokens,
                                 uint64_t n_sequences, unsigned parts, uint64_t file_bytes,
                                 struct moe_err *err)
{
    uint64_t bytes, limit;
    bool fits = moe_mul_u64(n_tokens, token_bytes(&trace->info, parts), &bytes);
    if (!moe_mul_u64(file_bytes, 1024, &limit) || !moe_add_u64(limit, 64 << 20, &limit))
        limit = UINT64_MAX;
    if (!fits || bytes > limit)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': %llu tokens of %lu layers are over 1024 times the file's %llu bytes",
                        name, (unsigned long long)n_tokens, (unsigned long)trace->info.n_layers,
                        (unsigned long long)file_bytes);
    enum moe_status status = alloc_sequences(trace, n_sequences, err);
    if (status == MOE_OK)
        status = moe_tokens_init(&trace->tokens, &trace->info, n_tokens, parts, err);
    for (uint64_t t = 0; status == MOE_OK && t < n_tokens; t++)
        trace->tokens.phase[t] = MOE_DECODE;
    return status;
}

void moe_import_steps(struct moe_tokens *tokens, uint64_t first, uint64_t n, uint64_t n_prompt)
{
    for (uint64_t i = 0; i < n; i++) {
        bool prompt = i < n_prompt;
        tokens->phase[first + i] = prompt ? MOE_PREFILL : MOE_DECODE;
        tokens->step[first + i] = (uint32_t)(prompt ? 0 : i - n_prompt + (n_prompt > 0));
    }
}

bool moe_import_single_passes(const struct moe_tokens *tokens)
{
    for (uint64_t t = 1; t < tokens->n_tokens; t++)
        if (tokens->sequence[t] == tokens->sequence[t - 1] &&
            tokens->step[t] == tokens->step[t - 1])
            return false;
    return true;
}

/* Files may have values for absent experts: they are dropped. */
static void clear_absent(struct moe_trace *trace)
{
    struct moe_tokens *x = &trace->tokens;
    uint64_t n = x->n_tokens * trace->info.n_layers * trace->info.top_k;
    for (uint64_t i = 0; i < n; i++) {
        if (x->expert[i] != MOE_NO_EXPERT)
            continue;
        if (x->weight)
            x->weight[i] = NAN;
        if (x->log_bytes)
            x->log_bytes[i] = 0;
        if (x->log_residency)
            x->log_residency[i] = 0;
    }
}

enum moe_status moe_import_finish(struct moe_trace *trace, const char *name, enum moe_status status,
                                  struct moe_trace *out, struct moe_err *err)
{
    if (status == MOE_OK) {
        for (uint64_t i = 0; i < trace->n_sequences; i++)
            trace->sequences[i].n_tokens = 0;
        for (uint64_t t = 0; t < trace->tokens.n_tokens; t++)
            trace->sequences[trace->tokens.sequence[t]].n_tokens++;
        clear_absent(trace);
        status = moe_tokens_check(&trace->tokens, &trace->info, err);
        if (status != MOE_OK)
            moe_fail_prefix(err, "'%s'", name);
    }
    if (status == MOE_OK)
        *out = *trace;
    else
        moe_trace_release(trace);
    return status;
}

const char *moe_dialect_get(const char *dialect, const char *key, size_t *n)
{
    size_t length = strlen(key);
    for (const char *word = dialect; *word;) {
        size_t end = strcspn(word, " ");
        if (end > length && word[length] == '=' && memcmp(word, key, length) == 0) {
            *n = end - length - 1;
            return word + length + 1;
        }
        word += end + strspn(word + end, " ");
    }
    return NULL;
}

bool moe_dialect_is(const char *dialect, const char *key, const char *value)
{
    size_t n = 0;
    const char *found = moe_dialect_get(dialect, key, &n);
    return found && n == strlen(value) && memcmp(found, value, n) == 0;
}
