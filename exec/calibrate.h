/* Measures this machine into the constants of a platform (policies/platform.h), so that simulated
 * steps take as long as real ones.
 *
 * Each constant is measured as the machine uses it (exec/machine.h), not in a hot loop:
 *   expert_ffn       of the whole steps' model in whole steps, all on the CPU: how much of a small
 *                    expert the caches still hold depends on all that a run does in between (alone
 *                    96 KiB took 5.7 to 7.6 us beside other work and 8.8 to 9.6 in steps). Other
 *                    sizes, and fewer threads where a model is larger than any cache: all experts
 *                    of a layer in one go on a thread of its own that was asleep, each time after a
 *                    kernel on the device; divided by their number. Weights walk through as much
 *                    memory as the model's
 *   link             copies alone on their stream, each waited for; two sizes give rate and fixed
 *                    cost, to which comes what the machine needs to start one and to see it land
 *                    (whole steps, one expert a layer, fetched on demand)
 *   dram             the larger of the best read rate of the threads and the sum of copies and
 *                    experts on the CPU that run together
 *   gpu              experts queued one behind another, as hits are; two sizes give rate and fixed
 *                    cost, to which comes what experts take longer in whole steps, all hits; many
 *                    tokens: so many that twice as many take twice as long, up to 2048. Where
 *                    experts are of Q8 or Q4 the rate is that of BF16, in which the dense part is,
 *                    if that is the higher one: what the largest expert takes longer than its bytes
 *                    would at that rate counts as fixed
 *   layer, token     whole steps of the real machine, all hits: what the cost model
 *                    (policies/cost.h) leaves unexplained of a layer, and of the step
 *   state            whole steps, all on the CPU: from the routes to the CPU's start, beyond what
 *                    hits wait as well, and from the CPU's end to the sum
 *   power            the mean of a second of doing nothing, and of doing one thing
 *
 * A machine without a GPU is measured without a device (exec/machine_alone.h): whole steps by each
 * number of threads, of which experts, head, and what is left for each layer are the constants.
 *
 * Rounds: every round measures each of them once, so that a machine that slows down or speeds up
 * moves all alike, and walks through other memory, so that chance pages count like any other
 * chance; the first round does not count. A constant is the median over the rounds, its spread how
 * far a repeat may be off: what the middle four fifths of the rounds span, over the median. (The
 * median of so many rounds is surer than one round, but only for as long as the machine stays as it
 * is: what changes from minute to minute moves a repeat as far as it moves rounds.) */
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
    /* Whose experts are measured, all of 16 bits (in BF16), of 8.5 (Q8) or of 4.5 (Q4); whole steps
     * are those of the first whose layers fit into the device. 1..SHAPES. */
    const struct moe_model *shapes;
    uint32_t n_shapes;
    const struct moe_llm *llm; /* of shapes[0], for the whole steps; NULL: a synthetic one */
    bool alone;       /* as a machine without a GPU, whose CPU computes all: the device, which only
                         lends memory then, is not measured */
    uint32_t repeats; /* rounds that count, 1..REPEATS */
    uint32_t threads; /* most threads of the CPU; 0: one for each core */
    bool pin;
    const char *kernels; /* of the CPU; NULL: "auto" */
    double power_s;      /* of each measurement of power */
    struct moe_power *power;
    const char *date;              /* for the origins, which refer to a command above them */
    struct moe_progress *progress; /* measurements done, or NULL */
};

/* A constant and how it came about. */
struct moe_constant {
    char key[48];  /* "link.copy_setup_us"; points: "cpu.expert_ffn" */
    double value;  /* in the platform's unit */
    double spread; /* see above; NaN: not measured repeatedly */
    double share;  /* of the rate at which the same threads read memory, for rates of memory; NaN */
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
 * and logs it. Errors: MOE_ERR_USAGE (a shape of other bits, or two of
 * different ones), MOE_ERR_MEMORY (none fits),
 * MOE_ERR_INTERRUPTED, those of the device. *out is large: heap. */
enum moe_status moe_calibrate(const struct moe_calibrate_options *options,
                              struct moe_calibration *out, struct moe_err *err);

/* For struct moe_platform_notes; context is a struct moe_calibration. */
const char *moe_calibration_origin(void *context, const char *key);

#endif
