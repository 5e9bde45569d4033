#include "base/rng.h"
#include "policies/cost.h"
#include "sim/bench_case.h"
#include "sim/replay.h"
#include "traces/synth.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_ACCESSES = 500000, PROBE_TOKENS = 16 };

/* About what one run of a case takes; there are some 270 cases. */
static const double run_ns = 15e6;

/* What a replay should reach, in million accesses a second: of any policy, and of the three
 * simplest. Chosen, not measured. */
static const double goal_of_all = 20, goal_of_simple = 100;

/* Repeats from one token to the next: Mixtral's as in bench.c; the wide model's, Qwen3-30B-A3B's
 * shape, measured by `moelab trace stats` on the decode rows of an engine's log of it. */
static const struct shape {
    const char *model, *spec, *geometry[2];
    uint32_t row; /* accesses of a token */
} shapes[] = {
    {"mixtral", "sticky:layers=32,experts=8,top_k=2,repeat=0.376", {"32x4", "global:128"}, 64},
    {"qwen3", "sticky:layers=48,experts=128,top_k=8,repeat=0.38", {"48x32", "global:1536"}, 384},
};

/* Readings of a policy that are not its default. */
static const char *const variants[] = {
    "opt:admit=forced",
    "lfru:reading=ties",
    "lfu-aged:ageing=halve",
    "least-stale:reading=layer",
    "least-stale:reading=intervals",
    "least-stale:reading=bypass",
};

struct subject {
    struct moe_trace *trace;
    const char *only; /* policy, or "all" */
    float *score;     /* for policies that need scores */
    const struct moe_costs *costs;
    struct moe_geometry geometry;
    struct moe_policy_spec policy;
    struct moe_replay_options replay;
};

static enum moe_status run_replay(void *given, uint64_t *amount, struct moe_err *err)
{
    struct subject *subject = given;
    struct moe_replay_result result;
    enum moe_status s = moe_replay(subject->trace, &subject->geometry, &subject->policy,
                                   &subject->replay, &result, err);
    if (s)
        return s;
    *amount = result.both.lookups;
    moe_replay_release(&result);
    return MOE_OK;
}

/* Tokens that a run replays: all, or as many as take about run_ns. */
static enum moe_status fit_tokens(struct subject *subject, uint64_t all, struct moe_err *err)
{
    uint64_t *n_tokens = &subject->trace->tokens.n_tokens, amount;
    double ns = 0;
    for (uint64_t n = PROBE_TOKENS; 2 * ns < run_ns; n *= 2) {
        *n_tokens = n < all ? n : all;
        uint64_t start = moe_bench_cpu_ns();
        enum moe_status s = run_replay(subject, &amount, err);
        ns = (double)(moe_bench_cpu_ns() - start);
        if (s || *n_tokens == all)
            return s;
    }
    double fit = (double)*n_tokens * run_ns / ns;
    *n_tokens = fit < 1 ? 1 : fit < (double)all ? (uint64_t)fit : all;
    return MOE_OK;
}

/* Noise, with the chosen experts above it in gate order: any scores would do to measure speed. */
static enum moe_status make_scores(const struct moe_trace *trace, float **scores,
                                   struct moe_err *err)
{
    const struct moe_trace_info *info = &trace->info;
    size_t rows = (size_t)trace->tokens.n_tokens * info->n_layers;
    float *score = malloc(rows * info->n_experts * sizeof *score + 1);
    struct moe_rng rng;
    if (!score)
        return moe_fail_memory(err, "the scores of a benchmark");
    moe_rng_init(&rng, 1);
    for (size_t r = 0; r < rows; r++) {
        float *row = score + r * info->n_experts;
        for (uint32_t e = 0; e < info->n_experts; e++)
            row[e] = (float)moe_rng_unit(&rng);
        for (uint32_t k = 0; k < info->top_k; k++)
            row[trace->tokens.expert[r * info->top_k + k]] += 1 + (float)(info->top_k - k);
    }
    *scores = score;
    return MOE_OK;
}

/* Was the policy asked for? "lfru:reading=ties" belongs to the policy before the colon. */
static bool is_wanted(const char *only, const char *policy)
{
    size_t n = strcspn(policy, ":");
    return strcmp(only, "all") == 0 || (strlen(only) == n && strncmp(only, policy, n) == 0);
}

static bool is_simple(const char *policy)
{
    return strcmp(policy, "lru") == 0 || strcmp(policy, "fifo") == 0 ||
           strcmp(policy, "clock") == 0;
}

