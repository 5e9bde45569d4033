#include "exec/calibrate.h"

#include "base/units.h"
#include "exec/calibrate_state.h"
#include "exec/cpu.h"
#include "exec/memory_limits.h"
#include "exec/synthetic.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_EXPERTS = 3,   /* experts of the largest size in each block of memory that is used */
    SHARE = 4,           /* a block takes at most one part in so many of the memory there is */
    READ_MOST = 1 << 30, /* bytes read for the read rate */
    READ_LEAST = 1 << 26,
};

enum moe_status moe_cal_go_on(const struct moe_calibrator *c, struct moe_err *err)
{
    if (moe_interrupted())
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted after %" PRIu64 " measurement%s",
                        c->done, moe_plural(c->done));
    return MOE_OK;
}

enum moe_status moe_cal_tick(struct moe_calibrator *c, struct moe_err *err)
{
    enum moe_status s = moe_cal_go_on(c, err);
    if (s)
        return s;
    c->done++;
    if (c->o->progress)
        moe_progress_update(c->o->progress, c->done);
    return MOE_OK;
}

/* Measurements of a round, as moe_cal_*_round count them. */
static uint64_t ticks(const struct moe_calibrator *c)
{
    const uint64_t cpu = (uint64_t)c->n_threads * c->n_sizes + 1, device = 4;
    if (c->o->alone)
        return cpu + (c->model.n_layers ? c->n_threads : 0);
    return cpu + device + (c->model.n_layers ? MOE_N_CAL_STEPS : 0);
}

static void choose_threads(struct moe_calibrator *c)
{
    uint16_t order[MOE_CPUS_MAX];
    uint32_t cores, nodes;
    moe_cpu_order(order, &cores, &nodes);
    const uint32_t most = c->o->threads ? c->o->threads : cores;
    for (uint32_t t = 1; t < most && c->n_threads < MOE_CAL_THREADS - 1; t *= 2)
        c->threads[c->n_threads++] = t;
    c->threads[c->n_threads++] = most;
}

