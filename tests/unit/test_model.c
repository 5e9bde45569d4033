#include "traces/model.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char good[] = "name: m\nsource: a test\nn_layers: 4\nn_experts: 8\ntop_k: 2\n"
                           "d_model: 64\nd_ffn: 128\nn_heads: 8\nn_kv_heads: 2\nhead_dim: 8\n"
                           "n_vocab: 1000\ndense_ffn: 16\nexpert_weight_bits: 4.25\n"
                           "dense_weight_bits: 16\n";

static struct moe_model load(const char *name)
{
    char path[128];
    struct moe_model model;
    struct moe_err err = {0};
    snprintf(path, sizeof path, "experiments/models/%s.yaml", name);
    ck_assert_msg(moe_model_load(path, &model, &err) == MOE_OK, "%s", err.text);
    ck_assert_str_eq(model.name, name);
    ck_assert_msg(strncmp(model.source, "config.json of ", 15) == 0, "%s", model.source);
    return model;
}

static double dense_gb(const struct moe_model *m)
{
    uint64_t layers = m->n_layers * moe_model_dense_layer_bytes(m);
    ck_assert_uint_eq(m->dense_layers, 0);
    return (double)(layers + moe_model_head_bytes(m)) / 1e9;
}

static double experts_gb(const struct moe_model *m)
{
    return (double)(m->n_layers * m->n_experts * moe_model_expert_bytes(m)) / 1e9;
}

START_TEST(published_models)
{
    struct moe_model m = load("mixtral-8x7b");
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 352321536);
    /* (2 * 4096 * 4096 + 2 * 4096 * 1024 + 4096 * 8) * 2 */
    ck_assert_uint_eq(moe_model_dense_layer_bytes(&m), 83951616);
    ck_assert_uint_eq(moe_model_head_bytes(&m), 262144000);
    ck_assert_double_eq_tol(dense_gb(&m), 2.95, 0.005);
    ck_assert_double_eq_tol(experts_gb(&m), 90.19, 0.005);
    ck_assert_uint_eq(moe_model_kv_bytes(&m, 100), 100 * 4096);
    m = load("phi-3.5-moe");
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 157286400);
    m = load("phi-mini-moe");
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 3 * 4096 * 960 * 2);
    m = load("phi-tiny-moe"); /* heads that fill half of hidden_size */
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 3 * 4096 * 448 * 2);
    ck_assert_uint_eq(moe_model_dense_layer_bytes(&m),
                      2 * (2 * 4096 * 2048 + 2 * 4096 * 512 + 4096 * 16));
    m = load("qwen3-30b-a3b");
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 3 * 2048 * 768 * 2);
    ck_assert_double_eq_tol(experts_gb(&m), 57.98, 0.005); /* 29.0 of the 30.5 B parameters */
    m = load("gpt-oss-20b");
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 13219200); /* 3 * 2880^2 * 4.25 / 8 */
    m = load("minicpm-moe-8x2b");
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 3 * 2304 * 5760 * 2);
    ck_assert_uint_eq(m.n_layers, 40);
    m = load("deepseek-v2-lite");
    /* Projections of queries and to the cache's width, up to keys and values, output; router;
     * shared experts. Of the first layer the same without router, and its FFN. */
    uint64_t attention =
        2048 * 16 * (128 + 64) + 2048 * (512 + 64) + 512 * 16 * (128 + 128) + 16 * 128 * 2048;
    ck_assert_uint_eq(moe_model_dense_layer_bytes(&m),
                      2 * (attention + 2048 * 64 + 3 * 2048 * 2816));
    ck_assert_uint_eq(moe_model_leading_layer_bytes(&m), 2 * (attention + 3 * 2048 * 10944));
    ck_assert_uint_eq(moe_model_kv_bytes(&m, 100), 100 * (512 + 64) * 2);
    ck_assert_uint_eq(moe_model_kv_cache_bytes(&m, 100), 27 * 100 * (512 + 64) * 2);
    m = load("deepseek-v3"); /* compressed queries */
    attention = 7168 * 1536 + 1536 * 128 * (128 + 64) + 7168 * (512 + 64) +
                512 * 128 * (128 + 128) + 128 * 128 * 7168;
    ck_assert_uint_eq(moe_model_leading_layer_bytes(&m), attention + 3 * 7168 * 18432);
}
END_TEST

