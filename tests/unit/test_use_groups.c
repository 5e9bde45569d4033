/* The candidate that goes first is the one that a plain search finds, whatever joins, leaves, is
 * given up or pinned, in both data structures of opt-time. */
#include "policies/use_few.h"
#include "policies/use_groups.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

enum { MAX_SLOTS = 400, MAX_EXPERTS = 30, MAX = MAX_SLOTS + MAX_EXPERTS + 1, N_STEPS = 1200 };

struct world {
    struct moe_policy_env env;
    struct moe_use_times times; /* whole numbers */
    bool in_few;                /* tests use_few.h, else use_groups.h */
    struct moe_use_few few;
    struct moe_use_groups groups;
    uint32_t n, now, window; /* candidates; time; next uses are less than `window` ahead */
    struct {
        bool there, kept;
        uint32_t next_use;
    } own[MAX]; /* what the plain search goes through */
    uint8_t pinned[MAX_SLOTS];
};

static int64_t event_ns(const struct world *w, int64_t n, int64_t hits)
{
    int64_t cpu =
        n > hits ? (int64_t)(w->times.state_ns + (double)(n - hits) * w->times.cpu_ns) : 0;
    int64_t gpu = hits * (int64_t)w->times.gpu_ns;
    return cpu > gpu ? cpu : gpu;
}

static int64_t value_of(const struct world *w, uint32_t i)
{
    uint32_t n = 0, kept = 0;
    for (uint32_t k = 0; k < w->n; k++)
        if (w->own[k].there && w->own[k].next_use == w->own[i].next_use) {
            n++;
            kept += w->own[k].kept;
        }
    if (w->own[i].next_use == MOE_NEVER)
        return 0;
    n = n > w->env.top_k ? n : w->env.top_k;
    return event_ns(w, n, kept - 1) - event_ns(w, n, kept);
}

/* Does b go before a, where their next uses differ? */
static bool use_goes_before(const struct world *w, uint32_t a, uint32_t b)
{
    uint32_t use_a = w->own[a].next_use, use_b = w->own[b].next_use;
    int64_t left = value_of(w, b) * (use_a > w->now ? use_a - w->now : 1);
    int64_t right = value_of(w, a) * (use_b > w->now ? use_b - w->now : 1);
    return left < right || (left == right && use_b > use_a);
}

static bool may_go(const struct world *w, uint32_t i)
{
    return i >= w->env.n_slots || !(w->pinned[i] & ~MOE_PIN_EVENT);
}

static uint32_t search(const struct world *w)
{
    uint32_t best = MOE_USE_NONE;
    for (uint32_t k = 0; k < w->n; k++) {
        uint32_t i = (w->env.n_slots + k) % w->n; /* newcomers first, then by number */
        if (!w->own[i].there || !w->own[i].kept || !may_go(w, i))
            continue;
        if (best == MOE_USE_NONE ||
            (w->own[i].next_use != w->own[best].next_use && use_goes_before(w, best, i)))
            best = i;
    }
    return best;
}

/* Is there a group that would go before `first`, but of which no candidate may go? */
static bool is_stuck(const struct world *w, uint32_t first)
{
    for (uint32_t i = 0; i < w->n; i++) {
        bool one_may = false;
        if (!w->own[i].there || !w->own[i].kept)
            continue;
        for (uint32_t k = 0; k < w->n; k++)
            one_may |= w->own[k].there && w->own[k].kept && may_go(w, k) &&
                       w->own[k].next_use == w->own[i].next_use;
        if (!one_may && (first == MOE_USE_NONE || use_goes_before(w, first, i)))
            return true;
    }
    return false;
}

static uint32_t below(struct moe_rng *rng, uint32_t n)
{
    return (uint32_t)moe_rng_below(rng, n);
}

static void join(struct world *w, uint32_t i, uint32_t next_use)
{
    if (w->in_few)
        moe_few_join(&w->few, i, next_use);
    else
        moe_use_join(&w->groups, i, next_use);
}

static void leave(struct world *w, uint32_t i)
{
    if (w->in_few)
        moe_few_leave(&w->few, i);
    else
        moe_use_leave(&w->groups, i);
}

static void set_kept(struct world *w, uint32_t i, bool kept)
{
    if (w->in_few)
        moe_few_set_kept(&w->few, i, kept);
    else
        moe_use_set_kept(&w->groups, i, kept);
}

static void use_again(struct world *w, const struct moe_used *used, uint32_t n)
{
    for (uint32_t k = 0; w->in_few && k < n; k++)
        moe_few_again(&w->few, used[k].candidate, used[k].next_use);
    if (!w->in_few && n == 1)
        moe_use_one_again(&w->groups, used->candidate, used->next_use);
    else if (!w->in_few)
        moe_use_again(&w->groups, used, n);
}

/* The kept candidates of i's next use, or some of them, are used together, as in their event. */
static void use_together(struct world *w, struct moe_rng *rng, uint32_t i)
{
    struct moe_used used[MAX];
    uint32_t n = 0, now = w->own[i].next_use;
    bool all = below(rng, 2);
    for (uint32_t k = 0; k < w->n; k++)
        if (w->own[k].there && w->own[k].kept && w->own[k].next_use == now &&
            (all || below(rng, 2)))
            used[n++] = (struct moe_used){k, w->now + below(rng, w->window)};
    for (uint32_t k = 0; k < n; k++)
        w->own[used[k].candidate].next_use = used[k].next_use;
    use_again(w, used, n);
}

