/* A model's own routes under a strategy: `moelab run` with a prompt, and `moelab record`. */
#ifndef MOELAB_CLI_RUN_HYBRID_H
#define MOELAB_CLI_RUN_HYBRID_H

#include "cli/hybrid.h"
#include "exec/hybrid.h"

struct cli_run_hybrid {
    struct cli_hybrid base;
    struct moe_hybrid *hybrid;
    struct moe_allocation allocation;
    /* --stats: a line on the terminal, or nothing */
    bool stats, below; /* below: it stands under the text, on the same terminal */
    bool drawn;
    char line[256];
    uint64_t written_ns, hits, lookups; /* as of the line */
};

/* Puts `session` under the strategy of run->base, which is open. */
enum moe_status cli_run_hybrid_begin(struct cli_run_hybrid *run,
                                     const struct cli_inference *inference,
                                     struct moe_session *session, bool stats, struct moe_err *err);

/* Before text is written, and after a token was: takes the live line away, and draws it again. */
void cli_run_hybrid_hide(struct cli_run_hybrid *run);
void cli_run_hybrid_show(struct cli_run_hybrid *run);

/* What it came to, on standard error. */
enum moe_status cli_run_hybrid_log(struct cli_run_hybrid *run, struct moe_err *err);

/* The same as a JSON object of a result table, on standard output. */
enum moe_status cli_run_hybrid_json(struct cli_run_hybrid *run, const struct cli_call *call,
                                    const struct moe_llm *llm, struct moe_err *err);

/* The session computes as before. Also when there is nothing to leave. */
void cli_run_hybrid_leave(struct cli_run_hybrid *run);

/* The same, and frees. Also one that is all zero. */
void cli_run_hybrid_end(struct cli_run_hybrid *run);

#endif
