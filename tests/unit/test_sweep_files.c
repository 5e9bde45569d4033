/* Files named by points of a sweep are parsed once, and give the same inputs as if each point
 * parsed them anew; the content of a trace decides which rows of an earlier run are reused. */
#include "sim/sweep_point.h"

#include "sim/sweep.h"
#include "tests/unit/file_tree.h"
#include "tests/unit/run_suite.h"
#include "traces/hdf5.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct moe_err err;
static struct moe_sweep_files none, files; /* all zero: nothing is kept */
static struct moe_sweep_inputs fresh, kept;

static const struct moe_experiment simulated = {.kind = MOE_EXPERIMENT_SIM};

static struct moe_setting settings[] = {
    {"threads", "3"}, {"platform.gpu.tflops", "7"}, {"policy", "lfru"}};

static struct moe_point point_of(const char *model, const char *platform, const char *strategy)
{
    return (struct moe_point){.model = model,
                              .platform = platform,
                              .strategy = strategy,
                              .n_settings = sizeof settings / sizeof *settings,
                              .settings = settings};
}

/* Resolves the point with files kept and without. */
static void resolve_both(const struct moe_experiment *x, const struct moe_point *point)
{
    ck_assert_msg(!moe_sweep_resolve(x, &none, point, &fresh, &err), "%s", err.text);
    ck_assert_msg(!moe_sweep_keep(&files, x, point, &kept, &err), "%s", err.text);
    ck_assert_mem_eq(&kept, &fresh, sizeof kept);
    ck_assert_msg(!moe_sweep_resolve(x, &files, point, &kept, &err), "%s", err.text);
    ck_assert_uint_eq(kept.hash, fresh.hash);
    ck_assert_mem_eq(&kept, &fresh, sizeof kept);
}

START_TEST(kept_files_give_the_same_inputs)
{
    static const char *const models[] = {"mixtral-8x7b", "gpt-oss-20b"};
    static const char *const platforms[] = {"paper-4090", "strix-halo"};
    static const char *const strategies[] = {"collab", "on-demand"};
    uint64_t hash[8];
    for (unsigned i = 0; i < 16; i++) { /* the second half finds every file kept */
        struct moe_point point =
            point_of(models[i & 1], platforms[i >> 1 & 1], strategies[i >> 2 & 1]);
        resolve_both(&simulated, &point);
        ck_assert_str_eq(kept.model.name, models[i & 1]);
        ck_assert_str_eq(kept.platform.name, platforms[i >> 1 & 1]);
        ck_assert_str_eq(kept.strategy.name, strategies[i >> 2 & 1]);
        ck_assert_uint_eq(kept.strategy.threads, 3);
        if (i < 8)
            hash[i] = kept.hash;
        ck_assert_uint_eq(kept.hash, hash[i % 8]);
        for (unsigned k = 0; k < i && i < 8; k++)
            ck_assert_uint_ne(hash[k], hash[i]);
    }
    for (int kind = 0; kind < MOE_SWEEP_KINDS; kind++)
        ck_assert_uint_eq(files.n[kind], kind == MOE_SWEEP_POLICY ? 0 : 2);
    moe_sweep_files_release(&files);
    ck_assert_uint_eq(files.n[MOE_SWEEP_MODEL], 0);
}
END_TEST

START_TEST(a_setting_of_one_point_is_not_the_next_one_s)
{
    struct moe_point point = point_of("mixtral-8x7b", "paper-4090", "collab");
    resolve_both(&simulated, &point);
    ck_assert_double_eq(kept.platform.gpu.tflops, 7);
    point.n_settings = 0;
    resolve_both(&simulated, &point);
    ck_assert_double_ne(kept.platform.gpu.tflops, 7);
    ck_assert_str_eq(kept.strategy.policy.ops->name, "lru");
    moe_sweep_files_release(&files);
}
END_TEST

/* What is gone after points were checked is not read again. */
START_TEST(a_kept_file_is_not_read_again)
{
    char path[256];
    temporary_folder(root, sizeof root);
    snprintf(path, sizeof path, "%s/s.yaml", root);
    put("s.yaml", "strategy: mine\nsource: a test\npolicy: fifo\n");
    struct moe_point point = point_of("mixtral-8x7b", "paper-4090", path);
    resolve_both(&simulated, &point);
    const uint64_t hash = kept.hash;
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(!moe_sweep_keep(&files, &simulated, &point, &kept, &err));
    ck_assert(!moe_sweep_resolve(&simulated, &files, &point, &kept, &err));
    ck_assert_uint_eq(kept.hash, hash);
    ck_assert_int_eq(moe_sweep_resolve(&simulated, &none, &point, &kept, &err), MOE_ERR_IO);
    moe_sweep_files_release(&files);
    remove_folder(root);
}
END_TEST

