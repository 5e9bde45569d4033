#include "exec/bench_device.h"

#include "base/numbers.h"
#include "base/progress.h"
#include "exec/bench_memory.h"
#include "exec/bench_rig.h"

#include <string.h>

enum { CASES_MAX = 40, IN_A_ROW = 4, LAUNCHES = 64, LEAST_AIMED = 64 << 20 };

enum kind {
    H2D,
    H2D_IN_A_ROW,
    H2D_PAGEABLE,
    D2H,
    D2D,
    EXPERT,
    EXPERT_Q8,
    EXPERT_Q4,
    ATTEND,
    HEAD,
    LAUNCH,
    QUEUE,
    ROUND_TRIP,
    ROUTES,
};

static const char *const names[] = {
    [H2D] = "h2d pinned",
    [H2D_IN_A_ROW] = "h2d pinned, 4 in a row",
    [H2D_PAGEABLE] = "h2d pageable",
    [D2H] = "d2h pinned",
    [D2D] = "d2d",
    [EXPERT] = "expert",
    [EXPERT_Q8] = "expert as q8",
    [EXPERT_Q4] = "expert as q4",
    [ATTEND] = "attend",
    [HEAD] = "head",
    [LAUNCH] = "launch (of 64 combines in a row)",
    [QUEUE] = "queue (host's time for one combine)",
    [ROUND_TRIP] = "event record and sync",
    [ROUTES] = "attend until routes_wait",
};

struct bench_case {
    enum kind kind;
    uint32_t tokens;
    uint64_t bytes;
    double seconds[MOE_BENCH_ROUNDS_MAX];
};

struct work {
    const struct moe_device_bench *bench;
    struct moe_bench_rig rig;
    struct bench_case cases[CASES_MAX];
    uint32_t n_cases;
};

static void add(struct work *w, enum kind kind, uint32_t tokens, uint64_t bytes)
{
    w->cases[w->n_cases++] = (struct bench_case){.kind = kind, .tokens = tokens, .bytes = bytes};
}

static void add_experts(struct work *w, enum kind kind, uint64_t bytes)
{
    static const uint32_t tokens[] = {1, 2, 8, 64, 256};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        if (tokens[i] <= w->bench->max_tokens)
            add(w, kind, tokens[i], bytes);
}

static void list_cases(struct work *w)
{
    static const uint64_t sizes[] = {64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20};
    const struct moe_bench_rig *r = &w->rig;
    const uint64_t expert = r->layout.bytes;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < expert)
            add(w, H2D, 0, sizes[i]);
    add(w, H2D, 0, expert);
    add(w, H2D_IN_A_ROW, 0, expert);
    add(w, H2D_PAGEABLE, 0, expert);
    add(w, D2H, 0, (uint64_t)r->llm->config.d_model * sizeof(float)); /* a token's activations */
    add(w, D2H, 0, expert);
    add(w, D2D, 0, moe_bench_rig_half(r));
    add_experts(w, EXPERT, expert);
    if (moe_bench_rig_retypes(r)) {
        add_experts(w, EXPERT_Q8, moe_bench_rig_expert_bytes(r, MOE_Q8));
        add_experts(w, EXPERT_Q4, moe_bench_rig_expert_bytes(r, MOE_Q4));
    }
    add(w, ATTEND, 1, moe_bench_rig_attend_bytes(r));
    add(w, HEAD, 1, moe_matrix_bytes(&r->resident->head));
    add(w, LAUNCH, 1, 0);
    add(w, QUEUE, 1, 0);
    add(w, ROUND_TRIP, 0, 0);
    add(w, ROUTES, 1, 0);
}

static enum moe_stream stream_of(enum kind kind)
{
    switch (kind) {
    case H2D:
    case H2D_IN_A_ROW:
    case H2D_PAGEABLE:
        return MOE_STREAM_EXPERTS;
    case D2H:
        return MOE_STREAM_DOWN;
    default:
        return MOE_STREAM_COMPUTE;
    }
}

