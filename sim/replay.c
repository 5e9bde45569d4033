#include "sim/replay.h"

#include "base/progress.h"
#include "policies/decide.h"
#include "sim/replay_fast.h"

#include <stdlib.h>

/* A replay under way. Who decides is either the shared cache and planner or the specialised
 * replay. */
struct replay {
    const struct moe_trace_info *info;
    const struct moe_geometry *geometry;
    const struct moe_policy_spec *policy;
    const struct moe_replay_options *options;
    struct moe_fast *fast; /* NULL: the generic path */
    struct moe_cache *cache;
    struct moe_planner *planner;
    struct moe_admission admission;
    struct moe_rerouter reroute;
    bool at_once;   /* every miss is admitted: the cache decides without the planner */
    bool as_routed; /* at_once, and no rule changes a route, no log is compared */
    bool begun;
    uint32_t sequence; /* the current one, once begun */
    uint64_t tokens, log_rows, log_agree;
};

/* The tokens [begin, end) of one forward pass. */
struct pass {
    const struct moe_tokens *tokens;
    const uint32_t *next_use; /* [T, L, K] or NULL */
    uint64_t begin, end;
};

static enum moe_status check_geometry(const struct moe_trace_info *info,
                                      const struct moe_geometry *geometry, struct moe_err *err)
{
    if (geometry->n_layers == info->n_layers && geometry->n_experts == info->n_experts)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "geometry is for %u layer%s of %u experts, the trace has %u of %u",
                    geometry->n_layers, moe_plural(geometry->n_layers), geometry->n_experts,
                    info->n_layers, info->n_experts);
}

static enum moe_status check_options(const struct moe_trace_info *info,
                                     const struct moe_policy_spec *policy,
                                     const struct moe_replay_options *options, unsigned parts,
                                     struct moe_err *err)
{
    if (options->order == MOE_ORDER_FILE && !info->rows_in_order)
        return moe_fail(err, MOE_ERR_USAGE,
                        "order 'file' refused: the rows of the imported file did not stand in "
                        "execution order; use order 'step'");
    if (options->compare_log && options->contract != MOE_CONTRACT_ACCESS)
        return moe_fail(err, MOE_ERR_USAGE,
                        "the engine's log is compared access by access: needs contract 'access'");
    if (options->compare_log && !(parts & MOE_HAS_LOG))
        return moe_fail(err, MOE_ERR_USAGE, "the trace has no engine log to compare with");
    if (options->compare_log && options->lossy)
        return moe_fail(
            err, MOE_ERR_USAGE,
            "the engine's log is of the original routes: it cannot be compared with --lossy");
    enum moe_status s = moe_policy_check_parts(policy, parts, err);
    if (s || !options->reroute)
        return s;
    return moe_reroute_check(options->reroute, options->lossy, parts, policy->ops->needs, err);
}

static void replay_end(struct replay *r)
{
    moe_fast_free(r->fast);
    moe_planner_free(r->planner);
    moe_cache_free(r->cache);
    moe_admission_release(&r->admission);
    moe_rerouter_release(&r->reroute);
}

static enum moe_status begin_generic(struct replay *r, struct moe_err *err)
{
    const struct moe_trace_info *info = r->info;
    struct moe_admission_spec always;
    enum moe_status s = moe_admission_parse("always", &always, err);
    if (s)
        return s;
    r->at_once = !r->options->generic &&
                 (!r->options->admission || r->options->admission->ops == always.ops);
    struct moe_admission_env env = {
        .n_layers = info->n_layers, .n_experts = info->n_experts, .seed = r->options->seed};
    s = moe_admission_init(&r->admission, r->options->admission ? r->options->admission : &always,
                           &env, err);
    if (!s)
        s = moe_cache_new(&r->cache, r->geometry, info->top_k, r->policy, r->options->seed, err);
    if (!s)
        s = moe_planner_new(&r->planner, info->n_experts, info->top_k, err);
    if (!s && r->options->reroute)
        s = moe_rerouter_init(&r->reroute, r->options->reroute, info->n_layers, info->n_experts,
                              info->top_k, err);
    r->as_routed = r->at_once && !r->reroute.ops && !r->options->compare_log;
    if (s)
        replay_end(r);
    else
        moe_cache_preload(r->cache);
    return s;
}

