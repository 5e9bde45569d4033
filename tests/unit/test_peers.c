/* The strategies of other projects: what defines each of them, on small traces, with exact times.
 * The numbers of the tiny machine are in sim_case.h. */
#include "base/file.h"
#include "sim/prefetch_value.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"

/* Of layers 0 and 1; no two tokens that follow each other share an expert of a layer. */
static const moe_expert turns[] = {0, 1, 2, 3, 2, 3, 0, 1};
static const moe_expert same[] = {0, 1, 2, 3, 0, 1, 2, 3};

enum { LAYER = 10410, GPU = 7000, COPY = 61000, PAGEABLE = 121000, END = 22000 };

/* Scores and lookahead scores of T tokens, which say nothing until they are set. */
static void add_parts(struct world *w)
{
    const struct moe_trace_info *info = &w->trace.info;
    struct moe_tokens *tokens = &w->trace.tokens;
    size_t n = (size_t)tokens->n_tokens * info->n_layers * info->n_experts;
    free(tokens->score);
    free(tokens->lookahead);
    tokens->score = calloc(n, sizeof *tokens->score);
    tokens->lookahead = calloc(n, sizeof *tokens->lookahead);
    ck_assert(tokens->score && tokens->lookahead);
}

START_TEST(on_demand_pinned_and_pageable)
{
    struct world w = world_of("deepspeed-inference", "none", 1, same);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 2 * (LAYER + 2 * COPY + GPU) + END);
    ck_assert_uint_eq(r.h2d_bytes, 4 * 600000);
    w = world_of("accelerate", "none", 1, same);
    r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 2 * (LAYER + 2 * PAGEABLE + GPU) + END);
    ck_assert_uint_eq(r.cpu_experts, 0);
}
END_TEST

/* Token 0 fetches layer 0 on demand until 132410, layer 1 until 254410, whose second expert ends at
 * 261410, and the token at 283410. Meanwhile the next token's layer 0 is on its way: from then on
 * a token takes its four copies and nothing else. */
START_TEST(pre_gated_ideal_is_link_bound)
{
    struct world w = world_of("pre-gated-ideal", "global:4", 2, turns);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 283410 + 4 * COPY);
    ck_assert_uint_eq(r.decode.misses, 2);
    ck_assert_uint_eq(r.prefetches.queued, 6);
    ck_assert_uint_eq(r.prefetches.late, 6);
    w = world_of("pre-gated-ideal", "global:4", 4,
                 (const moe_expert[]){0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3, 0, 1});
    ck_assert_uint_eq(run(&w).decode_ns, 283410 + 3 * 4 * COPY);
}
END_TEST

/* Token 1 begins with copies on demand: dense until 293822, copies until 415822, layer 1's until
 * 537822, then an expert and the end. */
START_TEST(pre_gated_fetches_the_first_layer)
{
    struct world w = world_of("pre-gated", "global:4", 2, turns);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 293822 + 4 * COPY + GPU + END);
    ck_assert_uint_eq(r.decode.misses, 4);
    ck_assert_uint_eq(r.prefetches.late, 4);
}
END_TEST

/* Where computing takes longer than fetching, a layer takes as long as it computes. */
START_TEST(pre_gated_ideal_is_compute_bound)
{
    struct world w = world_of("pre-gated-ideal", "global:4", 2, turns);
    w.platform.gpu.read_gb_per_s = 1; /* expert 601000, dense 41000 and more, head 220000 */
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.prefetches.useful + r.prefetches.late, 6);
    /* waits for the first copy only; all other time is the GPU's or the host's */
    ck_assert_uint_eq(r.cause.copy_wait_ns, COPY);
}
END_TEST

/* The gate names 2 and 0 of layer 1, where one is fetched: 2, from 132410 to 193410. Layer 1 knows
 * its route at 149820; 3 is copied on demand behind it. */
START_TEST(mixtral_offloading_guesses_one)
{
    struct world w = world_of("mixtral-offloading", "2x2", 1, same);
    struct moe_result r;
    struct moe_err err;
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE); /* no lookahead */
    add_parts(&w);
    w.trace.tokens.lookahead[2] = 2;
    w.trace.tokens.lookahead[0] = 1;
    r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 132410 + 2 * COPY + GPU + END);
    ck_assert_uint_eq(r.prefetches.queued, 1);
    ck_assert_uint_eq(r.prefetches.late, 1);
    ck_assert_uint_eq(r.decode.misses, 3);
}
END_TEST

