#include "sim/tune_split.h"

#include "base/rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tokens [first, end) of one sequence. */
struct range {
    uint64_t first, end, start; /* start: the sequence's first token */
    uint64_t n_steps;           /* forward passes of decode */
    uint64_t draw;
};

struct ranges {
    uint64_t n;
    struct range *range; /* those with decode tokens, in the trace's order */
};

static enum moe_status find_ranges(const struct moe_trace *trace, struct ranges *out,
                                   struct moe_err *err)
{
    const struct moe_tokens *tokens = &trace->tokens;
    uint64_t n = 0;
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        n += t == 0 || tokens->sequence[t] != tokens->sequence[t - 1];
    struct range *range = calloc(2 * n + 1, sizeof *range); /* each may be cut */
    if (!range)
        return moe_fail_memory(err, "the parts of a trace");
    n = 0;
    for (uint64_t t = 0, end; t < tokens->n_tokens; t = end) {
        struct range r = {.first = t, .start = t};
        for (end = t; end < tokens->n_tokens && tokens->sequence[end] == tokens->sequence[t];) {
            r.n_steps += tokens->phase[end] == MOE_DECODE;
            end = moe_step_end(tokens, end);
        }
        r.end = end;
        if (r.n_steps)
            range[n++] = r;
    }
    *out = (struct ranges){n, range};
    return MOE_OK;
}

static int by_draw(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->draw != y->draw)
        return x->draw < y->draw ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static int by_place(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Cuts sequences after half of their decode steps; those of one step train. */
static struct ranges cut_in_time(const struct moe_tokens *tokens, struct ranges *whole)
{
    struct ranges rest = {0, whole->range + whole->n};
    for (struct range *r = whole->range; r < whole->range + whole->n; r++) {
        uint64_t t = r->first, done = 0;
        if (r->n_steps < 2)
            continue;
        while (done < r->n_steps / 2) {
            done += tokens->phase[t] == MOE_DECODE;
            t = moe_step_end(tokens, t);
        }
        rest.range[rest.n] = *r;
        rest.range[rest.n++].first = r->end = t;
    }
    return rest;
}

static uint64_t steps_of(const struct ranges *all, uint64_t n)
{
    uint64_t steps = 0;
    for (uint64_t i = 0; i < n; i++)
        steps += all->range[i].n_steps;
    return steps;
}

static bool is_fair(uint64_t part, uint64_t steps)
{
    return part >= steps / 4 && steps - part >= steps / 4;
}

/* How many ranges, from the first on but not all, come nearest to half of the steps. */
static uint64_t nearest_to_half(const struct ranges *all)
{
    const uint64_t steps = steps_of(all, all->n);
    uint64_t best = 1, least = UINT64_MAX, done = 0;
    for (uint64_t i = 0; i + 1 < all->n; i++) {
        done += all->range[i].n_steps;
        const uint64_t off = 2 * done > steps ? 2 * done - steps : steps - 2 * done;
        best = off < least ? i + 1 : best;
        least = off < least ? off : least;
    }
    return best;
}

/* Orders the ranges so that the first part trains, and says how many; 0: no part is fair. */
static uint64_t draw_half(struct ranges *all, uint64_t seed)
{
    for (uint64_t i = 0; i < all->n; i++)
        all->range[i].draw = moe_mix64(moe_mix64(seed) ^ i);
    qsort(all->range, all->n, sizeof *all->range, by_draw);
    const uint64_t steps = steps_of(all, all->n);
    uint64_t n_train = all->n / 2;
    if (!is_fair(steps_of(all, n_train), steps))
        n_train = nearest_to_half(all);
    return all->n > 1 && is_fair(steps_of(all, n_train), steps) ? n_train : 0;
}

/* Those behind the first n_train. */
static struct ranges take_rest(struct ranges *all, uint64_t n_train)
{
    struct ranges rest = {all->n - n_train, all->range + n_train};
    qsort(rest.range, rest.n, sizeof *rest.range, by_place);
    all->n = n_train;
    return rest;
}

static void copy_tokens(const struct moe_trace *from, const struct range *r, struct moe_trace *to,
                        uint64_t at, uint32_t sequence)
{
    const struct moe_tokens *x = &from->tokens;
    struct moe_tokens *y = &to->tokens;
    const uint64_t n = r->end - r->first;
    moe_tokens_copy(y, at, x, r->first, n, &from->info);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t t = r->first + i;
        bool cut = r->first > r->start; /* the context before the cut still counts */
        y->sequence[at + i] = sequence;
        y->step[at + i] = x->step[t] - x->step[r->first];
        y->position[at + i] = x->position[t] < 0 && cut ? (int32_t)(t - r->start) : x->position[t];
    }
}

