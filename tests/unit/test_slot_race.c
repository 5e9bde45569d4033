/* The kinetic tournament finds what a plain search finds, whatever is touched and pinned, as time
 * goes on. Slots stand at base + slope * time; the lowest is first. */
#include "policies/slot_race.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

enum { MAX_SLOTS = 300, N_STEPS = 400 };

struct line {
    uint64_t base, slope;
};

struct world {
    struct line line[MAX_SLOTS];
    bool entered[MAX_SLOTS];
    uint8_t *pinned; /* heap: a read behind the pool's is found */
    uint64_t now;
};

static uint64_t place(const struct world *w, uint32_t s, uint64_t now)
{
    return w->line[s].base + w->line[s].slope * now;
}

static bool goes(const void *state, uint32_t a, uint32_t b, uint64_t now)
{
    return place(state, b, now) < place(state, a, now);
}

static uint64_t until(const void *state, uint32_t a, uint32_t b, uint64_t now)
{
    const struct world *w = state;
    bool second = goes(w, a, b, now);
    uint32_t low = second ? b : a, high = second ? a : b;
    if (w->line[low].slope <= w->line[high].slope)
        return UINT64_MAX;
    uint64_t gap = place(w, high, now) - place(w, low, now);
    uint64_t sure = gap / (w->line[low].slope - w->line[high].slope);
    return now + (sure ? sure : 1);
}

static const struct moe_slot_order by_place = {goes, until};

static moe_slot search(const struct world *w, uint32_t n)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < n; s++)
        if (w->entered[s] && !w->pinned[s] &&
            (best == MOE_NO_SLOT || goes(w, (uint32_t)best, s, w->now)))
            best = (moe_slot)s;
    return best;
}

static void change(struct world *w, struct moe_slot_race *race, struct moe_rng *rng, uint32_t s)
{
    if (w->entered[s] && moe_rng_below(rng, 2)) {
        w->line[s].base += moe_rng_below(rng, 500);
        moe_slot_race_fall(race, s);
        return;
    }
    w->line[s] = (struct line){moe_rng_below(rng, 900), moe_rng_below(rng, 6)};
    if (w->entered[s] && moe_rng_below(rng, 2)) {
        moe_slot_race_touch(race, s);
        return;
    }
    w->entered[s] = true;
    moe_slot_race_enter(race, (moe_slot)s);
}

static void check_size(struct moe_rng *rng, uint32_t n)
{
    const struct moe_policy_env env = {.n_slots = n};
    struct world w = {.pinned = calloc(n, 1)};
    struct moe_slot_race race;
    void *memory = calloc(1, moe_slot_race_size(&env));
    moe_slot_race_init(&race, &env, memory);
    for (int i = 0; i < N_STEPS; i++) {
        for (uint64_t k = moe_rng_below(rng, 4); k > 0; k--)
            change(&w, &race, rng, (uint32_t)moe_rng_below(rng, n));
        for (uint32_t k = 0; k < 1 + n / 8; k++)
            w.pinned[moe_rng_below(rng, n)] = moe_rng_below(rng, 3) == 0;
        ck_assert_int_eq(moe_slot_race_victim(&race, w.pinned, w.now, by_place, &w), search(&w, n));
        w.now += moe_rng_below(rng, 9) ? moe_rng_below(rng, 3) : moe_rng_below(rng, 100);
    }
    free(memory);
    free(w.pinned);
}

START_TEST(equal_to_a_search)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (uint32_t n = 1; n <= MAX_SLOTS; n += n < 60 ? 7 : 3)
        check_size(&rng, n);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot_race");
    tcase_add_test(tc, equal_to_a_search);
    Suite *suite = suite_create("slot_race");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
