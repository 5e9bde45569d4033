/* Reuse statistics: hand-counted traces, chance levels, and the published MiniCPM numbers. */
#include "base/progress.h"
#include "tests/unit/run_suite.h"
#include "traces/hdf5.h"
#include "traces/import.h"
#include "traces/reuse.h"
#include "traces/synth.h"

#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MINICPM "../shared/data/traces/minicpm-moe-8x2b/expert_choices.csv"

static const double tiny = 1e-12;

struct row {
    int sequence, phase;
    int expert[8]; /* [L, K], -1 absent */
};

static struct moe_trace make_trace(uint32_t n_layers, uint32_t n_experts, uint32_t top_k,
                                   const struct row *rows, size_t n)
{
    struct moe_trace trace = {
        .info = {.n_layers = n_layers, .n_experts = n_experts, .top_k = top_k}};
    struct moe_err err;
    ck_assert_int_eq(moe_tokens_init(&trace.tokens, &trace.info, n, 0, &err), MOE_OK);
    for (size_t t = 0; t < n; t++) {
        trace.tokens.sequence[t] = (uint32_t)rows[t].sequence;
        trace.tokens.phase[t] = (uint8_t)rows[t].phase;
        for (uint32_t i = 0; i < n_layers * top_k; i++)
            trace.tokens.expert[t * n_layers * top_k + i] = (moe_expert)rows[t].expert[i];
    }
    trace.n_sequences = n ? (uint64_t)rows[n - 1].sequence + 1 : 0;
    trace.sequences = calloc(trace.n_sequences + 1, sizeof *trace.sequences);
    return trace;
}

static struct moe_reuse measure(const struct moe_trace *trace)
{
    struct moe_reuse r;
    struct moe_err err;
    ck_assert_int_eq(moe_reuse_compute_repeats(trace, &r, &err), MOE_OK);
    for (uint32_t l = 0; l < r.n_layers; l++)
        ck_assert(r.layer[l].working_set == 0 && r.layer[l].lru_hit_rate[r.n_experts] == 0);
    struct moe_reuse repeats = r;
    ck_assert_int_eq(moe_reuse_compute(trace, &r, &err), MOE_OK);
    for (uint32_t l = 0; l < r.n_layers; l++) {
        const struct moe_reuse_layer *a = &r.layer[l], *b = &repeats.layer[l];
        ck_assert_mem_eq(a->popularity, b->popularity, r.n_experts * sizeof(double));
        ck_assert_mem_eq(a->first_popularity, b->first_popularity, r.n_experts * sizeof(double));
        ck_assert_mem_eq(a->repeat_expert, b->repeat_expert, sizeof a->repeat_expert);
        ck_assert_mem_eq(a->repeat_all, b->repeat_all, sizeof a->repeat_all);
    }
    moe_reuse_release(&repeats);
    return r;
}

enum { P = MOE_PREFILL, D = MOE_DECODE };

static void check_values(const double *got, const double *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(wanted[i]))
            ck_assert_double_nan(got[i]);
        else
            ck_assert_double_eq_tol(got[i], wanted[i], tiny);
}

/* Counted by hand. Distances: 0: once, 1: three times, 3: twice; eight accesses are first uses. */
START_TEST(hand_counted_layer)
{
    const struct row rows[] = {{0, D, {0, 1}}, {0, D, {1, 0}}, {0, D, {1, 2}}, {0, D, {3, 2}},
                               {0, D, {0, 1}}, {1, D, {0, 1}}, {1, D, {2, 3}}};
    struct moe_trace trace = make_trace(1, 4, 2, rows, 7);
    struct moe_reuse r = measure(&trace);
    struct moe_reuse_layer *l = &r.layer[0];
    ck_assert_uint_eq(l->n_routes, 7);
    ck_assert_uint_eq(l->n_accesses, 14);
    check_values(l->popularity, (double[]){4 / 14., 5 / 14., 3 / 14., 2 / 14.}, 4);
    check_values(l->first_popularity, (double[]){3 / 7., 2 / 7., 1 / 7., 1 / 7.}, 4);
    check_values(l->repeat_expert, (double[]){.4, 1 / 3., .5, 1, NAN, NAN}, MOE_LAGS);
    check_values(l->repeat_any, (double[]){.6, 2 / 3., .5, 1, NAN, NAN}, MOE_LAGS);
    check_values(l->repeat_all, (double[]){.2, 0, .5, 1, NAN, NAN}, MOE_LAGS);
    check_values(&l->repeat_first, (double[]){.2}, 1);
    check_values(l->lru_hit_rate, (double[]){0, 1 / 14., 4 / 14., 4 / 14., 6 / 14.}, 5);
    double entropy =
        -(4 * log2(4 / 14.) + 5 * log2(5 / 14.) + 3 * log2(3 / 14.) + 2 * log2(2 / 14.)) / 14;
    check_values(&l->entropy, &entropy, 1);
    ck_assert_double_nan(l->working_set);
    ck_assert_double_nan(l->next_layer_expert);
    ck_assert_double_nan(r.prompt_common_share);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
}
END_TEST

