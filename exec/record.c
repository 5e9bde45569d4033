#include "exec/record.h"

#include "base/param.h"
#include "base/progress.h"
#include "base/table.h"
#include "base/version.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One recording under way. */
struct recording {
    const struct moe_llm *llm;
    const struct moe_tokenizer *tokenizer;
    const struct moe_prompts *prompts;
    const struct moe_record_options *options;
    struct moe_trace_info info;
    unsigned parts;
    struct moe_session *session;
    uint32_t chunk; /* written to the trace: the session's, had its context not been cut to the
                       prompts */
    struct moe_writer *writer;
    int32_t **ids; /* [n prompts] their tokens */
    uint32_t *n_ids;
    float *logits;
    struct moe_tokens rows; /* of the prompt under way */
    uint64_t capacity;
    struct moe_progress progress; /* in tokens; its total falls where a prompt stops early */
    uint64_t n_before_prompt;     /* tokens of this call before the prompt under way */
    struct moe_recorded done;
};

/* Fills the trace's description. Threads and kernels are not among the settings: they do not change
 * what is recorded (kernels only its last bits). */
static enum moe_status describe(struct recording *r, struct moe_err *err)
{
    const struct moe_record_options *o = r->options;
    const struct moe_llm_config *c = &r->llm->config;
    struct moe_trace_info *info = &r->info;
    char chat[32], number[32], share[32];
    uint64_t hash = 0;
    for (size_t i = 0; i < r->prompts->n; i++)
        hash = moe_mix64(hash ^ r->prompts->prompt[i].hash);
    *info = (struct moe_trace_info){
        .n_layers = c->n_layers, .n_experts = c->n_experts, .top_k = c->top_k};
    info->rows_in_order = true;
    info->expert_bytes = calloc(c->n_layers, sizeof *info->expert_bytes);
    info->dense_bytes = calloc(c->n_layers, sizeof *info->dense_bytes);
    if (!info->expert_bytes || !info->dense_bytes)
        return moe_fail_memory(err, "the sizes of the layers");
    for (uint32_t l = 0; l < c->n_layers; l++) {
        info->expert_bytes[l] = moe_llm_expert_bytes(r->llm, l);
        info->dense_bytes[l] = moe_llm_dense_bytes(r->llm, l);
    }
    snprintf(info->model, sizeof info->model, "%s", r->llm->name);
    snprintf(info->source, sizeof info->source,
             "%.96s, %zu prompts, hash %016" PRIx64 "; model %016" PRIx64, r->prompts->label,
             r->prompts->n, hash, moe_weights_hash(r->llm->weights));
    snprintf(info->licence, sizeof info->licence, "unknown");
    snprintf(info->tool, sizeof info->tool, "moelab %s record%s", MOELAB_VERSION,
             o->place ? o->place->note : "");
    snprintf(info->created, sizeof info->created, "%s", o->created);
    moe_choice_name(MOE_CHAT_CHOICES, (int)o->chat, chat, sizeof chat);
    snprintf(info->note, sizeof info->note,
             "chat=%s max_new=%u ignore_eos=%d temperature=%s top_k=%u top_p=%s seed=%" PRIu64
             " chunk=%u",
             chat, o->max_new, o->ignore_eos, moe_format_f64(o->temperature, number, sizeof number),
             o->top_k, moe_format_f64(o->top_p, share, sizeof share), o->seed, r->chunk);
    snprintf(info->dialect, sizeof info->dialect, "scores=logits lookahead=logits");
    r->parts =
        MOE_HAS_WEIGHT | (o->scores ? MOE_HAS_SCORE : 0u) | (o->lookahead ? MOE_HAS_LOOKAHEAD : 0u);
    return MOE_OK;
}

static enum moe_status differs(const char *path, const char *what, const char *there,
                               const char *wanted, struct moe_err *err)
{
    return moe_fail(
        err, MOE_ERR_USAGE,
        "cannot continue '%.80s': recorded with %s '%.110s', asked for '%.110s' (--overwrite "
        "replaces it)",
        path, what, there, wanted);
}

