#include "base/numbers.h"
#include "cli/run_hybrid.h"
#include "exec/host_options.h"
#include "exec/record.h"

#include <stdio.h>
#include <time.h>

struct options {
    struct cli_inference inference;
    struct cli_hybrid_options hybrid;
    char prompts[CLI_PATH_MAX], out[CLI_PATH_MAX], created[64];
    uint64_t limit, max_prompt, commit_every;
    int prompts_format, scores, lookahead, overwrite, format;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, inference.model, "model", "",
                    "folder of a Hugging Face model, or tiny-mixtral, tiny-phimoe (required)"),
    CLI_OPTION_NAME(
        struct options, prompts, "prompts", "",
        "file of prompts: text with one prompt a line, JSON lines, or MMLU's CSV (required)"),
    CLI_OPTION_FILE(struct options, out, "output", "", CLI_ENDINGS_TRACE,
                    "trace to write, x.h5; also --out (required)"),
    CLI_OPTION_CHOICE(struct options, prompts_format, "prompts-format", MOE_PROMPTS_CHOICES, "auto",
                      "auto: .jsonl, .csv (mmlu), anything else text"),
    CLI_OPTION_U64(struct options, limit, "limit", "0", 0, 0, "prompts",
                   "take only the first N; 0: all"),
    CLI_OPTION_U64(struct options, max_prompt, "max-prompt", "0", 0, 1 << 24, "tokens",
                   "cut longer prompts to N tokens; 0: cut none, and refuse one that is longer "
                   "than the context"),
    CLI_INFERENCE_OPTIONS(struct options),
    CLI_OPTION_SWITCH(struct options, scores, "scores", "on",
                      "keep the router's logits of all experts"),
    CLI_OPTION_SWITCH(struct options, lookahead, "lookahead", "on",
                      "keep the logits of the next layer's router on each layer's input"),
    CLI_OPTION_U64(struct options, commit_every, "commit-every", "1", 1, 1000000, "prompts",
                   "make the file safe against a kill after every N prompts"),
    CLI_OPTION_SWITCH(struct options, overwrite, "overwrite", "off",
                      "replace an existing file instead of resuming it"),
    CLI_OPTION_NAME(struct options, created, "created", "",
                    "time of recording to store, e.g. 2026-01-01T00:00:00Z (default: now)"),
    CLI_HYBRID_OPTIONS(struct options),
    CLI_OPTION_FORMAT(struct options),
    {0},
};

/* The place of a recording with --strategy. */
struct placed {
    const struct options *o;
    struct cli_run_hybrid run;
};

static void time_now(char *buf, size_t size)
{
    time_t now = time(NULL);
    struct tm utc;
    if (!gmtime_r(&now, &utc) || !strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &utc))
        snprintf(buf, size, "unknown");
}