/* 34 and 18 bytes for 32 weights; all else as in the published type. */
START_TEST(quantized_models)
{
    static const struct {
        const char *name, *of;
        uint64_t expert_bytes;
    } want[] = {
        {"mixtral-8x7b-q8", "mixtral-8x7b", 3 * 14336 * 4096 / 32 * 34},
        {"mixtral-8x7b-q4", "mixtral-8x7b", 3 * 14336 * 4096 / 32 * 18},
        {"phi-3.5-moe-q4", "phi-3.5-moe", 3 * 6400 * 4096 / 32 * 18},
        {"qwen3-30b-a3b-q4-dense-q8", "qwen3-30b-a3b", 3 * 768 * 2048 / 32 * 18},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct moe_model m = load(want[i].name);
        const struct moe_model of = load(want[i].of);
        ck_assert_uint_eq(moe_model_expert_bytes(&m), want[i].expert_bytes);
        memcpy(m.name, of.name, sizeof m.name);
        memcpy(m.source, of.source, sizeof m.source);
        m.expert_weight_bits = of.expert_weight_bits;
        ck_assert(m.dense_weight_bits == (strstr(want[i].name, "dense-q8") ? 8.5 : 16));
        m.dense_weight_bits = of.dense_weight_bits;
        ck_assert(!memcmp(&m, &of, sizeof m));
    }
}
END_TEST

/* Weights without norms and biases; the embedding is as large as the head. */
static double parameters_g(const struct moe_model *m)
{
    double experts = (double)(m->n_layers * m->n_experts * 3 * m->d_model * m->d_ffn);
    double dense = (double)(m->n_layers * moe_model_dense_layer_bytes(m) +
                            m->dense_layers * moe_model_leading_layer_bytes(m)) *
                   8;
    double head = (double)moe_model_head_bytes(m) * 8;
    return (experts + (dense + 2 * head) / m->dense_weight_bits) / 1e9;
}

/* The values of a file against the size that the model is published with. */
START_TEST(parameter_counts)
{
    static const struct {
        const char *name;
        double billions;
    } published[] = {
        {"mixtral-8x7b", 46.7},     {"mixtral-8x22b", 140.6}, {"phi-3.5-moe", 41.9},
        {"phi-mini-moe", 7.6},      {"phi-tiny-moe", 3.8},    {"qwen3-30b-a3b", 30.5},
        {"qwen3-235b-a22b", 235.1}, {"gpt-oss-20b", 20.9},    {"qwen1.5-moe-a2.7b", 14.3},
        {"olmoe-1b-7b", 6.9},       {"gpt-oss-120b", 116.8},  {"deepseek-v2-lite", 15.7},
        {"deepseek-v3", 671.0},     {"glm-4.5-air", 106.9}};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        struct moe_model m = load(published[i].name);
        double billions = parameters_g(&m);
        ck_assert_msg(fabs(billions - published[i].billions) < 0.06, "%s: %g B", m.name, billions);
    }
}
END_TEST

