/* Slots by next use against a plain search, in pools with a list of the latest and without. */
#include "base/rng.h"
#include "policies/slot_uses.h"
#include "tests/unit/run_suite.h"

#include <stdlib.h>

enum { MAX_SLOTS = 700, N_STEPS = 2000 };

static moe_slot search(const uint32_t *use, const uint8_t *pinned, uint8_t forbids, uint32_t n)
{
    moe_slot last = MOE_NO_SLOT;
    for (uint32_t s = 0; s < n; s++)
        if (!(pinned[s] & forbids) && (last == MOE_NO_SLOT || use[s] > use[last]))
            last = (moe_slot)s;
    return last;
}

static uint32_t count(const uint32_t *use, const uint8_t *pinned, uint8_t forbids, uint32_t n,
                      uint32_t next_use, uint32_t most)
{
    uint32_t found = 0;
    for (uint32_t s = 0; s < n && found < most; s++)
        found += use[s] > next_use && !(pinned[s] & forbids);
    return found;
}

/* Some uses are shared, some are never; the one used last often becomes another, as a victim's. */
static void change(struct moe_rng *rng, struct moe_slot_uses *uses, uint32_t *use, uint32_t n,
                   uint32_t now, moe_slot last)
{
    uint32_t s = (uint32_t)moe_rng_below(rng, n);
    if (last != MOE_NO_SLOT && moe_rng_below(rng, 2))
        s = (uint32_t)last;
    use[s] = now + 1 + (uint32_t)moe_rng_below(rng, moe_rng_below(rng, 2) ? 10 : 2 * n);
    if (moe_rng_below(rng, 30) == 0)
        use[s] = MOE_NEVER;
    moe_slot_uses_set(uses, (moe_slot)s, use[s]);
    ck_assert_uint_eq(moe_slot_uses_of(uses, (moe_slot)s), use[s]);
}

static void check_size(struct moe_rng *rng, uint32_t n, uint8_t forbids)
{
    const struct moe_policy_env env = {.n_slots = n};
    uint32_t *use = calloc(n, sizeof *use);
    uint8_t *pinned = calloc(n, 1);
    void *memory = malloc(moe_slot_uses_size(&env));
    struct moe_slot_uses uses;
    moe_slot last = MOE_NO_SLOT;
    moe_slot_uses_init(&uses, &env, memory);
    for (uint32_t i = 0; i < N_STEPS; i++) {
        change(rng, &uses, use, n, i, last);
        for (uint32_t k = 0; k < 1 + n / 8; k++)
            pinned[moe_rng_below(rng, n)] = (uint8_t)(moe_rng_below(rng, 3) * (i % 7 == 0));
        last = search(use, pinned, forbids, n);
        if (moe_rng_below(rng, 2))
            ck_assert_int_eq(moe_slot_uses_last(&uses, pinned, forbids), last);
        uint32_t next_use = i + (uint32_t)moe_rng_below(rng, 2 * n);
        uint32_t most = 1 + (uint32_t)moe_rng_below(rng, 9);
        ck_assert_uint_eq(moe_slot_uses_count(&uses, pinned, forbids, next_use, most),
                          count(use, pinned, forbids, n, next_use, most));
    }
    memset(pinned, 3, n);
    ck_assert_int_eq(moe_slot_uses_last(&uses, pinned, forbids), MOE_NO_SLOT);
    free(use);
    free(pinned);
    free(memory);
}

START_TEST(equal_to_a_search)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (uint32_t n = 1; n <= MAX_SLOTS; n += 1 + n / 8)
        for (uint8_t forbids = 1; forbids <= 3; forbids++)
            check_size(&rng, n, forbids);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot_uses");
    tcase_add_test(tc, equal_to_a_search);
    Suite *suite = suite_create("slot_uses");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
