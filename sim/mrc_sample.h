/* A part of a trace for curves of what does not fit into memory: whole sequences by a hash.
 *
 * LRU needs no sample: its stacks hold keys, not accesses, so moe_mrc_stream is exact in constant
 * memory however long the trace is. So is OPT where moe_mrc_streams_opt says so; elsewhere it needs
 * the future, and for that a trace has to be in memory.
 * SHARDS (Waldspurger, Park, Garthwaite, Ahmad, Efficient MRC construction with SHARDS, FAST 2015)
 * takes those keys whose hash lies below a threshold and scales distances up. That is sound for
 * millions of keys; here a layer has 8 to 128 and uses them unequally, so that a sample of one in
 * ten holds none of them or a few, and which ones decides the result (mrc_shards.h has it, with the
 * error that follows). What there is plenty of are sequences, and they are independent of each
 * other, so the same rule is applied to them: a sequence is taken when the hash of seed and index
 * lies below the rate. No other sequence changes that, so samples of one seed are nested and need
 * no state. The hit rate is that of the sequences taken (a ratio of sums over clusters; Cochran,
 * Sampling Techniques, 1977, chapters 6, 9A); its error bar is mrc_interval.h's. Caches that stay
 * warm from one sequence to the next: the sequence before each one taken is taken too and visited,
 * but not counted, so that caches begin with what they would hold. */
#ifndef MOELAB_SIM_MRC_SAMPLE_H
#define MOELAB_SIM_MRC_SAMPLE_H

#include "traces/hdf5.h"
#include "traces/trace.h"

struct moe_mrc_sample_options {
    double rate;   /* of the sequences, in (0, 1] */
    uint64_t seed; /* of the hash */
    bool cold;     /* caches do not stay warm: preceding sequences are not taken */
};

struct moe_mrc_sample {
    /* The tokens taken, their sequences numbered anew from 0; only sequence, step, phase and expert
     * are filled. */
    struct moe_trace trace;
    uint8_t *counted;         /* [n_sequences] 0: visited to fill caches, not counted */
    uint64_t n_sequences;     /* taken, counted or not */
    uint64_t n_counted, n_of; /* counted ones, of how many in the trace */
};

/* From a file, read once from its beginning. Release the sample. Errors: MOE_ERR_USAGE when no
 * sequence is taken; MOE_ERR_MEMORY when the sample is larger than this machine's memory; those of
 * the reader. */
enum moe_status moe_mrc_sample_stream(struct moe_reader *reader,
                                      const struct moe_mrc_sample_options *options,
                                      struct moe_mrc_sample *out, struct moe_err *err);

/* The same from a trace in memory. */
enum moe_status moe_mrc_sample_trace(const struct moe_trace *trace,
                                     const struct moe_mrc_sample_options *options,
                                     struct moe_mrc_sample *out, struct moe_err *err);
void moe_mrc_sample_release(struct moe_mrc_sample *sample);

#endif