/* An existing file is only continued if it is the beginning of this very recording. */
static enum moe_status check_existing(const struct recording *r, struct moe_err *err)
{
    struct moe_reader *reader;
    const char *path = r->options->out;
    enum moe_status s = moe_reader_open(&reader, path, err);
    if (s)
        return s;
    const struct moe_trace_info *there = moe_reader_info(reader);
    if (strcmp(there->model, r->info.model) != 0)
        s = differs(path, "model", there->model, r->info.model, err);
    else if (strcmp(there->source, r->info.source) != 0)
        s = differs(path, "source", there->source, r->info.source, err);
    else if (strcmp(there->note, r->info.note) != 0)
        s = differs(path, "settings", there->note, r->info.note, err);
    moe_reader_close(reader);
    return s;
}

static enum moe_status open_writer(struct recording *r, struct moe_err *err)
{
    const char *path = r->options->out;
    bool there = !r->options->overwrite && access(path, F_OK) == 0;
    enum moe_status s = there ? check_existing(r, err) : MOE_OK;
    if (!s)
        s = moe_writer_open(&r->writer, path, &r->info, r->parts, there, err);
    if (s)
        return s;
    r->done.n_before = moe_writer_n_sequences(r->writer);
    return MOE_OK;
}

/* Makes room for n rows, which is kept for the next prompts. */
static enum moe_status make_rows(struct recording *r, uint64_t n, struct moe_err *err)
{
    if (n <= r->capacity)
        return MOE_OK;
    moe_tokens_release(&r->rows);
    r->capacity = 0;
    enum moe_status s = moe_tokens_init(&r->rows, &r->info, n, r->parts, err);
    if (!s)
        r->capacity = n;
    return s;
}

static enum moe_status encode(const struct recording *r, const struct moe_prompt *prompt,
                              int32_t **ids, size_t *n, struct moe_err *err)
{
    if (r->options->chat == MOE_CHAT_NONE)
        return moe_tokenizer_encode(r->tokenizer, prompt->text, strlen(prompt->text),
                                    moe_tokenizer_adds_bos(r->tokenizer), ids, n, err);
    char *text = NULL;
    struct moe_message message = {"user", prompt->text};
    struct moe_chat_tokens tokens = {moe_tokenizer_bos(r->tokenizer),
                                     moe_tokenizer_eos(r->tokenizer)};
    enum moe_status s = moe_chat_format(r->options->chat, &tokens, &message, 1, &text, err);
    if (!s)
        s = moe_tokenizer_encode(r->tokenizer, text, strlen(text), false, ids, n, err);
    free(text);
    return s;
}

/* Sets steps, phases and positions of the rows by the passes in which they were computed. */
static void number_rows(struct moe_tokens *rows, uint32_t n_prompt, uint32_t n_passes,
                        uint32_t chunk)
{
    uint32_t prefills = (n_prompt + chunk - 1) / chunk;
    rows->n_tokens = (uint64_t)n_prompt + n_passes;
    for (uint32_t t = 0; t < n_prompt + n_passes; t++) {
        bool decode = t >= n_prompt;
        rows->step[t] = decode ? prefills + (t - n_prompt) : t / chunk;
        rows->phase[t] = decode ? MOE_DECODE : MOE_PREFILL;
        rows->position[t] = (int32_t)t;
    }
}

static enum moe_status keep(struct recording *r, size_t i, const struct moe_generated *made,
                            struct moe_err *err)
{
    uint64_t began = moe_clock_ns();
    const struct moe_prompt *prompt = &r->prompts->prompt[i];
    char label[256];
    snprintf(label, sizeof label, "%s", r->prompts->label);
    struct moe_sequence sequence = {
        .text_hash = prompt->hash, .label = label, .category = prompt->category};
    number_rows(&r->rows, made->n_prompt, made->n_passes, r->chunk);
    enum moe_status s = moe_writer_append(r->writer, &r->rows, err);
    if (!s)
        s = moe_writer_end_sequence(r->writer, &sequence, err);
    if (!s && ((i + 1) % r->options->commit_every == 0 || i + 1 == r->prompts->n))
        s = moe_writer_commit(r->writer, err);
    r->done.record_ns += moe_clock_ns() - began;
    r->done.prefill_ns += made->prefill_ns;
    r->done.decode_ns += made->decode_ns;
    r->done.n_prefill += made->n_prompt;
    r->done.n_decode += made->n_passes;
    return s;
}

