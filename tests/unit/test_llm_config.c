#include "exec/config.h"
#include "model_files.h"
#include "tests/unit/run_suite.h"

/* As Mixtral-8x7B-Instruct-v0.1 and Phi-3.5-MoE-instruct are published, but for the sizes. */
static const char mixtral[] =
    "{\"architectures\":[\"MixtralForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":1,"
    "\"eos_token_id\":2,\"hidden_act\":\"silu\",\"hidden_size\":64,\"initializer_range\":0.02,"
    "\"intermediate_size\":96,\"max_position_embeddings\":32768,\"model_type\":\"mixtral\","
    "\"num_attention_heads\":4,\"num_experts_per_tok\":2,\"num_hidden_layers\":3,"
    "\"num_key_value_heads\":2,\"num_local_experts\":8,\"output_router_logits\":false,"
    "\"rms_norm_eps\":1e-05,\"rope_theta\":1000000.0,\"router_aux_loss_coef\":0.02,"
    "\"sliding_window\":null,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
    "\"transformers_version\":\"4.42.0.dev0\",\"use_cache\":true,\"vocab_size\":32000}";

static const char phimoe[] =
    "{\"architectures\":[\"PhiMoEForCausalLM\"],\"attention_bias\":true,\"attention_dropout\":0.0,"
    "\"auto_map\":{\"AutoConfig\":\"configuration_phimoe.PhiMoEConfig\"},\"bos_token_id\":1,"
    "\"eos_token_id\":32000,\"hidden_act\":\"silu\",\"hidden_dropout\":0.0,\"hidden_size\":16,"
    "\"input_jitter_noise\":0.01,\"intermediate_size\":96,\"lm_head_bias\":true,"
    "\"max_position_embeddings\":131072,\"model_type\":\"phimoe\",\"num_attention_heads\":4,"
    "\"num_experts_per_tok\":2,\"num_hidden_layers\":2,\"num_key_value_heads\":1,"
    "\"num_local_experts\":16,\"original_max_position_embeddings\":4096,\"rms_norm_eps\":1e-05,"
    "\"rope_scaling\":{\"long_factor\":[1.5,64],\"long_mscale\":1.243163121016122,"
    "\"original_max_position_embeddings\":4096,\"short_factor\":[1,1.25],"
    "\"short_mscale\":1.25,\"type\":\"longrope\"},\"rope_theta\":10000.0,"
    "\"router_aux_loss_coef\":0.0,\"router_jitter_noise\":0.0625,\"sliding_window\":131072,"
    "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"vocab_size\":32064}";

/* As Qwen3-30B-A3B and OLMoE-1B-7B-0924 are published, but for some sizes. */
static const char qwen3[] =
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"attention_bias\":false,"
    "\"attention_dropout\":0.0,\"bos_token_id\":151643,\"decoder_sparse_step\":1,"
    "\"eos_token_id\":151645,\"head_dim\":128,\"hidden_act\":\"silu\",\"hidden_size\":2048,"
    "\"initializer_range\":0.02,\"intermediate_size\":6144,"
    "\"max_position_embeddings\":40960,\"max_window_layers\":48,\"mlp_only_layers\":[],"
    "\"model_type\":\"qwen3_moe\",\"moe_intermediate_size\":768,\"norm_topk_prob\":true,"
    "\"num_attention_heads\":32,\"num_experts\":128,\"num_experts_per_tok\":8,"
    "\"num_hidden_layers\":48,\"num_key_value_heads\":4,\"output_router_logits\":false,"
    "\"rms_norm_eps\":1e-06,\"rope_scaling\":null,\"rope_theta\":1000000.0,"
    "\"router_aux_loss_coef\":0.001,\"sliding_window\":null,\"tie_word_embeddings\":false,"
    "\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.51.0\",\"use_cache\":true,"
    "\"use_sliding_window\":false,\"vocab_size\":151936}";

static const char olmoe[] =
    "{\"architectures\":[\"OlmoeForCausalLM\"],\"attention_bias\":false,"
    "\"attention_dropout\":0.0,\"clip_qkv\":null,\"eos_token_id\":50279,"
    "\"hidden_act\":\"silu\",\"hidden_size\":2048,\"initializer_range\":0.02,"
    "\"intermediate_size\":1024,\"max_position_embeddings\":4096,\"model_type\":\"olmoe\","
    "\"norm_topk_prob\":false,\"num_attention_heads\":16,\"num_experts\":64,"
    "\"num_experts_per_tok\":8,\"num_hidden_layers\":16,\"num_key_value_heads\":16,"
    "\"output_router_logits\":false,\"pad_token_id\":1,\"rms_norm_eps\":1e-05,"
    "\"rope_scaling\":null,\"rope_theta\":10000.0,\"router_aux_loss_coef\":0.01,"
    "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"vocab_size\":50304}";

