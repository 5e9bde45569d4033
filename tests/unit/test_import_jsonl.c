#include "import_help.h"

#include "base/rng.h"
#include "base/units.h"

#include <float.h>
#include <math.h>

static const struct moe_import_options no_options;

static void refused(const char *text, const char *expected)
{
    help_refused(moe_jsonl_parse, text, strlen(text), &no_options, expected);
}

START_TEST(golden_content)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    help_ok(moe_jsonl_import(GOLDEN "tokens.jsonl", &no_options, &trace, &err), &err);
    const struct moe_tokens *x = &trace.tokens;
    ck_assert_uint_eq(trace.info.n_layers, 3);
    ck_assert_uint_eq(trace.info.top_k, 2);
    ck_assert_uint_eq(trace.info.n_experts, 4);
    ck_assert_uint_eq(x->n_tokens, 4);
    ck_assert_uint_eq(x->step[1], 0); /* two prefill tokens are one pass */
    ck_assert_uint_eq(x->step[2], 1);
    ck_assert_uint_eq(x->expert[2], MOE_NO_EXPERT);
    ck_assert(isnan(x->weight[2]));
    ck_assert_uint_eq(x->expert[5], MOE_NO_EXPERT);
    ck_assert_int_eq(x->token_id[1], 18);
    ck_assert_int_eq(x->position[3], -1);
    ck_assert_uint_eq(trace.n_sequences, 2);
    ck_assert_str_eq(trace.sequences[1].label, "book");
    ck_assert_str_eq(trace.sequences[1].category, "caf\xc3\xa9");
    ck_assert_uint_eq(trace.sequences[1].text_hash, MOE_HASH_SEED);
    ck_assert(!trace.info.rows_in_order);
    moe_trace_release(&trace);
    help_round_trip("jsonl", GOLDEN "tokens.jsonl", &no_options);
    help_jsonl_trip("a.h5");
}
END_TEST

static void set_text(char *to, const char *text)
{
    snprintf(to, MOE_TEXT_MAX, "%s", text);
}

static uint64_t *sizes(uint32_t n, uint64_t first)
{
    uint64_t *s = calloc(n, sizeof *s);
    for (uint32_t i = 0; s && i < n; i++)
        s[i] = first + i;
    return s;
}

/* A float of random bits that is finite. */
static float any_float(struct moe_rng *rng)
{
    float value = NAN;
    while (!isfinite(value)) {
        uint32_t bits = (uint32_t)moe_rng_next(rng);
        memcpy(&value, &bits, sizeof value);
    }
    return value;
}

static void fill_tokens(struct moe_trace *trace, struct moe_rng *rng)
{
    struct moe_tokens *x = &trace->tokens;
    const struct moe_trace_info *i = &trace->info;
    for (uint64_t r = 0; r < x->n_tokens * i->n_layers; r++) {
        uint64_t n = moe_rng_below(rng, i->top_k + 1), first = moe_rng_below(rng, i->n_experts);
        for (uint64_t k = 0; k < n; k++) {
            uint64_t at = r * i->top_k + k;
            x->expert[at] = (moe_expert)((first + k) % i->n_experts);
            x->weight[at] = k ? any_float(rng) : -0.0f;
            x->log_bytes[at] = moe_rng_next(rng) >> 1;
            x->log_residency[at] = (uint8_t)moe_rng_next(rng);
        }
        for (uint64_t e = 0; n && e < i->n_experts; e++) {
            x->score[r * i->n_experts + e] = e ? any_float(rng) : FLT_TRUE_MIN;
            x->lookahead[r * i->n_experts + e] = e ? any_float(rng) : FLT_MAX;
        }
    }
}

