#include "exec/calibrate_state.h"

#include "base/numbers.h"
#include "exec/hybrid.h"
#include "exec/memory_limits.h"
#include "exec/synthetic.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Time to spend on the steps of one kind in a round; their number is kept within the limits below.
 */
#define ENOUGH_S 0.1

enum {
    LAYERS = 4,
    WARM = 3, /* first steps, which do not count: they fill slots and warm threads and caches */
    LEAST_STEPS = 5,
    MOST_STEPS = 48,
};

static const struct kind {
    bool cache;            /* with a slot for each expert that a step uses */
    bool one;              /* one expert a layer instead of the model's top-k */
    const char *set[4][2]; /* keys of the strategy and their values */
} kinds[MOE_N_CAL_STEPS] = {
    [MOE_CAL_CPU] = {false, false, {{"admission", "never"}}},
    [MOE_CAL_HIT] = {true, false, {{"admission", "always"}}},
    [MOE_CAL_COPY] = {false,
                      true,
                      {{"admission", "never"},
                       {"dispatch.miss", "wait"},
                       {"dispatch.overlap", "off"},
                       {"dispatch.order", "gate"}}},
};

/* Device memory of the whole steps: dense part, head, KV cache, slots, staging. */
static uint64_t steps_bytes(const struct moe_model *m, uint64_t layers)
{
    const uint64_t slots = layers * m->top_k + 2;
    return layers * moe_model_dense_layer_bytes(m) + moe_model_head_bytes(m) +
           slots * moe_model_expert_bytes(m) +
           16 * layers * m->n_kv_heads * m->head_dim * (MOST_STEPS + WARM) + (16u << 20);
}

/* A synthetic model of c->model's shape; its experts share as many buffers as fit into 2 GiB. */
static enum moe_status make_synthetic(struct moe_calibrator *c, uint64_t layers,
                                      struct moe_err *err)
{
    const uint64_t room = (uint64_t)2 << 30;
    const uint64_t fit = room / moe_model_expert_bytes(&c->model);
    const uint64_t all = layers * c->model.n_experts, least = layers * c->model.top_k;
    const uint64_t buffers = fit > all ? all : fit > least ? fit : least;
    const struct moe_synthetic_options options = {
        .layers = (uint32_t)layers, .buffers = (uint32_t)buffers, .seed = 1};
    enum moe_status s = moe_synthetic_new(&c->synthetic, &c->model, c->device, &options, err);
    if (!s)
        c->llm = moe_synthetic_llm(c->synthetic);
    return s;
}

/* Bytes of memory that whole steps may take. */
static uint64_t room_of(const struct moe_calibrator *c)
{
    struct moe_memory_limits limits;
    const char *which;
    moe_memory_limits_read(&limits);
    return c->o->alone ? moe_memory_pinnable(&limits, 0, &which) / 2
                       : c->device->ops->free_bytes(c->device) / 8 * 7;
}

/* As many layers of the shape as fit; 0: none. */
static uint64_t layers_that_fit(const struct moe_calibrator *c, const struct moe_model *shape)
{
    const uint64_t room = room_of(c);
    uint64_t layers = shape->n_layers;
    if (!c->o->llm && layers > LAYERS)
        layers = LAYERS;
    while (layers && steps_bytes(shape, layers) > room)
        layers = c->o->llm ? 0 : layers - 1;
    return layers;
}

static enum moe_status take_model(struct moe_calibrator *c, const struct moe_model *shape,
                                  uint64_t layers, struct moe_err *err)
{
    c->model = *shape;
    c->llm = c->o->llm;
    enum moe_status s = c->llm ? MOE_OK : make_synthetic(c, layers, err);
    if (s)
        return s;
    moe_llm_shape(c->llm, &c->model);
    snprintf(c->steps_of, sizeof c->steps_of, "%s%.60s, %" PRIu64 " layer%s",
             c->o->llm ? "" : "SYNTHETIC ", shape->name, layers, layers == 1 ? "" : "s");
    return MOE_OK;
}

enum moe_status moe_cal_steps_init(struct moe_calibrator *c, struct moe_err *err)
{
    const uint32_t n = c->o->llm ? 1 : c->o->n_shapes;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t layers = layers_that_fit(c, &c->o->shapes[i]);
        if (layers)
            return take_model(c, &c->o->shapes[i], layers, err);
    }
    snprintf(c->steps_of, sizeof c->steps_of, "%.60s does not fit into the %s memory",
             c->o->shapes[n - 1].name, c->o->alone ? "machine's" : "device's");
    return MOE_OK;
}

