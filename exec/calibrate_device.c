#include "exec/calibrate_state.h"

#include "base/numbers.h"

enum {
    SAMPLES = 99,
    IN_A_ROW = 4,    /* experts queued one behind another */
    MANY_LEAST = 64, /* tokens */
    MANY_MOST = 2048,
    COPIES_TOGETHER = 8 /* most copies that run beside the CPU's experts */
};

static const struct moe_device_ops *ops_of(const struct moe_calibrator *c)
{
    return c->device->ops;
}

/* The offset of the next copy or expert, going through the block. */
static uint64_t next_place(struct moe_calibrator *c, const struct moe_cal_size *size)
{
    const uint64_t from = moe_cal_part(c, size, c->block_bytes);
    const uint64_t room = size->walk < c->block_bytes ? size->walk : c->block_bytes;
    if (c->at < from || c->at + size->bytes > from + room)
        c->at = from;
    const uint64_t at = c->at;
    c->at += (size->bytes + 255) / 256 * 256;
    return at;
}

static void queue_copy(struct moe_calibrator *c, const struct moe_cal_size *size, bool pageable)
{
    const uint64_t at = next_place(c, size);
    const uint8_t *from = pageable ? moe_cal_next_expert(c, size) : c->pinned + at;
    ops_of(c)->copy(c->device, MOE_STREAM_EXPERTS, c->slots + at, from, size->bytes,
                    pageable ? MOE_MEMORY_PAGEABLE : MOE_MEMORY_PINNED);
}

static void queue_expert(struct moe_calibrator *c, const struct moe_cal_size *size,
                         uint32_t n_tokens)
{
    struct moe_ffn_job at;
    moe_bench_expert_at(&at, c->slots + next_place(c, size), size->dtype, size->d_model,
                        size->d_ffn);
    const struct moe_expert_weights weights = {.w1 = at.w1, .w3 = at.w3, .w2 = at.w2};
    c->a.n = n_tokens;
    const struct moe_expert_job job = {
        .weights = &weights, .row = 0, .n_tokens = n_tokens, .a = &c->a};
    ops_of(c)->expert(c->device, &job);
}

void moe_cal_device_copy(struct moe_calibrator *c)
{
    queue_copy(c, moe_cal_largest(c), false);
}

void moe_cal_device_expert(struct moe_calibrator *c)
{
    queue_expert(c, moe_cal_largest(c), 1);
}

/* Waits for c->end; *seconds: the time from c->start to it. */
static enum moe_status between(struct moe_calibrator *c, double *seconds, struct moe_err *err)
{
    const struct moe_device_ops *ops = ops_of(c);
    enum moe_status s = ops->sync(c->device, c->end, err);
    if (s)
        return s;
    const uint64_t a = ops->event_ns(c->device, c->start), b = ops->event_ns(c->device, c->end);
    *seconds = (double)(b > a ? b - a : 1) * 1e-9;
    return MOE_OK;
}

enum moe_status moe_cal_device_touch(struct moe_calibrator *c, struct moe_err *err)
{
    queue_expert(c, &c->size[0], 1);
    ops_of(c)->record(c->device, MOE_STREAM_COMPUTE, c->end);
    return ops_of(c)->sync(c->device, c->end, err);
}

static enum moe_status time_copy(struct moe_calibrator *c, const struct moe_cal_size *size,
                                 bool pageable, double *seconds, struct moe_err *err)
{
    ops_of(c)->record(c->device, MOE_STREAM_EXPERTS, c->start);
    queue_copy(c, size, pageable);
    ops_of(c)->record(c->device, MOE_STREAM_EXPERTS, c->end);
    return between(c, seconds, err);
}

/* *seconds: the time of one expert. One more is queued before, to wake the stream, and not
 * measured. */
static enum moe_status time_experts(struct moe_calibrator *c, const struct moe_cal_size *size,
                                    uint32_t n_tokens, uint32_t in_a_row, double *seconds,
                                    struct moe_err *err)
{
    queue_expert(c, size, n_tokens);
    ops_of(c)->record(c->device, MOE_STREAM_COMPUTE, c->start);
    for (uint32_t i = 0; i < in_a_row; i++)
        queue_expert(c, size, n_tokens);
    ops_of(c)->record(c->device, MOE_STREAM_COMPUTE, c->end);
    enum moe_status s = between(c, seconds, err);
    if (!s)
        *seconds /= in_a_row;
    return s;
}

