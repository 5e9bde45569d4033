#include "cli/hot_list.h"

#include "base/units.h"
#include "cli/output.h"
#include "policies/hot_list.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum moe_status choose_share(const char *text, bool last, uint8_t *chosen, uint64_t n,
                                    struct moe_err *err)
{
    double share;
    enum moe_status s = moe_parse_f64(text, 0, 1, &share, err);
    if (s)
        return s;
    uint64_t count = (uint64_t)(share * (double)n);
    if (count == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "%s of %" PRIu64 " sequence%s is less than one; give a larger share", text,
                        n, moe_plural(n));
    memset(chosen + (last ? n - count : 0), 1, count);
    return MOE_OK;
}

static enum moe_status choose_listed(const char *text, uint8_t *chosen, uint64_t n,
                                     struct moe_err *err)
{
    for (;;) {
        char word[24];
        uint64_t number;
        size_t length = strcspn(text, ",");
        if (length >= sizeof word)
            return moe_fail(err, MOE_ERR_USAGE, "'%.24s...' is too long for a number", text);
        memcpy(word, text, length);
        word[length] = 0;
        enum moe_status s = moe_parse_u64(word, 0, n - 1, &number, err);
        if (s)
            return s;
        if (chosen[number])
            return moe_fail(err, MOE_ERR_USAGE, "sequence %" PRIu64 " is given twice", number);
        chosen[number] = 1;
        if (!text[length])
            return MOE_OK;
        text += length + 1;
    }
}

/* n: at least 1. */
static enum moe_status choose(const char *split, uint8_t *chosen, uint64_t n, struct moe_err *err)
{
    enum moe_status s;
    if (strcmp(split, "all") == 0) {
        memset(chosen, 1, n);
        return MOE_OK;
    }
    if (strncmp(split, "first:", 6) == 0)
        s = choose_share(split + 6, false, chosen, n, err);
    else if (strncmp(split, "last:", 5) == 0)
        s = choose_share(split + 5, true, chosen, n, err);
    else if (strncmp(split, "sequences:", 10) == 0)
        s = choose_listed(split + 10, chosen, n, err);
    else
        s = moe_fail(err, MOE_ERR_USAGE,
                     "expected all, first:SHARE, last:SHARE or sequences:0,1,...");
    return s ? moe_fail_prefix(err, "--hot-split '%.60s'", split) : MOE_OK;
}

/* Notes where the list comes from, without which its worth cannot be judged. */
static void add_notes(struct moe_table *table, const struct cli_call *call,
                      const struct moe_trace *trace, const char *split, const uint8_t *chosen)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < trace->n_sequences; i++)
        n += chosen[i];
    cli_note_trace(table, call->args[0], &trace->info);
    moe_table_note(table, "trace_created", "%s", trace->info.created);
    moe_table_note(table, "fitted_on", "%" PRIu64 " of %" PRIu64 " sequences (%s)", n,
                   trace->n_sequences, split);
}

static void add_rows(struct moe_table *table, const struct moe_trace_info *info,
                     const moe_key *keys, const uint64_t *uses)
{
    for (size_t i = 0; i < (size_t)info->n_layers * info->n_experts; i++) {
        moe_table_row(table);
        moe_table_u64(table, "layer", keys[i] / info->n_experts);
        moe_table_u64(table, "expert", keys[i] % info->n_experts);
        moe_table_u64(table, "uses", uses[keys[i]]);
    }
}

static enum moe_status write(const struct cli_call *call, const struct moe_trace *trace,
                             const char *split, enum moe_phases phases, const uint8_t *chosen,
                             const char *path, struct moe_err *err)
{
    static const char *const phase_names[] = {"both", "decode", "prefill"};
    size_t n = (size_t)trace->info.n_layers * trace->info.n_experts;
    moe_key *keys = calloc(n + 1, sizeof *keys);
    uint64_t *uses = calloc(n + 1, sizeof *uses);
    struct moe_table *table = cli_table_new(call);
    enum moe_status s = keys && uses ? moe_hot_list_fit(trace, chosen, phases, keys, uses, err)
                                     : moe_fail_memory(err, "a hot list");
    if (!s) {
        add_notes(table, call, trace, split, chosen);
        moe_table_note(table, "fitted_phase", "%s", phase_names[phases]);
        add_rows(table, &trace->info, keys, uses);
    }
    free(keys);
    free(uses);
    return cli_table_end(table, s, CLI_TSV, path, err);
}

enum moe_status cli_write_hot_list(const struct cli_call *call, const struct moe_trace *trace,
                                   const char *split, enum moe_phases phases, const char *path,
                                   struct moe_err *err)
{
    if (trace->n_sequences == 0) /* a recording interrupted in its first prompt */
        return moe_fail(err, MOE_ERR_USAGE,
                        "--hot-list: trace '%.300s' has no sequences to fit a list on",
                        call->args[0]);
    uint8_t *chosen = calloc(trace->n_sequences + 1, 1);
    if (!chosen)
        return moe_fail_memory(err, "the choice of sequences");
    enum moe_status s = choose(split, chosen, trace->n_sequences, err);
    if (!s)
        s = write(call, trace, split, phases, chosen, path, err);
    free(chosen);
    return s;
}
