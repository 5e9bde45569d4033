#include "sim/tune.h"

#include "base/rng.h"
#include "policies/registry.h"
#include "sim/tune_file.h"
#include "sim/tune_search.h"
#include "sim/tune_space.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sim_case.h"
#include "tests/unit/tune_trace.h"

#include <math.h>

struct world {
    struct moe_trace trace;
    struct moe_model model;
    struct moe_platform platform;
    struct moe_tune_options options;
};

static void make_world(struct world *w, enum routing routing, uint32_t n_sequences)
{
    w->trace = make_trace(routing, n_sequences);
    w->model = tiny_model(LAYERS, EXPERTS, 1);
    w->platform = tiny_platform();
    w->options = (struct moe_tune_options){.trace = &w->trace,
                                           .model = &w->model,
                                           .platform = &w->platform,
                                           .budget_bytes = 4 * 600000,
                                           .max_points = 300,
                                           .n_keep = 6,
                                           .seed = 3};
}

static struct moe_tune_result tune(const struct world *w)
{
    struct moe_tune_result result;
    struct moe_err err = {0};
    if (moe_tune(&w->options, &result, &err))
        ck_abort_msg("%s", err.text);
    return result;
}

static const struct moe_tune_row *best_of(const struct moe_tune_result *r, enum moe_tune_family f)
{
    ck_assert_uint_lt(r->best_of[f], r->n_rows);
    return &r->row[r->best_of[f]];
}

/* --- verdicts ------------------------------------------------------------------------------- */

/* The CPU computes an expert before its copy could have begun to help, and before the GPU does. */
START_TEST(a_fast_cpu_needs_no_cache)
{
    struct world w;
    make_world(&w, UNIFORM, SEQUENCES);
    w.platform.cpu.point[0].ms = 0.001;
    w.platform.dram.read_gb_per_s = 10000;
    w.platform.gpu.expert_launch_us = 50;
    struct moe_tune_result r = tune(&w);
    ck_assert(r.do_not_cache);
    ck_assert_str_eq(r.row[r.chosen].strategy.name, "cpu-only");
    ck_assert_str_eq(r.row[r.chosen].strategy.geometry, "none");
    ck_assert_uint_eq(r.row[r.chosen].held_out.cpu_experts,
                      r.row[r.chosen].held_out.routed_experts);
    moe_tune_release(&r);
    moe_trace_release(&w.trace);
}
END_TEST

/* A byte less than an expert: what needs no slots; without room for staging buffers, the CPU. */
START_TEST(no_expert_fits)
{
    struct world w;
    make_world(&w, SKEWED, SEQUENCES);
    w.options.budget_bytes = 599999;
    struct moe_tune_result r = tune(&w);
    ck_assert_uint_eq(r.slots, 0);
    ck_assert_uint_eq(r.n_rows, 3);
    for (size_t i = 0; i < r.n_rows; i++)
        ck_assert_str_eq(r.row[i].strategy.geometry, "none");
    ck_assert(best_of(&r, MOE_TUNE_ON_DEMAND) != best_of(&r, MOE_TUNE_CPU_ONLY));
    const uint64_t other = w.platform.gpu.memory_bytes - r.free_bytes; /* dense part and staging */
    moe_tune_release(&r);
    w.options.budget_bytes = 0;
    w.platform.gpu.memory_bytes = other - 1;
    r = tune(&w);
    ck_assert_uint_eq(r.n_rows, 1);
    ck_assert_str_eq(r.row[0].strategy.name, "cpu-only");
    moe_tune_release(&r);
    moe_trace_release(&w.trace);
}
END_TEST

/* As many slots as popular experts: placed once they serve nine of ten uses, and no replacement is
 * really better; none at all is far behind. */
START_TEST(popular_experts_are_placed)
{
    struct world w;
    make_world(&w, SKEWED, SEQUENCES);
    struct moe_tune_result r = tune(&w);
    const struct moe_tune_row *placed = best_of(&r, MOE_TUNE_BEST_STATIC);
    ck_assert(!r.do_not_cache);
    ck_assert(placed->within_noise);
    ck_assert(placed->fitted);
    ck_assert_double_gt((double)placed->held_out.decode.hits,
                        0.85 * (double)placed->held_out.decode.lookups);
    ck_assert(!best_of(&r, MOE_TUNE_CPU_ONLY)->within_noise);
    for (uint32_t i = 0; i < 4; i++) /* layer 0: experts 0, 1; layer 1: 2, 3 */
        ck_assert(r.hot[i] == 0 || r.hot[i] == 1 || r.hot[i] == 6 || r.hot[i] == 7);
    moe_tune_release(&r);
    moe_trace_release(&w.trace);
}
END_TEST

