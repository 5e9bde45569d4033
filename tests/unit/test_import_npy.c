#include "import_help.h"

#include "traces/npy.h"
#include "traces/sequences.h"

#include <math.h>
#include <sys/stat.h>

static const struct moe_import_options no_options;

/* A version 1.0 file with this header text, then n bytes of items. */
static size_t make_npy(unsigned char *buf, const char *header, const void *items, size_t n)
{
    size_t length = strlen(header);
    const unsigned char start[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)length, (unsigned char)(length >> 8)};
    memcpy(buf, start, sizeof start);
    for (size_t i = 0; i < length; i++)
        buf[10 + i] = (unsigned char)header[i];
    if (n)
        memcpy(buf + 10 + length, items, n);
    return 10 + length + n;
}

#define HEADER(descr, shape)                                                                       \
    "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", }\n"

static void parse_refused(const char *header, size_t n, const char *expected)
{
    unsigned char buf[512], items[64] = {0};
    struct moe_npy npy;
    struct moe_err err = {0};
    size_t size = make_npy(buf, header, items, n);
    ck_assert_int_ne(moe_npy_parse("x", buf, size, &npy, &err), MOE_OK);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' instead of '%s'", err.text, expected);
}

START_TEST(hostile_headers)
{
    struct moe_npy npy;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_npy_parse("x", "", 0, &npy, &err), MOE_ERR_INPUT);
    ck_assert_int_eq(moe_npy_parse("x", "\x93NUMPY\x04\x00\x00\x00\x00\x00", 12, &npy, &err),
                     MOE_ERR_UNSUPPORTED);
    ck_assert_int_eq(moe_npy_parse("x", "\x93NUMPY\x02\x00\xff\xff\xff\xff", 12, &npy, &err),
                     MOE_ERR_INPUT);
    ck_assert_str_eq(err.text, "'x': npy header is cut short");
    parse_refused(HEADER("|u1", "(1000000000000000000, 24, 4)"), 8,
                  "promises more than 2^64 bytes");
    parse_refused(HEADER("|u1", "(10000000000000000, 24, 4)"), 8,
                  "shape promises 960000000000000000 bytes of items, the file has 8");
    parse_refused(HEADER("|u1", "(99999999999999999999, 1, 1)"), 1, "not a number of 64 bits");
    parse_refused(HEADER("|u1", "(1, 2, 4)"), 7, "promises 8 bytes of items, the file has 7");
    parse_refused(HEADER("|u1", "(1, 2, 4)"), 9, "promises 8 bytes of items, the file has 9");
    parse_refused(HEADER(">i4", "(1, 1, 1)"), 4, "dtype '>i4' is not one of");
    parse_refused(HEADER("|O", "(1, 1, 1)"), 4, "dtype '|O' is not one of");
    parse_refused(HEADER("<c8", "(1, 1, 1)"), 8, "dtype '<c8' is not one of");
    parse_refused("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}", 4,
                  "dtype is not a plain number type");
    parse_refused("{'descr': '|u1', 'fortran_order': True, 'shape': (1, 1, 1), }", 1,
                  "fortran_order True");
    parse_refused("{'descr': '|u1', 'fortran_order': 0, 'shape': (1, 1, 1), }", 1, "neither");
    parse_refused("{'descr': '|u1', 'shape': (1, 1, 1), }", 1, "is missing");
    parse_refused("{'descr': '|u1', 'descr': '|u1', 'shape': (1, 1, 1), }", 1, "twice");
    parse_refused("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1), }", 1,
                  "more than 4 dimensions");
    parse_refused("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1", 1, "not closed");
    parse_refused("", 0, "not a dictionary");
}
END_TEST

