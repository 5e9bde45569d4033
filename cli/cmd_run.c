#include "base/progress.h"
#include "base/units.h"
#include "cli/run_hybrid.h"
#include "cli/run_trace.h"
#include "exec/device_list.h"
#include "exec/generate.h"
#include "exec/host_options.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    struct cli_inference inference;
    struct cli_hybrid_options hybrid;
    struct cli_traced_options traced;
    char prompt[1 << 16], system[1 << 14];
    int format, special, stats;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, inference.model, "model", "",
                    "folder of a Hugging Face model, or tiny-mixtral, tiny-phimoe (or --shape)"),
    CLI_OPTION_NAME(struct options, prompt, "prompt", "",
                    "the text; - reads it from standard input"),
    CLI_OPTION_NAME(struct options, system, "system", "",
                    "system message, if the chat template has a place for one"),
    CLI_INFERENCE_OPTIONS(struct options),
    CLI_OPTION_SWITCH(struct options, special, "show-special", "off",
                      "print tokens such as <|end|> as well"),
    CLI_HYBRID_OPTIONS(struct options),
    CLI_OPTION_SWITCH(
        struct options, stats, "stats", "off",
        "with --strategy, on a terminal: show speed, hits, fills and waiting during the run"),
    CLI_TRACED_OPTIONS(struct options,
                       "run the routes of this trace instead of a prompt: x.h5, synth:SPEC, ..."),
    CLI_OPTION_FORMAT(struct options),
    {0},
};

/* One run: from the options to the last token. */
struct generation {
    const struct cli_call *call;
    const struct options *o;
    struct moe_llm *llm;
    struct moe_tokenizer *tokenizer;
    struct moe_session *session;
    enum moe_chat chat;
    int32_t *prompt;
    size_t n_prompt;
    float *logits;
    struct moe_generate_options generate;
    struct moe_detokenizer detokenizer;
    int32_t *tokens; /* [max_new] */
    uint32_t n_tokens;
    struct moe_generated made;
    uint64_t load_ns;
    struct moe_progress progress;
    bool strategy;    /* false: everything on the CPU, and hybrid is not used */
    uint32_t threads; /* of a strategy that leaves everything to the CPU; 0: as the options say */
    struct cli_run_hybrid hybrid;
    char *text; /* the answer, for JSON and TSV */
    size_t text_size;
    FILE *text_stream;
};

enum { MS_BETWEEN_LOOKS = 200 };

/* Reads some bytes of standard input, 0 at its end. Waits for input before it calls read, which a
 * signal does not interrupt: so Ctrl-C ends the wait for a prompt. */
static enum moe_status read_some(char *to, size_t room, size_t *got, struct moe_err *err)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (poll(&input, 1, MS_BETWEEN_LOOKS) <= 0 && !moe_interrupted())
        ;
    if (moe_interrupted())
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    ssize_t n = read(STDIN_FILENO, to, room);
    if (n < 0)
        return moe_fail(err, MOE_ERR_IO, "cannot read standard input: %s", strerror(errno));
    *got = (size_t)n;
    return MOE_OK;
}

/* All of standard input. */
static enum moe_status read_stdin(char **out, struct moe_err *err)
{
    size_t capacity = 1 << 16, n = 0;
    char *text = malloc(capacity);
    while (text) {
        size_t got = 0;
        enum moe_status s = read_some(text + n, capacity - 1 - n, &got, err);
        if (s) {
            free(text);
            return s;
        }
        n += got;
        if (got == 0)
            break;
        if (n < capacity - 1)
            continue;
        if (capacity >= (size_t)1 << 30) {
            free(text);
            return moe_fail(err, MOE_ERR_INPUT, "the prompt exceeds 1 GiB");
        }
        char *more = realloc(text, capacity *= 2);
        if (!more)
            free(text);
        text = more;
    }
    if (!text)
        return moe_fail_memory(err, "the prompt");
    text[n] = 0;
    if (memchr(text, 0, n)) {
        free(text);
        return moe_fail(err, MOE_ERR_INPUT, "the prompt holds a NUL byte");
    }
    *out = text;
    return MOE_OK;
}

