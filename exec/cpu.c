#include "exec/cpu.h"

#include "base/file.h"
#include "exec/memory_limits.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    NODES_MAX = 64,
    STREAMS = 8,         /* pages read side by side, which suits the hardware prefetchers best */
    STREAM_BYTES = 4096, /* a page */
    AHEAD_BYTES = 2048,  /* prefetch distance in a stream, continued in that of the next block;
                            measured on Zen 4: half is no better */
    SET_CPUS = 8192, /* size of an affinity mask: the kernel refuses masks shorter than its own */
};

/* The numbers of a list "0-3,8,10-11", ascending, at most max. */
static uint32_t parse_list(const char *text, uint16_t *out, uint32_t max)
{
    uint32_t n = 0;
    while (*text >= '0' && *text <= '9') {
        char *end;
        const unsigned long first = strtoul(text, &end, 10);
        unsigned long last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        for (unsigned long i = first; i <= last && i < MOE_CPUS_MAX && n < max; i++)
            out[n++] = (uint16_t)i;
        text = *end == ',' ? end + 1 : end;
    }
    return n;
}

/* As parse_list of the file SYSFS/NAME; 0 where there is none. */
static uint32_t read_list(const char *sysfs, const char *name, uint16_t *out, uint32_t max)
{
    char path[512], text[4096];
    const int n = snprintf(path, sizeof path, "%s/%s", sysfs, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    const char *line = fgets(text, sizeof text, f);
    fclose(f);
    return line ? parse_list(text, out, max) : 0;
}

/* A processor, and where it is. */
struct place {
    uint16_t cpu, core, node;
    uint16_t sibling; /* number of processors of its core before it */
    uint16_t turn;    /* number of processors of its node with the same `sibling` before it */
};

static void find_places(const char *sysfs, const uint16_t *cpus, uint32_t n, struct place *place)
{
    uint16_t list[MOE_CPUS_MAX], node_of[MOE_CPUS_MAX] = {0};
    char name[64];
    for (uint32_t node = 0; node < NODES_MAX; node++) {
        snprintf(name, sizeof name, "node/node%" PRIu32 "/cpulist", node);
        const uint32_t in_node = read_list(sysfs, name, list, MOE_CPUS_MAX);
        for (uint32_t i = 0; i < in_node; i++)
            node_of[list[i]] = (uint16_t)node;
    }
    for (uint32_t i = 0; i < n; i++) {
        place[i] = (struct place){.cpu = cpus[i], .core = cpus[i], .node = node_of[cpus[i]]};
        snprintf(name, sizeof name, "cpu/cpu%u/topology/thread_siblings_list", (unsigned)cpus[i]);
        if (read_list(sysfs, name, list, 1)) /* a core is named by its first processor */
            place[i].core = list[0];
        for (uint32_t j = 0; j < i; j++)
            place[i].sibling = (uint16_t)(place[i].sibling + (place[j].core == place[i].core));
        for (uint32_t j = 0; j < i; j++)
            place[i].turn = (uint16_t)(place[i].turn + (place[j].node == place[i].node &&
                                                        place[j].sibling == place[i].sibling));
    }
}

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->sibling != y->sibling)
        return x->sibling < y->sibling ? -1 : 1;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->cpu < y->cpu ? -1 : x->cpu > y->cpu;
}

uint32_t moe_cpu_order_of(const char *sysfs, const uint16_t *cpus, uint32_t n,
                          uint16_t order[MOE_CPUS_MAX], uint32_t *n_cores, uint32_t *n_nodes)
{
    struct place place[MOE_CPUS_MAX];
    bool seen[NODES_MAX] = {false};
    uint32_t cores = 0, nodes = 0;
    find_places(sysfs, cpus, n, place);
    qsort(place, n, sizeof *place, compare_places);
    for (uint32_t i = 0; i < n; i++) {
        order[i] = place[i].cpu;
        cores += place[i].sibling == 0;
        nodes += !seen[place[i].node];
        seen[place[i].node] = true;
    }
    *n_cores = cores;
    *n_nodes = nodes;
    return n;
}

/* The first line of the file, "" where there is none. */
static void read_line(const char *folder, const char *name, char *line, size_t size)
{
    char path[512];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = n >= 0 && (size_t)n < sizeof path ? fopen(path, "r") : NULL;
    if (!f || !fgets(line, (int)size, f))
        line[0] = '\0';
    if (f)
        fclose(f);
}

/* The quota that the files of one control group's folder give. */
static uint32_t quota_in(const char *folder)
{
    char line[64], period[32];
    char *behind = line;
    read_line(folder, "cpu.max", line, sizeof line); /* "QUOTA PERIOD", or "max PERIOD" */
    double quota = strtod(line, &behind), each = strtod(behind, NULL);
    if (!line[0]) {
        read_line(folder, "cpu/cpu.cfs_quota_us", line, sizeof line); /* -1: none */
        read_line(folder, "cpu/cpu.cfs_period_us", period, sizeof period);
        quota = strtod(line, NULL);
        each = strtod(period, NULL);
    }
    if (!(quota > 0 && each > 0) || quota / each >= MOE_CPUS_MAX)
        return UINT32_MAX;
    return quota > each ? (uint32_t)(quota / each) : 1;
}

