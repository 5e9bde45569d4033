/* Admission rules by hand, and what holds for every one of them. */
#include "policies/cost.h"
#include "tests/unit/policy_variants.h"
#include "tests/unit/run_suite.h"

enum { L = 2, E = 6 };

/* A use on the GPU saves 30 ns; a copy takes 60, from pageable memory 120. q* is 40 of 40 + 60. */
static const struct moe_costs costs = {
    .cpu_expert_ns = 40, .gpu_expert_ns = 10, .copy_ns = {60, 120}};

static struct moe_admission admission;
static struct moe_admission_env env;

static void open_rule(const char *text)
{
    struct moe_admission_spec spec;
    struct moe_err err;
    moe_admission_release(&admission);
    if (moe_admission_parse(text, &spec, &err) || moe_admission_init(&admission, &spec, &env, &err))
        ck_abort_msg("%s", err.text);
}

static void set_up(void)
{
    env = (struct moe_admission_env){.n_layers = L, .n_experts = E, .seed = 1, .costs = &costs};
}

static void tear_down(void)
{
    moe_admission_release(&admission);
}

/* An event of layer 1, "35!2": experts in gate order, those before a ! are there. Returns which of
 * the missed are admitted, bit e for expert e. */
static unsigned event(const char *text)
{
    moe_expert expert[E];
    uint8_t access[E];
    struct moe_route route = {.layer = 1, .expert = expert, .access = access};
    unsigned admitted = 0;
    for (; *text; text++) {
        if (*text == '!') {
            access[route.n - 1] = MOE_HIT;
            continue;
        }
        expert[route.n] = (moe_expert)(*text - '0');
        access[route.n++] = MOE_MISS;
    }
    moe_admission_route(&admission, &route);
    for (uint32_t i = 0; i < route.n; i++)
        if (access[i] == MOE_MISS && moe_admission_admits(&admission, &route, i, 0))
            admitted |= 1u << expert[i];
    return admitted;
}

/* The same in a forward pass of its own. */
static unsigned pass(const char *text)
{
    moe_admission_step(&admission);
    return event(text);
}

START_TEST(second_miss_by_hand)
{
    open_rule("second-miss:window=2");
    ck_assert_uint_eq(pass("01"), 0);
    ck_assert_uint_eq(pass("12"), 1 << 1);
    ck_assert_uint_eq(pass("01"), 1 << 0 | 1 << 1); /* two passes ago still counts */
    ck_assert_uint_eq(pass("3"), 0);
    ck_assert_uint_eq(pass("2"), 0); /* three do not */
    ck_assert_uint_eq(pass("0!3"), 1 << 3);
    ck_assert_uint_eq(pass("0"), 0); /* a hit is no miss */
}
END_TEST

START_TEST(second_miss_knows_layers_apart)
{
    const moe_expert expert = 4;
    uint8_t access = MOE_MISS;
    struct moe_route route = {.layer = 0, .n = 1, .expert = &expert, .access = &access};
    open_rule("second-miss");
    ck_assert(!moe_admission_admits(&admission, &route, 0, 0));
    ck_assert_uint_eq(event("4"), 0);
    ck_assert(moe_admission_admits(&admission, &route, 0, 0));
}
END_TEST

/* Two uses before this one pay for a copy: 2 * 30 = 60. */
START_TEST(pay_back_by_hand)
{
    open_rule("pay-back:half_life=1e9");
    ck_assert_uint_eq(pass("01"), 0);
    ck_assert_uint_eq(pass("01"), 0);
    ck_assert_uint_eq(pass("12!"), 0); /* uses are rounded by a billionth: not yet the third */
    ck_assert_uint_eq(pass("12"), 1 << 1);
    ck_assert_uint_eq(pass("0"), 0);
    ck_assert_uint_eq(pass("0"), 1 << 0);
    env.pageable = true; /* four uses */
    open_rule("pay-back:half_life=1e9");
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(pass("3"), 0);
    ck_assert_uint_eq(pass("3"), 1 << 3);
}
END_TEST

/* Uses of every pass, each worth half as much after one: 1/2 + 1/4 + ... stays below 1, and with
 * one more of this pass below 2. */
START_TEST(pay_back_forgets)
{
    open_rule("pay-back:half_life=1");
    for (int i = 0; i < 20; i++)
        ck_assert_uint_eq(pass("5"), 0);
    ck_assert_uint_eq(event("5"), 0);
    ck_assert_uint_eq(event("5"), 1 << 5);
}
END_TEST

