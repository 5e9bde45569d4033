/* A small simulated world: model, platform, strategy and trace, run by moe_simulate. */
#ifndef MOELAB_TESTS_SIM_WORLD_H
#define MOELAB_TESTS_SIM_WORLD_H

#include "base/rng.h"
#include "random_trace.h"
#include "sim_case.h"

struct world {
    struct moe_model model;
    struct moe_platform platform;
    struct moe_strategy strategy;
    struct moe_trace trace;
    struct moe_timeline *timeline;
};

static inline struct world world_of(const char *strategy, const char *geometry, uint64_t n_tokens,
                                    const moe_expert *experts)
{
    struct world w = {.model = tiny_model(2, 4, 2),
                      .platform = tiny_platform(),
                      .strategy = load_strategy(strategy),
                      .trace = tiny_trace(2, 4, 2, n_tokens, experts)};
    set_key(&w.strategy, "geometry", geometry);
    return w;
}

static inline enum moe_status try(const struct world *w, struct moe_result *r, struct moe_err *err)
{
    struct moe_sim_input in = {.trace = &w->trace,
                               .model = &w->model,
                               .platform = &w->platform,
                               .strategy = &w->strategy,
                               .timeline = w->timeline};
    return moe_simulate(&in, r, err);
}

static inline struct moe_result run(struct world *w)
{
    struct moe_result r;
    struct moe_err err = {0};
    if (try(w, &r, &err))
        ck_abort_msg("%s", err.text);
    moe_trace_release(&w->trace);
    return r;
}

/* Random worlds. */

static inline const char *pick(struct moe_rng *rng, const char *const *words, size_t n)
{
    return words[moe_rng_below(rng, n)];
}

#define PICK(rng, ...)                                                                             \
    pick(rng, (const char *const[]){__VA_ARGS__},                                                  \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static inline void add_scores(struct moe_rng *rng, struct moe_trace *trace)
{
    const struct moe_trace_info *info = &trace->info;
    size_t n = (size_t)trace->tokens.n_tokens * info->n_layers * info->n_experts;
    if (!trace->tokens.score)
        trace->tokens.score = malloc(n * sizeof *trace->tokens.score);
    ck_assert_ptr_nonnull(trace->tokens.score);
    for (size_t i = 0; i < n; i++)
        trace->tokens.score[i] = (float)(4 * moe_rng_unit(rng));
}

static inline struct world random_world(struct moe_rng *rng)
{
    struct random_shape shape = {.n_layers = 1 + (uint32_t)moe_rng_below(rng, 5),
                                 .n_experts = 4 + (uint32_t)moe_rng_below(rng, 6),
                                 .top_k = 1 + (uint32_t)moe_rng_below(rng, 3),
                                 .n_tokens = 5 + (uint32_t)moe_rng_below(rng, 60),
                                 .absent = moe_rng_below(rng, 4) == 0,
                                 .many = moe_rng_below(rng, 2) == 0};
    struct world w = {.model = tiny_model(shape.n_layers, shape.n_experts, shape.top_k),
                      .platform = tiny_platform()};
    w.model.dense_layers = shape.n_tokens % 3;
    w.model.dense_layers_ffn = w.model.dense_layers ? 400 : 0;
    w.strategy = load_strategy(PICK(rng, "collab", "collab-reference", "on-demand", "cpu-only"));
    char geometry[32];
    snprintf(geometry, sizeof geometry, "%ux%u", 1 + (unsigned)moe_rng_below(rng, shape.n_layers),
             1 + (unsigned)moe_rng_below(rng, 4));
    set_key(&w.strategy, "geometry", PICK(rng, geometry, geometry, "global:3", "none", "all"));
    const char *prefill = PICK(rng, "cpu", "cache", "stream", "auto");
    set_key(&w.strategy, "prefill", prefill);
    if (strcmp(prefill, "cpu") != 0)
        set_key(&w.strategy, "prefill_warm", PICK(rng, "off", "on"));
    set_key(&w.strategy, "dispatch.miss", PICK(rng, "cpu", "wait", "fastest", "admitted"));
    set_key(&w.strategy, "dispatch.in_flight", PICK(rng, "cpu", "wait", "fastest"));
    set_key(&w.strategy, "dispatch.order", PICK(rng, "gate", "hits-first"));
    set_key(&w.strategy, "dispatch.overlap", PICK(rng, "true", "false"));
    set_key(&w.strategy, "fill.when", PICK(rng, "after-compute", "at-once"));
    set_key(&w.strategy, "fill.memory", PICK(rng, "pinned", "pinned", "pageable"));
    set_key(&w.strategy, "prefetcher",
            PICK(rng, "none", "none", "previous-token", "popularity", "markov", "moe-infinity",
                 "oracle:accuracy=0.7,horizon=3,across=on"));
    set_key(&w.strategy, "policy",
            PICK(rng, "lru", "fifo", "lfu", "random", "clock", "opt", "paper-lru",
                 "paper-lru:hazards=on", "slru", "arc", "s3-fifo", "lecar", "lfru",
                 "least-stale:reading=bypass", "decayed-count:half_life=2", "moe-infinity",
                 "distance-to-layer", "hybrimoe-mrs", "static", "static:choose=random"));
    set_key(&w.strategy, "admission",
            PICK(rng, "always", "always", "always", "always", "never", "quota:quota=3",
                 "queue-limit:longest=2", "second-miss", "probabilistic"));
    w.platform.dram.read_gb_per_s = 10 + 30 * moe_rng_unit(rng);
    w.platform.link.h2d_pinned_gb_per_s = 2 + 60 * moe_rng_unit(rng);
    w.platform.cpu.point[0].ms = 0.002 + 0.06 * moe_rng_unit(rng);
    w.platform.gpu.layer_overhead_us = 10 * moe_rng_unit(rng);
    random_trace(rng, &shape, &w.trace);
    add_scores(rng, &w.trace);
    w.trace.tokens.phase[shape.n_tokens - 1] = MOE_DECODE; /* at least one */
    w.trace.tokens.step[shape.n_tokens - 1]++;
    return w;
}

#endif
