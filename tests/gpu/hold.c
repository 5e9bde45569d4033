/* Allocates all but a given number of MiB of a CUDA device's memory, prints that it has, and holds
 * it until its standard input ends. Stands for another process in tests of full devices. */
#include "base/units.h"
#include "exec/device.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    uint64_t leave = 0;
    void *memory = NULL;
    if (argc != 2 || moe_parse_u64(argv[1], 0, 1 << 20, &leave, &err) ||
        moe_device_open(&device, &(struct moe_device_options){.spec = "cuda"}, &err)) {
        fprintf(stderr, "gpu_hold MIB_TO_LEAVE: %s\n", err.text);
        return 1;
    }
    const uint64_t left = device->ops->free_bytes(device);
    leave <<= 20;
    enum moe_status s = MOE_OK;
    if (left > leave)
        s = device->ops->alloc(device, MOE_MEMORY_DEVICE, left - leave, &memory, &err);
    printf("%s\n", s ? err.text : "holding");
    fflush(stdout);
    while (!s && getchar() != EOF)
        ;
    device->ops->release(device, MOE_MEMORY_DEVICE, memory);
    moe_device_close(device);
    return s != MOE_OK;
}
