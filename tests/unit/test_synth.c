/* Synthetic traces: shape, determinism, what each kind promises, and the fit to measured
 * statistics. */
#include "base/version.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sanitizer.h"
#include "traces/reuse.h"
#include "traces/synth.h"
#include "traces/synth_spec.h"
#include "traces/synth_stats.h"

#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIXTRAL "experiments/data/mixtral-8x7b-decode-stats.json"
#define SMALL   "tests/fuzz/corpus/stats_json/two_layers.json" /* quick to fit */

static struct moe_err err;

static struct moe_trace make(const char *spec)
{
    struct moe_trace trace;
    ck_assert_msg(!moe_synth_make(spec, &trace, &err), "%s: %s", spec, err.text);
    ck_assert_msg(!moe_tokens_check(&trace.tokens, &trace.info, &err), "%s: %s", spec, err.text);
    return trace;
}

static struct moe_reuse measure(const struct moe_trace *trace)
{
    struct moe_reuse r;
    ck_assert_int_eq(moe_reuse_compute(trace, &r, &err), MOE_OK);
    return r;
}

static struct moe_reuse measure_spec(const char *spec)
{
    struct moe_trace trace = make(spec);
    struct moe_reuse r = measure(&trace);
    moe_trace_release(&trace);
    return r;
}

static const char *const one_of_each[] = {
    "uniform:layers=3,experts=5,top_k=2,tokens=11,sequences=3,prompt=4,model=toy",
    "zipf:layers=3,experts=5,top_k=2,tokens=11,sequences=3,prompt=4,model=toy,alpha=2",
    "sticky:layers=3,experts=5,top_k=2,tokens=11,sequences=3,prompt=4,model=toy,repeat=0.9",
    "stats:file=" SMALL ",tokens=11,sequences=3,prompt=4,model=toy",
};
enum { N_KINDS = sizeof one_of_each / sizeof *one_of_each };

/* 11 decode tokens over 3 sequences: 4, 4, 3, each after one prefill pass of 4. */
START_TEST(shape_and_provenance)
{
    struct moe_trace trace = make(one_of_each[_i]);
    const struct moe_tokens *x = &trace.tokens;
    ck_assert_uint_eq(x->n_tokens, 11 + 3 * 4);
    ck_assert_uint_eq(trace.n_sequences, 3);
    ck_assert_uint_eq(trace.sequences[0].n_tokens, 8);
    ck_assert_uint_eq(trace.sequences[1].n_tokens, 8);
    ck_assert_uint_eq(trace.sequences[2].n_tokens, 7);
    for (uint64_t t = 0; t < x->n_tokens; t++) {
        uint64_t index = t % 8; /* in its sequence */
        ck_assert_uint_eq(x->sequence[t], t / 8);
        ck_assert_int_eq(x->position[t], (int)index);
        ck_assert_int_eq(x->phase[t], index < 4 ? MOE_PREFILL : MOE_DECODE);
        ck_assert_uint_eq(x->step[t], index < 4 ? 0 : index - 3);
    }
    ck_assert(trace.info.synthetic);
    ck_assert_str_eq(trace.info.model, "toy");
    ck_assert_str_eq(trace.info.tool, "moelab " MOELAB_VERSION " synth");
    ck_assert_msg(strncmp(trace.info.source, "synthetic: ", 11) == 0, "%s", trace.info.source);
    ck_assert_str_eq(trace.sequences[0].label, "synthetic");
    moe_trace_release(&trace);
}
END_TEST

START_TEST(weights_fall_and_sum_to_one)
{
    struct moe_trace trace = make(one_of_each[_i]);
    uint32_t k_all = trace.info.top_k;
    uint64_t n = trace.tokens.n_tokens * trace.info.n_layers;
    for (uint64_t i = 0; i < n; i++) {
        const float *w = trace.tokens.weight + i * k_all;
        double sum = 0;
        for (uint32_t k = 0; k < k_all; k++) {
            ck_assert(w[k] > 0 && (k == 0 || w[k] <= w[k - 1]));
            sum += (double)w[k];
        }
        ck_assert_double_eq_tol(sum, 1, 1e-6);
    }
    moe_trace_release(&trace);
}
END_TEST

static int same_routes(const struct moe_trace *a, const struct moe_trace *b)
{
    size_t n = a->tokens.n_tokens * a->info.n_layers * a->info.top_k;
    return memcmp(a->tokens.expert, b->tokens.expert, n * sizeof(moe_expert)) == 0 &&
           memcmp(a->tokens.weight, b->tokens.weight, n * sizeof(float)) == 0;
}

