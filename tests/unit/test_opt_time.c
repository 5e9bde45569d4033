/* opt-time: by hand, against exhaustive search in its own model of time, and simulated. */
#include "sim_world.h"
#include "tests/unit/policy_variants.h"

/* --- the model: T(h) of policies/opt_time.c, without activations ---------------------------- */

static uint64_t event_ns(const struct moe_costs *costs, uint32_t n, uint32_t n_hits)
{
    uint64_t cpu = (n - n_hits) * costs->cpu_expert_ns, gpu = n_hits * costs->gpu_expert_ns;
    return cpu > gpu ? cpu : gpu;
}

struct clock {
    const struct moe_costs *costs;
    uint64_t ns;
};

static void add_event(void *ctx, struct moe_cache *cache, const struct moe_route *route)
{
    struct clock *clock = ctx;
    uint32_t hits = 0;
    (void)cache;
    for (uint32_t i = 0; i < route->n; i++)
        hits += route->access[i] != MOE_MISS;
    clock->ns += event_ns(clock->costs, route->n, hits);
}

/* Time of a policy in the model; hits, if asked for. */
static uint64_t time_of(const struct test_case *c, const char *text, const struct moe_costs *costs,
                        uint64_t *hits)
{
    struct clock clock = {.costs = costs};
    struct moe_policy_spec spec = policy(text);
    struct run run = {
        .trace = &c->trace, .geometry = &c->geometry, .watch = add_event, .ctx = &clock};
    spec.costs = costs;
    uint64_t n = run_trace(&run, &spec).hits;
    if (hits)
        *hits = n;
    return clock.ns;
}

/* --- by hand --------------------------------------------------------------------------------- */

/* One layer, two experts an event: "01 23 01". */
static struct test_case pairs(const char *text, const char *slots)
{
    struct test_case c = {.trace = {.n_layers = 1, .n_experts = 8, .top_k = 2}};
    for (; *text; text += text[2] ? 3 : 2) {
        struct event *e = &c.trace.event[c.trace.n_events++];
        *e = (struct event){.n_tokens = 1,
                            .first_of_step = true,
                            .first_of_sequence = c.trace.n_events == 1,
                            .phase = MOE_DECODE,
                            .expert = {(moe_expert)(text[0] - '0'), (moe_expert)(text[1] - '0')}};
    }
    find_next_uses(&c.trace);
    c.geometry = geometry(slots, &c.trace, NULL);
    return c;
}

static void expect(const char *text, const char *slots, const struct moe_costs *costs,
                   uint64_t opt_time, uint64_t opt)
{
    struct test_case c = pairs(text, slots);
    uint64_t a = time_of(&c, "opt-time", costs, NULL), b = time_of(&c, "opt", costs, NULL);
    ck_assert_msg(a == opt_time && b == opt, "%s: %" PRIu64 ", opt %" PRIu64, text, a, b);
    moe_geometry_release(&c.geometry);
}

/* A second hit makes the GPU the slower side: 18 for two hits, 10 for one and one on the CPU. */
START_TEST(a_hit_may_cost_time)
{
    const struct moe_costs costs = {.cpu_expert_ns = 10, .gpu_expert_ns = 9};
    expect("01 01 01", "global:2", &costs, 20 + 10 + 10, 20 + 18 + 18);
    expect("01 01 01", "global:1", &costs, 20 + 10 + 10, 20 + 10 + 10);
}
END_TEST

/* A first hit saves 10 of 20, the second 4 more. After "25" opt keeps 0 and 1, used soonest: two
 * hits. opt-time gives up one of them (4 in one event's time) for 2 (10 in two). */
START_TEST(first_hits_come_before_second_ones)
{
    const struct moe_costs costs = {.cpu_expert_ns = 10, .gpu_expert_ns = 3};
    expect("01 25 01 23", "global:2", &costs, 20 + 20 + 10 + 10, 20 + 20 + 6 + 20);
}
END_TEST

/* Ordinals may begin anywhere, as after a cache was cleared: the first hit tells where. Half-way
 * 0 and 1 (4 in one event's time) are worth more than 2 (10 in three). */
START_TEST(ordinals_may_begin_late)
{
    const struct moe_costs costs = {.cpu_expert_ns = 10, .gpu_expert_ns = 3};
    struct test_case c = pairs("01 01 25 01 67 23", "global:2");
    ck_assert_uint_eq(time_of(&c, "opt-time", &costs, NULL), 20 + 6 + 20 + 6 + 20 + 20);
    for (uint32_t i = 0; i < c.trace.n_events; i++)
        for (int k = 0; k < 2; k++)
            if (c.trace.event[i].event_next[k] != MOE_NEVER)
                c.trace.event[i].event_next[k] += 1000;
    ck_assert_uint_eq(time_of(&c, "opt-time", &costs, NULL), 20 + 6 + 20 + 6 + 20 + 20);
    moe_geometry_release(&c.geometry);
}
END_TEST

