#include "sim/whatif.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Values that differ by less than this from what the platform has count as the same. */
#define SAME 0.03
#define GIB  0x1p30

enum { FIRST_GENERATION = 3, LAST_GENERATION = 6, MOST_LANES = 16 };

struct maker {
    struct moe_whatif *w;
    const struct moe_whatif_spec *spec;
};

/* --- rates ---------------------------------------------------------------------------------- */

double moe_whatif_pcie_gb_per_s(uint64_t generation, uint64_t lanes)
{
    /* GT/s and the share of them that is data */
    static const struct {
        double gt_per_s, data;
    } lane[] = {{8, 128.0 / 130}, {16, 128.0 / 130}, {32, 128.0 / 130}, {64, 242.0 / 256}};
    bool known = generation >= FIRST_GENERATION && generation <= LAST_GENERATION && lanes >= 1 &&
                 lanes <= MOST_LANES && (lanes & (lanes - 1)) == 0;
    if (!known)
        return 0;
    const uint64_t i = generation - FIRST_GENERATION;
    return lane[i].gt_per_s * lane[i].data / 8 * (double)lanes;
}

/* A read of the CPU, whose rate the platform has. */
struct read {
    const struct moe_platform *p;
    bool dense;     /* of dense weights; else of an expert */
    uint64_t bytes; /* of the expert or dense part */
};

/* R at a whole number of the platform's threads. */
static double rate_at(const struct read *r, uint64_t threads)
{
    return r->dense ? moe_platform_dense_gb_per_s(r->p, threads, r->bytes)
                    : moe_platform_expert_gb_per_s(r->p, threads, r->bytes);
}

/* GB/s that each core beyond the platform's adds: the slope between the last two numbers of threads
 * that its rates were measured with. */
static double last_slope(const struct read *r)
{
    const struct moe_platform *p = r->p;
    const struct moe_ffn_point *point = r->dense ? p->cpu.dense : p->cpu.point;
    const uint32_t n = r->dense ? p->cpu.n_dense : p->cpu.n_points;
    const uint64_t last = point[n - 1].threads;
    const uint64_t top = last < p->cpu.cores ? last : p->cpu.cores;
    uint64_t below = 0;
    for (uint32_t i = 0; i < n; i++)
        if (point[i].threads < top)
            below = point[i].threads;
    const double from = below ? rate_at(r, below) : 0;
    return fmax(0, (rate_at(r, top) - from) / (double)(top - below));
}

/* R at any number of threads. */
static double rate(const struct read *r, double threads)
{
    const double cores = (double)r->p->cpu.cores;
    if (threads <= 1)
        return threads * rate_at(r, 1);
    if (threads > cores) {
        const double most = rate_at(r, r->p->cpu.cores);
        const double grown = most + (threads - cores) * last_slope(r);
        return fmax(most, fmin(grown, r->p->dram.read_gb_per_s));
    }
    const double whole = floor(threads);
    const double low = rate_at(r, (uint64_t)whole);
    const double high = rate_at(r, (uint64_t)ceil(threads));
    return low + (threads - whole) * (high - low);
}

static double scaled_rate(const struct read *r, double threads, double factor)
{
    const double own = rate(r, threads);
    const double scaled = factor * rate(r, threads / factor);
    /* Rates measured with noise may rise faster than the threads: more bandwidth slows nobody. */
    return factor >= 1 ? fmax(own, scaled) : fmin(own, scaled);
}

double moe_whatif_cpu_gb_per_s(const struct moe_platform *platform, double threads, double factor,
                               uint64_t expert_bytes)
{
    return scaled_rate(&(struct read){platform, false, expert_bytes}, threads, factor);
}

/* --- values --------------------------------------------------------------------------------- */

static uint64_t own_threads(const struct moe_whatif_spec *spec)
{
    const uint64_t threads = spec->strategy[MOE_WHATIF_STRATEGY]->threads;
    return threads < spec->platform->cpu.cores ? threads : spec->platform->cpu.cores;
}

/* A value of the axis with the machine as it is; NULL: there are too many. */
static struct moe_whatif_value *add(struct maker *m, enum moe_whatif_axis axis, double x, bool own)
{
    if (m->w->n == MOE_WHATIF_MAX_VALUES)
        return NULL;
    struct moe_whatif_value *v = &m->w->value[m->w->n++];
    *v = (struct moe_whatif_value){
        .axis = axis, .x = x, .own = own, .platform = *m->spec->platform, .model = *m->spec->model};
    return v;
}

static void say(struct moe_whatif_value *v, const char *text)
{
    if (v)
        snprintf(v->text, sizeof v->text, "%s", text);
}

static void say_number(struct moe_whatif_value *v, double number)
{
    if (v)
        snprintf(v->text, sizeof v->text, "%.4g", number);
}

