/* The host's processors: which of them to use, pinning threads to them, spreading memory over
 * nodes, and reading it at full speed. */
#ifndef MOELAB_EXEC_CPU_H
#define MOELAB_EXEC_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_CPUS_MAX = 1024 };

/* Lists the logical processors that this process may run on: first one of each physical core, then
 * their siblings. Nodes alternate, so that the first n use the memory channels of all nodes.
 * Returns how many there are (>= 1). *n_cores: physical cores, or as many as a container's quota
 * can keep busy, if that is less. */
uint32_t moe_cpu_order(uint16_t order[MOE_CPUS_MAX], uint32_t *n_cores, uint32_t *n_nodes);

/* The same for n (1..MOE_CPUS_MAX) processors, whose cores and nodes are read from the files under
 * `sysfs` ("/sys/devices/system"). Where these are missing, every processor is a core and all are
 * on one node. The quota is not considered. */
uint32_t moe_cpu_order_of(const char *sysfs, const uint16_t *cpus, uint32_t n,
                          uint16_t order[MOE_CPUS_MAX], uint32_t *n_cores, uint32_t *n_nodes);

/* How many processors the CPU quota of the control groups can keep busy, at least 1; UINT32_MAX: no
 * quota. With more threads all would be stopped most of the time, although the process sees every
 * processor. The least of two quotas: that of the folder of control groups itself (`cgroups`,
 * "/sys/fs/cgroup"; version 1 or 2), which in a container is the container's own, and that of the
 * groups that this process is in (`proc`, "/proc"; version 2). */
uint32_t moe_cpu_quota(const char *proc, const char *cgroups);

/* Pins the calling thread; false: not allowed, and nothing changes. */
bool moe_cpu_pin(uint16_t cpu);

/* Moves the calling thread to the processor, then restores its affinity. false: not allowed. */
bool moe_cpu_visit(uint16_t cpu);

/* From now on, pages first touched by this thread and those it starts later (mapped weights as
 * well) are spread over all memory nodes. Does nothing on a single node. false: refused by the
 * system. */
bool moe_cpu_interleave_memory(void);

/* Reads all bytes as fast as one thread of this machine can and returns their exclusive or (in some
 * grouping): the rate that kernels are measured against. */
uint64_t moe_cpu_read(const void *p, uint64_t bytes);

/* Size of the last-level cache in bytes, as the system tells; 0: unknown. */
uint64_t moe_cpu_cache_bytes(void);

#endif