static int compare_sizes(const void *a, const void *b)
{
    const struct moe_cal_size *x = a, *y = b;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static bool has_size(const struct moe_calibrator *c, uint64_t bytes)
{
    for (uint32_t i = 0; i < c->n_sizes; i++)
        if (c->size[i].bytes == bytes)
            return true;
    return false;
}

static struct moe_cal_size size_of(const struct moe_model *m, enum moe_dtype dtype,
                                   uint64_t d_model, uint64_t d_ffn)
{
    return (struct moe_cal_size){
        .dtype = dtype,
        .d_model = (uint32_t)d_model,
        .d_ffn = (uint32_t)d_ffn,
        .n = (uint32_t)m->top_k,
        .bytes = moe_bench_expert_bytes(dtype, (uint32_t)d_model, (uint32_t)d_ffn),
        .walk = m->n_layers * m->n_experts * moe_model_expert_bytes(m)};
}

static void add_size(struct moe_calibrator *c, struct moe_cal_size size)
{
    if (!has_size(c, size.bytes))
        c->size[c->n_sizes++] = size;
}

/* d_ffn of a much smaller expert, to separate fixed costs of microseconds from the time for bytes.
 */
static uint64_t small_ffn(uint64_t d_ffn)
{
    const uint64_t grain = 32, share = 256;
    if (d_ffn < 2 * grain)
        return (d_ffn + 1) / 2;
    return d_ffn / share < grain ? grain : d_ffn / share / grain * grain;
}

/* A second size for a model with only one: much smaller, or larger where the type's blocks allow no
 * smaller one. */
static struct moe_cal_size second_size(const struct moe_model *m, enum moe_dtype dtype)
{
    const uint64_t block = moe_dtype_info(dtype)->block;
    if (m->d_ffn > block || moe_dtype_plain(dtype))
        return size_of(m, dtype, m->d_model, small_ffn(m->d_ffn));
    return m->d_model > block ? size_of(m, dtype, block, m->d_ffn)
                              : size_of(m, dtype, m->d_model, 2 * block);
}

static void choose_dense(struct moe_calibrator *c, const struct moe_model *m)
{
    const struct moe_cal_size *largest = moe_cal_largest(c);
    const uint64_t grain = 32, a_row = moe_bench_expert_bytes(MOE_BF16, largest->d_model, 1);
    const uint64_t rows = largest->bytes / a_row;
    if (!moe_dtype_plain(largest->dtype))
        c->dense =
            size_of(m, MOE_BF16, largest->d_model, rows < grain ? rows : rows / grain * grain);
}

/* Checks that all shapes have experts of one type, as a platform has the rates of one. */
static enum moe_status choose_type(const struct moe_calibrator *c, enum moe_dtype *out,
                                   struct moe_err *err)
{
    const struct moe_model *shapes = c->o->shapes;
    struct moe_err why;
    for (uint32_t i = 0; i < c->o->n_shapes; i++) {
        if (moe_synthetic_expert_type(&shapes[i], out, &why))
            return moe_fail(err, MOE_ERR_USAGE, "%s", why.text);
        if (shapes[i].expert_weight_bits != shapes[0].expert_weight_bits)
            return moe_fail(
                err, MOE_ERR_USAGE,
                "model '%s' has expert weights of %g bits, '%s' of %g: a platform has the rates of "
                "one weight type, so calibrate each into a file of its own",
                shapes[i].name, shapes[i].expert_weight_bits, shapes[0].name,
                shapes[0].expert_weight_bits);
    }
    return MOE_OK;
}

/* The sizes of at most `most` bytes; at least two, as rate and fixed cost are derived from two. */
static enum moe_status choose_sizes(struct moe_calibrator *c, uint64_t most, struct moe_err *err)
{
    const struct moe_model *shapes = c->o->shapes, *last = NULL;
    enum moe_dtype dtype;
    char bytes[32], room[32];
    enum moe_status s = choose_type(c, &dtype, err);
    if (s)
        return s;
    for (uint32_t i = 0; i < c->o->n_shapes; i++) {
        const uint64_t size = moe_model_expert_bytes(&shapes[i]);
        if (size > most) {
            moe_log("experts of '%s' left out: %s each, and at most %s are used at a time",
                    shapes[i].name, moe_format_bytes(size, bytes, sizeof bytes),
                    moe_format_bytes(most, room, sizeof room));
            continue;
        }
        last = &shapes[i];
        add_size(c, size_of(last, dtype, last->d_model, last->d_ffn));
    }
    if (!last)
        return moe_fail(
            err, MOE_ERR_MEMORY,
            "no expert fits: at most %s are used at a time, a quarter of host or device "
            "memory; choose a smaller shape",
            moe_format_bytes(most, room, sizeof room));
    if (c->n_sizes == 1)
        add_size(c, second_size(last, dtype));
    qsort(c->size, c->n_sizes, sizeof *c->size, compare_sizes);
    choose_dense(c, last);
    return MOE_OK;
}

/* Allocates vectors for the experts of a layer, or for the many tokens of one. */
static enum moe_status make_vectors(struct moe_calibrator *c, struct moe_err *err)
{
    size_t rows = MOE_CAL_HOST_TOKENS;
    for (uint32_t i = 0; i < c->n_sizes; i++) {
        const struct moe_cal_size *s = &c->size[i];
        c->widest = s->d_model > c->widest ? s->d_model : c->widest;
        c->widest = s->d_ffn > c->widest ? s->d_ffn : c->widest;
        rows = s->n > rows ? s->n : rows;
    }
    const size_t n = rows * c->widest;
    c->x = malloc(n * sizeof *c->x);
    c->h = malloc(n * sizeof *c->h);
    c->y = malloc(n * sizeof *c->y);
    if (!c->x || !c->h || !c->y)
        return moe_fail_memory(err, "the activations of the calibration");
    for (size_t i = 0; i < n; i++)
        c->x[i] = (float)(i % 17) * 0.125f - 1;
    return MOE_OK;
}

static uint64_t between(uint64_t least, uint64_t value, uint64_t most)
{
    return value > most ? most : value < least ? least : value;
}

static enum moe_status init(struct moe_calibrator *c, struct moe_err *err)
{
    struct moe_memory_limits limits;
    const char *which;
    moe_memory_limits_read(&limits);
    const uint64_t host = moe_memory_pinnable(&limits, 0, &which) / SHARE;
    const uint64_t device = c->device->ops->free_bytes(c->device) / SHARE;
    const uint64_t most = c->o->alone || host < device ? host : device;
    choose_threads(c);
    enum moe_status s = choose_sizes(c, most, err);
    if (s)
        return s;
    const uint64_t largest = moe_cal_largest(c)->bytes;
    const uint64_t read = between(READ_LEAST, 2 * moe_cpu_cache_bytes(), READ_MOST);
    c->block_bytes = between(largest, BLOCK_EXPERTS * largest, most);
    s = moe_bench_memory_init(
        &c->memory, between(largest, c->block_bytes > read ? c->block_bytes : read, host), err);
    if (!s)
        s = make_vectors(c, err);
    if (!s && !c->o->alone)
        s = moe_cal_device_init(c, err);
    if (!s)
        s = moe_cal_steps_init(c, err);
    c->round = s ? NULL : calloc(c->o->repeats + 1, sizeof *c->round);
    return s || c->round ? s : moe_fail_memory(err, "the measurements");
}

static void release(struct moe_calibrator *c)
{
    free(c->round);
    moe_cal_steps_release(c);
    moe_cal_device_release(c);
    free(c->x);
    free(c->h);
    free(c->y);
    moe_bench_memory_release(&c->memory);
}

static enum moe_status measure(struct moe_calibrator *c, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    if (c->o->progress)
        c->o->progress->total = (c->o->repeats + 1) * ticks(c) + moe_cal_powers(c);
    for (uint32_t i = 0; i <= c->o->repeats && !s; i++) {
        s = moe_cal_cpu_round(c, &c->round[i], err);
        if (!s && !c->o->alone)
            s = moe_cal_device_round(c, &c->round[i], err);
        if (!s)
            s = moe_cal_steps_round(c, &c->round[i], err);
        c->n_rounds++;
    }
    return s ? s : moe_cal_power(c, err);
}

enum moe_status moe_calibrate(const struct moe_calibrate_options *options,
                              struct moe_calibration *out, struct moe_err *err)
{
    struct moe_calibrator c = {.o = options, .device = options->device};
    enum moe_status s = init(&c, err);
    if (!s)
        s = measure(&c, err);
    if (!s)
        s = moe_cal_platform(&c, out, err);
    release(&c);
    return s;
}