/* Every half float, and integers of each width, survive writing and reading. */
START_TEST(items_round_trip)
{
    FILE *f = fopen(help_path("halves.npy"), "wb+");
    uint64_t shape[1] = {65536};
    char *data = NULL;
    size_t size = 0;
    struct moe_npy npy;
    struct moe_err err = {0};
    moe_npy_write_header(f, 'f', 2, shape, 1);
    long start = ftell(f);
    for (unsigned i = 0; i < 65536; i++)
        moe_npy_write_integer(f, 2, i);
    fclose(f);
    ck_assert_int_eq(start % 64, 0);
    help_ok(moe_file_read(help_path("halves.npy"), 1 << 20, &data, &size, &err), &err);
    help_ok(moe_npy_parse("x", data, size, &npy, &err), &err);
    f = fopen(help_path("again.npy"), "wb");
    moe_npy_write_header(f, 'f', 2, shape, 1);
    for (uint64_t i = 0; i < 65536; i++) {
        double value = moe_npy_real(&npy, i);
        if (isnan(value))
            moe_npy_write_integer(f, 2, (int64_t)i);
        else
            moe_npy_write_real(f, 2, value);
    }
    fclose(f);
    help_same_file(help_path("halves.npy"), help_path("again.npy"));
    ck_assert_double_eq(moe_npy_real(&npy, 0x3c00), 1.0);
    ck_assert_double_eq(moe_npy_real(&npy, 0x3555), 0.333251953125);
    ck_assert_double_eq(moe_npy_real(&npy, 0x0001), 0x1p-24);
    free(data);
}
END_TEST

START_TEST(dtypes)
{
    static const struct {
        const char *header;
        size_t n;
        unsigned char items[16];
        int64_t first, second;
    } cases[] = {
        {HEADER("|i1", "(2,)"), 2, {0xff, 5}, -1, 5},
        {HEADER("<i2", "(2,)"), 4, {0xfe, 0xff, 0, 1}, -2, 256},
        {HEADER("<u2", "(2,)"), 4, {0xfe, 0xff, 0, 1}, 65534, 256},
        {HEADER("<u4", "(2,)"), 8, {0xff, 0xff, 0xff, 0xff, 1}, 4294967295, 1},
        {HEADER("<i8", "(2,)"), 16, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7}, -1, 7},
        {HEADER("<u8", "(2,)"),
         16,
         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7},
         INT64_MAX,
         7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char buf[512];
        struct moe_npy npy;
        struct moe_err err = {0};
        size_t size = make_npy(buf, cases[i].header, cases[i].items, cases[i].n);
        help_ok(moe_npy_parse("x", buf, size, &npy, &err), &err);
        ck_assert_int_eq(moe_npy_integer(&npy, 0), cases[i].first);
        ck_assert_int_eq(moe_npy_integer(&npy, 1), cases[i].second);
    }
}
END_TEST

static void round_trip(const char *folder, const struct moe_import_options *options)
{
    char path[3][512];
    const char *names[3] = {"ids.npy", "weights.npy", "sequences.csv"};
    help_round_trip("npy", folder, options);
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]);
        char exported[64];
        snprintf(exported, sizeof exported, "exported/%s", names[i]);
        help_same_file(path[i], help_path(exported));
    }
    /* the files named one by one are the same trace */
    struct moe_import_options named = *options;
    named.weights = path[1];
    named.sequences = path[2];
    help_import("npy", path[0], &named, "d.h5");
    help_same_file(help_path("a.h5"), help_path("d.h5"));
}

START_TEST(golden_round_trip)
{
    round_trip(GOLDEN "npy", &no_options);
    help_jsonl_trip("a.h5");
}
END_TEST

/* The first sequences of a trace; owns nothing. */
static struct moe_trace first_sequences(const struct moe_trace *trace, uint64_t n)
{
    struct moe_trace head = *trace;
    head.n_sequences = n;
    head.tokens.n_tokens = 0;
    for (uint64_t i = 0; i < n; i++)
        head.tokens.n_tokens += trace->sequences[i].n_tokens;
    return head;
}

START_TEST(shared_round_trip)
{
    struct moe_trace trace;
    struct moe_model model;
    struct moe_err err = {0};
    if (!help_shared(SHARED "gpt-oss-20b/ids.npy"))
        return;
    help_ok(moe_model_load("experiments/models/gpt-oss-20b.yaml", &model, &err), &err);
    struct moe_import_options options = {.model = &model};
    round_trip(SHARED "gpt-oss-20b", &options);
    help_ok(moe_npy_routes_import(SHARED "gpt-oss-20b", &no_options, &trace, &err), &err);
    ck_assert_uint_eq(trace.info.n_layers, 24);
    ck_assert_uint_eq(trace.info.n_experts, 32);
    ck_assert_uint_eq(trace.info.top_k, 4);
    ck_assert_uint_eq(trace.tokens.n_tokens, 48490);
    ck_assert_uint_eq(trace.n_sequences, 173);
    ck_assert_int_eq(trace.tokens.position[0], 101);
    ck_assert_uint_eq(trace.tokens.expert[0], 0x1f);
    ck_assert_float_eq(trace.tokens.weight[0], 127.0f / 255.0f);
    ck_assert_str_eq(trace.sequences[1].label, "mmlu_dev");
    ck_assert_str_eq(trace.sequences[1].category, "abstract_algebra");
    /* a few sequences are enough: jsonl of all of them is most of a minute in this test */
    struct moe_trace head = first_sequences(&trace, 4);
    help_ok(moe_trace_save(help_path("head.h5"), &head, &err), &err);
    help_jsonl_trip("head.h5");
    moe_trace_release(&trace);
}
END_TEST

