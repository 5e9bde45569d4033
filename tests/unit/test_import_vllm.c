#include "import_help.h"

#include "traces/npy.h"
#include "traces/zip.h"

#include <sys/stat.h>

static const struct moe_import_options no_options;

START_TEST(one_request)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    help_ok(moe_vllm_import(GOLDEN "vllm.npy", &no_options, &trace, &err), &err);
    ck_assert_uint_eq(trace.info.n_layers, 3);
    ck_assert_uint_eq(trace.info.top_k, 2);
    ck_assert_uint_eq(trace.info.n_experts, 4);
    ck_assert_uint_eq(trace.tokens.n_tokens, 4);
    ck_assert_uint_eq(trace.tokens.expert[0], MOE_NO_EXPERT);
    ck_assert_uint_eq(trace.tokens.phase[0], MOE_DECODE);
    ck_assert_int_eq(trace.tokens.position[3], 3);
    ck_assert_ptr_nonnull(strstr(trace.info.note, "every token is called a decode token"));
    moe_trace_release(&trace);
}
END_TEST

/* Names that differ only in leading zeros have an order as well: a folder lists them in any. */
START_TEST(natural_order)
{
    static const char *const names[] = {"a0", "a00", "a1", "a01", "a01b2", "a1b02", "a1b10", "a2"};
    enum { N = sizeof names / sizeof *names };
    int order[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            order[i][j] = moe_natural_order(names[i], names[j]);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            ck_assert_msg(order[i][j] == -order[j][i], "%s, %s", names[i], names[j]);
            ck_assert_msg((order[i][j] == 0) == (i == j), "%s, %s", names[i], names[j]);
        }
    ck_assert_int_eq(moe_natural_order("arr_2", "arr_10"), -1);
    ck_assert_int_eq(moe_natural_order("arr_002", "arr_10"), -1);
    ck_assert_int_eq(moe_natural_order("arr_02", "arr_2"), -1);
}
END_TEST

START_TEST(several_requests)
{
    struct moe_import_options options = {.sequences = GOLDEN "vllm.csv"};
    struct moe_trace trace;
    struct moe_err err = {0};
    help_ok(moe_vllm_import(GOLDEN "vllm.npz", &options, &trace, &err), &err);
    ck_assert_uint_eq(trace.n_sequences, 2);
    ck_assert_str_eq(trace.sequences[0].label, "arr_2"); /* natural order: before arr_10 */
    ck_assert_str_eq(trace.sequences[1].label, "arr_10");
    ck_assert_uint_eq(trace.sequences[0].n_tokens, 4); /* the file says 5: the last is not routed */
    ck_assert_uint_eq(trace.sequences[1].n_tokens, 3);
    const uint8_t phase[] = {0, 0, 1, 1, 0, 1, 1};
    const int32_t position[] = {0, 1, 2, 3, 0, 1, 2};
    for (int t = 0; t < 7; t++) {
        ck_assert_uint_eq(trace.tokens.phase[t], phase[t]);
        ck_assert_int_eq(trace.tokens.position[t], position[t]);
    }
    ck_assert_str_eq(trace.info.note, "");
    moe_trace_release(&trace);
    help_import("vllm", GOLDEN "vllm.npz", &options, "a.h5");
    help_export("jsonl", "a.h5", help_path("a.jsonl"));
    help_import("jsonl", help_path("a.jsonl"), &no_options, "b.h5");
    help_same_file(help_path("a.h5"), help_path("b.h5"));
}
END_TEST

static void refused(const char *data, size_t size, const char *csv, const char *expected)
{
    struct moe_blob arrays = {"x", data, size}, sequences = {"s", csv, csv ? strlen(csv) : 0};
    struct moe_trace trace;
    struct moe_err err = {0};
    ck_assert_msg(moe_vllm_parse(&arrays, 1, &sequences, &no_options, &trace, &err) != MOE_OK,
                  "not refused; expected: %s", expected);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' instead of '%s'", err.text, expected);
}

