#include "exec/calibrate_state.h"

#include "base/numbers.h"
#include "policies/cost.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Time as a linear function of bytes, in seconds: fixed + bytes * per_byte, through the medians of
 * the smallest and the largest size. */
struct line {
    double fixed, per_byte;
};

/* The derivation of constants from rounds, in the order in which they depend on one another. */
struct derivation {
    const struct moe_calibrator *c;
    struct moe_calibration *out;
    struct moe_costs costs; /* of out->platform and the model of the whole steps */
    double context;         /* tokens in the KV cache of the middle step */
    struct line copy, gpu;
};

typedef double value_of_round(const struct derivation *d, const struct moe_cal_round *r);

static double bytes_at(const struct moe_calibrator *c, int end)
{
    return (double)(end ? moe_cal_largest(c) : &c->size[0])->bytes;
}

/* If the small size did not take less time, or the fixed cost would be negative, all time is
 * attributed to the bytes of the largest. */
static struct line line_through(const struct moe_calibrator *c, double small, double large)
{
    const double slope = (large - small) / (bytes_at(c, 1) - bytes_at(c, 0));
    const double fixed = large - slope * bytes_at(c, 1);
    if (slope > 0 && fixed >= 0)
        return (struct line){fixed, slope};
    return (struct line){0, large / bytes_at(c, 1)};
}

/* The time without the fixed cost, which is that of all rounds, so that rounds differ by their own
 * times only. A round that took less than the fixed cost counts with its whole time: as fast, but
 * not as negative, which would make its rate the slowest. */
static double rest_of(double seconds, const struct line *line)
{
    return seconds > line->fixed ? seconds - line->fixed : seconds;
}

static double h2d(const struct derivation *d, const struct moe_cal_round *r)
{
    return bytes_at(d->c, 1) / rest_of(r->copy[1], &d->copy) * 1e-9;
}

static double copy_setup(const struct derivation *d, const struct moe_cal_round *r)
{
    return (r->copy[0] - d->copy.per_byte * bytes_at(d->c, 0)) * 1e6;
}

static double pageable(const struct derivation *d, const struct moe_cal_round *r)
{
    return bytes_at(d->c, 1) / rest_of(r->pageable, &d->copy) * 1e-9;
}

static double dram(const struct derivation *d, const struct moe_cal_round *r)
{
    double best = r->together;
    for (uint32_t t = 0; t < d->c->n_threads; t++) {
        best = fmax(best, r->read[t]);
        for (uint32_t i = 0; i < d->c->n_sizes; i++)
            best = fmax(best, (double)d->c->size[i].bytes / r->ffn[t][i]);
    }
    return best * 1e-9;
}

static double gflops(const struct derivation *d, const struct moe_cal_round *r)
{
    (void)d;
    return r->gflops;
}

/* Are experts of another type than the dense part? Then the two have different rates. The platform
 * takes the higher one, and the time beyond a part's bytes at that rate becomes a fixed cost: for
 * an expert its launch, for the dense part the overhead of a layer and of a step. */
static bool two_types(const struct derivation *d)
{
    return d->c->dense.bytes > 0;
}

static double gpu_read(const struct derivation *d, const struct moe_cal_round *r)
{
    const double experts = bytes_at(d->c, 1) / rest_of(r->gpu[1], &d->gpu);
    const double dense =
        two_types(d) ? (double)d->c->dense.bytes / rest_of(r->gpu_dense, &d->gpu) : 0;
    return fmax(experts, dense) * 1e-9;
}

static double gpu_launch(const struct derivation *d, const struct moe_cal_round *r)
{
    const int end = two_types(d);
    const double per_byte = end ? 1e-9 / d->out->platform.gpu.read_gb_per_s : d->gpu.per_byte;
    return (r->gpu[end] - per_byte * bytes_at(d->c, end)) * 1e6;
}

/* The fixed part of an expert's time on the device, in seconds. */
static struct line gpu_fixed(const struct derivation *d)
{
    const double launch = d->out->platform.gpu.expert_launch_us * 1e-6;
    return two_types(d) ? (struct line){.fixed = launch} : d->gpu;
}

static double tflops(const struct derivation *d, const struct moe_cal_round *r)
{
    const double flops = moe_cal_flops(moe_cal_largest(d->c)) * d->c->many;
    const struct line line = gpu_fixed(d);
    return flops / rest_of(r->gpu_many, &line) * 1e-12;
}

static double time_of(const struct moe_cal_round *r, bool gpu, int end)
{
    return gpu ? r->gpu[end] : r->copy[end];
}