static struct moe_ffn_point scaled_point(const struct read *r, uint64_t threads, double factor)
{
    const double gb_per_s = scaled_rate(r, (double)threads, factor);
    return (struct moe_ffn_point){(uint32_t)threads, r->bytes, (double)r->bytes / (gb_per_s * 1e6)};
}

static void set_cpu_rate(struct moe_whatif_value *v, const struct maker *m, uint64_t threads,
                         double factor)
{
    const struct moe_platform *own = m->spec->platform;
    struct read r = {own, false, moe_model_expert_bytes(&v->model)};
    v->platform.cpu.n_points = 1;
    v->platform.cpu.point[0] = scaled_point(&r, threads, factor);
    r.dense = true;
    v->platform.cpu.n_dense = 0;
    for (uint32_t i = 0; i < own->cpu.n_dense; i++) {
        r.bytes = own->cpu.dense[i].expert_bytes;
        if (own->cpu.dense[i].threads == own->cpu.dense[0].threads) /* each size once */
            v->platform.cpu.dense[v->platform.cpu.n_dense++] = scaled_point(&r, threads, factor);
    }
}

static void scale_link(struct moe_whatif_value *v, double factor)
{
    v->platform.link.h2d_pinned_gb_per_s *= factor;
    v->platform.link.h2d_pageable_gb_per_s =
        fmin(v->platform.link.h2d_pageable_gb_per_s, v->platform.link.h2d_pinned_gb_per_s);
}

static void scale_dram(struct moe_whatif_value *v, const struct maker *m, double factor)
{
    v->platform.dram.read_gb_per_s *= factor;
    if (moe_platform_shares_dram(&v->platform)) {
        v->platform.gpu.read_gb_per_s *= factor;
        v->platform.link.h2d_pinned_gb_per_s *= factor;
        v->platform.link.h2d_pageable_gb_per_s *= factor;
    }
    set_cpu_rate(v, m, own_threads(m->spec), factor);
}

static const double multiples[] = {0.25, 0.5, 1, 2, 4};
static const char *const multiples_said[] = {"×¼", "×½", "×1", "×2", "×4"};
enum { N_MULTIPLES = sizeof multiples / sizeof *multiples };

struct slot {
    uint64_t generation, lanes;
};

/* The slowest slot that carries so much; generation 0: none does. */
static struct slot slot_for(double gb_per_s)
{
    for (uint64_t lanes = 1; lanes < MOST_LANES; lanes *= 2)
        if (moe_whatif_pcie_gb_per_s(FIRST_GENERATION, lanes) >= gb_per_s)
            return (struct slot){FIRST_GENERATION, lanes};
    for (uint64_t g = FIRST_GENERATION; g <= LAST_GENERATION; g++)
        if (moe_whatif_pcie_gb_per_s(g, MOST_LANES) >= gb_per_s)
            return (struct slot){g, MOST_LANES};
    return (struct slot){0, 0};
}

static enum moe_status find_slot(const struct moe_whatif_spec *spec, struct slot *out,
                                 struct moe_err *err)
{
    const double link = spec->platform->link.h2d_pinned_gb_per_s;
    *out = spec->pcie_generation
               ? (struct slot){spec->pcie_generation, spec->pcie_lanes ? spec->pcie_lanes : 16}
               : slot_for(link);
    if (!spec->pcie_generation)
        return spec->pcie_lanes
                   ? moe_fail(err, MOE_ERR_USAGE,
                              "%" PRIu64 " PCIe lane%s without a generation: give both",
                              spec->pcie_lanes, moe_plural(spec->pcie_lanes))
                   : MOE_OK;
    const double most = moe_whatif_pcie_gb_per_s(out->generation, out->lanes);
    if (most == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "PCIe %" PRIu64 ".0 x%" PRIu64
                        " is not supported: generations are 3 to 6, lanes 1, 2, 4, 8, 16",
                        out->generation, out->lanes);
    if (link > most)
        return moe_fail(err, MOE_ERR_USAGE,
                        "the link of platform '%s' carries %.4g GB/s, PCIe %" PRIu64 ".0 x%" PRIu64
                        " at most %.4g",
                        spec->platform->name, link, out->generation, out->lanes, most);
    return MOE_OK;
}

static void add_link_multiples(struct maker *m)
{
    struct moe_whatif_axis_text *text = &m->w->axis[MOE_WHATIF_PCIE];
    const double link = m->spec->platform->link.h2d_pinned_gb_per_s;
    snprintf(text->title, sizeof text->title, "link bandwidth (multiples)");
    snprintf(text->note, sizeof text->note,
             "multiples of the platform's %.4g GB/s, which no PCIe slot carries", link);
    for (int i = 0; i < N_MULTIPLES; i++) {
        struct moe_whatif_value *v =
            add(m, MOE_WHATIF_PCIE, link * multiples[i], multiples[i] == 1);
        say(v, multiples_said[i]);
        if (v && !v->own)
            scale_link(v, multiples[i]);
    }
}