/* Four experts a token: with half the slots an LRU of all layers never hits, with all it always
 * does.
 */
START_TEST(llama_cpp_lru_falls_off_the_cliff)
{
    for (unsigned slots = 2; slots <= 4; slots += 2) {
        static const moe_expert often[] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
        char geometry[32];
        snprintf(geometry, sizeof geometry, "global:%u", slots);
        struct world w = world_of("llama-cpp-lru", geometry, 4, often);
        struct moe_result r = run(&w);
        ck_assert_uint_eq(r.decode.hits, slots == 2 ? 0 : 12);
        ck_assert_uint_eq(r.cpu_experts, 0);
        ck_assert_uint_eq(r.h2d_bytes, (uint64_t)(slots == 2 ? 16 : 4) * 600000);
    }
}
END_TEST

/* What is on the GPU stays; everything else is the CPU's, and nothing is copied. */
START_TEST(fixed_sets_do_not_move)
{
    static const char *const names[] = {"fiddler", "ktransformers"};
    for (int i = 0; i < 2; i++) {
        struct world w = world_of(names[i], "2x1", 2, turns);
        struct moe_result r = run(&w);
        ck_assert_uint_eq(r.preloads.experts, 2);
        ck_assert_uint_eq(r.decode.hits, 2); /* expert 0 of layer 0, then of layer 1 */
        ck_assert_uint_eq(r.cpu_experts, 6);
        ck_assert_uint_eq(r.decode.fills, 0);
        ck_assert_uint_eq(r.h2d_bytes, 0);
    }
}
END_TEST

/* Expert 0 of each layer is there. A prompt of three tokens uses experts 2, 1, 0 of layer 0 three,
 * two and one times: 2 takes the slot; 0 and 1 of layer 1 three times each: not 1.05 times as many,
 * 0 stays. Then decode. Layer 0 computes what its router chose; layer 1 what layer 0's input
 * predicted, 3 and 2, none of which is there: 2 gives way to 0, and 3 is the CPU's, which has begun
 * it with layer 0. Nothing is fetched any more. */
START_TEST(daop_allocates_predicts_and_replaces)
{
    static const moe_expert routes[] = {2, 1, 0, 1, 2, 1, 1, 0, 2, 0, 0, 1, 2, 3, 2, 1};
    struct world w = world_of("daop", "2x1", 4, routes);
    struct moe_tokens *tokens = &w.trace.tokens;
    struct moe_result r;
    struct moe_err err;
    char *text;
    size_t size;
    for (uint32_t t = 0; t < 4; t++) {
        tokens->phase[t] = t < 3 ? MOE_PREFILL : MOE_DECODE;
        tokens->step[t] = t < 3 ? 0 : 1;
    }
    set_key(&w.strategy, "reroute.first", "1");
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "is lossy") != NULL, "%s", err.text);
    w.strategy.lossy = true;
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE); /* no scores */
    add_parts(&w);
    tokens->lookahead[(3 * 2 + 0) * 4 + 3] = 2;
    tokens->lookahead[(3 * 2 + 0) * 4 + 2] = 1;
    struct moe_decision_log log = {.stream = open_memstream(&text, &size)};
    const struct moe_sim_input in = {.trace = &w.trace,
                                     .model = &w.model,
                                     .platform = &w.platform,
                                     .strategy = &w.strategy,
                                     .decisions = &log};
    ck_assert_msg(!moe_simulate(&in, &r, &err), "%s", err.text);
    ck_assert_int_eq(fclose(log.stream), 0);
    const char *decode = strstr(text, "1 0 decode");
    ck_assert_ptr_nonnull(decode);
    ck_assert_str_eq(decode, "1 0 decode 2:hit:0:gpu:- 3:miss:-:cpu:-\n"
                             "1 1 decode 3:miss:-:early:- 0:hit:1:gpu:- lossy:2,1 early:3\n");
    ck_assert_uint_eq(r.decode.fills, 0);
    ck_assert_uint_eq(r.prefill.fills, 1);
    ck_assert_uint_eq(r.rerouted.replaced, 2);
    ck_assert_uint_eq(r.rerouted.choices, 4);
    free(text);
    moe_trace_release(&w.trace);
}
END_TEST