static struct line line_of(const struct moe_calibrator *c, bool gpu)
{
    double v[2][MOE_CALIBRATE_REPEATS];
    const uint32_t n = c->o->repeats;
    for (int end = 0; end < 2; end++)
        for (uint32_t i = 0; i < n; i++)
            v[end][i] = time_of(&c->round[i + 1], gpu, end);
    return line_through(c, moe_median(v[0], n), moe_median(v[1], n));
}

/* From the routes to the first kernel. A layer with hits waits for this as well, so it is part of
 * the layer's overhead; only what a layer with misses or copies waits beyond it is attributed to
 * them. */
static double wait_of_hits(const struct moe_cal_round *r)
{
    return r->step[MOE_CAL_HIT].first;
}

static double copy_in_steps(const struct derivation *d, const struct moe_cal_round *r)
{
    const struct moe_cal_times *t = &r->step[MOE_CAL_COPY];
    return d->copy.fixed * 1e6 + (t->first - wait_of_hits(r) + t->second) * 1e-3;
}

static double dense_ns(const struct derivation *d)
{
    return (double)moe_cost_attend_ns(&d->costs, 1, (uint64_t)d->context);
}

/* The time of a layer without its experts and without what the cost model gives for its dense part.
 */
static double layer_overhead(const struct derivation *d, const struct moe_cal_round *r)
{
    const struct moe_cal_times *t = &r->step[MOE_CAL_HIT];
    return (t->layer - t->span - dense_ns(d)) * 1e-3;
}

/* In whole steps the experts of a layer may take longer than when queued one behind another, if the
 * host queues them more slowly than they run. A difference larger than the whole rest of the layer
 * has another reason, a change of the machine's speed, and is ignored. */
static double launch_in_steps(const struct derivation *d, const struct moe_cal_round *r)
{
    const struct moe_cal_times *t = &r->step[MOE_CAL_HIT];
    const double k = (double)d->c->model.top_k;
    const double more = t->span - k * (double)d->costs.gpu_expert_ns;
    const double rest = t->layer - t->span - dense_ns(d);
    return gpu_fixed(d).fixed * 1e6 + (fabs(more) < rest ? more / k * 1e-3 : 0);
}

static double token_overhead(const struct derivation *d, const struct moe_cal_round *r)
{
    return (r->step[MOE_CAL_HIT].rest - (double)moe_cost_head_ns(&d->costs, 1)) * 1e-3;
}

static double state_down(const struct derivation *d, const struct moe_cal_round *r)
{
    (void)d;
    return fmax(0, r->step[MOE_CAL_CPU].first - wait_of_hits(r)) * 1e-3;
}

/* If misses start earlier than hits do, that shortens the layer and is subtracted here. */
static double state_up(const struct derivation *d, const struct moe_cal_round *r)
{
    const struct moe_cal_times *t = &r->step[MOE_CAL_CPU];
    (void)d;
    return (t->second + fmin(0, t->first - wait_of_hits(r))) * 1e-3;
}

/* The value in the five digits that are written. */
static double rounded(double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.5g", value);
    return strtod(text, NULL);
}

/* The range of the middle four fifths of the values, over their median (see exec/calibrate.h).
 * Sorts the values. */
static double spread_of(double *values, uint32_t n)
{
    const double median = moe_median(values, n);
    return (moe_quantile(values, n, 0.9) - moe_quantile(values, n, 0.1)) / fabs(median);
}

/* Median and spread over the rounds that count; a median below `least` becomes `least`, with spread
 * NaN. */
static double over_rounds(const struct derivation *d, value_of_round *value, double least,
                          double *spread)
{
    double v[MOE_CALIBRATE_REPEATS];
    const uint32_t n = d->c->o->repeats;
    for (uint32_t i = 0; i < n; i++)
        v[i] = value(d, &d->c->round[i + 1]);
    *spread = spread_of(v, n);
    const double median = moe_quantile(v, n, 0.5);
    if (median > least)
        return rounded(median);
    *spread = NAN;
    return least;
}

/* The parameter "SECTION.NAME" of a platform; the key exists. */
static const struct moe_param *param_of(const char *key)
{
    const size_t section = strcspn(key, ".");
    const struct moe_platform_section *s = moe_platform_sections;
    while (strlen(s->name) != section || strncmp(s->name, key, section) != 0)
        s++;
    return moe_param_find(s->table, key + section + 1);
}