/* np.savez_compressed and a folder of files give the routes of the plain npz. */
START_TEST(other_containers)
{
    struct moe_trace plain, packed, folder;
    struct moe_err err = {0};
    char *data = NULL;
    size_t n = 0;
    const size_t at[2][2] = {{0, 4}, {4, 3}}; /* tokens of the requests */
    help_ok(moe_vllm_import(GOLDEN "vllm.npz", &no_options, &plain, &err), &err);
    help_ok(moe_vllm_import(GOLDEN "vllm-compressed.npz", &no_options, &packed, &err), &err);
    ck_assert_uint_eq(packed.tokens.n_tokens, 7);
    ck_assert_mem_eq(packed.tokens.expert, plain.tokens.expert, 7 * 3 * 2 * sizeof(moe_expert));
    ck_assert_str_eq(packed.sequences[1].label, "arr_10");
    ck_assert_int_eq(mkdir(help_path("f"), 0777), 0);
    for (int i = 0; i < 2; i++) {
        FILE *out = fopen(help_path(i ? "f/r10.npy" : "f/r9.npy"), "wb");
        uint64_t shape[3] = {at[i][1], 3, 2};
        moe_npy_write_header(out, 'i', 4, shape, 3);
        for (size_t k = 0; k < at[i][1] * 6; k++) {
            moe_expert e = plain.tokens.expert[at[i][0] * 6 + k];
            moe_npy_write_integer(out, 4, e == MOE_NO_EXPERT ? -1 : e);
        }
        ck_assert_int_eq(fclose(out), 0);
    }
    FILE *csv = fopen(help_path("f/sequences.csv"), "wb");
    fputs("n_prompt,seconds\n2,1\n1,1\n", csv);
    fclose(csv);
    help_ok(moe_vllm_import(help_path("f"), &no_options, &folder, &err), &err);
    ck_assert_mem_eq(folder.tokens.expert, plain.tokens.expert, 7 * 3 * 2 * sizeof(moe_expert));
    ck_assert_str_eq(folder.sequences[0].label, "r9");
    ck_assert_str_eq(folder.sequences[1].label, "r10");
    ck_assert_uint_eq(folder.tokens.phase[1], MOE_PREFILL);
    ck_assert_uint_eq(folder.tokens.phase[5], MOE_DECODE);
    ck_assert_str_eq(folder.info.note, "ignored columns: seconds");
    moe_trace_release(&folder);
    moe_trace_release(&packed);
    moe_trace_release(&plain);
    /* a broken stream, and a promise beyond what deflate can do */
    help_ok(moe_file_read(GOLDEN "vllm-compressed.npz", 1 << 20, &data, &n, &err), &err);
    char *size = data; /* the first central record */
    while (memcmp(size, "PK\1\2", 4) != 0 && size < data + n - 46)
        size++;
    ck_assert(size < data + n - 46);
    size[24 + 3] = 0x7f;
    refused(data, n, NULL, "promises more bytes than its compressed ones can hold");
    size[24 + 3] = 0;
    size[24]++;
    refused(data, n, NULL, "broken, or not of the promised size");
    size[24] -= 2;
    refused(data, n, NULL, "broken, or not of the promised size");
    size[24]++;
    size[10] = 12; /* bzip2 */
    refused(data, n, NULL, "packed in another way than np.savez");
    free(data);
    ck_assert_int_eq(mkdir(help_path("e"), 0777), 0);
    ck_assert_int_eq(moe_vllm_import(help_path("e"), &no_options, &plain, &err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "folder has no .npy file"));
}
END_TEST

START_TEST(hostile)
{
    char *data = NULL;
    size_t n = 0;
    struct moe_err err = {0};
    help_ok(moe_file_read(GOLDEN "vllm.npz", 1 << 20, &data, &n, &err), &err);
    refused("", 0, NULL, "'x': not a npy file");
    refused("PK\3\4", 4, NULL, "no end record");
    refused(data, n - 1, NULL, "no end record");
    refused(data, n, "n_prompt\n1\n", "'s': 1 sequence, 'x' has 2 arrays");
    refused(data, n, "n_prompt\n5\n1\n", "'s':2: prompt of 5 tokens exceeds the 4");
    refused(data, n, "n_tokens\n6\n3\n", "'s':2: n_tokens 6, but");
    /* every truncation and every changed byte is refused or gives a sound trace */
    char *bad = malloc(n);
    for (size_t i = 0; i < n; i++) {
        struct moe_blob arrays = {"x", bad, n}, none = {0};
        struct moe_trace trace;
        memcpy(bad, data, n);
        bad[i] = (char)(bad[i] ^ 0x55);
        if (moe_vllm_parse(&arrays, 1, &none, &no_options, &trace, &err) == MOE_OK)
            moe_trace_release(&trace);
    }
    memcpy(bad, data, n);
    bad[n / 4] = (char)(bad[n / 4] ^ 1); /* within the first array */
    refused(bad, n, NULL, "CRC of an entry");
    free(bad);
    free(data);
    help_ok(moe_file_read(GOLDEN "npy/ids.npy", 1 << 20, &data, &n, &err), &err);
    data[n - 1] = data[n - 2];
    refused(data, n, NULL, "appears twice in the route");
    free(data);
}
END_TEST