static enum moe_status bench_policy(struct moe_bench *bench, struct subject *subject,
                                    const struct shape *shape, const char *geometry,
                                    const char *policy, struct moe_err *err)
{
    char name[sizeof bench->rows->name];
    uint64_t n_tokens = subject->trace->tokens.n_tokens;
    enum moe_status s = moe_policy_parse(policy, &subject->policy, err);
    if (!s && (subject->policy.ops->needs & MOE_NEEDS_COSTS) && !subject->costs)
        return MOE_OK;
    subject->policy.costs = subject->costs;
    subject->trace->tokens.score =
        !s && (subject->policy.ops->needs & MOE_NEEDS_SCORES) ? subject->score : NULL;
    for (int i = 0; i < 2 && !s; i++) {
        subject->replay.contract = i ? MOE_CONTRACT_ACCESS : MOE_CONTRACT_EVENT;
        snprintf(name, sizeof name, "%s %s %s %s", policy, shape->model, geometry,
                 i ? "access" : "event");
        s = fit_tokens(subject, n_tokens, err);
        if (s)
            break;
        s = moe_bench_measure(bench, name, is_simple(policy) ? goal_of_simple : goal_of_all,
                              run_replay, subject, err);
        subject->trace->tokens.n_tokens = n_tokens;
    }
    subject->trace->tokens.score = NULL;
    return s;
}

static enum moe_status bench_geometry(struct moe_bench *bench, struct subject *subject,
                                      const struct shape *shape, const char *geometry,
                                      struct moe_err *err)
{
    const struct moe_trace_info *info = &subject->trace->info;
    enum moe_status s = moe_geometry_parse(geometry, info->n_layers, info->n_experts, NULL,
                                           &subject->geometry, err);
    if (s)
        return s;
    for (size_t i = 0; moe_policies[i] && !s; i++)
        if (is_wanted(subject->only, moe_policies[i]->name))
            s = bench_policy(bench, subject, shape, geometry, moe_policies[i]->name, err);
    for (size_t i = 0; i < sizeof variants / sizeof *variants && !s; i++)
        if (is_wanted(subject->only, variants[i]))
            s = bench_policy(bench, subject, shape, geometry, variants[i], err);
    moe_geometry_release(&subject->geometry);
    return s;
}

static enum moe_status bench_shape(struct moe_bench *bench, const struct shape *shape,
                                   const struct moe_bench_options *options,
                                   const struct moe_costs *costs, struct moe_err *err)
{
    struct moe_trace trace;
    char spec[128];
    uint64_t accesses = options->policy_accesses ? options->policy_accesses : DEFAULT_ACCESSES;
    snprintf(spec, sizeof spec, "%s,tokens=%" PRIu64, shape->spec, accesses / shape->row + 1);
    enum moe_status s = moe_synth_make(spec, &trace, err);
    if (s)
        return s;
    struct subject subject = {.trace = &trace, .costs = costs, .only = options->policies};
    s = make_scores(&trace, &subject.score, err);
    for (int i = 0; i < 2 && !s; i++)
        s = bench_geometry(bench, &subject, shape, shape->geometry[i], err);
    free(subject.score);
    moe_trace_release(&trace);
    return s;
}

enum moe_status moe_bench_policies(struct moe_bench *bench, const struct moe_bench_options *options,
                                   struct moe_err *err)
{
    const struct moe_sim_input *in = options->simulate;
    struct moe_costs costs;
    struct moe_policy_spec known;
    bool all = strcmp(options->policies, "all") == 0;
    enum moe_status s = all ? MOE_OK : moe_policy_parse(options->policies, &known, err);
    if (in)
        moe_costs_init(&costs, in->model, in->platform, in->platform->cpu.cores);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !s; i++)
        s = bench_shape(bench, &shapes[i], options, in ? &costs : NULL, err);
    return s;
}

uint32_t moe_bench_policy_rows(const struct moe_bench_options *options)
{
    const char *only = options->policies ? options->policies : "";
    uint32_t n = 0;
    for (size_t i = 0; moe_policies[i]; i++)
        n += is_wanted(only, moe_policies[i]->name) &&
             (options->simulate || !(moe_policies[i]->needs & MOE_NEEDS_COSTS));
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        n += is_wanted(only, variants[i]);
    return 2 * 2 * n * (uint32_t)(sizeof shapes / sizeof *shapes); /* geometries and contracts */
}