/* Phi-tiny-MoE's: heads that do not fill hidden_size, no LongRoPE, a window within the context. */
static const char phi_tiny[] =
    "{\"architectures\":[\"PhiMoEForCausalLM\"],\"attention_bias\":true,\"attention_dropout\":0.0,"
    "\"auto_map\":{\"AutoConfig\":\"configuration_slimmoe.PhiMoEConfig\"},\"bos_token_id\":1,"
    "\"eos_token_id\":32000,\"expert_dropout\":0.0,\"head_dim\":128,\"hidden_act\":\"silu\","
    "\"hidden_dropout\":0.0,\"hidden_size\":4096,\"input_jitter_noise\":0.01,"
    "\"intermediate_size\":448,\"lm_head_bias\":true,\"max_position_embeddings\":4096,"
    "\"model_type\":\"phimoe\",\"num_attention_heads\":16,\"num_experts_per_tok\":2,"
    "\"num_hidden_layers\":32,\"num_key_value_heads\":4,\"num_local_experts\":16,"
    "\"output_router_logits\":false,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,"
    "\"router_aux_loss_coef\":0.0,\"router_jitter_noise\":0.01,\"sliding_window\":2047,"
    "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"vocab_size\":32064}";

static char buf[4096];

/* text with its first `from` replaced by `to`. */
static const char *edited(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    ck_assert_msg(at != NULL, "no '%s'", from);
    snprintf(buf, sizeof buf, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return buf;
}

static struct moe_llm_config parsed(const char *text, const char *generation)
{
    struct moe_llm_config c;
    struct moe_err err = {0};
    ck_assert_msg(moe_llm_config_parse("d", text, strlen(text), generation,
                                       generation ? strlen(generation) : 0, &c, &err) == MOE_OK,
                  "%s", err.text);
    return c;
}

START_TEST(published_mixtral)
{
    struct moe_llm_config c = parsed(mixtral, NULL);
    ck_assert_int_eq((int)c.arch, MOE_ARCH_MIXTRAL);
    ck_assert_str_eq(c.architecture, "MixtralForCausalLM");
    ck_assert(c.n_layers == 3 && c.n_experts == 8 && c.top_k == 2);
    ck_assert(c.d_model == 64 && c.d_ffn == 96 && c.n_vocab == 32000);
    ck_assert(c.n_heads == 4 && c.n_kv_heads == 2 && c.head_dim == 16);
    ck_assert(c.max_context == 32768 && c.sliding_window == 0);
    ck_assert(c.norm_eps == 1e-5f && c.rope_theta == 1e6 && c.router_jitter == 0);
    ck_assert(!c.tied_head && !c.attention_bias && !c.head_bias && !c.longrope);
    ck_assert(c.bos == 1 && c.n_eos == 1 && c.eos[0] == 2);
}
END_TEST

static void check_phimoe(const struct moe_llm_config *c)
{
    ck_assert_int_eq((int)c->arch, MOE_ARCH_PHIMOE);
    ck_assert(c->attention_bias && c->head_bias && c->router_jitter == 0.0625f);
    ck_assert(c->head_dim == 4 && c->n_kv_heads == 1);
    ck_assert(c->rope_theta == 10000 && c->longrope && c->original_context == 4096);
    ck_assert(c->short_factor[0] == 1 && c->short_factor[1] == 1.25f);
    ck_assert(c->long_factor[0] == 1.5f && c->long_factor[1] == 64);
    ck_assert(c->short_mscale == 1.25f && c->long_mscale == 1.243163121016122f);
    ck_assert(c->bos == 1 && c->n_eos == 1 && c->eos[0] == 32000);
}

START_TEST(published_phimoe)
{
    struct moe_llm_config c = parsed(phimoe, NULL);
    check_phimoe(&c);
    ck_assert_uint_eq(c.sliding_window, 131073); /* and the token itself */
    /* The same without the second place of the length, or without the first. */
    static const char top[] = "\"original_max_position_embeddings\":4096,\"rms";
    static const char inner[] = "\"original_max_position_embeddings\":4096,\"short";
    c = parsed(edited(phimoe, top, "\"rms"), NULL);
    check_phimoe(&c);
    c = parsed(edited(phimoe, inner, "\"short"), NULL);
    check_phimoe(&c);
    c = parsed(edited(phimoe, "PhiMoEForCausalLM", "PhimoeForCausalLM"), NULL);
    ck_assert_str_eq(c.architecture, "PhimoeForCausalLM");
    ck_assert_uint_eq(c.sliding_window, 131072);
    check_phimoe(&c);
    c = parsed(edited(phimoe, "\"router_jitter_noise\":0.0625,", ""), NULL);
    ck_assert(c.router_jitter == 0.01f);
    c = parsed(edited(phimoe, "\"type\":\"longrope\"", "\"type\":\"default\""), NULL);
    ck_assert(!c.longrope && c.rope_theta == 10000);
}
END_TEST

START_TEST(published_phi_tiny)
{
    struct moe_llm_config c = parsed(phi_tiny, "{\"eos_token_id\":[32000,32001,32007]}");
    ck_assert_int_eq((int)c.arch, MOE_ARCH_PHIMOE);
    ck_assert(c.n_layers == 32 && c.n_experts == 16 && c.top_k == 2);
    ck_assert(c.d_model == 4096 && c.d_ffn == 448 && c.n_vocab == 32064);
    ck_assert(c.n_heads == 16 && c.n_kv_heads == 4 && c.head_dim == 128);
    ck_assert(c.max_context == 4096 && c.sliding_window == 2048);
    ck_assert(c.attention_bias && c.head_bias && !c.tied_head && c.router_jitter == 0.01f);
    ck_assert(!c.longrope && c.rope_theta == 10000);
    ck_assert(c.n_eos == 3 && c.eos[0] == 32000 && c.eos[2] == 32007);
    c = parsed(edited(phi_tiny, "2047", "2147483647"), NULL); /* the largest of the file */
    ck_assert_uint_eq(c.sliding_window, 2147483648);
    c = parsed(edited(phi_tiny, "2047", "null"), NULL);
    ck_assert_uint_eq(c.sliding_window, 0);
}
END_TEST

START_TEST(published_qwen3)
{
    struct moe_llm_config c = parsed(qwen3, "{\"bos_token_id\":151643,\"do_sample\":true,"
                                            "\"eos_token_id\":[151645,151643]}");
    ck_assert_int_eq((int)c.arch, MOE_ARCH_QWEN3_MOE);
    ck_assert(c.n_layers == 48 && c.n_experts == 128 && c.top_k == 8);
    ck_assert(c.d_model == 2048 && c.d_ffn == 768 && c.n_vocab == 151936);
    ck_assert(c.n_heads == 32 && c.n_kv_heads == 4 && c.head_dim == 128);
    ck_assert(c.max_context == 40960 && c.sliding_window == 0 && c.router_jitter == 0);
    ck_assert(c.norm_eps == 1e-6f && c.rope_theta == 1e6 && !c.longrope);
    ck_assert(c.renormalise && c.qk_norm == MOE_QK_NORM_HEAD);
    ck_assert(!c.tied_head && !c.attention_bias && !c.head_bias);
    ck_assert(c.bos == 151643 && c.n_eos == 2 && c.eos[1] == 151643);
    c = parsed(edited(qwen3, "\"norm_topk_prob\":true,", ""), NULL);
    ck_assert(!c.renormalise);
    c = parsed(edited(qwen3, "\"attention_bias\":false", "\"attention_bias\":true"), NULL);
    ck_assert(c.attention_bias);
    c = parsed(edited(qwen3, "\"sliding_window\":null", "\"sliding_window\":4096"), NULL);
    ck_assert_uint_eq(c.sliding_window, 0); /* use_sliding_window is false */
    c = parsed(edited(qwen3, "\"num_experts\"", "\"num_local_experts\""), NULL);
    ck_assert_uint_eq(c.n_experts, 128); /* transformers 5 writes it so */
    c = parsed(edited(qwen3, "\"eos_token_id\":151645,", ""), NULL);
    ck_assert_uint_eq(c.n_eos, 0);
    c = parsed(edited(qwen3, "\"num_key_value_heads\":4,", ""), NULL);
    ck_assert_uint_eq(c.n_kv_heads, 4);
    c = parsed(edited(qwen3, "\"rms_norm_eps\":1e-06,", ""), NULL);
    ck_assert(c.norm_eps == 1e-6f);
    c = parsed(edited(qwen3, "\"rope_theta\":1000000.0,", ""), NULL);
    ck_assert(c.rope_theta == 10000);
    c = parsed(edited(qwen3, "\"max_position_embeddings\":40960,", ""), NULL);
    ck_assert_uint_eq(c.max_context, 32768);
}
END_TEST

START_TEST(published_olmoe)
{
    struct moe_llm_config c = parsed(olmoe, NULL);
    ck_assert_int_eq((int)c.arch, MOE_ARCH_OLMOE);
    ck_assert(c.n_layers == 16 && c.n_experts == 64 && c.top_k == 8);
    ck_assert(c.d_model == 2048 && c.d_ffn == 1024 && c.n_vocab == 50304);
    ck_assert(c.n_heads == 16 && c.n_kv_heads == 16 && c.head_dim == 128);
    ck_assert(c.max_context == 4096 && c.sliding_window == 0 && c.rope_theta == 10000);
    ck_assert(!c.renormalise && c.qk_norm == MOE_QK_NORM_ALL);
    ck_assert(c.bos == -1 && c.n_eos == 1 && c.eos[0] == 50279);
    c = parsed(edited(olmoe, "\"num_key_value_heads\":16,", ""), NULL);
    ck_assert_uint_eq(c.n_kv_heads, 16);
    c = parsed(edited(olmoe, "\"max_position_embeddings\":4096,", ""), NULL);
    ck_assert_uint_eq(c.max_context, 4096);
    c = parsed(edited(olmoe, "\"rope_theta\":10000.0,", ""), NULL);
    ck_assert(c.rope_theta == 10000);
    c = parsed(edited(olmoe, "\"eos_token_id\":50279,", ""), NULL);
    ck_assert(c.n_eos == 1 && c.eos[0] == 50279);
}
END_TEST

/* As transformers 5 writes it. */
START_TEST(new_spelling)
{
    char text[sizeof buf];
    snprintf(text, sizeof text, "%s",
             edited(phimoe, "\"rope_scaling\":{", "\"rope_parameters\":{\"rope_theta\":10000.0,"));
    snprintf(text, sizeof text, "%s", edited(text, "},\"rope_theta\":10000.0,", "},"));
    snprintf(text, sizeof text, "%s", edited(text, "\"type\":", "\"rope_type\":"));
    struct moe_llm_config c = parsed(text, NULL);
    check_phimoe(&c);
    c = parsed(edited(mixtral, "\"rope_theta\":1000000.0",
                      "\"rope_parameters\":{\"rope_theta\":5000.5,\"rope_type\":\"default\"}"),
               NULL);
    ck_assert(c.rope_theta == 5000.5 && !c.longrope);
}
END_TEST

#define QUANTIZED(rest)                                                                            \
    "\"use_cache\":true,\"quantization_config\":{\"quant_method\":\"moelab\"" rest "}"

START_TEST(quantized)
{
    ck_assert_int_eq((int)parsed(mixtral, NULL).experts, MOE_F32);
    struct moe_llm_config c =
        parsed(edited(mixtral, "\"use_cache\":true", QUANTIZED(",\"experts\":\"Q8\"")), NULL);
    ck_assert_int_eq((int)c.experts, MOE_Q8);
    c = parsed(edited(mixtral, "\"use_cache\":true", QUANTIZED(",\"experts\":\"Q4\"")), NULL);
    ck_assert_int_eq((int)c.experts, MOE_Q4);
    c = parsed(
        edited(mixtral, "\"use_cache\":true", QUANTIZED(",\"experts\":\"Q4\",\"dense\":\"Q8\"")),
        NULL);
    ck_assert(c.experts == MOE_Q4 && c.dense == MOE_Q8);
    static const char *const nothing[] = {"null", "{}", "false", "[]"};
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        char text[80];
        snprintf(text, sizeof text, "\"use_cache\":true,\"quantization_config\":%s", nothing[i]);
        c = parsed(edited(mixtral, "\"use_cache\":true", text), NULL);
        ck_assert_int_eq((int)c.experts, MOE_F32);
    }
}
END_TEST