/* The record of a constant, created when it is first asked for. */
static struct moe_constant *constant_of(struct moe_calibration *out, const char *key)
{
    for (uint32_t i = 0; i < out->n_constants; i++)
        if (strcmp(out->constant[i].key, key) == 0)
            return &out->constant[i];
    struct moe_constant *k = &out->constant[out->n_constants++];
    *k = (struct moe_constant){.spread = NAN, .share = NAN};
    snprintf(k->key, sizeof k->key, "%s", key);
    return k;
}

static struct moe_constant *set(struct moe_calibration *out, const char *key, double value)
{
    struct moe_constant *k = constant_of(out, key);
    const struct moe_param *param = param_of(key);
    k->value = value;
    if (param->type == MOE_PARAM_F64) {
        memcpy((char *)&out->platform + param->offset, &value, sizeof value);
    } else {
        const uint64_t whole = (uint64_t)value;
        memcpy((char *)&out->platform + param->offset, &whole, sizeof whole);
    }
    return k;
}

static void measured(struct derivation *d, const char *key, value_of_round *value, const char *how)
{
    const struct moe_calibrate_options *o = d->c->o;
    const struct moe_param *param = param_of(key);
    double spread;
    const double median = over_rounds(d, value, param->min, &spread);
    struct moe_constant *k = set(d->out, key, median);
    k->spread = spread;
    k->n = o->repeats;
    int n = snprintf(k->origin, sizeof k->origin,
                     "measured: by the command above, %.20s, median of %" PRIu32, o->date, k->n);
    if (isnan(spread))
        n += snprintf(k->origin + n, sizeof k->origin - (size_t)n, ", below what can be told");
    else
        n +=
            snprintf(k->origin + n, sizeof k->origin - (size_t)n, ", spread %.1f %%", 100 * spread);
    if (*how)
        snprintf(k->origin + n, sizeof k->origin - (size_t)n, "; %s", how);
}

__attribute__((format(printf, 4, 5))) static void told(struct derivation *d, const char *key,
                                                       double value, const char *format, ...)
{
    struct moe_constant *k = set(d->out, key, value);
    va_list args;
    va_start(args, format);
    vsnprintf(k->origin, sizeof k->origin, format, args);
    va_end(args);
}

/* Time of an expert on the CPU: from whole steps if they were measured, as caches, threads and
 * waiting are those of a run there. */
static double expert_seconds(const struct moe_calibrator *c, const struct moe_cal_round *r,
                             uint32_t t, uint32_t i)
{
    const bool in_steps = c->model.n_layers && r->ffn_in_steps[t] > 0 &&
                          c->size[i].bytes == moe_model_expert_bytes(&c->model);
    return in_steps ? r->ffn_in_steps[t] : r->ffn[t][i];
}

/* Adds a point to cpu.dense, for machines whose CPU computes everything: a layer or the head with
 * threads[t] threads. */
static void derive_dense_point(struct derivation *d, uint32_t t, bool head, uint64_t bytes,
                               double share_of_time)
{
    const struct moe_calibrator *c = d->c;
    struct moe_calibration *out = d->out;
    const uint32_t n = c->o->repeats, p = out->platform.cpu.n_dense++;
    double v[MOE_CALIBRATE_REPEATS], share[MOE_CALIBRATE_REPEATS];
    for (uint32_t r = 0; r < n; r++) {
        const struct moe_cal_alone *alone = &c->round[r + 1].alone[t];
        v[r] = share_of_time * (head ? alone->head : alone->layer);
        share[r] = (double)bytes / v[r] / c->round[r + 1].read[t];
    }
    out->dense_spread[p] = spread_of(v, n);
    out->dense_share[p] = moe_median(share, n);
    out->platform.cpu.dense[p] = (struct moe_ffn_point){
        c->threads[t], bytes, fmax(1e-6, rounded(moe_quantile(v, n, 0.5) * 1e3))};
}

static void derive_dense(struct derivation *d)
{
    const struct moe_calibrator *c = d->c;
    struct moe_calibration *out = d->out;
    const uint64_t layer = moe_model_dense_layer_bytes(&c->model);
    const uint64_t head = moe_model_head_bytes(&c->model);
    const double kv = (double)moe_model_kv_bytes(&c->model, (uint64_t)d->context + 1);
    double worst = 0;
    for (uint32_t t = 0; t < c->n_threads; t++) {
        const bool head_first = head < layer;
        if (head_first)
            derive_dense_point(d, t, true, head, 1);
        derive_dense_point(d, t, false, layer, (double)layer / ((double)layer + kv));
        if (head > layer)
            derive_dense_point(d, t, true, head, 1);
    }
    for (uint32_t p = 0; p < out->platform.cpu.n_dense; p++)
        worst = fmax(worst, out->dense_spread[p]);
    struct moe_constant *k = constant_of(out, "cpu.dense");
    k->n = c->o->repeats;
    k->spread = worst;
    snprintf(k->origin, sizeof k->origin,
             "measured: by the command above, %.20s, medians of %" PRIu32
             ", largest spread %.1f %%; whole steps of %.120s: the head, and what a layer takes "
             "beside its experts",
             c->o->date, k->n, 100 * worst, c->steps_of);
}

