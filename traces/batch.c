#include "traces/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One request: tokens [first, end) of an input, and how far it has come. */
struct member {
    const struct moe_trace *from;
    const struct moe_sequence *record;
    uint64_t first, end, at;
    bool counted; /* its positions are not known */
};

struct maker {
    const struct moe_batch_options *options;
    struct moe_trace *out;
    struct member *member; /* [all sequences] */
    uint64_t n_members;
    uint64_t n_tokens; /* written */
    uint32_t step;     /* due in the sequence under way */
};

/* --- what the inputs have in common --------------------------------------------------------- */

static bool same_sizes(const uint64_t *a, const uint64_t *b, uint32_t n)
{
    return a && b ? memcmp(a, b, n * sizeof *a) == 0 : a == b;
}

static enum moe_status fail_differs(const char *const *names, uint64_t i, const char *what,
                                    struct moe_err *err)
{
    return moe_fail(err, MOE_ERR_USAGE, "'%s' cannot join '%s' in a batch: %s differ", names[i],
                    names[0], what);
}

static enum moe_status check_input(const struct moe_trace *inputs, const char *const *names,
                                   uint64_t i, uint32_t size, struct moe_err *err)
{
    const struct moe_trace_info *a = &inputs[0].info, *b = &inputs[i].info;
    const unsigned parts = moe_tokens_parts(&inputs[i].tokens);
    if (parts & MOE_HAS_REQUEST)
        return moe_fail(
            err, MOE_ERR_USAGE,
            "'%s' already has several requests in a sequence: batches are made of single ones",
            names[i]);
    if ((parts & MOE_HAS_LOG) && size > 1)
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%s' has an engine's log: its cache served one request at a time, not %u "
                        "(--log no leaves the log out)",
                        names[i], size);
    if (strcmp(a->model, b->model) != 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%s' cannot join '%s' in a batch: its model is '%s', not '%s'", names[i],
                        names[0], b->model, a->model);
    if (a->n_layers != b->n_layers || a->n_experts != b->n_experts || a->top_k != b->top_k)
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%s' cannot join '%s' in a batch: it has %u layer%s, %u experts, top %u, "
                        "not %u, %u, %u",
                        names[i], names[0], b->n_layers, moe_plural(b->n_layers), b->n_experts,
                        b->top_k, a->n_layers, a->n_experts, a->top_k);
    if (!same_sizes(a->expert_bytes, b->expert_bytes, a->n_layers) ||
        !same_sizes(a->dense_bytes, b->dense_bytes, a->n_layers))
        return fail_differs(names, i, "the bytes of experts or dense parts", err);
    if (parts != moe_tokens_parts(&inputs[0].tokens))
        return fail_differs(names, i, "what was recorded (weights, scores, lookahead, log)", err);
    if ((parts & (MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD)) && strcmp(a->dialect, b->dialect) != 0)
        return fail_differs(names, i, "the dialects, which say what scores are,", err);
    return MOE_OK;
}

/* --- provenance ----------------------------------------------------------------------------- */

/* Cuts text to a size at the end of a character. */
static void cut_text(char *text, size_t size)
{
    if (strlen(text) < size)
        return;
    size_t end = size - 1;
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
        end--;
    text[end] = '\0';
}

static const char between[] = "; ";

/* Is `last` the last of the joined texts, or all of them? */
static bool ends_with(const char *joined, const char *last)
{
    const size_t n = strlen(joined), k = strlen(last), gap = sizeof between - 1;
    if (n < k || strcmp(joined + n - k, last) != 0)
        return false;
    return n == k || (n >= k + gap && memcmp(joined + n - k - gap, between, gap) == 0);
}

/* Appends one more text, unless it is the last one again. Longer ones than fit are cut. */
static void join_text(char to[MOE_TEXT_MAX], const char *more)
{
    char both[2 * MOE_TEXT_MAX + 4];
    if (!*more || ends_with(to, more))
        return;
    snprintf(both, sizeof both, "%s%s%.*s", to, *to ? between : "", MOE_TEXT_MAX, more);
    cut_text(both, MOE_TEXT_MAX);
    memcpy(to, both, strlen(both) + 1);
}

static void add_note(struct moe_trace_info *info, const struct moe_batch_options *o)
{
    char before[MOE_TEXT_MAX];
    memcpy(before, info->note, sizeof before);
    snprintf(info->note, sizeof info->note, "batches of %u requests decode in lockstep, prompts %s",
             o->size, o->prefill == MOE_BATCH_TOGETHER ? "together" : "one by one");
    join_text(info->note, before);
}