/* What the configuration classes of transformers take where a key is absent or null. */
START_TEST(defaults)
{
    static const char least[] =
        "{\"architectures\":[\"MixtralForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":96,"
        "\"num_hidden_layers\":3,\"num_attention_heads\":16,\"num_local_experts\":8,"
        "\"num_experts_per_tok\":2,\"vocab_size\":32000}";
    struct moe_llm_config c = parsed(least, NULL);
    ck_assert(c.n_kv_heads == 8 && c.head_dim == 4 && c.max_context == 131072);
    ck_assert(c.sliding_window == 0 && c.norm_eps == 1e-5f && c.rope_theta == 1e6);
    ck_assert(c.bos == 1 && c.n_eos == 1 && c.eos[0] == 2 && !c.tied_head);
    c = parsed(edited(least, "\"hidden_size\":64",
                      "\"num_key_value_heads\":null,\"head_dim\":null,\"rope_scaling\":null,"
                      "\"sliding_window\":4096,\"tie_word_embeddings\":true,\"bos_token_id\":null,"
                      "\"eos_token_id\":null,\"quantization_config\":null,\"pruned_heads\":{},"
                      "\"partial_rotary_factor\":1.0,\"attention_bias\":false,"
                      "\"unknown\":[18446744073709551616,1e300,{}],\"hidden_size\":64"),
               NULL);
    ck_assert(c.n_kv_heads == 16 && c.head_dim == 4 && c.sliding_window == 4096);
    ck_assert(c.tied_head && c.bos == -1 && c.n_eos == 0);
    c = parsed(edited(least, "\"hidden_size\":64", "\"head_dim\":10,\"hidden_size\":63"), NULL);
    ck_assert(c.d_model == 63 && c.head_dim == 10);
}
END_TEST