static void show_prefill(void *context, uint64_t done)
{
    struct recording *r = context;
    moe_progress_update(&r->progress, r->n_before_prompt + done / r->info.n_layers);
}

static enum moe_status show_token(void *context, int32_t token, struct moe_err *err)
{
    struct recording *r = context;
    (void)token;
    (void)err;
    moe_progress_update(&r->progress, r->n_before_prompt + moe_session_length(r->session));
    return MOE_OK;
}

static enum moe_status generate(struct recording *r, size_t i, const int32_t *ids, uint32_t n,
                                struct moe_generated *made, struct moe_err *err)
{
    const struct moe_record_options *o = r->options;
    struct moe_generate_options g = {.max_new = o->max_new, .ignore_eos = o->ignore_eos};
    enum moe_status s =
        moe_sampler_init(&g.sampler, r->llm->config.n_vocab, o->temperature, o->top_k, o->top_p,
                         moe_mix64(o->seed ^ moe_mix64(i)), err);
    if (s)
        return s;
    struct moe_generate_watch watch = {show_token, show_prefill, r};
    s = moe_generate(r->session, ids, n, &g, &watch, r->logits, &r->rows, made, err);
    moe_sampler_release(&g.sampler);
    if (!s && made->stop == MOE_STOP_INTERRUPTED)
        s = moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    return s;
}

static uint32_t most_context(const struct recording *r)
{
    const uint32_t asked = r->options->session.context;
    return asked ? asked : r->llm->config.max_context;
}

/* Encodes all prompts before any other work, so that one that does not fit is reported at once. */
static enum moe_status encode_all(struct recording *r, struct moe_err *err)
{
    size_t n_prompts = r->prompts->n, n = 0;
    const uint32_t context = most_context(r);
    r->ids = calloc(n_prompts, sizeof *r->ids);
    r->n_ids = calloc(n_prompts, sizeof *r->n_ids);
    if (!r->ids || !r->n_ids)
        return moe_fail_memory(err, "the prompts' tokens");
    for (size_t i = 0; i < n_prompts; i++) {
        enum moe_status s = encode(r, &r->prompts->prompt[i], &r->ids[i], &n, err);
        if (!s && r->options->max_prompt && n > r->options->max_prompt)
            n = r->options->max_prompt;
        if (!s && n == 0)
            s = moe_fail(err, MOE_ERR_INPUT, "the prompt has no tokens");
        if (!s && n > context)
            s = moe_fail(err, MOE_ERR_INPUT,
                         "the prompt's %zu tokens exceed the context of %u (--max-prompt cuts it)",
                         n, context);
        if (s)
            return moe_fail_prefix(err, "'%.80s':%" PRIu64, r->prompts->label,
                                   r->prompts->prompt[i].line);
        r->n_ids[i] = (uint32_t)n;
    }
    return MOE_OK;
}

/* On a device the KV cache takes memory from the slots, so it is only as long as the longest prompt
 * and its answer need. */
static enum moe_status start_session(struct recording *r, struct moe_err *err)
{
    struct moe_session_options options = r->options->session;
    const uint32_t most = most_context(r);
    uint64_t longest = 0;
    for (size_t i = 0; i < r->prompts->n; i++)
        longest = r->n_ids[i] > longest ? r->n_ids[i] : longest;
    longest += r->options->max_new;
    if (r->options->place && !options.context)
        options.context = (uint32_t)(longest < most ? longest : most);
    enum moe_status s = moe_session_new(&r->session, r->llm, &options, err);
    if (s)
        return s;
    r->chunk = options.chunk ? options.chunk : moe_session_chunk(r->session);
    r->chunk = r->chunk < most ? r->chunk : most;
    return MOE_OK;
}

/* The number of rows of a prompt if it does not stop early. */
static uint64_t tokens_planned(const struct recording *r, size_t i)
{
    uint32_t passes = r->options->max_new ? r->options->max_new - 1 : 0;
    return (uint64_t)r->n_ids[i] + passes;
}