void moe_cal_steps_release(struct moe_calibrator *c)
{
    moe_synthetic_free(c->synthetic);
}

static enum moe_status make_strategy(const struct moe_calibrator *c, const struct kind *kind,
                                     uint32_t threads, struct moe_strategy *out,
                                     struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    moe_strategy_default(out);
    snprintf(out->name, sizeof out->name, "calibrate");
    snprintf(out->geometry, sizeof out->geometry, "none");
    if (kind->cache)
        snprintf(out->geometry, sizeof out->geometry, "%" PRIu64 "x%" PRIu64, c->model.n_layers,
                 kind->one ? 1 : c->model.top_k);
    for (size_t i = 0; i < 4 && kind->set[i][0] && !s; i++)
        s = moe_strategy_set(out, kind->set[i][0], kind->set[i][1], err);
    out->threads = threads;
    return s;
}

/* One sequence of decode steps. With a cache every step uses the same experts; otherwise they
 * change from step to step. */
static enum moe_status make_trace(const struct moe_calibrator *c, const struct kind *kind,
                                  uint64_t steps, struct moe_trace *out, struct moe_err *err)
{
    const struct moe_model *m = &c->model;
    const uint32_t k = kind->one ? 1 : (uint32_t)m->top_k;
    *out = (struct moe_trace){.info = {.n_layers = (uint32_t)m->n_layers,
                                       .n_experts = (uint32_t)m->n_experts,
                                       .top_k = k,
                                       .synthetic = true},
                              .n_sequences = 1};
    snprintf(out->info.model, sizeof out->info.model, "%s", m->name);
    enum moe_status s = moe_tokens_init(&out->tokens, &out->info, steps, 0, err);
    if (s)
        return s;
    out->sequences = calloc(1, sizeof *out->sequences);
    if (!out->sequences) {
        moe_tokens_release(&out->tokens);
        return moe_fail_memory(err, "a trace");
    }
    out->sequences[0].n_tokens = steps;
    for (uint64_t t = 0; t < steps; t++) {
        out->tokens.step[t] = (uint32_t)t;
        out->tokens.position[t] = (int32_t)t;
        out->tokens.phase[t] = MOE_DECODE;
        for (uint64_t i = 0; i < m->n_layers * k; i++)
            out->tokens.expert[t * m->n_layers * k + i] =
                (moe_expert)((i % k + (kind->cache ? 0 : t * k)) % m->n_experts);
    }
    return MOE_OK;
}

/* Times in a layer of a step, from the timeline; 0: no such operation. */
struct layer_marks {
    uint64_t attend_start, attend_end, cpu_start, cpu_end, copy_start, copy_end, kernel_start,
        combine_start;
};

/* The step being read, and samples of the steps that count. */
struct reading {
    struct layer_marks *layer; /* [L + 1]; the last is the head, with its start as attend_start */
    uint32_t n_layers;
    struct moe_cal_times *sample; /* [steps x L] */
    size_t n;
};

static void take_operation(struct reading *r, const struct moe_operation *op)
{
    struct layer_marks *m = &r->layer[op->layer >= 0 ? (uint32_t)op->layer : r->n_layers];
    if (op->track == MOE_TRACK_CPU) { /* a layer may have several: from the first to the last */
        m->cpu_start = m->cpu_start ? m->cpu_start : op->start_ns;
        m->cpu_end = op->end_ns;
    } else if (op->track == MOE_TRACK_H2D) {
        m->copy_start = op->start_ns;
        m->copy_end = op->end_ns;
    } else if (op->track != MOE_TRACK_GPU) {
        return;
    } else if (strcmp(op->name, "attend") == 0 || op->layer < 0) {
        m->attend_start = op->start_ns;
        m->attend_end = op->end_ns;
    } else if (strcmp(op->name, "combine") == 0) {
        m->combine_start = op->start_ns;
    } else if (!m->kernel_start) {
        m->kernel_start = op->start_ns;
    }
}

static double ns_between(uint64_t from, uint64_t to)
{
    return (double)to - (double)from;
}