START_TEST(same_seed_same_trace)
{
    char other[256];
    snprintf(other, sizeof other, "%s,seed=2", one_of_each[_i]);
    struct moe_trace a = make(one_of_each[_i]), b = make(one_of_each[_i]), c = make(other);
    ck_assert(same_routes(&a, &b));
    ck_assert(!same_routes(&a, &c));
    moe_trace_release(&a);
    moe_trace_release(&b);
    moe_trace_release(&c);
}
END_TEST

/* The spec in the provenance makes the same trace again (the file, for stats, is named apart). */
START_TEST(provenance_is_a_spec)
{
    char spec[512];
    struct moe_trace a = make(one_of_each[_i]);
    snprintf(spec, sizeof spec, "%.256s%s", a.info.source + strlen("synthetic: "),
             _i == MOE_SYNTH_STATS ? ",file=" SMALL : "");
    struct moe_trace b = make(spec);
    ck_assert(same_routes(&a, &b));
    moe_trace_release(&a);
    moe_trace_release(&b);
}
END_TEST

/* 40,000 pairs a lag: five standard errors are under 1 point. */
START_TEST(sticky_repeats_as_told)
{
    static const double repeats[] = {0, 0.3, 0.8, 1};
    for (int i = 0; i < 4; i++) {
        char spec[128];
        snprintf(spec, sizeof spec, "sticky:tokens=10000,layers=4,experts=8,top_k=2,repeat=%g",
                 repeats[i]);
        struct moe_reuse r = measure_spec(spec);
        /* no error at all where every or no expert repeats */
        double tolerance = i == 0 || i == 3 ? 1e-12 : 0.01;
        ck_assert_double_eq_tol(r.mean.repeat_expert[0], repeats[i], tolerance);
        ck_assert_double_eq_tol(r.mean.repeat_all[0], repeats[i] * repeats[i], tolerance);
        moe_reuse_release(&r);
    }
}
END_TEST

static int falling(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a < b) - (a > b);
}

/* First choices are drawn by rank^-alpha exactly; ranks differ between layers. */
START_TEST(zipf_first_choices)
{
    struct moe_reuse r = measure_spec("zipf:tokens=40000,layers=2,experts=8,top_k=3,alpha=1.2");
    double norm = 0;
    int same = 1;
    for (int e = 0; e < 8; e++) {
        norm += pow(e + 1, -1.2);
        same &= fabs(r.layer[0].first_popularity[e] - r.layer[1].first_popularity[e]) < 0.02;
    }
    ck_assert(!same);
    for (int l = 0; l < 2; l++) {
        qsort(r.layer[l].first_popularity, 8, sizeof(double), falling);
        for (int e = 0; e < 8; e++)
            ck_assert_double_eq_tol(r.layer[l].first_popularity[e], pow(e + 1, -1.2) / norm,
                                    0.0125);
    }
    moe_reuse_release(&r);
    /* the steepest popularity with all experts in every route still ends */
    r = measure_spec("zipf:tokens=3,layers=1,experts=64,top_k=64,alpha=10");
    ck_assert_double_eq_tol(r.layer[0].repeat_all[0], 1, 1e-12);
    moe_reuse_release(&r);
}
END_TEST

struct comparison {
    double target[MOE_LAGS + 11], got[MOE_LAGS + 11];
    char name[MOE_LAGS + 11][24];
    int n;
};

static void compare(struct comparison *c, const char *name, uint32_t index, double target,
                    double got)
{
    ck_assert(c->n < MOE_LAGS + 11);
    snprintf(c->name[c->n], sizeof c->name[0], "%s %" PRIu32, name, index);
    c->target[c->n] = target;
    c->got[c->n++] = got;
}

static double worst_popularity(const struct moe_stats *stats, const struct moe_reuse *r, int first)
{
    double worst = 0;
    for (uint32_t l = 0; l < stats->n_layers; l++)
        for (uint32_t e = 0; e < stats->n_experts; e++) {
            double d = first ? stats->layer[l].first_popularity[e] - r->layer[l].first_popularity[e]
                             : stats->layer[l].popularity[e] - r->layer[l].popularity[e];
            worst = fmax(worst, fabs(d));
        }
    return worst;
}

