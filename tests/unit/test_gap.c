/* The gap split: its parts sum to the whole, and each cause shows in its own part. */
#include "sim/gap.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"

#include <math.h>

static struct moe_result result;

static struct moe_sim_input input_of(const struct world *w)
{
    return (struct moe_sim_input){.trace = &w->trace,
                                  .model = &w->model,
                                  .platform = &w->platform,
                                  .strategy = &w->strategy,
                                  .bound = true};
}

/* The parts of a world, checked to sum up; result is set too. */
static struct moe_gap split(const struct world *w)
{
    struct moe_gap gap;
    struct moe_err err;
    struct moe_sim_input input = input_of(w);
    if (moe_simulate(&input, &result, &err) || moe_gap_split(&input, &result, &gap, &err))
        ck_abort_msg("%s", err.text);
    int64_t sum = (int64_t)gap.floor_ns;
    for (int i = 0; i < MOE_N_GAP_PARTS; i++) {
        sum += gap.part_ns[i];
        if (i == MOE_GAP_CAPACITY)
            ck_assert_int_eq(sum, (int64_t)gap.bound_ns);
    }
    ck_assert_int_eq(sum, (int64_t)result.decode_ns);
    ck_assert_uint_eq(gap.decode_ns, result.decode_ns);
    ck_assert_double_eq((double)gap.bound_ns * 1e-6 / (double)result.decode_tokens,
                        result.bound_ms);
    for (int i = MOE_GAP_COLD; i <= MOE_GAP_CONFLICT; i++)
        ck_assert_msg(gap.part_ns[i] >= 0, "part %d: %lld", i, (long long)gap.part_ns[i]);
    return gap;
}

/* One layer, top 1: token i uses expert[i]. Experts on the GPU are ten times as fast, and the link
 * is too slow to help. */
static struct world row(const char *geometry, uint64_t n, const moe_expert *expert)
{
    struct world w = {.model = tiny_model(1, 8, 1),
                      .platform = tiny_platform(),
                      .strategy = load_strategy("collab"),
                      .trace = tiny_trace(1, 8, 1, n, expert)};
    w.platform.cpu.point[0].ms = 0.07;
    w.platform.link.h2d_pinned_gb_per_s = w.platform.link.h2d_pageable_gb_per_s = 0.01;
    set_key(&w.strategy, "geometry", geometry);
    return w;
}

static void fast_link(struct world *w)
{
    w->platform.link.copy_setup_us = 0;
    w->platform.link.h2d_pinned_gb_per_s = 1e9;
    w->platform.dram.read_gb_per_s = 1e5;
}

static void ck_zero(const struct moe_gap *gap, const int *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(gap->part_ns[parts[i]] == 0, "part %d: %lld", parts[i],
                      (long long)gap->part_ns[parts[i]]);
}

