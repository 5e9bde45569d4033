#include "policies/platform.h"

#include "base/units.h"
#include "base/yaml.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(member) .offset = offsetof(struct moe_platform, member)

/* A constant of the machine: {value, unit, origin} in YAML. The lower limits keep every duration
 * finite; a rate of zero would be a resource that never finishes. */
#define CONSTANT(section, key, lowest, highest, units, text)                                       \
    {                                                                                              \
        .name = #key, .type = MOE_PARAM_F64, FIELD(section.key), .min = (lowest),                  \
        .max = (highest), .unit = (units), .help = (text), .flags = MOE_PARAM_CONSTANT             \
    }
#define RATE(section, key, text)     CONSTANT(section, key, 1e-3, 1e6, "GB/s", text)
#define DURATION(section, key, text) CONSTANT(section, key, 0, 1e7, "us", text)
#define POWER(section, key, text)    CONSTANT(section, key, 0, 1e5, "W", text)

static const struct moe_param head_table[] = {
    {.name = "name",
     .type = MOE_PARAM_STRING,
     FIELD(name),
     .size = sizeof((struct moe_platform *)0)->name,
     .help = "name",
     .flags = MOE_PARAM_REQUIRED},
    {.name = "description",
     .type = MOE_PARAM_STRING,
     FIELD(description),
     .size = sizeof((struct moe_platform *)0)->description,
     .help = "one line",
     .flags = MOE_PARAM_REQUIRED},
    {.name = "memory",
     .type = MOE_PARAM_CHOICE,
     FIELD(memory),
     .default_text = "separate",
     .choices = "separate|unified",
     .help = "the GPU's: its own, or one DRAM with the CPU"},
    {0},
};

static const struct moe_param link_table[] = {
    RATE(link, h2d_pinned_gb_per_s, "copy of an expert from pinned host memory"),
    RATE(link, h2d_pageable_gb_per_s, "copy of an expert from pageable host memory"),
    DURATION(link, copy_setup_us, "fixed cost of one expert copy"),
    DURATION(link, state_down_us, "activations of a layer, GPU to CPU"),
    DURATION(link, state_up_us, "activations of a layer, CPU to GPU"),
    {0},
};

static const struct moe_param dram_table[] = {
    RATE(dram, read_gb_per_s, "usable read bandwidth, all cores and engines together"),
    {0},
};

static const struct moe_param cpu_table[] = {
    {.name = "cores",
     .type = MOE_PARAM_U64,
     FIELD(cpu.cores),
     .min = 1,
     .max = 4096,
     .unit = "cores",
     .help = "cores that can compute experts",
     .flags = MOE_PARAM_CONSTANT},
    CONSTANT(cpu, gflops_per_core, 1e-3, 1e6, "GFLOP/s", "one core, many tokens"),
    {0},
};

static const struct moe_param gpu_table[] = {
    {.name = "memory_bytes",
     .type = MOE_PARAM_BYTES,
     FIELD(gpu.memory_bytes),
     .unit = "bytes",
     .help = "device memory",
     .flags = MOE_PARAM_CONSTANT},
    RATE(gpu, read_gb_per_s, "memory bandwidth that matrix-vector kernels reach"),
    CONSTANT(gpu, tflops, 1e-3, 1e6, "TFLOP/s", "matrix products in the weights' type"),
    DURATION(gpu, expert_launch_us, "fixed cost of one expert on the GPU"),
    DURATION(gpu, layer_overhead_us, "fixed cost of a layer's dense part"),
    DURATION(gpu, token_overhead_us, "fixed cost of a step"),
    {0},
};

static const struct moe_param power_table[] = {
    POWER(power, cpu_idle_w, "CPU package, no expert computing"),
    POWER(power, cpu_busy_per_thread_w, "added by each thread that computes"),
    POWER(power, gpu_idle_w, "GPU with a context, nothing running"),
    POWER(power, gpu_busy_w, "added while the GPU computes"),
    POWER(power, gpu_copy_w, "added while an expert is copied"),
    {0},
};

/* Of a computer without a GPU. */
static const struct moe_param cpu_power_table[] = {
    POWER(power, cpu_idle_w, "CPU package, no expert computing"),
    POWER(power, cpu_busy_per_thread_w, "added by each thread that computes"),
    {0},
};