static enum moe_status record_prompt(struct recording *r, size_t i, struct moe_err *err)
{
    struct moe_generated made;
    r->n_before_prompt = r->done.n_prefill + r->done.n_decode;
    enum moe_status s = make_rows(r, tokens_planned(r, i), err);
    if (!s)
        s = generate(r, i, r->ids[i], r->n_ids[i], &made, err);
    if (!s)
        s = keep(r, i, &made, err);
    if (!s)
        r->progress.total -= tokens_planned(r, i) - made.n_prompt - made.n_passes;
    return s;
}

/* Keeps the prompts that are done, whatever ended the recording; after a failure before the first
 * one there is no file. */
static enum moe_status end_early(struct recording *r, uint64_t n_kept, enum moe_status status,
                                 struct moe_err *err)
{
    struct moe_err ignored;
    if (status != MOE_ERR_INTERRUPTED && n_kept == 0)
        return status;
    if (moe_writer_commit(r->writer, &ignored) || status != MOE_ERR_INTERRUPTED)
        return status;
    return moe_fail(err, status,
                    "interrupted: '%s' holds %" PRIu64
                    " of %zu prompts; the same command%s goes on",
                    r->options->out, moe_writer_n_sequences(r->writer), r->prompts->n,
                    r->options->overwrite ? " without --overwrite" : "");
}

static enum moe_status record_all(struct recording *r, struct moe_err *err)
{
    if (r->done.n_before > 0 && r->done.n_before < r->prompts->n)
        moe_log("'%s' holds %" PRIu64 " of %zu prompts: going on with the next", r->options->out,
                r->done.n_before, r->prompts->n);
    enum moe_status s = MOE_OK;
    uint64_t planned = 0, n_kept = r->done.n_before;
    for (size_t i = r->done.n_before; i < r->prompts->n; i++)
        planned += tokens_planned(r, i);
    moe_progress_begin(&r->progress, "recording", "tokens", planned);
    for (size_t i = r->done.n_before; !s && i < r->prompts->n; i++) {
        if (moe_interrupted())
            s = moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
        else
            s = record_prompt(r, i, err);
        n_kept += !s;
    }
    moe_progress_end(&r->progress);
    return s ? end_early(r, n_kept, s, err) : MOE_OK;
}

/* The same, with the passes computed in the place that the options name. */
static enum moe_status record_in_place(struct recording *r, struct moe_err *err)
{
    const struct moe_record_place *place = r->options->place;
    struct moe_err late;
    if (!place || r->done.n_before == r->prompts->n)
        return record_all(r, err);
    enum moe_status s = place->begin(place->context, r->session, err);
    if (s)
        return s;
    s = record_all(r, err);
    enum moe_status end = place->end(place->context, s ? &late : err);
    return s ? s : end;
}

enum moe_status moe_record(const struct moe_llm *llm, const struct moe_tokenizer *tokenizer,
                           const struct moe_prompts *prompts,
                           const struct moe_record_options *options, struct moe_recorded *out,
                           struct moe_err *err)
{
    struct recording r = {
        .llm = llm, .tokenizer = tokenizer, .prompts = prompts, .options = options};
    enum moe_status s = encode_all(&r, err);
    if (!s)
        s = start_session(&r, err);
    if (!s)
        s = describe(&r, err);
    if (!s && !(r.logits = calloc(llm->config.n_vocab, sizeof *r.logits)))
        s = moe_fail_memory(err, "the logits");
    if (!s)
        s = open_writer(&r, err);
    if (!s)
        s = record_in_place(&r, err);
    if (!s) {
        *out = r.done;
        out->n_prompts = prompts->n;
    }
    moe_writer_close(r.writer);
    moe_tokens_release(&r.rows);
    moe_trace_info_release(&r.info);
    moe_session_free(r.session);
    for (size_t i = 0; r.ids && i < prompts->n; i++)
        free(r.ids[i]);
    free(r.ids);
    free(r.n_ids);
    free(r.logits);
    return s;
}
