/* Properties of every lossy rule on random worlds, and who may use them. */
#include "sim/gap.h"
#include "sim/tune.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sim_world.h"

static struct moe_err err;

/* Parameters with which a rule changes nothing, and with which it changes what it can. */
static const char *const idle[] = {"cache-prior:lambda=0", "max-rank:rank=0", "cumulative:mass=0",
                                   "substitute:below=0", "cache-prior:lambda=9,keep=99"};
static const char *const busy[] = {"cache-prior:lambda=9,keep=0",
                                   "max-rank:rank=99,keep=0",
                                   "cumulative:mass=1",
                                   "substitute:below=1,ratio=0,keep=0",
                                   "cache-prior",
                                   "max-rank",
                                   "cumulative",
                                   "substitute",
                                   "daop:first=1"};
enum { N_IDLE = sizeof idle / sizeof *idle, N_BUSY = sizeof busy / sizeof *busy };

/* Random worlds whose router is a top-k of its scores. */
static struct world lossy_world(struct moe_rng *rng)
{
    struct world w = random_world(rng);
    const struct moe_trace_info *info = &w.trace.info;
    struct moe_tokens *tokens = &w.trace.tokens;
    size_t rows = (size_t)tokens->n_tokens * info->n_layers;
    tokens->lookahead = malloc(rows * info->n_experts * sizeof *tokens->lookahead);
    ck_assert_ptr_nonnull(tokens->lookahead);
    for (size_t i = 0; i < rows * info->n_experts; i++)
        tokens->lookahead[i] = (float)(4 * moe_rng_unit(rng));
    for (size_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < info->top_k; k++) {
            moe_expert e = tokens->expert[i * info->top_k + k];
            if (e != MOE_NO_EXPERT)
                tokens->score[i * info->n_experts + e] = 20 - (float)k;
        }
    if (w.strategy.policy.ops->needs & MOE_NEEDS_FUTURE)
        set_key(&w.strategy, "policy", "lru");
    if (w.strategy.prefetcher.ops->needs & MOE_NEEDS_FUTURE)
        set_key(&w.strategy, "prefetcher", "none");
    w.strategy.lossy = true;
    return w;
}

static char *decisions_of(const struct world *w, struct moe_result *r)
{
    char *text;
    size_t size;
    struct moe_decision_log log = {.stream = open_memstream(&text, &size)};
    struct moe_sim_input in = {.trace = &w->trace,
                               .model = &w->model,
                               .platform = &w->platform,
                               .strategy = &w->strategy,
                               .decisions = &log};
    enum moe_status s = moe_simulate(&in, r, &err);
    ck_assert_int_eq(fclose(log.stream), 0);
    ck_assert_msg(!s, "%s", err.text);
    return text;
}

START_TEST(idle_rules_change_no_byte)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 77);
    for (int i = 0; i < 120; i++) {
        struct world w = lossy_world(&rng);
        struct moe_result before, after;
        char *plain = decisions_of(&w, &before);
        set_key(&w.strategy, "reroute", idle[i % N_IDLE]);
        char *lossy = decisions_of(&w, &after);
        ck_assert_str_eq(plain, lossy);
        ck_assert_uint_eq(before.decode_ns, after.decode_ns);
        ck_assert_uint_eq(after.rerouted.events_moved, 0);
        free(plain);
        free(lossy);
        moe_trace_release(&w.trace);
    }
}
END_TEST

/* The experts that a line of a decision log names; fails where one is there twice. */
static uint32_t count_experts(const char *line, size_t n)
{
    bool seen[64] = {false};
    uint32_t count = 0;
    const char *end = line + n, *at = line;
    for (int i = 0; i < 3 && at < end; i++) /* step, layer, phase */
        at += strcspn(at, " \n") + 1;
    while (at < end && *at != 'l') { /* lossy: */
        unsigned long e = strtoul(at, NULL, 10);
        ck_assert_uint_lt(e, 64);
        ck_assert(!seen[e]);
        seen[e] = true;
        count++;
        at += strcspn(at, " \n") + 1;
    }
    return count;
}

START_TEST(routes_keep_their_number_and_have_none_twice)
{
    struct moe_rng rng;
    uint64_t moved = 0;
    moe_rng_init(&rng, 78);
    for (int i = 0; i < 180; i++) {
        struct world w = lossy_world(&rng);
        struct moe_result before, after;
        char *plain = decisions_of(&w, &before);
        set_key(&w.strategy, "reroute", busy[i % N_BUSY]);
        char *lossy = decisions_of(&w, &after);
        const char *a = plain, *b = lossy;
        while (*a || *b) {
            size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
            ck_assert_uint_eq(count_experts(a, n), count_experts(b, m));
            a += n + 1;
            b += m + 1;
        }
        ck_assert_uint_eq(before.routed_experts, after.routed_experts);
        ck_assert_double_le(after.rerouted.weight_moved, after.rerouted.weight * (1 + 1e-9));
        ck_assert_double_le(after.rerouted.mass_lost, after.rerouted.mass * (1 + 1e-9));
        moved += after.rerouted.replaced;
        free(plain);
        free(lossy);
        moe_trace_release(&w.trace);
    }
    ck_assert_uint_gt(moved, 1000);
}
END_TEST

