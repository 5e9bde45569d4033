#include "sim/mrc_sample.h"

#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

#define NOT_TAKEN UINT32_MAX

/* A sample under way. */
struct draw {
    struct moe_mrc_sample sample;
    uint32_t *number; /* [n_of] of each sequence in the sample, or NOT_TAKEN */
    uint64_t at;      /* tokens filled */
};

static bool counts(const struct moe_mrc_sample_options *options, uint64_t sequence)
{
    uint64_t hash = moe_mix64(options->seed ^ moe_mix64(sequence));
    return (double)(hash >> 11) * 0x1p-53 < options->rate;
}

/* Decides on every sequence. */
static enum moe_status decide(struct draw *d, const struct moe_mrc_sample_options *options,
                              uint64_t n, struct moe_err *err)
{
    struct moe_mrc_sample *x = &d->sample;
    d->number = malloc((size_t)n * sizeof *d->number + 1);
    x->counted = malloc((size_t)n + 1);
    if (!d->number || !x->counted)
        return moe_fail_memory(err, "a sample");
    x->n_of = n;
    for (uint64_t i = 0; i < n; i++) {
        bool counted = counts(options, i);
        bool warms = !options->cold && i + 1 < n && counts(options, i + 1);
        d->number[i] = NOT_TAKEN;
        if (!counted && !warms)
            continue;
        x->n_counted += counted;
        x->counted[x->n_sequences] = counted;
        d->number[i] = (uint32_t)x->n_sequences++;
    }
    if (x->n_counted > 0)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE, "a sample of %g %% takes none of the %llu sequence%s",
                    100 * options->rate, (unsigned long long)n, moe_plural(n));
}

static enum moe_status make_room(struct draw *d, const struct moe_trace_info *info,
                                 uint64_t n_tokens, struct moe_err *err)
{
    enum moe_status s = moe_trace_info_copy(&d->sample.trace.info, info, err);
    return s ? s : moe_tokens_init(&d->sample.trace.tokens, info, n_tokens, 0, err);
}

/* The tokens of a block that belong to sequences taken. */
static void take_block(struct draw *d, const struct moe_tokens *from)
{
    const struct moe_trace_info *info = &d->sample.trace.info;
    struct moe_tokens *to = &d->sample.trace.tokens;
    size_t row = (size_t)info->n_layers * info->top_k;
    for (uint64_t t = 0; t < from->n_tokens && d->at < to->n_tokens; t++) {
        uint32_t sequence = from->sequence[t];
        if (sequence >= d->sample.n_of || d->number[sequence] == NOT_TAKEN)
            continue;
        to->sequence[d->at] = d->number[sequence];
        to->step[d->at] = from->step[t];
        to->phase[d->at] = from->phase[t];
        memcpy(to->expert + d->at * row, from->expert + t * row, row * sizeof *to->expert);
        d->at++;
    }
}

static enum moe_status count_stream(struct draw *d, struct moe_reader *reader, uint64_t *n_tokens,
                                    struct moe_err *err)
{
    *n_tokens = 0;
    for (uint64_t i = 0; i < d->sample.n_of; i++) {
        struct moe_sequence sequence;
        if (d->number[i] == NOT_TAKEN)
            continue;
        enum moe_status s = moe_reader_sequence(reader, i, &sequence, err);
        if (s)
            return s;
        *n_tokens += sequence.n_tokens;
        free(sequence.label);
        free(sequence.category);
    }
    return MOE_OK;
}

static enum moe_status take_stream(struct draw *d, struct moe_reader *reader, struct moe_err *err)
{
    uint64_t n_tokens;
    enum moe_status s = count_stream(d, reader, &n_tokens, err);
    if (!s)
        s = make_room(d, moe_reader_info(reader), n_tokens, err);
    if (!s)
        s = moe_reader_rewind(reader, err);
    while (!s) {
        const struct moe_tokens *block;
        s = moe_reader_next(reader, 0, &block, err);
        if (s || !block)
            break;
        take_block(d, block);
        if (moe_interrupted())
            s = moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted while sampling");
    }
    return s;
}

static enum moe_status take_trace(struct draw *d, const struct moe_trace *trace,
                                  struct moe_err *err)
{
    const struct moe_tokens *tokens = &trace->tokens;
    uint64_t n_tokens = 0;
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        n_tokens += d->number[tokens->sequence[t]] != NOT_TAKEN;
    enum moe_status s = make_room(d, &trace->info, n_tokens, err);
    if (!s)
        take_block(d, tokens);
    return s;
}

static enum moe_status draw_end(struct draw *d, enum moe_status s, struct moe_mrc_sample *out)
{
    free(d->number);
    d->number = NULL;
    if (s)
        moe_mrc_sample_release(&d->sample);
    else
        *out = d->sample;
    return s;
}

enum moe_status moe_mrc_sample_stream(struct moe_reader *reader,
                                      const struct moe_mrc_sample_options *options,
                                      struct moe_mrc_sample *out, struct moe_err *err)
{
    struct draw d = {0};
    enum moe_status s = decide(&d, options, moe_reader_n_sequences(reader), err);
    if (!s)
        s = take_stream(&d, reader, err);
    return draw_end(&d, s, out);
}

enum moe_status moe_mrc_sample_trace(const struct moe_trace *trace,
                                     const struct moe_mrc_sample_options *options,
                                     struct moe_mrc_sample *out, struct moe_err *err)
{
    struct draw d = {0};
    const struct moe_tokens *tokens = &trace->tokens;
    uint64_t n = 0;
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        n = tokens->sequence[t] >= n ? tokens->sequence[t] + UINT64_C(1) : n;
    enum moe_status s = decide(&d, options, n, err);
    if (!s)
        s = take_trace(&d, trace, err);
    return draw_end(&d, s, out);
}

void moe_mrc_sample_release(struct moe_mrc_sample *sample)
{
    moe_trace_release(&sample->trace);
    free(sample->counted);
    *sample = (struct moe_mrc_sample){0};
}
