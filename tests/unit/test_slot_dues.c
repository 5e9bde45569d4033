/* The victim is the slot that a plain search finds, whatever is set and pinned as time goes on. */
#include "policies/slot_dues.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

enum { MAX_SLOTS = 600, N_STEPS = 2000 };

struct world {
    uint32_t n;
    double now, last[MAX_SLOTS], due[MAX_SLOTS];
    bool is_set[MAX_SLOTS];
    bool round;      /* due times are rounded: many slots are due at the same time */
    uint8_t *pinned; /* heap, as long as the pool: sanitizers find a read behind it */
};

static double priority(const struct world *w, uint32_t s)
{
    return w->now > w->due[s] ? w->now - w->last[s] : w->due[s] - w->now;
}

static bool goes(const struct world *w, uint32_t a, uint32_t b)
{
    double left = priority(w, b), right = priority(w, a);
    if (left < right || left > right)
        return left > right;
    return w->last[b] < w->last[a] || (w->last[b] <= w->last[a] && b < a);
}

static moe_slot search(const struct world *w)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < w->n; s++)
        if (!w->pinned[s] && (best == MOE_NO_SLOT || goes(w, (uint32_t)best, s)))
            best = (moe_slot)s;
    return best;
}

/* Most slots are used now; some get an expert that was used long ago, or never. Intervals are few,
 * and some are no whole numbers, so that many slots are due at the same time or nearly so. */
static void set_slot(struct world *w, struct moe_slot_dues *dues, struct moe_rng *rng, uint32_t s)
{
    double interval = (double)(1 + moe_rng_below(rng, 40)) * (moe_rng_below(rng, 3) ? 4 : 0.3);
    double ago = moe_rng_below(rng, 9) ? 0 : (double)moe_rng_below(rng, 90);
    w->now++;
    w->last[s] = ago < w->now ? w->now - ago : 0;
    for (uint32_t k = 0; k < w->n && ago > 0; k++) /* no two slots have the same last use */
        if (k != s && w->is_set[k] && w->last[k] == w->last[s])
            w->last[s] = w->now;
    if (moe_rng_below(rng, 40) == 0)
        interval = moe_rng_below(rng, 2) ? 1000 : MOE_DUE_NEVER - 2 * w->last[s];
    if (moe_rng_below(rng, 100) == 0) { /* never used */
        w->last[s] = 0;
        interval = MOE_DUE_NEVER;
    }
    w->due[s] = w->last[s] + interval;
    if (w->round && w->due[s] < 1e6)
        w->due[s] = 64 * ceil(w->due[s] / 64);
    w->is_set[s] = true;
    moe_slot_dues_set(dues, (moe_slot)s, w->last[s], w->due[s]);
}

/* Pins some slots, now and then most of them, and those that were never set. */
static void pin(struct world *w, struct moe_rng *rng)
{
    bool most = moe_rng_below(rng, 50) == 0;
    for (uint32_t k = 0; k < w->n; k++)
        if (most || moe_rng_below(rng, 32) == 0)
            w->pinned[k] = moe_rng_below(rng, 3) == 0 || (most && moe_rng_below(rng, 30));
    for (uint32_t k = 0; k < w->n; k++)
        w->pinned[k] |= !w->is_set[k];
}

static void check_size(struct moe_rng *rng, uint32_t n, uint32_t top_k, bool round)
{
    const struct moe_policy_env env = {.n_slots = n, .top_k = top_k};
    struct world *w = calloc(1, sizeof *w);
    struct moe_slot_dues dues = {0};
    void *memory = calloc(1, moe_slot_dues_size(&env));
    w->n = n;
    w->round = round;
    w->pinned = calloc(n, 1);
    moe_slot_dues_init(&dues, &env, memory);
    for (int i = 0; i < N_STEPS; i++) {
        for (uint64_t k = moe_rng_below(rng, 2 * top_k); k > 0; k--)
            set_slot(w, &dues, rng, (uint32_t)moe_rng_below(rng, n));
        pin(w, rng);
        for (uint64_t k = moe_rng_below(rng, top_k + 1); k > 0; k--) {
            moe_slot found = moe_slot_dues_victim(&dues, w->pinned, w->now);
            ck_assert_int_eq(found, search(w));
            if (found != MOE_NO_SLOT && moe_rng_below(rng, 8)) /* replaced by a newcomer */
                set_slot(w, &dues, rng, (uint32_t)found);
            if (found != MOE_NO_SLOT)
                w->pinned[found] = 1;
        }
        w->now += (double)(moe_rng_below(rng, 9) ? moe_rng_below(rng, 3) : moe_rng_below(rng, 100));
    }
    free(memory);
    free(w->pinned);
    free(w);
}

START_TEST(equal_to_a_search)
{
    static const uint32_t top_k[] = {1, 2, 8, 30};
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (uint32_t n = 1; n <= MAX_SLOTS; n += n < 80 ? 21 : 170)
        for (int round = 0; round < 2; round++)
            check_size(&rng, n, top_k[_i], round);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot_dues");
    tcase_add_loop_test(tc, equal_to_a_search, 0, 4);
    Suite *suite = suite_create("slot_dues");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
