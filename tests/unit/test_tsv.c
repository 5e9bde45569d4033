/* base/tsv.h: what the tables write is read back equal; everything else is refused with its line.
 */
#include "base/tsv.h"

#include "base/table.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;

static enum moe_status parse(const char *text, struct moe_tsv *tsv)
{
    return moe_tsv_parse("x.tsv", text, strlen(text), tsv, &err);
}

START_TEST(written_and_read)
{
    struct moe_table *table = moe_table_new();
    struct moe_tsv tsv;
    char *text = NULL;
    size_t size;
    double x;
    ck_assert_ptr_nonnull(table);
    moe_table_note(table, "program", "moelab 1: with a colon");
    moe_table_note(table, "empty", "%s", "");
    moe_table_row(table);
    moe_table_text(table, "policy", "lru <b>");
    moe_table_f64(table, "tokens_per_s", 4.25);
    moe_table_row(table);
    moe_table_u64(table, "hits", 18);
    FILE *f = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(moe_table_write_tsv(table, f, &err), MOE_OK);
    fclose(f);
    ck_assert_int_eq(moe_tsv_parse("x.tsv", text, size, &tsv, &err), MOE_OK);
    ck_assert_uint_eq(tsv.n_notes, 2);
    ck_assert_str_eq(moe_tsv_note(&tsv, "program"), "moelab 1: with a colon");
    ck_assert_str_eq(moe_tsv_note(&tsv, "empty"), "");
    ck_assert_ptr_null(moe_tsv_note(&tsv, "trace"));
    ck_assert_uint_eq(tsv.n_columns, 3);
    ck_assert_uint_eq(tsv.n_rows, 2);
    ck_assert_uint_eq(moe_tsv_column(&tsv, "hits"), 2);
    ck_assert_uint_eq(moe_tsv_column(&tsv, "hit"), 3);
    ck_assert_str_eq(moe_tsv_cell(&tsv, 0, 0), "lru <b>");
    ck_assert_str_eq(moe_tsv_cell(&tsv, 0, 2), "nan");
    ck_assert_str_eq(moe_tsv_cell(&tsv, 1, 2), "18");
    ck_assert(moe_tsv_number(moe_tsv_cell(&tsv, 0, 1), &x) && x > 4.24 && x < 4.26);
    ck_assert(!moe_tsv_number("nan", &x) && !moe_tsv_number("", &x) && !moe_tsv_number("inf", &x));
    ck_assert(!moe_tsv_number("7x8", &x) && !moe_tsv_number("0x10", &x));
    moe_tsv_release(&tsv);
    moe_table_free(table);
    free(text);
}
END_TEST

START_TEST(remarks_and_repeated_keys)
{
    struct moe_tsv tsv;
    ck_assert_int_eq(parse("#trace: a\n# trace: b\n# a remark\n#\na\tb\n\t\n", &tsv), MOE_OK);
    ck_assert_uint_eq(tsv.n_notes, 4);
    ck_assert_str_eq(moe_tsv_note(&tsv, "trace"), "a");
    ck_assert_str_eq(tsv.notes[1].value, "b");
    ck_assert_str_eq(tsv.notes[2].key, "");
    ck_assert_str_eq(tsv.notes[2].value, "a remark");
    ck_assert_str_eq(tsv.notes[3].value, "");
    ck_assert_uint_eq(tsv.n_rows, 1);
    ck_assert_str_eq(moe_tsv_cell(&tsv, 0, 1), "");
    moe_tsv_release(&tsv);
}
END_TEST

/* "trace info '#x.h5'" writes such a row. */
START_TEST(first_cell_with_a_hash)
{
    struct moe_table *table = moe_table_new();
    struct moe_tsv tsv;
    char *text = NULL;
    size_t size;
    ck_assert_ptr_nonnull(table);
    moe_table_note(table, "program", "moelab");
    for (int i = 0; i < 2; i++) {
        moe_table_row(table);
        moe_table_text(table, "file", i ? "x.h5" : "# 1: x.h5");
        moe_table_u64(table, "layers", 2);
    }
    FILE *f = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(moe_table_write_tsv(table, f, &err), MOE_OK);
    fclose(f);
    ck_assert_msg(!moe_tsv_parse("x.tsv", text, size, &tsv, &err), "%s", err.text);
    ck_assert_uint_eq(tsv.n_notes, 1);
    ck_assert_uint_eq(tsv.n_rows, 2);
    ck_assert_str_eq(moe_tsv_cell(&tsv, 0, 0), "# 1: x.h5");
    ck_assert_str_eq(moe_tsv_cell(&tsv, 1, 0), "x.h5");
    moe_tsv_release(&tsv);
    moe_table_free(table);
    free(text);
}
END_TEST

static const struct {
    const char *text, *message;
} broken[] = {
    {"", "'x.tsv' has no line with column names"},
    {"# only: notes\n", "'x.tsv' has no line with column names"},
    {"a\tb\n1\t2\n3\n", "'x.tsv':3: line has 1 field, the header has 2"},
    {"a\tb\n1\t2\t3\n", "'x.tsv':2: line has 3 fields, the header has 2"},
    {"a\tb\n1\t2\n\n", "'x.tsv':3: line has 1 field, the header has 2"},
    {"a\tb\n1\t2", "'x.tsv':2: the last line has no line end: the file is cut short"},
    {"a\t\n", "'x.tsv':1: column 2 has no name"},
    {"\n", "'x.tsv':1: column 1 has no name"},
    {"# k: v\na\tb\ta\n", "'x.tsv':2: columns 1 and 3 are both 'a'"},
    {"a\n1\n# k: v\n", "'x.tsv':3: provenance must be above the column names, not below"},
    {"a\tb\n1\t2\n# k: v\n", "'x.tsv':3: provenance must be above the column names, not below"},
    {"a\r\n1\r\n", "'x.tsv':1: byte 2 is a control character (0x0d)"},
    {"a\n\x7f\n", "'x.tsv':2: byte 1 is a control character (0x7f)"},
    {"a\n12\xff\n", "'x.tsv':2: byte 3 is not UTF-8"},
};

START_TEST(refused)
{
    struct moe_tsv tsv = {.n_rows = 77};
    ck_assert_int_eq(parse(broken[_i].text, &tsv), MOE_ERR_INPUT);
    ck_assert_str_eq(err.text, broken[_i].message);
    ck_assert_uint_eq(tsv.n_rows, 77);
}
END_TEST

START_TEST(limits)
{
    struct moe_tsv tsv;
    static char wide[MOE_TSV_MAX_COLUMNS + 2];
    memset(wide, '\t', MOE_TSV_MAX_COLUMNS);
    wide[MOE_TSV_MAX_COLUMNS] = '\n';
    ck_assert_int_eq(parse(wide, &tsv), MOE_ERR_INPUT);
    ck_assert_str_eq(err.text, "'x.tsv':1: 4097 columns, at most 4096 are read");
    ck_assert_int_eq(moe_tsv_parse("x.tsv", "a\0\n", 3, &tsv, &err), MOE_ERR_INPUT);
    ck_assert_str_eq(err.text, "'x.tsv':1: byte 2 is a control character (0x00)");
    ck_assert_int_eq(moe_tsv_load("tests/golden/none.tsv", 100, &tsv, &err), MOE_ERR_IO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tsv");
    TCase *t = tcase_create("tsv");
    tcase_add_test(t, written_and_read);
    tcase_add_test(t, first_cell_with_a_hash);
    tcase_add_test(t, remarks_and_repeated_keys);
    tcase_add_loop_test(t, refused, 0, sizeof broken / sizeof *broken);
    tcase_add_test(t, limits);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
