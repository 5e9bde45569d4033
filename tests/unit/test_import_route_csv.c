#include "import_help.h"

#define COLUMNS "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n"

static const struct moe_import_options no_options;

static void refused(const char *text, const char *expected)
{
    help_refused(moe_route_csv_parse, text, strlen(text), &no_options, expected);
}

static void parsed(const char *text, struct moe_trace *trace)
{
    struct moe_err err = {0};
    help_ok(moe_route_csv_parse("x", text, strlen(text), &no_options, trace, &err), &err);
}

START_TEST(golden_round_trip)
{
    help_round_trip("route-csv", GOLDEN "route.csv", &no_options);
    help_jsonl_trip("a.h5");
    help_same_file(GOLDEN "route.csv", help_path("exported"));
}
END_TEST

START_TEST(shared_round_trip)
{
    const char *path = SHARED "qwen3-30b-a3b/qwen.route.csv";
    struct moe_trace trace;
    struct moe_err err = {0};
    if (!help_shared(path))
        return;
    help_round_trip("route-csv", path, &no_options);
    help_jsonl_trip("a.h5");
    help_same_file(path, help_path("exported"));
    help_ok(moe_route_csv_import(path, &no_options, &trace, &err), &err);
    ck_assert_uint_eq(trace.info.n_layers, 48);
    ck_assert_uint_eq(trace.info.n_experts, 128);
    ck_assert_uint_eq(trace.info.top_k, 6);
    ck_assert_str_eq(trace.info.model, "Qwen3-30B-A3B-Q4_K_M.gguf");
    ck_assert(trace.info.rows_in_order);
    ck_assert_uint_eq(trace.tokens.n_tokens, 28 + 128);
    ck_assert_uint_eq(moe_step_end(&trace.tokens, 0), 28);
    ck_assert_uint_eq(trace.info.expert_bytes[0], 3059712);
    ck_assert_uint_eq(trace.info.dense_bytes[0], 11953152);
    uint64_t n = 0, hits = 0, entries = UINT64_C(156) * 48 * 6;
    for (uint64_t i = 0; i < entries; i++) {
        bool there = trace.tokens.expert[i] != MOE_NO_EXPERT;
        n += there;
        hits += there && trace.tokens.log_bytes[i] == 0;
    }
    ck_assert_uint_eq(n, 44766);
    ck_assert_uint_eq(hits, 34837);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(passes_layer_major)
{
    struct moe_trace trace;
    parsed("phase,step,layer,slot,expert\n0,5,0,0,1\n0,6,0,0,2\n0,5,1,0,3\n0,6,1,0,0\n"
           "1,7,0,0,1\n1,7,1,0,1\n1,8,0,0,2\n1,8,1,0,2\n",
           &trace);
    ck_assert_uint_eq(trace.tokens.n_tokens, 4);
    const uint32_t step[] = {0, 0, 1, 2};
    for (int t = 0; t < 4; t++) {
        ck_assert_uint_eq(trace.tokens.step[t], step[t]);
        ck_assert_int_eq(trace.tokens.position[t], 5 + t);
    }
    ck_assert(trace.info.rows_in_order);
    ck_assert_ptr_null(trace.tokens.weight);
    ck_assert_ptr_null(trace.tokens.log_bytes);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(passes_token_major)
{
    struct moe_trace trace;
    parsed("phase,step,layer,slot,expert\n0,0,0,0,1\n0,0,1,0,2\n0,1,0,0,3\n0,1,1,0,0\n", &trace);
    ck_assert_uint_eq(trace.tokens.step[0], 0);
    ck_assert_uint_eq(trace.tokens.step[1], 1);
    ck_assert_uint_eq(trace.tokens.phase[1], MOE_PREFILL);
    ck_assert(trace.info.rows_in_order);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(rows_out_of_order_and_turns)
{
    struct moe_trace trace;
    parsed("slot,expert,turn,phase,step,layer\n1,1,3,1,0,0\n0,2,3,1,0,0\n0,0,4,1,9,0\n", &trace);
    ck_assert(!trace.info.rows_in_order);
    ck_assert_uint_eq(trace.tokens.expert[0], 2);
    ck_assert_uint_eq(trace.n_sequences, 2);
    ck_assert_str_eq(trace.info.dialect, "format=route-csv eol=lf turn=3");
    ck_assert_uint_eq(trace.tokens.expert[3], MOE_NO_EXPERT);
    moe_trace_release(&trace);
    /* without turns a prefill that goes back starts a sequence */
    parsed("phase,step,layer,slot,expert\n0,0,0,0,1\n1,1,0,0,1\n0,0,0,0,1\n", &trace);
    ck_assert_uint_eq(trace.n_sequences, 2);
    ck_assert_uint_eq(trace.sequences[0].n_tokens, 2);
    moe_trace_release(&trace);
}
END_TEST

/* Another tool's columns are skipped, named, and not written back. */
START_TEST(foreign_columns)
{
    struct moe_trace trace, again;
    struct moe_err err = {0};
    char *text = NULL;
    size_t n = 0;
    parsed("# n_expert=8\r\n,time,phase,step,layer,text,slot,expert,steps,time\r\n"
           "0,1.5,1,7,0,\"a,b\",0,5,x,y\r\n1,,1,7,0,,1,2,,\r\n",
           &trace);
    ck_assert_str_eq(trace.info.note, "ignored columns: \"\" time text steps");
    ck_assert_str_eq(trace.info.header, "# n_expert=8\r\nphase,step,layer,slot,expert\r\n");
    ck_assert_uint_eq(trace.tokens.expert[0], 5);
    ck_assert_uint_eq(trace.tokens.expert[1], 2);
    help_ok(moe_route_csv_export(&trace, help_path("x.csv"), &err), &err);
    help_ok(moe_file_read(help_path("x.csv"), 1 << 20, &text, &n, &err), &err);
    ck_assert_str_eq(text, "# n_expert=8\r\nphase,step,layer,slot,expert\r\n"
                           "1,7,0,0,5\r\n1,7,0,1,2\r\n");
    parsed(text, &again);
    ck_assert_str_eq(again.info.note, "");
    ck_assert_mem_eq(again.tokens.expert, trace.tokens.expert, 2 * sizeof(moe_expert));
    moe_trace_release(&again);
    moe_trace_release(&trace);
    free(text);
}
END_TEST

/* Columns beyond the note's room: names stay whole. */
/* Any float32 comes back, and what six digits hold is written with no more. */
START_TEST(weights_to_the_bit)
{
    static const struct {
        float weight;
        const char *text;
    } cases[] = {{0.412345f, "0.412345"},        {0.5f, "0.5"},
                 {1.0f / 3, "0.33333334"},       {16777215, "16777215"},
                 {0x1.fffffep-1f, "0.99999994"}, {0x1.000002p0f, "1.0000001"},
                 {0x1p-149f, "1.4013e-45"},      {0, "0"}};
    enum { N = sizeof cases / sizeof *cases };
    char text[N * 64] = "phase,step,layer,slot,expert,weight\n", row[64];
    struct moe_trace trace, again;
    struct moe_err err = {0};
    size_t at = strlen(text);
    for (int i = 0; i < N; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "1,%d,0,0,0,%.9g\n", i,
                               (double)cases[i].weight);
    parsed(text, &trace);
    help_ok(moe_route_csv_export(&trace, help_path("w.csv"), &err), &err);
    FILE *file = fopen(help_path("w.csv"), "r");
    for (int i = -1; i < N; i++) {
        ck_assert_ptr_nonnull(fgets(row, sizeof row, file));
        row[strcspn(row, "\n")] = 0;
        ck_assert_str_eq(strrchr(row, ',') + 1, i < 0 ? "weight" : cases[i].text);
    }
    fclose(file);
    help_ok(moe_route_csv_import(help_path("w.csv"), &no_options, &again, &err), &err);
    ck_assert_mem_eq(again.tokens.weight, trace.tokens.weight, N * sizeof(float));
    moe_trace_release(&again);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(many_foreign_columns)
{
    struct moe_trace trace;
    char text[8192] = "phase,step,layer,slot,expert", row[4096] = "1,0,0,0,1";
    for (int i = 0; i < 251; i++) {
        snprintf(text + strlen(text), 16, ",column%d", i);
        snprintf(row + strlen(row), 16, ",%d", i);
    }
    snprintf(text + strlen(text), sizeof text - strlen(text), "\n%s\n", row);
    parsed(text, &trace);
    ck_assert_uint_lt(strlen(trace.info.note), MOE_TEXT_MAX);
    ck_assert_msg(strncmp(trace.info.note, "ignored columns: column0 column1 ", 33) == 0 &&
                      strstr(trace.info.note, " column24 column25 ...") ==
                          trace.info.note + strlen(trace.info.note) - 22,
                  "%s", trace.info.note);
    moe_trace_release(&trace);
    memmove(text + 2, text, strlen(text) + 1);
    memcpy(text, "a,", 2);
    refused(text, "'x':1: 257 columns exceed 256");
}
END_TEST

START_TEST(decode_positions_go_back)
{
    struct moe_trace trace;
    parsed("phase,step,layer,slot,expert\n1,7,0,0,1\n1,8,0,0,2\n1,7,0,0,3\n1,8,0,0,0\n", &trace);
    ck_assert_uint_eq(trace.n_sequences, 2);
    ck_assert_uint_eq(trace.tokens.sequence[1], 0);
    ck_assert_uint_eq(trace.tokens.sequence[2], 1);
    ck_assert_uint_eq(trace.tokens.step[2], 0);
    moe_trace_release(&trace);
}
END_TEST

static void export_refused(struct moe_trace *trace, const char *expected)
{
    struct moe_err err = {0};
    ck_assert_int_eq(moe_route_csv_export(trace, help_path("no.csv"), &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' instead of '%s'", err.text, expected);
    ck_assert_int_ne(access(help_path("no.csv"), F_OK), 0);
}

/* A token is its rows: what importing would lose or read in another order is not written. */
START_TEST(rows_that_tell_no_token)
{
    struct moe_trace trace;
    parsed("phase,step,layer,slot,expert\n0,5,0,0,1\n0,6,0,0,2\n0,5,1,0,3\n0,6,1,0,0\n", &trace);
    moe_expert *expert = trace.tokens.expert;
    struct moe_err err = {0};
    expert[2] = MOE_NO_EXPERT; /* token 1, layer 0: it begins later than token 0 */
    help_ok(moe_route_csv_export(&trace, help_path("yes.csv"), &err), &err);
    help_round_trip("route-csv", help_path("yes.csv"), &(struct moe_import_options){0});
    expert[3] = MOE_NO_EXPERT;
    export_refused(&trace, "token 1 has no experts: route-csv cannot hold it; jsonl holds any");
    expert[2] = 2;
    expert[0] = MOE_NO_EXPERT;
    export_refused(&trace, "token 0 has no experts in layer 0, a later one of its pass has");
    moe_trace_release(&trace);
}
END_TEST

START_TEST(hostile)
{
    refused("", "'x': no column line");
    refused("# a\n", "'x': no column line");
    refused(COLUMNS, "'x': no rows");
    refused("phase,step,layer,slot\n", "'x':1: column 'expert' is missing");
    refused("phase,step,layer,slot,expret\n", "unknown column 'expret' (did you mean 'expert'?)");
    refused("phase,phase,layer,slot,expert\n", "column 'phase' appears twice");
    refused("phase,step,layer,slot,expert,weigth\n", "(did you mean 'weight'?)");
    refused("phase;step;layer;slot;expert\n", "is missing: fields are separated by commas");
    refused("\xef\xbb\xbfphase,step,layer,slot,expert\n", "starts with a byte order mark");
    refused("phase,step,layer,slot,expert\nprefill,0,0,0,1\n",
            "phase (0: prefill, 1: decode) 'prefill' is not a whole number");
    refused("phase,step,layer,slot,expert\n1,0,0,0,1", "(if it is whole, add a line end)");
    refused("phase,step,layer,slot,expert,residency\n", "'residency' needs column 'expert_bytes'");
    refused("# n_expert=128\n" COLUMNS "0,0,0,0,0,130,1,0,0\n",
            "'x':3: expert 130 is outside 0..127");
    refused("# n_layer=2\n" COLUMNS "0,0,0,2,0,1,1,0,0\n", "'x':3: layer 2 is outside 0..1");
    refused("# n_expert_used=2\n" COLUMNS "0,0,0,0,2,1,1,0,0\n", "'x':3: slot 2 is outside 0..1");
    refused("# n_layer=1025\n" COLUMNS, "'x':1: n_layer 1025 is outside 1..1024");
    refused("# layer=0 expert_bytes=1\n# layer=0 expert_bytes=1\n" COLUMNS,
            "'x':2: expert_bytes of layer 0 appears twice");
    refused("# n_layer=2\n# layer=0 expert_bytes=1\n" COLUMNS "0,0,0,0,0,1,1,0,0\n",
            "header lines give sizes of 1 of the 2 layers");
    refused("# layer=7 expert_bytes=1\n" COLUMNS "0,0,0,0,0,1,1,0,0\n",
            "header line of layer 7 is outside 0..0");
    refused(COLUMNS "0,0,0,0,0,1,nan,0,0\n", "'x':2: weight 'nan' is not a finite number");
    refused(COLUMNS "0,0,0,0,0,1,1e99,0,0\n", "'x':2: weight '1e99' is not a finite number");
    refused(COLUMNS "0,0,0,0,0,1,0.5,0,18446744073709551616\n",
            "expert_bytes 18446744073709551616");
    refused(COLUMNS "0,2,0,0,0,1,0.5,0,0\n",
            "'x':2: phase (0: prefill, 1: decode) 2 is outside 0..1");
    refused(COLUMNS "0,0,0,0,0,1,0.5,0\n", "'x':2: line has 8 fields, the column line has 9");
    refused(COLUMNS "0,1,0,0,0,1,0.5,0,0\n0,1,0,0,0,2,0.5,0,0\n",
            "'x':3: step 0 layer 0 slot 0 appears twice");
    refused(COLUMNS "0,1,0,0,1,1,0.5,0,0\n", "expert 1 follows an absent entry");
    refused(COLUMNS "0,1,0,1,0,1,0.5,0,0\n0,1,0,0,0,1,0.5,0,0\n", "'x':3: rows of a forward pass");
    refused(COLUMNS "0,0,5,0,0,1,0.5,0,0\n0,0,4,0,0,1,0.5,0,0\n", "positions of a prefill pass");
    refused(COLUMNS "1,0,5,0,0,1,0.5,0,0\n0,0,4,0,0,1,0.5,0,0\n",
            "'x':3: turns must rise, the rows of one together: turn 0");
    refused(COLUMNS "0,0,0,0,0,1,0.5,0,0\n0,1,1,0,0,1,0.5", "'x':3: last line does not end");
}
END_TEST

START_TEST(far_apart_rows)
{
    /* 4000 tokens that use 1 of 1024 x 64 entries would be 500 times their file */
    size_t room = 1 << 20, n = 0;
    char *text = malloc(room);
    n += (size_t)snprintf(text, room, "# n_layer=1024 n_expert=64 n_expert_used=64\n" COLUMNS);
    for (int t = 0; t < 4000; t++)
        n += (size_t)snprintf(text + n, room - n, "0,1,%d,0,0,1,1,0,0\n", t);
    help_refused(moe_route_csv_parse, text, n, &no_options, "over 1024 times the file's");
    free(text);
}
END_TEST

static void add(TCase *tcase)
{
    tcase_add_test(tcase, golden_round_trip);
    tcase_add_test(tcase, shared_round_trip);
    tcase_add_test(tcase, passes_layer_major);
    tcase_add_test(tcase, passes_token_major);
    tcase_add_test(tcase, rows_out_of_order_and_turns);
    tcase_add_test(tcase, foreign_columns);
    tcase_add_test(tcase, weights_to_the_bit);
    tcase_add_test(tcase, many_foreign_columns);
    tcase_add_test(tcase, decode_positions_go_back);
    tcase_add_test(tcase, rows_that_tell_no_token);
    tcase_add_test(tcase, hostile);
    tcase_add_test(tcase, far_apart_rows);
}

int main(void)
{
    return help_run("import_route_csv", add);
}
