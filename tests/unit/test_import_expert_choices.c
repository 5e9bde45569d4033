#include "import_help.h"

static const struct moe_import_options no_options;

static void refused(const char *text, const char *expected)
{
    help_refused(moe_expert_choices_parse, text, strlen(text), &no_options, expected);
}

START_TEST(golden_round_trip)
{
    help_round_trip("expert-choices", GOLDEN "expert_choices.csv", &no_options);
    help_jsonl_trip("a.h5");
    help_same_file(GOLDEN "expert_choices.csv", help_path("exported"));
}
END_TEST

START_TEST(shared_round_trip)
{
    const char *path = SHARED "minicpm-moe-8x2b/expert_choices.csv";
    struct moe_trace trace;
    struct moe_model model;
    struct moe_err err = {0};
    if (!help_shared(path))
        return;
    help_ok(moe_model_load("experiments/models/minicpm-moe-8x2b.yaml", &model, &err), &err);
    struct moe_import_options options = {.model = &model};
    help_round_trip("expert-choices", path, &options);
    help_jsonl_trip("a.h5");
    help_same_file(path, help_path("exported"));
    help_ok(moe_expert_choices_import(path, &no_options, &trace, &err), &err);
    ck_assert_uint_eq(trace.info.n_layers, 40);
    ck_assert_uint_eq(trace.info.n_experts, 8);
    ck_assert_uint_eq(trace.info.top_k, 2);
    ck_assert_uint_eq(trace.tokens.n_tokens, 131);
    ck_assert_uint_eq(trace.n_sequences, 2);
    ck_assert_uint_eq(trace.sequences[0].n_tokens, 2);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(content)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    const char text[] = "Index,a,a,b,b\n0\n1,3,1,0,2\n2,1,2,0,3\n3\n4,5,1,0,2\n";
    help_ok(moe_expert_choices_parse("x", text, sizeof text - 1, &no_options, &trace, &err), &err);
    const struct moe_tokens *x = &trace.tokens;
    ck_assert_uint_eq(x->n_tokens, 5);
    ck_assert_uint_eq(trace.n_sequences, 2);
    ck_assert_uint_eq(trace.info.n_layers, 2);
    ck_assert_uint_eq(trace.info.n_experts, 6);
    ck_assert_uint_eq(x->phase[0], MOE_PREFILL);
    ck_assert_uint_eq(x->expert[0], MOE_NO_EXPERT);
    ck_assert_uint_eq(x->expert[4], 3);
    ck_assert_uint_eq(x->expert[7], 2);
    ck_assert_uint_eq(x->step[2], 2);
    ck_assert_uint_eq(x->sequence[3], 1);
    ck_assert_uint_eq(x->step[3], 0);
    ck_assert_str_eq(trace.info.source, "expert-choices, 48 bytes, fnv1a64 acbc4543f4017e6b");
    ck_assert_str_eq(trace.info.note, ""); /* 3,1: not by number */
    moe_trace_release(&trace);
    const char rising[] = "Index,a,a,b,b\n0\n1,1,3,0,2\n";
    help_ok(moe_expert_choices_parse("x", rising, sizeof rising - 1, &no_options, &trace, &err),
            &err);
    ck_assert_ptr_nonnull(strstr(trace.info.note, "not in gate order"));
    moe_trace_release(&trace);
}
END_TEST

START_TEST(hostile)
{
    struct moe_model model = {.name = "m", .n_layers = 2, .n_experts = 8, .top_k = 2};
    struct moe_import_options options = {.model = &model};
    const char big[] = "Index,a,a\n0,1,2,3,8\n", three[] = "Index,a,a\n0,1,2,3,4,5,6\n";
    help_refused(moe_expert_choices_parse, big, sizeof big - 1, &options,
                 "'x':2: expert 8 is outside 0..7");
    help_refused(moe_expert_choices_parse, three, sizeof three - 1, &options,
                 "3 layers, but model 'm' has 2");
    help_refused(moe_expert_choices_parse, "Index\n0\0\n", 9, &no_options,
                 "'x':2: line holds a NUL");
    refused("", "'x': file is empty");
    refused("Step,a,a\n", "'x':1: header does not start with 'Index'");
    refused("Index,a,a\n0,1,2\n1,1", "'x':3: last line does not end: the file is cut short");
    refused("Index,a,a\n0,1,2\n1,1\n", "'x':3: row has 1 id, the rows above have 2");
    refused("Index,a,a\n0,1,2,3\n", "'x':2: 3 ids are not a multiple of top-k 2");
    refused("Index,a,a\n0,1,2\n2,1,2\n", "'x':3: index 2 is not the expected 1");
    refused("Index,a,a\n0,1,99999999999999999999999\n", "is outside 0..4095");
    refused("Index,a,a\n0,1,-2\n", "'x':2: expert -2 is outside 0..4095");
    refused("Index,a,a\n0,1,1\n", "'x': token 0 layer 0: expert 1 appears twice");
    refused("Index,a,a\r\n0,1,2\n", "'x':2: line ends are mixed");
    refused("Index,a,a\n0\n1\n", "number of layers 0 is outside 1..1024");
}
END_TEST

static void add(TCase *tcase)
{
    tcase_add_test(tcase, golden_round_trip);
    tcase_add_test(tcase, shared_round_trip);
    tcase_add_test(tcase, content);
    tcase_add_test(tcase, hostile);
}

int main(void)
{
    return help_run("import_expert_choices", add);
}