/* A trace that uses every member of the format. */
static void make_everything(struct moe_trace *trace)
{
    struct moe_err err = {0};
    struct moe_rng rng;
    *trace = (struct moe_trace){.info = {.n_layers = 3,
                                         .n_experts = 5,
                                         .top_k = 3,
                                         .synthetic = true,
                                         .rows_in_order = true},
                                .n_sequences = 2};
    set_text(trace->info.model, "every \"member\"");
    set_text(trace->info.source, "a test\\with\ttab, and \x01");
    set_text(trace->info.licence, "MIT");
    set_text(trace->info.tool, "test_import_jsonl");
    set_text(trace->info.created, "2026-01-01T00:00:00Z");
    set_text(trace->info.note, "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x99\x82");
    set_text(trace->info.dialect, "scores=softmax");
    trace->info.header = strdup("# a\r\n# b\n\n");
    trace->info.expert_bytes = sizes(3, INT64_MAX - 2);
    trace->info.dense_bytes = sizes(3, 0);
    unsigned all = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD | MOE_HAS_LOG;
    help_ok(moe_tokens_init(&trace->tokens, &trace->info, 40, all, &err), &err);
    moe_rng_init(&rng, 1);
    fill_tokens(trace, &rng);
    for (uint32_t t = 0; t < 40; t++) {
        trace->tokens.sequence[t] = t >= 25;
        trace->tokens.step[t] = t < 7 ? 3 : 2 * t;
        trace->tokens.phase[t] = t < 7 ? MOE_PREFILL : MOE_DECODE;
        trace->tokens.position[t] = t == 9 ? -1 : INT32_MAX - (int32_t)t;
        trace->tokens.token_id[t] = (int32_t)t - 1;
    }
    trace->sequences = calloc(2, sizeof *trace->sequences);
    trace->sequences[0] = (struct moe_sequence){25, UINT64_MAX, strdup(""), strdup("c,\"d\"")};
    trace->sequences[1] = (struct moe_sequence){15, 0, strdup("l\n"), strdup("")};
}

START_TEST(lossless)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    make_everything(&trace);
    help_ok(moe_tokens_check(&trace.tokens, &trace.info, &err), &err);
    help_ok(moe_trace_save(help_path("a.h5"), &trace, &err), &err);
    moe_trace_release(&trace);
    help_export("jsonl", "a.h5", help_path("a.jsonl"));
    help_import("jsonl", help_path("a.jsonl"), &no_options, "b.h5");
    help_same_file(help_path("a.h5"), help_path("b.h5"));
    help_export("jsonl", "b.h5", help_path("b.jsonl"));
    help_same_file(help_path("a.jsonl"), help_path("b.jsonl"));
}
END_TEST

START_TEST(not_utf8)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    make_everything(&trace);
    trace.sequences[1].label[0] = (char)0xff;
    ck_assert_int_eq(moe_jsonl_export(&trace, help_path("x.jsonl"), &err), MOE_ERR_UNSUPPORTED);
    ck_assert_str_eq(err.text, "label of sequence 1 is not UTF-8");
    ck_assert_int_ne(access(help_path("x.jsonl"), F_OK), 0);
    moe_trace_release(&trace);
}
END_TEST

static void parsed(const char *text, struct moe_trace *trace)
{
    struct moe_err err = {0};
    help_ok(moe_jsonl_parse("x", text, strlen(text), &no_options, trace, &err), &err);
}

/* Another tool's keys are skipped and named once, in the order in which they come. */
START_TEST(foreign_keys)
{
    struct moe_trace trace;
    parsed("{\"position\": 3, \"layers\": [[1]], \"ms\": [{}], \"request id\": null}\n"
           "{\"text\": \"x\", \"layers\": [[0]], \"ms\": 2, \"expert\": 1}\n",
           &trace);
    ck_assert_str_eq(trace.info.note, "ignored keys: ms request_id text expert");
    ck_assert_int_eq(trace.tokens.position[0], 3);
    ck_assert_uint_eq(trace.tokens.expert[1], 0);
    moe_trace_release(&trace);
    parsed("{\"label\": \"a\", \"prompt\": \"b\"}\n{\"layers\": [[0]]}\n", &trace);
    ck_assert_str_eq(trace.info.note, "ignored keys: prompt");
    ck_assert_str_eq(trace.sequences[0].label, "a");
    moe_trace_release(&trace);
    parsed("{\"moelab_trace\": 1, \"note\": \"n\"}\n{\"layers\": [[0]], \"ms\": 1}\n", &trace);
    ck_assert_str_eq(trace.info.note, "n; ignored keys: ms");
    moe_trace_release(&trace);
    /* the same key means something else where the known one is not beside it */
    parsed("{\"layers\": [[0]], \"token\": 1, \"tokens\": 2}\n", &trace);
    ck_assert_str_eq(trace.info.note, "ignored keys: tokens");
    moe_trace_release(&trace);
    refused(
        "{\"layers\": [[0]], \"token\": 1, \"tokens\": 2}\n{\"layers\": [[0]], \"tokens\": 2}\n",
        "'x':2: unknown key 'tokens' (did you mean 'token'?)");
    refused("{\"moelab_trace\": 1, \"temperature\": 1}\n", "'x':1: unknown key 'temperature'");
}
END_TEST