/* The text to be tokenized: the prompt in its chat template; heap. */
static enum moe_status whole_prompt(struct generation *g, char **out, struct moe_err *err)
{
    char *given = NULL;
    enum moe_status s = MOE_OK;
    if (strcmp(g->o->prompt, "-") == 0)
        s = read_stdin(&given, err);
    else if (!(given = strdup(g->o->prompt)))
        s = moe_fail_memory(err, "the prompt");
    if (!s && !*given) { /* checked here, as a chat template would make it non-empty */
        free(given);
        return moe_fail(err, MOE_ERR_USAGE, "the prompt is empty: standard input holds nothing");
    }
    if (s || g->chat == MOE_CHAT_NONE) {
        *out = given;
        return s;
    }
    struct moe_message messages[] = {{"system", g->o->system}, {"user", given}};
    struct moe_chat_tokens tokens = {moe_tokenizer_bos(g->tokenizer),
                                     moe_tokenizer_eos(g->tokenizer)};
    size_t first = *g->o->system ? 0 : 1;
    s = moe_chat_format(g->chat, &tokens, messages + first, 2 - first, out, err);
    free(given);
    return s;
}

static enum moe_status encode(struct generation *g, struct moe_err *err)
{
    char *text = NULL;
    /* A chat template has its own BOS. */
    bool bos = g->chat == MOE_CHAT_NONE && moe_tokenizer_adds_bos(g->tokenizer);
    enum moe_status s = whole_prompt(g, &text, err);
    if (!s)
        s = moe_tokenizer_encode(g->tokenizer, text, strlen(text), bos, &g->prompt, &g->n_prompt,
                                 err);
    free(text);
    if (s)
        return moe_fail_prefix(err, "prompt");
    if (g->n_prompt == 0)
        return moe_fail(err, MOE_ERR_USAGE, "the prompt is empty: nothing to continue");
    return MOE_OK;
}

static enum moe_status load(struct generation *g, struct moe_err *err)
{
    const struct cli_inference *o = &g->o->inference;
    char folder[CLI_PATH_MAX];
    uint64_t began = moe_clock_ns();
    enum moe_status s = cli_open_model(o, folder, sizeof folder, &g->llm, &g->tokenizer, err);
    if (!s)
        s = cli_chat(o, folder, &g->chat, err);
    if (!s && *g->o->system && g->chat == MOE_CHAT_NONE)
        s = moe_fail(err, MOE_ERR_USAGE, "--system needs a chat template, and there is none");
    if (!s)
        s = moe_sampler_init(&g->generate.sampler, g->llm->config.n_vocab, o->temperature,
                             (uint32_t)o->top_k, o->top_p, o->seed, err);
    g->load_ns = moe_clock_ns() - began;
    return s;
}

/* Under a strategy the KV cache lies on the device, so it is only as long as this prompt and its
 * answer need. */
static void shrink_session(const struct generation *g, struct moe_session_options *session)
{
    const struct cli_inference *o = &g->o->inference;
    uint64_t needed = g->n_prompt + o->max_new, most = g->llm->config.max_context;
    if (!session->context)
        session->context = (uint32_t)(needed < most ? needed : most);
    if (g->n_prompt < session->chunk)
        session->chunk = (uint32_t)g->n_prompt;
    session->threads = 1; /* the session's own pool has nothing to do */
}

