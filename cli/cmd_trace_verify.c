#include "base/progress.h"
#include "cli/command.h"
#include "traces/hdf5.h"

#include <inttypes.h>
#include <stdio.h>

static enum moe_status verify(struct moe_reader *reader, struct moe_err *err)
{
    struct moe_progress progress;
    const struct moe_tokens *block;
    unsigned parts = moe_reader_parts(reader);
    enum moe_status s;
    moe_progress_begin(&progress, "verifying", "tokens", moe_reader_n_tokens(reader));
    while ((s = moe_reader_next(reader, parts, &block, err)) == MOE_OK && block) {
        moe_progress_update(&progress, block->first_token + block->n_tokens);
        if (moe_interrupted()) {
            s = moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
            break;
        }
    }
    moe_progress_end(&progress);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    struct moe_reader *reader;
    enum moe_status s = moe_reader_open(&reader, call->args[0], err);
    if (s)
        return s;
    s = verify(reader, err);
    if (!s)
        printf("%s: ok, %" PRIu64 " sequence%s, %" PRIu64 " token%s\n", call->args[0],
               moe_reader_n_sequences(reader), moe_plural(moe_reader_n_sequences(reader)),
               moe_reader_n_tokens(reader), moe_plural(moe_reader_n_tokens(reader)));
    moe_reader_close(reader);
    return s;
}

const struct cli_command cli_trace_verify = {
    .name = "trace verify",
    .usage = "TRACE.h5",
    .summary = "reads every row and checks all that the format promises",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