/* Layers: overlap of neighbours, a token that lacks a layer, a route shorter than K. */
/* After Ctrl-C neither the loading of a long trace nor its statistics go on to the end. */
START_TEST(interrupted)
{
    const struct row rows[] = {{0, D, {0, 1}}, {0, D, {1, 0}}};
    struct moe_trace trace = make_trace(1, 4, 2, rows, 2), loaded;
    char path[] = "/tmp/moelab-reuse-XXXXXX";
    struct moe_err err = {0};
    trace.sequences[0].n_tokens = 2;
    trace.sequences[0].label = strdup("");
    trace.sequences[0].category = strdup("");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(moe_trace_save(path, &trace, &err), MOE_OK);
    pid_t child = fork();
    ck_assert_int_ne(child, -1);
    if (child == 0) {
        struct moe_reuse r;
        moe_catch_interrupts();
        raise(SIGINT);
        _exit(moe_trace_load(path, 0, &loaded, &err) == MOE_ERR_INTERRUPTED &&
                      moe_reuse_compute(&trace, &r, &err) == MOE_ERR_INTERRUPTED
                  ? 0
                  : 1);
    }
    int end = -1;
    ck_assert_int_eq(waitpid(child, &end, 0), child);
    ck_assert_int_eq(end, 0);
    unlink(path);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(absent_rows_are_skipped)
{
    const struct row rows[] = {{0, D, {0, 1, 0, 2}},
                               {0, D, {-1, -1, 2, 0}},
                               {0, D, {3, -1, 3, 1}},
                               {0, D, {3, 2, -1, -1}}};
    struct moe_trace trace = make_trace(2, 4, 2, rows, 4);
    struct moe_reuse r = measure(&trace);
    ck_assert_uint_eq(r.layer[0].n_routes, 3);
    ck_assert_uint_eq(r.layer[0].n_accesses, 5);
    /* lag 1 in layer 0: only tokens 2 and 3: {3} and {3, 2} share half of the latter */
    check_values(r.layer[0].repeat_expert, (double[]){.5, 0, 0}, 3);
    check_values(r.layer[0].repeat_all, (double[]){0, 0, 0}, 3);
    /* layer 1: {0,2} and {2,0} equal; {2,0} and {3,1} apart */
    check_values(r.layer[1].repeat_expert, (double[]){.5, 0, NAN}, 3);
    check_values(r.layer[1].repeat_all, (double[]){.5, 0, NAN}, 3);
    check_values(&r.layer[1].repeat_first, (double[]){0}, 1);
    /* neighbours: token 0 {0,1},{0,2}: 1/2; token 2 {3},{3,1}: 1/2; others lack a layer */
    check_values(&r.layer[0].next_layer_expert, (double[]){.5}, 1);
    check_values(&r.layer[0].next_layer_any, (double[]){1}, 1);
    check_values(&r.layer[0].next_layer_all, (double[]){0}, 1);
    /* the mean is over the layers that have the value */
    check_values(r.mean.repeat_expert, (double[]){.5, 0, 0}, 3);
    check_values(&r.mean.next_layer_any, (double[]){1}, 1);
    check_values(r.mean.lru_hit_rate, (double[]){0, 11 / 60., 16 / 60., 16 / 60., 16 / 60.}, 5);
    ck_assert_uint_eq(r.mean.n_accesses, 11);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
}
END_TEST

/* Prefill counts only where there is no decode; pairs never reach across it or a sequence's end. */
START_TEST(decode_only)
{
    struct row rows[] = {
        {0, P, {0, 1}}, {0, D, {0, 1}}, {0, D, {2, 3}}, {0, P, {2, 3}}, {0, D, {2, 3}}};
    struct moe_trace trace = make_trace(1, 4, 2, rows, 5);
    struct moe_reuse r = measure(&trace);
    ck_assert_uint_eq(r.n_prefill, 2);
    ck_assert_uint_eq(r.n_decode, 3);
    ck_assert_uint_eq(r.layer[0].n_routes, 3);
    check_values(r.layer[0].repeat_expert, (double[]){0, 1, 0}, 3);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
    for (int t = 0; t < 5; t++)
        rows[t].phase = P;
    trace = make_trace(1, 4, 2, rows, 5);
    r = measure(&trace);
    ck_assert_uint_eq(r.layer[0].n_routes, 5);
    check_values(r.layer[0].repeat_expert, (double[]){.75, 1 / 3., 0}, 3);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
}
END_TEST

/* 18 tokens: windows 0..15 {0,1}, 1..16 and 2..17 with one new expert each. */
START_TEST(working_set_of_sixteen)
{
    struct row rows[40] = {0};
    for (int t = 0; t < 40; t++)
        rows[t] = (struct row){0, D, {t % 2, 1 - t % 2}};
    rows[16].expert[1] = 2;
    rows[17].expert[0] = 3;
    struct moe_trace trace = make_trace(1, 8, 2, rows, 18);
    struct moe_reuse r = measure(&trace);
    check_values(&r.layer[0].working_set, (double[]){(2 + 3 + 4) / 3.}, 1);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
    /* a token without a route at 20 leaves windows that end at 15..19 and 36..39 */
    rows[20].expert[0] = rows[20].expert[1] = -1;
    trace = make_trace(1, 8, 2, rows, 40);
    r = measure(&trace);
    check_values(&r.layer[0].working_set, (double[]){(2 + 3 + 4 * 3 + 2 * 4) / 9.}, 1);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
}
END_TEST

/* Prompts abc, abd and x: 2/3, 2/3 and 0 in common; by ids, and by routes without ids. */
START_TEST(prompts_in_common)
{
    const struct row rows[] = {{0, P, {0}}, {0, P, {1}}, {0, P, {2}}, {0, D, {0}}, {1, P, {3}},
                               {1, D, {0}}, {2, P, {0}}, {2, P, {1}}, {2, P, {3}}, {2, D, {0}}};
    struct moe_trace trace = make_trace(1, 4, 1, rows, 10);
    struct moe_reuse r = measure(&trace);
    check_values(&r.prompt_common_share, (double[]){4 / 9.}, 1);
    moe_reuse_release(&r);
    trace.tokens.expert[0] = trace.tokens.expert[4] = trace.tokens.expert[6] = MOE_NO_EXPERT;
    r = measure(&trace);
    ck_assert_double_nan(r.prompt_common_share); /* nothing is known of any prompt's start */
    moe_reuse_release(&r);
    for (int32_t t = 0; t < 10; t++)
        trace.tokens.token_id[t] = t;
    r = measure(&trace);
    check_values(&r.prompt_common_share, (double[]){0}, 1);
    moe_reuse_release(&r);
    trace.tokens.token_id[4] = 0; /* prompt 1 is now the first token of prompt 0 */
    r = measure(&trace);
    check_values(&r.prompt_common_share, (double[]){(1 / 3. + 1) / 3}, 1);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
}
END_TEST

/* Top-2 of 8 as everyone quotes it; a degenerate layer where K = E. */
START_TEST(chance_levels)
{
    struct moe_trace trace = make_trace(1, 8, 2, NULL, 0);
    struct moe_reuse r = measure(&trace);
    ck_assert_double_eq_tol(r.chance_expert, 0.25, tiny);
    ck_assert_double_eq_tol(r.chance_any, 13 / 28., tiny); /* 46.43 % */
    ck_assert_double_eq_tol(r.chance_all, 1 / 28., tiny);  /* 3.57 % */
    ck_assert_double_eq_tol(r.chance_first, 1 / 8., tiny);
    ck_assert_double_eq_tol(r.chance_entropy, 3, tiny);
    ck_assert_double_eq_tol(moe_reuse_chance_lru(&r, 1), 1 / 16., tiny);
    ck_assert_double_eq_tol(moe_reuse_chance_lru(&r, 2), 11 / 56., tiny); /* (2/8 + 1/7) / 2 */
    ck_assert_double_eq_tol(moe_reuse_chance_lru(&r, 8), 1, tiny);
    ck_assert_double_nan(r.mean.repeat_expert[0]);
    ck_assert_double_nan(r.mean.popularity[0]);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
    trace = make_trace(1, 3, 3, NULL, 0);
    r = measure(&trace);
    ck_assert_double_eq_tol(r.chance_any, 1, tiny);
    ck_assert_double_eq_tol(r.chance_all, 1, tiny);
    ck_assert_double_eq_tol(r.chance_working_set, 3, tiny);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
}
END_TEST

/* 80,000 uniform routes: five standard errors of the widest share (0.5) are 0.9 points. */
START_TEST(uniform_is_chance)
{
    static const char *const specs[] = {"uniform:tokens=20000,layers=4,experts=8,top_k=2",
                                        "uniform:tokens=20000,layers=4,experts=32,top_k=4"};
    for (int i = 0; i < 2; i++) {
        struct moe_trace trace;
        struct moe_err err;
        ck_assert_int_eq(moe_synth_make(specs[i], &trace, &err), MOE_OK);
        struct moe_reuse r = measure(&trace);
        for (int lag = 0; lag < MOE_LAGS; lag++) {
            ck_assert_double_eq_tol(r.mean.repeat_expert[lag], r.chance_expert, .009);
            ck_assert_double_eq_tol(r.mean.repeat_any[lag], r.chance_any, .009);
            ck_assert_double_eq_tol(r.mean.repeat_all[lag], r.chance_all, .005);
        }
        ck_assert_double_eq_tol(r.mean.repeat_first, r.chance_first, .009);
        ck_assert_double_eq_tol(r.mean.next_layer_expert, r.chance_expert, .009);
        ck_assert_double_eq_tol(r.mean.next_layer_any, r.chance_any, .009);
        ck_assert_double_eq_tol(r.mean.next_layer_all, r.chance_all, .005);
        ck_assert_double_eq_tol(r.mean.entropy, r.chance_entropy, .002);
        ck_assert_double_eq_tol(r.mean.working_set, r.chance_working_set, .05);
        for (uint32_t e = 0; e < r.n_experts; e++)
            ck_assert_double_eq_tol(r.mean.popularity[e], 1. / r.n_experts, .005);
        for (uint32_t w = 1; w <= r.n_experts; w++)
            ck_assert_double_eq_tol(r.mean.lru_hit_rate[w], moe_reuse_chance_lru(&r, w), .009);
        moe_reuse_release(&r);
        moe_trace_release(&trace);
    }
}
END_TEST

/* The published analysis of the 128 generated tokens, which leaves the warm-up token out. */
START_TEST(minicpm_as_published)
{
    const struct moe_format *format;
    struct moe_import_options options = {.n_experts = 8};
    struct moe_trace trace;
    struct moe_err err = {0};
    if (access(MINICPM, R_OK) != 0) {
        printf("skipped: %s is not here\n", MINICPM);
        return;
    }
    ck_assert_int_eq(moe_format_find("expert-choices", &format, &err), MOE_OK);
    ck_assert_msg(!format->import(MINICPM, &options, &trace, &err), "%s", err.text);
    for (uint64_t t = 0; trace.tokens.sequence[t] + 1 < trace.n_sequences; t++)
        trace.tokens.phase[t] = MOE_PREFILL; /* the warm-up is the sequence before the last */
    struct moe_reuse r = measure(&trace);
    ck_assert_uint_eq(r.n_decode, 128);
    printf("MiniCPM: any %.4f all %.4f expert %.4f, two apart any %.4f, next layer %.4f %.4f\n",
           r.mean.repeat_any[0], r.mean.repeat_all[0], r.mean.repeat_expert[0],
           r.mean.repeat_any[1], r.mean.next_layer_any, r.mean.next_layer_expert);
    ck_assert_double_eq_tol(r.mean.repeat_any[0], .763, .0005001);
    ck_assert_double_eq_tol(r.mean.repeat_all[0], .322, .0005001);
    ck_assert_double_eq_tol(r.mean.repeat_expert[0], .543, .0005001);
    ck_assert_double_eq_tol(r.mean.repeat_any[1], .941, .0005001);
    ck_assert_double_eq_tol(r.mean.next_layer_any, .454, .0005001);
    ck_assert_double_eq_tol(r.mean.next_layer_expert, .241, .0005001);
    moe_reuse_release(&r);
    moe_trace_release(&trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reuse");
    TCase *tests = tcase_create("reuse");
    tcase_add_test(tests, hand_counted_layer);
    tcase_add_test(tests, interrupted);
    tcase_add_test(tests, absent_rows_are_skipped);
    tcase_add_test(tests, decode_only);
    tcase_add_test(tests, working_set_of_sixteen);
    tcase_add_test(tests, prompts_in_common);
    tcase_add_test(tests, chance_levels);
    tcase_add_test(tests, uniform_is_chance);
    tcase_add_test(tests, minicpm_as_published);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
