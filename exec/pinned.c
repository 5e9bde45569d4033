#include "exec/pinned.h"

#include "base/progress.h"

#include <stdlib.h>

#define BLOCK_BYTES (UINT64_C(1) << 30)

static enum moe_status fill(struct moe_pinned *p, uint64_t n, struct moe_err *err)
{
    const struct moe_device_ops *ops = p->device->ops;
    enum moe_status s = MOE_OK;
    for (uint64_t done = 0; done < n && !s; done += p->per_block) {
        uint64_t items = n - done < p->per_block ? n - done : p->per_block;
        void **block = &p->block[p->n_blocks];
        if (moe_interrupted())
            return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
        s = ops->alloc(p->device, MOE_MEMORY_PINNED, items * p->item_bytes, block, err);
        p->n_blocks += s == MOE_OK;
    }
    return s;
}

enum moe_status moe_pinned_alloc(struct moe_pinned *out, struct moe_device *device, uint64_t n,
                                 uint64_t item_bytes, struct moe_err *err)
{
    struct moe_pinned p = {.device = device, .item_bytes = item_bytes};
    p.per_block = item_bytes < BLOCK_BYTES ? BLOCK_BYTES / item_bytes : 1;
    p.block = calloc((n + p.per_block - 1) / p.per_block, sizeof *p.block);
    if (!p.block)
        return moe_fail_memory(err, "a list of pinned blocks");
    enum moe_status s = fill(&p, n, err);
    if (s)
        moe_pinned_release(&p);
    else
        *out = p;
    return s;
}

void *moe_pinned_at(const struct moe_pinned *p, uint64_t i)
{
    return (char *)p->block[i / p->per_block] + i % p->per_block * p->item_bytes;
}

void moe_pinned_release(struct moe_pinned *p)
{
    for (uint64_t i = 0; i < p->n_blocks; i++)
        p->device->ops->release(p->device, MOE_MEMORY_PINNED, p->block[i]);
    free(p->block);
    *p = (struct moe_pinned){0};
}
