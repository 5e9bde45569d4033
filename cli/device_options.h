/* What the commands that run on a device share: its options, opening it, and its description in
 * results. */
#ifndef MOELAB_CLI_DEVICE_OPTIONS_H
#define MOELAB_CLI_DEVICE_OPTIONS_H

#include "cli/output.h"
#include "exec/device.h"
#include "exec/hybrid.h"
#include "exec/power.h"

struct cli_device_options {
    char device[1024];
    int store, deterministic;
    uint64_t pinned_bytes;
};

#define CLI_OPTION_DEVICE(owner, field)                                                            \
    CLI_OPTION_NAME(owner, field, "device", "auto",                                                \
                    "auto (cuda where there is one, else host), cuda, cuda:N, host, or "           \
                    "host:KEY=VALUE,... (see keys)")

/* Option records for a table of `owner`, whose `member` is a struct cli_device_options. */
#define CLI_DEVICE_OPTIONS(owner, member)                                                          \
    CLI_OPTION_DEVICE(owner, member.device),                                                       \
        CLI_OPTION_CHOICE(owner, member.store, "store", MOE_STORE_CHOICES, "auto",                 \
                          "experts in host memory: all pinned, copied through a pinned ring, or "  \
                          "pageable as mapped from the files; auto: the first that fits"),         \
        {.name = "pinned_bytes",                                                                   \
         .type = MOE_PARAM_BYTES,                                                                  \
         .offset = offsetof(owner, member.pinned_bytes),                                           \
         .default_text = "0",                                                                      \
         .unit = "bytes",                                                                          \
         .help = "limit on pinned memory; 0: 90 % of what the system allows"},                     \
        CLI_OPTION_SWITCH(owner, member.deterministic, "deterministic", "off",                     \
                          "sum in one fixed order: the same bits on every device")

/* Opens the device; kernels: name of the CPU kernel set. Free with moe_device_close. */
enum moe_status cli_open_device(const struct cli_device_options *o, const char *kernels,
                                struct moe_device **out, struct moe_err *err);

/* Opens the energy counters of this machine and, if the device is a GPU, of that. Close with
 * moe_power_close. */
void cli_open_power(const struct cli_device_options *o, const struct moe_device *device,
                    struct moe_power *out);

/* The PCIe slot of a GPU, for moe_whatif_spec and the like. False: no GPU, or the system does not
 * tell. */
bool cli_device_slot(const struct cli_device_options *o, const struct moe_device *device,
                     uint32_t *generation, uint32_t *lanes);

/* "cuda NVIDIA H100" into buf; returns buf. */
const char *cli_device_name(const struct moe_device *device, char *buf, size_t size);

/* Adds provenance: device (NULL: none), what was allocated on it, where the experts lie, how energy
 * is measured. */
void cli_note_device(struct moe_table *table, const struct moe_device *device,
                     const struct moe_power *power);
void cli_note_allocation(struct moe_table *table, const struct moe_allocation *allocation);

/* A strategy, and options that override its values; "" and 0: not given. */
struct cli_strategy_choice {
    const char *strategy, *geometry, *policy;
    uint64_t threads;
    bool lossy; /* --lossy */
};

/* Loads it for a real run. A number of threads in the file above this machine's cores is reduced to
 * the cores, and that is logged. Then the values of `choice` are applied, then every --set (also
 * those of the platform, which may be NULL). */
enum moe_status cli_choose_strategy(const struct cli_call *call,
                                    const struct cli_strategy_choice *choice,
                                    struct moe_strategy *out, struct moe_platform *platform,
                                    struct moe_err *err);

#endif