const struct moe_platform_section moe_platform_sections[] = {
    {"link", link_table}, {"dram", dram_table},   {"cpu", cpu_table},
    {"gpu", gpu_table},   {"power", power_table}, {0},
};

enum { N_SECTIONS = sizeof moe_platform_sections / sizeof moe_platform_sections[0] - 1 };

const struct moe_param *moe_platform_table(const struct moe_platform *platform,
                                           const struct moe_platform_section *section)
{
    /* A file that describes a GPU gives it a read rate, even if --set took its memory away. */
    if (platform->gpu.memory_bytes > 0 || platform->gpu.read_gb_per_s > 0)
        return section->table;
    if (section->table == gpu_table || section->table == link_table)
        return NULL;
    return section->table == power_table ? cpu_power_table : section->table;
}

/* A list item {threads, expert_bytes, ms}, or {threads, bytes, ms}. */
#define POINT(member) .offset = offsetof(struct point_text, member)
struct point_text {
    uint64_t threads, bytes;
    double ms;
};

#define POINT_TABLE(bytes_name, of)                                                                \
    {                                                                                              \
        {.name = "threads",                                                                        \
         .type = MOE_PARAM_U64,                                                                    \
         POINT(threads),                                                                           \
         .min = 1,                                                                                 \
         .max = 4096,                                                                              \
         .help = "threads",                                                                        \
         .flags = MOE_PARAM_REQUIRED},                                                             \
            {.name = (bytes_name),                                                                 \
             .type = MOE_PARAM_U64,                                                                \
             POINT(bytes),                                                                         \
             .min = 1,                                                                             \
             .max = 1e12,                                                                          \
             .unit = "bytes",                                                                      \
             .help = "bytes of the weights of " of,                                                \
             .flags = MOE_PARAM_REQUIRED},                                                         \
            {.name = "ms",                                                                         \
             .type = MOE_PARAM_F64,                                                                \
             POINT(ms),                                                                            \
             .min = 1e-6,                                                                          \
             .max = 1e7,                                                                           \
             .unit = "ms",                                                                         \
             .help = "time of " of " at batch 1",                                                  \
             .flags = MOE_PARAM_REQUIRED},                                                         \
            {0},                                                                                   \
    }

static const struct moe_param expert_table[] = POINT_TABLE("expert_bytes", "one expert");
static const struct moe_param dense_table[] = POINT_TABLE("bytes", "a layer or the head");

static int compare_points(const void *a, const void *b)
{
    const struct moe_ffn_point *p = a, *q = b;
    if (p->threads != q->threads)
        return p->threads < q->threads ? -1 : 1;
    if (p->expert_bytes != q->expert_bytes)
        return p->expert_bytes < q->expert_bytes ? -1 : 1;
    return 0;
}

static enum moe_status read_point(const struct moe_yaml *item, const struct moe_param *table,
                                  struct moe_ffn_point *out, struct moe_err *err)
{
    struct point_text text;
    if (item->kind != MOE_YAML_MAP)
        return moe_yaml_fail(item, err, "a point is a mapping {threads, %s, ms}", table[1].name);
    enum moe_status s = moe_yaml_check_keys(item, table, NULL, 0, err);
    if (!s)
        s = moe_yaml_bind(item, table, &text, err);
    if (!s)
        *out = (struct moe_ffn_point){(uint32_t)text.threads, text.bytes, text.ms};
    return s;
}

static enum moe_status read_points(const struct moe_yaml *node, const struct moe_param *table,
                                   struct moe_ffn_point *point, uint32_t *n, struct moe_err *err)
{
    const struct moe_yaml *list;
    enum moe_status s = moe_yaml_constant(node, "ms", &list, err);
    if (s)
        return s;
    if (list->kind != MOE_YAML_LIST || list->n == 0 || list->n > MOE_MAX_FFN_POINTS)
        return moe_yaml_fail(list, err, "%s needs a list of 1 to %d points",
                             table == expert_table ? "expert_ffn" : "dense",
                             (int)MOE_MAX_FFN_POINTS);
    for (size_t i = 0; !s && i < list->n; i++)
        s = read_point(list->item[i], table, &point[i], err);
    if (s)
        return s;
    *n = (uint32_t)list->n;
    qsort(point, list->n, sizeof *point, compare_points);
    for (size_t i = 1; i < list->n; i++)
        if (!compare_points(&point[i - 1], &point[i]))
            return moe_yaml_fail(list, err, "two points for %u thread%s and %llu bytes",
                                 point[i].threads, moe_plural(point[i].threads),
                                 (unsigned long long)point[i].expert_bytes);
    return MOE_OK;
}

