/* Many pinned pieces of one size, allocated in blocks of about a GiB: one huge allocation may be
 * refused where several smaller ones are not. */
#ifndef MOELAB_EXEC_PINNED_H
#define MOELAB_EXEC_PINNED_H

#include "exec/device.h"

struct moe_pinned {
    struct moe_device *device;
    void **block;
    uint64_t n_blocks, per_block, item_bytes;
};

/* n (>= 1) pieces of item_bytes (>= 1), one behind the other within a block. device must outlive
 * them. Errors: those of the device, MOE_ERR_INTERRUPTED; nothing stays allocated then. */
enum moe_status moe_pinned_alloc(struct moe_pinned *out, struct moe_device *device, uint64_t n,
                                 uint64_t item_bytes, struct moe_err *err);
void *moe_pinned_at(const struct moe_pinned *pinned, uint64_t i);
void moe_pinned_release(struct moe_pinned *pinned); /* all zero: no-op; leaves it all zero */

#endif