static enum moe_status start(struct generation *g, struct moe_err *err)
{
    struct moe_session_options session = cli_session_options(&g->o->inference);
    uint64_t began = moe_clock_ns();
    if (g->strategy)
        shrink_session(g, &session);
    else if (g->threads)
        session.threads = g->threads;
    enum moe_status s = moe_session_new(&g->session, g->llm, &session, err);
    if (!s && g->n_prompt > moe_session_context(g->session))
        s = moe_fail(err, MOE_ERR_USAGE, "the prompt's %zu tokens exceed the context of %u",
                     g->n_prompt, moe_session_context(g->session));
    if (!s && g->strategy)
        s = cli_run_hybrid_begin(&g->hybrid, &g->o->inference, g->session, g->o->stats, err);
    g->load_ns += moe_clock_ns() - began;
    return s;
}

static enum moe_status allocate(struct generation *g, struct moe_err *err)
{
    g->generate.max_new = (uint32_t)g->o->inference.max_new;
    g->generate.ignore_eos = g->o->inference.ignore_eos;
    g->logits = calloc(g->llm->config.n_vocab, sizeof *g->logits);
    g->tokens = calloc(g->generate.max_new + 1u, sizeof *g->tokens);
    g->text_stream = open_memstream(&g->text, &g->text_size);
    return g->logits && g->tokens && g->text_stream ? MOE_OK : moe_fail_memory(err, "the answer");
}

static enum moe_status put_text(struct generation *g, const char *text, size_t n,
                                struct moe_err *err)
{
    bool stream = g->o->format == CLI_TEXT;
    FILE *out = stream ? stdout : g->text_stream;
    errno = 0;
    if (fwrite(text, 1, n, out) == n && (!stream || fflush(stdout) == 0))
        return MOE_OK;
    if (!stream)
        return moe_fail_memory(err, "the answer");
    return moe_fail(err, MOE_ERR_IO, "cannot write to standard output: %s",
                    strerror(errno ? errno : EIO));
}

static enum moe_status show_token(void *context, int32_t token, struct moe_err *err)
{
    struct generation *g = context;
    char piece[MOE_PIECE_MAX];
    g->tokens[g->n_tokens++] = token;
    size_t n = moe_detokenizer_next(&g->detokenizer, token, piece);
    if (g->strategy)
        cli_run_hybrid_hide(&g->hybrid);
    enum moe_status s = put_text(g, piece, n, err);
    if (!s && g->strategy)
        cli_run_hybrid_show(&g->hybrid);
    return s;
}

static void show_prefill(void *context, uint64_t done)
{
    struct generation *g = context;
    uint64_t tokens = done / g->llm->config.n_layers;
    if (tokens < g->n_prompt)
        moe_progress_update(&g->progress, tokens);
    else
        moe_progress_end(&g->progress);
}

static enum moe_status generate(struct generation *g, struct moe_err *err)
{
    char rest[MOE_PIECE_MAX];
    struct moe_generate_watch watch = {show_token, show_prefill, g};
    moe_detokenizer_init(&g->detokenizer, g->tokenizer, true);
    g->detokenizer.show_special = g->o->special;
    moe_progress_begin(&g->progress, "reading the prompt", "tokens", g->n_prompt);
    enum moe_status s = moe_generate(g->session, g->prompt, (uint32_t)g->n_prompt, &g->generate,
                                     &watch, g->logits, NULL, &g->made, err);
    moe_progress_end(&g->progress);
    if (g->strategy)
        cli_run_hybrid_hide(&g->hybrid);
    size_t n = s ? 0 : moe_detokenizer_end(&g->detokenizer, rest);
    if (!s)
        s = put_text(g, rest, n, err);
    if (!s && g->o->format == CLI_TEXT)
        s = put_text(g, "\n", 1, err);
    return s;
}

static double per_s(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : NAN;
}

static uint32_t threads_of(const struct generation *g)
{
    return g->strategy ? g->hybrid.allocation.threads
                       : moe_pool_threads(moe_session_pool(g->session));
}

static const char *kernels_of(const struct generation *g)
{
    return g->strategy ? g->hybrid.allocation.kernels
                       : moe_pool_kernels(moe_session_pool(g->session))->name;
}