#define CK_ZERO(gap, ...)                                                                          \
    ck_zero(gap, (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static const moe_expert once[] = {0, 1, 2, 3, 4, 5, 6, 7};
static const moe_expert cycle[] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};

/* Every expert once: no slots help, and no strategy is to blame. */
START_TEST(first_uses_are_cold)
{
    struct world w = row("1x8", 8, once);
    struct moe_gap gap = split(&w);
    ck_assert_int_gt(gap.part_ns[MOE_GAP_COLD], 0);
    CK_ZERO(&gap, MOE_GAP_CAPACITY, MOE_GAP_CONFLICT, MOE_GAP_VICTIM, MOE_GAP_ADMISSION,
            MOE_GAP_PREFETCH);
    moe_trace_release(&w.trace);
}
END_TEST

/* Four experts in turn: four slots lack nothing but the first uses, two lack capacity, which is
 * what they cannot hold by the best of rules. */
START_TEST(few_slots_are_capacity)
{
    struct world w = row("1x4", 16, cycle), few = row("1x2", 16, cycle);
    struct moe_gap gap = split(&w), less = split(&few);
    CK_ZERO(&gap, MOE_GAP_CAPACITY, MOE_GAP_CONFLICT, MOE_GAP_VICTIM);
    ck_assert_int_eq(gap.part_ns[MOE_GAP_COLD], less.part_ns[MOE_GAP_COLD]);
    ck_assert_int_gt(less.part_ns[MOE_GAP_CAPACITY], 0);
    CK_ZERO(&less, MOE_GAP_CONFLICT, MOE_GAP_ADMISSION);
    moe_trace_release(&w.trace);
    moe_trace_release(&few.trace);
}
END_TEST

/* LRU gives up what a cycle needs next; opt is not blamed for itself. A hit more is worth 70000 ns
 * on the CPU and the way there and back, less 7000 on the GPU. */
START_TEST(a_bad_choice_is_victim)
{
    struct world w = row("1x3", 16, cycle);
    fast_link(&w);
    struct moe_gap gap = split(&w);
    ck_assert_uint_eq(result.decode.hits, 0);
    CK_ZERO(&gap, MOE_GAP_CONFLICT, MOE_GAP_ADMISSION, MOE_GAP_PREFETCH, MOE_GAP_LATE_FILL);
    set_key(&w.strategy, "policy", "opt");
    struct moe_gap best = split(&w);
    CK_ZERO(&best, MOE_GAP_VICTIM, MOE_GAP_LATE_FILL);
    ck_assert_uint_eq(result.decode.hits, 9); /* three of each four after the first */
    ck_assert_int_eq(gap.part_ns[MOE_GAP_VICTIM],
                     (int64_t)result.decode.hits * (70000 + 3000 + 4000 - 7000));
    moe_trace_release(&w.trace);
}
END_TEST

START_TEST(what_is_not_fetched_is_admission)
{
    struct world w = row("1x4", 16, cycle);
    fast_link(&w);
    set_key(&w.strategy, "admission", "never");
    struct moe_gap gap = split(&w);
    CK_ZERO(&gap, MOE_GAP_CAPACITY, MOE_GAP_CONFLICT, MOE_GAP_VICTIM, MOE_GAP_PREFETCH,
            MOE_GAP_LATE_FILL);
    ck_assert_int_eq(gap.part_ns[MOE_GAP_ADMISSION], 12 * 70000);
    moe_trace_release(&w.trace);
}
END_TEST

/* A copy takes longer than the token that could use it. */
START_TEST(slow_copies_are_late_fill)
{
    struct world w = row("1x4", 16, cycle);
    struct moe_gap gap = split(&w);
    ck_assert_int_gt(gap.part_ns[MOE_GAP_LATE_FILL], 0);
    CK_ZERO(&gap, MOE_GAP_CAPACITY, MOE_GAP_CONFLICT, MOE_GAP_VICTIM, MOE_GAP_ADMISSION,
            MOE_GAP_PREFETCH);
    fast_link(&w);
    struct moe_gap fast = split(&w);
    CK_ZERO(&fast, MOE_GAP_LATE_FILL);
    moe_trace_release(&w.trace);
}
END_TEST

/* Layer 1 asks for one expert, but all slots are layer 0's. */
START_TEST(slots_of_other_layers_are_conflict)
{
    const moe_expert experts[] = {0, 5, 1, 5, 2, 5, 3, 5, 4, 5, 5, 5, 6, 5, 7, 5};
    struct world w = {.model = tiny_model(2, 8, 1),
                      .platform = tiny_platform(),
                      .strategy = load_strategy("collab"),
                      .trace = tiny_trace(2, 8, 1, 8, experts)};
    w.platform.cpu.point[0].ms = 0.07;
    set_key(&w.strategy, "geometry", "1x2");
    struct moe_gap gap = split(&w);
    ck_assert_int_gt(gap.part_ns[MOE_GAP_CONFLICT], 0);
    CK_ZERO(&gap, MOE_GAP_CAPACITY, MOE_GAP_VICTIM);
    set_key(&w.strategy, "geometry", "global:2");
    struct moe_gap pooled = split(&w);
    CK_ZERO(&pooled, MOE_GAP_CONFLICT);
    moe_trace_release(&w.trace);
}
END_TEST

/* Without slots all simulations are the same run; what is above the bound is how it computes. */
START_TEST(without_slots_all_is_dispatch)
{
    struct world w = row("none", 16, cycle);
    struct moe_gap gap = split(&w);
    CK_ZERO(&gap, MOE_GAP_CONFLICT, MOE_GAP_VICTIM, MOE_GAP_ADMISSION, MOE_GAP_PREFETCH,
            MOE_GAP_LATE_FILL);
    ck_assert_int_eq(gap.part_ns[MOE_GAP_DISPATCH], (int64_t)(gap.decode_ns - gap.bound_ns));
    moe_trace_release(&w.trace);
}
END_TEST

/* The token before tells what the second layer uses. */
START_TEST(a_prefetcher_has_its_part)
{
    const moe_expert same[] = {2, 3, 2, 3, 2, 3, 2, 3};
    struct world w = {.model = tiny_model(2, 8, 1),
                      .platform = tiny_platform(),
                      .strategy = load_strategy("collab"),
                      .trace = tiny_trace(2, 8, 1, 4, same)};
    set_key(&w.strategy, "geometry", "2x4");
    set_key(&w.strategy, "admission", "never");
    fast_link(&w);
    struct moe_gap none = split(&w);
    set_key(&w.strategy, "prefetcher", "previous-token");
    struct moe_gap gap = split(&w);
    CK_ZERO(&none, MOE_GAP_PREFETCH);
    ck_assert_int_eq(gap.part_ns[MOE_GAP_PREFETCH], -3 * (30000 + 3000 + 4000 - 7000));
    CK_ZERO(&gap, MOE_GAP_LATE_FILL);
    ck_assert_int_eq(gap.part_ns[MOE_GAP_ADMISSION], none.part_ns[MOE_GAP_ADMISSION]);
    moe_trace_release(&w.trace);
}
END_TEST

/* As many tokens as the result has. */
START_TEST(a_part_of_a_trace)
{
    struct world w = row("1x3", 16, cycle), whole = row("1x3", 9, cycle);
    struct moe_gap gap, same = split(&whole);
    struct moe_err err;
    struct moe_sim_input input = input_of(&w);
    input.max_tokens = 9;
    ck_assert_int_eq(moe_simulate(&input, &result, &err), MOE_OK);
    input.max_tokens = 0;
    ck_assert_int_eq(moe_gap_split(&input, &result, &gap, &err), MOE_OK);
    ck_assert_uint_eq(gap.decode_ns, same.decode_ns);
    ck_assert_uint_eq(gap.floor_ns, same.floor_ns);
    moe_trace_release(&w.trace);
    moe_trace_release(&whole.trace);
}
END_TEST

START_TEST(random_worlds_sum_up)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 17);
    int n_late = 0;
    for (int i = 0; i < 1500; i++) {
        struct world w = random_world(&rng);
        if (i % 4 == 0) /* rules that ask for costs */
            set_key(&w.strategy, "admission", PICK(&rng, "pay-back:half_life=4", "q-star"));
        if (i % 5 == 0)
            set_key(&w.strategy, "policy", "opt-time");
        struct moe_gap gap = split(&w);
        n_late += gap.part_ns[MOE_GAP_LATE_FILL] != 0;
        moe_trace_release(&w.trace);
    }
    ck_assert_int_gt(n_late, 100);
}
END_TEST

