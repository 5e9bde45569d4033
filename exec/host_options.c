#include "exec/host_options.h"

#include "policies/spec.h"

#define NUMBER(member, most, unit, help)                                                           \
    {                                                                                              \
#member, MOE_PARAM_F64, offsetof(struct moe_host_options, member), "0", 0, most, unit,     \
            help, NULL, 0, NULL, 0                                                                 \
    }

const struct moe_param moe_host_params[] = {
    {"memory_bytes", MOE_PARAM_BYTES, offsetof(struct moe_host_options, memory_bytes), "1GiB", 0, 0,
     "bytes", "device memory; host memory is taken only as it is touched", NULL, 0, NULL, 0},
    NUMBER(link_gb_per_s, 1e6, "GB/s", "rate of copies; 0: not limited"),
    NUMBER(pageable_gb_per_s, 1e6, "GB/s",
           "rate of copies from and to pageable memory; 0: as link_gb_per_s"),
    NUMBER(compute_gb_per_s, 1e6, "GB/s", "rate at which kernels read memory; 0: not limited"),
    NUMBER(compute_gflops, 1e9, "GFLOP/s",
           "compute rate of kernels on many tokens; 0: not limited"),
    NUMBER(copy_us, 1e6, "us", "fixed time of every copy"),
    NUMBER(launch_us, 1e6, "us", "fixed time of every kernel"),
    NUMBER(delay_us, 1e6, "us", "longest random delay before an operation; to test for races"),
    {"seed", MOE_PARAM_U64, offsetof(struct moe_host_options, seed), "1", 0, 0, NULL,
     "seed of the random delays", NULL, 0, NULL, 0},
    {"fail_copy", MOE_PARAM_U64, offsetof(struct moe_host_options, fail_copy), "0", 0, 0, NULL,
     "number of the copy that fails, counted from 1 in the order of queueing over all streams; 0: "
     "none; to test for faults",
     NULL, 0, NULL, 0},
    {"awake", MOE_PARAM_BOOL, offsetof(struct moe_host_options, awake), "off", 0, 0, NULL,
     "keep the processors awake with threads of idle priority: steadier times on virtual machines",
     NULL, 0, NULL, 0},
    {.name = NULL},
};

enum moe_status moe_host_options_parse(const char *list, struct moe_host_options *out,
                                       struct moe_err *err)
{
    struct moe_host_options options;
    enum moe_status s = moe_spec_params("device", "host", moe_host_params, &options, list, err);
    if (s)
        return s;
    if (options.memory_bytes == 0)
        return moe_fail(err, MOE_ERR_USAGE, "device 'host': memory_bytes 0, at least 1 is needed");
    *out = options;
    return MOE_OK;
}

/* amount / (1e9 per second) is nanoseconds; a rate of 0 means no limit and takes no time. */
static double time_at(double amount, double giga_per_s)
{
    return giga_per_s > 0 ? amount / giga_per_s : 0;
}

/* Longer times are cut to a hundred days, so that adding a clock's reading cannot overflow. */
static uint64_t whole_ns(double ns)
{
    const double most = 8.64e15;
    return (uint64_t)(ns < most ? ns + 0.5 : most);
}

uint64_t moe_host_copy_ns(const struct moe_host_options *options, uint64_t bytes,
                          enum moe_memory host)
{
    double rate = options->link_gb_per_s;
    if (host == MOE_MEMORY_PAGEABLE && options->pageable_gb_per_s > 0)
        rate = options->pageable_gb_per_s;
    if (host == MOE_MEMORY_DEVICE)
        rate = options->compute_gb_per_s / 2; /* reads and writes */
    return whole_ns(options->copy_us * 1e3 + time_at((double)bytes, rate));
}

uint64_t moe_host_kernel_ns(const struct moe_host_options *options,
                            const struct moe_host_load *load)
{
    double read = time_at((double)load->bytes, options->compute_gb_per_s), compute = 0;
    if (load->n_tokens > 1)
        compute = time_at(load->flops, options->compute_gflops);
    return whole_ns(options->launch_us * 1e3 + (read > compute ? read : compute));
}