/* Negative ids, f4 weights, no sequences.csv, prompts. */
START_TEST(absent_and_prompt)
{
    unsigned char ids[256], weights[256];
    static const int16_t id[6] = {3, 1, -1, -1, 2, 0};
    static const float w[6] = {0.75f, 0.25f, 9, 9, 0.5f, 0.5f};
    size_t n_ids = make_npy(ids, HEADER("<i2", "(3, 1, 2)"), id, sizeof id);
    size_t n_w = make_npy(weights, HEADER("<f4", "(3, 1, 2)"), w, sizeof w);
    const char csv[] = "n_prompt,n_tokens\n2,3\n";
    struct moe_blob blobs[3] = {
        {"i", (char *)ids, n_ids}, {"w", (char *)weights, n_w}, {"s", csv, sizeof csv - 1}};
    struct moe_trace trace;
    struct moe_err err = {0};
    help_ok(moe_npy_routes_parse(&blobs[0], &blobs[1], &blobs[2], &no_options, &trace, &err), &err);
    ck_assert_uint_eq(trace.tokens.expert[2], MOE_NO_EXPERT);
    ck_assert(isnan(trace.tokens.weight[2]));
    ck_assert_uint_eq(trace.tokens.phase[1], MOE_PREFILL);
    ck_assert_uint_eq(trace.tokens.step[1], 0);
    ck_assert_uint_eq(trace.tokens.step[2], 1);
    ck_assert_int_eq(trace.tokens.position[0], -1);
    ck_assert(!trace.info.rows_in_order);
    ck_assert_str_eq(trace.info.dialect, "format=npy ids=i2 weights=f4 sequences=lf");
    /* an absent route survives export to another folder */
    help_ok(moe_npy_routes_export(&trace, help_path("out"), &err), &err);
    ck_assert_int_eq(moe_npy_routes_export(&trace, help_path("out"), &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "it exists"));
    help_ok(moe_trace_save(help_path("1.h5"), &trace, &err), &err);
    moe_trace_release(&trace);
    help_ok(moe_npy_routes_import(help_path("out"), &no_options, &trace, &err), &err);
    ck_assert_uint_eq(trace.tokens.expert[2], MOE_NO_EXPERT);
    ck_assert_float_eq(trace.tokens.weight[0], 0.75f);
    moe_trace_release(&trace);
}
END_TEST

/* A request of which nothing was routed: kept, in front, between and behind. */
START_TEST(empty_sequences)
{
    unsigned char ids[256];
    const char csv[] = "n_tokens,n_prompt\n0,0\n1,1\n0,0\n1,0\n0,0\n";
    struct moe_blob blobs[3] = {
        {"i", (char *)ids, make_npy(ids, HEADER("|u1", "(2, 1, 1)"), "\0\1", 2)},
        {"w", NULL, 0},
        {"s", csv, sizeof csv - 1}};
    struct moe_trace trace;
    struct moe_err err = {0};
    help_ok(moe_npy_routes_parse(&blobs[0], &blobs[1], &blobs[2], &no_options, &trace, &err), &err);
    for (uint64_t i = 0; i < 5; i++)
        ck_assert_uint_eq(trace.sequences[i].n_tokens, i % 2);
    ck_assert_uint_eq(trace.n_sequences, 5);
    ck_assert_uint_eq(trace.tokens.sequence[0], 1);
    ck_assert_uint_eq(trace.tokens.sequence[1], 3);
    help_ok(moe_trace_save(help_path("a.h5"), &trace, &err), &err);
    moe_trace_release(&trace);
    help_export("npy", "a.h5", help_path("out"));
    help_round_trip("npy", help_path("out"), &no_options);
    char *text = NULL;
    size_t n = 0;
    help_ok(moe_file_read(help_path("out/sequences.csv"), 1 << 20, &text, &n, &err), &err);
    ck_assert_str_eq(text, csv);
    free(text);
}
END_TEST

