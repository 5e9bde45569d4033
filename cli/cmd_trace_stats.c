#include "base/file.h"
#include "cli/hot_list.h"
#include "cli/output.h"
#include "cli/plot.h"
#include "traces/reuse.h"
#include "traces/source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

struct options {
    char output[CLI_PATH_MAX], plot[CLI_PATH_MAX], hot_list[CLI_PATH_MAX], hot_split[1024];
    int format, layers, hot_phase;
};

static const struct moe_param options[] = {
    CLI_OPTION_SWITCH(struct options, layers, "layers", "on",
                      "rows for single layers (--no-layers: mean and chance only)"),
    CLI_OPTION_FILE(struct options, plot, "plot", "", "",
                    "draw a heat map of popularity: STEM.tsv, STEM.svg, STEM.png"),
    CLI_OPTION_FILE(struct options, hot_list, "hot_list", "", "tsv|txt",
                    "write the experts, most used first, to this file for policy static:list=FILE"),
    CLI_OPTION_NAME(
        struct options, hot_split, "hot_split", "all",
        "sequences that the hot list counts: all, first:0.5, last:0.5, sequences:0,3,7"),
    CLI_OPTION_PHASE(struct options, hot_phase, "hot_phase", "tokens that the hot list counts"),
    CLI_OPTION_RESULT(struct options),
    {0},
};

static void add_lags(struct moe_table *table, const char *what, const double *values)
{
    char name[48];
    for (int i = 0; i < MOE_LAGS; i++) {
        snprintf(name, sizeof name, "%s_lag%" PRIu32 "_percent", what, moe_lags[i]);
        moe_table_f64(table, name, 100 * values[i]);
    }
}

static void add_lru(struct moe_table *table, uint32_t ways, double rate)
{
    char name[48];
    snprintf(name, sizeof name, "lru_%" PRIu32 "_ways_percent", ways);
    moe_table_f64(table, name, 100 * rate);
}

static void add_row(struct moe_table *table, const char *layer, const struct moe_reuse_layer *r,
                    const struct moe_reuse *reuse)
{
    double most = 0;
    for (uint32_t e = 0; r->popularity && e < reuse->n_experts; e++)
        most = fmax(most, r->popularity[e]);
    moe_table_row(table);
    moe_table_text(table, "layer", layer);
    moe_table_u64(table, "routes", r->n_routes);
    moe_table_f64(table, "entropy_bits", r->entropy);
    moe_table_f64(table, "most_popular_percent", 100 * most);
    add_lags(table, "expert_repeat", r->repeat_expert);
    add_lags(table, "any_repeat", r->repeat_any);
    add_lags(table, "all_repeat", r->repeat_all);
    moe_table_f64(table, "first_repeat_percent", 100 * r->repeat_first);
    moe_table_f64(table, "next_layer_expert_percent", 100 * r->next_layer_expert);
    moe_table_f64(table, "next_layer_any_percent", 100 * r->next_layer_any);
    moe_table_f64(table, "next_layer_all_percent", 100 * r->next_layer_all);
    moe_table_f64(table, "working_set_16_tokens", r->working_set);
    for (uint32_t w = 1; r->lru_hit_rate && w <= reuse->n_experts; w++)
        add_lru(table, w, r->lru_hit_rate[w]);
}

/* Adds the row of what uniform random routing would give. */
static void add_chance(struct moe_table *table, const struct moe_reuse *r)
{
    struct moe_reuse_layer chance = {.entropy = r->chance_entropy,
                                     .repeat_first = r->chance_first,
                                     .next_layer_expert = r->chance_expert,
                                     .next_layer_any = r->chance_any,
                                     .next_layer_all = r->chance_all,
                                     .working_set = r->chance_working_set};
    for (int i = 0; i < MOE_LAGS; i++) {
        chance.repeat_expert[i] = r->chance_expert;
        chance.repeat_any[i] = r->chance_any;
        chance.repeat_all[i] = r->chance_all;
    }
    add_row(table, "chance", &chance, r);
    moe_table_f64(table, "most_popular_percent", 100.0 / r->n_experts);
    for (uint32_t w = 1; w <= r->n_experts; w++)
        add_lru(table, w, moe_reuse_chance_lru(r, w));
}