/* Means over layers of the file beside those of the trace. */
static struct comparison compare_means(const struct moe_stats *stats, const struct moe_reuse *r,
                                       int with_lru)
{
    struct comparison c = {.n = 0};
    struct moe_stats_layer m = {0};
    double lru[8] = {0}, share = 1.0 / stats->n_layers;
    for (uint32_t l = 0; l < stats->n_layers; l++) {
        const struct moe_stats_layer *s = &stats->layer[l];
        for (int i = 0; i < MOE_LAGS; i++)
            m.repeat_expert[i] += share * s->repeat_expert[i];
        m.repeat_any += share * s->repeat_any;
        m.repeat_all += share * s->repeat_all;
        m.repeat_first += share * s->repeat_first;
        for (uint32_t w = 1; w < 8; w++)
            lru[w] += share * s->lru_hit_rate[w];
    }
    for (int i = 0; i < MOE_LAGS; i++)
        compare(&c, "repeat by lag", moe_lags[i], m.repeat_expert[i], r->mean.repeat_expert[i]);
    compare(&c, "at least one, lag", 1, m.repeat_any, r->mean.repeat_any[0]);
    compare(&c, "both, lag", 1, m.repeat_all, r->mean.repeat_all[0]);
    compare(&c, "first choice, lag", 1, m.repeat_first, r->mean.repeat_first);
    for (uint32_t w = 1; with_lru && w < 8; w++)
        compare(&c, "LRU hits, ways", w, lru[w], r->mean.lru_hit_rate[w]);
    return c;
}

static void check_fit(const char *spec, int with_lru)
{
    struct moe_stats stats;
    ck_assert_msg(!moe_stats_load(MIXTRAL, &stats, &err), "%s", err.text);
    struct moe_reuse r = measure_spec(spec);
    struct comparison c = compare_means(&stats, &r, with_lru);
    double popularity = worst_popularity(&stats, &r, 0), first = worst_popularity(&stats, &r, 1);
    printf("%s\n%-22s %8s %8s %8s\n", spec, "mean over layers", "target", "got", "off");
    for (int i = 0; i < c.n; i++)
        printf("%-22s %8.4f %8.4f %+8.4f\n", c.name[i], c.target[i], c.got[i],
               c.got[i] - c.target[i]);
    printf("worst popularity of any expert of any layer %+.4f, first choice %+.4f\n", popularity,
           first);
    for (int i = 0; i < c.n; i++)
        ck_assert_msg(fabs(c.got[i] - c.target[i]) <= 0.02, "%s is %.4f, not %.4f", c.name[i],
                      c.got[i], c.target[i]);
    ck_assert_double_le(popularity, 0.02);
    ck_assert_double_le(first, 0.03);
    /* layers are drawn independently: consecutive ones share what chance gives */
    ck_assert_double_eq_tol(r.mean.next_layer_expert, r.chance_expert, 0.01);
    ck_assert_double_eq_tol(r.mean.next_layer_any, r.chance_any, 0.01);
    moe_reuse_release(&r);
    moe_stats_release(&stats);
}

/* Sequences of the measured length: then LRU hit rates, cold at every start, compare. */
START_TEST(stats_match_the_measured)
{
    check_fit("stats:file=" MIXTRAL ",tokens=29200,sequences=200", 1);
}
END_TEST

START_TEST(stats_match_with_another_seed)
{
    check_fit("stats:file=" MIXTRAL ",tokens=10000,seed=77", 1);
}
END_TEST

/* Long sequences have fewer cold misses; popularity and repeat stay. */
START_TEST(stats_match_in_long_sequences)
{
    check_fit("stats:file=" MIXTRAL ",tokens=20000,sequences=4,seed=3,prompt=50", 0);
}
END_TEST

static double shared(const moe_expert a[2], const moe_expert b[2])
{
    return ((a[0] == b[0]) + (a[0] == b[1]) + (a[1] == b[0]) + (a[1] == b[1])) / 2.0;
}

/* The process with the longest memory alone: tokens of a sequence are alike, its first token owes
 * nothing to the sequence before. 4000 pairs: five standard errors are under 0.03. */
