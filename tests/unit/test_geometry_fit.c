/* Geometries shrunk to a number of slots: by hand, and every kind at every size. */
#include "policies/geometry_fit.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { L = 4, E = 8, BYTES = 100 };

static const char *fit(const char *text, uint64_t max_slots)
{
    static char buf[128];
    struct moe_err err = {0};
    if (moe_geometry_fit(text, L, E, BYTES, max_slots, buf, sizeof buf, &err))
        ck_abort_msg("%s: %s", text, err.text);
    return buf;
}

START_TEST(by_hand)
{
    static const struct {
        const char *text;
        uint64_t max;
        const char *expected;
    } cases[] = {
        {"4x2", 8, "4x2"},
        {"4x2", 1000, "4x2"},
        {"4x2", 7, "3x2"},
        {"4x2", 2, "1x2"},
        {"4x2", 1, "1x1"},
        {"4x2", 0, "none"},
        {"3x8", 23, "2x8"},
        {"3x8", 7, "1x7"},
        {"global:32", 32, "global:32"},
        {"global:32", 31, "global:31"},
        {"global:5", 0, "none"},
        {"global:3200B", 32, "global:3200B"},
        {"global:3200B", 31, "global:3100B"},
        {"global:2KB", 20, "global:2KB"},
        {"global:2KB", 19, "global:1900B"},
        /* 20 slots and a rest that no slot fills: the rest goes first. */
        {"global:2050B", 21, "global:2050B"},
        {"global:2050B", 20, "global:2000B"},
        {"global:2050B", 0, "none"},
        {"all", 32, "all"},
        {"all", 31, "ncmoe:1"},
        {"all", 8, "ncmoe:3"},
        {"all", 7, "none"},
        {"ncmoe:1", 24, "ncmoe:1"},
        {"ncmoe:1", 23, "ncmoe:2"},
        {"ncmoe:1", 7, "none"},
        {"ncmoe:4", 0, "ncmoe:4"},
        {"per-layer:2,2,3", 7, "per-layer:2,2,3"},
        {"per-layer:2,2,3", 6, "per-layer:2,2,2"},
        {"per-layer:2,2,3", 4, "per-layer:2,2"},
        {"per-layer:2,2,3", 1, "per-layer:1"},
        {"per-layer:2,2,3", 0, "none"},
        {"per-layer:0,0,3", 2, "per-layer:0,0,2"},
        {"per-layer:8,8,8,8", 25, "per-layer:8,8,8,1"},
        {"none", 0, "none"},
        {"none", 9, "none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(strcmp(fit(cases[i].text, cases[i].max), cases[i].expected) == 0,
                      "%s to %lu: %s, not %s", cases[i].text, (unsigned long)cases[i].max,
                      fit(cases[i].text, cases[i].max), cases[i].expected);
}
END_TEST

static struct moe_geometry parse(const char *text)
{
    uint64_t bytes[L] = {BYTES, BYTES, BYTES, BYTES};
    struct moe_geometry g;
    struct moe_err err = {0};
    if (moe_geometry_parse(text, L, E, bytes, &g, &err))
        ck_abort_msg("%s", err.text);
    return g;
}

/* The result can be parsed, has at most the slots and bytes allowed, is its own fit, and no larger
 * limit gives fewer slots. */
static void check_every_size(const char *text)
{
    uint32_t before = 0;
    for (uint64_t max = 0; max <= L * E; max++) {
        char fitted[128];
        snprintf(fitted, sizeof fitted, "%s", fit(text, max));
        struct moe_geometry g = parse(fitted);
        ck_assert_uint_le(g.n_slots, max);
        ck_assert_uint_le(moe_geometry_bytes(&g), max * BYTES);
        ck_assert_uint_ge(g.n_slots, before);
        before = g.n_slots;
        moe_geometry_release(&g);
        ck_assert_str_eq(fit(fitted, max), fitted);
    }
    ck_assert_str_eq(fit(text, L * E), text);
}

START_TEST(every_size)
{
    char text[64];
    for (uint32_t n = 1; n <= L; n++)
        for (uint32_t m = 1; m <= E; m++) {
            snprintf(text, sizeof text, "%ux%u", n, m);
            check_every_size(text);
        }
    for (uint32_t n = 1; n <= L * E; n++) {
        snprintf(text, sizeof text, "global:%u", n);
        check_every_size(text);
        snprintf(text, sizeof text, "per-layer:%u,%u,%u,%u", n % 9, n % 5, n % 3, n % 7);
        check_every_size(text);
    }
    for (uint32_t bytes = BYTES; bytes <= L * E * BYTES; bytes += 17) {
        snprintf(text, sizeof text, "global:%uB", bytes);
        check_every_size(text);
    }
    for (uint32_t n = 0; n <= L; n++) {
        snprintf(text, sizeof text, "ncmoe:%u", n);
        check_every_size(text);
    }
    check_every_size("all");
    check_every_size("none");
}
END_TEST

START_TEST(refusals)
{
    char buf[8] = "as was";
    struct moe_err err = {0};
    ck_assert_int_eq(moe_geometry_fit("5x2", L, E, BYTES, 3, buf, sizeof buf, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "geometry '5x2': indexes 5 exceeds the 4 layers of the model");
    ck_assert_int_eq(moe_geometry_fit("global:1KB", L, E, 0, 3, buf, sizeof buf, &err),
                     MOE_ERR_USAGE);
    ck_assert_int_eq(moe_geometry_fit("per-layer:2,2,3", L, E, 0, 4, buf, sizeof buf, &err),
                     MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "geometry 'per-layer:2,2' is too long");
    ck_assert_int_eq(buf[0], 'a');
    ck_assert_int_eq(moe_geometry_fit("4x2", L, E, 0, 3, buf, sizeof buf, &err), MOE_OK);
    ck_assert_str_eq(buf, "1x2");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("geometry fit");
    TCase *tc = tcase_create("geometry fit");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, by_hand);
    tcase_add_test(tc, every_size);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