/* Every expert is used equally often, but for ten tokens on end: only what follows them helps. */
START_TEST(drifting_experts_are_followed)
{
    struct world w;
    make_world(&w, DRIFTS, SEQUENCES);
    w.options.budget_bytes = 2 * 600000;
    struct moe_tune_result r = tune(&w);
    ck_assert(!r.do_not_cache);
    ck_assert_ptr_ne(r.row[r.chosen].strategy.policy.ops, &moe_policy_static);
    ck_assert(!best_of(&r, MOE_TUNE_BEST_STATIC)->within_noise);
    ck_assert_double_ge(r.row[r.chosen].held_out.tokens_per_s,
                        best_of(&r, MOE_TUNE_BEST_UNIFORM)->held_out.tokens_per_s);
    ck_assert_double_gt((double)r.row[r.chosen].held_out.decode.hits,
                        0.8 * (double)r.row[r.chosen].held_out.decode.lookups);
    moe_tune_release(&r);
    moe_trace_release(&w.trace);
}
END_TEST

/* --- training and judging apart ------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double *trained_times(const struct moe_tune_result *r)
{
    double *times = calloc(r->n_rows, sizeof *times);
    for (size_t i = 0; i < r->n_rows; i++)
        times[i] = r->row[i].train_tokens_per_s;
    qsort(times, r->n_rows, sizeof *times, by_value);
    return times;
}

/* Other experts for the held-out sequences of a tuning: all swapped, or one layer between two
 * experts in turn and the other always at one. */
static void change_held_out(struct moe_trace *trace, const struct moe_tune_result *r, uint32_t how)
{
    for (uint64_t j = 0; j < r->split.held_out.n_sequences; j++)
        for (uint64_t i = 0; i < TOKENS * LAYERS; i++) {
            uint64_t number = r->split.held_out.sequences[j].text_hash;
            moe_expert *e = trace->tokens.expert + number * TOKENS * LAYERS + i;
            if (how == LAYERS)
                *e = (moe_expert)(EXPERTS - 1 - *e);
            else
                *e = (moe_expert)(i % LAYERS == how ? i / LAYERS % 2 : 3);
        }
}

/* What was searched and fitted must be the same to the last bit, and only the judgement another. */
static void expect_same_training(const struct moe_tune_result *a, const struct moe_tune_result *b)
{
    ck_assert_uint_eq(a->n_rows, b->n_rows);
    ck_assert_mem_eq(a->hot, b->hot, LAYERS * EXPERTS * sizeof *a->hot);
    ck_assert_mem_eq(a->uses, b->uses, LAYERS * EXPERTS * sizeof *a->uses);
    double *x = trained_times(a), *y = trained_times(b);
    ck_assert_mem_eq(x, y, a->n_rows * sizeof *x);
    ck_assert_uint_eq(a->space, b->space);
    ck_assert_uint_eq(a->simulations, b->simulations);
    ck_assert_uint_eq(a->tokens, b->tokens);
    free(x);
    free(y);
}

START_TEST(held_out_sequences_are_never_seen)
{
    struct world w;
    make_world(&w, SKEWED, SEQUENCES);
    w.options.budget_bytes = (uint64_t)(_i < LAYERS ? 3 : 4) * 600000;
    struct moe_tune_result a = tune(&w);
    ck_assert_uint_eq(a.split.held_out.n_sequences, SEQUENCES / 2);
    change_held_out(&w.trace, &a, (uint32_t)_i);
    struct moe_tune_result b = tune(&w);
    expect_same_training(&a, &b);
    /* where popular experts are others now, the placement fails, and the judgement shows it */
    double before = best_of(&a, MOE_TUNE_BEST_STATIC)->held_out.tokens_per_s;
    double after = best_of(&b, MOE_TUNE_BEST_STATIC)->held_out.tokens_per_s;
    ck_assert_double_ne(before, after);
    if (_i == LAYERS)
        ck_assert_double_lt(after, 0.9 * before);
    moe_tune_release(&a);
    moe_tune_release(&b);
    moe_trace_release(&w.trace);
}
END_TEST

/* On a slow link, where every miss is copied, few slots may be better than many: of all N x M the
 * best on the training part. */