/* The same rows for a screen: all layers would be 20 columns wide, so only lag 1 and the mean. */
static void print_text(const struct moe_reuse *r, FILE *out)
{
    const struct moe_reuse_layer *m = &r->mean;
    fprintf(out,
            "%" PRIu64 " sequence%s, %" PRIu64 " prefill and %" PRIu64
            " decode token%s, %u layer%s, %u experts, top-%u\n\n",
            r->n_sequences, moe_plural(r->n_sequences), r->n_prefill, r->n_decode,
            moe_plural(r->n_decode), r->n_layers, moe_plural(r->n_layers), r->n_experts, r->top_k);
    fprintf(out, "mean over layers (%-15smeasured   chance\n",
            r->n_decode ? "decode)" : "prefill)");
    fprintf(out, "entropy of popularity, bits      %8.3f %8.3f\n", m->entropy, r->chance_entropy);
    fprintf(out, "different experts in 16 tokens   %8.2f %8.2f\n", m->working_set,
            r->chance_working_set);
    fprintf(out, "first choice repeats, %%          %8.1f %8.1f\n", 100 * m->repeat_first,
            100 * r->chance_first);
    for (int i = 0; i < MOE_LAGS; i++)
        fprintf(out,
                "repeat at lag %-2" PRIu32 ": per expert, %%   %8.1f %8.1f   at least one %5.1f "
                "(%.1f)   all %5.1f (%.1f)\n",
                moe_lags[i], 100 * m->repeat_expert[i], 100 * r->chance_expert,
                100 * m->repeat_any[i], 100 * r->chance_any, 100 * m->repeat_all[i],
                100 * r->chance_all);
    fprintf(out,
            "next layer: per expert, %%        %8.1f %8.1f   at least one %5.1f (%.1f)   all %5.1f "
            "(%.1f)\n",
            100 * m->next_layer_expert, 100 * r->chance_expert, 100 * m->next_layer_any,
            100 * r->chance_any, 100 * m->next_layer_all, 100 * r->chance_all);
    if (!isnan(r->prompt_common_share))
        fprintf(out, "share of prompts in common, %%    %8.1f\n", 100 * r->prompt_common_share);
}

/* Is this number of ways shown? All are for a small model, powers of two for a large one. */
static bool shows_ways(const struct moe_reuse *r, uint32_t ways)
{
    return r->n_experts <= 16 || (ways & (ways - 1)) == 0;
}

static void print_lru(const struct moe_reuse *r, FILE *out)
{
    fprintf(out, "\nLRU hit rate by ways, per access, cold start per sequence (mean over layers;"
                 " an LRU of M ways hits reuse distances < M)\n  ways  ");
    for (uint32_t w = 1; w <= r->n_experts; w++)
        if (shows_ways(r, w))
            fprintf(out, " %6u", w);
    fprintf(out, "\n  hit %% ");
    for (uint32_t w = 1; w <= r->n_experts; w++)
        if (shows_ways(r, w))
            fprintf(out, " %6.1f", 100 * r->mean.lru_hit_rate[w]);
    fprintf(out, "\n  chance");
    for (uint32_t w = 1; w <= r->n_experts; w++)
        if (shows_ways(r, w))
            fprintf(out, " %6.1f", 100 * moe_reuse_chance_lru(r, w));
    fprintf(out, "\n");
}

static void print_layers(const struct moe_reuse *r, FILE *out)
{
    fprintf(out, "\nlayer  entropy  most popular  repeat lag 1: expert   any   all   next layer: "
                 "expert   any\n");
    for (uint32_t l = 0; l < r->n_layers; l++) {
        const struct moe_reuse_layer *x = &r->layer[l];
        double most = 0;
        for (uint32_t e = 0; e < r->n_experts; e++)
            most = fmax(most, x->popularity[e]);
        fprintf(out, "%5u  %7.3f  %10.1f %%  %18.1f %% %5.1f %5.1f  %16.1f %% %5.1f\n", l,
                x->entropy, 100 * most, 100 * x->repeat_expert[0], 100 * x->repeat_any[0],
                100 * x->repeat_all[0], 100 * x->next_layer_expert, 100 * x->next_layer_any);
    }
    fprintf(out, "nan: there was nothing to count (the last layer has no next one; a sequence is "
                 "shorter than the lag)\n");
}