/* Where every hit is worth the same, opt-time is opt. */
START_TEST(equal_values_are_belady)
{
    const struct moe_costs costs = {.cpu_expert_ns = 1, .gpu_expert_ns = 0};
    struct moe_rng rng;
    struct test_case c;
    moe_rng_init(&rng, 31);
    for (int i = 0; i < 20000; i++) {
        uint64_t hits, best;
        draw_case(&rng, &c, 6, 24);
        time_of(&c, "opt-time", &costs, &hits);
        time_of(&c, "opt", &costs, &best);
        ck_assert_msg(hits == best, "case %d %s: %" PRIu64 " hits, opt %" PRIu64, i, c.text, hits,
                      best);
        moe_geometry_release(&c.geometry);
    }
}
END_TEST

/* --- against the best of all decisions ------------------------------------------------------- */

enum { MAX_KEYS = 10, N_BRUTE_CASES = 3000 };

static bool fits(const struct moe_geometry *g, unsigned contents)
{
    for (uint32_t p = 0; p < g->n_pools; p++) {
        unsigned mine = 0;
        for (uint32_t l = 0; l < g->n_layers; l++)
            if (g->pool_of_layer[l] == (int32_t)p)
                mine |= ((1u << g->n_experts) - 1) << (l * g->n_experts);
        if ((uint32_t)__builtin_popcount(contents & mine) > g->pool[p].n_slots)
            return false;
    }
    return true;
}

/* least[r]: shortest time so far with contents r; any subset of contents and event may remain. */
static uint64_t least_ns(const struct test_case *c, const struct moe_costs *costs)
{
    const struct event_trace *t = &c->trace;
    unsigned n = 1u << (t->n_layers * t->n_experts);
    static uint64_t least[1 << MAX_KEYS], after[1 << MAX_KEYS];
    memset(least, 0xff, sizeof least);
    least[0] = 0;
    for (uint32_t i = 0; i < t->n_events; i++) {
        const struct event *e = &t->event[i];
        bool covered = c->geometry.pool_of_layer[e->layer] >= 0;
        unsigned used = 0;
        for (uint32_t a = 0; a < e->n_tokens * t->top_k; a++)
            used |= 1u << (e->layer * t->n_experts + e->expert[a]);
        memset(after, 0xff, sizeof after);
        for (unsigned r = 0; r < n; r++) {
            if (least[r] == UINT64_MAX)
                continue;
            uint32_t hits = (uint32_t)__builtin_popcount(r & used);
            uint64_t ns = least[r] + event_ns(costs, (uint32_t)__builtin_popcount(used), hits);
            unsigned all = covered ? r | used : r;
            for (unsigned keep = all;; keep = (keep - 1) & all) {
                if (ns < after[keep] && fits(&c->geometry, keep))
                    after[keep] = ns;
                if (keep == 0)
                    break;
            }
        }
        memcpy(least, after, sizeof least);
    }
    uint64_t best = UINT64_MAX;
    for (unsigned r = 0; r < n; r++)
        best = least[r] < best ? least[r] : best;
    return best;
}

/* How far two policies are from the best, over cases of one machine. */
struct distance {
    uint64_t best, opt_time, opt;
    uint32_t n_best[2], n_better, n_worse; /* opt-time, opt; opt-time against opt */
};

static void add_case(struct distance *d, const struct test_case *c, const struct moe_costs *costs)
{
    uint64_t best = least_ns(c, costs), a = time_of(c, "opt-time", costs, NULL),
             b = time_of(c, "opt", costs, NULL);
    ck_assert_uint_le(best, a);
    ck_assert_uint_le(best, b);
    d->best += best;
    d->opt_time += a;
    d->opt += b;
    d->n_best[0] += a == best;
    d->n_best[1] += b == best;
    d->n_better += a < b;
    d->n_worse += a > b;
}

static double excess(uint64_t ns, uint64_t best)
{
    return 100 * ((double)ns / (double)best - 1);
}

