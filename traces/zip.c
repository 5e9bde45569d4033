#include "traces/zip.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Sizes and signatures of the records: PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12, 4.3.16. */
enum { STORED = 0, DEFLATED = 8, DEFLATE_MOST = 1032 }; /* most bytes out of one: zlib's manual */
enum { LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, MAX_COMMENT = 65535 };
enum { LOCAL_MAGIC = 0x04034b50, CENTRAL_MAGIC = 0x02014b50, END_MAGIC = 0x06054b50 };

struct zip {
    const char *name;
    const unsigned char *data;
    size_t size;
    size_t used; /* bytes of entries so far: their sum cannot pass the file unless they overlap */
};

static uint32_t get(const unsigned char *p, unsigned bytes)
{
    uint32_t value = 0;
    for (unsigned b = 0; b < bytes; b++)
        value |= (uint32_t)p[b] << 8 * b;
    return value;
}

static enum moe_status bad(const struct zip *z, struct moe_err *err, const char *what)
{
    return moe_fail(err, MOE_ERR_INPUT, "'%s': zip: %s", z->name, what);
}

int moe_natural_order(const char *a, const char *b)
{
    const int exact = strcmp(a, b);
    while (*a && *b) {
        size_t na = strspn(a, "0123456789"), nb = strspn(b, "0123456789");
        if (na && nb) {
            size_t za = strspn(a, "0"), zb = strspn(b, "0");
            za = za < na ? za : na;
            zb = zb < nb ? zb : nb;
            if (na - za != nb - zb)
                return na - za < nb - zb ? -1 : 1;
            int order = memcmp(a + za, b + zb, na - za);
            if (order)
                return order;
            a += na;
            b += nb;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    if (*a || *b)
        return *a ? 1 : -1;
    return (exact > 0) - (exact < 0);
}

static int compare_entries(const void *left, const void *right)
{
    return moe_natural_order(((const struct moe_zip_entry *)left)->name,
                             ((const struct moe_zip_entry *)right)->name);
}

static enum moe_status find_end(const struct zip *z, const unsigned char **out, struct moe_err *err)
{
    size_t least = z->size > END_BYTES + MAX_COMMENT ? z->size - END_BYTES - MAX_COMMENT : 0;
    for (size_t i = z->size < END_BYTES ? 0 : z->size - END_BYTES + 1; i > least; i--) {
        const unsigned char *p = z->data + i - 1;
        if (get(p, 4) == END_MAGIC) {
            *out = p;
            return MOE_OK;
        }
    }
    return bad(z, err, "no end record: not a zip file, or cut short");
}

/* Inflates n bytes to exactly entry->size. */
static enum moe_status inflate_entry(const struct zip *z, const unsigned char *data, size_t n,
                                     struct moe_zip_entry *entry, struct moe_err *err)
{
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (uInt)n};
    if (entry->size / DEFLATE_MOST > n)
        return bad(z, err, "an entry promises more bytes than its compressed ones can hold");
    entry->owned = malloc(entry->size + 1);
    if (!entry->owned || inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return moe_fail_memory(err, "a compressed array");
    stream.next_out = (unsigned char *)entry->owned;
    stream.avail_out = (uInt)entry->size;
    int end = inflate(&stream, Z_FINISH);
    size_t left = stream.avail_out;
    inflateEnd(&stream);
    entry->data = entry->owned;
    return end == Z_STREAM_END && left == 0
               ? MOE_OK
               : bad(z, err, "a compressed entry is broken, or not of the promised size");
}

/* The bytes of one entry, from its central record. */
static enum moe_status read_entry(struct zip *z, const unsigned char *central,
                                  struct moe_zip_entry *entry, struct moe_err *err)
{
    uint32_t flags = get(central + 8, 2), method = get(central + 10, 2);
    uint32_t packed = get(central + 20, 4), size = get(central + 24, 4), at = get(central + 42, 4);
    if ((method != STORED && method != DEFLATED) || flags & 1)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "'%s': an entry is encrypted or packed in another way than np.savez and "
                        "np.savez_compressed do",
                        z->name);
    if (packed == UINT32_MAX || size == UINT32_MAX || at == UINT32_MAX)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "'%s': zip entries over 4 GiB: save a folder of .npy files", z->name);
    if (at > z->size || z->size - at < LOCAL_BYTES || get(z->data + at, 4) != LOCAL_MAGIC)
        return bad(z, err, "an entry has no local header");
    size_t start = (size_t)at + LOCAL_BYTES + get(z->data + at + 26, 2) + get(z->data + at + 28, 2);
    if (start > z->size || packed > z->size - start || packed > z->size - z->used ||
        (method == STORED && packed != size))
        return bad(z, err, "an entry lies outside the file, or entries overlap");
    z->used += packed;
    entry->data = (const char *)z->data + start;
    entry->size = size;
    enum moe_status status =
        method == DEFLATED ? inflate_entry(z, z->data + start, packed, entry, err) : MOE_OK;
    if (status == MOE_OK &&
        crc32_z(0, (const unsigned char *)entry->data, size) != get(central + 16, 4))
        return bad(z, err, "CRC of an entry does not match its bytes");
    return status;
}

static enum moe_status read_name(const struct zip *z, const unsigned char *central, size_t length,
                                 struct moe_zip_entry *entry, struct moe_err *err)
{
    if (length == 0 || length >= sizeof entry->name || memchr(central + CENTRAL_BYTES, 0, length))
        return bad(z, err, "name of an entry is empty, over 127 bytes or holds a NUL byte");
    memcpy(entry->name, central + CENTRAL_BYTES, length);
    entry->name[length] = '\0';
    return MOE_OK;
}

static enum moe_status read_directory(struct zip *z, const unsigned char *end,
                                      struct moe_zip_entry *entries, size_t n, struct moe_err *err)
{
    size_t at = get(end + 16, 4), limit = (size_t)(end - z->data);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *c = z->data + at;
        if (at > limit || limit - at < CENTRAL_BYTES || get(c, 4) != CENTRAL_MAGIC)
            return bad(z, err, "directory is cut short");
        size_t length = get(c + 28, 2);
        size_t record = CENTRAL_BYTES + length + get(c + 30, 2) + get(c + 32, 2);
        if (record > limit - at)
            return bad(z, err, "directory is cut short");
        enum moe_status status = read_name(z, c, length, &entries[i], err);
        if (status == MOE_OK)
            status = read_entry(z, c, &entries[i], err);
        if (status != MOE_OK)
            return status;
        at += record;
    }
    return MOE_OK;
}

void moe_zip_release(struct moe_zip_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(entries[i].owned);
    free(entries);
}

enum moe_status moe_zip_list(const char *name, const char *data, size_t size,
                             struct moe_zip_entry **out, size_t *n, struct moe_err *err)
{
    struct zip z = {.name = name, .data = (const unsigned char *)data, .size = size};
    const unsigned char *end = NULL;
    enum moe_status status = find_end(&z, &end, err);
    if (status != MOE_OK)
        return status;
    size_t count = get(end + 10, 2);
    if (get(end + 4, 2) || get(end + 6, 2) || get(end + 8, 2) != count || count == 0xffff)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "'%s': zip of several disks or over 65534 files",
                        name);
    struct moe_zip_entry *entries = calloc(count ? count : 1, sizeof *entries);
    if (!entries)
        return moe_fail_memory(err, "a zip directory");
    status = read_directory(&z, end, entries, count, err);
    if (status != MOE_OK) {
        moe_zip_release(entries, count);
        return status;
    }
    qsort(entries, count, sizeof *entries, compare_entries);
    *out = entries;
    *n = count;
    return MOE_OK;
}