/* Where every expert lies in a slot nothing is missing. */
START_TEST(a_full_cache_changes_nothing)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 79);
    for (int i = 0; i < N_BUSY; i++) {
        struct world w = lossy_world(&rng);
        struct moe_result r;
        set_key(&w.strategy, "geometry", "all");
        set_key(&w.strategy, "policy", "static");
        set_key(&w.strategy, "reroute", busy[i]);
        free(decisions_of(&w, &r));
        if (strncmp(busy[i], "daop", 4) != 0)
            ck_assert_uint_eq(r.rerouted.events_moved, 0);
        ck_assert_uint_gt(r.rerouted.events, 0);
        moe_trace_release(&w.trace);
    }
}
END_TEST

START_TEST(more_bonus_means_more_hits_and_more_loss)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 80);
    struct random_shape shape = {.n_layers = 3, .n_experts = 8, .top_k = 2, .n_tokens = 400};
    struct world w = {.model = tiny_model(3, 8, 2),
                      .platform = tiny_platform(),
                      .strategy = load_strategy("collab")};
    random_trace(&rng, &shape, &w.trace);
    add_scores(&rng, &w.trace);
    for (uint64_t i = 0; i < w.trace.tokens.n_tokens * 3 * 2; i++)
        w.trace.tokens.score[i / 2 * 8 + w.trace.tokens.expert[i]] = 4.5f - 0.25f * (float)(i % 2);
    set_key(&w.strategy, "geometry", "3x4");
    w.strategy.lossy = true;
    static const char *const rules[] = {"none", "cache-prior:lambda=0.1", "cache-prior:lambda=0.3",
                                        "cache-prior:lambda=2"};
    double hits = 0, lost = -1;
    for (int i = 0; i < 4; i++) {
        struct moe_result r;
        set_key(&w.strategy, "reroute", rules[i]);
        free(decisions_of(&w, &r));
        const struct moe_rerouted_shares share = moe_rerouted_shares(&r.rerouted);
        ck_assert_double_gt((double)(r.decode.hits + r.decode.inflight_hits), hits);
        ck_assert_double_gt(share.mass_lost, lost);
        hits = (double)(r.decode.hits + r.decode.inflight_hits);
        lost = share.mass_lost;
    }
    moe_trace_release(&w.trace);
}
END_TEST

static void expect_refused(const struct world *w, const char *words)
{
    struct moe_result r;
    ck_assert_int_eq(try(w, &r, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
}

START_TEST(who_may_use_them)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 81);
    struct world w = lossy_world(&rng);
    set_key(&w.strategy, "reroute", "daop");
    w.strategy.lossy = false;
    expect_refused(&w, "is lossy");
    expect_refused(&w, "--lossy");
    w.strategy.lossy = true;
    set_key(&w.strategy, "policy", "opt");
    expect_refused(&w, "future");
    set_key(&w.strategy, "policy", "lru");
    set_key(&w.strategy, "prefetcher", "oracle");
    expect_refused(&w, "future");
    set_key(&w.strategy, "prefetcher", "none");
    free(w.trace.tokens.lookahead);
    w.trace.tokens.lookahead = NULL;
    expect_refused(&w, "lookahead");
    free(w.trace.tokens.score);
    w.trace.tokens.score = NULL;
    expect_refused(&w, "scores of all experts");
    moe_trace_release(&w.trace);
}
END_TEST

START_TEST(gap_and_tuner_refuse)
{
    struct moe_rng rng;
    struct moe_gap gap;
    struct moe_result r;
    moe_rng_init(&rng, 82);
    struct world w = lossy_world(&rng);
    set_key(&w.strategy, "reroute", "max-rank");
    free(decisions_of(&w, &r));
    const struct moe_sim_input in = {
        .trace = &w.trace, .model = &w.model, .platform = &w.platform, .strategy = &w.strategy};
    ck_assert_int_eq(moe_gap_split(&in, &r, &gap, &err), MOE_ERR_USAGE);
    struct moe_tune_result tuned;
    const struct moe_tune_options options = {
        .trace = &w.trace, .model = &w.model, .platform = &w.platform, .base = &w.strategy};
    ck_assert_int_eq(moe_tune(&options, &tuned, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "lossy") != NULL, "%s", err.text);
    moe_trace_release(&w.trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reroute properties");
    TCase *tc = tcase_create("reroute");
    tcase_add_test(tc, idle_rules_change_no_byte);
    tcase_add_test(tc, routes_keep_their_number_and_have_none_twice);
    tcase_add_test(tc, a_full_cache_changes_nothing);
    tcase_add_test(tc, more_bonus_means_more_hits_and_more_loss);
    tcase_add_test(tc, who_may_use_them);
    tcase_add_test(tc, gap_and_tuner_refuse);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