static uint32_t times_of(enum kind kind)
{
    switch (kind) {
    case H2D_IN_A_ROW:
    case D2D:
    case EXPERT:
    case EXPERT_Q8:
    case EXPERT_Q4:
    case ATTEND:
    case HEAD:
        return IN_A_ROW;
    case LAUNCH:
    case QUEUE:
    case ROUND_TRIP:
        return LAUNCHES;
    default:
        return 1;
    }
}

static void queue(struct moe_bench_rig *r, const struct bench_case *c)
{
    switch (c->kind) {
    case H2D:
    case H2D_IN_A_ROW:
        moe_bench_rig_up(r, c->bytes, MOE_MEMORY_PINNED);
        break;
    case H2D_PAGEABLE:
        moe_bench_rig_up(r, c->bytes, MOE_MEMORY_PAGEABLE);
        break;
    case D2H:
        moe_bench_rig_down(r, c->bytes);
        break;
    case D2D:
        moe_bench_rig_within(r);
        break;
    case EXPERT:
        moe_bench_rig_expert(r, r->layout.w1.dtype, c->tokens);
        break;
    case EXPERT_Q8:
        moe_bench_rig_expert(r, MOE_Q8, c->tokens);
        break;
    case EXPERT_Q4:
        moe_bench_rig_expert(r, MOE_Q4, c->tokens);
        break;
    case ATTEND:
    case ROUTES:
        moe_bench_rig_attend(r);
        break;
    case HEAD:
        moe_bench_rig_head(r);
        break;
    case LAUNCH:
    case QUEUE:
        moe_bench_rig_combine(r);
        break;
    case ROUND_TRIP:
        break;
    }
}

/* Time on the device, between two events. If a case has several operations, one more is queued
 * before: it wakes the stream and hides the time that the host takes to queue the others. */
static enum moe_status on_device(struct moe_bench_rig *r, const struct bench_case *c,
                                 double *seconds, struct moe_err *err)
{
    const struct moe_device_ops *ops = r->device->ops;
    const enum moe_stream stream = stream_of(c->kind);
    const uint32_t n = times_of(c->kind);
    if (n > 1)
        queue(r, c);
    ops->record(r->device, stream, r->start);
    for (uint32_t i = 0; i < n; i++)
        queue(r, c);
    ops->record(r->device, stream, r->end);
    enum moe_status s = ops->sync(r->device, r->end, err);
    if (s)
        return s;
    const uint64_t from = ops->event_ns(r->device, r->start), to = ops->event_ns(r->device, r->end);
    *seconds = (double)(to > from ? to - from : 1) * 1e-9 / n;
    return MOE_OK;
}

/* Time on the host, for queueing or waiting. */
static enum moe_status on_host(struct moe_bench_rig *r, const struct bench_case *c, double *seconds,
                               struct moe_err *err)
{
    const struct moe_device_ops *ops = r->device->ops;
    const uint32_t n = times_of(c->kind);
    enum moe_status s = MOE_OK;
    const uint64_t start = moe_clock_ns();
    for (uint32_t i = 0; i < n && !s; i++) {
        queue(r, c);
        if (c->kind == ROUTES)
            s = ops->routes_wait(r->device, &r->box, err);
        if (c->kind == ROUND_TRIP) {
            ops->record(r->device, MOE_STREAM_COMPUTE, r->end);
            s = ops->sync(r->device, r->end, err);
        }
    }
    *seconds = moe_bench_seconds_since(start) / n;
    return s;
}

static enum moe_status shoot(struct moe_bench_rig *r, const struct bench_case *c, double *seconds,
                             struct moe_err *err)
{
    enum moe_status s = moe_bench_rig_calm(r, err);
    if (s)
        return s;
    if (c->kind == QUEUE || c->kind == ROUND_TRIP || c->kind == ROUTES)
        return on_host(r, c, seconds, err);
    return on_device(r, c, seconds, err);
}

