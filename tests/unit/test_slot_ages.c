/* The victim is the slot that a plain search finds, whatever is set, used and pinned as time goes
 * on, with vectors and without. */
#include "policies/slot_ages.h"
#include "policies/slot_lines_loops.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SLOTS = 2000, N_STEPS = 500 };

struct world {
    uint32_t now, last[MAX_SLOTS];
    float weight[MAX_SLOTS];
    uint8_t *pinned; /* heap, as long as the pool: sanitizers find a read behind it */
};

static double priority(const struct world *w, uint32_t s)
{
    return (double)(w->now - w->last[s]) / (double)w->weight[s];
}

static bool goes(const void *state, uint32_t a, uint32_t b)
{
    double left = priority(state, b), right = priority(state, a);
    return left > right || (left >= right && b < a);
}

static moe_slot search(const struct world *w, uint32_t n)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < n; s++)
        if (!w->pinned[s] && (best == MOE_NO_SLOT || goes(w, (uint32_t)best, s)))
            best = (moe_slot)s;
    return best;
}

/* Weights are few powers of two, so that priorities are often equal; now and then one rises fast,
 * or was used long ago. Where a priority falls, `last` changes, as moe_slot_ages_set asks. */
static void set_slot(struct world *w, struct moe_slot_ages *ages, struct moe_rng *rng, uint32_t s)
{
    uint32_t ago = (uint32_t)moe_rng_below(rng, moe_rng_below(rng, 20) ? 4 : 400);
    uint32_t last = ago < w->now ? w->now - ago : 0;
    float weight = moe_rng_below(rng, 50) ? (float)(1u << moe_rng_below(rng, 6)) : 1e-20f;
    w->weight[s] = last == w->last[s] && weight > w->weight[s] ? w->weight[s] : weight;
    w->last[s] = last;
    moe_slot_ages_set(ages, (moe_slot)s, w->last[s], w->weight[s]);
}

static void use_slot(struct world *w, struct moe_slot_ages *ages, struct moe_rng *rng, uint32_t s)
{
    if (w->weight[s] > 1e6f || w->last[s] == w->now)
        return;
    w->weight[s] *= (float)(1 + moe_rng_below(rng, 2));
    w->last[s] = w->now;
    moe_slot_ages_use(ages, (moe_slot)s, w->last[s], w->weight[s]);
}

static void check_size(struct moe_rng *rng, uint32_t n, const struct moe_lines_loops *loops)
{
    const struct moe_policy_env env = {.n_slots = n, .top_k = n % 7 < 4 ? 2 : 8};
    struct world *w = calloc(1, sizeof *w);
    struct moe_slot_ages ages;
    void *memory = calloc(1, moe_slot_ages_size(&env));
    w->pinned = calloc(n, 1);
    for (uint32_t s = 0; s < n; s++)
        w->weight[s] = INFINITY;
    moe_slot_ages_init(&ages, &env, memory);
    ages.loops = loops;
    for (uint32_t s = 0; s < n / 2; s++)
        set_slot(w, &ages, rng, (uint32_t)moe_rng_below(rng, n));
    for (int i = 0; i < N_STEPS; i++) {
        for (uint64_t k = moe_rng_below(rng, 4); k > 0; k--)
            set_slot(w, &ages, rng, (uint32_t)moe_rng_below(rng, n));
        for (uint64_t k = moe_rng_below(rng, 4); k > 0; k--)
            use_slot(w, &ages, rng, (uint32_t)moe_rng_below(rng, n));
        moe_slot_ages_use(&ages, MOE_NO_SLOT, w->now, 1);
        for (uint32_t k = 0; k < 1 + n / 32; k++)
            w->pinned[moe_rng_below(rng, n)] = moe_rng_below(rng, 3) == 0;
        moe_slot found = moe_slot_ages_victim(&ages, w->pinned, w->now, goes, w);
        ck_assert_int_eq(found, search(w, n));
        if (found != MOE_NO_SLOT && moe_rng_below(rng, 2)) /* evicted, or else often pinned */
            set_slot(w, &ages, rng, (uint32_t)found);
        else if (found != MOE_NO_SLOT)
            w->pinned[found] = moe_rng_below(rng, 4) != 0;
        w->now +=
            (uint32_t)(moe_rng_below(rng, 9) ? moe_rng_below(rng, 3) : moe_rng_below(rng, 100));
    }
    free(memory);
    free(w->pinned);
    free(w);
}

START_TEST(equal_to_a_search)
{
    const struct moe_lines_loops *const all[] = {&moe_lines_plain, moe_lines_avx2(),
                                                 moe_lines_avx512()};
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (uint32_t n = 1; n <= MAX_SLOTS && all[_i]; n += n < 200 ? 9 : 180)
        check_size(&rng, n, all[_i]);
}
END_TEST

START_TEST(none_when_all_are_pinned)
{
    for (uint32_t n = 1; n < 200; n += 33) {
        const struct moe_policy_env env = {.n_slots = n};
        struct world w = {.now = 5, .pinned = malloc(n)};
        struct moe_slot_ages ages;
        void *memory = calloc(1, moe_slot_ages_size(&env));
        moe_slot_ages_init(&ages, &env, memory);
        memset(w.pinned, 1, n);
        ck_assert_int_eq(moe_slot_ages_victim(&ages, w.pinned, w.now, goes, &w), MOE_NO_SLOT);
        w.pinned[n - 1] = 0;
        ck_assert_int_eq(moe_slot_ages_victim(&ages, w.pinned, w.now, goes, &w), (int)n - 1);
        free(memory);
        free(w.pinned);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot_ages");
    tcase_add_loop_test(tc, equal_to_a_search, 0, 3);
    tcase_add_test(tc, none_when_all_are_pinned);
    Suite *suite = suite_create("slot_ages");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