static enum moe_status copy_sequence(const struct moe_trace *from, const struct range *r,
                                     struct moe_sequence *to, struct moe_err *err)
{
    const uint32_t i = from->tokens.sequence[r->first];
    const struct moe_sequence *known =
        from->sequences && i < from->n_sequences ? &from->sequences[i] : NULL;
    *to = (struct moe_sequence){.n_tokens = r->end - r->first,
                                .text_hash = known ? known->text_hash : 0,
                                .label = strdup(known ? known->label : ""),
                                .category = strdup(known ? known->category : "")};
    return to->label && to->category ? MOE_OK : moe_fail_memory(err, "a sequence");
}

static enum moe_status copy_part(const struct moe_trace *from, const struct ranges *ranges,
                                 const char *what, struct moe_trace *out, struct moe_err *err)
{
    uint64_t n = 0, at = 0;
    unsigned parts = moe_tokens_parts(&from->tokens) & ~(unsigned)MOE_HAS_LOG;
    for (uint64_t i = 0; i < ranges->n; i++)
        n += ranges->range[i].end - ranges->range[i].first;
    enum moe_status s = moe_trace_info_copy(&out->info, &from->info, err);
    if (!s)
        s = moe_tokens_init(&out->tokens, &out->info, n, parts, err);
    if (s)
        return s;
    free(out->info.header); /* tells of the whole trace */
    out->info.header = NULL;
    snprintf(out->info.note, sizeof out->info.note, "%s part of a trace%s%.200s", what,
             *from->info.note ? "; " : "", from->info.note);
    out->sequences = calloc(ranges->n + 1, sizeof *out->sequences);
    if (!out->sequences)
        return moe_fail_memory(err, "the parts of a trace");
    for (uint64_t i = 0; !s && i < ranges->n; i++) {
        const struct range *r = &ranges->range[i];
        out->n_sequences = i + 1;
        s = copy_sequence(from, r, &out->sequences[i], err);
        copy_tokens(from, r, out, at, (uint32_t)i);
        at += r->end - r->first;
    }
    return s;
}

enum moe_status moe_tune_split(const struct moe_trace *trace, uint64_t seed,
                               struct moe_tune_split *out, struct moe_err *err)
{
    struct moe_tune_split split = {0};
    struct ranges train = {0};
    enum moe_status s = find_ranges(trace, &train, err);
    if (s)
        return s;
    const uint64_t steps = steps_of(&train, train.n);
    if (steps < 2) {
        free(train.range);
        return moe_fail(err, MOE_ERR_USAGE,
                        "the trace has %" PRIu64 " decode pass%s, tuning needs at least 2: one to "
                        "search on, one to judge by",
                        steps, steps == 1 ? "" : "es");
    }
    const uint64_t n_train = draw_half(&train, seed);
    split.in_time = n_train == 0;
    struct ranges held =
        split.in_time ? cut_in_time(&trace->tokens, &train) : take_rest(&train, n_train);
    s = copy_part(trace, &train, "training", &split.train, err);
    if (!s)
        s = copy_part(trace, &held, "held-out", &split.held_out, err);
    free(train.range);
    if (s)
        moe_tune_split_release(&split);
    else
        *out = split;
    return s;
}

void moe_tune_split_release(struct moe_tune_split *split)
{
    moe_trace_release(&split->train);
    moe_trace_release(&split->held_out);
    *split = (struct moe_tune_split){0};
}

uint64_t moe_tune_decode_tokens(const struct moe_trace *trace)
{
    uint64_t n = 0;
    for (uint64_t t = 0; t < trace->tokens.n_tokens; t++)
        n += trace->tokens.phase[t] == MOE_DECODE;
    return n;
}

uint64_t moe_tune_prefix(const struct moe_trace *trace, uint64_t tokens)
{
    const struct moe_tokens *x = &trace->tokens;
    uint64_t n = 0;
    for (uint64_t t = 0; t < x->n_tokens; t++) {
        if (n >= tokens && t > 0 && x->sequence[t] != x->sequence[t - 1])
            break;
        n += x->phase[t] == MOE_DECODE;
    }
    return tokens && n / 2 > tokens ? tokens : n;
}