/* What lies in the slots of a cache of the point's policy before anything is used. */
static void expect_resident(const struct moe_sweep_inputs *in, moe_key key, enum moe_status status)
{
    struct moe_geometry geometry;
    struct moe_cache *cache = NULL;
    moe_key first;
    ck_assert(!moe_geometry_parse("1x1", 2, 4, NULL, &geometry, &err));
    ck_assert_int_eq(
        moe_cache_new(&cache, &geometry, 2, &in->strategy.policy, in->strategy.seed, &err), status);
    if (!status) {
        ck_assert_int_ne(moe_cache_preload_next(cache, &first), MOE_NO_SLOT);
        ck_assert_uint_eq(first, key);
        moe_cache_free(cache);
    }
    moe_geometry_release(&geometry);
}

/* A policy's file: its content is part of what a point is, and the policy is given it. */
START_TEST(a_hot_list_is_not_read_again)
{
    char path[256];
    struct moe_setting list[] = {{"policy", "static"}, {"policy.list", path}};
    struct moe_point point = point_of("mixtral-8x7b", "paper-4090", "collab");
    point.settings = list;
    point.n_settings = 2;
    temporary_folder(root, sizeof root);
    snprintf(path, sizeof path, "%s/hot.txt", root);
    put("hot.txt", "layer\texpert\n0\t3\n");
    ck_assert(!moe_sweep_keep(&files, &simulated, &point, &kept, &err));
    ck_assert(!moe_sweep_resolve(&simulated, &none, &point, &fresh, &err));
    ck_assert_uint_eq(kept.hash, fresh.hash);
    ck_assert_uint_eq(files.n[MOE_SWEEP_POLICY], 1);
    expect_resident(&fresh, 3, MOE_OK);

    put("hot.txt", "layer\texpert\n0\t2\n");
    ck_assert(!moe_sweep_resolve(&simulated, &files, &point, &kept, &err));
    ck_assert_uint_eq(kept.hash, fresh.hash);
    expect_resident(&kept, 3, MOE_OK);
    ck_assert(!moe_sweep_resolve(&simulated, &none, &point, &fresh, &err));
    ck_assert_uint_ne(kept.hash, fresh.hash);
    expect_resident(&fresh, 2, MOE_OK);

    ck_assert_int_eq(unlink(path), 0);
    ck_assert(!moe_sweep_keep(&files, &simulated, &point, &kept, &err));
    expect_resident(&kept, 3, MOE_OK);
    expect_resident(&fresh, 0, MOE_ERR_IO);
    ck_assert_int_eq(moe_sweep_resolve(&simulated, &none, &point, &fresh, &err), MOE_ERR_IO);
    ck_assert_uint_eq(files.n[MOE_SWEEP_POLICY], 1);
    moe_sweep_files_release(&files);
    remove_folder(root);
}
END_TEST

/* Those for which there is no room are read where they are needed. */
START_TEST(more_files_than_are_kept)
{
    enum { N = MOE_SWEEP_MAX_KEPT + 2 };
    static char path[N][256];
    char name[32], text[64];
    temporary_folder(root, sizeof root);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%d.yaml", i);
        snprintf(text, sizeof text, "strategy: mine-%d\nsource: a test\npolicy: fifo\n", i);
        put(name, text);
        snprintf(path[i], sizeof path[i], "%s/%s", root, name);
        struct moe_point point = point_of("mixtral-8x7b", "paper-4090", path[i]);
        resolve_both(&simulated, &point);
        ck_assert_int_eq(atoi(kept.strategy.name + strlen("mine-")), i);
    }
    ck_assert_uint_eq(files.n[MOE_SWEEP_STRATEGY], MOE_SWEEP_MAX_KEPT);
    ck_assert_uint_eq(files.n[MOE_SWEEP_PLATFORM], 1);
    remove_folder(root);
    moe_sweep_files_release(&files);
}
END_TEST

START_TEST(what_is_no_file_is_not_kept)
{
    struct moe_named_model named = {.name = "of-the-caller", .model = {.n_layers = 3}};
    const struct moe_experiment x = {
        .kind = MOE_EXPERIMENT_REPLAY, .n_models = 1, .models = &named};
    struct moe_point point = point_of("of-the-caller", NULL, "collab");
    point.n_settings = 1;
    resolve_both(&x, &point);
    ck_assert_uint_eq(kept.model.n_layers, 3);
    point.model = NULL;
    resolve_both(&x, &point);
    ck_assert(!kept.has_model);
    ck_assert_uint_eq(files.n[MOE_SWEEP_MODEL], 0);
    ck_assert_uint_eq(files.n[MOE_SWEEP_PLATFORM], 0);
    ck_assert_uint_eq(files.n[MOE_SWEEP_STRATEGY], 1);
    point = point_of("mixtral-8x7b", "of-no-one", "collab");
    ck_assert_int_eq(moe_sweep_keep(&files, &simulated, &point, &kept, &err), MOE_ERR_USAGE);
    ck_assert_uint_eq(files.n[MOE_SWEEP_PLATFORM], 0);
    moe_sweep_files_release(&files);
}
END_TEST