static enum moe_status add_pcie(struct maker *m, struct moe_err *err)
{
    struct moe_whatif_axis_text *text = &m->w->axis[MOE_WHATIF_PCIE];
    const double link = m->spec->platform->link.h2d_pinned_gb_per_s;
    struct slot slot;
    enum moe_status s = find_slot(m->spec, &slot, err);
    if (s)
        return s;
    if (slot.generation == 0) {
        add_link_multiples(m);
        return MOE_OK;
    }
    const double most = moe_whatif_pcie_gb_per_s(slot.generation, slot.lanes);
    snprintf(text->title, sizeof text->title, "PCIe generation (x%" PRIu64 ")", slot.lanes);
    snprintf(text->note, sizeof text->note,
             "the platform's %.4g GB/s are %.3g %% of PCIe %" PRIu64 ".0 x%" PRIu64
             " (%s), a share that other generations keep",
             link, 100 * link / most, slot.generation, slot.lanes,
             m->spec->pcie_generation ? "as told" : "a guess: the slowest that carries them");
    for (uint64_t g = FIRST_GENERATION; g <= LAST_GENERATION; g++) {
        const bool own = g == slot.generation;
        const double factor = own ? 1 : moe_whatif_pcie_gb_per_s(g, slot.lanes) / most;
        struct moe_whatif_value *v = add(m, MOE_WHATIF_PCIE, link * factor, own);
        if (!v)
            continue;
        snprintf(v->text, sizeof v->text, "%" PRIu64 ".0", g);
        if (!own)
            scale_link(v, factor);
    }
    return MOE_OK;
}

static struct moe_whatif_value *add_dram_value(struct maker *m, double factor)
{
    const double own = m->spec->platform->dram.read_gb_per_s;
    struct moe_whatif_value *v = add(m, MOE_WHATIF_DRAM, own * factor, factor == 1);
    if (v && !v->own)
        scale_dram(v, m, factor);
    return v;
}

/* Writes the own number and those of the others that differ from it to out, rising; returns how
 * many. */
static size_t with_own(const double *others, size_t n, double own, double *out)
{
    size_t made = 0;
    bool placed = false;
    for (size_t i = 0; i < n; i++) {
        if (!placed && own < others[i] * (1 + SAME)) {
            out[made++] = own;
            placed = true;
        }
        if (fabs(others[i] / own - 1) > SAME)
            out[made++] = others[i];
    }
    if (!placed)
        out[made++] = own;
    return made;
}

static void add_dram(struct maker *m)
{
    static const double channels[] = {1, 2, 4, 8, 12};
    enum { N = sizeof channels / sizeof *channels };
    struct moe_whatif_axis_text *text = &m->w->axis[MOE_WHATIF_DRAM];
    const double gb_per_s = m->spec->platform->dram.read_gb_per_s;
    const uint64_t own = m->spec->channels;
    double values[N + 1];
    if (own) {
        const size_t n = with_own(channels, N, (double)own, values);
        snprintf(text->title, sizeof text->title, "DRAM channels");
        snprintf(text->note, sizeof text->note,
                 "the platform's %.4g GB/s are of %" PRIu64 " channels, as told; others in "
                 "proportion, what one thread reads alone as it is",
                 gb_per_s, own);
        for (size_t i = 0; i < n; i++)
            say_number(add_dram_value(m, values[i] / (double)own), values[i]);
        return;
    }
    snprintf(text->title, sizeof text->title, "DRAM channels (multiples)");
    snprintf(text->note, sizeof text->note,
             "multiples of the platform's %.4g GB/s, whose number of channels was not told "
             "(--channels); what one thread reads alone stays",
             gb_per_s);
    for (int i = 0; i < N_MULTIPLES; i++)
        say(add_dram_value(m, multiples[i]), multiples_said[i]);
}

static void add_vram(struct maker *m)
{
    static const double cards[] = {8, 12, 16, 24, 32, 48, 80};
    enum { N = sizeof cards / sizeof *cards };
    struct moe_whatif_axis_text *text = &m->w->axis[MOE_WHATIF_VRAM];
    const double own = (double)m->spec->platform->gpu.memory_bytes / GIB;
    const bool usual = own >= 4 && own <= 160;
    double values[N + 1];
    size_t n = usual ? with_own(cards, N, own, values) : N_MULTIPLES;
    snprintf(text->title, sizeof text->title, "VRAM (GiB)");
    snprintf(text->note, sizeof text->note, "%s around the platform's %.4g GiB",
             usual ? "sizes of cards" : "multiples", own);
    for (size_t i = 0; i < n; i++) {
        const double gib = usual ? values[i] : own * multiples[i];
        struct moe_whatif_value *v = add(m, MOE_WHATIF_VRAM, gib, gib == own);
        /* a card of 24 GB has 24564 MiB */
        say_number(v, fabs(round(gib) / gib - 1) < SAME ? round(gib) : gib);
        if (v && !v->own)
            v->platform.gpu.memory_bytes = (uint64_t)(gib * GIB);
    }
}