START_TEST(near_the_best)
{
    const struct {
        uint64_t gpu_ns;   /* of an expert that takes the CPU 30 */
        double at_most;    /* excess over the best in percent, all cases together */
        double best_share; /* of the cases at least */
    } machines[] = {{1, 0.1, 0.95}, {10, 0.7, 0.9}, {25, 4, 0.75}};
    for (size_t m = 0; m < sizeof machines / sizeof *machines; m++) {
        const struct moe_costs costs = {.cpu_expert_ns = 30, .gpu_expert_ns = machines[m].gpu_ns};
        struct moe_rng rng;
        struct test_case c;
        struct distance d = {0};
        moe_rng_init(&rng, 77);
        for (int i = 0; i < N_BRUTE_CASES;) {
            draw_case(&rng, &c, 5, 20);
            if (c.trace.n_layers * c.trace.n_experts <= MAX_KEYS && ++i)
                add_case(&d, &c, &costs);
            moe_geometry_release(&c.geometry);
        }
        printf("GPU expert %2d of 30: over the best opt-time %.2f %%, opt %.2f %%; best in %.1f %% "
               "and %.1f %% of %d cases; opt-time faster than opt in %u, slower in %u\n",
               (int)machines[m].gpu_ns, excess(d.opt_time, d.best), excess(d.opt, d.best),
               100. * d.n_best[0] / N_BRUTE_CASES, 100. * d.n_best[1] / N_BRUTE_CASES,
               N_BRUTE_CASES, d.n_better, d.n_worse);
        ck_assert_double_le(excess(d.opt_time, d.best), machines[m].at_most);
        ck_assert_double_ge((double)d.n_best[0], machines[m].best_share * N_BRUTE_CASES);
        ck_assert_uint_le(d.opt_time, d.opt);
    }
}
END_TEST

/* --- simulated ------------------------------------------------------------------------------- */

static uint64_t simulated(struct world *w, const char *policy_text)
{
    struct moe_result r;
    struct moe_err err;
    set_key(&w->strategy, "policy", policy_text);
    if (try(w, &r, &err))
        ck_abort_msg("%s", err.text);
    return r.decode_ns;
}

/* GPU expert: 1000 + 600000 bytes at so many GB/s; the CPU's takes 30000. Copies take 1000. */
static void compare_simulated(double gpu_gb_per_s, uint32_t most_worse)
{
    struct moe_rng rng;
    uint32_t better = 0, worse = 0;
    double sum = 0;
    moe_rng_init(&rng, 5);
    enum { N = 300, TOKENS = 60, LAYERS = 3, EXPERTS = 8, K = 2 };
    for (int i = 0; i < N; i++) {
        struct random_shape shape = {
            .n_layers = LAYERS, .n_experts = EXPERTS, .top_k = K, .n_tokens = TOKENS};
        struct world w = {.model = tiny_model(LAYERS, EXPERTS, K),
                          .platform = tiny_platform(),
                          .strategy = load_strategy("collab")};
        w.platform.gpu.read_gb_per_s = gpu_gb_per_s;
        w.platform.link.h2d_pinned_gb_per_s = 1e5;
        w.platform.dram.read_gb_per_s = 1e5;
        random_trace(&rng, &shape, &w.trace);
        for (uint64_t t = 0; t < TOKENS; t++)
            w.trace.tokens.phase[t] = MOE_DECODE;
        set_key(&w.strategy, "geometry", i % 2 ? "3x3" : "global:9");
        uint64_t a = simulated(&w, "opt-time"), b = simulated(&w, "opt");
        better += a < b;
        worse += a > b;
        sum += (double)a / (double)b;
        moe_trace_release(&w.trace);
    }
    printf(
        "simulated, GPU %g GB/s: opt-time takes %.4f of opt's time; less in %u, more in %u of %d "
        "seeds\n",
        gpu_gb_per_s, sum / N, better, worse, N);
    ck_assert_uint_le(worse, most_worse);
}

START_TEST(not_slower_than_opt_on_most_seeds)
{
    compare_simulated(1000, 30);
    compare_simulated(100, 30);
    compare_simulated(30, 0);
}
END_TEST

START_TEST(costs_are_asked_for)
{
    struct moe_policy_spec spec = policy("opt-time");
    struct moe_err err;
    ck_assert_int_eq(moe_policy_check_parts(&spec, 0, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "policy 'opt-time' needs a platform: its costs tell what a hit "
                               "saves; name one, as `moelab sim` does, or use opt");
    spec.costs = &variant_costs;
    ck_assert_int_eq(moe_policy_check_parts(&spec, 0, &err), MOE_OK);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, a_hit_may_cost_time);
    tcase_add_test(tc, first_hits_come_before_second_ones);
    tcase_add_test(tc, ordinals_may_begin_late);
    tcase_add_test(tc, equal_values_are_belady);
    tcase_add_test(tc, near_the_best);
    tcase_add_test(tc, not_slower_than_opt_on_most_seeds);
    tcase_add_test(tc, costs_are_asked_for);
}

int main(void)
{
    return run_policy_tests("opt_time", add);
}