static enum moe_status read_lists(const struct moe_yaml *cpu, struct moe_platform *p,
                                  struct moe_err *err)
{
    const struct moe_yaml *experts = moe_yaml_get(cpu, "expert_ffn");
    const struct moe_yaml *dense = moe_yaml_get(cpu, "dense");
    if (!experts)
        return moe_yaml_fail(cpu, err, "missing key 'expert_ffn'");
    enum moe_status s = read_points(experts, expert_table, p->cpu.point, &p->cpu.n_points, err);
    return s || !dense ? s : read_points(dense, dense_table, p->cpu.dense, &p->cpu.n_dense, err);
}

static bool says_no_gpu(const struct moe_yaml *root)
{
    const struct moe_yaml *gpu = moe_yaml_get(root, "gpu");
    return gpu && gpu->kind == MOE_YAML_SCALAR && strcmp(gpu->text, "none") == 0;
}

static enum moe_status read_section(const struct moe_yaml *root,
                                    const struct moe_platform_section *section,
                                    struct moe_platform *p, struct moe_err *err)
{
    static const char *const list_keys[] = {"expert_ffn", "dense"};
    const struct moe_yaml *map = moe_yaml_get(root, section->name);
    const struct moe_param *table = section->table;
    if (says_no_gpu(root)) {
        if (p->memory == MOE_MEMORY_UNIFIED)
            return moe_yaml_fail(root, err,
                                 "'memory: unified' needs a GPU, but the file says 'gpu: none'");
        table = moe_platform_table(&(struct moe_platform){0}, section);
        if (table == NULL && map && section->table == link_table)
            return moe_yaml_fail(map, err,
                                 "section 'link' needs a GPU, but the file says 'gpu: none'");
        if (table == NULL)
            return MOE_OK;
    }
    if (!map)
        return moe_yaml_fail(root, err, "missing section '%s'", section->name);
    if (map->kind != MOE_YAML_MAP)
        return moe_yaml_fail(map, err, "section '%s' is not a mapping%s", section->name,
                             table == gpu_table ? " (a computer without one: 'gpu: none')" : "");
    bool cpu = table == cpu_table;
    enum moe_status s = moe_yaml_check_keys(map, table, list_keys, cpu ? 2 : 0, err);
    if (!s)
        s = moe_yaml_bind(map, table, p, err);
    return !s && cpu ? read_lists(map, p, err) : s;
}

static enum moe_status read_root(const struct moe_yaml *root, struct moe_platform *p,
                                 struct moe_err *err)
{
    const char *names[N_SECTIONS];
    for (size_t i = 0; i < N_SECTIONS; i++)
        names[i] = moe_platform_sections[i].name;
    if (root->kind != MOE_YAML_MAP)
        return moe_yaml_fail(root, err, "a platform is a mapping of sections");
    enum moe_status s = moe_yaml_check_keys(root, head_table, names, N_SECTIONS, err);
    if (!s)
        s = moe_yaml_bind(root, head_table, p, err);
    for (size_t i = 0; !s && i < N_SECTIONS; i++)
        s = read_section(root, &moe_platform_sections[i], p, err);
    return s;
}

/* Frees root. */
static enum moe_status read_tree(struct moe_yaml *root, struct moe_platform *out,
                                 struct moe_err *err)
{
    struct moe_platform p = {0};
    enum moe_status s = read_root(root, &p, err);
    moe_yaml_free(root);
    if (!s)
        *out = p;
    return s;
}

enum moe_status moe_platform_load(const char *path, struct moe_platform *out, struct moe_err *err)
{
    struct moe_yaml *root;
    enum moe_status s = moe_yaml_load(path, &root, err);
    return s ? s : read_tree(root, out, err);
}