static void add_cores_value(struct maker *m, uint64_t cores, bool own)
{
    struct moe_whatif_value *v = add(m, MOE_WHATIF_CORES, (double)cores, own);
    say_number(v, (double)cores);
    if (!v || own)
        return;
    v->threads = cores;
    v->beyond = cores > m->spec->platform->cpu.cores;
    if (!v->beyond)
        return;
    v->platform.cpu.cores = cores;
    set_cpu_rate(v, m, cores, 1);
}

static void add_cores(struct maker *m)
{
    static const double usual[] = {1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256};
    enum { N = sizeof usual / sizeof *usual };
    struct moe_whatif_axis_text *text = &m->w->axis[MOE_WHATIF_CORES];
    const uint64_t own = own_threads(m->spec);
    double values[N + 1];
    const size_t n = with_own(usual, N, (double)own, values);
    uint64_t last = 0;
    snprintf(text->title, sizeof text->title,
             own < m->spec->platform->cpu.cores ? "CPU threads" : "CPU cores");
    snprintf(text->note, sizeof text->note,
             "one thread each; beyond the platform's %" PRIu64
             " cores a guess: rates go on with their last slope up to the DRAM's",
             m->spec->platform->cpu.cores);
    for (size_t i = 0; i < n && values[i] <= 2 * (double)own; i++) {
        last = (uint64_t)values[i];
        add_cores_value(m, last, last == own);
    }
    if (last < 2 * own)
        add_cores_value(m, 2 * own, false);
}

static void add_weights(struct maker *m)
{
    static const double types[] = {4.5, 8.5, 16, 32};
    enum { N = sizeof types / sizeof *types };
    struct moe_whatif_axis_text *text = &m->w->axis[MOE_WHATIF_WEIGHTS];
    const double own = m->spec->model->expert_weight_bits;
    double values[N + 1];
    size_t n = with_own(types, N, own, values);
    snprintf(text->title, sizeof text->title, "bits per expert weight");
    snprintf(text->note, sizeof text->note,
             "32 F32, 16 BF16, 8.5 Q8, 4.5 Q4, with scales (moelab quantize; GGML's Q8_0, Q4_0); "
             "dense weights keep their type, kernels their bytes a second");
    while (n-- > 0) {
        struct moe_whatif_value *v = add(m, MOE_WHATIF_WEIGHTS, values[n], values[n] == own);
        say_number(v, values[n]);
        if (v)
            v->model.expert_weight_bits = values[n];
    }
}

enum moe_status moe_whatif_init(struct moe_whatif *w, const struct moe_whatif_spec *spec,
                                struct moe_err *err)
{
    static const char *const names[] = {"pcie", "dram", "vram", "cores", "weights"};
    static const char *const units[] = {"GB/s", "GB/s", "GiB", "cores", "bits"};
    struct moe_whatif made = {.value = calloc(MOE_WHATIF_MAX_VALUES, sizeof *made.value)};
    struct maker m = {&made, spec};
    if (!made.value)
        return moe_fail_memory(err, "the machines to simulate");
    for (int a = 0; a < MOE_WHATIF_AXES; a++) {
        snprintf(made.axis[a].name, sizeof made.axis[a].name, "%s", names[a]);
        made.axis[a].unit = units[a];
    }
    const bool has_gpu = moe_platform_has_gpu(spec->platform);
    const bool has_slot = has_gpu && !moe_platform_shares_dram(spec->platform);
    enum moe_status s = has_slot ? add_pcie(&m, err) : MOE_OK;
    if (s) {
        free(made.value);
        return s;
    }
    add_dram(&m);
    if (has_gpu)
        add_vram(&m);
    add_cores(&m);
    add_weights(&m);
    *w = made;
    return MOE_OK;
}

void moe_whatif_release(struct moe_whatif *w)
{
    free(w->value);
    free(w->row);
    *w = (struct moe_whatif){0};
}

size_t moe_whatif_step(const struct moe_whatif *w, enum moe_whatif_axis axis, int direction)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->value[i].axis != axis || !w->value[i].own)
            continue;
        const size_t at = i + (size_t)direction;
        return at < w->n && w->value[at].axis == axis ? at : SIZE_MAX;
    }
    return SIZE_MAX;
}