START_TEST(pay_back_where_nothing_is_saved_or_nothing_costs)
{
    struct moe_costs slow = costs;
    slow.gpu_expert_ns = slow.cpu_expert_ns;
    env.costs = &slow;
    open_rule("pay-back");
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(event("5"), 0);
    env.miss_waits = true;
    open_rule("pay-back");
    ck_assert_uint_eq(event("50"), 1 << 5 | 1 << 0);
}
END_TEST

/* q = 2/5: after 1, 2, 3, ... misses 0, 0, 1, 1, 2 are fetched in all. */
START_TEST(q_star_by_hand)
{
    open_rule("q-star");
    ck_assert_uint_eq(event("0"), 0);
    ck_assert_uint_eq(event("1!2"), 0);
    ck_assert_uint_eq(event("3"), 1 << 3);
    ck_assert_uint_eq(event("0!1!"), 0); /* no miss, no share */
    ck_assert_uint_eq(event("4"), 0);
    /* five more misses are two fetches: 1 and 0 were used last, at once; 3 before, 2 earlier */
    ck_assert_uint_eq(event("51032"), 1 << 1 | 1 << 0);
    ck_assert_uint_eq(event("5"), 1 << 5); /* the tenth miss: 4 of 10 */
    for (int i = 0; i < 1000; i++)
        event("012");
    unsigned n = 0;
    for (int i = 0; i < 5000; i++)
        n += (unsigned)__builtin_popcount(event("012345"));
    ck_assert_uint_eq(n, 12000);
}
END_TEST

/* The fetches that FreeToken's code decides for 1 to 6 misses (its _ensure_experts_hybrid_cpu at
 * 0ab982f, q = 2/5, 3/4 and 1/5), and which: 5 was used after 4, the others in one event. */