/* A note of the file's own that leaves little room, or none. */
START_TEST(foreign_keys_cut)
{
    struct moe_trace trace;
    for (int own = 220; own < MOE_TEXT_MAX; own++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"moelab_trace\": 1, \"note\": \"%0*d\"}\n{\"layers\": [[0]], "
                 "\"\xc3\xa9\xc3\xa9\xc3\xa9\": 1, \"\xc3\xa9\xc3\xa9\": 1}\n",
                 own, 0);
        parsed(text, &trace);
        size_t n = strlen(trace.info.note);
        ck_assert_uint_lt(n, MOE_TEXT_MAX);
        ck_assert_uint_ge(n, (size_t)own);
        if (own <= MOE_TEXT_MAX - 1 - 27)
            ck_assert_str_eq(trace.info.note + own,
                             "; ignored keys: \xc3\xa9\xc3\xa9\xc3\xa9 \xc3\xa9\xc3\xa9");
        else if (n > (size_t)own)
            ck_assert_str_eq(trace.info.note + n - 4, " ...");
        help_ok(moe_jsonl_export(&trace, help_path("x.jsonl"), &(struct moe_err){0}),
                &(struct moe_err){0});
        moe_trace_release(&trace);
    }
}
END_TEST

START_TEST(hostile)
{
    refused("", "'x': no tokens");
    refused("\n\n", "'x': no tokens");
    refused("{\"layers\": [[1]]}\n{\"layers\": [[1]", "'x':2: column 15:");
    refused("[1]\n", "'x':1: line is not a JSON object");
    refused("{\"position\": 1}\n", "one of 'layers' and 'experts' is needed");
    refused("{\"layers\": [[1]], \"positon\": 1}\n", "did you mean 'position'?");
    refused("{\"layers\": [[1]], \"layers\": [[1]]}\n", "duplicate object key");
    refused("{\"layers\": [[1, 1]]}\n", "'x': token 0 layer 0: expert 1 appears twice");
    refused("{\"layers\": [[4096]]}\n", "'x':1: layer 0: expert 4096 is outside 0..4095");
    refused("{\"layers\": [[-1]]}\n", "expert -1 is outside 0..4095");
    refused("{\"layers\": [[99999999999999999999]]}\n", "'x':1: column");
    refused("{\"layers\": [[1.5]]}\n", "an expert is not a whole number");
    refused("{\"layers\": [3]}\n", "layers of layer 0 is not a list of up to 64 values");
    refused("{\"layers\": 3}\n", "layers is not a list of layers");
    refused("{\"layers\": [[1]]}\n{\"layers\": [[1], [2]]}\n", "'x':1: layers has 1 layer, not 2");
    refused("{\"layers\": [[1]], \"weights\": [[1e999]]}\n", "'x':1: column");
    refused("{\"layers\": [[1]], \"weights\": [[1e99]]}\n", "not a finite number");
    refused("{\"layers\": [[1]], \"weights\": [[null]]}\n", "weight nan of expert 1 is not finite");
    refused("{\"layers\": [[1]], \"weights\": [[NaN]]}\n", "'x':1: column");
    refused("{\"layers\": [[1]], \"weights\": [[1, 2]]}\n", "is not a list of up to 1 value");
    refused("{\"layers\": [[1]], \"scores\": [[1]]}\n", "is not a list of 2 values");
    refused("{\"layers\": [[1, 2]], \"weights\": [[1]]}\n",
            "'x':1: weights of layer 0 has 1 value for 2 experts");
    refused("{\"layers\": [null], \"weights\": [[1]]}\n{\"layers\": [[1]], \"weights\": [[1]]}\n",
            "'x':1: weights of layer 0 has 1 value for 0 experts");
    /* what is not told must not be believed a hit of the engine: 0 bytes */
    refused("{\"layers\": [[1, 2]], \"bytes\": [[5]]}\n",
            "'x':1: bytes of layer 0 has 1 value for 2 experts");
    refused("{\"layers\": [[1]], \"bytes\": [null]}\n",
            "'x':1: bytes of layer 0 has 0 values for 1 expert");
    refused("{\"layers\": [[1]], \"bytes\": [[5]]}\n{\"layers\": [[1]]}\n",
            "'x':2: bytes is missing: other tokens have it");
    refused("{\"layers\": [[1]], \"residency\": [[1]]}\n", "'x': 'residency' needs 'bytes'");
    refused("{\"layers\": [[1]], \"sequence\": 1}\n", "sequence 1 where 0 is expected");
    refused("{\"layers\": [[1]]}\n{\"layers\": [[1]], \"sequence\": 1}\n{\"layers\": [[1]], "
            "\"sequence\": 0}\n",
            "'x':3: sequence 0 where 2 is expected: lines of a sequence must be together");
    refused("[\n{\"layers\": [[1]]}]\n", "(each line is one JSON object)");
    refused("\xef\xbb\xbf{\"layers\": [[1]]}\n", "starts with a byte order mark");
    refused("{\"layers\": [[1]], \"sequence\": 4294967295}\n", "is outside 0..4294967294");
    refused("{\"layers\": [[1]], \"phase\": \"x\"}\n", "phase is neither");
    refused("{\"layers\": [[1]], \"step\": 2}\n{\"layers\": [[1]], \"step\": 1}\n",
            "'x':2: step 1 is outside 2..4294967295");
    refused("{\"layers\": [[1]], \"step\": 0}\n{\"layers\": [[1]], \"step\": 0, \"phase\": 0}\n",
            "differs from phase");
    refused("{\"moelab_trace\": 2}\n", "moelab_trace 2 is outside 1..1");
    refused("{\"moelab_trace\": 1, \"n_layers\": 1025}\n", "n_layers 1025 is outside 1..1024");
    refused("{\"moelab_trace\": 1, \"parts\": [\"x\"]}\n", "part 'x' is not");
    refused("{\"moelab_trace\": 1}\n{\"layers\": [[1]], \"weights\": [[1]]}\n",
            "'x':2: weights is not among the parts that the first line names");
    refused("{\"moelab_trace\": 1, \"n_experts\": 2}\n{\"layers\": [[2]]}\n",
            "'x':2: layer 0: expert 2 is outside 0..1");
    refused("{\"moelab_trace\": 1, \"expert_bytes\": [1, 2]}\n{\"layers\": [[1]]}\n",
            "expert_bytes is not a list of 1 size");
    refused("{\"layers\": [[1]]}\n{\"moelab_trace\": 1}\n", "first line only");
    refused("{\"sequence\": 0, \"text_hash\": \"xyz\"}\n", "hexadecimal");
    refused("{\"layers\": [[1]]}\n{\"label\": \"a\"}\n", "after its first token");
    help_refused(moe_jsonl_parse, "{\"layers\": [[1]]}\0\n", 19, &no_options, "'x':1: column");
}
END_TEST

START_TEST(deep_and_long)
{
    size_t n = 4 << 20;
    char *text = malloc(n);
    memset(text, '[', n);
    help_refused(moe_jsonl_parse, text, n, &no_options, "'x':1: column");
    memset(text, ' ', n);
    help_refused(moe_jsonl_parse, text, n, &no_options, "'x': no tokens");
    memset(text, 'a', n);
    memcpy(text, "{\"", 2);
    memcpy(text + n - 4, "\":1}", 4);
    help_refused(moe_jsonl_parse, text, n, &no_options, "'x':1: ");
    free(text);
}
END_TEST

static void add(TCase *tcase)
{
    tcase_add_test(tcase, golden_content);
    tcase_add_test(tcase, lossless);
    tcase_add_test(tcase, not_utf8);
    tcase_add_test(tcase, foreign_keys);
    tcase_add_test(tcase, foreign_keys_cut);
    tcase_add_test(tcase, hostile);
    tcase_add_test(tcase, deep_and_long);
}

int main(void)
{
    return help_run("import_jsonl", add);
}