static void refused(const char *header, const void *items, size_t n, const char *csv,
                    const float *weights, const char *expected)
{
    unsigned char ids[512], w[512];
    struct moe_trace trace;
    struct moe_err err = {0};
    struct moe_blob blobs[3] = {{"i", (char *)ids, make_npy(ids, header, items, n)},
                                {"w", NULL, 0},
                                {"s", csv, csv ? strlen(csv) : 0}};
    if (weights)
        blobs[1] =
            (struct moe_blob){"w", (char *)w, make_npy(w, HEADER("<f4", "(1, 1, 2)"), weights, 8)};
    enum moe_status status =
        moe_npy_routes_parse(&blobs[0], &blobs[1], &blobs[2], &no_options, &trace, &err);
    ck_assert_msg(status != MOE_OK, "not refused; expected: %s", expected);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' instead of '%s'", err.text, expected);
}

/* What a killed export left, with a file that it was writing, is in no other's way. */
START_TEST(export_after_a_killed_one)
{
    unsigned char ids[256];
    struct moe_trace trace;
    struct moe_err err = {0};
    char of_our_number[64], left[100];
    struct moe_blob blobs[3] = {
        {"i", (char *)ids, make_npy(ids, HEADER("|u1", "(1, 1, 2)"), "\0\1", 2)},
        {"w", NULL, 0},
        {"s", NULL, 0}};
    help_ok(moe_npy_routes_parse(&blobs[0], &blobs[1], &blobs[2], &no_options, &trace, &err), &err);
    snprintf(of_our_number, sizeof of_our_number, "killed.%ld.part", (long)getpid());
    const char *const folders[] = {"killed.part", "killed.1.part", of_our_number};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(mkdir(help_path(folders[i]), 0777), 0);
        snprintf(left, sizeof left, "%s/ids.npy.%ld.part", folders[i], (long)getpid());
        FILE *f = fopen(help_path(left), "w");
        ck_assert_ptr_nonnull(f);
        fclose(f);
    }
    help_ok(moe_npy_routes_export(&trace, help_path("killed"), &err), &err);
    ck_assert_int_ne(access(help_path(of_our_number), F_OK), 0);
    ck_assert_int_eq(access(help_path("killed/ids.npy"), F_OK), 0);
    snprintf(left, sizeof left, "killed/ids.npy.%ld.part", (long)getpid());
    ck_assert_int_ne(access(help_path(left), F_OK), 0);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(foreign_columns)
{
    unsigned char ids[512];
    struct moe_trace trace;
    struct moe_err err = {0};
    const char *csv = "prompt_text,n_tokens,prompt,n_prompt,dataset\n\"a,b\",1,c,1,\"d,e\"\n";
    struct moe_blob blobs[3] = {
        {"i", (char *)ids, make_npy(ids, HEADER("|u1", "(1, 1, 2)"), "\0\1", 2)},
        {"w", NULL, 0},
        {"s", csv, strlen(csv)}};
    help_ok(moe_npy_routes_parse(&blobs[0], &blobs[1], &blobs[2], &no_options, &trace, &err), &err);
    ck_assert_str_eq(trace.info.note, "ignored columns: prompt_text prompt");
    ck_assert_str_eq(trace.info.header, "n_tokens,n_prompt,dataset\n");
    ck_assert_str_eq(trace.sequences[0].label, "d,e");
    ck_assert_uint_eq(trace.tokens.phase[0], MOE_PREFILL);
    help_ok(moe_npy_routes_export(&trace, help_path("x"), &err), &err);
    char *text = NULL;
    size_t n = 0;
    help_ok(moe_file_read(help_path("x/sequences.csv"), 1 << 20, &text, &n, &err), &err);
    ck_assert_str_eq(text, "n_tokens,n_prompt,dataset\n1,1,\"d,e\"\n");
    free(text);
    /* a header that was tampered with is not written */
    trace.info.header[0] = 'm';
    ck_assert_int_eq(moe_npy_routes_export(&trace, help_path("y"), &err), MOE_ERR_INPUT);
    ck_assert_int_ne(access(help_path("y"), F_OK), 0);
    moe_trace_release(&trace);
}
END_TEST