/* Checks and makes the engine; on failure nothing is left to release. */
static enum moe_status replay_begin(struct replay *r, unsigned parts, struct moe_err *err)
{
    enum moe_status s = check_geometry(r->info, r->geometry, err);
    if (!s)
        s = check_options(r->info, r->policy, r->options, parts, err);
    if (s)
        return s;
    if (moe_fast_supports(r->geometry, r->policy, r->options))
        return moe_fast_new(&r->fast, r->geometry, r->policy, r->info->top_k, r->options->contract,
                            err);
    return begin_generic(r, err);
}

static void enter_sequence(struct replay *r, uint32_t sequence)
{
    bool first = !r->begun;
    if (!first && r->sequence == sequence)
        return;
    r->begun = true;
    r->sequence = sequence;
    bool clear = r->options->cold && !first;
    if (r->fast) {
        if (clear)
            moe_fast_clear(r->fast);
        return;
    }
    if (clear) {
        moe_cache_clear(r->cache);
        moe_cache_preload(r->cache);
    }
    moe_cache_begin_sequence(r->cache);
}

static size_t row_of(const struct replay *r, uint64_t t, uint32_t layer)
{
    return ((size_t)t * r->info->n_layers + layer) * r->info->top_k;
}

static const float *scores_of(const struct replay *r, const float *scores, uint64_t t,
                              uint32_t layer)
{
    return scores ? scores + ((size_t)t * r->info->n_layers + layer) * r->info->n_experts : NULL;
}

/* The routes of a pass in a layer, from token t on, after the reroute rule. */
static inline struct moe_layer_routes routes_of(struct replay *r, const struct pass *pass,
                                                uint64_t t, uint32_t layer)
{
    const struct moe_tokens *tokens = pass->tokens;
    size_t at = row_of(r, t, layer);
    bool one = pass->end - pass->begin == 1;
    struct moe_layer_routes routes = {
        .layer = layer,
        .n_tokens = (uint32_t)(pass->end - pass->begin),
        .phase = tokens->phase[t],
        .top_k = r->info->top_k,
        .expert = tokens->expert + at,
        .weight = r->reroute.ops && tokens->weight ? tokens->weight + at : NULL,
        .next_use = pass->next_use ? pass->next_use + at : NULL,
        .stride = row_of(r, 1, 0),
        .score = one ? scores_of(r, tokens->score, t, layer) : NULL,
        .lookahead = one ? scores_of(r, tokens->lookahead, t, layer) : NULL,
    };
    if (r->reroute.ops)
        moe_rerouter_event(&r->reroute, r->cache, &routes);
    return routes;
}

static void replay_event(struct replay *r, const struct pass *pass, uint32_t layer)
{
    struct moe_layer_routes routes = routes_of(r, pass, pass->begin, layer);
    if (r->at_once) {
        struct moe_route *route = moe_plan_route(r->planner, &routes);
        if (route->n > 0 && moe_cache_covers(r->cache, layer))
            moe_cache_event_at_once(r->cache, route);
        return;
    }
    const struct moe_plan *plan = moe_plan_event(r->planner, r->cache, &r->admission, &routes);
    for (uint32_t i = 0; i < plan->route.n; i++)
        if (plan->fill[i] != MOE_NO_SLOT)
            moe_cache_ready(r->cache, plan->fill[i]);
}