START_TEST(generation_files)
{
    struct moe_llm_config c =
        parsed(phimoe, "{\"_from_model_config\":true,\"bos_token_id\":3,\"do_sample\":true,"
                       "\"eos_token_id\":[32007,32001,32000],\"pad_token_id\":32000}");
    ck_assert(c.bos == 3 && c.n_eos == 3);
    ck_assert(c.eos[0] == 32007 && c.eos[1] == 32001 && c.eos[2] == 32000);
    /* How others sample is not looked at: some write -1 for no limit. */
    c = parsed(phimoe, "{\"do_sample\":1,\"eos_token_id\":7,\"temperature\":null,"
                       "\"top_k\":-1,\"top_p\":1.5}");
    ck_assert(c.bos == 1 && c.n_eos == 1 && c.eos[0] == 7);
    c = parsed(phimoe, "{}");
    ck_assert(c.n_eos == 1 && c.eos[0] == 32000);
}
END_TEST

static void check_refusal(const char *text, const char *generation, enum moe_status status,
                          const char *expected)
{
    struct moe_llm_config c = {.top_k = 77};
    struct moe_err err = {0};
    ck_assert_int_eq(moe_llm_config_parse("d", text, strlen(text), generation,
                                          generation ? strlen(generation) : 0, &c, &err),
                     status);
    ck_assert_msg(strcmp(err.text, expected) == 0, "'%s' instead of '%s'", err.text, expected);
    ck_assert_uint_eq(c.top_k, 77); /* out-parameters only on success */
}

