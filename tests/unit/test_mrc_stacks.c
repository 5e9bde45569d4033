#include "base/rng.h"
#include "policies/policy.h"
#include "sim/mrc_lru.h"
#include "sim/mrc_opt_ends.h"
#include "sim/mrc_opt_pass.h"
#include "tests/unit/run_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY_KEYS = 3000, MANY_USES = 12000 };

/* Half of the uses among a tenth of the keys; next_use: ordinals from 1, as policies/future.h. */
static void draw_uses(uint32_t *key, uint32_t *next_use)
{
    static uint32_t next[MANY_KEYS];
    struct moe_rng rng;
    moe_rng_init(&rng, 11);
    for (uint32_t i = 0; i < MANY_USES; i++)
        key[i] = (uint32_t)moe_rng_below(&rng, i % 2 ? MANY_KEYS : MANY_KEYS / 10);
    for (uint32_t k = 0; k < MANY_KEYS; k++)
        next[k] = MOE_NEVER;
    for (uint32_t i = MANY_USES; i-- > 0;) {
        next_use[i] = next[key[i]];
        next[key[i]] = i + 1;
    }
}

/* Everyone stands in the same place. */
static void compare_stacks(const struct moe_opt_stack *a, const struct moe_opt_stack *plain)
{
    for (uint32_t i = 0; i < plain->n_blocks * MOE_OPT_BLOCK; i++)
        ck_assert_msg(a->next_use[i] == plain->next_use[i], "place %u", i);
}

/* By vectors and without: every use is found in the same place. */
START_TEST(vectors_change_nothing)
{
    static uint32_t key[MANY_USES], next_use[MANY_USES];
    struct moe_opt_stack *a, *b;
    struct moe_err err;
    uint64_t n_found = 0;
    if (!moe_opt_has_avx2()) {
        printf("skipped: this processor has no AVX2\n");
        return;
    }
    draw_uses(key, next_use);
    ck_assert_int_eq(moe_opt_stack_new_as(&a, MANY_KEYS, moe_opt_pass_avx2, &err), MOE_OK);
    ck_assert_int_eq(moe_opt_stack_new_as(&b, MANY_KEYS, moe_opt_pass_plain, &err), MOE_OK);
    for (uint32_t i = 0; i < MANY_USES; i++) {
        uint32_t place = moe_opt_stack_access(a, key[i], next_use[i]);
        ck_assert_msg(place == moe_opt_stack_access(b, key[i], next_use[i]), "use %u", i);
        n_found += place != MOE_MRC_NOWHERE;
    }
    ck_assert_uint_gt(n_found, MANY_USES / 2);
    compare_stacks(a, b);
    ck_assert_mem_eq(a->low, b->low, b->n_blocks * sizeof *b->low);
    ck_assert_mem_eq(a->high, b->high, b->n_blocks * sizeof *b->high);
    moe_opt_stack_free(a);
    moe_opt_stack_free(b);
}
END_TEST

enum { MANY_EVENTS = 1500, IN_EVENT = 12 };

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Events of 1 to 12 different keys of n_keys, half of them of few. */
static void draw_some(struct moe_rng *rng, uint32_t n_keys, uint32_t (*key)[IN_EVENT], uint32_t *n)
{
    for (uint32_t e = 0; e < MANY_EVENTS; e++) {
        uint32_t want = 1 + (uint32_t)moe_rng_below(rng, n_keys < IN_EVENT ? n_keys : IN_EVENT);
        for (n[e] = 0; n[e] < want;) {
            uint32_t few = n_keys / 10 + IN_EVENT, at = 0;
            uint32_t k = (uint32_t)moe_rng_below(rng, n[e] % 2 || few > n_keys ? n_keys : few);
            while (at < n[e] && key[e][at] != k)
                at++;
            key[e][n[e]] = k;
            n[e] += at == n[e];
        }
    }
}

/* Ordinals of events from 1. */
static void draw_next(uint32_t n_keys, uint32_t (*key)[IN_EVENT], const uint32_t *n,
                      uint32_t (*next_use)[IN_EVENT])
{
    uint32_t *next = malloc((n_keys + 1) * sizeof *next);
    ck_assert_ptr_nonnull(next);
    memset(next, 0xff, n_keys * sizeof *next); /* MOE_NEVER */
    for (uint32_t e = MANY_EVENTS; e-- > 0;)
        for (uint32_t i = 0; i < n[e]; i++) {
            next_use[e][i] = next[key[e][i]];
            next[key[e][i]] = e + 1;
        }
    free(next);
}

