/* `moelab run --trace`: the routes of a trace on real kernels and copies. */
#ifndef MOELAB_CLI_RUN_TRACE_H
#define MOELAB_CLI_RUN_TRACE_H

#include "cli/hybrid.h"
#include "cli/traced.h"

struct cli_run_trace {
    const struct cli_call *call;
    const struct cli_hybrid_options *hybrid;
    const struct cli_traced_options *traced;
    const struct cli_inference *inference;
    int format;
};

enum moe_status cli_run_trace(const struct cli_run_trace *run, struct moe_err *err);

#endif