START_TEST(formulas)
{
    struct moe_model m;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_model_parse("m", good, sizeof good - 1, &m, &err), MOE_OK);
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 13056); /* 3 * 64 * 128 * 4.25 / 8 */
    /* (2 * 64 * 64 + 2 * 64 * 16 + 64 * 8 + 3 * 64 * 16) * 2 */
    ck_assert_uint_eq(moe_model_dense_layer_bytes(&m), 27648);
    ck_assert_uint_eq(moe_model_head_bytes(&m), 128000);
    ck_assert_uint_eq(moe_model_kv_bytes(&m, 10), 2 * 10 * 2 * 8 * 2);
    m.kv_bits = 32;
    ck_assert_uint_eq(moe_model_kv_bytes(&m, 10), 2 * 10 * 2 * 8 * 4);
    m.d_ffn = 1; /* a part of a byte counts whole: 192 * 4.25 / 8 = 102; 3 * 1 * 1 * 4.25 / 8 */
    m.d_model = 1;
    ck_assert_uint_eq(moe_model_expert_bytes(&m), 2);
}
END_TEST

/* good[] with the line that starts with `key` replaced by `line` must be refused. */
static void refused(const char *key, const char *line, const char *expected)
{
    char text[1024];
    const char *at = strstr(good, key), *end = strchr(at, '\n');
    struct moe_model m = {.top_k = 77};
    struct moe_err err = {0};
    int n = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, line, end);
    ck_assert_int_eq(moe_model_parse("m", text, (size_t)n, &m, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' instead of '%s'", err.text, expected);
    ck_assert_uint_eq(m.top_k, 77); /* out-parameters only on success */
}

START_TEST(bad_descriptions)
{
    refused("top_k", "top_kk: 2", "'m':5: ");
    refused("top_k", "top_kk: 2", "did you mean 'top_k'?");
    refused("top_k", "top_k: 9", "'m':5: top_k 9 exceeds the 8 experts of a layer");
    refused("n_kv_heads", "n_kv_heads: 3", "'m':9: n_kv_heads 3 does not divide n_heads 8");
    refused("n_layers", "n_layers: 0", "0");
    refused("n_layers", "n_layers: 1025", "1025 is outside 1..1024");
    refused("n_layers", "n_layers: -1", "n_layers");
    refused("n_layers", "n_layers: 18446744073709551616", "n_layers");
    refused("n_layers", "n_layers: [1]", "'m':3: ");
    refused("n_experts", "n_experts: 5000", "5000 is outside 1..4096");
    refused("expert_weight_bits", "expert_weight_bits: nan", "expert_weight_bits");
    refused("expert_weight_bits", "expert_weight_bits: 0.5", "0.5 is outside 1..64");
    refused("name", "name: &a m", "'m':1");
    refused("dense_ffn", "dense_ffn: 1\nv_head_dim: 8", "'m':13: v_head_dim belongs to multi-head");
    refused("dense_ffn", "dense_ffn: 1\nq_lora_rank: 8",
            "'m':13: q_lora_rank belongs to multi-head");
    refused("dense_ffn", "dense_ffn: 1\ndense_layers: 1",
            "'m':13: dense_layers 1 with dense_layers_ffn 0: both must be 0, or neither");
    refused("dense_ffn", "dense_ffn: 1\ndense_layers_ffn: 9", "'m':13: dense_layers 0 with");
    const char *const keys[] = {"name",
                                "source",
                                "n_layers",
                                "n_experts",
                                "top_k",
                                "d_model",
                                "d_ffn",
                                "n_heads",
                                "n_kv_heads",
                                "head_dim",
                                "n_vocab",
                                "dense_ffn",
                                "expert_weight_bits",
                                "dense_weight_bits"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        refused(keys[i], "", keys[i]);
    struct moe_model m;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_model_parse("m", "[]", 2, &m, &err), MOE_ERR_USAGE);
    ck_assert_int_ne(moe_model_parse("m", "", 0, &m, &err), MOE_OK);
    ck_assert_int_eq(moe_model_load("nowhere.yaml", &m, &err), MOE_ERR_IO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *tcase = tcase_create("model");
    tcase_add_test(tcase, published_models);
    tcase_add_test(tcase, quantized_models);
    tcase_add_test(tcase, parameter_counts);
    tcase_add_test(tcase, formulas);
    tcase_add_test(tcase, bad_descriptions);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