/* The keys of an event come down the stack sooner first, which changes neither the places that are
 * found nor who stands where: as one by one in their own order, those that leave a place first. */
START_TEST(order_within_event_changes_nothing)
{
    static uint32_t key[MANY_EVENTS][IN_EVENT], next_use[MANY_EVENTS][IN_EVENT], n[MANY_EVENTS];
    struct moe_opt_stack *a, *b;
    struct moe_err err;
    struct moe_rng rng;
    moe_rng_init(&rng, 12);
    draw_some(&rng, MANY_KEYS, key, n);
    draw_next(MANY_KEYS, key, n, next_use);
    moe_opt_pass *pass = moe_opt_has_avx2() ? moe_opt_pass_avx2 : moe_opt_pass_plain;
    ck_assert_int_eq(moe_opt_stack_new_as(&a, MANY_KEYS, pass, &err), MOE_OK);
    ck_assert_int_eq(moe_opt_stack_new_as(&b, MANY_KEYS, moe_opt_pass_plain, &err), MOE_OK);
    for (uint32_t e = 0; e < MANY_EVENTS; e++) {
        uint32_t got[IN_EVENT], want[IN_EVENT], leaves[IN_EVENT];
        for (uint32_t i = 0; i < n[e]; i++)
            leaves[i] = b->due[key[e][i]] == e + 1;
        for (uint32_t first = 2; first-- > 0;)
            for (uint32_t i = 0; i < n[e]; i++)
                if (leaves[i] == first)
                    want[i] = moe_opt_stack_access(b, key[e][i], next_use[e][i]);
        moe_opt_stack_event(a, key[e], next_use[e], n[e], got);
        qsort(got, n[e], sizeof *got, by_number);
        qsort(want, n[e], sizeof *want, by_number);
        ck_assert_mem_eq(got, want, n[e] * sizeof *got);
    }
    compare_stacks(a, b);
    moe_opt_stack_free(a);
    moe_opt_stack_free(b);
}
END_TEST

/* From the past alone and from next uses: every event finds the same places. */
static void compare_ends(struct moe_rng *rng, uint32_t n_keys, uint64_t *n_found)
{
    static uint32_t key[MANY_EVENTS][IN_EVENT], next_use[MANY_EVENTS][IN_EVENT], n[MANY_EVENTS];
    struct moe_opt_stack *a, *b;
    struct moe_err err;
    ck_assert_int_eq(moe_opt_stack_new_as(&a, n_keys, NULL, &err), MOE_OK);
    ck_assert_int_eq(moe_opt_stack_new_as(&b, n_keys, moe_opt_pass_plain, &err), MOE_OK);
    for (int round = 0; round < 2; round++) {
        draw_some(rng, n_keys, key, n);
        draw_next(n_keys, key, n, next_use);
        for (uint32_t e = 0; e < MANY_EVENTS; e++) {
            uint32_t got[IN_EVENT], want[IN_EVENT];
            moe_opt_stack_event(a, key[e], next_use[e], n[e], got);
            moe_opt_stack_event(b, key[e], next_use[e], n[e], want);
            qsort(got, n[e], sizeof *got, by_number);
            qsort(want, n[e], sizeof *want, by_number);
            for (uint32_t i = 0; i < n[e]; i++) {
                ck_assert_msg(got[i] == want[i], "%u keys, event %u: place %u, not %u", n_keys, e,
                              got[i], want[i]);
                *n_found += got[i] != MOE_MRC_NOWHERE;
            }
        }
        moe_opt_stack_clear(a);
        moe_opt_stack_clear(b);
    }
    moe_opt_stack_free(a);
    moe_opt_stack_free(b);
}

START_TEST(past_and_future_find_the_same)
{
    static const uint32_t n_keys[] = {1,    2,    31,   65,   128,  1000,  1632,
                                      1633, 3000, 6144, 6547, 7000, 40000, MOE_OPT_ENDS_MOST};
    struct moe_rng rng;
    uint64_t n_found = 0;
    if (!moe_opt_has_avx512()) {
        printf("skipped: this processor has no AVX-512\n");
        return;
    }
    moe_rng_init(&rng, 13);
    for (size_t i = 0; i < sizeof n_keys / sizeof *n_keys; i++)
        compare_ends(&rng, n_keys[i], &n_found);
    ck_assert_uint_gt(n_found, MANY_EVENTS);
}
END_TEST