START_TEST(the_best_grid_is_the_best)
{
    struct world w;
    make_world(&w, _i % 2 ? UNIFORM : SKEWED, SEQUENCES);
    w.options.budget_bytes = 8 * 600000;
    w.platform.link.h2d_pinned_gb_per_s = _i < 2 ? 0.01 : 0.5;
    struct moe_tune_result r = tune(&w);
    const struct moe_tune_row *row = best_of(&r, MOE_TUNE_BEST_UNIFORM);
    double best = 0;
    for (int n = 1; n <= LAYERS; n++)
        for (int m = 1; m <= EXPERTS; m++) {
            struct moe_strategy strategy = row->strategy;
            struct moe_result result;
            snprintf(strategy.geometry, sizeof strategy.geometry, "%dx%d", n, m);
            const struct moe_sim_input in = {.trace = &r.split.train,
                                             .model = &w.model,
                                             .platform = &w.platform,
                                             .strategy = &strategy};
            ck_assert_int_eq(moe_simulate(&in, &result, NULL), MOE_OK);
            best = result.tokens_per_s > best ? result.tokens_per_s : best;
        }
    ck_assert_double_eq_tol(row->train_tokens_per_s, best, 1e-9 * best);
    moe_tune_release(&r);
    moe_trace_release(&w.trace);
}
END_TEST

/* --- same bytes for any threads ------------------------------------------------------------- */

START_TEST(threads_change_nothing)
{
    struct world w;
    make_world(&w, SKEWED, SEQUENCES);
    w.options.jobs = 1;
    struct moe_tune_result a = tune(&w);
    for (uint32_t jobs = 2; jobs <= 5; jobs += 3) {
        w.options.jobs = jobs;
        struct moe_tune_result b = tune(&w);
        ck_assert_uint_eq(a.n_rows, b.n_rows);
        ck_assert_uint_eq(a.chosen, b.chosen);
        ck_assert_uint_eq(a.simulations, b.simulations);
        for (size_t i = 0; i < a.n_rows; i++) {
            char x[8192], y[8192];
            moe_strategy_describe(&a.row[i].strategy, x, sizeof x);
            moe_strategy_describe(&b.row[i].strategy, y, sizeof y);
            ck_assert_str_eq(x, y);
            ck_assert_uint_eq(a.row[i].held_out.decode_ns, b.row[i].held_out.decode_ns);
            ck_assert_mem_eq(&a.row[i].gain, &b.row[i].gain, sizeof a.row[i].gain);
            ck_assert_uint_eq(a.row[i].families, b.row[i].families);
        }
        moe_tune_release(&b);
    }
    moe_tune_release(&a);
    moe_trace_release(&w.trace);
}
END_TEST

/* --- intervals ------------------------------------------------------------------------------ */

/* A last place or two is the order of a sum, a millionth is not. */
START_TEST(equal_but_for_rounding)
{
    ck_assert(moe_tune_may_be_equal((struct moe_tune_gain){.low = 0.99}));
    ck_assert(moe_tune_may_be_equal((struct moe_tune_gain){.low = 1 + 1e-15}));
    ck_assert(!moe_tune_may_be_equal((struct moe_tune_gain){.low = 1 + 1e-6}));
}
END_TEST

START_TEST(intervals_by_hand)
{
    struct moe_trace trace = make_trace(UNIFORM, 10);
    double ms[10 * TOKENS], twice[10 * TOKENS], mixed[10 * TOKENS];
    struct moe_tune_units units;
    struct moe_tune_gain gain;
    for (uint32_t i = 0; i < 10 * TOKENS; i++) {
        ms[i] = 1 + i % 7;
        twice[i] = 2 * ms[i];
        mixed[i] = i / TOKENS % 2 ? 0.5 * ms[i] : 1.5 * ms[i]; /* better in every second sequence */
    }
    ck_assert_int_eq(moe_tune_units_init(&units, &trace, NULL), MOE_OK);
    ck_assert_uint_eq(units.n, 10);
    ck_assert(!units.blocks);
    ck_assert_int_eq(moe_tune_compare(&units, ms, twice, 1, &gain, NULL), MOE_OK);
    ck_assert_double_eq(gain.ratio, 2);
    ck_assert_double_eq(gain.low, 2);
    ck_assert_double_eq(gain.high, 2);
    ck_assert(!moe_tune_may_be_equal(gain));
    ck_assert_int_eq(moe_tune_compare(&units, ms, mixed, 1, &gain, NULL), MOE_OK);
    ck_assert(gain.low < 0.9 && gain.high > 1.1 && moe_tune_may_be_equal(gain));
    moe_tune_units_release(&units);
    moe_trace_release(&trace);
    trace = make_trace(UNIFORM, 3); /* too few sequences: blocks, none over two of them */
    ck_assert_int_eq(moe_tune_units_init(&units, &trace, NULL), MOE_OK);
    ck_assert(units.blocks);
    ck_assert_uint_eq(units.n, 15); /* 120 / 16 = 8 tokens each */
    ck_assert_uint_ne(units.unit_of[TOKENS - 1], units.unit_of[TOKENS]);
    moe_tune_units_release(&units);
    moe_trace_release(&trace);
}
END_TEST

