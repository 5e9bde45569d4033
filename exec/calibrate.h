/* Measures this machine into the constants of a platform (policies/platform.h), so that simulated
 * steps take as long as real ones.
 *
 * Each constant is measured in the way in which the machine uses it (exec/machine.h), not in a hot
 * loop. "Whole steps" are decode steps of one model on the real machine:
 *   expert_ffn       for that model in whole steps, with all experts on the CPU: how much of a
 * small expert the caches still hold depends on everything that a run does in between (measured
 * alone, 96 KiB took 5.7 to 7.6 us beside other work and 8.8 to 9.6 in steps). For other sizes, and
 * for fewer threads where a model is larger than any cache: all experts of a layer together on a
 * thread of its own that was asleep, each time after a kernel on the device; divided by their
 * number. The weights go through as much memory as the model's link             copies alone on
 * their stream, each waited for. Two sizes give rate and fixed cost; added to the latter is the
 * time that the machine needs to start a copy and to notice its end (whole steps, one expert a
 * layer, fetched on demand) dram             the larger of the best read rate of the threads and
 * the sum of copies and experts on the CPU that run together gpu              experts queued one
 * behind another, as hits are. Two sizes give rate and fixed cost; added to the latter is what
 * experts take longer in whole steps with hits only. Many tokens: so many that twice as many take
 * twice as long, up to 2048. For experts of Q8 or Q4 the rate is that of BF16, the type of the
 * dense part, if that is higher; the time of the largest expert beyond its bytes at that rate then
 * counts as fixed cost layer, token     whole steps with hits only: the time of a layer, and of the
 * step, that the cost model (policies/cost.h) does not explain state            whole steps with
 * all experts on the CPU: from the routes to the CPU's start, less what hits wait as well, and from
 * the CPU's end to the combine power            the mean over a second of doing nothing, and of
 * doing one thing
 *
 * A machine without a GPU is measured without a device (exec/machine_alone.h): whole steps with
 * each number of threads give the times of experts, of the head, and of the rest of each layer.
 *
 * Every round measures each of these once, so that a machine that slows down or speeds up affects
 * all alike, and uses other parts of the memory, so that the choice of pages counts as chance like
 * everything else. The first round does not count. A constant is the median over the rounds. Its
 * spread says how far a repeat of the calibration may be off: the range of the middle four fifths
 * of the rounds, over the median. (The median of many rounds is more certain than one round only
 * while the machine stays as it is: what changes from minute to minute moves a repeat as far as it
 * moves rounds.) */
#ifndef MOELAB_EXEC_CALIBRATE_H
#define MOELAB_EXEC_CALIBRATE_H

#include "base/progress.h"
#include "exec/device.h"
#include "exec/power.h"
#include "policies/platform.h"
#include "traces/model.h"

enum { MOE_CALIBRATE_SHAPES = 8, MOE_CALIBRATE_REPEATS = 99, MOE_MAX_CONSTANTS = 32 };

struct moe_calibrate_options {
    struct moe_device *device;
    /* The models whose experts are measured, all with experts of 16 bits (in BF16), of 8.5 (Q8) or
     * of 4.5 (Q4). Whole steps are those of the first whose layers fit into the device. */
    const struct moe_model *shapes;
    uint32_t n_shapes;         /* 1..MOE_CALIBRATE_SHAPES */
    const struct moe_llm *llm; /* of shapes[0], for the whole steps; NULL: a synthetic one */
    bool alone; /* measure as a machine without a GPU, whose CPU computes everything: the device
                   only provides memory and is not measured */
    uint32_t repeats; /* rounds that count, 1..MOE_CALIBRATE_REPEATS */
    uint32_t threads; /* most threads of the CPU; 0: one for each core */
    bool pin;
    const char *kernels; /* of the CPU; NULL: "auto" */
    double power_s;      /* of each measurement of power */
    struct moe_power *power;
    const char *date;              /* for the origins, which say "by the command above" */
    struct moe_progress *progress; /* measurements done, or NULL */
};

/* A constant and how it came about. */
struct moe_constant {
    char key[48];  /* "link.copy_setup_us"; points: "cpu.expert_ffn" */
    double value;  /* in the platform's unit */
    double spread; /* see above; NaN: not measured repeatedly */
    double share;  /* memory rates: of the rate at which the same threads read memory; else NaN */
    uint32_t n;    /* measurements; 0: a guess, or told by the system */
    char origin[448];
};

struct moe_calibration {
    struct moe_platform platform;
    struct moe_constant constant[MOE_MAX_CONSTANTS];
    uint32_t n_constants;
    /* Of cpu.expert_ffn, and of cpu.dense. */
    double point_spread[MOE_MAX_FFN_POINTS], point_share[MOE_MAX_FFN_POINTS];
    double dense_spread[MOE_MAX_FFN_POINTS], dense_share[MOE_MAX_FFN_POINTS];
    char steps_of[128]; /* which whole steps were measured, or why none were */
};

/* Leaves out shapes whose experts do not fit into a quarter of the host's or the device's memory,
 * and logs it. *out is large: allocate it on the heap. Errors: MOE_ERR_USAGE (a shape with other
 * bits, or two with different ones), MOE_ERR_MEMORY (none fits), MOE_ERR_INTERRUPTED, those of the
 * device. */
enum moe_status moe_calibrate(const struct moe_calibrate_options *options,
                              struct moe_calibration *out, struct moe_err *err);

/* For struct moe_platform_notes; context is a struct moe_calibration. */
const char *moe_calibration_origin(void *context, const char *key);

#endif
