/* Compute devices of this machine: what there is, how big it is, and why something is missing.
 *
 * `host` is always there and comes first; CUDA devices follow in the driver's order. The absence of
 * CUDA (not built, no driver, no device) is a normal answer with a reason, never an error. */
#ifndef MOELAB_EXEC_DEVICE_LIST_H
#define MOELAB_EXEC_DEVICE_LIST_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum { MOE_MAX_DEVICES = 17 }; /* the host and 16 others; more are not listed */

enum moe_device_kind { MOE_DEVICE_HOST, MOE_DEVICE_CUDA };

struct moe_device_info {
    enum moe_device_kind kind;
    uint32_t index;        /* the driver's number; 0 for the host */
    char name[256];        /* processor or board, as the system names it; never empty */
    uint64_t memory_bytes; /* all of it, not what is free now; 0: unknown */
    uint32_t cores;        /* host: logical processors online; CUDA: multiprocessors */
    uint32_t sm;           /* CUDA: compute capability, 90 for 9.0; host: 0 */
    char pci[16];          /* CUDA: bus address "0000:01:00.0"; host: "" */
    uint32_t link_lanes;   /* PCIe lanes in use now; 0: unknown */
    double link_gt_per_s;  /* PCIe rate a lane that device and slot can reach (an idle link is
                              clocked down, so not the present one); 0: unknown */
};

struct moe_devices {
    size_t n; /* at least 1 */
    struct moe_device_info device[MOE_MAX_DEVICES];
    char cuda_absent[192]; /* why there is no CUDA device, e.g. "no CUDA driver"; "" if there is */
};

/* Fills the list; takes milliseconds without a CUDA driver, and up to seconds with one (it starts
 * the driver). Cannot fail at present; err is for devices whose absence is an error. */
enum moe_status moe_device_list(struct moe_devices *out, struct moe_err *err);

/* The host alone, without starting a CUDA driver. */
void moe_device_host_info(struct moe_device_info *out);

/* One line "cuda:0 NAME, 16.0 GiB, 76 multiprocessors, sm 89, PCIe 16 GT/s x16" into buf (cut at
 * its end); unknown parts are left out. Returns buf. */
const char *moe_device_describe(const struct moe_device_info *device, char *buf, size_t size);

#endif
