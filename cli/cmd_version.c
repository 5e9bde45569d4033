#include "base/units.h"
#include "base/version.h"
#include "cli/command.h"
#include "exec/device_list.h"
#include "exec/host_options.h"
#include "sim/team_mpi.h"
#include "traces/hdf5.h"

#include <stdio.h>

/* Describes the host as a device, whose memory is an arena, not all memory of the machine. */
static const char *arena_note(char *buf, size_t size)
{
    struct moe_host_options arena;
    char bytes[32];
    moe_params_default(moe_host_params, &arena);
    snprintf(buf, size, "; as --device host it has %s unless memory_bytes=SIZE says otherwise",
             moe_format_bytes(arena.memory_bytes, bytes, sizeof bytes));
    return buf;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    (void)call;
    struct moe_devices devices;
    char line[512], note[128], library[80];
    enum moe_status s = moe_device_list(&devices, err);
    if (s)
        return s;
    printf("moelab %s\nHDF5 %s\nMPI %s\n", MOELAB_VERSION, moe_hdf5_version(),
           moe_team_library(library, sizeof library));
    for (size_t i = 0; i < devices.n; i++)
        printf("device %s%s\n", moe_device_describe(&devices.device[i], line, sizeof line),
               i == 0 ? arena_note(note, sizeof note) : "");
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
