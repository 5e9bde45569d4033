#include "exec/host_memory.h"

#include "base/units.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *map(uint64_t bytes, int flags)
{
    if (bytes > SIZE_MAX)
        return NULL;
    void *at = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

enum moe_status moe_host_memory_init(struct moe_host_memory *memory, uint64_t bytes,
                                     struct moe_err *err)
{
    char text[32];
    *memory = (struct moe_host_memory){.arena_bytes = bytes};
    memory->arena = map(bytes, MAP_NORESERVE);
    if (!memory->arena)
        return moe_fail(err, MOE_ERR_MEMORY,
                        "device 'host': cannot reserve memory_bytes %" PRIu64
                        " (%s): choose a smaller size",
                        bytes, moe_format_bytes(bytes, text, sizeof text));
    pthread_mutex_init(&memory->lock, NULL);
    return MOE_OK;
}

void moe_host_memory_release(struct moe_host_memory *memory)
{
    if (!memory->arena)
        return;
    munmap(memory->arena, (size_t)memory->arena_bytes);
    for (size_t i = 0; i < memory->pinned.n; i++) {
        const struct moe_host_block *block = &memory->pinned.list[i];
        munmap((void *)block->at, (size_t)block->bytes);
    }
    free(memory->device.list);
    free(memory->pinned.list);
    pthread_mutex_destroy(&memory->lock);
}

/* The number of blocks that begin at or below the address. */
static size_t blocks_until(const struct moe_host_blocks *blocks, uintptr_t at)
{
    size_t low = 0, high = blocks->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (blocks->list[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool make_room(struct moe_host_blocks *blocks)
{
    if (blocks->n < blocks->room)
        return true;
    const size_t room = blocks->room ? 2 * blocks->room : 64;
    struct moe_host_block *list = realloc(blocks->list, room * sizeof *list);
    if (!list)
        return false;
    blocks->list = list;
    blocks->room = room;
    return true;
}

static void insert(struct moe_host_blocks *blocks, size_t i, struct moe_host_block block)
{
    memmove(blocks->list + i + 1, blocks->list + i, (blocks->n - i) * sizeof *blocks->list);
    blocks->list[i] = block;
    blocks->n++;
}

/* Bytes of the arena that a block of `bytes` takes; bytes is at most the arena's size. */
static uint64_t footprint(uint64_t bytes)
{
    const uint64_t units = (bytes + MOE_HOST_ALIGNMENT - 1) / MOE_HOST_ALIGNMENT;
    return (units ? units : 1) * MOE_HOST_ALIGNMENT;
}

/* Finds the first gap of at least `need` bytes: it begins at *at and lies before block *i. false:
 * there is none, *largest is the size of the largest gap. */
static bool find_gap(const struct moe_host_memory *memory, uint64_t need, size_t *i, uintptr_t *at,
                     uint64_t *largest)
{
    const uintptr_t base = (uintptr_t)memory->arena;
    *largest = 0;
    *at = base;
    for (*i = 0; *i <= memory->device.n; ++*i) {
        const struct moe_host_block *next = memory->device.list + *i;
        const uint64_t gap = (*i < memory->device.n ? next->at : base + memory->arena_bytes) - *at;
        if (gap >= need)
            return true;
        *largest = gap > *largest ? gap : *largest;
        if (*i < memory->device.n)
            *at = next->at + footprint(next->bytes);
    }
    return false;
}

static enum moe_status alloc_device(struct moe_host_memory *memory, uint64_t bytes, void **out,
                                    struct moe_err *err)
{
    const uint64_t need = bytes <= memory->arena_bytes ? footprint(bytes) : bytes;
    uint64_t largest;
    uintptr_t at;
    size_t i;
    if (!make_room(&memory->device))
        return moe_fail_memory(err, "the list of allocations");
    if (!find_gap(memory, need, &i, &at, &largest)) {
        char size[32], left[32], all[32], piece[32];
        return moe_fail(
            err, MOE_ERR_MEMORY,
            "out of device memory for %s: %s of %s are free, at most %s in one piece; "
            "keep fewer experts on the device, or give it a larger memory_bytes",
            moe_format_bytes(bytes, size, sizeof size),
            moe_format_bytes(memory->arena_bytes - memory->used_bytes, left, sizeof left),
            moe_format_bytes(memory->arena_bytes, all, sizeof all),
            moe_format_bytes(largest, piece, sizeof piece));
    }
    insert(&memory->device, i, (struct moe_host_block){at, bytes});
    memory->used_bytes += need;
    *out = (void *)at;
    return MOE_OK;
}

/* Faults in the pages of a block now, as memory of a card exists once it is allocated. Otherwise
 * the first copy into each page would fault and take three times as long. Only if the block fits
 * into free memory: an arena may be larger than the machine's memory, and most of a block may never
 * be used. */
static void populate(const void *at, uint64_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = (uintptr_t)at / page * page, to = (uintptr_t)at + (uintptr_t)bytes;
    if (bytes / page < (uint64_t)sysconf(_SC_AVPHYS_PAGES))
        (void)madvise((void *)from, to - from, MADV_POPULATE_WRITE); /* fails before Linux 5.14 */
#else
    (void)at;
    (void)bytes;
#endif
}

static enum moe_status alloc_pinned(struct moe_host_memory *memory, uint64_t bytes, void **out,
                                    struct moe_err *err)
{
    char size[32];
    if (!make_room(&memory->pinned))
        return moe_fail_memory(err, "the list of allocations");
    void *at = map(bytes ? bytes : 1, 0);
    if (!at)
        return moe_fail(err, MOE_ERR_MEMORY,
                        "out of pinned memory for %s: the system gives no more (for device `host`, "
                        "pinned memory is ordinary memory)",
                        moe_format_bytes(bytes, size, sizeof size));
    const struct moe_host_block block = {(uintptr_t)at, bytes ? bytes : 1};
    insert(&memory->pinned, blocks_until(&memory->pinned, block.at), block);
    *out = at;
    return MOE_OK;
}

enum moe_status moe_host_memory_alloc(struct moe_host_memory *memory, enum moe_memory kind,
                                      uint64_t bytes, void **out, struct moe_err *err)
{
    if (kind == MOE_MEMORY_PAGEABLE)
        return moe_fail(err, MOE_ERR_USAGE, "pageable memory is not allocated by a device");
    pthread_mutex_lock(&memory->lock);
    enum moe_status s = kind == MOE_MEMORY_DEVICE ? alloc_device(memory, bytes, out, err)
                                                  : alloc_pinned(memory, bytes, out, err);
    pthread_mutex_unlock(&memory->lock);
    if (!s && kind == MOE_MEMORY_DEVICE)
        populate(*out, bytes);
    return s;
}

static struct moe_host_blocks *blocks_of(struct moe_host_memory *memory, enum moe_memory kind)
{
    return kind == MOE_MEMORY_DEVICE ? &memory->device : &memory->pinned;
}

bool moe_host_memory_free(struct moe_host_memory *memory, enum moe_memory kind, void *at)
{
    struct moe_host_blocks *blocks = blocks_of(memory, kind);
    pthread_mutex_lock(&memory->lock);
    const size_t i = blocks_until(blocks, (uintptr_t)at);
    const bool found = i > 0 && blocks->list[i - 1].at == (uintptr_t)at;
    if (found) {
        const uint64_t bytes = blocks->list[i - 1].bytes;
        if (kind == MOE_MEMORY_DEVICE)
            memory->used_bytes -= footprint(bytes);
        else
            munmap(at, (size_t)bytes);
        memmove(blocks->list + i - 1, blocks->list + i, (blocks->n - i) * sizeof *blocks->list);
        blocks->n--;
    }
    pthread_mutex_unlock(&memory->lock);
    return found;
}

uint64_t moe_host_memory_left(struct moe_host_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    const uint64_t left = memory->arena_bytes - memory->used_bytes;
    pthread_mutex_unlock(&memory->lock);
    return left;
}

bool moe_host_memory_holds(struct moe_host_memory *memory, enum moe_memory kind, const void *at,
                           uint64_t bytes)
{
    if (kind == MOE_MEMORY_PAGEABLE)
        return true;
    const struct moe_host_blocks *blocks = blocks_of(memory, kind);
    pthread_mutex_lock(&memory->lock);
    const size_t i = blocks_until(blocks, (uintptr_t)at);
    bool holds = false;
    if (i > 0) {
        const struct moe_host_block *block = &blocks->list[i - 1];
        const uint64_t offset = (uintptr_t)at - block->at;
        holds = offset <= block->bytes && bytes <= block->bytes - offset;
    }
    pthread_mutex_unlock(&memory->lock);
    return holds;
}