START_TEST(sequences_are_independent)
{
    enum { PAIRS = 4000 };
    struct moe_latent_params params;
    struct moe_latent latent;
    struct moe_rng rng;
    double within = 0, across = 0;
    moe_expert last[2] = {0, 1}, first[2], second[2];
    moe_rng_init(&rng, 5);
    ck_assert(!moe_latent_params_init(&params, 8, &err) && !moe_latent_init(&latent, 8, 2, &err));
    memcpy(params.share, (double[MOE_LATENT_PROCESSES]){0, 0, 0, 1}, sizeof params.share);
    for (int i = 0; i < PAIRS; i++) {
        moe_latent_restart(&latent);
        moe_latent_next(&latent, &params, &rng, first);
        moe_latent_next(&latent, &params, &rng, second);
        across += shared(last, first) / PAIRS;
        within += shared(first, second) / PAIRS;
        memcpy(last, second, sizeof last);
    }
    ck_assert_double_eq_tol(across, 0.25, 0.03);
    ck_assert_double_ge(within, 0.8);
    moe_latent_params_release(&params);
    moe_latent_release(&latent);
}
END_TEST

static void next_route(const struct moe_latent_params *params, uint32_t n_experts, uint32_t top_k,
                       uint64_t seed, moe_expert *route)
{
    struct moe_latent latent;
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    ck_assert(!moe_latent_init(&latent, n_experts, top_k, &err));
    moe_latent_next(&latent, params, &rng, route);
    moe_latent_release(&latent);
}

/* Two experts are chosen in a way of their own: the first two of three. Scores that are biases of 0
 * to 2 have every tie of four experts; noise on them, every order of scores that differ. */
START_TEST(two_are_the_first_of_three)
{
    enum { EXPERTS = 4, BIASES = 81 };
    struct moe_latent_params params;
    moe_expert two[2], three[3];
    ck_assert(!moe_latent_params_init(&params, EXPERTS, &err));
    for (uint32_t i = 0; i < 2 * BIASES; i++) {
        params.share[0] = i < BIASES ? 0 : 1;
        for (uint32_t e = 0, left = i % BIASES; e < EXPERTS; e++, left /= 3)
            params.bias[e] = left % 3;
        next_route(&params, EXPERTS, 2, i, two);
        next_route(&params, EXPERTS, 3, i, three);
        ck_assert_mem_eq(two, three, sizeof two);
    }
    moe_latent_params_release(&params);
}
END_TEST

START_TEST(stats_take_the_files_shape_and_length)
{
    struct moe_trace trace = make("stats:file=" MIXTRAL ",tokens=1000");
    ck_assert_uint_eq(trace.info.n_layers, 32);
    ck_assert_uint_eq(trace.info.n_experts, 8);
    ck_assert_uint_eq(trace.info.top_k, 2);
    ck_assert_uint_eq(trace.n_sequences, 7); /* of about 585 / 4 tokens */
    ck_assert_str_eq(trace.info.model, "Mixtral-8x7B-Instruct-v0.1");
    ck_assert_ptr_nonnull(strstr(trace.info.note, "fitted to routing statistics of Mixtral"));
    moe_trace_release(&trace);
}
END_TEST

static const struct {
    const char *spec, *message;
} refused[] = {
    {"", "unknown kind"},
    {"unifrom:tokens=3", "unknown kind 'unifrom', not one of uniform|zipf|sticky|stats"},
    {"uniform:token=3", "did you mean 'tokens'"},
    {"uniform:tokens", "'tokens' is not of the form key=value"},
    {"uniform:tokens=0", "tokens"},
    {"uniform:tokens=-1", "tokens"},
    {"uniform:tokens=99999999999999999999", "tokens"},
    {"uniform:layers=1025", "1024"},
    {"uniform:experts=2,top_k=3", "top_k 3 exceeds the 2 experts"},
    {"uniform:tokens=3,sequences=4", "sequences 4 exceed the 3 tokens"},
    {"uniform:alpha=2", "'alpha' is a key of zipf only"},
    {"zipf:tokens=9,repeat=0.5", "'repeat' is a key of sticky only"},
    {"zipf:alpha=nan", "alpha"},
    {"zipf:alpha=11", "alpha"},
    {"sticky:file=x", "'file' is a key of stats only"},
    {"sticky:repeat=1.5", "repeat"},
    {"sticky:experts=7,top_k=4", "sticky needs 2 x top_k = 8 experts, not 7"},
    {"stats", "stats needs file=PATH"},
    {"stats:layers=31,file=" MIXTRAL, "layers 31 differs from the 32"},
    {"uniform:tokens=3000000000", "3000000000 tokens of a sequence exceed"},
};

START_TEST(refused_specs)
{
    struct moe_trace trace;
    ck_assert_int_eq(moe_synth_make(refused[_i].spec, &trace, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, refused[_i].message) != NULL, "%s", err.text);
}
END_TEST

