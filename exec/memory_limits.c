#include "exec/memory_limits.h"

#include "base/file.h"
#include "base/units.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { PATH_BYTES = 1024, MAX_FILE_BYTES = 1 << 20 };

/* Parses the digits at *text and moves *text behind them. */
static bool take_number(const char **text, uint64_t *out)
{
    uint64_t value = 0;
    const char *p = *text;
    if (!isdigit((unsigned char)*p))
        return false;
    for (; isdigit((unsigned char)*p); p++)
        if (!moe_mul_u64(value, 10, &value) || !moe_add_u64(value, (uint64_t)(*p - '0'), &value))
            return false;
    *text = p;
    *out = value;
    return true;
}

/* The rest of the first line that begins with `key`, or NULL. */
static const char *find_line(const char *text, const char *key)
{
    size_t length = strlen(key);
    for (const char *line = text; *line;) {
        if (strncmp(line, key, length) == 0)
            return line + length;
        const char *end = strchr(line, '\n');
        if (!end)
            break;
        line = end + 1;
    }
    return NULL;
}

bool moe_meminfo_available(const char *text, uint64_t *out)
{
    const char *at = find_line(text, "MemAvailable:");
    uint64_t value;
    if (!at)
        return false;
    at += strspn(at, " \t");
    if (!take_number(&at, &value) || strncmp(at, " kB", 3) != 0 || (at[3] && at[3] != '\n') ||
        !moe_mul_u64(value, 1024, &value))
        return false;
    *out = value;
    return true;
}

bool moe_cgroup_number(const char *text, uint64_t *out)
{
    uint64_t value = UINT64_MAX;
    if (strncmp(text, "max", 3) == 0)
        text += 3;
    else if (!take_number(&text, &value))
        return false;
    if (*text && strcmp(text, "\n") != 0)
        return false;
    *out = value;
    return true;
}

bool moe_cgroup_stat(const char *text, const char *key, uint64_t *out)
{
    char start[64];
    snprintf(start, sizeof start, "%s ", key);
    const char *at = find_line(text, start);
    uint64_t value;
    if (!at || !take_number(&at, &value) || (*at && *at != '\n'))
        return false;
    *out = value;
    return true;
}

/* Whether the comma-separated list [at, end) has the controller "memory". */
static bool has_memory(const char *at, const char *end)
{
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        if (stop - at == 6 && memcmp(at, "memory", 6) == 0)
            return true;
        at = stop + 1;
    }
    return false;
}

/* One line "ID:CONTROLLERS:PATH" of `length` bytes. */
static bool path_of_line(const char *line, size_t length, bool v1, char *out, size_t size)
{
    const char *end = line + length, *list = memchr(line, ':', length);
    const char *path = list ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;
    if (!path)
        return false;
    bool ours =
        v1 ? has_memory(list + 1, path) : list == line + 1 && *line == '0' && path == list + 1;
    size_t n = (size_t)(end - ++path);
    if (!ours || n == 0 || *path != '/' || n >= size)
        return false;
    memcpy(out, path, n);
    out[n] = '\0';
    return true;
}

bool moe_cgroup_path(const char *text, bool v1, char *out, size_t size)
{
    char path[PATH_BYTES];
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        if (path_of_line(line, length, v1, path, sizeof path))
            break;
        path[0] = '\0';
        line += length + (line[length] == '\n');
    }
    if (!*text || !path[0] || strstr(path, "..") || strlen(path) >= size)
        return false;
    snprintf(out, size, "%s", path);
    return true;
}

/* The text of a small file, or NULL. */
static char *read_text(const char *folder, const char *name)
{
    char path[2 * PATH_BYTES];
    char *text = NULL;
    size_t size;
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= sizeof path ||
        moe_file_read(path, MAX_FILE_BYTES, &text, &size, NULL) != MOE_OK)
        return NULL;
    return text;
}

static bool read_number(const char *folder, const char *name, uint64_t *out)
{
    char *text = read_text(folder, name);
    bool told = text && moe_cgroup_number(text, out);
    free(text);
    return told;
}

