/* The host's processors: which to use, what they can do, where memory goes, how fast it is read. */
#ifndef MOELAB_EXEC_CPU_H
#define MOELAB_EXEC_CPU_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_CPUS_MAX = 1024 };

/* Logical processors this process may run on, one of each physical core first and then their
 * siblings; nodes alternate so that n threads use all memory channels. Returns how many (>= 1). */
uint32_t moe_cpu_order(uint16_t order[MOE_CPUS_MAX], uint32_t *n_cores, uint32_t *n_nodes);

/* Pins the calling thread; false: not allowed, and nothing changes. */
bool moe_cpu_pin(uint16_t cpu);

/* Pages that this process touches first from now on (mapped weights as well) are spread over all
 * memory nodes. Nothing to do on one node. false: refused by the system. */
bool moe_cpu_interleave_memory(void);

/* Bytes a second at which `threads` pinned threads read `bytes` of memory (heap, touched by the
 * threads that read them; choose far more than the last-level cache) and do nothing with them but a
 * sum; best of `repeats`. Widest loads of the machine. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_cpu_read_rate(uint32_t threads, uint64_t bytes, uint32_t repeats, double *out,
                                  struct moe_err *err);

/* Size of the last-level cache in bytes, as the system tells; 0: unknown. */
uint64_t moe_cpu_cache_bytes(void);

#endif
