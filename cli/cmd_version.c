#include "base/version.h"
#include "cli/command.h"
#include "exec/device_list.h"
#include "traces/hdf5.h"

#include <stdio.h>

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    (void)call;
    struct moe_devices devices;
    char line[512];
    enum moe_status s = moe_device_list(&devices, err);
    if (s)
        return s;
    printf("moelab %s\nHDF5 %s\n", MOELAB_VERSION, moe_hdf5_version());
    for (size_t i = 0; i < devices.n; i++)
        printf("device %s\n", moe_device_describe(&devices.device[i], line, sizeof line));
    if (*devices.cuda_absent)
        printf("no CUDA device: %s\n", devices.cuda_absent);
    return MOE_OK;
}

const struct cli_command cli_version = {
    .name = "version",
    .usage = "",
    .summary = "version, libraries and the compute devices of this machine",
    .run = run,
};