/* Files of a group, by version. */
struct version {
    bool v1;
    const char *below; /* where its hierarchy is mounted */
    const char *limit, *use, *droppable;
};

static const struct version versions[] = {
    {false, "", "memory.max", "memory.current", "inactive_file"},
    {false, "/unified", "memory.max", "memory.current", "inactive_file"},
    {true, "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"},
};

/* Version 1 says "no limit" with 2^63 - 1, rounded down to whole pages of any size. */
#define NO_LIMIT_FROM (UINT64_C(1) << 62)

/* Bytes that the limit of the group with this folder leaves. */
static uint64_t left_in(const char *folder, const struct version *v)
{
    uint64_t limit, use, droppable = 0;
    if (!read_number(folder, v->limit, &limit) || limit >= NO_LIMIT_FROM ||
        !read_number(folder, v->use, &use))
        return UINT64_MAX;
    char *stat = read_text(folder, "memory.stat");
    if (stat)
        (void)moe_cgroup_stat(stat, v->droppable, &droppable);
    free(stat);
    use -= droppable < use ? droppable : use;
    return limit > use ? limit - use : 0;
}

/* The least that a group and those above it leave. In a container the group's path may not exist
 * below the mount, because its own folder is what is mounted: then that folder counts. */
static uint64_t least_left(const char *mounted, const char *path, const struct version *v)
{
    char folder[2 * PATH_BYTES];
    uint64_t least = UINT64_MAX;
    snprintf(folder, sizeof folder, "%s%s", mounted, path);
    for (size_t root = strlen(mounted);;) {
        uint64_t left = left_in(folder, v);
        least = left < least ? left : least;
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < root)
            return least;
        *slash = '\0';
    }
}

static uint64_t cgroup_left(const char *list, const char *cgroups)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        const struct version *v = &versions[i];
        char mounted[PATH_BYTES], path[PATH_BYTES];
        int n = snprintf(mounted, sizeof mounted, "%s%s", cgroups, v->below);
        if (n < 0 || (size_t)n >= sizeof mounted ||
            !moe_cgroup_path(list, v->v1, path, sizeof path))
            continue;
        uint64_t left = least_left(mounted, path, v);
        least = left < least ? left : least;
    }
    return least;
}

void moe_memory_limits_read_of(const char *proc, const char *cgroups, struct moe_memory_limits *out)
{
    struct moe_memory_limits limits = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    struct rlimit locked;
    char *meminfo = read_text(proc, "meminfo"), *list = read_text(proc, "self/cgroup");
    if (meminfo)
        (void)moe_meminfo_available(meminfo, &limits.available);
    if (list)
        limits.cgroup = cgroup_left(list, cgroups);
    if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY)
        limits.locked = locked.rlim_cur;
    free(meminfo);
    free(list);
    *out = limits;
}

void moe_memory_limits_read(struct moe_memory_limits *out)
{
    moe_memory_limits_read_of("/proc", "/sys/fs/cgroup", out);
}

uint64_t moe_memory_pinnable(const struct moe_memory_limits *limits, uint64_t most,
                             const char **which)
{
    enum { RESERVE = 10 }; /* one part in so many stays for everybody else */
    bool group = limits->cgroup < limits->available;
    uint64_t left = group ? limits->cgroup : limits->available;
    if (most && most < left) {
        *which = "the limit set";
        return most;
    }
    *which = group ? "cgroup" : "available memory";
    return most || left == UINT64_MAX ? left : left - left / RESERVE;
}

/* "3.0 GiB", or "no limit". */
static const char *amount(uint64_t bytes, char *buf, size_t size)
{
    if (bytes == UINT64_MAX)
        snprintf(buf, size, "no limit");
    else
        moe_format_bytes(bytes, buf, size);
    return buf;
}

const char *moe_memory_limits_format(const struct moe_memory_limits *limits, char *buf, size_t size)
{
    char available[32], group[32], locked[32];
    snprintf(buf, size, "available memory: %s, cgroup: %s, ulimit -l: %s",
             amount(limits->available, available, sizeof available),
             amount(limits->cgroup, group, sizeof group),
             amount(limits->locked, locked, sizeof locked));
    return buf;
}