static enum moe_status make_info(struct maker *m, const struct moe_trace *inputs, uint64_t n_inputs,
                                 struct moe_err *err)
{
    struct moe_trace_info *info = &m->out->info;
    enum moe_status s = moe_trace_info_copy(info, &inputs[0].info, err);
    if (s)
        return s;
    for (uint64_t i = 1; i < n_inputs; i++) {
        const struct moe_trace_info *more = &inputs[i].info;
        join_text(info->source, more->source);
        join_text(info->licence, more->licence);
        join_text(info->tool, more->tool);
        join_text(info->created, more->created);
        join_text(info->note, more->note);
        info->synthetic |= more->synthetic;
        info->rows_in_order &= more->rows_in_order;
        if (strcmp(info->dialect, more->dialect) != 0)
            info->dialect[0] = '\0';
    }
    if (n_inputs > 1 || m->options->size > 1) { /* of one text file, as it was */
        free(info->header);
        info->header = NULL;
    }
    if (m->options->size > 1) {
        info->rows_in_order = false;
        add_note(info, m->options);
    }
    return MOE_OK;
}

/* --- requests ------------------------------------------------------------------------------- */

static enum moe_status check_member(const struct moe_tokens *x, struct member *m, const char *name,
                                    struct moe_err *err)
{
    uint64_t unknown = 0;
    for (uint64_t t = m->first; t < m->end; t++) {
        unknown += x->position[t] < 0;
        if (t > m->first && x->phase[t] == MOE_PREFILL && x->phase[t - 1] == MOE_DECODE)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s': token %" PRIu64
                            " of sequence %u is a prompt token after decode passes: requests of "
                            "several turns do not decode in lockstep",
                            name, t - m->first, x->sequence[t]);
    }
    if (unknown > 0 && unknown < m->end - m->first)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': positions of sequence %u are known in part only: %" PRIu64
                        " of %" PRIu64 " are not",
                        name, x->sequence[m->first], unknown, m->end - m->first);
    if (unknown > INT32_MAX)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': sequence %u has %" PRIu64 " tokens, more than %d", name,
                        x->sequence[m->first], unknown, INT32_MAX);
    m->counted = unknown > 0;
    return MOE_OK;
}

static enum moe_status find_members(struct maker *m, const struct moe_trace *inputs,
                                    const char *const *names, uint64_t n_inputs,
                                    struct moe_err *err)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < n_inputs; i++)
        n += inputs[i].n_sequences;
    m->member = calloc(n + 1, sizeof *m->member);
    if (!m->member)
        return moe_fail_memory(err, "the requests of batches");
    for (uint64_t i = 0; i < n_inputs; i++) {
        const struct moe_trace *from = &inputs[i];
        uint64_t first = 0;
        for (uint64_t k = 0; k < from->n_sequences; k++) {
            struct member *x = &m->member[m->n_members++];
            uint64_t end = first + from->sequences[k].n_tokens;
            *x = (struct member){from, &from->sequences[k], first, end, first, false};
            enum moe_status s =
                m->options->size > 1 ? check_member(&from->tokens, x, names[i], err) : MOE_OK;
            if (s)
                return s;
            first = end;
        }
    }
    return MOE_OK;
}

/* --- rows ----------------------------------------------------------------------------------- */

/* The request's next pass joins the step under way, if it is of that phase; false: it is not. */
static bool take_pass(struct maker *m, struct member *r, uint32_t request, enum moe_phase phase,
                      uint32_t sequence)
{
    const struct moe_tokens *x = &r->from->tokens;
    const struct moe_tokens *y = &m->out->tokens;
    if (r->at == r->end || x->phase[r->at] != phase)
        return false;
    const uint64_t n = moe_step_end(x, r->at) - r->at;
    moe_tokens_copy(&m->out->tokens, m->n_tokens, x, r->at, n, &m->out->info);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t to = m->n_tokens + i;
        y->sequence[to] = sequence;
        y->request[to] = request;
        y->step[to] = m->step;
        if (r->counted)
            y->position[to] = (int32_t)(r->at + i - r->first);
    }
    m->n_tokens += n;
    r->at += n;
    return true;
}

/* One step of the next passes of all requests whose next one is of the phase; false: none is. */
static bool take_passes(struct maker *m, struct member *r, uint32_t n, enum moe_phase phase,
                        uint32_t sequence)
{
    bool any = false;
    for (uint32_t i = 0; i < n; i++)
        any |= take_pass(m, &r[i], i, phase, sequence);
    m->step += any;
    return any;
}

