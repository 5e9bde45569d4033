/* Traces as commands name them: a file, a generator, or another tool's log read on the fly. */
#ifndef MOELAB_TRACES_SOURCE_H
#define MOELAB_TRACES_SOURCE_H

#include "traces/model.h"
#include "traces/trace.h"

/* "t.h5", "synth:SPEC", or "FORMAT:FILE" with a format of `moelab trace import`. `want` is a set of
 * enum moe_tokens_part bits, for files. model (may be NULL) gives what a generator's spec or a log
 * leaves out. Release with moe_trace_release. */
enum moe_status moe_trace_from_name(const char *name, unsigned want, const struct moe_model *model,
                                    struct moe_trace *out, struct moe_err *err);

/* True when the name is a trace file and not a generator or a log to import. */
int moe_trace_name_is_file(const char *name);

/* Help text of the TRACE argument. */
#define MOE_TRACE_NAME_HELP                                                                        \
    "TRACE is a moelab trace (x.h5), a generator (synth:uniform:tokens=1000, see `moelab trace\n"  \
    "synth --help`), or another tool's log (route-csv:FILE, npy:ids.npy, ...)."

#endif
