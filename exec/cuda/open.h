/* Opens the CUDA device. Plain C, so that exec/device.c needs no CUDA header.
 *
 * Allocating, freeing and closing wait for the whole device, as in CUDA; nothing else does. */
#ifndef MOELAB_EXEC_CUDA_OPEN_H
#define MOELAB_EXEC_CUDA_OPEN_H

#include "exec/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of options, kernels and deterministic count. Errors: MOE_ERR_UNSUPPORTED (no driver, driver too
 * old, no such device, device too old or used exclusively by another process, a kernel set of no
 * fixed order: with what to do), MOE_ERR_USAGE (unknown kernel set), MOE_ERR_MEMORY, MOE_ERR_IO. */
enum moe_status moe_cuda_open(struct moe_device **out, uint32_t index,
                              const struct moe_device_options *options, struct moe_err *err);

#ifdef __cplusplus
}
#endif

#endif
