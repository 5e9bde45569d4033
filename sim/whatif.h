/* What would another part of the machine change? One constant of a platform, or the experts' weight
 * type, is varied at a time around what is there; a strategy is timed at every value, with its
 * cache fitted anew, beside the CPU alone, on-demand copies and the bound.
 *
 *   PCIE     generations 3 to 6 at the platform's own number of lanes. The link keeps its share of
 *            what the slot can carry. Pageable copies stay as they are, but are never faster than
 *            pinned ones; setup times and activations stay.
 *   DRAM     1, 2, 4, 8, 12 channels, bandwidth in proportion. Threads stream experts at
 *            f R(t / f), where R(t) is the platform's rate of t threads and f the change of
 *            bandwidth: twice the channels carry twice the threads at the same rate a thread.
 *   VRAM     8 to 80 GiB, or multiples of an own memory that is far from these
 *   CORES    CPU threads up to twice the strategy's own; beyond the platform's cores R goes on with
 *            its last slope, up to the DRAM's rate
 *   WEIGHTS  bits of an expert's weight with its scales, of the types that moelab runs: 32 (F32),
 *            16 (BF16, F16), 8.5 (Q8: 34 bytes for 32 weights, as GGML's Q8_0), 4.5 (Q4: 18
 *            bytes, as its Q4_0). The dense part keeps its type. Expert kernels of CPU and GPU
 *            are assumed to read as many bytes a second for every type.
 *
 * Where GPU and CPU share one DRAM there are no values of PCIE, VRAM is what the GPU may have of
 * it, and with DRAM the rates of GPU and copies grow in proportion.
 *
 * Without a GPU there are no values of PCIE and VRAM, on-demand fails, and so does every strategy
 * that has slots.
 *
 * What the platform has is among the values and is simulated unchanged. Rates a lane, GB/s each
 * way: PCI Express specifications 3.0 to 5.0, 8, 16, 32 GT/s of which 128 bits of 130 are data;
 * 6.0, 64 GT/s of which 242 bytes of a flit of 256 are (8 check, 6 correct). */
#ifndef MOELAB_SIM_WHATIF_H
#define MOELAB_SIM_WHATIF_H

#include "sim/simulate.h"

enum moe_whatif_axis {
    MOE_WHATIF_PCIE,
    MOE_WHATIF_DRAM,
    MOE_WHATIF_VRAM,
    MOE_WHATIF_CORES,
    MOE_WHATIF_WEIGHTS,
    MOE_WHATIF_AXES
};

enum moe_whatif_line {
    MOE_WHATIF_STRATEGY,
    MOE_WHATIF_CPU_ONLY,
    MOE_WHATIF_ON_DEMAND,
    MOE_WHATIF_LINES
};

enum { MOE_WHATIF_MAX_VALUES = 128, MOE_WHATIF_VALUE_TEXT = 24 };

struct moe_whatif_spec {
    const struct moe_trace *trace;
    const struct moe_model *model;
    const struct moe_platform *platform;
    const struct moe_strategy
        *strategy[MOE_WHATIF_LINES]; /* all run with the first one's threads */
    uint64_t pcie_generation; /* of the platform; 0: the slowest slot that its link fits through */
    uint64_t pcie_lanes;      /* with a generation; 0: 16 */
    uint64_t channels;   /* that dram.read_gb_per_s is of; 0: not known, values are multiples */
    uint64_t max_tokens; /* decode tokens of the trace; 0: all */
    uint32_t jobs;       /* threads; 0: OpenMP's number */
};

/* One value of an axis, and the machine with it. */
struct moe_whatif_value {
    enum moe_whatif_axis axis;
    char text[MOE_WHATIF_VALUE_TEXT]; /* as one says it: "4.0", "2", "24" */
    double x;                         /* in the axis's unit; grows with PCIE, DRAM, VRAM, CORES */
    bool own;                         /* what the platform and the model have */
    bool beyond;                      /* more cores than the platform's rates were measured with */
    uint64_t threads;                 /* 0: the strategy's */
    struct moe_platform platform;
    struct moe_model model;
};

struct moe_whatif_row {
    struct moe_strategy strategy; /* with geometry and threads as simulated */
    struct moe_result result;     /* its bound is of all slots that fit, whatever the geometry; NaN
                                     where a lossy rule changed experts */
    struct moe_err failed;        /* status MOE_OK: none; else why it cannot run */
};

struct moe_whatif_axis_text {
    char name[16];    /* "pcie" */
    char title[80];   /* "PCIe generation (x16)" */
    const char *unit; /* of x */
    char note[240];   /* where its values are from; one sentence */
};

struct moe_whatif {
    struct moe_whatif_axis_text axis[MOE_WHATIF_AXES]; /* title "": it has no values */
    size_t n; /* values, axis after axis, each from the least machine to the most */
    struct moe_whatif_value *value;                 /* [n] */
    struct moe_whatif_row (*row)[MOE_WHATIF_LINES]; /* [n]; NULL until run */
    uint64_t simulations;
};

/* The values. Errors: MOE_ERR_USAGE (a generation, lanes that there are none of, a slot that is
 * slower than the platform's link), MOE_ERR_MEMORY. Release also after errors of moe_whatif_run. */
enum moe_status moe_whatif_init(struct moe_whatif *w, const struct moe_whatif_spec *spec,
                                struct moe_err *err);

/* Times every line at every value. N x M geometries are replaced by the fastest of those that fit
 * (N as large as it goes for each M, and the strategy's own if the model has its layers and ways),
 * one pool and whole layers by the largest that fits; `none` stays. A value that does not fit fails
 * its rows only. Errors: MOE_ERR_USAGE (trace against model, the strategy against both),
 * MOE_ERR_MEMORY, MOE_ERR_INTERRUPTED. */
enum moe_status moe_whatif_run(struct moe_whatif *w, const struct moe_whatif_spec *spec,
                               struct moe_err *err);
void moe_whatif_release(struct moe_whatif *w); /* also one that is all zero */

/* Rate of a PCIe slot, GB/s each way; 0: there is none such. */
double moe_whatif_pcie_gb_per_s(uint64_t generation, uint64_t lanes);

/* GB/s at which `threads` threads stream an expert when the DRAM has `factor` times the platform's
 * bandwidth; threads beyond the platform's cores as the head of this file says. */
double moe_whatif_cpu_gb_per_s(const struct moe_platform *platform, double threads, double factor,
                               uint64_t expert_bytes);

/* The geometries that are tried with so many slots, `given` shrunk to them first, unless it needs
 * more layers or experts than the model has (ncmoe:N keeps all layers then); each a heap string in
 * a heap array, at least one. Errors: MOE_ERR_MEMORY, those of moe_geometry_fit. */
enum moe_status moe_whatif_geometries(const char *given, const struct moe_model *model,
                                      uint64_t slots, char ***out, size_t *n, struct moe_err *err);

/* Of the axis: the row's value one step above (direction 1) or below (-1) what the platform has;
 * SIZE_MAX: there is none. A step up is always towards the better machine. */
size_t moe_whatif_step(const struct moe_whatif *w, enum moe_whatif_axis axis, int direction);

#endif
