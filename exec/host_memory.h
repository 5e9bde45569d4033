/* The memory of the `host` device: an arena in place of device memory, and pinned memory. It tracks
 * what is allocated, so that accesses outside are detected as they would be on a GPU. Any thread
 * may call. */
#ifndef MOELAB_EXEC_HOST_MEMORY_H
#define MOELAB_EXEC_HOST_MEMORY_H

#include "exec/device.h"

#include <pthread.h>

enum { MOE_HOST_ALIGNMENT = 256 }; /* of every allocation, as CUDA's */

struct moe_host_block {
    uintptr_t at;
    uint64_t bytes;
};

/* Allocated blocks, sorted by address. */
struct moe_host_blocks {
    struct moe_host_block *list;
    size_t n, room;
};

struct moe_host_memory {
    pthread_mutex_t lock;
    char *arena;
    uint64_t arena_bytes, used_bytes; /* of the arena, alignment included */
    struct moe_host_blocks device, pinned;
};

/* Reserves the arena; its pages exist once they are touched. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_host_memory_init(struct moe_host_memory *memory, uint64_t bytes,
                                     struct moe_err *err);
void moe_host_memory_release(struct moe_host_memory *memory); /* and everything allocated in it */

/* First fit. Errors: MOE_ERR_MEMORY naming kind, size, what is free and out of how much. */
enum moe_status moe_host_memory_alloc(struct moe_host_memory *memory, enum moe_memory kind,
                                      uint64_t bytes, void **out, struct moe_err *err);

/* false: `at` is not the start of an allocation, and nothing was done. */
bool moe_host_memory_free(struct moe_host_memory *memory, enum moe_memory kind, void *at);
uint64_t moe_host_memory_left(struct moe_host_memory *memory); /* of the arena */

/* Do all of the bytes lie in one allocation? Always true for pageable memory, which is not tracked.
 */
bool moe_host_memory_holds(struct moe_host_memory *memory, enum moe_memory kind, const void *at,
                           uint64_t bytes);

#endif