static void end_step(struct reading *r, double step_ns, bool counts)
{
    const struct layer_marks *m = r->layer;
    const double all = ns_between(m->attend_start, m[r->n_layers].attend_start);
    for (uint32_t l = 0; l < r->n_layers && counts; l++, m++) {
        const uint64_t first = m->cpu_start    ? m->cpu_start
                               : m->copy_start ? m->copy_start
                                               : m->kernel_start;
        r->sample[r->n++] = (struct moe_cal_times){
            .layer = all / r->n_layers,
            .rest = step_ns - all,
            .first = ns_between(m->attend_end, first),
            .second = m->cpu_start    ? ns_between(m->cpu_end, m->combine_start)
                      : m->copy_start ? ns_between(m->copy_end, m->kernel_start)
                                      : 0,
            .span = m->kernel_start ? ns_between(m->kernel_start, m->combine_start) : 0,
            .cpu = ns_between(m->cpu_start, m->cpu_end)};
    }
    memset(r->layer, 0, (r->n_layers + 1) * sizeof *r->layer);
}

/* Median over the samples of the member at `offset`; v: room for all of them. */
static double median(const struct reading *r, size_t offset, double *v)
{
    for (size_t i = 0; i < r->n; i++)
        memcpy(&v[i], (const char *)&r->sample[i] + offset, sizeof *v);
    return moe_median(v, r->n);
}

/* In the timeline a step's operations come before its "token", in no order. */
static void read_timeline(const struct moe_timeline *timeline, struct reading *r, double *room,
                          struct moe_cal_times *out)
{
    uint32_t steps = 0;
    for (uint64_t i = 0; i < moe_timeline_count(timeline); i++) {
        const struct moe_operation *op = moe_timeline_at(timeline, i);
        if (op->track == MOE_TRACK_TOKEN)
            end_step(r, ns_between(op->start_ns, op->end_ns), steps++ >= WARM);
        else
            take_operation(r, op);
    }
    out->layer = median(r, offsetof(struct moe_cal_times, layer), room);
    out->rest = median(r, offsetof(struct moe_cal_times, rest), room);
    out->first = median(r, offsetof(struct moe_cal_times, first), room);
    out->second = median(r, offsetof(struct moe_cal_times, second), room);
    out->span = median(r, offsetof(struct moe_cal_times, span), room);
    out->cpu = median(r, offsetof(struct moe_cal_times, cpu), room);
}

static enum moe_status execute(struct moe_calibrator *c, const struct kind *kind, uint32_t threads,
                               const struct moe_trace *trace, struct moe_timeline *timeline,
                               struct moe_err *err)
{
    struct moe_strategy strategy;
    struct moe_result result;
    struct moe_allocation allocation;
    enum moe_status s = make_strategy(c, kind, threads, &strategy, err);
    if (s)
        return s;
    const struct moe_execute_input input = {
        .device = c->o->alone ? NULL : c->device,
        .llm = c->llm,
        .trace = trace,
        .options = {.strategy = &strategy,
                    .pool = {.threads = (uint32_t)strategy.threads,
                             .pin = c->o->pin,
                             .kernels = c->o->kernels},
                    .timeline = timeline}};
    return moe_execute(&input, &result, &allocation, err);
}

/* Runs `steps` steps of one kind, beside those that do not count, with a timeline. */
static enum moe_status watch_steps(struct moe_calibrator *c, const struct kind *kind,
                                   uint32_t threads, uint64_t steps, struct moe_timeline **out,
                                   struct moe_err *err)
{
    struct moe_trace trace = {0};
    enum moe_status s = make_trace(c, kind, steps + WARM, &trace, err);
    if (!s)
        s = moe_timeline_new(
            out, (steps + WARM) * (c->model.n_layers * (2 * c->model.top_k + 8) + 8), err);
    if (!s)
        s = execute(c, kind, threads, &trace, *out, err);
    moe_trace_release(&trace);
    return s;
}

/* Measures `steps` steps of one kind. */
static enum moe_status measure(struct moe_calibrator *c, const struct kind *kind, uint32_t threads,
                               uint64_t steps, struct moe_cal_times *out, struct moe_err *err)
{
    const uint64_t layers = c->model.n_layers, n = (steps + WARM) * layers;
    struct moe_timeline *timeline = NULL;
    double *room = calloc(n, sizeof *room);
    struct reading reading = {.layer = calloc(layers + 1, sizeof *reading.layer),
                              .n_layers = (uint32_t)layers,
                              .sample = calloc(n, sizeof *reading.sample)};
    enum moe_status s =
        room && reading.layer && reading.sample ? MOE_OK : moe_fail_memory(err, "whole steps");
    if (!s)
        s = watch_steps(c, kind, threads, steps, &timeline, err);
    if (!s)
        read_timeline(timeline, &reading, room, out);
    moe_timeline_free(timeline);
    free(reading.layer);
    free(reading.sample);
    free(room);
    return s;
}

