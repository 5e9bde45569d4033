/* Geometry strings: what each form means, and every way in which one can be wrong. */
#include "policies/geometry.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { L = 4, E = 8 };

static const uint64_t sizes[L] = {100, 200, 0, 300};

static struct moe_geometry parse(const char *text, const uint64_t *bytes)
{
    struct moe_geometry g;
    struct moe_err err;
    if (moe_geometry_parse(text, L, E, bytes, &g, &err))
        ck_abort_msg("%s", err.text);
    return g;
}

START_TEST(forms)
{
    static const struct {
        const char *text;
        uint32_t n_slots, n_pools, ways[8]; /* ways: slots of each pool */
        int32_t pool_of_layer[L];
    } cases[] = {
        {"3x2", 6, 3, {2, 2, 2}, {0, 1, 2, -1}},
        {"4x8", 32, 4, {8, 8, 8, 8}, {0, 1, 2, 3}},
        {"global:1", 1, 1, {1}, {0, 0, 0, 0}},
        {"global:32", 32, 1, {32}, {0, 0, 0, 0}},
        {"per-layer:2,0,3", 5, 2, {2, 3}, {0, -1, 1, -1}},
        {"per-layer:8,8,8,8", 32, 4, {8, 8, 8, 8}, {0, 1, 2, 3}},
        {"ncmoe:0", 32, 4, {8, 8, 8, 8}, {0, 1, 2, 3}},
        {"ncmoe:3", 8, 1, {8}, {-1, -1, -1, 0}},
        {"ncmoe:4", 0, 0, {0}, {-1, -1, -1, -1}},
        {"none", 0, 0, {0}, {-1, -1, -1, -1}},
        {"all", 32, 4, {8, 8, 8, 8}, {0, 1, 2, 3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_geometry g = parse(cases[i].text, NULL);
        uint32_t first = 0;
        ck_assert_uint_eq(g.n_layers, L);
        ck_assert_uint_eq(g.n_experts, E);
        ck_assert_uint_eq(g.n_slots, cases[i].n_slots);
        ck_assert_uint_eq(g.n_pools, cases[i].n_pools);
        ck_assert_mem_eq(g.pool_of_layer, cases[i].pool_of_layer, sizeof cases[i].pool_of_layer);
        for (uint32_t p = 0; p < g.n_pools; p++) {
            ck_assert_uint_eq(g.pool[p].first_slot, first);
            ck_assert_uint_eq(g.pool[p].n_slots, cases[i].ways[p]);
            ck_assert_uint_eq(g.pool[p].bytes, 0);
            first += g.pool[p].n_slots;
        }
        ck_assert_ptr_null(g.expert_bytes);
        ck_assert_uint_eq(moe_geometry_bytes(&g), 0);
        moe_geometry_release(&g);
        ck_assert_ptr_null(g.pool);
    }
}
END_TEST

START_TEST(bytes)
{
    static const struct {
        const char *text;
        uint32_t n_slots;
        uint64_t pool_bytes, total;
    } cases[] = {
        {"global:300B", 3, 300, 300}, /* the smallest expert with a size has 100 */
        {"global:1KB", 10, 1000, 1000},
        {"global:1KiB", 10, 1024, 1024},
        {"global:4800B", 32, 4800, 4800}, /* 48 of the smallest, but the model has 32 */
        {"global:4", 4, 0, 1200},         /* a slot takes the largest expert of its pool */
        {"2x3", 6, 0, 900},
        {"4x1", 4, 0, 600},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_geometry g = parse(cases[i].text, sizes);
        ck_assert_uint_eq(g.n_slots, cases[i].n_slots);
        ck_assert_uint_eq(g.pool[0].bytes, cases[i].pool_bytes);
        ck_assert_uint_eq(moe_geometry_bytes(&g), cases[i].total);
        ck_assert_mem_eq(g.expert_bytes, sizes, sizeof sizes);
        moe_geometry_release(&g);
    }
}
END_TEST

#define FORMS "expected NxM, global:SLOTS, global:BYTES, per-layer:M,M,..., ncmoe:N, none or all"

START_TEST(faults)
{
    static const struct {
        const char *text, *message; /* message: after "geometry 'TEXT': " */
    } cases[] = {
        {"", FORMS},
        {"x", FORMS},
        {"x2", FORMS},
        {"32", FORMS},
        {"None", FORMS},
        {"all ", FORMS},
        {"global", FORMS},
        {"0x2", "no slots; write 'none' for no cache"},
        {"3x0", "no slots; write 'none' for no cache"},
        {"global:0", "no slots; write 'none' for no cache"},
        {"global:0MiB", "no slots; write 'none' for no cache"},
        {"per-layer:0", "no slots; write 'none' for no cache"},
        {"per-layer:0,0,0,0", "no slots; write 'none' for no cache"},
        {"3x", "ways: empty value where a whole number is expected"},
        {"3x2x2", "ways: '2x2' is not a whole number"},
        {"-1x2", "indexes: '-1' is not a whole number"},
        {" 1x2", "indexes: ' 1' is not a whole number"},
        {"5x2", "indexes 5 exceeds the 4 layers of the model"},
        {"4x9", "ways 9 exceeds the 8 experts of a layer"},
        {"4294967296x1", "indexes: 4294967296 is outside 0..4294967295"},
        {"1x18446744073709551616", "ways: '18446744073709551616' is too large for 64 bits"},
        {"1x000000000000000000000000001",
         "ways '000000000000000000000000...' is too long for a number"},
        {"global:", "slots: empty value where a whole number is expected"},
        {"global:33", "slots 33 exceeds the 32 experts of the model"},
        {"global:299B", "299 bytes are less than one expert of 300 bytes"},
        {"global:4801B", "4801 bytes exceed the 4800 bytes of all experts"},
        {"per-layer:", "layer 0: ways: empty value where a whole number is expected"},
        {"per-layer:1,,2", "layer 1: ways: empty value where a whole number is expected"},
        {"per-layer:1,2,", "layer 2: ways: empty value where a whole number is expected"},
        {"per-layer:1,9", "layer 1: ways 9 exceeds the 8 experts of a layer"},
        {"ncmoe:", "layers on the CPU: empty value where a whole number is expected"},
        {"ncmoe:-1", "layers on the CPU: '-1' is not a whole number"},
        {"ncmoe:5", "5 layers on the CPU exceed the 4 layers of the model"},
        {"ncmoe:2x", "layers on the CPU: '2x' is not a whole number"},
        {"per-layer:1,1,1,1,1", "the list has more entries than the 4 layers of the model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_geometry g = {.n_slots = 77};
        struct moe_err err;
        char want[480];
        snprintf(want, sizeof want, "geometry '%s': %s", cases[i].text, cases[i].message);
        ck_assert_int_eq(moe_geometry_parse(cases[i].text, L, E, sizes, &g, &err), MOE_ERR_USAGE);
        ck_assert_str_eq(err.text, want);
        ck_assert_uint_eq(g.n_slots, 77);
    }
}
END_TEST

START_TEST(bytes_need_sizes)
{
    static const uint64_t none[L] = {0}, huge[L] = {1, UINT64_MAX / 32 + 1, 1, 1};
    struct moe_geometry g;
    struct moe_err err;
    ck_assert_int_eq(moe_geometry_parse("global:1GiB", L, E, NULL, &g, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "geometry 'global:1GiB': the sizes of the experts are unknown; give "
                               "slots, as in global:56");
    ck_assert_int_eq(moe_geometry_parse("global:1GiB", L, E, none, &g, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "geometry 'global:1GiB': no layer has an expert with a size");
    ck_assert_int_eq(moe_geometry_parse("4x1", L, E, huge, &g, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text,
                     "layer 1: 32 experts of 576460752303423488 bytes do not fit 64 bits");
    ck_assert_int_eq(moe_geometry_parse("global:xB", L, E, sizes, &g, &err), MOE_ERR_USAGE);
}
END_TEST

START_TEST(model_too_large)
{
    struct moe_geometry g;
    struct moe_err err;
    ck_assert_int_eq(moe_geometry_parse("all", 65536, 65535, NULL, &g, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "65536 layers of 65535 experts exceed the limit of 2147483647 "
                               "experts");
    ck_assert_int_eq(moe_geometry_parse("none", 0, 0, NULL, &g, &err), MOE_OK);
    moe_geometry_release(&g);
}
END_TEST

START_TEST(of_no_model)
{
    static const char *const good[] = {
        "none",      "all", "1024x4096", "9x9", "global:56", "global:4000MiB", "per-layer:0,4096",
        "ncmoe:1024"};
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"7xx8", "geometry '7xx8': ways: 'x8' is not a whole number"},
        {"gobal:56", "geometry 'gobal:56': expected NxM, "},
        {"global:4000MIBB", "geometry 'global:4000MIBB': "},
        {"1025x2", "geometry '1025x2': indexes 1025 exceeds the 1024 layers of the model"},
        {"", "geometry '': expected NxM, "},
        {"8x0", "geometry '8x0': no slots; "},
    };
    struct moe_err err = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(moe_geometry_check(good[i], &err) == MOE_OK, "%s: %s", good[i], err.text);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(moe_geometry_check(bad[i].text, &err), MOE_ERR_USAGE);
        ck_assert_msg(strncmp(err.text, bad[i].why, strlen(bad[i].why)) == 0, "%s", err.text);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("geometry");
    tcase_add_test(tc, forms);
    tcase_add_test(tc, bytes);
    tcase_add_test(tc, faults);
    tcase_add_test(tc, bytes_need_sizes);
    tcase_add_test(tc, model_too_large);
    tcase_add_test(tc, of_no_model);
    Suite *suite = suite_create("geometry");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
