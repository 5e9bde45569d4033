#include "sim/replay.h"

#include "base/rng.h"
#include "tests/unit/random_trace.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "traces/import.h"

#include <stdio.h>
#include <unistd.h>

#define QWEN "../shared/data/traces/qwen3-30b-a3b/qwen.route.csv"

static struct moe_err err;

/* Replays with the geometry and policy given as text; any failure fails the test. */
static struct moe_replay_result replay(const struct moe_trace *trace, const char *geometry_text,
                                       const char *policy_text,
                                       const struct moe_replay_options *options)
{
    struct moe_geometry geometry;
    struct moe_policy_spec policy;
    struct moe_replay_result result;
    ck_assert_msg(!moe_geometry_parse(geometry_text, trace->info.n_layers, trace->info.n_experts,
                                      trace->info.expert_bytes, &geometry, &err),
                  "%s", err.text);
    ck_assert_msg(!moe_policy_parse(policy_text, &policy, &err), "%s", err.text);
    ck_assert_msg(!moe_replay(trace, &geometry, &policy, options, &result, &err), "%s", err.text);
    moe_geometry_release(&geometry);
    return result;
}

/* As replay, for what must fail. */
static void expect_refusal(const struct moe_trace *trace, const char *policy_text,
                           const struct moe_replay_options *options, const char *words)
{
    struct moe_geometry geometry;
    struct moe_policy_spec policy;
    struct moe_replay_result result;
    ck_assert_int_eq(moe_geometry_parse("1x2", trace->info.n_layers, trace->info.n_experts, NULL,
                                        &geometry, &err),
                     MOE_OK);
    ck_assert_int_eq(moe_policy_parse(policy_text, &policy, &err), MOE_OK);
    ck_assert_int_eq(moe_replay(trace, &geometry, &policy, options, &result, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
    moe_geometry_release(&geometry);
}

/* One layer of 4 experts, top-2, decode: (0 1) (1 2) (0 1) (2 3). */
static struct moe_trace small_trace(unsigned parts)
{
    static const moe_expert expert[] = {0, 1, 1, 2, 0, 1, 2, 3};
    struct moe_trace trace = {.info = {.n_layers = 1, .n_experts = 4, .top_k = 2}};
    ck_assert_int_eq(moe_tokens_init(&trace.tokens, &trace.info, 4, parts, &err), MOE_OK);
    memcpy(trace.tokens.expert, expert, sizeof expert);
    for (uint32_t t = 0; t < 4; t++) {
        trace.tokens.step[t] = t;
        trace.tokens.phase[t] = MOE_DECODE;
    }
    return trace;
}

/* LRU with two slots, worked by hand. */
START_TEST(counts_by_hand)
{
    static const struct moe_counts want[] = {
        [MOE_CONTRACT_EVENT] = {.events = 4,
                                .any_hit_events = 2,
                                .lookups = 8,
                                .hits = 2,
                                .misses = 6,
                                .fills = 6,
                                .evictions = 4,
                                .useless_fills = 3},
        [MOE_CONTRACT_ACCESS] = {.events = 4,
                                 .any_hit_events = 1,
                                 .lookups = 8,
                                 .hits = 1,
                                 .misses = 7,
                                 .fills = 7,
                                 .evictions = 5,
                                 .useless_fills = 4},
    };
    struct moe_trace trace = small_trace(0);
    for (int i = 0; i < 4; i++) {
        enum moe_contract contract = i / 2 ? MOE_CONTRACT_ACCESS : MOE_CONTRACT_EVENT;
        struct moe_replay_options options = {.contract = contract, .generic = i % 2};
        struct moe_replay_result got = replay(&trace, "1x2", "lru", &options);
        ck_assert_mem_eq(&got.both, &want[contract], sizeof got.both);
        ck_assert_mem_eq(&got.total[MOE_DECODE], &want[contract], sizeof got.both);
        ck_assert_mem_eq(&got.layer[MOE_DECODE][0], &want[contract], sizeof got.both);
        ck_assert_uint_eq(got.tokens, 4);
        moe_replay_release(&got);
    }
    moe_trace_release(&trace);
}
END_TEST

/* The first two tokens as one prefill pass, the rest decode; two slots. */
START_TEST(a_pass_of_several_tokens)
{
    struct moe_trace trace = small_trace(0);
    trace.tokens.step[1] = 0;
    trace.tokens.phase[0] = trace.tokens.phase[1] = MOE_PREFILL;
    for (int generic = 0; generic < 2; generic++) {
        struct moe_replay_options options = {.generic = generic};
        /* one event of {0 1 2}: 0 and 1 are kept; then 0 and 1 hit, then 2 and 3 replace them */
        struct moe_replay_result got = replay(&trace, "1x2", "lru", &options);
        ck_assert_uint_eq(got.total[MOE_PREFILL].events, 1);
        ck_assert_uint_eq(got.total[MOE_PREFILL].lookups, 3);
        ck_assert_uint_eq(got.total[MOE_PREFILL].fills, 2);
        ck_assert_uint_eq(got.total[MOE_PREFILL].dropped_fills, 1);
        ck_assert_uint_eq(got.total[MOE_DECODE].hits, 2);
        ck_assert_uint_eq(got.total[MOE_DECODE].all_hit_events, 1);
        ck_assert_uint_eq(got.total[MOE_DECODE].evictions, 2);
        ck_assert_uint_eq(got.total[MOE_DECODE].useless_fills, 0);
        moe_replay_release(&got);
        options.phases = MOE_PHASES_DECODE; /* 0 1 miss, 2 3 miss */
        got = replay(&trace, "1x2", "lru", &options);
        ck_assert_uint_eq(got.tokens, 2);
        ck_assert_uint_eq(got.both.lookups, 4);
        ck_assert_uint_eq(got.both.hits, 0);
        moe_replay_release(&got);
        options = (struct moe_replay_options){.order = MOE_ORDER_TOKEN, .generic = generic};
        got = replay(&trace, "1x2", "lru", &options); /* 1 hits in the second token */
        ck_assert_uint_eq(got.total[MOE_PREFILL].events, 2);
        ck_assert_uint_eq(got.total[MOE_PREFILL].hits, 1);
        moe_replay_release(&got);
        options = (struct moe_replay_options){.contract = MOE_CONTRACT_ACCESS, .generic = generic};
        got = replay(&trace, "1x2", "lru", &options); /* 0 1 miss, 1 hits, 2 misses */
        ck_assert_uint_eq(got.total[MOE_PREFILL].events, 1);
        ck_assert_uint_eq(got.total[MOE_PREFILL].lookups, 4);
        ck_assert_uint_eq(got.total[MOE_PREFILL].hits, 1);
        moe_replay_release(&got);
    }
    moe_trace_release(&trace);
}
END_TEST

START_TEST(cold_forgets_at_each_sequence)
{
    struct moe_trace trace = small_trace(0);
    for (uint32_t t = 2; t < 4; t++) {
        trace.tokens.sequence[t] = 1;
        trace.tokens.step[t] = t - 2;
    }
    for (int generic = 0; generic < 2; generic++) {
        struct moe_replay_options options = {.generic = generic};
        struct moe_replay_result warm = replay(&trace, "all", "lru", &options);
        options.cold = true;
        struct moe_replay_result cold = replay(&trace, "all", "lru", &options);
        ck_assert_uint_eq(warm.both.hits, 4); /* 1, 0 1, 2 */
        ck_assert_uint_eq(cold.both.hits, 1); /* 1 */
        ck_assert_uint_eq(cold.both.evictions, 0);
        moe_replay_release(&warm);
        moe_replay_release(&cold);
    }
    moe_trace_release(&trace);
}
END_TEST

START_TEST(admission_is_asked)
{
    struct moe_trace trace = small_trace(0);
    struct moe_admission_spec quota;
    ck_assert_int_eq(moe_admission_parse("quota:quota=1", &quota, &err), MOE_OK);
    for (int access = 0; access < 2; access++) {
        struct moe_replay_options options = {
            .contract = access ? MOE_CONTRACT_ACCESS : MOE_CONTRACT_EVENT, .admission = &quota};
        struct moe_replay_result got = replay(&trace, "all", "lru", &options);
        ck_assert_uint_eq(got.both.fills, 3); /* 0, 1, nothing, 2 */
        ck_assert_uint_eq(got.both.hits, 2);  /* 0 1 in the third token */
        moe_replay_release(&got);
    }
    moe_trace_release(&trace);
}
END_TEST

/* What a policy that asks for it is told. */
static struct {
    uint32_t sequences, steps, routes;
    float first_score[16];
} told;

static void hear_sequence(void *state)
{
    (void)state;
    told.sequences++;
}

static void hear_step(void *state)
{
    (void)state;
    ck_assert_uint_gt(told.sequences, 0);
    told.steps++;
}

static void hear_route(void *state, const struct moe_route *route)
{
    (void)state;
    told.first_score[told.routes++] = route->score ? route->score[0] : -1;
}

START_TEST(policies_are_told)
{
    struct moe_trace trace = small_trace(MOE_HAS_SCORE);
    for (uint32_t t = 0; t < 4; t++) {
        trace.tokens.sequence[t] = t / 2;
        trace.tokens.step[t] = t % 2;
        trace.tokens.score[t * 4] = (float)t;
    }
    struct moe_policy_spec policy;
    struct moe_geometry geometry;
    struct moe_replay_result got;
    ck_assert_int_eq(moe_policy_parse("fifo", &policy, &err), MOE_OK);
    ck_assert_int_eq(moe_geometry_parse("1x2", 1, 4, NULL, &geometry, &err), MOE_OK);
    struct moe_policy_ops ops = *policy.ops;
    ops.needs |= MOE_NEEDS_SEQUENCE | MOE_NEEDS_SCORES;
    ops.on_sequence = hear_sequence;
    ops.on_step = hear_step;
    ops.on_route = hear_route;
    policy.ops = &ops;
    for (uint32_t access = 0; access < 2; access++) {
        struct moe_replay_options options = {.contract =
                                                 access ? MOE_CONTRACT_ACCESS : MOE_CONTRACT_EVENT};
        memset(&told, 0, sizeof told);
        ck_assert_msg(!moe_replay(&trace, &geometry, &policy, &options, &got, &err), "%s",
                      err.text);
        moe_replay_release(&got);
        ck_assert_uint_eq(told.sequences, 2);
        ck_assert_uint_eq(told.steps, 4);
        ck_assert_uint_eq(told.routes, access ? 8 : 4);
        /* under the access contract only the first expert of a token brings its scores */
        for (uint32_t i = 0; i < told.routes; i++) {
            const uint32_t token = access ? i / 2 : i;
            ck_assert_float_eq(told.first_score[i], access && i % 2 ? -1 : (float)token);
        }
    }
    ops.needs |= MOE_NEEDS_LOOKAHEAD;
    ck_assert_int_eq(
        moe_replay(&trace, &geometry, &policy, &(struct moe_replay_options){0}, &got, &err),
        MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "lookahead") != NULL, "%s", err.text);
    moe_geometry_release(&geometry);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(compares_with_the_log)
{
    static const uint8_t hit[] = {0, 0, 1, 0, 0, 0, 0, 0}; /* counts_by_hand, access */
    struct moe_trace trace = small_trace(MOE_HAS_LOG);
    for (int i = 0; i < 8; i++)
        trace.tokens.log_bytes[i] = hit[i] ? 0 : 100;
    struct moe_replay_options options = {.contract = MOE_CONTRACT_ACCESS, .compare_log = true};
    struct moe_replay_result got = replay(&trace, "1x2", "lru", &options);
    ck_assert_uint_eq(got.log_rows, 8);
    ck_assert_uint_eq(got.log_agree, 8);
    moe_replay_release(&got);
    trace.tokens.log_bytes[7] = 0;
    got = replay(&trace, "1x2", "lru", &options);
    ck_assert_uint_eq(got.log_agree, 7);
    moe_replay_release(&got);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(refuses_with_the_reason)
{
    struct moe_trace trace = small_trace(0);
    expect_refusal(&trace, "lru", &(struct moe_replay_options){.order = MOE_ORDER_FILE},
                   "execution order");
    expect_refusal(&trace, "lru", &(struct moe_replay_options){.compare_log = true},
                   "contract 'access'");
    expect_refusal(
        &trace, "lru",
        &(struct moe_replay_options){.contract = MOE_CONTRACT_ACCESS, .compare_log = true},
        "no engine log");
    trace.info.n_experts = 5;
    struct moe_geometry geometry;
    struct moe_policy_spec lru;
    struct moe_replay_result result;
    ck_assert_int_eq(moe_geometry_parse("1x2", 1, 4, NULL, &geometry, &err), MOE_OK);
    ck_assert_int_eq(moe_policy_parse("lru", &lru, &err), MOE_OK);
    ck_assert_int_eq(
        moe_replay(&trace, &geometry, &lru, &(struct moe_replay_options){0}, &result, &err),
        MOE_ERR_USAGE);
    moe_geometry_release(&geometry);
    moe_trace_release(&trace);
}
END_TEST

/* hits of every geometry, one by one */
START_TEST(grid_equals_each_geometry)
{
    static const char *const policies[] = {"lru", "fifo", "lfu", "random", "opt", "clock"};
    struct moe_rng rng;
    moe_rng_init(&rng, 7);
    struct random_shape shape = {
        .n_layers = 4, .n_experts = 5, .top_k = 2, .n_tokens = 120, .absent = true, .many = true};
    struct moe_trace trace;
    random_trace(&rng, &shape, &trace);
    for (int i = 0; i < 24; i++) {
        struct moe_replay_options options = {
            .contract = i % 2 ? MOE_CONTRACT_ACCESS : MOE_CONTRACT_EVENT, .generic = i % 4 > 1};
        const char *name = policies[i / 4];
        struct moe_policy_spec policy;
        uint64_t *hits;
        ck_assert_int_eq(moe_policy_parse(name, &policy, &err), MOE_OK);
        ck_assert_int_eq(moe_replay_grid(&trace, &policy, &options, 5, &hits, &err), MOE_OK);
        for (uint32_t n = 0; n <= 4; n++)
            for (uint32_t m = 0; m <= 5; m++) {
                char text[32] = "none";
                if (n > 0 && m > 0)
                    snprintf(text, sizeof text, "%ux%u", n, m);
                struct moe_replay_result one = replay(&trace, text, name, &options);
                ck_assert_msg(hits[n * 6 + m] == one.total[MOE_DECODE].hits, "%s %s", name, text);
                moe_replay_release(&one);
            }
        free(hits);
    }
    moe_trace_release(&trace);
}
END_TEST

START_TEST(grid_refuses)
{
    struct moe_trace trace = small_trace(0);
    struct moe_policy_spec lru;
    struct moe_admission_spec quota;
    uint64_t *hits;
    ck_assert_int_eq(moe_policy_parse("lru", &lru, &err), MOE_OK);
    ck_assert_int_eq(moe_admission_parse("quota", &quota, &err), MOE_OK);
    struct moe_replay_options options = {0};
    ck_assert_int_eq(moe_replay_grid(&trace, &lru, &options, 5, &hits, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "5 exceeds the 4") != NULL, "%s", err.text);
    options.admission = &quota;
    ck_assert_int_eq(moe_replay_grid(&trace, &lru, &options, 4, &hits, &err), MOE_ERR_USAGE);
    moe_trace_release(&trace);
}
END_TEST

static void expect_stream(const struct moe_trace *trace, const char *path, const char *policy_text,
                          const struct moe_replay_options *options)
{
    struct moe_reader *reader;
    struct moe_geometry geometry;
    struct moe_policy_spec policy;
    struct moe_replay_result streamed;
    ck_assert_int_eq(moe_policy_parse(policy_text, &policy, &err), MOE_OK);
    ck_assert_int_eq(moe_geometry_parse("3x3", trace->info.n_layers, trace->info.n_experts, NULL,
                                        &geometry, &err),
                     MOE_OK);
    ck_assert_msg(!moe_reader_open(&reader, path, &err), "%s", err.text);
    enum moe_status s = moe_replay_stream(reader, &geometry, &policy, options, &streamed, &err);
    if (policy.ops->needs & MOE_NEEDS_FUTURE) {
        ck_assert_int_eq(s, MOE_ERR_USAGE);
        ck_assert_msg(strstr(err.text, "load the whole trace") != NULL, "%s", err.text);
    } else {
        ck_assert_msg(s == MOE_OK, "%s", err.text);
        struct moe_replay_result whole = replay(trace, "3x3", policy_text, options);
        ck_assert_mem_eq(&streamed.total, &whole.total, sizeof whole.total);
        ck_assert_uint_eq(streamed.tokens, whole.tokens);
        moe_replay_release(&streamed);
        moe_replay_release(&whole);
    }
    moe_reader_close(reader);
    moe_geometry_release(&geometry);
}

static void describe(struct moe_trace *trace)
{
    const struct moe_tokens *x = &trace->tokens;
    trace->n_sequences = x->sequence[x->n_tokens - 1] + 1u;
    trace->sequences = calloc(trace->n_sequences, sizeof *trace->sequences);
    for (uint64_t t = 0; t < x->n_tokens; t++)
        trace->sequences[x->sequence[t]].n_tokens++;
    for (uint64_t i = 0; i < trace->n_sequences; i++) {
        trace->sequences[i].label = strdup("random");
        trace->sequences[i].category = strdup("");
    }
}

START_TEST(stream_equals_memory)
{
    char folder[256], path[300];
    temporary_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/trace.h5", folder);
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    struct random_shape shape = {
        .n_layers = 4, .n_experts = 9, .top_k = 3, .n_tokens = 20000, .absent = true, .many = true};
    struct moe_trace trace;
    random_trace(&rng, &shape, &trace);
    describe(&trace);
    ck_assert_msg(!moe_trace_save(path, &trace, &err), "%s", err.text);
    struct moe_replay_options options = {.cold = true};
    expect_stream(&trace, path, "lru", &options);
    expect_stream(&trace, path, "lfu", &options);
    expect_stream(&trace, path, "opt", &options);
    options.contract = MOE_CONTRACT_ACCESS;
    options.generic = true;
    expect_stream(&trace, path, "lru", &options);
    moe_trace_release(&trace);
    remove_folder(folder);
}
END_TEST

/* The engine's own hit column: one LRU over all layers, 4000 MiB, per access, rows in file order.
 * The data's note says 99.99 % of 44,766 rows and a decode hit rate of 0.803. */
START_TEST(agrees_with_a_real_engine)
{
    if (access(QWEN, R_OK) != 0) {
        printf("skipped: '%s' is not there\n", QWEN);
        return;
    }
    const struct moe_format *format;
    struct moe_trace trace;
    ck_assert_int_eq(moe_format_find("route-csv", &format, &err), MOE_OK);
    ck_assert_msg(!format->import(QWEN, &(struct moe_import_options){0}, &trace, &err), "%s",
                  err.text);
    struct moe_replay_options options = {
        .contract = MOE_CONTRACT_ACCESS, .order = MOE_ORDER_FILE, .compare_log = true};
    struct moe_replay_result got = replay(&trace, "global:4000MiB", "lru", &options);
    printf("engine log: %llu of %llu rows agree, decode hit rate %.4f\n",
           (unsigned long long)got.log_agree, (unsigned long long)got.log_rows,
           (double)got.total[MOE_DECODE].hits / (double)got.total[MOE_DECODE].lookups);
    ck_assert_uint_eq(got.log_rows, 44766);
    ck_assert_uint_ge(got.log_agree, 44761); /* 99.99 %, rounded */
    uint64_t per_mille =
        (got.total[MOE_DECODE].hits * 2000 / got.total[MOE_DECODE].lookups + 1) / 2;
    ck_assert_uint_eq(per_mille, 803);
    moe_replay_release(&got);
    moe_trace_release(&trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replay");
    TCase *tc = tcase_create("replay");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, counts_by_hand);
    tcase_add_test(tc, a_pass_of_several_tokens);
    tcase_add_test(tc, cold_forgets_at_each_sequence);
    tcase_add_test(tc, admission_is_asked);
    tcase_add_test(tc, policies_are_told);
    tcase_add_test(tc, compares_with_the_log);
    tcase_add_test(tc, refuses_with_the_reason);
    tcase_add_test(tc, grid_equals_each_geometry);
    tcase_add_test(tc, grid_refuses);
    tcase_add_test(tc, stream_equals_memory);
    tcase_add_test(tc, agrees_with_a_real_engine);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