START_TEST(missing_or_too_large)
{
    struct moe_trace trace;
    ck_assert_int_eq(moe_synth_make("stats:file=no/such.json", &trace, &err), MOE_ERR_IO);
    ck_assert_int_eq(moe_synth_make("uniform:tokens=1000000000000,sequences=1000000", &trace, &err),
                     MOE_ERR_MEMORY);
}
END_TEST

#define LAYER                                                                                      \
    "\"popularity\":[0.5,0.25,0.25],\"first_choice_popularity\":[0.5,0.25,0.25],"                  \
    "\"first_choice_repeat\":0.5,\"at_least_one_repeat\":1,\"both_repeat\":0.4,"
#define LAGS                                                                                       \
    "\"expert_repeat_by_lag\":{\"1\":0.7,\"2\":0.7,\"3\":0.7,\"4\":0.7,\"8\":0.7,\"16\":0.7},"
#define LRU  "\"lru_hit_rate_by_ways\":{\"1\":0.1,\"2\":0.7}"
#define GOOD "{\"layers\":[{\"layer\":0," LAYER LAGS LRU "}]}"

static const struct {
    const char *json, *message;
} bad_files[] = {
    {"", "'s.json':1"},
    {"[]", "not a JSON object"},
    {"{\"layers\":[", "'s.json':1"},
    {"{\"layers\":[{\"layer\":0,\"popularity\":[NaN]}]}", "'s.json':1"},
    {"{\"layers\":[]}", "no array 'layers'"},
    {"{\"layers\":7}", "no array 'layers'"},
    {"{\"layers\":[{\"popularity\":[1]}]}", "1 shares in 'popularity', not 2..4096"},
    {"{\"layers\":[{\"layer\":1," LAYER LAGS LRU "}]}", "layer 0: its 'layer' is not 0"},
    {"{\"layers\":[{\"layer\":0," LAYER LAGS LRU "},{\"layer\":0," LAYER LAGS LRU "}]}",
     "layer 1: its 'layer' is not 1"},
    {"{\"layers\":[{\"layer\":0," LAYER LAGS LRU "},7]}", "layer 1: not an object"},
    {"{\"layers\":[{" LAYER LAGS LRU "}]}", "layer 0: its 'layer' is not 0"},
    {"{\"layers\":[{\"layer\":0,\"layer\":0," LAYER LAGS LRU "}]}", "duplicate"},
    {"{\"top_k\":3,\"layers\":[{\"layer\":0," LAYER LAGS LRU "}]}",
     "'popularity' 0.5 of expert 0 exceeds the 0.333333"},
    {"{\"top_k\":4,\"layers\":[{\"layer\":0," LAYER LAGS LRU "}]}", "'top_k' 4 is outside 1..3"},
    {"{\"top_K\":2,\"layers\":[{\"layer\":0," LAYER LAGS LRU "}]}",
     "unknown key 'top_K' (did you mean 'top_k'?)"},
    {"{\"sequences\":0,\"layers\":[{\"layer\":0," LAYER LAGS LRU "}]}",
     "'sequences' 0 is outside 1..1000000"},
    {"{\"sequences\":9,\"tokens\":8,\"layers\":[{\"layer\":0," LAYER LAGS LRU "}]}",
     "'tokens' 8 is outside 9..9000000"},
    {"{\"tokens\":1e18,\"layers\":[{\"layer\":0," LAYER LAGS LRU "}]}",
     "'tokens' is not a whole number"},
    {"{\"layers\":[{\"layer\":0," LAYER LAGS "\"lru_hit_rate_by_ways\":{\"1\":0.5,\"2\":0.4}}]}",
     "lru_hit_rate_by_ways: '2' 0.4 is below the 0.5"},
    {"{\"layers\":[{\"layer\":0," LAYER LAGS "\"lru_hit_rate_by_ways\":{\"1\":0.5}}]}",
     "lru_hit_rate_by_ways: no '2'"},
    {"{\"layers\":[{\"layer\":0," LAYER LRU "}]}", "layer 0: no 'expert_repeat_by_lag'"},
    {"{\"layers\":[{\"layer\":0," LAYER "\"expert_repeat_by_lag\":{\"1\":1.5}," LRU "}]}",
     "layer 0: expert_repeat_by_lag: '1' 1.5 is outside 0..1"},
    {"{\"layers\":[{\"layer\":0," LAYER "\"expert_repeat_by_lag\":{\"1\":\"x\"}," LRU "}]}",
     "'1' is not a number"},
    {"{\"layers\":[{\"layer\":0,\"popularity\":[0.5,0.25,0.35]," LAGS LRU "}]}",
     "'popularity' sums to 1.1, not 1"},
    {"{\"layers\":[{\"layer\":0,\"popularity\":[0.5,0.25,-0.25]," LAGS LRU "}]}",
     "'popularity' -0.25 is outside 0..1"},
};