static bool prompt_was_read(const struct moe_generated *m)
{
    return m->stop != MOE_STOP_INTERRUPTED || m->n_new > 0;
}

/* Tokens a second over the decode passes: the first new token belongs to the prefill. */
static void log_statistics(const struct generation *g)
{
    const struct moe_generated *m = &g->made;
    char memory[32];
    moe_log("%s, %u thread%s, %s kernels, loaded in %.2f s", g->llm->name, threads_of(g),
            moe_plural(threads_of(g)), kernels_of(g), (double)g->load_ns / 1e9);
    if (prompt_was_read(m))
        moe_log("prefill: %u token%s in %.3f s, %.1f tokens/s", m->n_prompt,
                moe_plural(m->n_prompt), (double)m->prefill_ns / 1e9,
                per_s(m->n_prompt, m->prefill_ns));
    else
        moe_log("prefill: %u token%s, interrupted after %.3f s", m->n_prompt,
                moe_plural(m->n_prompt), (double)m->prefill_ns / 1e9);
    if (m->n_passes)
        moe_log("decode: %u pass%s in %.3f s, %.1f tokens/s, %.2f ms each", m->n_passes,
                m->n_passes == 1 ? "" : "es", (double)m->decode_ns / 1e9,
                per_s(m->n_passes, m->decode_ns), (double)m->decode_ns / 1e6 / m->n_passes);
    moe_log("%u new token%s, ended by: %s; peak memory %s", m->n_new, moe_plural(m->n_new),
            moe_stop_names[m->stop], moe_format_bytes(cli_peak_memory(), memory, sizeof memory));
}

static void print_number(const char *key, double value)
{
    char buf[32];
    printf(",\n \"%s\": %s", key,
           isfinite(value) ? moe_format_f64(value, buf, sizeof buf) : "null");
}

static enum moe_status print_json(struct generation *g, struct moe_err *err)
{
    const struct moe_generated *m = &g->made;
    printf("{\"model\": ");
    moe_json_text(g->llm->name, stdout);
    printf(",\n \"text\": ");
    moe_json_text(g->text, stdout);
    printf(",\n \"prompt_ids\": [");
    for (size_t i = 0; i < g->n_prompt; i++)
        printf("%s%d", i ? ", " : "", g->prompt[i]);
    printf("],\n \"ids\": [");
    for (uint32_t i = 0; i < g->n_tokens; i++)
        printf("%s%d", i ? ", " : "", g->tokens[i]);
    printf("],\n \"stop\": ");
    moe_json_text(moe_stop_names[m->stop], stdout);
    printf(",\n \"kernels\": ");
    moe_json_text(kernels_of(g), stdout);
    print_number("threads", threads_of(g));
    print_number("prompt_tokens", m->n_prompt);
    print_number("new_tokens", m->n_new);
    print_number("load_s", (double)g->load_ns / 1e9);
    print_number("prefill_s", (double)m->prefill_ns / 1e9);
    print_number("prefill_tokens_per_s",
                 prompt_was_read(m) ? per_s(m->n_prompt, m->prefill_ns) : NAN);
    print_number("decode_passes", m->n_passes);
    print_number("decode_s", (double)m->decode_ns / 1e9);
    print_number("decode_tokens_per_s", per_s(m->n_passes, m->decode_ns));
    print_number("peak_memory_bytes", (double)cli_peak_memory());
    enum moe_status s = MOE_OK;
    if (g->strategy) {
        printf(",\n \"strategy\": ");
        s = cli_run_hybrid_json(&g->hybrid, g->call, g->llm, err);
    }
    printf("}\n");
    return s;
}

static enum moe_status show(struct generation *g, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    log_statistics(g);
    if (g->strategy)
        s = cli_run_hybrid_log(&g->hybrid, err);
    if (!s && g->o->format == CLI_JSON) {
        if (fflush(g->text_stream) != 0)
            return moe_fail_memory(err, "the answer");
        s = print_json(g, err);
    }
    if (s)
        return s;
    if (g->made.stop == MOE_STOP_INTERRUPTED)
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted after %u token%s", g->made.n_new,
                        moe_plural(g->made.n_new));
    return MOE_OK;
}

