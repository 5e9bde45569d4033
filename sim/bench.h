/* Speed of replay and simulation on this machine, for `moelab bench sim`. One core, in seconds of
 * its time (waiting for other programs does not count): results that differ from run to run. */
#ifndef MOELAB_SIM_BENCH_H
#define MOELAB_SIM_BENCH_H

#include "sim/simulate.h"

struct moe_bench_options {
    uint64_t tokens;                      /* of the synthetic Mixtral-shaped trace; 0: 100,000 */
    uint32_t repeats;                     /* of each case; 0: 7 */
    const char *stream_path;              /* HDF5 trace for the streaming case, or NULL: left out */
    const struct moe_sim_input *simulate; /* the timed case, or NULL: left out */
    const char *policies;                 /* "all" or one, over two shapes; NULL or "": none */
    uint64_t policy_accesses;             /* of each of its runs, at most; 0: 500,000. Fewer where
                                             they would take longer than about 15 ms */
};

struct moe_bench_row {
    char name[64];
    const char *unit;  /* "M/s": million accesses (routed experts) a second; "s": seconds */
    double value;      /* median over the repeats */
    uint64_t accesses; /* of each run; 0 where the unit is seconds */
    uint32_t repeats;  /* fewer than asked for where a case took seconds */
    double goal;       /* what the value should reach; NaN: none is set */
    double spread;     /* (largest - smallest) / median */
    double read_share; /* of the rate at which one core reads the trace and does nothing with it;
                          NaN where that is no limit */
};

enum { MOE_BENCH_ROWS_MAX = 512 };

/* Runs every case; rows[MOE_BENCH_ROWS_MAX], *n_rows of them are filled. The first row is the read
 * rate. Errors: those of moe_synth_make, moe_replay*, moe_reader_open and moe_simulate;
 * MOE_ERR_INTERRUPTED. */
enum moe_status moe_bench_sim(const struct moe_bench_options *options, struct moe_bench_row *rows,
                              uint32_t *n_rows, struct moe_err *err);

#endif