static double per_s(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

static enum moe_status begin(void *context, struct moe_session *session, struct moe_err *err)
{
    struct placed *p = context;
    return cli_run_hybrid_begin(&p->run, &p->o->inference, session, false, err);
}

static enum moe_status end(void *context, struct moe_err *err)
{
    struct placed *p = context;
    enum moe_status s = cli_run_hybrid_log(&p->run, err);
    cli_run_hybrid_leave(&p->run);
    return s;
}

static enum moe_status show(const struct cli_call *call, const struct moe_llm *llm,
                            const struct moe_recorded *done, const struct cli_run_hybrid *hybrid,
                            struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_table *table = cli_table_new(call);
    uint64_t all_ns = done->prefill_ns + done->decode_ns + done->record_ns;
    if (hybrid->allocation.slot_bytes)
        cli_hybrid_note(&hybrid->base, &hybrid->allocation, table);
    moe_table_row(table);
    moe_table_text(table, "trace", o->out);
    moe_table_text(table, "model", llm->name);
    moe_table_u64(table, "prompts", done->n_prompts);
    moe_table_u64(table, "prompts_before", done->n_before);
    moe_table_u64(table, "prefill_tokens", done->n_prefill);
    moe_table_u64(table, "decode_tokens", done->n_decode);
    moe_table_f64(table, "prefill_tokens_per_s", per_s(done->n_prefill, done->prefill_ns));
    moe_table_f64(table, "decode_tokens_per_s", per_s(done->n_decode, done->decode_ns));
    moe_table_f64(table, "writing_percent", moe_percent(done->record_ns, all_ns));
    moe_table_u64(table, "peak_memory_bytes", cli_peak_memory());
    return cli_table_end(table, MOE_OK, o->format, "-", err);
}

/* Opens the strategy; refuses lossy ones, as a trace holds what the router chose. */
static enum moe_status open_strategy(const struct cli_call *call, struct placed *placed, char *note,
                                     size_t size, struct moe_err *err)
{
    const struct options *o = call->options;
    enum moe_status s = cli_hybrid_open(&placed->run.base, call, &o->hybrid, o->inference.kernels,
                                        o->inference.threads, err);
    if (s)
        return s;
    const struct moe_device *device = placed->run.base.device;
    if (moe_strategy_is_lossy(&placed->run.base.strategy))
        return moe_fail(err, MOE_ERR_USAGE,
                        "strategy '%s' is lossy: it computes other experts than the router chose, "
                        "so the trace would not be the model's; use 'moelab run'",
                        placed->run.base.strategy.name);
    snprintf(note, size, "%s", "");
    if (!device->deterministic)
        snprintf(note, size, " on %s %.24s", device->ops->name, device->name);
    return MOE_OK;
}

static enum moe_status record(const struct cli_call *call, const char *folder, struct moe_llm *llm,
                              struct moe_tokenizer *tokenizer, struct placed *placed,
                              struct moe_err *err)
{
    const struct options *o = call->options;
    char now[64], note[64];
    struct moe_prompts prompts = {0};
    struct moe_recorded done;
    const struct moe_record_place place = {note, begin, end, placed};
    struct moe_record_options r = {
        .place = *o->hybrid.strategy ? &place : NULL,
        .out = o->out,
        .created = *o->created ? o->created : now,
        .session = cli_session_options(&o->inference),
        .max_prompt = (uint32_t)o->max_prompt,
        .max_new = (uint32_t)o->inference.max_new,
        .ignore_eos = o->inference.ignore_eos,
        .temperature = o->inference.temperature,
        .top_p = o->inference.top_p,
        .top_k = (uint32_t)o->inference.top_k,
        .seed = o->inference.seed,
        .scores = o->scores,
        .lookahead = o->lookahead,
        .commit_every = (uint32_t)o->commit_every,
        .overwrite = o->overwrite,
    };
    time_now(now, sizeof now);
    r.session.lookahead = o->lookahead;
    if (r.place)
        r.session.threads = 1; /* the session's own pool has nothing to do */
    enum moe_status s = cli_chat(&o->inference, folder, &r.chat, err);
    if (!s && r.place)
        s = open_strategy(call, placed, note, sizeof note, err);
    if (!s)
        s = moe_prompts_load(o->prompts, (enum moe_prompts_format)o->prompts_format, o->limit,
                             &prompts, err);
    if (!s)
        s = moe_record(llm, tokenizer, &prompts, &r, &done, err);
    if (!s)
        s = show(call, llm, &done, &placed->run, err);
    moe_prompts_release(&prompts);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    char folder[CLI_PATH_MAX];
    struct moe_llm *llm = NULL;
    struct moe_tokenizer *tokenizer = NULL;
    struct placed placed = {.o = o};
    if (!*o->prompts || !*o->out)
        return moe_fail(err, MOE_ERR_USAGE, "option '--%s' is required",
                        *o->prompts ? "output" : "prompts");
    enum moe_status s = cli_hybrid_check(call, &o->hybrid, err);
    if (!s)
        s = cli_open_model(&o->inference, folder, sizeof folder, &llm, &tokenizer, err);
    if (!s)
        s = record(call, folder, llm, tokenizer, &placed, err);
    cli_run_hybrid_end(&placed.run);
    moe_tokenizer_free(tokenizer);
    moe_llm_close(llm);
    return s;
}

const struct cli_command cli_record = {
    .name = "record",
    .usage = "--model FOLDER --prompts FILE --out TRACE.h5 [--strategy NAME]",
    .summary = "runs prompts through a model and writes its routing to a trace",
    .description =
        "Every prompt becomes a sequence: prefill, then decode. The file is complete after every\n"
        "prompt. After an interruption or a kill, the same command resumes at the first prompt\n"
        "that is not in the file; other prompts or settings are refused. Recorded in one go, the\n"
        "same prompts and settings give the same bytes, apart from the time of recording\n"
        "(--created).\n"
        "\n"
        "With --strategy, device and CPU share the experts as in 'moelab run'. On 'host', and\n"
        "with --deterministic on a GPU, the trace has the same bytes as without a strategy;\n"
        "otherwise a GPU sums in its own order, and the trace's attribute 'tool' says so.\n"
        "--threads replaces the strategy's threads, and --context 0 takes only what the longest\n"
        "prompt and its answer need. The keys below are those of --device host:KEY=VALUE,...",
    .options = options,
    .options_size = sizeof(struct options),
    .takes_sets = true,
    .spec = moe_host_params,
    .run = run,
};