static void refused(const char *base, const char *from, const char *to, enum moe_status status,
                    const char *expected)
{
    char whole[600];
    snprintf(whole, sizeof whole, "'d/config.json': %s", expected);
    check_refusal(edited(base, from, to), NULL, status, whole);
}

#define BAD(from, to, why)          refused(mixtral, from, to, MOE_ERR_INPUT, why)
#define BAD_PHIMOE(from, to, why)   refused(phimoe, from, to, MOE_ERR_INPUT, why)
#define NOT_DONE(from, to, why)     refused(mixtral, from, to, MOE_ERR_UNSUPPORTED, why)
#define NOT_DONE_PHI(from, to, why) refused(phimoe, from, to, MOE_ERR_UNSUPPORTED, why)

/* Mixtral's file with `what` added. */
#define ADDED(what, status, why)                                                                   \
    refused(mixtral, "\"use_cache\":true", "\"use_cache\":true," what, status, why)
#define BAD_ADDED(what, why)      ADDED(what, MOE_ERR_INPUT, why)
#define NOT_DONE_ADDED(what, why) ADDED(what, MOE_ERR_UNSUPPORTED, why)

START_TEST(bad_values)
{
    static const char *const vital[] = {
        "hidden_size",       "intermediate_size",   "num_hidden_layers", "num_attention_heads",
        "num_local_experts", "num_experts_per_tok", "vocab_size",        "architectures"};
    for (size_t i = 0; i < sizeof vital / sizeof *vital; i++) {
        char key[40], expected[60];
        snprintf(key, sizeof key, "\"%s\"", vital[i]);
        snprintf(expected, sizeof expected, "missing key %s", vital[i]);
        BAD(key, "\"other\"", expected);
    }
    BAD("\"hidden_size\":64", "\"hidden_size\":null", "missing key hidden_size");
    BAD("\"hidden_size\"", "\"hiden_size\"", "missing key hidden_size, is it 'hiden_size'?");
    BAD("\"num_local_experts\"", "\"num_experts\"",
        "missing key num_local_experts, is it 'num_experts'?");
    BAD("\"hidden_size\":64", "\"hidden_size\":0", "hidden_size 0 is outside 1..1048576");
    BAD("\"hidden_size\":64", "\"hidden_size\":-64", "hidden_size -64 is outside 1..1048576");
    BAD("\"hidden_size\":64", "\"hidden_size\":9223372036854775808",
        "hidden_size 9.2233720368547758e+18 is outside 1..1048576");
    BAD("\"hidden_size\":64", "\"hidden_size\":1e30", "hidden_size 1e+30 is outside 1..1048576");
    BAD("\"hidden_size\":64", "\"hidden_size\":6.5", "hidden_size 6.5 is not a whole number");
    BAD("\"hidden_size\":64", "\"hidden_size\":\"64\"", "hidden_size is not a number");
    BAD("\"hidden_size\":64", "\"hidden_size\":true", "hidden_size is not a number");
    BAD("\"num_hidden_layers\":3", "\"num_hidden_layers\":1025",
        "num_hidden_layers 1025 is outside 1..1024");
    BAD("\"num_local_experts\":8", "\"num_local_experts\":4097",
        "num_local_experts 4097 is outside 1..4096");
    BAD("\"max_position_embeddings\":32768", "\"max_position_embeddings\":16777217",
        "max_position_embeddings 16777217 is outside 1..16777216");
    BAD("\"sliding_window\":null", "\"sliding_window\":0",
        "sliding_window 0 is outside 1..2147483647");
    BAD("\"rms_norm_eps\":1e-05", "\"rms_norm_eps\":-1", "rms_norm_eps -1 is outside 0..1");
    BAD("\"tie_word_embeddings\":false", "\"tie_word_embeddings\":0",
        "tie_word_embeddings is neither true nor false");
    BAD("\"rope_theta\":1000000.0", "\"rope_theta\":0", "rope_theta 0 is outside 1..1e+12");
    BAD("\"num_experts_per_tok\":2", "\"num_experts_per_tok\":9",
        "num_experts_per_tok 9 exceeds num_local_experts 8");
    BAD("\"num_key_value_heads\":2", "\"num_key_value_heads\":3",
        "num_attention_heads 4 is not a multiple of num_key_value_heads 3");
    BAD("\"hidden_size\":64", "\"hidden_size\":65",
        "hidden_size 65 is not a multiple of num_attention_heads 4");
    BAD("\"eos_token_id\":2", "\"eos_token_id\":32000", "eos_token_id 32000 is outside 0..31999");
    BAD("\"eos_token_id\":2", "\"eos_token_id\":[1,-1]", "eos_token_id -1 is outside 0..31999");
    BAD("\"eos_token_id\":2", "\"eos_token_id\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
        "17 tokens of eos_token_id exceed the limit of 16");
    BAD("\"bos_token_id\":1", "\"bos_token_id\":\"<s>\"", "bos_token_id is not a number");
}
END_TEST