static void change(struct world *w, struct moe_rng *rng)
{
    uint32_t i = below(rng, w->n);
    if (below(rng, 4) == 0)
        w->now += below(rng, 3);
    if (!w->own[i].there) {
        uint32_t next_use = below(rng, 12) ? w->now + below(rng, w->window) : MOE_NEVER;
        join(w, i, next_use);
        w->own[i].there = w->own[i].kept = true;
        w->own[i].next_use = next_use;
    } else if (below(rng, 3) == 0) {
        w->own[i].kept = !w->own[i].kept;
        set_kept(w, i, w->own[i].kept);
    } else if (below(rng, 4) == 0 && w->own[i].kept) {
        use_together(w, rng, i);
    } else if (below(rng, 2) && w->own[i].kept) {
        w->own[i].next_use = w->now + below(rng, w->window);
        use_again(w, &(struct moe_used){i, w->own[i].next_use}, 1);
    } else {
        leave(w, i);
        w->own[i].there = false;
    }
}

static void settle_one(struct world *w, struct moe_rng *rng)
{
    uint32_t slot = below(rng, w->env.n_slots), i = w->env.n_slots + below(rng, MAX_EXPERTS);
    if (i >= w->n || !w->own[i].there || w->own[slot].there)
        return;
    if (w->in_few)
        moe_few_settle(&w->few, i, slot);
    else
        moe_use_settle(&w->groups, i, slot);
    w->own[slot] = w->own[i];
    w->own[i].there = false;
}

/* The other queries about a candidate that is kept. */
static void check_kept(const struct world *w, uint32_t i)
{
    if (!w->in_few) {
        ck_assert(moe_use_value(&w->groups, i) == (double)value_of(w, i));
        return;
    }
    uint32_t n = 0;
    for (uint32_t k = 0; k < w->n; k++)
        n += w->own[k].there && w->own[k].next_use == w->own[i].next_use;
    n = w->own[i].next_use == MOE_NEVER ? 1 : n;
    ck_assert(moe_few_saves(&w->few, i) == (value_of(w, i) > 0));
    ck_assert(moe_few_shares(&w->few, i, 2) == (n >= 2));
    ck_assert(moe_few_shares(&w->few, i, w->env.top_k + 1) == (n > w->env.top_k));
}

static void check_first(struct world *w)
{
    uint32_t first = search(w);
    bool stuck = is_stuck(w, first);
    if (w->in_few) {
        ck_assert_uint_eq(moe_few_first(&w->few, w->now, w->pinned), first);
        ck_assert(moe_few_unstick(&w->few) == stuck);
    } else {
        ck_assert_uint_eq(moe_use_first(&w->groups, w->now, w->pinned), first);
        ck_assert(moe_use_unstick(&w->groups) == stuck);
    }
    for (uint32_t i = 0; i < w->n; i++)
        if (w->own[i].there && w->own[i].kept)
            check_kept(w, i);
    if (first == MOE_USE_NONE)
        return;
    set_kept(w, first, false); /* as opt-time gives it up */
    w->own[first].kept = false;
}

static void check_steps(struct world *w, struct moe_rng *rng, uint32_t most_pinned)
{
    w->n = w->env.n_slots + w->env.n_experts + 1;
    w->window = 1 + below(rng, 3 * w->n);
    size_t few_size = moe_few_size(&w->env);
    char *memory = calloc(1, few_size + moe_use_groups_size(&w->env));
    moe_few_init(&w->few, &w->env, &w->times, memory);
    moe_use_groups_init(&w->groups, &w->env, &w->times, memory + few_size);
    for (int step = 0; step < N_STEPS && (!w->in_few || w->few.in_use); step++) {
        change(w, rng);
        settle_one(w, rng);
        if (below(rng, 4))
            continue;
        for (uint32_t s = 0; s < w->env.n_slots; s++)
            w->pinned[s] = below(rng, 100) < most_pinned ? (uint8_t)below(rng, 4) : 0;
        check_first(w);
    }
    free(memory);
}

static const struct moe_use_times times[] = {
    {1, 0, 0}, {30, 1, 8}, {7, 5, 0}, {4, 9, 3}, {9, 5, 4}};

static void check_world(struct moe_rng *rng, uint32_t n_slots, uint32_t most_pinned)
{
    struct world *w = calloc(1, sizeof *w);
    w->env = (struct moe_policy_env){
        .n_slots = n_slots, .n_experts = 1 + below(rng, MAX_EXPERTS), .top_k = 1 + below(rng, 8)};
    w->times = times[below(rng, 4)];
    check_steps(w, rng, most_pinned);
    free(w);
}

START_TEST(the_first_to_go_is_that_of_a_plain_search)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 12);
    for (int i = 0; i < 60; i++)
        check_world(&rng, 1 + below(&rng, i % 3 ? 12 : 60), i % 2 ? 100 : 30);
    check_world(&rng, MAX_SLOTS, 50);
}
END_TEST

/* Often, but not always, all candidates fit into one vector. */
START_TEST(the_same_where_slots_are_few)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 13);
    for (int i = 0; i < 200; i++) {
        struct world *w = calloc(1, sizeof *w);
        w->in_few = true;
        w->env.n_slots = 1 + below(&rng, 6);
        w->env.top_k = 2 + below(&rng, 7 - w->env.n_slots);
        w->env.n_experts =
            i % 4 ? 1 + below(&rng, 7 - w->env.n_slots) : 1 + below(&rng, MAX_EXPERTS);
        w->times = times[below(&rng, 5)];
        check_steps(w, &rng, i % 2 ? 60 : i % 8 ? 10 : 0);
        free(w);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("use_groups");
    tcase_add_test(tc, the_first_to_go_is_that_of_a_plain_search);
    tcase_add_test(tc, the_same_where_slots_are_few);
    Suite *suite = suite_create("use_groups");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
