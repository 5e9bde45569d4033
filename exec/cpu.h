/* The host's processors: which to use, where memory goes, reading it as fast as it goes. */
#ifndef MOELAB_EXEC_CPU_H
#define MOELAB_EXEC_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_CPUS_MAX = 1024 };

/* Logical processors this process may run on, one of each physical core first and then their
 * siblings; nodes alternate so that n threads use all memory channels. Returns how many (>= 1).
 * *n_cores: physical cores, or as many as a container may keep busy. */
uint32_t moe_cpu_order(uint16_t order[MOE_CPUS_MAX], uint32_t *n_cores, uint32_t *n_nodes);

/* The same for n (1..MOE_CPUS_MAX) processors as the files under `sysfs` tell
 * ("/sys/devices/system"); what they do not tell: every processor is a core, all on one node. */
uint32_t moe_cpu_order_of(const char *sysfs, const uint16_t *cpus, uint32_t n,
                          uint16_t order[MOE_CPUS_MAX], uint32_t *n_cores, uint32_t *n_nodes);

/* Processors that a quota of time keeps busy, at least 1; UINT32_MAX: no quota. It is that of the
 * folder of control groups (`cgroups`, "/sys/fs/cgroup"; either version), which in a container is
 * the container's own, and of the groups that this process is in (`proc`, "/proc"; version 2). More
 * threads than that would all be stopped for most of the time, though every processor is seen. */
uint32_t moe_cpu_quota(const char *proc, const char *cgroups);

/* Pins the calling thread; false: not allowed, and nothing changes. */
bool moe_cpu_pin(uint16_t cpu);

/* Moves the calling thread to the processor and leaves it as free as it was. */
bool moe_cpu_visit(uint16_t cpu);

/* Pages that this thread, and those it starts later, touch first from now on (mapped weights as
 * well) are spread over all memory nodes. Nothing to do on one node. false: refused by the system.
 */
bool moe_cpu_interleave_memory(void);

/* Reads all bytes as fast as one thread of this machine can and returns their exclusive or (in some
 * grouping): the rate that kernels are measured against. */
uint64_t moe_cpu_read(const void *p, uint64_t bytes);

/* Size of the last-level cache in bytes, as the system tells; 0: unknown. */
uint64_t moe_cpu_cache_bytes(void);

#endif
