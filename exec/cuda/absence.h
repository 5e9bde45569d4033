/* Why CUDA cannot be used here, in words: for lists of devices and for refusals. Plain C. */
#ifndef MOELAB_EXEC_CUDA_ABSENCE_H
#define MOELAB_EXEC_CUDA_ABSENCE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How many devices there are. When none: 0, with the reason and what to do in size bytes. */
int moe_cuda_count(char *reason, size_t size);

/* "" or why this build cannot run on devices of that compute capability. */
void moe_cuda_too_old(int major, int minor, char *reason, size_t size);

#ifdef __cplusplus
}
#endif

#endif