enum moe_status moe_platform_parse(const char *name, const void *data, size_t size,
                                   struct moe_platform *out, struct moe_err *err)
{
    struct moe_yaml *root;
    enum moe_status s = moe_yaml_parse(name, data, size, &root, err);
    return s ? s : read_tree(root, out, err);
}

enum moe_status moe_platform_set(struct moe_platform *platform, const char *key, const char *text,
                                 struct moe_err *err)
{
    const char *names[N_SECTIONS];
    size_t length = strcspn(key, ".");
    if (strcmp(key, "memory") == 0)
        return moe_params_set(head_table, platform, key, text, err);
    for (size_t i = 0; i < N_SECTIONS; i++) {
        names[i] = moe_platform_sections[i].name;
        if (key[length] != '.' || strlen(names[i]) != length || strncmp(key, names[i], length) != 0)
            continue;
        const struct moe_param *table = moe_platform_table(platform, &moe_platform_sections[i]);
        if (!table)
            return moe_fail(err, MOE_ERR_USAGE,
                            "platform constant '%s': platform '%s' says 'gpu: none'", key,
                            platform->name);
        return moe_params_set(table, platform, key + length + 1, text, err);
    }
    char section[32];
    snprintf(section, sizeof section, "%.*s", (int)(length < 31 ? length : 31), key);
    const char *near = moe_nearest_name(section, names, N_SECTIONS);
    return moe_fail(err, MOE_ERR_USAGE, "unknown platform constant '%s' (did you mean '%s.%s'?)",
                    key, near ? near : "link", key[length] ? key + length + 1 : "KEY");
}

static double point_gb_per_s(const struct moe_ffn_point *p)
{
    return (double)p->expert_bytes / (p->ms * 1e6);
}

/* Bandwidth for weights of so many bytes; p[0..n): points of one thread count, sorted by bytes. */
static double at_size(const struct moe_ffn_point *p, uint32_t n, uint64_t bytes)
{
    uint32_t above = 0;
    while (above < n && p[above].expert_bytes < bytes)
        above++;
    if (above == n)
        return point_gb_per_s(&p[n - 1]);
    if (above == 0 || p[above].expert_bytes == bytes)
        return point_gb_per_s(&p[above]);
    const struct moe_ffn_point *a = &p[above - 1], *b = &p[above];
    double share = log((double)bytes / (double)a->expert_bytes) /
                   log((double)b->expert_bytes / (double)a->expert_bytes);
    return point_gb_per_s(a) + share * (point_gb_per_s(b) - point_gb_per_s(a));
}

static uint32_t group_end(const struct moe_ffn_point *point, uint32_t n, uint32_t first)
{
    uint32_t i = first;
    while (i < n && point[i].threads == point[first].threads)
        i++;
    return i;
}

static double at_threads(const struct moe_ffn_point *point, uint32_t n, uint64_t threads,
                         uint64_t bytes)
{
    double below = 0, below_threads = 0;
    for (uint32_t i = 0; i < n;) {
        uint32_t end = group_end(point, n, i);
        double speed = at_size(&point[i], end - i, bytes), count = point[i].threads;
        if (point[i].threads == threads || (point[i].threads > threads && i == 0))
            return speed;
        if (point[i].threads > threads)
            return below +
                   ((double)threads - below_threads) / (count - below_threads) * (speed - below);
        below = speed;
        below_threads = count;
        i = end;
    }
    return below;
}

static uint64_t at_most_cores(const struct moe_platform *platform, uint64_t threads)
{
    return threads < platform->cpu.cores ? threads : platform->cpu.cores;
}

double moe_platform_expert_gb_per_s(const struct moe_platform *platform, uint64_t threads,
                                    uint64_t expert_bytes)
{
    return at_threads(platform->cpu.point, platform->cpu.n_points, at_most_cores(platform, threads),
                      expert_bytes);
}

double moe_platform_dense_gb_per_s(const struct moe_platform *platform, uint64_t threads,
                                   uint64_t bytes)
{
    if (!platform->cpu.n_dense)
        return moe_platform_expert_gb_per_s(platform, threads, bytes);
    return at_threads(platform->cpu.dense, platform->cpu.n_dense, at_most_cores(platform, threads),
                      bytes);
}