/* --- the space, and strategies as files ----------------------------------------------------- */

static void make_space(struct moe_tune_space *space, const struct moe_model *model,
                       const moe_key *hot)
{
    static const uint64_t threads[] = {4, 2};
    struct moe_strategy base;
    moe_strategy_default(&base);
    struct moe_tune_space_spec spec = {.base = &base,
                                       .threads = threads,
                                       .n_threads = 2,
                                       .parts = MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD,
                                       .prompts = true,
                                       .hot = hot,
                                       .n_hot = LAYERS * EXPERTS};
    ck_assert_int_eq(moe_tune_space_init(space, &spec, NULL), MOE_OK);
    ck_assert_int_eq(moe_tune_add_geometries(space, model, 5, NULL), MOE_OK);
    ck_assert_int_eq(moe_tune_add_geometry(space, "per-layer:0,3", MOE_TUNE_POOLS, NULL, NULL),
                     MOE_OK);
}

static void expect_same_file(const struct moe_strategy *strategy)
{
    char *text = NULL;
    size_t size;
    struct moe_err err = {0};
    FILE *out = open_memstream(&text, &size);
    if (moe_tune_write_strategy(strategy, "a test", "one\ntwo\xff", out, &err))
        ck_abort_msg("%s", err.text);
    fclose(out);
    ck_assert_int_eq(strncmp(text, "# one\n# two\xef\xbf\xbd\nstrategy: ", 24), 0);
    free(text);
}

