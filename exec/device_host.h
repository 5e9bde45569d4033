/* The `host` device: streams are threads, device memory is an arena, and the link and the kernels
 * can be slowed down to set speeds. It is the numeric oracle for other devices and stands in for
 * them in every test. */
#ifndef MOELAB_EXEC_DEVICE_HOST_H
#define MOELAB_EXEC_DEVICE_HOST_H

#include "exec/host_options.h"

/* kernels: name of a CPU set, NULL: "auto". Errors: those of moe_kernels_find; MOE_ERR_MEMORY. */
enum moe_status moe_host_open(struct moe_device **out, const struct moe_host_options *options,
                              const char *kernels, struct moe_err *err);

#endif