static enum moe_status write_table(const struct cli_call *call, const struct moe_trace *trace,
                                   const struct moe_reuse *reuse, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_table *table = cli_table_new(call);
    char layer[16];
    cli_note_trace(table, call->args[0], &trace->info);
    moe_table_note(table, "prompt_common_share", "%g", reuse->prompt_common_share);
    for (uint32_t l = 0; o->layers && l < reuse->n_layers; l++) {
        snprintf(layer, sizeof layer, "%u", l);
        add_row(table, layer, &reuse->layer[l], reuse);
    }
    add_row(table, "mean", &reuse->mean, reuse);
    add_chance(table, reuse);
    return cli_table_end(table, MOE_OK, o->format, o->output, err);
}

static enum moe_status write_text(const struct cli_call *call, const struct moe_trace *trace,
                                  const struct moe_reuse *reuse, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_output out;
    enum moe_status s = moe_output_create(&out, o->output, err);
    if (s)
        return s;
    fprintf(out.stream, "%s: %s%s\n", call->args[0], trace->info.synthetic ? "SYNTHETIC, " : "",
            trace->info.model);
    print_text(reuse, out.stream);
    print_lru(reuse, out.stream);
    if (o->layers)
        print_layers(reuse, out.stream);
    return moe_output_commit(&out, err);
}

/* Writes the popularity of every (layer, expert) as rows, and draws them as a heat map. */
static enum moe_status draw_heatmap(const struct cli_call *call, const struct moe_trace *trace,
                                    const struct moe_reuse *reuse, struct moe_err *err)
{
    const struct options *o = call->options;
    char tsv[CLI_PATH_MAX + 8], title[MOE_TEXT_MAX + 64];
    struct moe_table *table = cli_table_new(call);
    cli_note_trace(table, call->args[0], &trace->info);
    for (uint32_t l = 0; l < reuse->n_layers; l++) {
        for (uint32_t e = 0; e < reuse->n_experts; e++) {
            moe_table_row(table);
            moe_table_u64(table, "layer", l);
            moe_table_u64(table, "expert", e);
            moe_table_f64(table, "share_percent", 100 * reuse->layer[l].popularity[e]);
        }
    }
    snprintf(tsv, sizeof tsv, "%s.tsv", o->plot);
    snprintf(title, sizeof title, "%s: popularity of experts", trace->info.model);
    enum moe_status s = cli_table_end(table, MOE_OK, CLI_TSV, tsv, err);
    return s ? s : moe_plot("routing-heatmap", tsv, o->plot, title, err);
}

static enum moe_status check(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    char tsv[CLI_PATH_MAX + 8];
    if (!*o->hot_list && (cli_call_sets(call, "hot_split") || cli_call_sets(call, "hot_phase")))
        return moe_fail(err, MOE_ERR_USAGE, "--%s needs --hot-list, the file to write",
                        cli_call_sets(call, "hot_split") ? "hot-split" : "hot-phase");
    snprintf(tsv, sizeof tsv, "%s.tsv", o->plot);
    return *o->plot ? moe_output_check(tsv, err) : MOE_OK;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_trace trace = {0};
    struct moe_reuse reuse = {0};
    enum moe_status s = check(call, err);
    if (!s)
        s = moe_trace_from_name(call->args[0], 0, NULL, &trace, err);
    if (!s && *o->hot_list) /* first, so that its errors show at once */
        s = cli_write_hot_list(call, &trace, o->hot_split, (enum moe_phases)o->hot_phase,
                               o->hot_list, err);
    if (!s)
        s = moe_reuse_compute(&trace, &reuse, err);
    if (!s)
        s = o->format == CLI_TEXT ? write_text(call, &trace, &reuse, err)
                                  : write_table(call, &trace, &reuse, err);
    if (!s && *o->plot)
        s = draw_heatmap(call, &trace, &reuse, err);
    moe_reuse_release(&reuse);
    moe_trace_release(&trace);
    return s;
}

const struct cli_command cli_trace_stats = {
    .name = "trace stats",
    .usage = "TRACE [options]",
    .summary = "popularity, repeats and reuse distances, each beside what chance would give",
    .description = MOE_TRACE_NAME_HELP,
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
