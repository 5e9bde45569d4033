#include "cli/output.h"
#include "traces/hdf5.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

struct options {
    uint64_t first, count;
    uint64_t layer;
};

enum { ALL_LAYERS = MOE_MAX_LAYERS };

static const struct moe_param options[] = {
    CLI_OPTION_U64(struct options, first, "first", "0", 0, 0, "token", "first token to print"),
    CLI_OPTION_U64(struct options, count, "count", "20", 0, 0, "tokens; 0: all",
                   "how many tokens to print"),
    CLI_OPTION_U64(struct options, layer, "layer", "1024", 0, ALL_LAYERS, NULL,
                   "only this layer; 1024: all layers"),
    {0},
};

static void print_row(const struct moe_trace_info *info, const struct moe_tokens *t, uint64_t i,
                      uint32_t layer)
{
    uint64_t at = (i * info->n_layers + layer) * info->top_k;
    printf("%" PRIu64 "\t%" PRIu32 "\t%" PRIu32 "\t%" PRId32 "\t%" PRId32 "\t%s\t%" PRIu32 "\t",
           t->first_token + i, t->sequence[i], t->step[i], t->position[i], t->token_id[i],
           t->phase[i] == MOE_DECODE ? "decode" : "prefill", layer);
    for (uint32_t k = 0; k < info->top_k; k++) {
        if (t->expert[at + k] == MOE_NO_EXPERT)
            break;
        printf("%s%u", k ? "," : "", t->expert[at + k]);
        if (t->weight && !isnan(t->weight[at + k]))
            printf(":%.4g", (double)t->weight[at + k]);
    }
    if (t->request)
        printf("\t%" PRIu32, t->request[i]);
    printf("\n");
}

static enum moe_status print_tokens(struct moe_reader *reader, const struct options *o,
                                    struct moe_err *err)
{
    const struct moe_trace_info *info = moe_reader_info(reader);
    const struct moe_tokens *block;
    uint64_t last = o->count ? o->first + o->count : UINT64_MAX;
    enum moe_status s;
    if (o->layer != ALL_LAYERS && o->layer >= info->n_layers)
        return moe_fail(err, MOE_ERR_USAGE, "--layer %" PRIu64 " is outside 0..%u", o->layer,
                        info->n_layers - 1);
    if (o->first >= moe_reader_n_tokens(reader) && o->first > 0)
        return moe_fail(err, MOE_ERR_USAGE, "--first %" PRIu64 " is beyond the %" PRIu64 " token%s",
                        o->first, moe_reader_n_tokens(reader),
                        moe_plural(moe_reader_n_tokens(reader)));
    printf("token\tsequence\tstep\tposition\ttoken_id\tphase\tlayer\texperts%s\n",
           moe_reader_parts(reader) & MOE_HAS_REQUEST ? "\trequest" : "");
    while ((s = moe_reader_next(reader, MOE_HAS_WEIGHT, &block, err)) == MOE_OK && block) {
        if (block->first_token >= last || ferror(stdout))
            break;
        for (uint64_t i = 0; i < block->n_tokens; i++) {
            uint64_t token = block->first_token + i;
            if (token < o->first || token >= last)
                continue;
            for (uint32_t l = 0; l < info->n_layers; l++)
                if (o->layer == ALL_LAYERS || o->layer == l)
                    print_row(info, block, i, l);
        }
    }
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_reader *reader;
    enum moe_status s = moe_reader_open(&reader, call->args[0], err);
    if (s)
        return s;
    s = print_tokens(reader, o, err);
    moe_reader_close(reader);
    return s;
}

const struct cli_command cli_trace_cat = {
    .name = "trace cat",
    .usage = "TRACE.h5 [options]",
    .summary = "prints routes as text, one (token, layer) per line",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
