/* The replay in which copies land at once equals the plain one: every policy and reading, pools of
 * layers, shared and limited by bytes, larger and smaller than an event. */
#include "sim/replay.h"

#include "tests/unit/policy_variants.h"
#include "tests/unit/random_trace.h"

enum { N_CASES = 400, MAX_GEOMETRY = 64 };

struct setting {
    struct random_shape shape;
    struct moe_trace trace;
    char geometry_text[MAX_GEOMETRY];
    struct moe_geometry geometry;
    struct moe_replay_options options;
};

static void draw_geometry(struct moe_rng *rng, struct setting *s)
{
    const struct random_shape *shape = &s->shape;
    static const uint64_t bytes[4] = {10, 20, 30, 40}; /* the geometry keeps it */
    uint32_t keys = shape->n_layers * shape->n_experts, n_bytes = 0;
    struct moe_err err;
    for (uint32_t l = 0; l < shape->n_layers; l++)
        n_bytes += shape->n_experts * (uint32_t)bytes[l];
    if (moe_rng_below(rng, 3) == 0) {
        /* Every other one so small that an event of the first layer fills all its slots. */
        const uint32_t most = n_bytes < 120 || moe_rng_below(rng, 2) ? n_bytes : 120;
        snprintf(s->geometry_text, MAX_GEOMETRY, "global:%uB",
                 most < 40 ? most : 40 + (uint32_t)moe_rng_below(rng, most - 39));
    } else if (moe_rng_below(rng, 2)) {
        snprintf(s->geometry_text, MAX_GEOMETRY, "global:%u",
                 1 + (uint32_t)moe_rng_below(rng, keys));
    } else {
        snprintf(s->geometry_text, MAX_GEOMETRY, "%ux%u",
                 1 + (uint32_t)moe_rng_below(rng, shape->n_layers),
                 1 + (uint32_t)moe_rng_below(rng, shape->n_experts));
    }
    ck_assert_msg(!moe_geometry_parse(s->geometry_text, shape->n_layers, shape->n_experts, bytes,
                                      &s->geometry, &err),
                  "%s: %s", s->geometry_text, err.text);
}

static void add_scores(struct moe_rng *rng, struct setting *s)
{
    size_t n = (size_t)s->trace.tokens.n_tokens * s->shape.n_layers * s->shape.n_experts;
    s->trace.tokens.score = calloc(n + 1, sizeof(float));
    ck_assert_ptr_nonnull(s->trace.tokens.score);
    for (size_t i = 0; i < n; i++)
        s->trace.tokens.score[i] = (float)moe_rng_below(rng, 50) / 10;
}

static void draw_setting(uint64_t seed, struct setting *s)
{
    static const uint32_t experts[] = {2, 3, 8, 16, 40, 128};
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    s->shape = (struct random_shape){
        .n_layers = 1 + (uint32_t)moe_rng_below(&rng, 4),
        .n_experts = experts[moe_rng_below(&rng, 6)],
        .n_tokens = 1 + (uint32_t)moe_rng_below(&rng, 150),
        .absent = moe_rng_below(&rng, 2),
        .many = moe_rng_below(&rng, 2),
    };
    uint32_t most = s->shape.n_experts < 8 ? s->shape.n_experts : 8;
    s->shape.top_k = 1 + (uint32_t)moe_rng_below(&rng, most);
    random_trace(&rng, &s->shape, &s->trace);
    add_scores(&rng, s);
    draw_geometry(&rng, s);
    s->options = (struct moe_replay_options){
        .contract = moe_rng_below(&rng, 2) ? MOE_CONTRACT_EVENT : MOE_CONTRACT_ACCESS,
        .order = moe_rng_below(&rng, 2) ? MOE_ORDER_STEP : MOE_ORDER_TOKEN,
        .phases = (enum moe_phases)moe_rng_below(&rng, 3),
        .cold = moe_rng_below(&rng, 2),
        .seed = seed,
    };
}

static struct moe_replay_result replay(const struct setting *s, const struct variant *v,
                                       bool generic)
{
    struct moe_replay_options options = s->options;
    struct moe_replay_result result;
    struct moe_err err;
    options.generic = generic;
    ck_assert_msg(!moe_replay(&s->trace, &s->geometry, &v->spec, &options, &result, &err), "%s",
                  err.text);
    return result;
}

static void compare(const struct setting *s, const struct variant *v, uint64_t seed)
{
    struct moe_replay_result fast = replay(s, v, false), plain = replay(s, v, true);
    for (int p = 0; p < 2; p++)
        for (uint32_t l = 0; l < s->shape.n_layers; l++) /* only uint64_t members: no padding */
            if (memcmp(&fast.layer[p][l], &plain.layer[p][l], sizeof plain.layer[p][l]) != 0)
                ck_abort_msg("seed %" PRIu64 " %s %s E %u K %u %s: layer %u phase %d differs", seed,
                             v->text, s->geometry_text, s->shape.n_experts, s->shape.top_k,
                             s->options.contract == MOE_CONTRACT_EVENT ? "event" : "access", l, p);
    REQUIRE(fast.both.lookups == fast.both.hits + fast.both.misses);
    REQUIRE(fast.preloads.experts == plain.preloads.experts);
    moe_replay_release(&fast);
    moe_replay_release(&plain);
}

START_TEST(equals_the_plain_path)
{
    for (uint64_t seed = 1; seed <= N_CASES; seed++) {
        struct setting s;
        draw_setting(seed, &s);
        for (uint32_t i = 0; i < n_variants; i++)
            compare(&s, &variants[i], seed);
        moe_geometry_release(&s.geometry);
        moe_trace_release(&s.trace);
    }
}
END_TEST

static void add(TCase *tc)
{
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, equals_the_plain_path);
}

int main(void)
{
    return run_policy_tests("replay_at_once", add);
}
