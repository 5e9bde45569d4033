/* The victim is the slot that a plain search finds, whatever is set and pinned as time goes on,
 * with vectors and without. */
#include "policies/slot_lines_loops.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SLOTS = MOE_LINES_MAX, N_STEPS = 3000 };

struct world {
    double now, last[MAX_SLOTS], due[MAX_SLOTS];
    uint8_t *pinned; /* heap, as long as the pool: sanitizers find a read behind it */
};

static double priority(const struct world *w, uint32_t s)
{
    return w->now > w->due[s] ? w->now - w->last[s] : w->due[s] - w->now;
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
        if (!w->pinned[s] && priority(w, s) >= 0 &&
            (best == MOE_NO_SLOT || goes(w, (uint32_t)best, s)))
            best = (moe_slot)s;
    return best;
}

/* Times are few numbers, so that priorities are often equal; now and then a slot is due late. */
static void set_slot(struct world *w, struct moe_slot_lines *lines, struct moe_rng *rng, uint32_t s)
{
    double ago = (double)moe_rng_below(rng, moe_rng_below(rng, 20) ? 4 : 400);
    w->last[s] = ago < w->now ? w->now - ago : 0;
    w->due[s] = moe_rng_below(rng, 3) ? 0 : w->now + (double)moe_rng_below(rng, 50);
    if (moe_rng_below(rng, 30) == 0)
        w->due[s] = 0x1p45 - w->last[s];
    moe_slot_lines_set(lines, (moe_slot)s, w->last[s], w->due[s]);
    moe_slot_lines_set(lines, MOE_NO_SLOT, w->last[s], 0x1p44);
}

static void check_size(struct moe_rng *rng, uint32_t n, const struct moe_lines_loops *loops)
{
    struct world *w = calloc(1, sizeof *w);
    struct moe_slot_lines lines;
    void *memory = calloc(1, moe_slot_lines_size());
    w->pinned = calloc(n, 1);
    moe_slot_lines_init(&lines, n, memory);
    lines.loops = loops;
    for (uint32_t s = 0; s < n / 2; s++)
        set_slot(w, &lines, rng, (uint32_t)moe_rng_below(rng, n));
    for (int i = 0; i < N_STEPS; i++) {
        for (uint64_t k = moe_rng_below(rng, 4); k > 0; k--)
            set_slot(w, &lines, rng, (uint32_t)moe_rng_below(rng, n));
        for (uint32_t k = 0; k < 1 + n / 32; k++)
            w->pinned[moe_rng_below(rng, n)] = moe_rng_below(rng, 3) == 0;
        moe_slot found = moe_slot_lines_victim(&lines, w->pinned, w->now, goes, w);
        ck_assert_int_eq(found, search(w, n));
        if (found != MOE_NO_SLOT && moe_rng_below(rng, 2)) /* evicted, or else often pinned */
            set_slot(w, &lines, rng, (uint32_t)found);
        else if (found != MOE_NO_SLOT)
            w->pinned[found] = moe_rng_below(rng, 4) != 0;
        w->now += (double)(moe_rng_below(rng, 9) ? moe_rng_below(rng, 3) : moe_rng_below(rng, 100));
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
    for (uint32_t n = 1; n <= MAX_SLOTS && all[_i]; n += 3)
        check_size(&rng, n, all[_i]);
}
END_TEST

START_TEST(none_when_all_are_pinned)
{
    for (uint32_t n = 1; n <= MAX_SLOTS; n += 21) {
        struct world w = {.now = 5, .pinned = malloc(n)};
        struct moe_slot_lines lines;
        void *memory = calloc(1, moe_slot_lines_size());
        moe_slot_lines_init(&lines, n, memory);
        memset(w.pinned, 1, n);
        ck_assert_int_eq(moe_slot_lines_victim(&lines, w.pinned, w.now, goes, &w), MOE_NO_SLOT);
        w.pinned[n - 1] = 0;
        ck_assert_int_eq(moe_slot_lines_victim(&lines, w.pinned, w.now, goes, &w), (int)n - 1);
        free(memory);
        free(w.pinned);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot_lines");
    tcase_add_loop_test(tc, equal_to_a_search, 0, 3);
    tcase_add_test(tc, none_when_all_are_pinned);
    Suite *suite = suite_create("slot_lines");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