static void derive_points(struct derivation *d)
{
    const struct moe_calibrator *c = d->c;
    const struct moe_calibrate_options *o = c->o;
    struct moe_calibration *out = d->out;
    double worst = 0, v[MOE_CALIBRATE_REPEATS], share[MOE_CALIBRATE_REPEATS];
    for (uint32_t t = 0; t < c->n_threads; t++)
        for (uint32_t i = 0; i < c->n_sizes; i++) {
            const uint32_t p = out->platform.cpu.n_points++;
            for (uint32_t r = 0; r < o->repeats; r++) {
                v[r] = expert_seconds(c, &c->round[r + 1], t, i);
                share[r] = (double)c->size[i].bytes / v[r] / c->round[r + 1].read[t];
            }
            out->point_spread[p] = spread_of(v, o->repeats);
            const double median = moe_quantile(v, o->repeats, 0.5);
            out->point_share[p] = moe_median(share, o->repeats);
            worst = fmax(worst, out->point_spread[p]);
            out->platform.cpu.point[p] = (struct moe_ffn_point){c->threads[t], c->size[i].bytes,
                                                                fmax(1e-6, rounded(median * 1e3))};
        }
    struct moe_constant *k = constant_of(out, "cpu.expert_ffn");
    k->n = o->repeats;
    k->spread = worst;
    snprintf(k->origin, sizeof k->origin,
             "measured: by the command above, %.20s, medians of %" PRIu32
             ", largest spread %.1f %%; %s; the experts of a layer together, divided by their "
             "number%s",
             o->date, k->n, 100 * worst, moe_dtype_info(moe_cal_largest(c)->dtype)->name,
             c->model.n_layers ? "; the whole steps' in these" : "");
}

static void derive_rates(struct derivation *d)
{
    const struct moe_calibrator *c = d->c;
    const char *type = moe_dtype_info(moe_cal_largest(c)->dtype)->name;
    char how[64];
    measured(d, "dram.read_gb_per_s", dram,
             c->o->alone ? "the larger of reading alone and experts"
                         : "the largest of reading alone, experts, and experts beside copies");
    told(d, "cpu.cores", c->threads[c->n_threads - 1],
         "measured: cores that this process may use, as the system tells, or --threads, %.20s",
         c->o->date);
    snprintf(how, sizeof how, "%s, %d tokens, all cores", type, MOE_CAL_HOST_TOKENS);
    measured(d, "cpu.gflops_per_core", gflops, how);
    derive_points(d);
    if (c->o->alone && c->model.n_layers)
        derive_dense(d);
}

static void derive_device(struct derivation *d)
{
    const struct moe_calibrator *c = d->c;
    const char *type = moe_dtype_info(moe_cal_largest(c)->dtype)->name;
    char how[64];
    measured(d, "link.h2d_pinned_gb_per_s", h2d, "two sizes");
    measured(d, "link.h2d_pageable_gb_per_s", pageable, "");
    measured(d, "link.copy_setup_us", copy_setup, "two sizes");
    d->out->platform.memory = c->device->integrated ? MOE_MEMORY_UNIFIED : MOE_MEMORY_SEPARATE;
    told(d, "gpu.memory_bytes", (double)c->device->memory_bytes,
         "measured: as the device tells, %.20s", c->o->date);
    snprintf(how, sizeof how, "two sizes of %s%s", type, two_types(d) ? ", and BF16" : "");
    measured(d, "gpu.read_gb_per_s", gpu_read, how);
    measured(d, "gpu.expert_launch_us", gpu_launch, how);
    snprintf(how, sizeof how, "%s, %" PRIu32 " tokens", type, c->many);
    measured(d, "gpu.tflops", tflops, how);
}

static void use_costs(struct derivation *d)
{
    moe_costs_init(&d->costs, &d->c->model, &d->out->platform, d->out->platform.cpu.cores);
}