static void make_sequence(struct maker *m, struct member *r, uint32_t n, uint32_t sequence)
{
    bool more = true;
    m->step = 0;
    for (uint32_t i = 0; i < n && m->options->prefill == MOE_BATCH_ONE_BY_ONE; i++)
        for (; take_pass(m, &r[i], i, MOE_PREFILL, sequence); m->step++)
            ;
    while (more)
        more = take_passes(m, r, n, MOE_PREFILL, sequence);
    do
        more = take_passes(m, r, n, MOE_DECODE, sequence);
    while (more);
}

static void copy_sequence(struct maker *m, const struct member *r, uint32_t sequence)
{
    const uint64_t n = r->end - r->first;
    moe_tokens_copy(&m->out->tokens, m->n_tokens, &r->from->tokens, r->first, n, &m->out->info);
    for (uint64_t i = 0; i < n; i++)
        m->out->tokens.sequence[m->n_tokens + i] = sequence;
    m->n_tokens += n;
}

/* --- records of sequences ------------------------------------------------------------------- */

/* A prompt's hash is of one request; labels are joined where they differ. */
static enum moe_status make_record(const struct member *r, uint32_t n, struct moe_sequence *out,
                                   struct moe_err *err)
{
    char label[MOE_TEXT_MAX] = "", category[MOE_TEXT_MAX] = "";
    *out = (struct moe_sequence){.text_hash = n == 1 ? r->record->text_hash : 0};
    for (uint32_t i = 0; i < n; i++) {
        out->n_tokens += r[i].end - r[i].first;
        join_text(label, r[i].record->label);
        join_text(category, r[i].record->category);
    }
    out->label = strdup(label);
    out->category = strdup(category);
    return out->label && out->category ? MOE_OK : moe_fail_memory(err, "a sequence");
}

static enum moe_status make_all(struct maker *m, struct moe_err *err)
{
    const uint64_t size = m->options->size, n = m->n_members / size + (m->n_members % size > 0);
    struct moe_trace *out = m->out;
    out->sequences = calloc(n + 1, sizeof *out->sequences);
    if (!out->sequences)
        return moe_fail_memory(err, "the sequences of batches");
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): moe_batch_make frees the members */
    for (uint64_t g = 0; g < n; g++) {
        struct member *r = m->member + g * size;
        const uint64_t left = m->n_members - g * size;
        const uint32_t members = (uint32_t)(left < size ? left : size);
        enum moe_status s = make_record(r, members, &out->sequences[g], err);
        out->n_sequences = g + 1;
        if (s)
            return s;
        if (size == 1)
            copy_sequence(m, r, (uint32_t)g);
        else
            make_sequence(m, r, members, (uint32_t)g);
    }
    return MOE_OK;
}

static enum moe_status make(struct maker *m, const struct moe_trace *inputs,
                            const char *const *names, uint64_t n_inputs, struct moe_err *err)
{
    const uint32_t size = m->options->size;
    unsigned parts = moe_tokens_parts(&inputs[0].tokens);
    uint64_t n_tokens = 0;
    for (uint64_t i = 0; i < n_inputs; i++) {
        enum moe_status s = check_input(inputs, names, i, size, err);
        if (s)
            return s;
        n_tokens += inputs[i].tokens.n_tokens;
    }
    enum moe_status s = make_info(m, inputs, n_inputs, err);
    if (!s)
        s = find_members(m, inputs, names, n_inputs, err);
    if (!s)
        s = moe_tokens_init(&m->out->tokens, &m->out->info, n_tokens,
                            parts | (size > 1 ? (unsigned)MOE_HAS_REQUEST : 0), err);
    return s ? s : make_all(m, err);
}

enum moe_status moe_batch_make(const struct moe_trace *inputs, const char *const *names,
                               uint64_t n_inputs, const struct moe_batch_options *options,
                               struct moe_trace *out, struct moe_err *err)
{
    struct moe_trace made = {0};
    struct maker m = {.options = options, .out = &made};
    if (n_inputs == 0 || options->size == 0 || options->size > MOE_BATCH_MAX)
        return moe_fail(err, MOE_ERR_USAGE, "batches of %u requests are outside 1..%d",
                        options->size, MOE_BATCH_MAX);
    enum moe_status s = make(&m, inputs, names, n_inputs, err);
    free(m.member);
    if (s)
        moe_trace_release(&made);
    else
        *out = made;
    return s;
}