/* q = 30000 / (30000 + 61000): of four misses one is fetched, and computed where it was fetched to.
 */
START_TEST(freetoken_computes_what_it_fetches)
{
    struct world w = world_of("freetoken", "global:3", 1, same);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode.fills, 1);
    ck_assert_uint_eq(r.gpu_experts, 1);
    ck_assert_uint_eq(r.cpu_experts, 3);
    ck_assert_uint_eq(r.h2d_bytes, 600000);
}
END_TEST

/* The side that ends first: with a slow link the CPU, with a fast one the GPU. */
START_TEST(hybrimoe_takes_the_faster_side)
{
    for (int fast = 0; fast < 2; fast++) {
        struct world w = world_of("hybrimoe", "2x2", 2, turns);
        add_parts(&w);
        set_key(&w.strategy, "prefetcher", "none");
        if (fast)
            w.platform.link.h2d_pinned_gb_per_s = 100; /* copy 7000 */
        struct moe_result r = run(&w);
        ck_assert_uint_eq(r.cpu_experts, fast ? 0 : 8);
        ck_assert_uint_eq(r.gpu_experts, fast ? 8 : 0);
    }
    struct world w = world_of("hybrimoe", "2x2", 2, turns);
    struct moe_result r;
    struct moe_err err;
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "hybrimoe-mrs"));
    moe_trace_release(&w.trace);
}
END_TEST

/* Sequences 0 and 2 are alike, 1 pushes their experts out: then layer 1's are fetched ahead. */
static struct world three_requests(const char *strategy)
{
    static const moe_expert routes[] = {0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1};
    struct world w = world_of(strategy, "global:4", 3, routes);
    for (uint32_t t = 0; t < 3; t++) {
        w.trace.tokens.sequence[t] = t;
        w.trace.tokens.step[t] = 0;
    }
    return w;
}

START_TEST(moe_infinity_remembers_requests)
{
    struct world w = three_requests("moe-infinity");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.cpu_experts, 0);
    ck_assert_uint_ge(r.prefetches.late + r.prefetches.useful, 2);
    ck_assert_uint_le(r.decode.misses, 10);
    w = three_requests("moe-infinity-code");
    r = run(&w);
    ck_assert_uint_eq(r.prefetches.queued, 0);
    ck_assert_uint_eq(r.cpu_experts, 0);
}
END_TEST

/* Layer 1 used 0 and 1 twice, then 2 and 3: the more popular ones were fetched, in vain. */
START_TEST(brainstorm_goes_by_popularity)
{
    static const moe_expert routes[] = {0, 1, 0, 1, 2, 3, 0, 1, 0, 1, 2, 3};
    struct world w = world_of("brainstorm", "global:4", 3, routes);
    set_key(&w.strategy, "seed", "1");
    struct moe_result r = run(&w);
    /* token 0: by number, which is right; token 1: there already; token 2: there, and wrong */
    ck_assert_uint_eq(r.prefetches.queued, 2);
    ck_assert_uint_eq(r.prefetches.late, 2);
    ck_assert_uint_eq(r.cpu_experts, 0);
}
END_TEST

START_TEST(vllm_has_slots_of_its_own_for_each_layer)
{
    struct world w = world_of("vllm-offload", "2x2", 2, same);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode.hits, 4);
    ck_assert_uint_eq(r.h2d_bytes, 4 * 600000);
    ck_assert_uint_eq(r.cpu_experts, 0);
}
END_TEST