START_TEST(bad_statistics)
{
    struct moe_stats stats;
    const char *json = bad_files[_i].json;
    ck_assert_int_eq(moe_stats_parse("s.json", json, strlen(json), &stats, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, bad_files[_i].message) != NULL, "%s", err.text);
    ck_assert_msg(strncmp(err.text, "statistics 's.json'", 19) == 0, "%s", err.text);
}
END_TEST

/* The smallest file, with everything optional left out. */
START_TEST(small_statistics)
{
    struct moe_stats stats;
    ck_assert_msg(!moe_stats_parse("s.json", GOOD, strlen(GOOD), &stats, &err), "%s", err.text);
    ck_assert_uint_eq(stats.n_experts, 3);
    ck_assert_uint_eq(stats.top_k, 2);
    ck_assert_str_eq(stats.model, "unknown");
    ck_assert_uint_eq(moe_stats_sequence_tokens(&stats), 146);
    ck_assert_double_eq(stats.layer[0].lru_hit_rate[2], 0.7);
    moe_stats_release(&stats);
}
END_TEST

/* What the spec leaves out is the model's, and the name where the shape is the model's alone. */
START_TEST(shape_of_a_model)
{
    static const struct moe_model model = {
        .name = "a-model", .n_layers = 5, .n_experts = 60, .top_k = 4};
    static const struct {
        const char *spec;
        uint64_t layers, experts, top_k;
        const char *name;
    } cases[] = {{"uniform", 5, 60, 4, "a-model"},
                 {"zipf:model=b", 5, 60, 4, "b"},
                 {"uniform:model=qwen3-30b-a3b", 48, 128, 8, "qwen3-30b-a3b"},
                 {"uniform:layers=3,model=qwen3-30b-a3b", 3, 128, 8, "qwen3-30b-a3b"},
                 {"sticky:layers=2,top_k=1", 2, 60, 1, ""},
                 {"stats:file=" MIXTRAL, 0, 0, 0, ""}};
    struct moe_synth_config config;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(moe_synth_parse_for(cases[i].spec, &model, &config, &err), MOE_OK);
        ck_assert_uint_eq(config.layers, cases[i].layers);
        ck_assert_uint_eq(config.experts, cases[i].experts);
        ck_assert_uint_eq(config.top_k, cases[i].top_k);
        ck_assert_str_eq(config.model, cases[i].name);
    }
    ck_assert_int_eq(moe_synth_parse_for("uniform:experts=3", &model, &config, &err),
                     MOE_ERR_USAGE); /* the model's top 4 of them */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("synth");
    TCase *tests = tcase_create("synth");
    tcase_add_loop_test(tests, shape_and_provenance, 0, N_KINDS);
    tcase_add_loop_test(tests, weights_fall_and_sum_to_one, 0, N_KINDS);
    tcase_add_loop_test(tests, same_seed_same_trace, 0, N_KINDS);
    tcase_add_loop_test(tests, provenance_is_a_spec, 0, N_KINDS);
    tcase_add_test(tests, sticky_repeats_as_told);
    tcase_add_test(tests, zipf_first_choices);
    tcase_add_test(tests, stats_match_the_measured);
    if (!ADDRESS_SANITIZER) { /* the same code as the fit above, half a minute each */
        tcase_add_test(tests, stats_match_with_another_seed);
        tcase_add_test(tests, stats_match_in_long_sequences);
    }
    tcase_add_test(tests, sequences_are_independent);
    tcase_add_test(tests, two_are_the_first_of_three);
    tcase_add_test(tests, stats_take_the_files_shape_and_length);
    tcase_add_loop_test(tests, refused_specs, 0, sizeof refused / sizeof *refused);
    tcase_add_test(tests, missing_or_too_large);
    tcase_add_loop_test(tests, bad_statistics, 0, sizeof bad_files / sizeof *bad_files);
    tcase_add_test(tests, small_statistics);
    tcase_add_test(tests, shape_of_a_model);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
