#include "base/progress.h"
#include "base/units.h"
#include "cli/inference.h"
#include "exec/generate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    struct cli_inference inference;
    char prompt[1 << 16], system[1 << 14];
    int format, special;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, inference.model, "model", "",
                    "folder of a Hugging Face model, or tiny-mixtral, tiny-phimoe (required)"),
    CLI_OPTION_NAME(struct options, prompt, "prompt", "",
                    "the text; - reads it from standard input"),
    CLI_OPTION_NAME(struct options, system, "system", "", "system message, where the chat has one"),
    CLI_INFERENCE_OPTIONS(struct options),
    {.name = "show-special",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct options, special),
     .default_text = "off",
     .help = "print tokens such as <|end|> as well"},
    CLI_OPTION_FORMAT(struct options),
    {0},
};

/* One run: from the options to the last token. */
struct generation {
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
    char *text; /* the answer, for JSON and TSV */
    size_t text_size;
    FILE *text_stream;
};

/* All of standard input. */
static enum moe_status read_stdin(char **out, struct moe_err *err)
{
    size_t capacity = 1 << 16, n = 0;
    char *text = malloc(capacity);
    while (text) {
        n += fread(text + n, 1, capacity - 1 - n, stdin);
        if (n < capacity - 1)
            break;
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

/* The text that goes to the tokenizer; heap. */
static enum moe_status whole_prompt(struct generation *g, char **out, struct moe_err *err)
{
    char *given = NULL;
    enum moe_status s = MOE_OK;
    if (strcmp(g->o->prompt, "-") == 0)
        s = read_stdin(&given, err);
    else if (!(given = strdup(g->o->prompt)))
        s = moe_fail_memory(err, "the prompt");
    if (s || g->chat == MOE_CHAT_NONE) {
        *out = given;
        return s;
    }
    struct moe_message messages[] = {{"system", g->o->system}, {"user", given}};
    size_t first = *g->o->system ? 0 : 1;
    s = moe_chat_format(g->chat, messages + first, 2 - first, out, err);
    free(given);
    return s;
}

static enum moe_status encode(struct generation *g, struct moe_err *err)
{
    char *text = NULL;
    /* A template brings its own. */
    bool bos = g->chat == MOE_CHAT_NONE && moe_tokenizer_adds_bos(g->tokenizer);
    enum moe_status s = whole_prompt(g, &text, err);
    if (!s)
        s = moe_tokenizer_encode(g->tokenizer, text, strlen(text), bos, &g->prompt, &g->n_prompt,
                                 err);
    free(text);
    if (s)
        return moe_fail_prefix(err, "prompt");
    if (g->n_prompt == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--prompt' is required (-p TEXT; -p - reads "
                        "standard input)");
    return MOE_OK;
}

static enum moe_status load(struct generation *g, struct moe_err *err)
{
    const struct cli_inference *o = &g->o->inference;
    struct moe_session_options session = cli_session_options(o);
    char folder[CLI_PATH_MAX];
    uint64_t began = moe_clock_ns();
    enum moe_status s = cli_open_model(o, folder, sizeof folder, &g->llm, &g->tokenizer, err);
    if (!s)
        s = cli_chat(o, folder, &g->chat, err);
    if (!s && *g->o->system && g->chat == MOE_CHAT_NONE)
        s = moe_fail(err, MOE_ERR_USAGE, "--system needs a chat template, and there is none");
    if (!s)
        s = moe_session_new(&g->session, g->llm, &session, err);
    if (!s)
        s = moe_sampler_init(&g->generate.sampler, g->llm->config.n_vocab, o->temperature,
                             (uint32_t)o->top_k, o->top_p, o->seed, err);
    g->load_ns = moe_clock_ns() - began;
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
    if (fwrite(text, 1, n, out) != n || (stream && fflush(stdout) != 0))
        return moe_fail(err, MOE_ERR_IO, "cannot write to standard output");
    return MOE_OK;
}

static enum moe_status show_token(void *context, int32_t token, struct moe_err *err)
{
    struct generation *g = context;
    char piece[MOE_PIECE_MAX];
    g->tokens[g->n_tokens++] = token;
    size_t n = moe_detokenizer_next(&g->detokenizer, token, piece);
    return put_text(g, piece, n, err);
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
    if (g->n_prompt > moe_session_context(g->session))
        return moe_fail(err, MOE_ERR_USAGE, "the prompt's %zu tokens exceed the context of %u",
                        g->n_prompt, moe_session_context(g->session));
    moe_progress_begin(&g->progress, "reading the prompt", "tokens", g->n_prompt);
    enum moe_status s = moe_generate(g->session, g->prompt, (uint32_t)g->n_prompt, &g->generate,
                                     &watch, g->logits, NULL, &g->made, err);
    moe_progress_end(&g->progress);
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

/* Tokens a second over the decode passes: the first new token belongs to the prefill. */
static void log_statistics(const struct generation *g)
{
    const struct moe_generated *m = &g->made;
    char memory[32];
    moe_log("%s, %u threads, %s kernels, loaded in %.2f s", g->llm->name,
            moe_pool_threads(moe_session_pool(g->session)),
            moe_pool_kernels(moe_session_pool(g->session))->name, (double)g->load_ns / 1e9);
    moe_log("prefill: %u tokens in %.3f s, %.1f tokens/s", m->n_prompt, (double)m->prefill_ns / 1e9,
            per_s(m->n_prompt, m->prefill_ns));
    if (m->n_passes)
        moe_log("decode: %u passes in %.3f s, %.1f tokens/s, %.2f ms each", m->n_passes,
                (double)m->decode_ns / 1e9, per_s(m->n_passes, m->decode_ns),
                (double)m->decode_ns / 1e6 / m->n_passes);
    moe_log("%u new tokens, ended by: %s; peak memory %s", m->n_new, moe_stop_names[m->stop],
            moe_format_bytes(cli_peak_memory(), memory, sizeof memory));
}

static void print_number(const char *key, double value)
{
    char buf[32];
    printf(",\n \"%s\": %s", key,
           isfinite(value) ? moe_format_f64(value, buf, sizeof buf) : "null");
}

static void print_json(const struct generation *g)
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
    moe_json_text(moe_pool_kernels(moe_session_pool(g->session))->name, stdout);
    print_number("threads", moe_pool_threads(moe_session_pool(g->session)));
    print_number("prompt_tokens", m->n_prompt);
    print_number("new_tokens", m->n_new);
    print_number("load_s", (double)g->load_ns / 1e9);
    print_number("prefill_s", (double)m->prefill_ns / 1e9);
    print_number("prefill_tokens_per_s", per_s(m->n_prompt, m->prefill_ns));
    print_number("decode_passes", m->n_passes);
    print_number("decode_s", (double)m->decode_ns / 1e9);
    print_number("decode_tokens_per_s", per_s(m->n_passes, m->decode_ns));
    print_number("peak_memory_bytes", (double)cli_peak_memory());
    printf("}\n");
}

static enum moe_status show(struct generation *g, struct moe_err *err)
{
    log_statistics(g);
    if (g->o->format == CLI_JSON) {
        if (fflush(g->text_stream) != 0)
            return moe_fail_memory(err, "the answer");
        print_json(g);
    }
    if (g->made.stop == MOE_STOP_INTERRUPTED)
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted after %u tokens", g->made.n_new);
    return MOE_OK;
}

static enum moe_status check(const struct options *o, struct moe_err *err)
{
    if (o->format == CLI_TSV)
        return moe_fail(err, MOE_ERR_USAGE, "'run' gives text or json, not tsv");
    if (!*o->prompt)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--prompt' is required (-p TEXT; -p - reads standard input)");
    return MOE_OK;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    struct generation g = {.o = call->options};
    enum moe_status s = check(g.o, err);
    if (!s)
        s = load(&g, err);
    if (!s)
        s = encode(&g, err);
    if (!s)
        s = allocate(&g, err);
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
    moe_session_free(g.session);
    moe_tokenizer_free(g.tokenizer);
    moe_llm_close(g.llm);
    return s;
}

const struct cli_command cli_run = {
    .name = "run",
    .usage = "--model FOLDER -p \"...\"",
    .summary = "generates text with a model, on this machine's processors",
    .description =
        "Mixtral and Phi-3.5-MoE models as published (config.json, *.safetensors in BF16, F16 or "
        "F32,\n"
        "tokenizer.model). Weights are mapped and used where they lie; only what is used is read.\n"
        "The text goes to standard output, statistics to standard error. Every expert is computed\n"
        "on the CPU.",
    .options = options,
    .options_size = sizeof(struct options),
    .run = run,
};
