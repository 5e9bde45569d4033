/* base/table.h: the exact bytes of TSV, JSON and text, and numbers that read back. */
#include "base/table.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;

typedef enum moe_status writer(const struct moe_table *, FILE *, struct moe_err *);

static void expect(const struct moe_table *table, writer *write, const char *wanted)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(write(table, f, &err), MOE_OK);
    fclose(f);
    ck_assert_str_eq(text, wanted);
    free(text);
}

static struct moe_table *new_table(void)
{
    struct moe_table *table = moe_table_new();
    ck_assert_ptr_nonnull(table);
    return table;
}

START_TEST(several_rows)
{
    struct moe_table *t = new_table();
    moe_table_note(t, "program", "moelab %d", 1);
    moe_table_note(t, "source", "a\n\"b\"");
    moe_table_row(t);
    moe_table_text(t, "policy", "lru");
    moe_table_u64(t, "hits", UINT64_MAX);
    moe_table_f64(t, "rate", 0.1);
    moe_table_row(t);
    moe_table_f64(t, "rate", 1.0 / 3);
    moe_table_text(t, "note", "tab\there\n");
    moe_table_text(t, "policy", "lfu\\");
    moe_table_f64(t, "tokens_per_s", 23456.7);
    moe_table_row(t);
    moe_table_f64(t, "rate", NAN);
    moe_table_f64(t, "tokens_per_s", INFINITY);
    moe_table_text(t, "hits", "freed, as the leak checker of a sanitizer build sees");
    moe_table_u64(t, "hits", 1);
    moe_table_u64(t, "hits", 2); /* the last one counts */
    expect(t, moe_table_write_tsv,
           "# program: moelab 1\n"
           "# source: a \"b\"\n"
           "policy\thits\trate\tnote\ttokens_per_s\n"
           "lru\t18446744073709551615\t0.1\tnan\tnan\n"
           "lfu\\\tnan\t0.3333333333333333\ttab here \t23456.7\n"
           "nan\t2\tnan\tnan\tinf\n");
    expect(t, moe_table_write_json,
           "{\n\"provenance\": {\n"
           "  \"program\": \"moelab 1\",\n"
           "  \"source\": \"a \\\"b\\\"\"},\n"
           "\"columns\": [\"policy\", \"hits\", \"rate\", \"note\", \"tokens_per_s\"],\n"
           "\"rows\": [\n"
           "  [\"lru\", 18446744073709551615, 0.1, null, null],\n"
           "  [\"lfu\\\\\", null, 0.3333333333333333, \"tab here \", 23456.7],\n"
           "  [null, 2, null, null, null]]\n}\n");
    expect(t, moe_table_write_text,
           "policy                  hits    rate  note       tokens_per_s\n"
           "lru     18446744073709551615     0.1  -                     -\n"
           "lfu\\                       -  0.3333  tab here          23457\n"
           "-                          2       -  -                   inf\n");
    moe_table_free(t);
}
END_TEST

START_TEST(one_row)
{
    struct moe_table *t = new_table();
    moe_table_f64(t, "a", -0.5); /* begins the first row by itself */
    moe_table_text(t, "rows", "x");
    moe_table_text(t, "b", "");
    expect(t, moe_table_write_json,
           "{\n\"provenance\": {},\n\"a\": -0.5,\n\"b\": \"\",\n"
           "\"columns\": [\"a\", \"rows\", \"b\"],\n\"rows\": [\n  [-0.5, \"x\", \"\"]]\n}\n");
    moe_table_free(t);
}
END_TEST

START_TEST(one_wide_row)
{
    struct moe_table *t = new_table();
    const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "long_name", "i"};
    for (uint64_t j = 0; j < 9; j++)
        moe_table_u64(t, names[j], j);
    expect(t, moe_table_write_text,
           "a          0\nb          1\nc          2\nd          3\ne          4\n"
           "f          5\ng          6\nlong_name  7\ni          8\n");
    moe_table_free(t);
}
END_TEST

START_TEST(no_rows)
{
    struct moe_table *t = new_table();
    expect(t, moe_table_write_tsv, "");
    expect(t, moe_table_write_text, "");
    expect(t, moe_table_write_json, "{\n\"provenance\": {},\n\"columns\": [],\n\"rows\": []\n}\n");
    moe_table_row(t);
    expect(t, moe_table_write_tsv, "");
    expect(t, moe_table_write_json,
           "{\n\"provenance\": {},\n\"columns\": [],\n\"rows\": [\n  []]\n}\n");
    moe_table_free(t);
    moe_table_free(NULL);
}
END_TEST

START_TEST(notes_replace)
{
    struct moe_table *t = new_table();
    char key[16];
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "k%d", i % 20);
        moe_table_note(t, key, "%d", i);
    }
    moe_table_note(t, "k\n1", "x");
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    ck_assert_int_eq(moe_table_write_tsv(t, f, &err), MOE_OK);
    fclose(f);
    ck_assert_int_eq(strncmp(text, "# k0: 20\n# k1: 21\n", 18), 0);
    ck_assert_ptr_nonnull(strstr(text, "# k19: 39\n# k 1: x\n"));
    free(text);
    moe_table_free(t);
}
END_TEST