/* Looks one expert up, keeps or inserts it; returns whether it was there. */
static bool replay_access(struct replay *r, struct moe_route *route)
{
    moe_slot slot = MOE_NO_SLOT;
    uint8_t access = MOE_MISS;
    route->slot = &slot;
    route->access = &access;
    moe_cache_route_access(r->cache, route);
    moe_admission_route(&r->admission, route);
    if (access != MOE_MISS) {
        moe_cache_touch(r->cache, slot);
    } else if (moe_plan_admits(r->cache, &r->admission, route, 0)) {
        moe_slot filled = moe_cache_reserve(r->cache, route, 0, NULL);
        if (filled != MOE_NO_SLOT)
            moe_cache_ready(r->cache, filled);
    }
    moe_cache_end_event(r->cache);
    return access != MOE_MISS;
}

static void compare_log(struct replay *r, const struct moe_tokens *tokens, size_t at, bool hit)
{
    r->log_rows++;
    r->log_agree += hit == (tokens->log_bytes[at] == 0);
}

/* The experts of one token in a layer, in turn; returns how many were found. */
static uint32_t replay_each(struct replay *r, struct moe_route *token)
{
    uint32_t n_hits = 0;
    if (r->at_once)
        return moe_cache_accesses_at_once(r->cache, token);
    for (uint32_t k = 0; k < token->n; k++) {
        struct moe_route route = {
            .layer = token->layer,
            .n = 1,
            .phase = token->phase,
            .expert = token->expert + k,
            .score = k == 0 ? token->score : NULL, /* seen once a token, as in an event */
            .lookahead = k == 0 ? token->lookahead : NULL,
            .next_use = token->next_use ? token->next_use + k : NULL,
        };
        bool hit = replay_access(r, &route);
        token->access[k] = hit ? MOE_HIT : MOE_MISS;
        n_hits += hit;
    }
    return n_hits;
}

/* One token's experts in one layer; returns how many were found. */
static uint32_t replay_row(struct replay *r, const struct pass *pass, uint64_t t, uint32_t layer,
                           uint32_t *n)
{
    const struct moe_tokens *tokens = pass->tokens;
    bool covered = moe_cache_covers(r->cache, layer);
    struct moe_layer_routes routes = routes_of(r, pass, t, layer);
    routes.n_tokens = 1;
    routes.score = scores_of(r, tokens->score, t, layer);
    routes.lookahead = scores_of(r, tokens->lookahead, t, layer);
    struct moe_route *token = moe_plan_route(r->planner, &routes);
    uint32_t n_hits = covered ? replay_each(r, token) : 0;
    *n += covered ? token->n : 0;
    for (uint32_t k = 0; r->options->compare_log && k < token->n; k++)
        compare_log(r, tokens, row_of(r, t, layer) + k, covered && token->access[k] != MOE_MISS);
    return n_hits;
}

static void replay_accesses(struct replay *r, const struct pass *pass, uint32_t layer)
{
    uint32_t n = 0, n_hits = 0;
    for (uint64_t t = pass->begin; t < pass->end; t++)
        n_hits += replay_row(r, pass, t, layer, &n);
    if (n > 0)
        moe_cache_count_event(r->cache, layer, pass->tokens->phase[pass->begin], n_hits, n);
}

/* One event, or the accesses of one token. */
static void decide_at_once(struct replay *r, struct moe_route *route)
{
    if (r->options->contract == MOE_CONTRACT_EVENT) {
        moe_cache_event_at_once(r->cache, route);
        return;
    }
    uint32_t n_hits = moe_cache_accesses_at_once(r->cache, route);
    moe_cache_count_event(r->cache, route->layer, route->phase, n_hits, route->n);
}

static uint32_t count_experts(const moe_expert *expert, uint32_t top_k)
{
    if (expert[top_k - 1] != MOE_NO_EXPERT) /* as nearly always */
        return top_k;
    uint32_t n = 0;
    while (expert[n] != MOE_NO_EXPERT)
        n++;
    return n;
}

/* A pass of one token whose routes stay as they are: one route advances from layer to layer. To
 * build each layer's anew took a fifth of the time of a replay of two experts a layer. */
