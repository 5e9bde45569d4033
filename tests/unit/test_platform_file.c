/* Platform files that were written are read back equal, whatever texts are in them. */
#include "policies/platform_file.h"

#include "base/rng.h"
#include "base/yaml.h"
#include "sanitizer.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;

/* The origin of every constant is its key behind the text given as context. */
static const char *origin_of(void *context, const char *key)
{
    static char text[256];
    snprintf(text, sizeof text, "guess: %s %s", (const char *)context, key);
    return text;
}

static char *write_text(const struct moe_platform *p, const char *head, char *origin)
{
    char *text = NULL;
    size_t size;
    const struct moe_platform_notes notes = {head, origin_of, origin};
    if (moe_platform_text(p, &notes, &text, &size, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_uint_eq(strlen(text), size);
    return text;
}

static struct moe_platform read_text(const char *text)
{
    struct moe_platform p;
    if (moe_platform_parse("written", text, strlen(text), &p, &err))
        ck_abort_msg("%s in\n%s", err.text, text);
    return p;
}

static void expect_points(const struct moe_ffn_point *a, uint32_t n, const struct moe_ffn_point *b,
                          uint32_t n_b)
{
    ck_assert_uint_eq(n, n_b);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_uint_eq(a[i].threads, b[i].threads);
        ck_assert_uint_eq(a[i].expert_bytes, b[i].expert_bytes);
        ck_assert_double_eq(a[i].ms, b[i].ms);
    }
}

static void expect_equal(const struct moe_platform *a, const struct moe_platform *b)
{
    char x[64], y[64];
    ck_assert_str_eq(a->name, b->name);
    ck_assert_str_eq(a->description, b->description);
    for (const struct moe_platform_section *s = moe_platform_sections; s->name; s++)
        for (const struct moe_param *c = s->table; c->name; c++)
            ck_assert_str_eq(moe_param_format(c, a, x, sizeof x),
                             moe_param_format(c, b, y, sizeof y));
    expect_points(a->cpu.point, a->cpu.n_points, b->cpu.point, b->cpu.n_points);
    expect_points(a->cpu.dense, a->cpu.n_dense, b->cpu.dense, b->cpu.n_dense);
}

static struct moe_platform load(const char *name)
{
    char path[128];
    struct moe_platform p;
    snprintf(path, sizeof path, "experiments/platforms/%s.yaml", name);
    if (moe_platform_load(path, &p, &err))
        ck_abort_msg("%s", err.text);
    return p;
}

START_TEST(committed_platforms_come_back)
{
    static const char *const names[] = {"paper-4090",    "laptop-4060", "desktop-5090",
                                        "laptop-no-gpu", "strix-halo",  "dgx-spark"};
    char origin[] = "the same";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct moe_platform p = load(names[i]);
        char *text = write_text(&p, NULL, origin);
        const struct moe_platform again = read_text(text);
        expect_equal(&p, &again);
        free(text);
    }
}
END_TEST

START_TEST(exact_bytes)
{
    char origin[] = "x\ty";
    struct moe_platform p = load("paper-4090");
    snprintf(p.name, sizeof p.name, "a\"b\\c");
    char *text = write_text(&p, "one\ntwo\x01 \"3\"", origin);
    const char *wanted = "# one\n# two? \"3\"\n"
                         "name: \"a\\\"b\\\\c\"\n"
                         "description: \"RTX 4090 24 GB, Threadripper 7960X 24 cores, PCIe 4.0 x16 "
                         "(arXiv 2512.16473)\"\n\n"
                         "link:\n"
                         "  h2d_pinned_gb_per_s:\n"
                         "    value: 25.147862\n"
                         "    unit: GB/s\n"
                         "    origin: \"guess: x\\u0009y link.h2d_pinned_gb_per_s\"\n";
    ck_assert_int_eq(strncmp(text, wanted, strlen(wanted)), 0);
    ck_assert_ptr_nonnull(
        strstr(text, "      - {threads: 1, expert_bytes: 352321536, ms: 22.06}\n"));
    free(text);
}
END_TEST

/* Characters that YAML gives a meaning or refuses, controls, and words that look like others. */
static void random_text(struct moe_rng *rng, char *out, size_t size)
{
    static const char *const pieces[] = {"a",
                                         " ",
                                         "\"",
                                         "\\",
                                         "'",
                                         ":",
                                         ": ",
                                         " #",
                                         "\n",
                                         "\t",
                                         "\r",
                                         "\x01",
                                         "\x1f",
                                         "\x7f",
                                         "{",
                                         "]",
                                         "- ",
                                         "---",
                                         "...",
                                         "\xc2\x85",
                                         "\xc2\x9f",
                                         "null",
                                         "true",
                                         "0x1f",
                                         "\xef\xbb\xbf",
                                         "\xe2\x80\xa8",
                                         "\xc3\xa9",
                                         "\xf0\x9f\x98\x80",
                                         "&a",
                                         "*a",
                                         "\\n",
                                         "\xef\xbf\xbd",
                                         "%YAML",
                                         "!x",
                                         "\xe2\x80\xa9"};
    out[0] = '\0';
    const uint64_t n = moe_rng_below(rng, 12);
    for (uint64_t i = 0; i < n; i++) {
        const char *piece = pieces[moe_rng_below(rng, sizeof pieces / sizeof *pieces)];
        const size_t used = strlen(out);
        if (used + strlen(piece) < size)
            memcpy(out + used, piece, strlen(piece) + 1);
    }
}

