#include "traces/hdf5.h"

#include "base/progress.h"

#include <inttypes.h>
#include <stddef.h>

/* Rows [from, from + n) of tokens, without copying them. */
static struct moe_tokens rows_of(const struct moe_trace *trace, uint64_t from, uint64_t n)
{
    struct moe_tokens x = trace->tokens;
    x.n_tokens = n;
    x.sequence += from;
    x.step += from;
    x.position += from;
    x.token_id += from;
    x.phase += from;
    x.request = x.request ? x.request + from : NULL;
    uint64_t entry = from * trace->info.n_layers * trace->info.top_k;
    uint64_t score = from * trace->info.n_layers * trace->info.n_experts;
    x.expert += entry;
    x.weight = x.weight ? x.weight + entry : NULL;
    x.score = x.score ? x.score + score : NULL;
    x.lookahead = x.lookahead ? x.lookahead + score : NULL;
    x.log_residency = x.log_residency ? x.log_residency + entry : NULL;
    x.log_bytes = x.log_bytes ? x.log_bytes + entry : NULL;
    return x;
}

enum { TOKENS_BETWEEN_LOOKS = 1 << 12 };

/* Tokens [from, from + n), in pieces: writing takes the longest of an import. */
static enum moe_status append_rows(struct moe_writer *w, const struct moe_trace *trace,
                                   uint64_t from, uint64_t n, struct moe_progress *progress,
                                   struct moe_err *err)
{
    enum moe_status status = MOE_OK;
    for (uint64_t done = 0; !status && done < n; done += TOKENS_BETWEEN_LOOKS) {
        uint64_t piece = n - done < TOKENS_BETWEEN_LOOKS ? n - done : TOKENS_BETWEEN_LOOKS;
        struct moe_tokens rows = rows_of(trace, from + done, piece);
        status = moe_writer_append(w, &rows, err);
        if (progress)
            moe_progress_update(progress, from + done + piece);
        if (!status && progress && moe_interrupted())
            status = moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    }
    return status;
}

static enum moe_status write_sequences(struct moe_writer *w, const struct moe_trace *trace,
                                       struct moe_progress *progress, struct moe_err *err)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < trace->n_sequences; i++) {
        uint64_t n = trace->sequences[i].n_tokens;
        if (n > trace->tokens.n_tokens - at)
            return moe_fail(err, MOE_ERR_INPUT,
                            "sequence %" PRIu64 " of %" PRIu64 " tokens ends beyond the %" PRIu64
                            " tokens of the trace",
                            i, n, trace->tokens.n_tokens);
        enum moe_status status = append_rows(w, trace, at, n, progress, err);
        if (!status)
            status = moe_writer_end_sequence(w, &trace->sequences[i], err);
        if (status)
            return status;
        at += n;
    }
    if (at != trace->tokens.n_tokens)
        return moe_fail(err, MOE_ERR_INPUT,
                        "sequences have %" PRIu64 " tokens together, the trace has %" PRIu64, at,
                        trace->tokens.n_tokens);
    return MOE_OK;
}

enum moe_status moe_trace_save_watched(const char *path, const struct moe_trace *trace,
                                       struct moe_progress *progress, struct moe_err *err)
{
    struct moe_writer *w;
    enum moe_status status =
        moe_writer_open(&w, path, &trace->info, moe_tokens_parts(&trace->tokens), false, err);
    if (status)
        return status;
    status = write_sequences(w, trace, progress, err);
    if (!status)
        status = moe_writer_commit(w, err);
    moe_writer_close(w);
    return status;
}

enum moe_status moe_trace_save(const char *path, const struct moe_trace *trace, struct moe_err *err)
{
    return moe_trace_save_watched(path, trace, NULL, err);
}