static enum moe_status measure(struct work *w, struct moe_err *err)
{
    for (uint32_t i = 0; i <= w->bench->rounds; i++) {
        for (uint32_t k = 0; k < w->n_cases; k++) {
            struct bench_case *c = &w->cases[k];
            double seconds;
            enum moe_status s = shoot(&w->rig, c, &seconds, err);
            if (s)
                return s;
            if (i > 0)
                c->seconds[i - 1] = seconds;
            if (moe_interrupted())
                return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
        }
    }
    return MOE_OK;
}

static double median_of(const double *value, uint32_t n, double *spread)
{
    double sorted[MOE_BENCH_ROUNDS_MAX];
    memcpy(sorted, value, n * sizeof *sorted);
    const double median = moe_median(sorted, n);
    *spread = (sorted[n - 1] - sorted[0]) / median;
    return median;
}

/* Bytes that a case moves. */
static double moved(const struct bench_case *c)
{
    return (c->kind == D2D ? 2.0 : 1.0) * (double)c->bytes;
}

static double best_pinned(const struct work *w)
{
    double best = 0, spread;
    for (uint32_t i = 0; i < w->n_cases; i++) {
        const struct bench_case *c = &w->cases[i];
        if (c->kind != H2D && c->kind != H2D_IN_A_ROW)
            continue;
        const double rate = moved(c) / median_of(c->seconds, w->bench->rounds, &spread);
        best = rate > best ? rate : best;
    }
    return best;
}

/* The case's rate over that of copies within the device in the same round; median. */
static double share_of_copy(const struct work *w, const struct bench_case *c)
{
    double share[MOE_BENCH_ROUNDS_MAX], spread;
    const struct bench_case *copy = w->cases;
    while (copy->kind != D2D)
        copy++;
    for (uint32_t i = 0; i < w->bench->rounds; i++)
        share[i] = moved(c) / c->seconds[i] / (moved(copy) / copy->seconds[i]);
    return median_of(share, w->bench->rounds, &spread);
}

static bool is_expert(const struct bench_case *c)
{
    return c->kind == EXPERT || c->kind == EXPERT_Q8 || c->kind == EXPERT_Q4;
}

static struct moe_device_bench_row row_of(const struct work *w, const struct bench_case *c)
{
    static const double aim_of_copy = 0.95, aim_of_expert = 0.85;
    const bool large = c->bytes >= LEAST_AIMED; /* smaller ones are dominated by fixed costs */
    struct moe_device_bench_row row = {.what = names[c->kind],
                                       .tokens = c->tokens,
                                       .bytes = c->bytes,
                                       .gb_per_s = NAN,
                                       .gflop_per_s = NAN,
                                       .share = NAN,
                                       .aim = NAN};
    const double seconds = median_of(c->seconds, w->bench->rounds, &row.spread);
    row.us = seconds * 1e6;
    if (c->bytes)
        row.gb_per_s = moved(c) / seconds * 1e-9;
    if (is_expert(c) && c->tokens > 1) /* a multiplication and an addition a weight and token */
        row.gflop_per_s = 2e-9 * moe_bench_rig_expert_weights(&w->rig) * c->tokens / seconds;
    if (c->kind == H2D || c->kind == H2D_IN_A_ROW)
        row.share = moved(c) / seconds / best_pinned(w);
    if (c->tokens == 1 && c->bytes)
        row.share = share_of_copy(w, c);
    if (large && c->kind == H2D && c->bytes == w->rig.layout.bytes)
        row.aim = aim_of_copy;
    if (large && is_expert(c) && c->tokens == 1)
        row.aim = aim_of_expert;
    return row;
}

enum moe_status moe_bench_device(const struct moe_device_bench *bench,
                                 void (*row)(void *context, const struct moe_device_bench_row *row),
                                 void *context, struct moe_err *err)
{
    struct work w = {.bench = bench};
    enum moe_status s = moe_bench_rig_init(&w.rig, bench, err);
    if (!s) {
        list_cases(&w);
        s = measure(&w, err);
    }
    for (uint32_t i = 0; i < w.n_cases && !s; i++) {
        const struct moe_device_bench_row one = row_of(&w, &w.cases[i]);
        row(context, &one);
    }
    moe_bench_rig_release(&w.rig);
    return s;
}
