#include "exec/device.h"

#include "base/units.h"
#include "exec/device_host.h"
#include "exec/device_list.h"
#include "policies/spec.h"

#include <inttypes.h>
#include <string.h>

#ifdef MOELAB_HAVE_CUDA
#include "exec/cuda/open.h"
#endif

static enum moe_status open_host(struct moe_device **out, const struct moe_device_options *options,
                                 const char *rest, struct moe_err *err)
{
    struct moe_host_options host;
    enum moe_status s = moe_host_options_parse(rest, &host, err);
    return s ? s : moe_host_open(out, &host, options->kernels, err);
}

/* Is there a device of this number? */
static enum moe_status find_cuda(const struct moe_devices *devices, uint32_t index,
                                 struct moe_err *err)
{
    for (size_t i = 0; i < devices->n; i++)
        if (devices->device[i].kind == MOE_DEVICE_CUDA && devices->device[i].index == index)
            return MOE_OK;
    if (devices->n == 1)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "device 'cuda': %s; choose 'host', which computes the same on the CPU",
                        devices->cuda_absent);
    return moe_fail(err, MOE_ERR_UNSUPPORTED,
                    "device 'cuda:%" PRIu32 "': no such device, there are %zu; `moelab version` "
                    "lists them",
                    index, devices->n - 1);
}

static enum moe_status open_cuda(struct moe_device **out, const struct moe_device_options *options,
                                 const char *rest, struct moe_err *err)
{
    struct moe_devices devices;
    uint64_t index = 0;
    if (*rest && moe_parse_u64(rest, 0, MOE_MAX_DEVICES - 2, &index, err))
        return moe_fail_prefix(err, "device 'cuda', its number");
    enum moe_status s = moe_device_list(&devices, err);
    if (!s)
        s = find_cuda(&devices, (uint32_t)index, err);
#ifdef MOELAB_HAVE_CUDA
    return s ? s : moe_cuda_open(out, (uint32_t)index, options, err);
#else
    (void)out;
    (void)options; /* none is found */
    return s;
#endif
}

static enum moe_status open_auto(struct moe_device **out, const struct moe_device_options *options,
                                 const char *rest, struct moe_err *err)
{
    struct moe_devices devices;
    enum moe_status s = moe_spec_params("device", "auto", NULL, NULL, rest, err);
    if (s || (s = moe_device_list(&devices, err)))
        return s;
    return devices.n > 1 ? open_cuda(out, options, "", err) : open_host(out, options, "", err);
}

static const struct {
    const char *name;
    enum moe_status (*open)(struct moe_device **out, const struct moe_device_options *options,
                            const char *rest, struct moe_err *err);
} kinds[] = {{"host", open_host}, {"cuda", open_cuda}, {"auto", open_auto}};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

enum moe_status moe_device_open(struct moe_device **out, const struct moe_device_options *options,
                                struct moe_err *err)
{
    char name[16];
    const char *rest, *known[N_KINDS];
    enum moe_status s = moe_spec_split("device", options->spec, name, sizeof name, &rest, err);
    if (s)
        return s;
    for (size_t i = 0; i < N_KINDS; i++) {
        known[i] = kinds[i].name;
        if (strcmp(name, kinds[i].name) == 0)
            return kinds[i].open(out, options, rest, err);
    }
    return moe_spec_unknown("device", name, known, N_KINDS, err);
}

void moe_device_close(struct moe_device *device)
{
    if (device)
        device->ops->close(device);
}