static enum moe_status check_strategy(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    if ((*o->traced.trace || o->stats) && !*o->hybrid.strategy)
        return moe_fail(err, MOE_ERR_USAGE, "--%s needs --strategy (see 'moelab list strategies')",
                        *o->traced.trace ? "trace" : "stats");
    return cli_hybrid_check(call, &o->hybrid, err);
}

/* Refuses options that have no effect when a trace gives the routes. */
static enum moe_status check_trace(const struct cli_call *call, struct moe_err *err)
{
    static const char *const idle[] = {
        "system", "max-new-tokens", "ignore-eos", "chat",         "temperature", "top-k", "top-p",
        "seed",   "context",        "chunk",      "show-special", "interleave",  "stats"};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
        if (cli_call_sets(call, idle[i]))
            return moe_fail(err, MOE_ERR_USAGE,
                            "--%s has no effect with --trace, which runs the trace's own tokens%s",
                            idle[i], i == 1 ? " (--max-tokens stops it)" : "");
    return MOE_OK;
}

static enum moe_status check(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    if (*o->prompt && *o->traced.trace)
        return moe_fail(err, MOE_ERR_USAGE,
                        "--prompt and --trace exclude each other: the model's own routes, or the "
                        "trace's");
    if (o->format == CLI_TSV && !*o->traced.trace)
        return moe_fail(err, MOE_ERR_USAGE,
                        "--format tsv needs --trace: a prompt gives text or json");
    if (*o->traced.shape && !*o->traced.trace)
        return moe_fail(err, MOE_ERR_USAGE, "--shape needs --trace: its text would mean nothing");
    if ((o->traced.layers || o->traced.buffers || o->traced.max_tokens) && !*o->traced.trace)
        return moe_fail(err, MOE_ERR_USAGE,
                        "--layers, --buffers and --max-tokens need --trace (with a prompt: "
                        "--max-new-tokens)");
    if (!*o->prompt && !*o->traced.trace)
        return moe_fail(
            err, MOE_ERR_USAGE,
            "option '--prompt' is missing or empty (-p TEXT; -p - reads standard input)");
    enum moe_status s = *o->traced.trace ? check_trace(call, err) : MOE_OK;
    return s ? s : check_strategy(call, err);
}

/* Is a device needed: is there a GPU, or an option that names or watches a device, or a table that
 * describes one? */
static bool wants_device(const struct generation *g)
{
    const struct cli_hybrid_options *o = &g->o->hybrid;
    struct moe_devices devices;
    return strcmp(o->device.device, "auto") != 0 || *o->timeline || *o->decisions ||
           o->device.deterministic || o->device.store || o->device.pinned_bytes || o->fit ||
           (g->o->stats && isatty(STDERR_FILENO)) || g->o->format != CLI_TEXT ||
           moe_device_list(&devices, NULL) || devices.n > 1;
}

/* Without a GPU, a strategy that leaves everything to the CPU runs without a device, instead of on
 * `host` as a stand-in. */
static enum moe_status leave_device_out(struct generation *g, struct moe_err *err)
{
    struct cli_hybrid look;
    const struct moe_strategy *chosen = &look.strategy;
    if (!g->strategy)
        return MOE_OK;
    enum moe_status s = cli_hybrid_load(&look, g->call, &g->o->hybrid, 1, err); /* logs nothing */
    if (s || strcmp(chosen->geometry, "none") != 0 || moe_strategy_streams(chosen) ||
        moe_strategy_is_lossy(chosen) || wants_device(g))
        return s;
    s = cli_hybrid_load(&look, g->call, &g->o->hybrid, g->o->inference.threads, err);
    if (s)
        return s;
    moe_log("strategy '%s' leaves all to the CPU, and there is no GPU: computed without a device",
            chosen->name);
    g->strategy = false;
    g->threads = (uint32_t)chosen->threads;
    return MOE_OK;
}

