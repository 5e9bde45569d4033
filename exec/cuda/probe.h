/* The CUDA side of exec/device_list.h. Plain C, so that device.c needs no CUDA header. */
#ifndef MOELAB_EXEC_CUDA_PROBE_H
#define MOELAB_EXEC_CUDA_PROBE_H

#include "exec/device_list.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes at most room devices to out (links are left 0) and returns how many. When that is none,
 * reason says why in size bytes. */
size_t moe_cuda_probe(struct moe_device_info *out, size_t room, char *reason, size_t size);

#ifdef __cplusplus
}
#endif

#endif
