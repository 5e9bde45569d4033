/* Device specs: what parses has times that fit any clock, and opens or says why not. */
#include "exec/device_host.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_times(const struct moe_host_options *options)
{
    static const uint64_t bytes[] = {0, 1, 1u << 30, UINT64_MAX};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        const struct moe_host_load load = {
            .bytes = bytes[i], .flops = 2.0 * (double)bytes[i], .n_tokens = 2};
        if (moe_host_copy_ns(options, bytes[i], MOE_MEMORY_PAGEABLE) > UINT64_MAX / 2 ||
            moe_host_kernel_ns(options, &load) > UINT64_MAX / 2)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_host_options options;
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    if (moe_host_options_parse(text, &options, NULL) == MOE_OK)
        check_times(&options);
    const struct moe_device_options open = {.spec = text};
    if (moe_device_open(&device, &open, &err) == MOE_OK)
        moe_device_close(device);
    else if (device || !err.text[0])
        abort();
    free(text);
    return 0;
}