START_TEST(cells_are_per_token)
{
    struct moe_gap gap = {.floor_ns = 4000000, .part_ns = {[MOE_GAP_LATE_FILL] = -1000000}};
    struct moe_table *table = moe_table_new();
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    moe_table_row(table);
    moe_gap_cells(table, &gap, 2);
    ck_assert_int_eq(moe_table_write_tsv(table, out, NULL), MOE_OK);
    fclose(out);
    ck_assert_str_eq(text, "gap_floor_ms_per_token\tgap_cold_ms_per_token\t"
                           "gap_capacity_ms_per_token\tgap_conflict_ms_per_token\t"
                           "gap_dispatch_ms_per_token\tgap_victim_ms_per_token\t"
                           "gap_admission_ms_per_token\tgap_prefetch_ms_per_token\t"
                           "gap_late_fill_ms_per_token\n2\t0\t0\t0\t0\t0\t0\t0\t-0.5\n");
    free(text);
    moe_table_free(table);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gap");
    TCase *tc = tcase_create("gap");
    tcase_add_test(tc, first_uses_are_cold);
    tcase_add_test(tc, few_slots_are_capacity);
    tcase_add_test(tc, a_bad_choice_is_victim);
    tcase_add_test(tc, what_is_not_fetched_is_admission);
    tcase_add_test(tc, slow_copies_are_late_fill);
    tcase_add_test(tc, slots_of_other_layers_are_conflict);
    tcase_add_test(tc, without_slots_all_is_dispatch);
    tcase_add_test(tc, a_prefetcher_has_its_part);
    tcase_add_test(tc, a_part_of_a_trace);
    tcase_add_test(tc, random_worlds_sum_up);
    tcase_add_test(tc, cells_are_per_token);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