START_TEST(q_star_of_every_event)
{
    static const struct {
        struct moe_costs costs;
        unsigned fetched[E];
    } cases[] = {{{.cpu_expert_ns = 40, .copy_ns = {60}}, {0, 1, 1, 1, 2, 2}},
                 {{.cpu_expert_ns = 60, .copy_ns = {20}}, {1, 2, 2, 3, 4, 5}},
                 {{.cpu_expert_ns = 15, .copy_ns = {60}}, {0, 0, 0, 0, 1, 1}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        env.costs = &cases[i].costs;
        open_rule("q-star:reading=event");
        for (unsigned n = 1; n <= E; n++)
            ck_assert_int_eq(__builtin_popcount(event(&"543210"[E - n])),
                             (int)cases[i].fetched[n - 1]);
    }
    env.costs = &costs;
    open_rule("q-star:reading=event");
    ck_assert_uint_eq(event("3210"), 1 << 0); /* never used: the lowest */
    ck_assert_uint_eq(event("4"), 0);
    ck_assert_uint_eq(event("5"), 0);
    ck_assert_uint_eq(event("031245"), 1 << 4 | 1 << 5);
    ck_assert_uint_eq(event("5!4!0!13"), 1 << 1);
}
END_TEST

START_TEST(q_star_at_the_ends)
{
    struct moe_costs c = {.cpu_expert_ns = 1, .copy_ns = {0, 0}};
    env.costs = &c;
    open_rule("q-star");
    ck_assert_uint_eq(event("012"), 7); /* a link without end takes all */
    c = (struct moe_costs){.cpu_expert_ns = 0, .copy_ns = {1, 1}};
    open_rule("q-star");
    ck_assert_uint_eq(event("012"), 0);
    c.copy_ns[0] = 0;
    open_rule("q-star");
    ck_assert_uint_eq(event("012"), 0);
}
END_TEST

START_TEST(probabilistic_draws_its_share)
{
    const struct {
        const char *rule;
        unsigned least, most; /* of 100,000: five standard deviations around the mean */
    } cases[] = {{"probabilistic:share=0", 0, 0},
                 {"probabilistic:share=1", 100000, 100000},
                 {"probabilistic", 49209, 50791},
                 {"probabilistic:share=0.1", 9526, 10474}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned n = 0;
        open_rule(cases[i].rule);
        for (int j = 0; j < 100000; j++)
            n += event("0") != 0;
        ck_assert_msg(n >= cases[i].least && n <= cases[i].most, "%s: %u", cases[i].rule, n);
    }
}
END_TEST

static uint64_t draws(uint64_t seed)
{
    uint64_t bits = 0;
    env.seed = seed;
    open_rule("probabilistic");
    for (int i = 0; i < 64; i++)
        bits = bits << 1 | (event("0") != 0);
    return bits;
}

START_TEST(probabilistic_follows_its_seed)
{
    ck_assert(draws(7) == draws(7));
    ck_assert(draws(7) != draws(8));
}
END_TEST

START_TEST(queue_limit_counts_copies)
{
    const moe_expert expert = 0;
    struct moe_route route = {.n = 1, .expert = &expert};
    open_rule("queue-limit:longest=2");
    ck_assert(moe_admission_on_time(&admission));
    ck_assert(moe_admission_admits(&admission, &route, 0, 0));
    ck_assert(moe_admission_admits(&admission, &route, 0, 1));
    ck_assert(!moe_admission_admits(&admission, &route, 0, 2));
    ck_assert(!moe_admission_admits(&admission, &route, 0, 3));
    open_rule("queue-limit:longest=0");
    ck_assert(!moe_admission_admits(&admission, &route, 0, 0));
}
END_TEST

/* Four slots, three misses: two copies are let in, and one more when one of them has landed. */
START_TEST(queue_limit_in_a_cache)
{
    const struct event_trace shape = {.n_layers = 1, .n_experts = E, .top_k = 3};
    const moe_expert first[] = {0, 1, 2}, then[] = {3, 0, 4};
    struct moe_layer_routes routes = {
        .n_tokens = 1, .phase = MOE_DECODE, .top_k = 3, .expert = first, .stride = 3};
    struct moe_geometry g = geometry("global:4", &shape, NULL);
    struct moe_policy_spec lru = policy("lru");
    struct moe_planner *planner;
    struct moe_cache *cache;
    struct moe_err err;
    ck_assert_int_eq(moe_planner_new(&planner, E, 3, &err), MOE_OK);
    ck_assert_int_eq(moe_cache_new(&cache, &g, 3, &lru, 1, &err), MOE_OK);
    open_rule("queue-limit:longest=2");
    const struct moe_plan *plan = moe_plan_event(planner, cache, &admission, &routes);
    ck_assert_int_eq(plan->fill[0], 0);
    ck_assert_int_eq(plan->fill[1], 1);
    ck_assert_int_eq(plan->fill[2], MOE_NO_SLOT);
    ck_assert_uint_eq(moe_cache_copies(cache), 2);
    moe_cache_ready(cache, 0);
    ck_assert_uint_eq(moe_cache_copies(cache), 1);
    routes.expert = then;
    plan = moe_plan_event(planner, cache, &admission, &routes);
    ck_assert_int_eq(plan->fill[0], 2);
    ck_assert_int_eq(plan->fill[2], MOE_NO_SLOT);
    moe_cache_free(cache);
    moe_planner_free(planner);
    moe_geometry_release(&g);
}
END_TEST

START_TEST(costs_are_asked_for)
{
    env.costs = NULL;
    for (const struct moe_admission_ops *const *ops = moe_admissions; *ops; ops++) {
        struct moe_admission_spec spec;
        struct moe_admission made, before;
        struct moe_err err = {0};
        char want[200];
        memset(&made, 0xa5, sizeof made);
        before = made;
        ck_assert_int_eq(moe_admission_parse((*ops)->name, &spec, &err), MOE_OK);
        enum moe_status s = moe_admission_init(&made, &spec, &env, &err);
        if (!((*ops)->flags & MOE_ADMISSION_NEEDS_COSTS)) {
            ck_assert_int_eq(s, MOE_OK);
            moe_admission_release(&made);
            continue;
        }
        ck_assert_int_eq(s, MOE_ERR_USAGE);
        ck_assert_mem_eq(&made, &before, sizeof made);
        snprintf(want, sizeof want,
                 "admission '%s' needs a platform: its costs tell what a copy takes and what it "
                 "saves; name one, or use admission=quota",
                 (*ops)->name);
        ck_assert_str_eq(err.text, want);
    }
}
END_TEST

/* --- every rule ----------------------------------------------------------------------------- */

struct tally {
    uint64_t lookups, misses, admitted, fills, events;
    uint64_t mix; /* of every decision in order */
};

static void add_event(struct tally *t, struct moe_cache *cache, struct moe_planner *planner,
                      const struct event_trace *trace, const struct event *e)
{
    struct moe_layer_routes routes = {.layer = e->layer,
                                      .n_tokens = e->n_tokens,
                                      .phase = e->phase,
                                      .top_k = trace->top_k,
                                      .expert = e->expert,
                                      .stride = trace->top_k};
    if (e->first_of_step)
        moe_admission_step(&admission);
    const struct moe_plan *plan = moe_plan_event(planner, cache, &admission, &routes);
    bool covered = moe_cache_covers(cache, e->layer);
    for (uint32_t i = 0; i < plan->route.n; i++) {
        bool filled = plan->fill[i] != MOE_NO_SLOT;
        ck_assert(!filled || (covered && plan->route.access[i] == MOE_MISS));
        t->lookups += covered;
        t->misses += covered && plan->route.access[i] == MOE_MISS;
        t->fills += filled;
        t->mix = moe_mix64(t->mix ^ (uint64_t)(plan->fill[i] + 2));
        if (filled && (t->mix & 3)) /* some copies never land: their slots are lost */
            moe_cache_ready(cache, plan->fill[i]);
    }
}

static struct tally run_rule(const struct test_case *c, const struct moe_admission_ops *ops)
{
    struct moe_policy_spec lru = policy("lru");
    struct moe_planner *planner;
    struct moe_cache *cache;
    struct moe_err err;
    struct tally t = {0};
    env.n_layers = c->trace.n_layers;
    env.n_experts = c->trace.n_experts;
    open_rule(ops->name);
    REQUIRE(moe_planner_new(&planner, env.n_experts, c->trace.top_k, &err) == MOE_OK);
    REQUIRE(moe_cache_new(&cache, &c->geometry, c->trace.top_k, &lru, 1, &err) == MOE_OK);
    for (uint32_t i = 0; i < c->trace.n_events; i++)
        add_event(&t, cache, planner, &c->trace, &c->trace.event[i]);
    struct moe_counts sum = total_counts(cache, env.n_layers);
    REQUIRE(sum.lookups == t.lookups);
    REQUIRE(sum.misses == t.misses);
    REQUIRE(sum.hits + sum.inflight_hits + sum.misses == sum.lookups);
    REQUIRE(sum.fills == t.fills);
    t.admitted = sum.fills + sum.dropped_fills + sum.bypasses;
    REQUIRE(t.admitted <= sum.misses);
    moe_cache_free(cache);
    moe_planner_free(planner);
    return t;
}

START_TEST(every_rule_decides_the_same_again)
{
    struct moe_rng rng;
    struct test_case c;
    uint64_t admitted[32] = {0}, misses[32] = {0};
    moe_rng_init(&rng, 5);
    for (int i = 0; i < 2000; i++) {
        draw_case(&rng, &c, 6, 40);
        for (size_t r = 0; moe_admissions[r]; r++) {
            struct tally first = run_rule(&c, moe_admissions[r]);
            struct tally second = run_rule(&c, moe_admissions[r]);
            ck_assert_mem_eq(&first, &second, sizeof first);
            admitted[r] += first.admitted;
            misses[r] += first.misses;
        }
        moe_geometry_release(&c.geometry);
    }
    for (size_t r = 0; moe_admissions[r]; r++) { /* no rule but `always` and `never` is either */
        const char *name = moe_admissions[r]->name;
        bool all = strcmp(name, "always") == 0 || strcmp(name, "quota") == 0;
        bool none = strcmp(name, "never") == 0;
        ck_assert_msg(all == (admitted[r] == misses[r]) && none == (admitted[r] == 0),
                      "%s: %" PRIu64 " of %" PRIu64, name, admitted[r], misses[r]);
    }
}
END_TEST

START_TEST(every_rule_says_what_it_is)
{
    for (const struct moe_admission_ops *const *ops = moe_admissions; *ops; ops++) {
        ck_assert_ptr_nonnull((*ops)->summary);
        ck_assert_ptr_nonnull((*ops)->source);
        ck_assert((*ops)->admit != NULL);
        ck_assert((*ops)->params_size <= MOE_POLICY_PARAMS_MAX);
        for (const struct moe_param *p = (*ops)->params; p && p->name; p++)
            ck_assert_uint_lt(p->offset, (*ops)->params_size);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admission");
    TCase *tc = tcase_create("admission");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, second_miss_by_hand);
    tcase_add_test(tc, second_miss_knows_layers_apart);
    tcase_add_test(tc, pay_back_by_hand);
    tcase_add_test(tc, pay_back_forgets);
    tcase_add_test(tc, pay_back_where_nothing_is_saved_or_nothing_costs);
    tcase_add_test(tc, q_star_by_hand);
    tcase_add_test(tc, q_star_of_every_event);
    tcase_add_test(tc, q_star_at_the_ends);
    tcase_add_test(tc, probabilistic_draws_its_share);
    tcase_add_test(tc, probabilistic_follows_its_seed);
    tcase_add_test(tc, queue_limit_counts_copies);
    tcase_add_test(tc, queue_limit_in_a_cache);
    tcase_add_test(tc, costs_are_asked_for);
    tcase_add_test(tc, every_rule_decides_the_same_again);
    tcase_add_test(tc, every_rule_says_what_it_is);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