static void replay_token(struct replay *r, const struct pass *pass)
{
    uint32_t n_layers = r->info->n_layers, top_k = r->info->top_k, n_experts = r->info->n_experts;
    const int32_t *pool_of_layer = r->geometry->pool_of_layer;
    struct moe_layer_routes routes = routes_of(r, pass, pass->begin, 0);
    struct moe_route first = *moe_plan_route(r->planner, &routes), route = first;
    route.tokens = NULL;
    for (uint32_t i = 0; i < n_layers; i++) {
        route.layer = i;
        route.expert = first.expert + (size_t)i * top_k;
        route.n = count_experts(route.expert, top_k);
        route.next_use = first.next_use ? first.next_use + (size_t)i * top_k : NULL;
        route.score = first.score ? first.score + (size_t)i * n_experts : NULL;
        route.lookahead = first.lookahead ? first.lookahead + (size_t)i * n_experts : NULL;
        if (route.n > 0 && pool_of_layer[i] >= 0)
            decide_at_once(r, &route);
    }
}

static void replay_pass(struct replay *r, const struct pass *pass)
{
    if (r->fast) {
        moe_fast_step(r->fast, pass->tokens, pass->begin, pass->end);
        return;
    }
    moe_admission_step(&r->admission);
    moe_cache_begin_step(r->cache);
    if (r->as_routed && pass->end - pass->begin == 1) {
        replay_token(r, pass);
        return;
    }
    for (uint32_t layer = 0; layer < r->info->n_layers; layer++) {
        if (r->options->contract == MOE_CONTRACT_EVENT)
            replay_event(r, pass, layer);
        else
            replay_accesses(r, pass, layer);
    }
}

static bool phase_wanted(const struct replay *r, uint8_t phase)
{
    return r->options->phases == MOE_PHASES_BOTH ||
           (r->options->phases == MOE_PHASES_DECODE) == (phase == MOE_DECODE);
}

enum { PASSES_BETWEEN_LOOKS = 1 << 14 };

/* Now and then: shows progress, and tells whether to stop. */
static bool stopped(const struct replay *r, uint64_t done)
{
    if (r->options->progress)
        moe_progress_update(r->options->progress, done);
    return moe_interrupted();
}

/* Whole forward passes; may be called for one block after another. */
static enum moe_status replay_run(struct replay *r, const struct moe_tokens *tokens,
                                  const uint32_t *next_use, struct moe_err *err)
{
    struct pass pass = {.tokens = tokens, .next_use = next_use};
    for (uint64_t n = 0; pass.begin < tokens->n_tokens; pass.begin = pass.end, n++) {
        if (n % PASSES_BETWEEN_LOOKS == 0 && stopped(r, tokens->first_token + pass.begin))
            return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted after %llu token%s",
                            (unsigned long long)r->tokens, moe_plural(r->tokens));
        pass.end = r->options->order == MOE_ORDER_TOKEN ? pass.begin + 1
                                                        : moe_step_end(tokens, pass.begin);
        if (!phase_wanted(r, tokens->phase[pass.begin]))
            continue;
        enter_sequence(r, tokens->sequence[pass.begin]);
        r->tokens += pass.end - pass.begin;
        replay_pass(r, &pass);
    }
    return MOE_OK;
}

static struct moe_counts counts_of(const struct replay *r, uint32_t layer, enum moe_phase phase)
{
    return r->fast ? moe_fast_counts(r->fast, layer, phase)
                   : *moe_cache_counts(r->cache, layer, phase);
}