START_TEST(bad_rope)
{
    BAD_ADDED("\"rope_scaling\":3", "rope_scaling is not an object");
    BAD_ADDED("\"rope_scaling\":{},\"rope_parameters\":{}",
              "both rope_scaling and rope_parameters");
    BAD_ADDED("\"rope_parameters\":{\"rope_theta\":10000}",
              "rope_theta is given twice, as 10000 and 1000000");
    BAD_ADDED("\"rope_parameters\":{\"rope_type\":3}", "rope_type is not a string");
    BAD_PHIMOE("\"short_mscale\":1.25,", "", "longrope: missing key short_mscale");
    BAD_PHIMOE("\"long_mscale\":1.243163121016122,", "\"long_mscale\":null,",
               "longrope: missing key long_mscale");
    BAD_PHIMOE("[1,1.25]", "[1,1.25,1]",
               "longrope: short_factor has 3 factors, not head_dim / 2 = 2");
    BAD_PHIMOE("[1.5,64]", "[1.5,0]", "longrope: long_factor[1] 0 is outside 0.001..1e+06");
    BAD_PHIMOE("[1.5,64]", "[1.5,null]", "longrope: long_factor[1] is not a number");
    BAD_PHIMOE("[1.5,64]", "64", "longrope: missing list long_factor");
    BAD_PHIMOE("\"original_max_position_embeddings\":4096,\"rms",
               "\"original_max_position_embeddings\":8192,\"rms",
               "longrope: original_max_position_embeddings is given twice, as 4096 and 8192");
    BAD_PHIMOE("\"original_max_position_embeddings\":4096,\"rms",
               "\"original_max_position_embeddings\":0.5,\"rms",
               "longrope: original_max_position_embeddings 0.5 is outside 1..1.67772e+07");
    char text[sizeof buf];
    snprintf(text, sizeof text, "%s",
             edited(phimoe, "\"original_max_position_embeddings\":4096,\"rms", "\"rms"));
    refused(text, "\"original_max_position_embeddings\":4096,", "", MOE_ERR_INPUT,
            "longrope: missing key original_max_position_embeddings");
    refused(text, "\"original_max_position_embeddings\":4096,",
            "\"original_max_position_embeddings\":4096.5,", MOE_ERR_INPUT,
            "longrope: original_max_position_embeddings 4096.5 is not a whole number");
}
END_TEST