static bool copying(struct moe_calibrator *c, void *context)
{
    (void)context;
    return !ops_of(c)->done(c->device, c->end);
}

/* The sum of the rates of copies and of the CPU's experts that run at the same time; as many copies
 * as take about as long as the CPU. */
static enum moe_status time_together(struct moe_calibrator *c, const struct moe_cal_round *r,
                                     double *bytes_per_s, struct moe_err *err)
{
    const struct moe_cal_size *size = moe_cal_largest(c);
    const double cpu = r->ffn[c->n_threads - 1][c->n_sizes - 1] * size->n;
    const double wanted = 2 * cpu / r->copy[1] + 1;
    const uint32_t n = wanted < COPIES_TOGETHER ? (uint32_t)wanted : COPIES_TOGETHER;
    double copy_s, cpu_s;
    uint64_t experts;
    ops_of(c)->record(c->device, MOE_STREAM_EXPERTS, c->start);
    for (uint32_t i = 0; i < n; i++)
        moe_cal_device_copy(c);
    ops_of(c)->record(c->device, MOE_STREAM_EXPERTS, c->end);
    enum moe_status s = moe_cal_cpu_while(c, copying, NULL, &cpu_s, &experts, err);
    if (!s)
        s = between(c, &copy_s, err);
    if (!s)
        *bytes_per_s = (double)size->bytes * ((double)n / copy_s + (double)experts / cpu_s);
    return s;
}

/* One measurement of a kind. */
struct shot {
    const struct moe_cal_size *size;
    enum { COPY, COPY_PAGEABLE, EXPERTS, MANY } kind;
    uint32_t n_tokens; /* MANY: of one expert */
};

static enum moe_status shoot(struct moe_calibrator *c, const struct shot *shot, double *seconds,
                             struct moe_err *err)
{
    if (shot->kind == MANY)
        return time_experts(c, shot->size, shot->n_tokens, 1, seconds, err);
    if (shot->kind == EXPERTS)
        return time_experts(c, shot->size, 1, IN_A_ROW, seconds, err);
    return time_copy(c, shot->size, shot->kind == COPY_PAGEABLE, seconds, err);
}

/* Median over as many shots as fit into some milliseconds. */
static enum moe_status median_of(struct moe_calibrator *c, const struct shot *shot, double *out,
                                 struct moe_err *err)
{
    const double enough = 10e-3;
    double sample[SAMPLES], sum = 0;
    uint32_t n = 0;
    enum moe_status s = MOE_OK;
    while (!s && n < SAMPLES && (n == 0 || sum < enough)) {
        s = moe_cal_go_on(c, err);
        if (!s)
            s = shoot(c, shot, &sample[n], err);
        if (!s)
            sum += sample[n++];
    }
    if (s)
        return s;
    *out = moe_median(sample, n);
    return MOE_OK;
}

enum moe_status moe_cal_device_round(struct moe_calibrator *c, struct moe_cal_round *r,
                                     struct moe_err *err)
{
    const struct moe_cal_size *ends[] = {&c->size[0], moe_cal_largest(c)};
    enum moe_status s = MOE_OK;
    for (int i = 0; i < 2 && !s; i++) {
        s = median_of(c, &(struct shot){ends[i], COPY, 0}, &r->copy[i], err);
        if (!s)
            s = median_of(c, &(struct shot){ends[i], EXPERTS, 0}, &r->gpu[i], err);
        if (!s)
            s = moe_cal_tick(c, err);
    }
    if (!s)
        s = median_of(c, &(struct shot){ends[1], COPY_PAGEABLE, 0}, &r->pageable, err);
    if (!s)
        s = median_of(c, &(struct shot){ends[1], MANY, c->many}, &r->gpu_many, err);
    if (!s && c->dense.bytes)
        s = median_of(c, &(struct shot){&c->dense, EXPERTS, 0}, &r->gpu_dense, err);
    if (!s)
        s = moe_cal_tick(c, err);
    if (!s)
        s = time_together(c, r, &r->together, err);
    return s ? s : moe_cal_tick(c, err);
}

/* Chooses c->many: so many tokens that the time is that of the products, not of reading the
 * weights. Then it is doubled up to twice more, if that does not take long, to lessen the share of
 * fixed costs. */