/* A trace of one sequence, its routes always the same. */
struct written {
    float score;     /* of expert 0 */
    int32_t moved;   /* added to positions behind the first */
    uint64_t expert; /* bytes of one */
    uint32_t second; /* token with which a second request begins; 0: none */
};

static void write_trace(const char *path, const struct written *w)
{
    enum { TOKENS = 16, LAYERS = 2, EXPERTS = 4, K = 2 };
    uint64_t bytes[LAYERS] = {w->expert, w->expert};
    struct moe_sequence sequence = {.n_tokens = TOKENS, .label = "", .category = ""};
    struct moe_trace trace = {.n_sequences = 1, .sequences = &sequence};
    struct moe_tokens *x = &trace.tokens;
    trace.info = (struct moe_trace_info){
        .n_layers = LAYERS, .n_experts = EXPERTS, .top_k = K, .expert_bytes = bytes};
    const unsigned parts = MOE_HAS_SCORE | (w->second ? (unsigned)MOE_HAS_REQUEST : 0u);
    ck_assert(!moe_tokens_init(x, &trace.info, TOKENS, parts, &err));
    for (uint32_t t = 0; t < TOKENS; t++) {
        x->step[t] = t;
        x->phase[t] = MOE_DECODE;
        if (w->second)
            x->request[t] = t >= w->second;
        x->position[t] = (int32_t)t + (t ? w->moved : 0);
        for (uint32_t i = 0; i < LAYERS * K; i++)
            x->expert[t * LAYERS * K + i] = (moe_expert)((t + i % K) % EXPERTS);
        for (uint32_t i = 0; i < LAYERS * EXPERTS; i++)
            x->score[t * LAYERS * EXPERTS + i] = i % EXPERTS ? 0.25f : w->score;
    }
    unlink(path);
    ck_assert_msg(!moe_trace_save(path, &trace, &err), "%s", err.text);
    moe_tokens_release(x);
}

/* A row is taken over where all that it came from is the same: scores count for those who look at
 * them, positions, requests and sizes for all. */
START_TEST(what_a_trace_says_decides_what_is_taken_over)
{
    static const struct {
        struct written trace;
        size_t reused; /* of lru and of hybrimoe-mrs, which looks at scores */
    } runs[] = {{{0.25f, 0, 100, 0}, 0}, {{0.25f, 0, 100, 0}, 2}, {{0.5f, 0, 100, 0}, 1},
                {{0.5f, 7, 100, 0}, 0},  {{0.5f, 7, 200, 0}, 0},  {{0.5f, 7, 200, 0}, 2},
                {{0.5f, 7, 200, 4}, 0},  {{0.5f, 7, 200, 5}, 0}};
    char trace[256], out[256];
    temporary_folder(root, sizeof root);
    snprintf(trace, sizeof trace, "%s/t.h5", root);
    snprintf(out, sizeof out, "%s/out.tsv", root);
    struct moe_setting lru[] = {{"geometry", "2x2"}, {"policy", "lru"}};
    struct moe_setting mrs[] = {{"geometry", "2x2"}, {"policy", "hybrimoe-mrs"}};
    struct moe_point points[] = {{trace, NULL, NULL, "collab", 2, lru},
                                 {trace, NULL, NULL, "collab", 2, mrs}};
    const struct moe_experiment x = {
        .name = "t", .kind = MOE_EXPERIMENT_REPLAY, .n_points = 2, .points = points};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct moe_sweep_summary summary;
        write_trace(trace, &runs[i].trace);
        ck_assert_msg(!moe_sweep_run(&x, out, 1, &summary, &err), "%s", err.text);
        ck_assert_uint_eq(summary.n_failed, 0);
        ck_assert_msg(summary.n_reused == runs[i].reused, "run %zu: %zu rows taken over", i,
                      summary.n_reused);
    }
    remove_folder(root);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sweep_files");
    TCase *tests = tcase_create("sweep_files");
    tcase_add_test(tests, kept_files_give_the_same_inputs);
    tcase_add_test(tests, a_setting_of_one_point_is_not_the_next_one_s);
    tcase_add_test(tests, a_kept_file_is_not_read_again);
    tcase_add_test(tests, a_hot_list_is_not_read_again);
    tcase_add_test(tests, more_files_than_are_kept);
    tcase_add_test(tests, what_is_no_file_is_not_kept);
    tcase_add_test(tests, what_a_trace_says_decides_what_is_taken_over);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
