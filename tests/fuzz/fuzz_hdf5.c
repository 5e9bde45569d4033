/* Damaged HDF5 traces: the input is a list of changes (offset of two bytes, little endian, and the
 * bits to flip) in a valid file, which then is opened, streamed and loaded whole. */
#include "tests/unit/hdf5_traces.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* HDF5 1.10 itself loses some memory when it refuses a damaged object header. */
const char *__lsan_default_suppressions(void); /* NOLINT: the sanitizer's name for it */
const char *__lsan_default_suppressions(void)  /* NOLINT */
{
    return "leak:libhdf5";
}

enum { IMAGE_MAX = 1 << 16 };

/* HDF5 wants a real path: one file for all inputs, gone at the end. */
static char folder[256], path[300];

static void clean_up(void)
{
    remove_folder(folder);
}

static void put(const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0)
        abort();
}

/* A small valid trace, as it stands on the disk. */
static size_t make_image(uint8_t *image)
{
    struct moe_trace x = make_trace(2, 8, 2, 3, 9, ALL_PARTS, 1);
    temporary_folder(folder, sizeof folder);
    atexit(clean_up);
    snprintf(path, sizeof path, "%s/x.h5", folder);
    if (moe_trace_save(path, &x, NULL))
        abort();
    int fd = open(path, O_RDONLY);
    ssize_t size = read(fd, image, IMAGE_MAX);
    if (size <= 0 || close(fd) != 0)
        abort();
    moe_trace_release(&x);
    return (size_t)size;
}

static enum moe_status stream(void)
{
    struct moe_reader *r;
    struct moe_err err;
    const struct moe_tokens *b = NULL;
    enum moe_status status = moe_reader_open(&r, path, &err);
    if (status)
        return status;
    do
        status = moe_reader_next(r, ALL_PARTS, &b, &err);
    while (!status && b);
    moe_reader_close(r);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t image[IMAGE_MAX];
    static size_t image_size;
    if (!image_size)
        image_size = make_image(image);
    uint8_t *copy = malloc(image_size);
    struct moe_trace x;
    memcpy(copy, image, image_size);
    for (size_t i = 0; i + 3 <= size; i += 3)
        copy[(data[i] | (size_t)data[i + 1] << 8) % image_size] ^= data[i + 2];
    put(copy, image_size);
    free(copy);
    enum moe_status streamed = stream();
    enum moe_status loaded = moe_trace_load(path, ALL_PARTS, &x, NULL);
    if (!loaded)
        moe_trace_release(&x);
    if (!loaded && streamed) /* the other way round it may be: labels are only loaded */
        abort();
    if (size < 3 && loaded) /* nothing was changed */
        abort();
    return 0;
}