/* Lines of sequences.csv are records: a label of two lines would make a file that is not read. */
START_TEST(line_break_in_label)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    struct stat st;
    help_ok(moe_npy_routes_import(GOLDEN "npy", &no_options, &trace, &err), &err);
    free(trace.sequences[0].label);
    trace.sequences[0].label = strdup("two\nlines");
    ck_assert_int_eq(moe_npy_routes_export(&trace, help_path("broken"), &err), MOE_ERR_UNSUPPORTED);
    ck_assert_str_eq(err.text, "dataset of sequence 0 has a line break, which sequences.csv cannot "
                               "hold; jsonl holds any trace");
    ck_assert_int_ne(stat(help_path("broken"), &st), 0);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(hostile_traces)
{
    const unsigned char two[2] = {0, 1};
    const int16_t big[2] = {0, 4096};
    const float nan_weight[2] = {NAN, 0.5f};
    const char *u1 = HEADER("|u1", "(1, 1, 2)");
    refused(HEADER("|u1", "(2,)"), two, 2, NULL, NULL, "have 1 dimension, not 3");
    refused(HEADER("|u1", "(0, 1, 2)"), two, 0, NULL, NULL, "0 tokens is outside 1..");
    refused(HEADER("|u1", "(1000000000000000000, 0, 4)"), two, 0, NULL, NULL, "tokens is outside");
    refused(HEADER("|u1", "(1, 0, 2)"), two, 0, NULL, NULL, "0 layers is outside 1..1024");
    refused(HEADER("|u1", "(1, 2, 0)"), two, 0, NULL, NULL, "top-k 0 is outside 1..64");
    refused(HEADER("<f4", "(1, 1, 1)"), nan_weight, 4, NULL, NULL, "ids are floats");
    refused(HEADER("<i2", "(1, 1, 2)"), big, 4, NULL, NULL,
            "'i': token 0 layer 0: expert 4096 is outside 0..4095");
    refused(u1, "\1\1", 2, NULL, NULL, "'i': token 0 layer 0: expert 1 appears twice");
    refused(u1, two, 2, NULL, nan_weight,
            "'w': token 0 layer 0: weight nan of expert 0 is not finite");
    refused(HEADER("|u1", "(1, 2, 1)"), two, 2, NULL, nan_weight, "shape of weights differs");
    refused(u1, two, 2, "n_tokens\n2\n", NULL, "'s': n_tokens sum to 2, 'i' has 1");
    refused(u1, two, 2, "tokens\n1\n", NULL, "unknown column 'tokens' (did you mean 'n_tokens'?)");
    refused(u1, two, 2, "dataset\n1\n", NULL, "'s':1: column 'n_tokens' is missing");
    refused(u1, two, 2, "n_tokens,sequence\n1,1\n", NULL,
            "'s':2: sequence 1 is not the expected 0");
    refused(u1, two, 2, "n_tokens,token_offset\n1,4\n", NULL, "token_offset 4 is not the sum 0");
    refused(u1, two, 2, "n_tokens,n_prompt\n1,2\n", NULL, "'s':2: n_prompt 2 is outside 0..1");
    refused(u1, two, 2, "n_tokens,dataset\n1,\"a\n", NULL, "'s':2: dataset: a quote is not closed");
    refused(u1, two, 2, "n_tokens,n_prompt,prompt_tokens\n1,0,0\n", NULL, "mean the same");
    refused(u1, two, 2, "n_tokens,dataset\n1,\xff\n", NULL, "'s':2: line is not UTF-8");
    refused(u1, two, 2, "n_tokens\n1", NULL, "'s':2: last line does not end");
}
END_TEST

static void add(TCase *tcase)
{
    tcase_add_test(tcase, hostile_headers);
    tcase_add_test(tcase, items_round_trip);
    tcase_add_test(tcase, dtypes);
    tcase_add_test(tcase, golden_round_trip);
    tcase_add_test(tcase, shared_round_trip);
    tcase_add_test(tcase, absent_and_prompt);
    tcase_add_test(tcase, empty_sequences);
    tcase_add_test(tcase, export_after_a_killed_one);
    tcase_add_test(tcase, foreign_columns);
    tcase_add_test(tcase, line_break_in_label);
    tcase_add_test(tcase, hostile_traces);
}

int main(void)
{
    return help_run("import_npy", add);
}