/* A long path is told by its end, where the file's name stands, and the fault behind it. */
START_TEST(long_paths)
{
    char *data = NULL, path[1024], shown[1200];
    size_t n = 0;
    struct moe_err err = {0};
    struct moe_trace trace;
    const struct moe_blob none = {0};
    const size_t depths[] = {20, 900};
    for (int i = 0; i < 2; i++) {
        memset(path, 'd', depths[i]);
        snprintf(path + depths[i], sizeof path - depths[i], "/routes of monday.npy");
        const struct moe_blob file = {path, "", 0};
        ck_assert_int_ne(moe_vllm_parse(&file, 1, &none, &no_options, &trace, &err), MOE_OK);
        ck_assert_msg(strstr(err.text, "/routes of monday.npy': not a npy file"), "%s", err.text);
    }
    help_ok(moe_file_read(GOLDEN "vllm.npz", 1 << 20, &data, &n, &err), &err);
    const struct moe_blob rows = {"s", "n_prompt\n5\n1\n", 13};
    for (int i = 0; i < 2; i++) {
        memset(path, 'd', depths[i]);
        snprintf(path + depths[i], sizeof path - depths[i], "/routes of monday.npz");
        const struct moe_blob file = {path, data, n};
        ck_assert_int_ne(moe_vllm_parse(&file, 1, &rows, &no_options, &trace, &err), MOE_OK);
        snprintf(shown, sizeof shown, "exceeds the 4 of '%s%s:arr_2.npy'", i ? "..." : "",
                 i ? path + strlen(path) - 160 : path);
        ck_assert_msg(strstr(err.text, shown), "%s", err.text);
    }
    free(data);
}
END_TEST

START_TEST(registry)
{
    const struct moe_format *format = NULL;
    struct moe_err err = {0};
    for (const struct moe_format *f = moe_formats; f->name; f++) {
        help_ok(moe_format_find(f->name, &format, &err), &err);
        ck_assert_ptr_eq(format, f);
        struct moe_trace trace;
        ck_assert_int_ne(f->import("/nonexistent/x", &no_options, &trace, &err), MOE_OK);
        ck_assert_msg(strstr(err.text, "/nonexistent/x") != NULL, "%s", err.text);
        if (f->export)
            ck_assert_int_ne(f->import(GOLDEN, &no_options, &trace, &err), MOE_OK);
    }
    ck_assert_int_eq(moe_format_find("route-cvs", &format, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "unknown format 'route-cvs' (did you mean 'route-csv'?)");
}
END_TEST

/* An unwritable place: an error, and nothing left behind. */
START_TEST(unwritable)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    help_ok(moe_npy_routes_import(GOLDEN "npy", &no_options, &trace, &err), &err);
    for (const struct moe_format *f = moe_formats; f->name; f++)
        if (f->export)
            ck_assert_int_eq(f->export(&trace, help_path("no/such/folder"), &err), MOE_ERR_IO);
    moe_trace_release(&trace);
}
END_TEST

static void add(TCase *tcase)
{
    tcase_add_test(tcase, one_request);
    tcase_add_test(tcase, natural_order);
    tcase_add_test(tcase, several_requests);
    tcase_add_test(tcase, other_containers);
    tcase_add_test(tcase, hostile);
    tcase_add_test(tcase, long_paths);
    tcase_add_test(tcase, registry);
    tcase_add_test(tcase, unwritable);
}

int main(void)
{
    return help_run("import_vllm", add);
}
