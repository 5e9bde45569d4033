/* How much memory may be pinned: what Linux says is available, what the control groups of this
 * process leave, and `ulimit -l`. */
#ifndef MOELAB_EXEC_MEMORY_LIMITS_H
#define MOELAB_EXEC_MEMORY_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes; UINT64_MAX: no limit, or the system does not tell. */
struct moe_memory_limits {
    uint64_t available; /* MemAvailable of /proc/meminfo */
    uint64_t cgroup;    /* least of limit - use over this process's groups; file pages that can be
                           dropped do not count as used */
    uint64_t locked; /* RLIMIT_MEMLOCK, for messages only: it limits mlock, but not the drivers of
                        GPUs, which lock pages themselves */
};

void moe_memory_limits_read(struct moe_memory_limits *out);

/* The same from another /proc and another folder of control groups (/sys/fs/cgroup); locked is the
 * process's own. */
void moe_memory_limits_read_of(const char *proc, const char *cgroups,
                               struct moe_memory_limits *out);

/* Bytes that may be pinned: at most `most`; with most 0, nine tenths of what is left. *which: the
 * limit that decides, in words. */
uint64_t moe_memory_pinnable(const struct moe_memory_limits *limits, uint64_t most,
                             const char **which);

/* "available memory: 23.0 GiB, cgroup: 15.2 GiB, ulimit -l: no limit" into buf; returns buf. */
const char *moe_memory_limits_format(const struct moe_memory_limits *limits, char *buf,
                                     size_t size);

/* Parsing of NUL-terminated texts. false: the text does not contain it, and *out is unchanged. */

/* MemAvailable in bytes. Source: Linux, Documentation/filesystems/proc.rst. */
bool moe_meminfo_available(const char *text, uint64_t *out);

/* A limit or a use: a number, or "max" (UINT64_MAX). Version 1 has numbers only, and a number
 * larger than any memory for no limit. Source: Linux, Documentation/admin-guide/cgroup-v2.rst. */
bool moe_cgroup_number(const char *text, uint64_t *out);

/* The line "KEY NUMBER" of a memory.stat. */
bool moe_cgroup_stat(const char *text, const char *key, uint64_t *out);

/* This process's group in /proc/self/cgroup: of the memory controller in version 1 (v1 true), or of
 * the one hierarchy of version 2. A path from the hierarchy's root with a leading '/'; false also
 * when it does not fit or has ".." in it. */
bool moe_cgroup_path(const char *text, bool v1, char *out, size_t size);

#endif