static enum moe_status choose_many(struct moe_calibrator *c, struct moe_err *err)
{
    const double long_s = 0.1;
    double before, now = 0;
    int more = 2;
    struct shot shot = {moe_cal_largest(c), MANY, MANY_LEAST};
    c->many = MANY_LEAST;
    enum moe_status s = median_of(c, &shot, &before, err); /* the first warms up */
    if (!s)
        s = median_of(c, &shot, &before, err);
    while (!s && 2 * c->many <= c->many_most) {
        shot.n_tokens = 2 * c->many;
        s = median_of(c, &shot, &now, err);
        if (s || (now > 1.8 * before && (more-- == 0 || now > long_s)))
            break;
        c->many *= 2;
        before = now;
    }
    return s;
}

/* Allocates activations for as many tokens as fit into an eighth of the device's memory; x holds
 * small numbers. */
static enum moe_status make_activations(struct moe_calibrator *c, struct moe_err *err)
{
    uint64_t d = 1, f = 1;
    for (uint32_t i = 0; i < c->n_sizes; i++) {
        d = c->size[i].d_model > d ? c->size[i].d_model : d;
        f = c->size[i].d_ffn > f ? c->size[i].d_ffn : f;
    }
    const uint64_t width[] = {d, f, d}, fit = c->device->memory_bytes / 8 / (4 * (2 * d + f));
    float **const arrays[] = {&c->a.ffn_x, &c->a.ffn_h, &c->a.ffn_y};
    enum moe_status s = MOE_OK;
    c->many_most = fit > MANY_MOST ? MANY_MOST : fit > MANY_LEAST ? (uint32_t)fit : MANY_LEAST;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && !s; i++) {
        void *memory;
        s = ops_of(c)->alloc(c->device, MOE_MEMORY_DEVICE, c->many_most * width[i] * sizeof(float),
                             &memory, err);
        if (!s)
            *arrays[i] = memory;
    }
    for (uint32_t t = 0; t < c->many_most && !s; t++)
        ops_of(c)->copy(c->device, MOE_STREAM_UP, c->a.ffn_x + t * d, c->x, d * sizeof(float),
                        MOE_MEMORY_PAGEABLE);
    return s;
}

/* Copies weights into the slots, so that nothing is computed on undefined memory. */
static enum moe_status fill_slots(struct moe_calibrator *c, struct moe_err *err)
{
    enum moe_status s = moe_bench_memory_fill(c->pinned, c->block_bytes, err);
    if (s)
        return s;
    ops_of(c)->copy(c->device, MOE_STREAM_UP, c->slots, c->pinned, c->block_bytes,
                    MOE_MEMORY_PINNED);
    ops_of(c)->record(c->device, MOE_STREAM_UP, c->end);
    return ops_of(c)->sync(c->device, c->end, err);
}

enum moe_status moe_cal_device_init(struct moe_calibrator *c, struct moe_err *err)
{
    void *pinned, *slots;
    enum moe_status s = ops_of(c)->event_new(c->device, &c->start, err);
    if (!s)
        s = ops_of(c)->event_new(c->device, &c->end, err);
    if (!s)
        s = ops_of(c)->alloc(c->device, MOE_MEMORY_PINNED, c->block_bytes, &pinned, err);
    if (!s) {
        c->pinned = pinned;
        s = ops_of(c)->alloc(c->device, MOE_MEMORY_DEVICE, c->block_bytes, &slots, err);
    }
    if (!s) {
        c->slots = slots;
        s = make_activations(c, err);
    }
    if (!s)
        s = fill_slots(c, err);
    return s ? s : choose_many(c, err);
}

void moe_cal_device_release(struct moe_calibrator *c)
{
    struct moe_event *const events[] = {c->start, c->end};
    for (int i = 0; i < MOE_N_STREAMS && c->end; i++) { /* after an error work may still run */
        ops_of(c)->record(c->device, (enum moe_stream)i, c->end);
        (void)ops_of(c)->sync(c->device, c->end, NULL);
    }
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i])
            ops_of(c)->event_free(c->device, events[i]);
    void *const memory[] = {c->a.ffn_x, c->a.ffn_h, c->a.ffn_y, c->slots};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        ops_of(c)->release(c->device, MOE_MEMORY_DEVICE, memory[i]);
    ops_of(c)->release(c->device, MOE_MEMORY_PINNED, c->pinned);
}