START_TEST(not_done)
{
    NOT_DONE("MixtralForCausalLM", "LlamaForCausalLM",
             "architecture \"LlamaForCausalLM\" is not supported (MixtralForCausalLM, "
             "PhiMoEForCausalLM, PhimoeForCausalLM, Qwen3MoeForCausalLM and OlmoeForCausalLM are)");
    NOT_DONE("\"silu\"", "\"gelu\"", "hidden_act \"gelu\" is not supported (silu is)");
    NOT_DONE("\"silu\"", "3", "hidden_act 3 is not supported (silu is)");
    NOT_DONE_ADDED(
        "\"quantization_config\":{\"bits\":4}",
        "quantization_config {\"bits\":4} is not supported (take the model's folder with "
        "weights in BF16, F16 or F32; moelab quantize makes experts of 8 or 4 bits of it)");
    NOT_DONE_ADDED(
        "\"quantization_config\":\"Q8\"",
        "quantization_config \"Q8\" is not supported (take the model's folder with "
        "weights in BF16, F16 or F32; moelab quantize makes experts of 8 or 4 bits of it)");
    NOT_DONE_ADDED("\"add_cross_attention\":[\"\\\"1.0,\",2.0,0.1]",
                   "add_cross_attention [\"\\\"1.0,\",2,0.1] is not supported (leave it out)");
    NOT_DONE_ADDED("\"pruned_heads\":{\"0\":[1]}",
                   "pruned_heads {\"0\":[1]} is not supported (leave it out)");
    NOT_DONE_ADDED("\"is_encoder_decoder\":true",
                   "is_encoder_decoder true is not supported (leave it out)");
    NOT_DONE_ADDED("\"attention_bias\":true",
                   "attention_bias true is not supported (MixtralForCausalLM has none)");
    NOT_DONE_ADDED("\"lm_head_bias\":true",
                   "lm_head_bias true is not supported (MixtralForCausalLM has none)");
    NOT_DONE_ADDED("\"partial_rotary_factor\":0.5",
                   "partial_rotary_factor 0.5 is not supported (1 is)");
    NOT_DONE_ADDED("\"rope_parameters\":{\"partial_rotary_factor\":0.5}",
                   "partial_rotary_factor 0.5 is not supported (1 is)");
    NOT_DONE_ADDED("\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}",
                   "rope_type \"linear\" is not supported (default is)");
    NOT_DONE_ADDED("\"rope_scaling\":{\"rope_type\":\"longrope\"}",
                   "rope_type \"longrope\" is not supported (default is)");
    NOT_DONE_ADDED("\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e6}}",
                   "rope_parameters of its own for 'full_attention' is not supported");
    NOT_DONE_ADDED("\"head_dim\":15", "head_dim 15 is odd");
    NOT_DONE("\"hidden_size\":64", "\"hidden_size\":4096",
             "head_dim 1024 exceeds the limit of 512");
    NOT_DONE_PHI("\"longrope\"", "\"yarn\"",
                 "rope_type \"yarn\" is not supported (default and longrope are)");
    NOT_DONE_PHI("\"num_experts_per_tok\":2", "\"num_experts_per_tok\":3",
                 "num_experts_per_tok 3 is not supported (SparseMixer takes 2)");
}
END_TEST

#define NOT_DONE_QWEN(from, to, why)  refused(qwen3, from, to, MOE_ERR_UNSUPPORTED, why)
#define NOT_DONE_OLMOE(from, to, why) refused(olmoe, from, to, MOE_ERR_UNSUPPORTED, why)

START_TEST(not_done_of_newer)
{
    NOT_DONE_QWEN("\"mlp_only_layers\":[]", "\"mlp_only_layers\":[0,3]",
                  "mlp_only_layers [0,3] is not supported ([] is: every layer has experts)");
    NOT_DONE_QWEN("\"decoder_sparse_step\":1", "\"decoder_sparse_step\":2",
                  "decoder_sparse_step 2 is not supported (1 is: every layer has experts)");
    NOT_DONE_QWEN("\"use_sliding_window\":false", "\"use_sliding_window\":true",
                  "use_sliding_window true is not supported (false is)");
    NOT_DONE_QWEN("\"rope_scaling\":null", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4}",
                  "rope_type \"yarn\" is not supported (default is)");
    NOT_DONE_QWEN("\"use_cache\":true", "\"lm_head_bias\":true",
                  "lm_head_bias true is not supported (Qwen3MoeForCausalLM has none)");
    NOT_DONE_OLMOE("\"clip_qkv\":null", "\"clip_qkv\":8.0",
                   "clip_qkv 8 is not supported (null is)");
    NOT_DONE_OLMOE("\"clip_qkv\":null", "\"sliding_window\":99",
                   "sliding_window 99 is not supported (OlmoeForCausalLM has none)");
    refused(qwen3, "\"num_experts_per_tok\":8", "\"num_experts_per_tok\":129", MOE_ERR_INPUT,
            "num_experts_per_tok 129 is outside 1..64");
    refused(qwen3, "\"num_experts\":128", "\"num_experts\":7", MOE_ERR_INPUT,
            "num_experts_per_tok 8 exceeds num_experts 7");
    refused(qwen3, "\"moe_intermediate_size\":768,", "", MOE_ERR_INPUT,
            "missing key moe_intermediate_size, is it 'intermediate_size'?");
    refused(olmoe, "\"num_experts\":64,", "", MOE_ERR_INPUT, "missing key num_experts");
}
END_TEST

static void bad_quantized(const char *what, enum moe_status status, const char *expected)
{
    char text[200];
    snprintf(text, sizeof text, QUANTIZED("%s"), what);
    refused(mixtral, "\"use_cache\":true", text, status, expected);
}