/* The second miss of a layer: 3000 + 60000 + 4000 on the CPU, 51000 + 7000 by a link of 12 GB/s. */
START_TEST(fastest_splits_a_layer)
{
    struct world w = world_of("collab", "none", 1, same);
    set_key(&w.strategy, "dispatch.miss", "fastest");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 2 * (LAYER + 67000) + END); /* 68000 on the GPU */
    w = world_of("collab", "none", 1, same);
    set_key(&w.strategy, "dispatch.miss", "fastest");
    w.platform.link.h2d_pinned_gb_per_s = 12;
    r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 2 * (LAYER + 58000) + END);
    ck_assert_uint_eq(r.cpu_experts, 2);
    ck_assert_uint_eq(r.gpu_experts, 2);
}
END_TEST

/* At 12 GB/s again, with slots for layer 0: 1 is streamed, 0 is copied from 61410 to 112410 when
 * the CPU has computed it. Layer 1 knows its route at 78820, when the link is busy for 33590 more:
 * both go to the CPU. */
START_TEST(fastest_knows_a_busy_link)
{
    struct world w = world_of("collab", "1x2", 1, same);
    set_key(&w.strategy, "dispatch.miss", "fastest");
    w.platform.link.h2d_pinned_gb_per_s = 12;
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 78820 + 67000 + END);
    ck_assert_uint_eq(r.cpu_experts, 3);
}
END_TEST

/* Copies from 73410 on: at 5 GB/s the first lands at 194410, the second at 315410. Token 1 asks at
 * 187232: 0 is waited for, 1 goes to the CPU. */
START_TEST(fastest_of_what_is_in_flight)
{
    struct world w = world_of("collab", "1x2", 2, same);
    set_key(&w.strategy, "dispatch.in_flight", "fastest");
    w.platform.link.h2d_pinned_gb_per_s = 5;
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 187232 + 37000 + 10412 + 67000 + END);
    ck_assert_uint_eq(r.decode.inflight_hits, 2);
    ck_assert_uint_eq(r.cpu_experts, 7);
    ck_assert_uint_eq(r.gpu_experts, 1);
}
END_TEST

/* Layer 1 is asked at 149820, when its first copy runs and its second waits: the CPU computes both,
 * though what is missing altogether is waited for. */
START_TEST(what_is_in_flight_goes_to_the_cpu_also_where_misses_wait)
{
    struct world w = world_of("collab", "2x2", 1, same);
    set_key(&w.strategy, "dispatch.miss", "wait");
    set_key(&w.strategy, "dispatch.in_flight", "cpu");
    set_key(&w.strategy, "prefetcher", "oracle");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode.inflight_hits, 2);
    ck_assert_uint_eq(r.gpu_experts, 2);
    ck_assert_uint_eq(r.cpu_experts, 2);
    ck_assert_uint_eq(r.decode_ns, LAYER + 2 * COPY + GPU + LAYER + 67000 + END);
}
END_TEST

/* Layer 0 has no slots, so that the cache has seen no event of decode when layer 1's are fetched.
 */
START_TEST(prefetches_of_the_first_layer_are_of_decode)
{
    struct world w = world_of("collab", "per-layer:0,2", 1, same);
    set_key(&w.strategy, "prefetcher", "oracle");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.prefetches.queued, 2);
    ck_assert_uint_eq(r.decode.fills, 2);
    ck_assert_uint_eq(r.prefill.fills, 0);
}
END_TEST

/* A wrong guess that waits behind a copy on demand is taken back; a right one passes wrong ones. */
START_TEST(useless_guesses_are_taken_back)
{
    struct world w = world_of("deepspeed-inference", "global:8", 1, same);
    set_key(&w.strategy, "admission", "always");
    set_key(&w.strategy, "prefetcher", "popularity:n=4");
    struct moe_result r = run(&w);
    /* 0, 1, 2, 3 of layer 1 are queued at 10410 behind two demands. At 149820 0 is being copied; 2
     * and 3 are copied next, 1 never */
    ck_assert_uint_eq(r.prefetches.queued, 4);
    ck_assert_uint_eq(r.prefetches.late, 2);
    ck_assert_uint_eq(r.prefetches.cancelled, 1);
    ck_assert_uint_eq(r.prefetches.unused, 1);
    ck_assert_uint_eq(r.h2d_bytes, 5 * 600000);
    ck_assert_uint_eq(r.decode_ns, LAYER + 5 * COPY + GPU + END);
}
END_TEST

