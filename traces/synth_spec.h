/* Spec strings of synthetic traces, parsed and checked but not yet made. */
#ifndef MOELAB_TRACES_SYNTH_SPEC_H
#define MOELAB_TRACES_SYNTH_SPEC_H

#include "traces/model.h"
#include "traces/trace.h"

#include <stddef.h>
#include <stdint.h>

/* In the order of moe_synth_kinds. */
enum moe_synth_kind { MOE_SYNTH_UNIFORM, MOE_SYNTH_ZIPF, MOE_SYNTH_STICKY, MOE_SYNTH_STATS };

struct moe_synth_config {
    enum moe_synth_kind kind;
    uint64_t layers, experts, top_k; /* 0 only for stats: as the file says */
    uint64_t tokens;                 /* decode tokens of all sequences together */
    uint64_t sequences;              /* 0: stats: of measured length, others: 1 */
    uint64_t prompt;                 /* prefill tokens before each sequence's decode tokens */
    uint64_t seed;
    double alpha, repeat;
    char file[MOE_TEXT_MAX];
    char model[MOE_TEXT_MAX]; /* "": unknown, or the statistics file's */
};

/* Checks all that can be checked without the statistics file. Errors: MOE_ERR_USAGE, _MEMORY. */
enum moe_status moe_synth_parse(const char *spec, struct moe_synth_config *out,
                                struct moe_err *err);
/* The same; where the spec leaves layers, experts or top_k out, they are the model's, and so is the
 * name where it leaves out all three; a model that the spec names and that has a description comes
 * first. Not for stats. model may be NULL. Also errors of moe_model_load. */
enum moe_status moe_synth_parse_for(const char *spec, const struct moe_model *model,
                                    struct moe_synth_config *out, struct moe_err *err);

/* The spec that makes the same trace, every key written out; for provenance. */
const char *moe_synth_format(const struct moe_synth_config *config, char *buf, size_t size);

#endif