/* Between the limits of the table, evenly in the exponent. */
static double random_value(struct moe_rng *rng, double min, double max)
{
    const double low = min > 0 ? min : 1e-6, share = (double)moe_rng_below(rng, 1u << 30) / 0x1p30;
    return fmin(max, low * pow(max / low, share));
}

static struct moe_platform random_platform(struct moe_rng *rng)
{
    struct moe_platform p = {0};
    random_text(rng, p.name, sizeof p.name);
    random_text(rng, p.description, sizeof p.description);
    for (const struct moe_platform_section *s = moe_platform_sections; s->name; s++)
        for (const struct moe_param *c = s->table; c->name; c++) {
            const double value =
                random_value(rng, c->min, c->type == MOE_PARAM_BYTES ? 1e15 : c->max);
            const uint64_t whole = (uint64_t)value;
            memcpy((char *)&p + c->offset,
                   c->type == MOE_PARAM_F64 ? (const void *)&value : (const void *)&whole, 8);
        }
    p.cpu.n_points = 1 + (uint32_t)moe_rng_below(rng, MOE_MAX_FFN_POINTS);
    p.cpu.n_dense = (uint32_t)moe_rng_below(rng, MOE_MAX_FFN_POINTS + 1);
    for (uint32_t i = 0; i < p.cpu.n_points; i++) /* ascending, none twice */
        p.cpu.point[i] =
            (struct moe_ffn_point){1 + i / 5, 1 + i % 5 * 1000003ull, random_value(rng, 1e-6, 1e7)};
    for (uint32_t i = 0; i < p.cpu.n_dense; i++)
        p.cpu.dense[i] =
            (struct moe_ffn_point){1 + i / 2, 1 + i % 2 * 7777ull, random_value(rng, 1e-6, 1e7)};
    return p;
}

START_TEST(random_platforms_come_back)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 31);
    for (int i = 0; i < (ADDRESS_SANITIZER ? 300 : 2000); i++) {
        char origin[64], head[64];
        const struct moe_platform p = random_platform(&rng);
        random_text(&rng, origin, sizeof origin);
        random_text(&rng, head, sizeof head);
        char *text = write_text(&p, head, origin);
        const struct moe_platform again = read_text(text);
        expect_equal(&p, &again);
        struct moe_yaml *root;
        ck_assert_int_eq(moe_yaml_parse("written", text, strlen(text), &root, &err), MOE_OK);
        const struct moe_yaml *ffn = moe_yaml_get(moe_yaml_get(root, "cpu"), "expert_ffn");
        ck_assert_str_eq(moe_yaml_get(ffn, "origin")->text, origin_of(origin, "cpu.expert_ffn"));
        moe_yaml_free(root);
        free(text);
    }
}
END_TEST

START_TEST(bytes_that_are_no_text)
{
    char origin[] = "o";
    struct moe_platform p = load("paper-4090");
    snprintf(p.name, sizeof p.name, "x\xff y\xc3");
    char *text = write_text(&p, "\xfe head", origin);
    ck_assert_int_eq(strncmp(text, "# ? head\nname: \"x? y?\"\n", 23), 0);
    free(text);
}
END_TEST

static void refuse(const struct moe_platform *p, const char *part)
{
    static const char path[] = "/tmp/moelab-platform-refused.yaml";
    char *text = NULL, origin[] = "o";
    size_t size;
    const struct moe_platform_notes notes = {NULL, origin_of, origin};
    ck_assert_int_ne(moe_platform_text(p, &notes, &text, &size, &err), MOE_OK);
    ck_assert_msg(strstr(err.text, part) != NULL, "no '%s' in '%s'", part, err.text);
    ck_assert_int_ne(moe_platform_save(p, &notes, path, &err), MOE_OK);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_null(f);
}

static const char *no_origin(void *context, const char *key)
{
    (void)context;
    return key;
}

START_TEST(what_cannot_be_read_is_not_written)
{
    const struct moe_platform good = load("paper-4090");
    struct moe_platform p = good;
    p.dram.read_gb_per_s = 0;
    refuse(&p, "read_gb_per_s");
    p.dram.read_gb_per_s = NAN;
    refuse(&p, "read_gb_per_s");
    p = good;
    p.cpu.point[0] = good.cpu.point[3];
    p.cpu.point[3] = good.cpu.point[0];
    refuse(&p, "out of order");
    p = good;
    p.cpu.n_points = 0;
    refuse(&p, "expert_ffn");
    p = good;
    p.cpu.n_dense = 2;
    p.cpu.dense[0] = p.cpu.dense[1] = good.cpu.point[0];
    refuse(&p, "two points for 1 thread and 157286400 bytes");
    char *text = NULL;
    size_t size;
    const struct moe_platform_notes notes = {NULL, no_origin, NULL};
    ck_assert_int_ne(moe_platform_text(&good, &notes, &text, &size, &err), MOE_OK);
    ck_assert_msg(strstr(err.text, "origin") != NULL, "%s", err.text);
    ck_assert_ptr_null(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("platform_file");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, committed_platforms_come_back);
    tcase_add_test(tc, exact_bytes);
    tcase_add_test(tc, random_platforms_come_back);
    tcase_add_test(tc, bytes_that_are_no_text);
    tcase_add_test(tc, what_cannot_be_read_is_not_written);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
