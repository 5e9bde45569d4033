/* The recorder: runs prompts through a model and writes what its routers decided.
 *
 * Each prompt becomes a sequence: its tokens in prefill passes of at most `chunk`, then a decode
 * pass for each new token except the last. Scores are router logits; lookahead scores are the
 * logits of layer l+1's router for the input of layer l's router (none for the last layer). */
#ifndef MOELAB_EXEC_RECORD_H
#define MOELAB_EXEC_RECORD_H

#include "exec/chat.h"
#include "exec/generate.h"
#include "exec/tokenizer.h"
#include "traces/hdf5.h"
#include "traces/prompts.h"

/* Where the passes are computed, if not by the session on the CPU alone (exec/hybrid.h). */
struct moe_record_place {
    const char *note; /* added to the trace's description; "": routes are the CPU's bit for bit */
    /* Once, when there are prompts to record. */
    enum moe_status (*begin)(void *context, struct moe_session *session, struct moe_err *err);
    /* However the recording ended, if begin succeeded; before the session is freed. */
    enum moe_status (*end)(void *context, struct moe_err *err);
    void *context;
};

struct moe_record_options {
    const char *out;                      /* trace file */
    const char *created;                  /* RFC 3339 time to write down */
    struct moe_session_options session;   /* context 0 with a place: what the prompts need */
    const struct moe_record_place *place; /* or NULL */
    enum moe_chat chat;
    uint32_t max_prompt; /* longer prompts are cut to so many tokens; 0: never */
    uint32_t max_new;
    bool ignore_eos;
    double temperature, top_p;
    uint32_t top_k;
    uint64_t seed; /* prompt i draws from moe_mix64(seed, i): the same after a resume */
    bool scores, lookahead;
    uint32_t commit_every; /* prompts */
    bool overwrite;        /* an existing file is replaced instead of continued */
};

struct moe_recorded {
    uint64_t n_prompts, n_before; /* in the file now; of these, there before the call */
    uint64_t n_prefill, n_decode; /* tokens recorded by this call */
    uint64_t prefill_ns, decode_ns, record_ns; /* record_ns: spent on the trace file */
};

/* Records the prompts that `out` does not hold yet. A file with other settings, model or prompts is
 * not continued: MOE_ERR_USAGE, saying what differs. After SIGINT: MOE_ERR_INTERRUPTED; the prompts
 * done are kept, and the same call goes on at the next one. Errors: those of moe_session_new,
 * moe_writer_*, moe_tokenizer_encode and moe_generate, with the prompt's place; those of
 * options->place. */
enum moe_status moe_record(const struct moe_llm *llm, const struct moe_tokenizer *tokenizer,
                           const struct moe_prompts *prompts,
                           const struct moe_record_options *options, struct moe_recorded *out,
                           struct moe_err *err);

#endif
