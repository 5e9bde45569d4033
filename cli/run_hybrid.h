/* A model's own routes under a strategy: `moelab run` with a prompt, and `moelab record`. */
#ifndef MOELAB_CLI_RUN_HYBRID_H
#define MOELAB_CLI_RUN_HYBRID_H

#include "cli/hybrid.h"
#include "exec/hybrid.h"

struct cli_run_hybrid {
    struct cli_hybrid base;
    struct moe_hybrid *hybrid;
    struct moe_allocation allocation;
    /* --stats: keep a live line on the terminal */
    bool stats, below; /* below: it stands under the text, on the same terminal */
    bool drawn;
    char line[256];
    uint64_t written_ns, hits, lookups; /* when the line was last drawn */
};

/* From now on `session` computes under the strategy of run->base, which has to be open. */
enum moe_status cli_run_hybrid_begin(struct cli_run_hybrid *run,
                                     const struct cli_inference *inference,
                                     struct moe_session *session, bool stats, struct moe_err *err);

/* _hide removes the live line before text is written; _show draws it again after a token. */
void cli_run_hybrid_hide(struct cli_run_hybrid *run);
void cli_run_hybrid_show(struct cli_run_hybrid *run);

/* Writes the result in words to standard error. */
enum moe_status cli_run_hybrid_log(struct cli_run_hybrid *run, struct moe_err *err);

/* Writes the result to standard output, as the JSON object of a result table. */
enum moe_status cli_run_hybrid_json(struct cli_run_hybrid *run, const struct cli_call *call,
                                    const struct moe_llm *llm, struct moe_err *err);

/* The session computes by itself again. May be called if _begin was not. */
void cli_run_hybrid_leave(struct cli_run_hybrid *run);

/* The same, and frees everything. All zero: no-op. */
void cli_run_hybrid_end(struct cli_run_hybrid *run);

#endif