#define NONE "\xef\xbf\xbd" /* U+FFFD */

START_TEST(text_of_any_bytes)
{
    /* U+00E9 and U+1F600 stand; overlong, surrogate, cut and stray bytes become U+FFFD. */
    struct moe_table *t = new_table();
    moe_table_row(t);
    moe_table_row(t);
    moe_table_text(
        t, "x", "\xc3\xa9 \xf0\x9f\x98\x80 \xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82 \xff");
    moe_table_text(t, "y", "1\x1b[2J");
    expect(t, moe_table_write_json,
           "{\n\"provenance\": {},\n\"columns\": [\"x\", \"y\"],\n\"rows\": [\n  [null, null],\n"
           "  [\"\xc3\xa9 \xf0\x9f\x98\x80 " NONE NONE " " NONE NONE NONE " " NONE NONE NONE NONE
           " " NONE NONE " " NONE "\", \"1 [2J\"]]\n}\n");
    moe_table_free(t);
    t = new_table();
    moe_table_note(t, "trace", "a\xff\x62.h5");
    expect(t, moe_table_write_tsv, "# trace: a" NONE "b.h5\n");
    moe_table_free(t);
    t = new_table();
    moe_table_text(t, "x", "\xc3\xa9\xc3\xa9");
    moe_table_u64(t, "n", 1);
    moe_table_row(t);
    moe_table_text(t, "x", "abc");
    expect(t, moe_table_write_text, "x    n\n\xc3\xa9\xc3\xa9   1\nabc  -\n");
    moe_table_free(t);
}
END_TEST

START_TEST(many)
{
    struct moe_table *t = new_table();
    char name[16];
    for (int i = 0; i < 1000; i++) {
        moe_table_row(t);
        for (int j = 0; j <= i % 40; j++) {
            snprintf(name, sizeof name, "c%d", j);
            moe_table_u64(t, name, (uint64_t)(i * 100 + j));
        }
    }
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    ck_assert_int_eq(moe_table_write_tsv(t, f, &err), MOE_OK);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, "\n4100\t4101\tnan\tnan\t"));
    ck_assert_ptr_nonnull(strstr(text, "\t99938\t99939\n"));
    free(text);
    moe_table_free(t);
}
END_TEST

START_TEST(full_disk)
{
    struct moe_table *t = new_table();
    for (int i = 0; i < 5000; i++) {
        moe_table_row(t);
        moe_table_u64(t, "n", 123456);
    }
    writer *const writers[] = {moe_table_write_tsv, moe_table_write_json, moe_table_write_text};
    for (int i = 0; i < 3; i++) {
        FILE *f = fopen("/dev/full", "w");
        ck_assert_ptr_nonnull(f);
        ck_assert_int_eq(writers[i](t, f, &err), MOE_ERR_IO);
        ck_assert_str_eq(err.text, "cannot write table: No space left on device");
        fclose(f);
    }
    moe_table_free(t);
}
END_TEST

START_TEST(shortest_numbers)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1e21, "1e+21"},
        {123456789012345678.0, "1.2345678901234568e+17"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {DBL_MIN, "2.2250738585072014e-308"},
        {0x1p-1074, "5e-324"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
        {NAN, "nan"},
        {-NAN, "nan"},
    };
    char buf[40];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(moe_format_f64(cases[i].value, buf, sizeof buf), cases[i].text);
    struct moe_rng rng;
    moe_rng_init(&rng, 1);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = moe_rng_next(&rng);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isnan(value))
            continue;
        double back = strtod(moe_format_f64(value, buf, sizeof buf), NULL);
        ck_assert_mem_eq(&back, &value, sizeof value);
    }
}
END_TEST

/* As where memory ran out at once: the maker of the table need not look. */
START_TEST(no_table)
{
    static writer *const writers[] = {moe_table_write_tsv, moe_table_write_json,
                                      moe_table_write_text};
    moe_table_note(NULL, "key", "%d", 1);
    moe_table_row(NULL);
    moe_table_u64(NULL, "hits", 1);
    moe_table_f64(NULL, "rate", 1);
    moe_table_text(NULL, "policy", "lru");
    moe_table_free(NULL);
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) {
        ck_assert_int_eq(writers[i](NULL, stdout, &err), MOE_ERR_MEMORY);
        ck_assert_str_eq(err.text, "out of memory for a result table");
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {several_rows,     one_row,           one_wide_row, no_rows,
                                  notes_replace,    text_of_any_bytes, many,         full_disk,
                                  shortest_numbers, no_table};
    Suite *suite = suite_create("table");
    TCase *tcase = tcase_create("all");
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