uint32_t moe_cpu_quota(const char *proc, const char *cgroups)
{
    enum { MOST = 1 << 20 };
    char file[512], group[1024] = "", folder[2048];
    char *list = NULL;
    size_t size;
    uint32_t least = quota_in(cgroups);
    snprintf(file, sizeof file, "%s/self/cgroup", proc);
    if (!moe_file_read(file, MOST, &list, &size, NULL))
        (void)moe_cgroup_path(list, false, group, sizeof group);
    free(list);
    for (char *end; (end = strrchr(group, '/')); *end = '\0') { /* the group, and those above */
        snprintf(folder, sizeof folder, "%s%s", cgroups, group);
        const uint32_t quota = quota_in(folder);
        least = quota < least ? quota : least;
    }
    return least;
}

uint32_t moe_cpu_order(uint16_t order[MOE_CPUS_MAX], uint32_t *n_cores, uint32_t *n_nodes)
{
    static const uint16_t first = 0;
    uint16_t cpus[MOE_CPUS_MAX];
    uint32_t n = 0;
    cpu_set_t set[SET_CPUS / CPU_SETSIZE];
    if (sched_getaffinity(0, sizeof set, set) == 0)
        for (uint32_t i = 0; i < MOE_CPUS_MAX; i++)
            if (CPU_ISSET_S(i, sizeof set, set))
                cpus[n++] = (uint16_t)i;
    n = moe_cpu_order_of("/sys/devices/system", n ? cpus : &first, n ? n : 1, order, n_cores,
                         n_nodes);
    const uint32_t quota = moe_cpu_quota("/proc", "/sys/fs/cgroup");
    *n_cores = *n_cores < quota ? *n_cores : quota;
    return n;
}

bool moe_cpu_pin(uint16_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu >= CPU_SETSIZE)
        return false;
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

bool moe_cpu_visit(uint16_t cpu)
{
    cpu_set_t set[SET_CPUS / CPU_SETSIZE];
    return sched_getaffinity(0, sizeof set, set) == 0 && moe_cpu_pin(cpu) &&
           sched_setaffinity(0, sizeof set, set) == 0;
}

bool moe_cpu_interleave_memory(void)
{
    enum { INTERLEAVE = 3 }; /* MPOL_INTERLEAVE of linux/mempolicy.h */
    uint16_t node[NODES_MAX];
    uint32_t n = read_list("/sys/devices/system", "node/has_memory", node, NODES_MAX);
    unsigned long mask = 0;
    for (uint32_t i = 0; i < n; i++)
        if (node[i] < 8 * sizeof mask)
            mask |= 1ul << node[i];
    if ((mask & (mask - 1)) == 0)
        return true;
    return syscall(SYS_set_mempolicy, INTERLEAVE, &mask, 8 * sizeof mask + 1) == 0;
}

uint64_t moe_cpu_cache_bytes(void)
{
    static const int levels[] = {_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE,
                                 _SC_LEVEL2_CACHE_SIZE};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        const long size = sysconf(levels[i]);
        if (size > 0)
            return (uint64_t)size;
    }
    return 0;
}

typedef uint64_t wide __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) uint64_t read_wide(const uint8_t *p, uint64_t bytes)
{
    wide sum[STREAMS], v;
    const uint64_t block = (uint64_t)STREAMS * STREAM_BYTES;
    memset(sum, 0, sizeof sum);
    for (; bytes >= block; bytes -= block, p += block)
        for (uint64_t i = 0; i < STREAM_BYTES; i += sizeof v) {
            const uint64_t far = i + AHEAD_BYTES,
                           over = far < STREAM_BYTES ? 0 : block - STREAM_BYTES;
            for (uint64_t s = 0; s < STREAMS; s++) {
                /* Into the second-level cache, as few lines of these pages fit into the first. An
                 * integer, as the address may lie beyond the end, where a prefetch does nothing. */
                const uintptr_t next = (uintptr_t)p + s * STREAM_BYTES + far + over;
                __builtin_prefetch((const void *)next, 0, 2); // NOLINT(performance-no-int-to-ptr)
                memcpy(&v, p + s * STREAM_BYTES + i, sizeof v);
                sum[s] ^= v;
            }
        }
    for (; bytes >= sizeof v; bytes -= sizeof v, p += sizeof v) {
        memcpy(&v, p, sizeof v);
        sum[0] ^= v;
    }
    for (uint64_t s = 1; s < STREAMS; s++)
        sum[0] ^= sum[s];
    uint64_t all = 0;
    for (uint64_t i = 0; i < 8; i++)
        all ^= sum[0][i];
    for (; bytes > 0; bytes--)
        all ^= *p++;
    return all;
}

#ifdef __x86_64__
static __attribute__((target("avx512f"))) uint64_t read_avx512(const void *p, uint64_t bytes)
{
    return read_wide(p, bytes);
}

static __attribute__((target("avx2"))) uint64_t read_avx2(const void *p, uint64_t bytes)
{
    return read_wide(p, bytes);
}
#endif

uint64_t moe_cpu_read(const void *p, uint64_t bytes)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        return read_avx512(p, bytes);
    if (__builtin_cpu_supports("avx2"))
        return read_avx2(p, bytes);
#endif
    return read_wide(p, bytes);
}