START_TEST(quantized_otherwise)
{
    bad_quantized("", MOE_ERR_INPUT, "missing key quantization_config.experts");
    bad_quantized(",\"experts\":\"Q5\"", MOE_ERR_UNSUPPORTED,
                  "quantization_config.experts \"Q5\" is not supported (Q8 and Q4 are)");
    bad_quantized(",\"experts\":\"BF16\"", MOE_ERR_UNSUPPORTED,
                  "quantization_config.experts \"BF16\" is not supported (Q8 and Q4 are)");
    bad_quantized(",\"experts\":8", MOE_ERR_UNSUPPORTED,
                  "quantization_config.experts 8 is not supported (Q8 and Q4 are)");
    bad_quantized(",\"experts\":\"Q8\",\"bits\":4", MOE_ERR_UNSUPPORTED,
                  "quantization_config.bits 4 is not supported (quant_method, experts and dense "
                  "are)");
    bad_quantized(",\"experts\":\"Q8\",\"dense\":\"BF16\"", MOE_ERR_UNSUPPORTED,
                  "quantization_config.dense \"BF16\" is not supported (Q8 and Q4 are)");
    bad_quantized(",\"dense\":\"Q8\"", MOE_ERR_INPUT, "missing key quantization_config.experts");
    /* Rows are whole blocks: of hidden_size in gate and up, of intermediate_size in down. */
    char text[sizeof buf];
    snprintf(text, sizeof text, "%s",
             edited(mixtral, "\"use_cache\":true", QUANTIZED(",\"experts\":\"Q4\"")));
    refused(text, "\"hidden_size\":64", "\"hidden_size\":72", MOE_ERR_INPUT,
            "hidden_size 72 is not a multiple of 32, as experts of Q4 need it");
    refused(text, "\"intermediate_size\":96", "\"intermediate_size\":80", MOE_ERR_INPUT,
            "intermediate_size 80 is not a multiple of 32, as experts of Q4 need it");
    snprintf(text, sizeof text, "%s",
             edited(mixtral, "\"use_cache\":true",
                    QUANTIZED(",\"experts\":\"Q4\",\"dense\":\"Q8\",\"x\":0") ",\"head_dim\":6"));
    refused(text, ",\"x\":0", "", MOE_ERR_INPUT,
            "num_attention_heads x head_dim 24 is not a multiple of 32, as dense weights of Q8 "
            "need it");
}
END_TEST

START_TEST(bad_generation)
{
#define GENERATION(text, why)                                                                      \
    check_refusal(mixtral, text, MOE_ERR_INPUT, "'d/generation_config.json': " why)
    GENERATION("[]", "not a JSON object");
    GENERATION("{\"eos_token_id\":32000}", "eos_token_id 32000 is outside 0..31999");
    GENERATION("{\"eos_token_id\":\"x\"}", "eos_token_id is not a number");
}
END_TEST

START_TEST(directories)
{
    struct moe_llm_config c;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_llm_config_load("nowhere", &c, &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "cannot open model 'nowhere': No such file or directory");
    ck_assert_int_eq(moe_llm_config_load("README.md", &c, &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "cannot open model 'README.md': not a directory");
    model_dir_make();
    ck_assert_int_eq(moe_llm_config_load(model_dir, &c, &err), MOE_ERR_IO);
    ck_assert_msg(strstr(err.text, "/config.json': No such file") != NULL, "%s", err.text);
    model_write_text("config.json", mixtral);
    ck_assert_msg(moe_llm_config_load(model_dir, &c, &err) == MOE_OK, "%s", err.text);
    ck_assert_int_eq(c.eos[0], 2);
    model_write_text("generation_config.json", "{\"eos_token_id\":[5]}");
    ck_assert_msg(moe_llm_config_load(model_dir, &c, &err) == MOE_OK, "%s", err.text);
    ck_assert_int_eq(c.eos[0], 5);
    model_write_text("generation_config.json", "");
    ck_assert_int_eq(moe_llm_config_load(model_dir, &c, &err), MOE_ERR_INPUT);
    char deep[100000];
    memset(deep, '[', sizeof deep);
    model_write("config.json", deep, sizeof deep);
    ck_assert_int_eq(moe_llm_config_load(model_dir, &c, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "/config.json': JSON nested deeper than 64") != NULL, "%s",
                  err.text);
    model_dir_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("llm_config");
    TCase *tcase = tcase_create("llm_config");
    tcase_add_test(tcase, published_mixtral);
    tcase_add_test(tcase, published_phimoe);
    tcase_add_test(tcase, published_phi_tiny);
    tcase_add_test(tcase, published_qwen3);
    tcase_add_test(tcase, published_olmoe);
    tcase_add_test(tcase, new_spelling);
    tcase_add_test(tcase, quantized);
    tcase_add_test(tcase, defaults);
    tcase_add_test(tcase, generation_files);
    tcase_add_test(tcase, bad_values);
    tcase_add_test(tcase, bad_rope);
    tcase_add_test(tcase, not_done);
    tcase_add_test(tcase, not_done_of_newer);
    tcase_add_test(tcase, quantized_otherwise);
    tcase_add_test(tcase, bad_generation);
    tcase_add_test(tcase, directories);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