/* However many fixed placements are faster in training: what was held out may use other experts. */
START_TEST(the_best_that_moves_is_kept_and_varied)
{
    static const char *const pools[] = {"global:1", "global:2", "global:3", "global:4", "global:5"};
    const moe_key hot[LAYERS * EXPERTS] = {7, 6, 5, 4, 3, 2, 1, 0};
    struct moe_tune_space space;
    struct moe_err err = {0};
    struct world w;
    make_world(&w, DRIFTS, 2);
    make_space(&space, &w.model, hot);
    struct moe_tune_search q = {.train = &w.trace,
                                .model = &w.model,
                                .platform = &w.platform,
                                .space = &space,
                                .n_keep = 4,
                                .jobs = 1};
    for (int i = 0; i < 6; i++) { /* the last one moves, and is the slowest */
        uint32_t at;
        struct moe_tune_point p = {{0}};
        ck_assert_int_eq(
            moe_tune_add_geometry(&space, pools[i < 5 ? i : 2], MOE_TUNE_POOLS, &at, NULL), MOE_OK);
        p.at[MOE_TUNE_GEOMETRY] = (uint16_t)at;
        p.at[MOE_TUNE_POLICY] = (uint16_t)(i < 5 ? space.first_static : 0);
        ck_assert_int_eq(moe_tune_add(&q, p, NULL), MOE_OK);
        q.candidate[i].ns = i < 5 ? i + 1 : 1e9;
    }
    moe_tune_rank_different(&q, 4);
    ck_assert_uint_eq(q.n, 4);
    ck_assert_uint_eq(q.candidate[3].point.at[MOE_TUNE_POLICY], 0);
    if (moe_tune_polish(&q, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_uint_eq(q.n, 4);
    ck_assert_uint_ne(q.candidate[3].point.at[MOE_TUNE_POLICY], space.first_static);
    ck_assert(q.candidate[3].varied && q.candidate[3].ns < 1e9);
    moe_tune_search_release(&q);
    moe_tune_space_release(&space);
    moe_trace_release(&w.trace);
}
END_TEST

/* Every value of every axis makes a strategy that a file can hold, and none needs the future. */
START_TEST(all_strategies_can_be_written)
{
    struct moe_tune_space space;
    struct moe_model model = tiny_model(LAYERS, EXPERTS, 1);
    const moe_key hot[LAYERS * EXPERTS] = {7, 6, 5, 4, 3, 2, 1, 0};
    make_space(&space, &model, hot);
    for (int a = 0; a < MOE_TUNE_AXES; a++)
        for (uint32_t i = 0; i < space.axis[a].n; i++) {
            struct moe_strategy s;
            struct moe_tune_point p = {{1}};
            p.at[a] = (uint16_t)i;
            ck_assert_int_eq(moe_tune_strategy(&space, p, &s, NULL), MOE_OK);
            ck_assert(!(s.policy.ops->needs & MOE_NEEDS_FUTURE));
            ck_assert(!(s.prefetcher.ops->needs & MOE_NEEDS_FUTURE));
            if (moe_tune_is_fitted(&space, &s))
                ck_assert_int_eq(moe_tune_name_list(&s, "a b, \"c'\\.hot", NULL), MOE_OK);
            expect_same_file(&s);
        }
    moe_tune_space_release(&space);
}
END_TEST

/* A fixed placement admits nothing, so rules of admission make no other strategies of it; nor do
 * policies where there are no slots. */
START_TEST(what_has_no_effect_is_one_strategy)
{
    struct moe_tune_space space;
    struct moe_model model = tiny_model(LAYERS, EXPERTS, 1);
    const moe_key hot[LAYERS * EXPERTS] = {7, 6, 5, 4, 3, 2, 1, 0};
    make_space(&space, &model, hot);
    uint64_t size = moe_tune_space_size(&space), placed[8] = {0};
    size_t n = 0;
    ck_assert_uint_gt(size, 100000);
    for (uint64_t i = 0; i < size; i += 101) {
        struct moe_strategy s;
        struct moe_tune_point p = moe_tune_canonical(&space, moe_tune_point_at(&space, i));
        ck_assert_uint_eq(moe_tune_point_id(p), moe_tune_point_id(moe_tune_canonical(&space, p)));
        ck_assert_int_eq(moe_tune_strategy(&space, p, &s, NULL), MOE_OK);
        if (strcmp(s.geometry, "none") == 0)
            ck_assert_str_eq(s.policy.ops->name, "lru");
        if (!moe_tune_is_fitted(&space, &s) || strcmp(s.geometry, "global:5") != 0 ||
            s.threads != 2)
            continue;
        ck_assert_str_eq(s.admission.ops->name, "never");
        size_t j = 0;
        while (j < n && placed[j] != moe_tune_point_id(p))
            j++;
        ck_assert_uint_lt(j, 8);
        placed[j] = moe_tune_point_id(p);
        n = j == n ? n + 1 : n;
    }
    struct moe_tune_point always = {{2}}, never = {{2}};
    never.at[MOE_TUNE_ADMISSION] = (uint16_t)space.never;
    ck_assert_uint_eq(moe_tune_point_id(moe_tune_canonical(&space, never)),
                      moe_tune_point_id(always)); /* slots that nothing comes into */
    ck_assert_uint_eq(n, 3); /* misses on the CPU, on the GPU, on the faster side */
    moe_tune_space_release(&space);
}
END_TEST

/* --- refusals ------------------------------------------------------------------------------- */

static void expect_refusal(const struct world *w, const char *text)
{
    struct moe_tune_result result;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_tune(&w->options, &result, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, text) != NULL, "'%s' is not in '%s'", text, err.text);
}

START_TEST(refuses)
{
    struct world w;
    make_world(&w, UNIFORM, 2);
    w.options.budget_bytes = 100000000;
    expect_refusal(&w, "exceeds the");
    w.options.budget_bytes = 0;
    w.platform.gpu.memory_bytes = 1000;
    expect_refusal(&w, "dense weights and KV cache of model 'tiny' take");
    w.platform.gpu.memory_bytes = 100000000;
    w.model.n_experts = 8;
    expect_refusal(&w, "but model 'tiny' has 2, 8, 1");
    w.model.n_experts = EXPERTS;
    memset(w.trace.tokens.phase, MOE_PREFILL, w.trace.tokens.n_tokens);
    expect_refusal(&w, "0 decode passes");
    w.trace.tokens.phase[5] = MOE_DECODE;
    expect_refusal(&w, "1 decode pass,");
    moe_trace_release(&w.trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tune");
    TCase *tc = tcase_create("tune");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, a_fast_cpu_needs_no_cache);
    tcase_add_test(tc, no_expert_fits);
    tcase_add_test(tc, popular_experts_are_placed);
    tcase_add_test(tc, drifting_experts_are_followed);
    tcase_add_loop_test(tc, held_out_sequences_are_never_seen, 0, LAYERS + 1);
    tcase_add_loop_test(tc, the_best_grid_is_the_best, 0, 4);
    tcase_add_test(tc, threads_change_nothing);
    tcase_add_test(tc, equal_but_for_rounding);
    tcase_add_test(tc, intervals_by_hand);
    tcase_add_test(tc, the_best_that_moves_is_kept_and_varied);
    tcase_add_test(tc, all_strategies_can_be_written);
    tcase_add_test(tc, what_has_no_effect_is_one_strategy);
    tcase_add_test(tc, refuses);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