static enum moe_status replay_result(const struct replay *r, struct moe_replay_result *out,
                                     struct moe_err *err)
{
    uint32_t n_layers = r->info->n_layers;
    struct moe_replay_result result = {
        .n_layers = n_layers,
        .tokens = r->tokens,
        .log_rows = r->log_rows,
        .log_agree = r->log_agree,
        .rerouted = r->reroute.done,
    };
    if (r->cache)
        result.preloads = moe_cache_preloads(r->cache);
    for (int p = 0; p < 2; p++)
        result.layer[p] = calloc((size_t)n_layers + 1, sizeof *result.layer[p]);
    if (!result.layer[0] || !result.layer[1]) {
        moe_replay_release(&result);
        return moe_fail_memory(err, "the counters of a replay");
    }
    for (int p = 0; p < 2; p++) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): loses track of pointers in an array */
        for (uint32_t i = 0; i < n_layers; i++) {
            result.layer[p][i] = counts_of(r, i, (enum moe_phase)p);
            moe_counts_add(&result.total[p], &result.layer[p][i]);
        }
        moe_counts_add(&result.both, &result.total[p]);
    }
    *out = result;
    return MOE_OK;
}

void moe_replay_release(struct moe_replay_result *result)
{
    free(result->layer[0]);
    free(result->layer[1]);
    *result = (struct moe_replay_result){0};
}

enum moe_status moe_replay(const struct moe_trace *trace, const struct moe_geometry *geometry,
                           const struct moe_policy_spec *policy,
                           const struct moe_replay_options *options, struct moe_replay_result *out,
                           struct moe_err *err)
{
    const struct moe_trace_info *info = &trace->info;
    struct replay r = {.info = info, .geometry = geometry, .policy = policy, .options = options};
    enum moe_status s = replay_begin(&r, moe_tokens_parts(&trace->tokens), err);
    if (s)
        return s;
    uint32_t *next_use = NULL;
    if (policy->ops->needs & MOE_NEEDS_FUTURE)
        s = moe_future_build(&trace->tokens, info->n_layers, info->n_experts, info->top_k,
                             options->contract, options->order, options->phases, &next_use, err);
    if (!s)
        s = replay_run(&r, &trace->tokens, next_use, err);
    if (!s)
        s = replay_result(&r, out, err);
    free(next_use);
    replay_end(&r);
    return s;
}

/* The optional arrays that a replay looks at. */
static unsigned wanted_parts(const struct moe_policy_spec *policy,
                             const struct moe_replay_options *options)
{
    bool lossy = options->reroute && moe_reroute_is_lossy(options->reroute);
    uint32_t needs = policy->ops->needs | (lossy ? options->reroute->ops->needs : 0);
    return (needs & MOE_NEEDS_SCORES ? MOE_HAS_SCORE : 0u) |
           (needs & MOE_NEEDS_LOOKAHEAD ? MOE_HAS_LOOKAHEAD : 0u) | (lossy ? MOE_HAS_WEIGHT : 0u) |
           (options->compare_log ? MOE_HAS_LOG : 0u);
}

static enum moe_status run_blocks(struct replay *r, struct moe_reader *reader, struct moe_err *err)
{
    unsigned want = wanted_parts(r->policy, r->options);
    for (;;) {
        const struct moe_tokens *block;
        enum moe_status s = moe_reader_next(reader, want, &block, err);
        if (s || !block)
            return s;
        s = replay_run(r, block, NULL, err);
        if (s)
            return s;
    }
}

enum moe_status moe_replay_stream(struct moe_reader *reader, const struct moe_geometry *geometry,
                                  const struct moe_policy_spec *policy,
                                  const struct moe_replay_options *options,
                                  struct moe_replay_result *out, struct moe_err *err)
{
    struct replay r = {.info = moe_reader_info(reader),
                       .geometry = geometry,
                       .policy = policy,
                       .options = options};
    if (policy->ops->needs & MOE_NEEDS_FUTURE)
        return moe_fail(err, MOE_ERR_USAGE,
                        "policy '%s' knows the future and cannot stream: load the whole trace",
                        policy->ops->name);
    enum moe_status s = replay_begin(&r, moe_reader_parts(reader), err);
    if (s)
        return s;
    s = run_blocks(&r, reader, err);
    if (!s)
        s = replay_result(&r, out, err);
    replay_end(&r);
    return s;
}
