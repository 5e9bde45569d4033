#include "exec/calibrate_state.h"

#include <math.h>
#include <time.h>

enum { IN_FLIGHT = 4 };

static bool time_left(struct moe_calibrator *c, void *context)
{
    const uint64_t *end_ns = context;
    (void)c;
    return moe_clock_ns() < *end_ns && !moe_interrupted();
}

static enum moe_status do_nothing(struct moe_calibrator *c, uint64_t end_ns, struct moe_err *err)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    (void)err;
    while (time_left(c, &end_ns))
        nanosleep(&pause, NULL);
    return MOE_OK;
}

static enum moe_status compute_on_cpu(struct moe_calibrator *c, uint64_t end_ns,
                                      struct moe_err *err)
{
    double seconds;
    uint64_t experts;
    return moe_cal_cpu_while(c, time_left, &end_ns, &seconds, &experts, err);
}

static enum moe_status keep_busy(struct moe_calibrator *c, enum moe_stream stream,
                                 void (*queue)(struct moe_calibrator *c), uint64_t end_ns,
                                 struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    do {
        for (int i = 0; i < IN_FLIGHT; i++)
            queue(c);
        c->device->ops->record(c->device, stream, c->end);
        s = c->device->ops->sync(c->device, c->end, err);
    } while (!s && time_left(c, &end_ns));
    return s;
}

static enum moe_status compute_on_gpu(struct moe_calibrator *c, uint64_t end_ns,
                                      struct moe_err *err)
{
    return keep_busy(c, MOE_STREAM_COMPUTE, moe_cal_device_expert, end_ns, err);
}

static enum moe_status copy(struct moe_calibrator *c, uint64_t end_ns, struct moe_err *err)
{
    return keep_busy(c, MOE_STREAM_EXPERTS, moe_cal_device_copy, end_ns, err);
}

enum moe_status moe_cal_power(struct moe_calibrator *c, struct moe_err *err)
{
    static enum moe_status (*const activity[MOE_N_CAL_POWERS])(struct moe_calibrator *, uint64_t,
                                                               struct moe_err *) = {
        [MOE_CAL_IDLE] = do_nothing,
        [MOE_CAL_CPU_BUSY] = compute_on_cpu,
        [MOE_CAL_GPU_BUSY] = compute_on_gpu,
        [MOE_CAL_COPYING] = copy,
    };
    struct moe_power *power = c->o->power;
    enum moe_status s = MOE_OK;
    for (uint32_t i = 0; i < moe_cal_powers(c) && !s; i++) {
        c->power[i] = (struct moe_joules){NAN, NAN};
        if (!power || (!power->n_packages && !power->nvml))
            continue;
        const uint64_t start_ns = moe_clock_ns();
        const struct moe_joules before = moe_power_read(power);
        s = activity[i](c, start_ns + (uint64_t)(c->o->power_s * 1e9), err);
        const struct moe_joules after = moe_power_read(power);
        const double seconds = moe_bench_seconds_since(start_ns);
        c->power[i].cpu = (after.cpu - before.cpu) / seconds;
        c->power[i].gpu = (after.gpu - before.gpu) / seconds;
        if (!s)
            s = moe_cal_tick(c, err);
    }
    return s;
}