/* c = 61000; g = 30000 - 7000 where misses are the CPU's; where they are waited for, the dense part
 * and an expert. */
START_TEST(break_even)
{
    struct world w = world_of("collab", "2x1", 2, turns);
    struct moe_prefetch_value v;
    struct moe_err err;
    struct moe_sim_input in = {
        .trace = &w.trace, .model = &w.model, .platform = &w.platform, .strategy = &w.strategy};
    set_key(&w.strategy, "prefetcher", "oracle");
    set_key(&w.strategy, "admission", "never");
    ck_assert_int_eq(moe_prefetch_value(&in, &v, &err), MOE_OK);
    ck_assert_double_eq_tol(v.copy_ms, 0.061, 1e-12);
    ck_assert_double_eq_tol(v.gain_ms, 0.023, 1e-12);
    ck_assert_double_eq_tol(v.break_even, 61.0 / 23, 1e-12);
    ck_assert_uint_eq(v.without.prefetches.queued, 0);
    set_key(&w.strategy, "admission", "always");
    set_key(&w.strategy, "dispatch.miss", "wait");
    ck_assert_int_eq(moe_prefetch_value(&in, &v, &err), MOE_OK);
    ck_assert_double_eq_tol(v.copied_share, 1, 1e-12);
    ck_assert_double_eq_tol(v.gain_ms, 1e-6 * (LAYER + GPU), 1e-12);
    ck_assert_double_eq_tol(v.break_even, 61000.0 / (LAYER + GPU + 61000), 1e-12);
    moe_trace_release(&w.trace);
}
END_TEST

/* Every strategy that is shipped has a source and runs on a trace that has what any of them needs.
 */
START_TEST(all_run)
{
    size_t n;
    char **names = moe_config_names("strategies", &n);
    ck_assert_uint_gt(n, 15);
    for (size_t i = 0; i < n; i++) {
        struct world w = world_of(names[i], "2x2", 2, turns);
        struct moe_result r;
        struct moe_err err = {0};
        add_parts(&w);
        w.strategy.lossy = moe_strategy_is_lossy(&w.strategy);
        ck_assert_str_eq(w.strategy.name, names[i]);
        ck_assert_uint_gt(strlen(w.strategy.source), 10);
        ck_assert_msg(try(&w, &r, &err) == MOE_OK, "%s: %s", names[i], err.text);
        ck_assert_uint_eq(r.cpu_experts + r.gpu_experts, 8);
        ck_assert_uint_eq(sum_of_causes(&r.cause), r.decode_ns);
        moe_trace_release(&w.trace);
    }
    moe_free_names(names, n);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peers");
    TCase *tc = tcase_create("peers");
    tcase_add_test(tc, on_demand_pinned_and_pageable);
    tcase_add_test(tc, pre_gated_ideal_is_link_bound);
    tcase_add_test(tc, pre_gated_fetches_the_first_layer);
    tcase_add_test(tc, pre_gated_ideal_is_compute_bound);
    tcase_add_test(tc, mixtral_offloading_guesses_one);
    tcase_add_test(tc, llama_cpp_lru_falls_off_the_cliff);
    tcase_add_test(tc, fixed_sets_do_not_move);
    tcase_add_test(tc, daop_allocates_predicts_and_replaces);
    tcase_add_test(tc, freetoken_computes_what_it_fetches);
    tcase_add_test(tc, hybrimoe_takes_the_faster_side);
    tcase_add_test(tc, moe_infinity_remembers_requests);
    tcase_add_test(tc, brainstorm_goes_by_popularity);
    tcase_add_test(tc, vllm_has_slots_of_its_own_for_each_layer);
    tcase_add_test(tc, fastest_splits_a_layer);
    tcase_add_test(tc, fastest_knows_a_busy_link);
    tcase_add_test(tc, fastest_of_what_is_in_flight);
    tcase_add_test(tc, what_is_in_flight_goes_to_the_cpu_also_where_misses_wait);
    tcase_add_test(tc, prefetches_of_the_first_layer_are_of_decode);
    tcase_add_test(tc, useless_guesses_are_taken_back);
    tcase_add_test(tc, break_even);
    tcase_add_test(tc, all_run);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