/* Positions of LRU against keys in a list, the latest first. */
static void compare_list(uint32_t n_keys, const uint32_t *key, bool wide)
{
    static uint32_t list[MANY_KEYS];
    struct moe_lru_stack *st;
    struct moe_err err;
    ck_assert_int_eq(moe_lru_stack_new_as(&st, n_keys, wide, &err), MOE_OK);
    for (uint32_t i = 0, n = 0; i < MANY_USES; i++) {
        uint32_t at = 0, k = key[i] % n_keys;
        while (at < n && list[at] != k)
            at++;
        ck_assert_uint_eq(moe_lru_stack_access(st, k), at < n ? at + 1 : MOE_MRC_NOWHERE);
        n += at == n;
        memmove(list + 1, list, at * sizeof *list);
        list[0] = k;
        if (i == MANY_USES / 2) {
            moe_lru_stack_clear(st);
            n = 0;
        }
    }
    moe_lru_stack_free(st);
}

START_TEST(positions_of_keys)
{
    static const uint32_t n_keys[] = {1,   2,   15,  16,  17,  63,  64,  65,       127,
                                      128, 129, 255, 256, 257, 512, 513, MANY_KEYS};
    static uint32_t key[MANY_USES], next_use[MANY_USES];
    draw_uses(key, next_use);
    for (size_t i = 0; i < sizeof n_keys / sizeof *n_keys; i++)
        for (int wide = 0; wide <= moe_lru_has_wide(); wide++)
            compare_list(n_keys[i], key, wide);
}
END_TEST

/* LRU's events by AVX-512 and without: the same positions, also of keys from a clear on. */
static void compare_wide(struct moe_rng *rng, uint32_t n_keys, bool pairs, uint32_t rounds)
{
    static uint32_t key[MANY_EVENTS][IN_EVENT], n[MANY_EVENTS];
    struct moe_lru_stack *a, *b;
    struct moe_err err;
    ck_assert_int_eq(moe_lru_stack_new_as(&a, n_keys, true, &err), MOE_OK);
    ck_assert_int_eq(moe_lru_stack_new_as(&b, n_keys, false, &err), MOE_OK);
    for (uint32_t round = 0; round < rounds; round++) {
        draw_some(rng, n_keys, key, n);
        for (uint32_t e = 0; e < MANY_EVENTS; e++) {
            uint32_t got[IN_EVENT], want[IN_EVENT];
            uint32_t in_event = pairs && n[e] > 2 ? 2 : n[e]; /* pairs have a way of their own */
            moe_lru_stack_event(a, key[e], in_event, got);
            moe_lru_stack_event(b, key[e], in_event, want);
            for (uint32_t k = 0; k < in_event; k++)
                ck_assert_msg(got[k] == want[k], "%u keys, event %u, key %u: %u, not %u", n_keys, e,
                              k, got[k], want[k]);
            if (round + 1 == rounds && e == MANY_EVENTS * 2 / 3) {
                moe_lru_stack_clear(a);
                moe_lru_stack_clear(b);
            }
        }
    }
    moe_lru_stack_free(a);
    moe_lru_stack_free(b);
}

START_TEST(wide_events_find_the_same)
{
    static const uint32_t few[] = {12, 64, 65, 128, 200, 255, 256, 257, 700, MANY_KEYS};
    /* Sums behind of more than one vector; the last has 16 bits of them. */
    static const uint32_t many[] = {4097, 6144, 20000, UINT16_MAX};
    struct moe_rng rng;
    if (!moe_lru_has_wide()) {
        printf("skipped: this processor has no AVX-512\n");
        return;
    }
    moe_rng_init(&rng, 14);
    for (size_t i = 0; i < sizeof few / sizeof *few; i++)
        compare_wide(&rng, few[i], i % 2, 1);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) /* until the row has been full */
        compare_wide(&rng, many[i], false, 2 + many[i] * 4 / (MANY_EVENTS * IN_EVENT / 3));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mrc_stacks");
    TCase *tc = tcase_create("mrc_stacks");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, vectors_change_nothing);
    tcase_add_test(tc, order_within_event_changes_nothing);
    tcase_add_test(tc, past_and_future_find_the_same);
    tcase_add_test(tc, positions_of_keys);
    tcase_add_test(tc, wide_events_find_the_same);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