static enum moe_status prepare(struct generation *g, struct moe_err *err)
{
    enum moe_status s = load(g, err);
    if (!s)
        s = leave_device_out(g, err);
    if (!s && g->strategy)
        s = cli_hybrid_open(&g->hybrid.base, g->call, &g->o->hybrid, g->o->inference.kernels,
                            g->o->inference.threads, err);
    if (!s)
        s = encode(g, err);
    if (!s)
        s = start(g, err);
    if (!s)
        s = allocate(g, err);
    return s;
}

static enum moe_status run_prompt(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct generation g = {.call = call, .o = o, .strategy = *o->hybrid.strategy};
    enum moe_status s = prepare(&g, err);
    if (!s)
        s = generate(&g, err);
    if (!s)
        s = show(&g, err);
    if (g.text_stream)
        fclose(g.text_stream);
    free(g.text);
    free(g.tokens);
    free(g.logits);
    free(g.prompt);
    moe_sampler_release(&g.generate.sampler);
    cli_run_hybrid_end(&g.hybrid);
    moe_session_free(g.session);
    moe_tokenizer_free(g.tokenizer);
    moe_llm_close(g.llm);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    const struct cli_run_trace traced = {.call = call,
                                         .hybrid = &o->hybrid,
                                         .traced = &o->traced,
                                         .inference = &o->inference,
                                         .format = o->format};
    enum moe_status s = check(call, err);
    if (s)
        return s;
    return *o->traced.trace ? cli_run_trace(&traced, err) : run_prompt(call, err);
}

const struct cli_command cli_run = {
    .name = "run",
    .usage = "--model FOLDER (-p \"...\" | --trace TRACE) [--strategy NAME]",
    .summary = "generates text with a model, or times the routes of a trace, on this machine",
    .description =
        "Runs Mixtral, PhiMoE (Phi-3.5-, Phi-mini-, Phi-tiny-MoE), Qwen3-MoE and OLMoE models as\n"
        "published: config.json, *.safetensors in BF16, F16 or F32 (or 8 and 4 bits, made by\n"
        "`moelab quantize`), tokenizer.model or tokenizer.json. Weights are memory-mapped; only\n"
        "what is used is read from disk. The text goes to standard output, statistics to\n"
        "standard error.\n"
        "\n"
        "Without --strategy every expert is computed on the CPU. With it the dense part runs on\n"
        "the device, and each expert where the strategy says; what was allocated is printed\n"
        "before the first token. A geometry that does not fit is an error unless --fit shrinks\n"
        "it. With --strategy, --threads replaces the strategy's threads, and --context 0 takes\n"
        "only what prompt and answer need. The keys below are those of --device\n"
        "host:KEY=VALUE,...\n"
        "\n"
        "Ctrl-C stops the run: the result, --timeline and --decisions then cover what was done\n"
        "so far. A second Ctrl-C quits at once. After an error none of them is written.\n"
        "\n"
        "--trace runs the routes of a trace in place of the model's own: real copies and\n"
        "kernels, meaningless text, and a result of the same form as that of `moelab sim`. With\n"
        "--shape the weights are made in memory, to measure the speed of a model without having\n"
        "its files. With --platform the result has two lower bounds of the time of a token,\n"
        "each with the share of it that was reached. No strategy beats bound_ms_per_token with\n"
        "the same memory, even if it knows the future. No schedule of this run's own decisions\n"
        "beats schedule_bound_ms_per_token: what is missing from 100 % of it was lost by\n"
        "waiting. After Ctrl-C the result has only the second.",
    .options = options,
    .options_size = sizeof(struct options),
    .takes_sets = true,
    .spec = moe_host_params,
    .run = run,
};