static void derive_overheads(struct derivation *d)
{
    static const char *const keys[] = {"gpu.layer_overhead_us", "gpu.token_overhead_us",
                                       "link.state_down_us", "link.state_up_us"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        told(d, keys[i], 0, "guess: 0, as no whole steps were measured (%.100s)", d->c->steps_of);
    if (!d->c->model.n_layers)
        return;
    char how[160];
    snprintf(how, sizeof how, "whole steps of %.120s", d->c->steps_of);
    use_costs(d);
    measured(d, "link.copy_setup_us", copy_in_steps, how);
    use_costs(d);
    measured(d, "gpu.expert_launch_us", launch_in_steps, how);
    use_costs(d);
    measured(d, keys[0], layer_overhead, how);
    use_costs(d);
    measured(d, keys[1], token_overhead, how);
    use_costs(d);
    measured(d, keys[2], state_down, how);
    measured(d, keys[3], state_up, how);
}

static void watts(struct derivation *d, const char *key, double value, double guess,
                  const char *why)
{
    const struct moe_calibrate_options *o = d->c->o;
    if (isnan(value)) {
        told(d, key, guess, "guess: %.320s", why);
        return;
    }
    told(d, key, rounded(fmax(0, value)), "measured: by the command above, %.20s, mean of %g s",
         o->date, o->power_s);
}

/* Guesses where there are no counters: 2 to 4 W a busy core (arXiv 2512.16473, section IV), and a
 * mid-range GPU. */
static void derive_power(struct derivation *d)
{
    const struct moe_joules *w = d->c->power;
    const struct moe_power *power = d->c->o->power;
    const double threads = (double)d->out->platform.cpu.cores;
    const bool host = strcmp(d->c->device->ops->name, "host") == 0;
    char why[320], gpu_why[320];
    snprintf(why, sizeof why, "the energy of the CPU cannot be measured here (%s)",
             power ? power->cpu : "not asked for");
    if (host)
        snprintf(gpu_why, sizeof gpu_why, "there is no GPU: what stands for it is the CPU's");
    else
        snprintf(gpu_why, sizeof gpu_why, "the energy of the GPU cannot be measured here (%s)",
                 power ? power->gpu : "not asked for");
    watts(d, "power.cpu_idle_w", w[MOE_CAL_IDLE].cpu, 20 + threads, why);
    watts(d, "power.cpu_busy_per_thread_w",
          (w[MOE_CAL_CPU_BUSY].cpu - w[MOE_CAL_IDLE].cpu) / threads, 3, why);
    if (d->c->o->alone)
        return;
    watts(d, "power.gpu_idle_w", w[MOE_CAL_IDLE].gpu, host ? 0 : 50, gpu_why);
    watts(d, "power.gpu_busy_w", w[MOE_CAL_GPU_BUSY].gpu - w[MOE_CAL_IDLE].gpu, host ? 0 : 180,
          gpu_why);
    watts(d, "power.gpu_copy_w", w[MOE_CAL_COPYING].gpu - w[MOE_CAL_IDLE].gpu, host ? 0 : 2,
          gpu_why);
}

/* "NVIDIA H100 80GB HBM3" becomes "nvidia-h100-80gb-hbm3". */
static void make_name(const char *device, char *out, size_t size)
{
    size_t n = 0;
    for (; *device && n + 1 < size; device++) {
        const char c = *device;
        if (c >= 'A' && c <= 'Z')
            out[n++] = (char)(c - 'A' + 'a');
        else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            out[n++] = c;
        else if (n && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    snprintf(out + n, size - n, "%s", n ? "" : "machine");
}

enum moe_status moe_cal_platform(const struct moe_calibrator *c, struct moe_calibration *out,
                                 struct moe_err *err)
{
    struct derivation d = {.c = c, .out = out, .context = 16};
    (void)err;
    *out = (struct moe_calibration){.n_constants = 0};
    make_name(c->device->name, out->platform.name, sizeof out->platform.name);
    snprintf(out->platform.description, sizeof out->platform.description,
             "%s: %.200s, measured %.20s", c->device->ops->name, c->device->name, c->o->date);
    memcpy(out->steps_of, c->steps_of, sizeof out->steps_of);
    d.copy = line_of(c, false);
    d.gpu = line_of(c, true);
    derive_rates(&d);
    if (!c->o->alone) {
        derive_device(&d);
        derive_overheads(&d);
    }
    derive_power(&d);
    return MOE_OK;
}

const char *moe_calibration_origin(void *context, const char *key)
{
    const struct moe_calibration *calibration = context;
    for (uint32_t i = 0; i < calibration->n_constants; i++)
        if (strcmp(calibration->constant[i].key, key) == 0)
            return calibration->constant[i].origin;
    return "guess: not measured";
}