/* An estimate of a layer's time with the slowest kind of steps, from this round's measurements of
 * the largest size. */
static double layer_seconds(const struct moe_calibrator *c, const struct moe_cal_round *r)
{
    const double share =
        (double)moe_model_expert_bytes(&c->model) / (double)moe_cal_largest(c)->bytes;
    const double cpu = r->ffn[c->n_threads - 1][c->n_sizes - 1];
    const double expert = fmax(cpu, fmax(r->gpu[1], r->copy[1]));
    return expert * share * (double)c->model.top_k;
}

/* Times of experts on the CPU by the number of threads. If caches can hold part of the model, how
 * much they hold depends on everything that a run does, and only whole steps show it. For other
 * models calibrate_cpu.c measures the same in less time. */
static enum moe_status cpu_steps(struct moe_calibrator *c, struct moe_cal_round *r, uint64_t steps,
                                 struct moe_err *err)
{
    const double per_expert = 1e-9 / (double)c->model.top_k;
    const uint64_t all = c->model.n_layers * c->model.n_experts * moe_model_expert_bytes(&c->model);
    const uint32_t last = c->n_threads - 1;
    struct moe_cal_times times;
    enum moe_status s = MOE_OK;
    r->ffn_in_steps[last] = r->step[MOE_CAL_CPU].cpu * per_expert;
    for (uint32_t t = 0; t < last && all <= c->memory.bytes && !s; t++) {
        s = measure(c, &kinds[MOE_CAL_CPU], c->threads[t], steps, &times, err);
        if (!s)
            r->ffn_in_steps[t] = times.cpu * per_expert;
    }
    return s;
}

/* Without a device all operations are the CPU's; those of a step come before its "token". */
static void read_alone(const struct moe_timeline *timeline, const struct moe_model *model,
                       struct moe_cal_alone *out)
{
    double experts = 0, head = 0, layer[MOST_STEPS], expert[MOST_STEPS], heads[MOST_STEPS];
    size_t n = 0, steps = 0;
    for (uint64_t i = 0; i < moe_timeline_count(timeline); i++) {
        const struct moe_operation *op = moe_timeline_at(timeline, i);
        const double seconds = ns_between(op->start_ns, op->end_ns) * 1e-9;
        if (op->track != MOE_TRACK_TOKEN) {
            experts += strcmp(op->name, "experts") == 0 ? seconds : 0;
            head += strcmp(op->name, "head") == 0 ? seconds : 0;
            continue;
        }
        if (steps++ >= WARM) {
            layer[n] = (seconds - experts - head) / (double)model->n_layers;
            expert[n] = experts / (double)(model->n_layers * model->top_k);
            heads[n++] = head;
        }
        experts = head = 0;
    }
    *out = (struct moe_cal_alone){.expert = moe_median(expert, n),
                                  .head = moe_median(heads, n),
                                  .layer = moe_median(layer, n)};
}

/* Whole steps without a device, for each number of threads. */
static enum moe_status alone_steps(struct moe_calibrator *c, struct moe_cal_round *r,
                                   uint64_t steps, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (uint32_t t = 0; t < c->n_threads && !s; t++) {
        struct moe_timeline *timeline = NULL;
        s = watch_steps(c, &kinds[MOE_CAL_CPU], c->threads[t], steps, &timeline, err);
        if (!s) {
            read_alone(timeline, &c->model, &r->alone[t]);
            r->ffn_in_steps[t] = r->alone[t].expert;
            s = moe_cal_tick(c, err);
        }
        moe_timeline_free(timeline);
    }
    return s;
}

enum moe_status moe_cal_steps_round(struct moe_calibrator *c, struct moe_cal_round *r,
                                    struct moe_err *err)
{
    if (!c->model.n_layers)
        return MOE_OK;
    const double wanted = ENOUGH_S / ((double)c->model.n_layers * layer_seconds(c, r));
    const uint64_t steps = wanted > MOST_STEPS    ? MOST_STEPS
                           : wanted < LEAST_STEPS ? LEAST_STEPS
                                                  : (uint64_t)wanted;
    const uint32_t last = c->n_threads - 1;
    enum moe_status s = MOE_OK;
    if (c->o->alone)
        return alone_steps(c, r, steps, err);
    for (int i = 0; i < MOE_N_CAL_STEPS && !s; i++) {
        s = measure(c, &kinds[i], c->threads[last], steps, &r->step[i], err);
        if (!s)
            s = moe_cal_tick(c, err);
    }
    return s ? s : cpu_steps(c, r, steps, err);
}
