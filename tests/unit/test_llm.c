/* Model directories: every tensor is found where it lies, in both spellings of names; refused if
 * one is missing, misshapen or of another type. */
#include "tests/unit/llm_dirs.h"
#include "tests/unit/model_files.h"
#include "tests/unit/run_suite.h"

#include <inttypes.h>

/* A model of one layer: D 4, F 3, two heads of 2, one key-value head, E 2, V 5. */
enum { MAX_TENSORS = 32 };

struct spec {
    char name[80];
    const char *dtype;
    uint32_t dim[3]; /* 0: no more */
};

struct file {
    struct spec spec[MAX_TENSORS];
    size_t n;
    bool tied; /* tie_word_embeddings */
};

static void add(struct file *f, const char *name, uint32_t a, uint32_t b, uint32_t c)
{
    struct spec *s = &f->spec[f->n++];
    *s = (struct spec){.dtype = "BF16", .dim = {a, b, c}};
    snprintf(s->name, sizeof s->name, "%s", name);
}

enum style { CLASSIC, FUSED, PHI, PHI_FUSED, QWEN, QWEN_FUSED, OLMOE, N_STYLES };

static const char *const names[] = {
    "MixtralForCausalLM",  "MixtralForCausalLM",  "PhimoeForCausalLM", "PhimoeForCausalLM",
    "Qwen3MoeForCausalLM", "Qwen3MoeForCausalLM", "OlmoeForCausalLM"};

static bool is_phi(enum style style)
{
    return style == PHI || style == PHI_FUSED;
}

static void add_norm(struct file *f, const char *name, enum style style)
{
    char full[80];
    snprintf(full, sizeof full, "%s.weight", name);
    add(f, full, 4, 0, 0);
    snprintf(full, sizeof full, "%s.bias", name);
    if (is_phi(style))
        add(f, full, 4, 0, 0);
}

static void add_attention(struct file *f, enum style style)
{
    static const char parts[] = "qkvo";
    static const uint32_t shape[4][2] = {{4, 4}, {2, 4}, {2, 4}, {4, 4}};
    char full[80];
    for (int i = 0; i < 4; i++) {
        snprintf(full, sizeof full, "model.layers.0.self_attn.%c_proj.weight", parts[i]);
        add(f, full, shape[i][0], shape[i][1], 0);
        snprintf(full, sizeof full, "model.layers.0.self_attn.%c_proj.bias", parts[i]);
        if (is_phi(style))
            add(f, full, shape[i][0], 0, 0);
    }
}

/* Qwen3's scale is that of one head, OLMoE's that of all heads. */
static void add_qk_norms(struct file *f, enum style style)
{
    add(f, "model.layers.0.self_attn.q_norm.weight", style == OLMOE ? 4 : 2, 0, 0);
    add(f, "model.layers.0.self_attn.k_norm.weight", 2, 0, 0);
}

static void add_experts(struct file *f, enum style style)
{
    static const char *const proj[] = {"gate_proj", "down_proj", "up_proj"};
    char full[80];
    if (style == FUSED || style == PHI_FUSED || style == QWEN_FUSED) {
        add(f,
            is_phi(style) ? "model.layers.0.mlp.router.weight" : "model.layers.0.mlp.gate.weight",
            2, 4, 0);
        add(f, "model.layers.0.mlp.experts.gate_up_proj", 2, 6, 4);
        add(f, "model.layers.0.mlp.experts.down_proj", 2, 4, 3);
        return;
    }
    const bool newer = style >= QWEN;
    add(f, newer ? "model.layers.0.mlp.gate.weight" : "model.layers.0.block_sparse_moe.gate.weight",
        2, 4, 0);
    for (unsigned i = 0; i < 6; i++) {
        if (newer)
            snprintf(full, sizeof full, "model.layers.0.mlp.experts.%u.%s.weight", i / 3,
                     proj[i % 3]);
        else
            snprintf(full, sizeof full, "model.layers.0.block_sparse_moe.experts.%u.w%u.weight",
                     i / 3, i % 3 + 1);
        add(f, full, i % 3 == 1 ? 4 : 3, i % 3 == 1 ? 3 : 4, 0);
    }
}

static struct file make_file(enum style style)
{
    struct file f = {.n = 0};
    add(&f, "model.embed_tokens.weight", 5, 4, 0);
    add_norm(&f, "model.norm", style);
    add(&f, "lm_head.weight", 5, 4, 0);
    if (is_phi(style))
        add(&f, "lm_head.bias", 5, 0, 0);
    add_norm(&f, "model.layers.0.input_layernorm", style);
    add_attention(&f, style);
    if (style >= QWEN)
        add_qk_norms(&f, style);
    add_norm(&f, "model.layers.0.post_attention_layernorm", style);
    add_experts(&f, style);
    return f;
}

/* Tensors one after another; every byte its position. */
static void write_model(const struct file *f, enum style style)
{
    char header[8192] = "{", config[1024];
    size_t at = 0, used = 1;
    for (size_t i = 0; i < f->n; i++) {
        const struct spec *s = &f->spec[i];
        size_t items = 1, bytes = strcmp(s->dtype, "F32") == 0 ? 4 : 2;
        char shape[64] = "";
        for (int d = 0; d < 3 && s->dim[d]; d++) {
            size_t end = strlen(shape);
            snprintf(shape + end, sizeof shape - end, "%s%u", d ? "," : "", (unsigned)s->dim[d]);
            items *= s->dim[d];
        }
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],"
                                 "\"data_offsets\":[%zu,%zu]}",
                                 i ? "," : "", s->name, s->dtype, shape, at, at + items * bytes);
        at += items * bytes;
    }
    snprintf(header + used, sizeof header - used, "}");
    model_write_safetensors("model.safetensors", header, at);
    snprintf(config, sizeof config,
             "{\"architectures\":[\"%s\"],\"hidden_size\":4,\"intermediate_size\":3,"
             "\"moe_intermediate_size\":3,"
             "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
             "\"num_local_experts\":2,\"num_experts_per_tok\":2,\"vocab_size\":5,"
             "\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-5,\"max_position_embeddings\":16,"
             "\"rope_theta\":10000.0,\"sliding_window\":null,\"tie_word_embeddings\":%s,"
             "\"router_jitter_noise\":0.01,\"attention_bias\":%s,\"lm_head_bias\":%s}",
             names[style], f->tied ? "true" : "false", is_phi(style) ? "true" : "false",
             is_phi(style) ? "true" : "false");
    model_write_text("config.json", config);
}

static enum moe_status try_open(struct moe_err *err)
{
    struct moe_llm *llm = NULL;
    enum moe_status s = moe_llm_open(&llm, model_dir, err);
    if (s)
        ck_assert_ptr_null(llm);
    moe_llm_close(llm);
    return s;
}

START_TEST(every_tensor_missing_or_misshapen)
{
    enum style style = (enum style)_i;
    const struct file good = make_file(style);
    struct moe_err err = {0};
    model_dir_make();
    write_model(&good, style);
    ck_assert_msg(try_open(&err) == MOE_OK, "%s", err.text);
    for (size_t i = 0; i < good.n; i++) {
        char expected[128];
        struct file f = good;
        f.spec[i].name[0] = 'x';
        write_model(&f, style);
        ck_assert_int_eq(try_open(&err), MOE_ERR_INPUT);
        /* Without its router or its experts a file no longer looks fused. */
        if (!strstr(good.spec[i].name, ".mlp.") || style == QWEN || style == OLMOE) {
            snprintf(expected, sizeof expected, "no tensor '%s'", good.spec[i].name);
            ck_assert_msg(strstr(err.text, expected) != NULL, "%s", err.text);
        }
        f = good;
        f.spec[i].dim[0]++;
        write_model(&f, style);
        ck_assert_int_eq(try_open(&err), MOE_ERR_INPUT);
        snprintf(expected, sizeof expected, "tensor '%s' has shape [%u", good.spec[i].name,
                 (unsigned)good.spec[i].dim[0] + 1);
        ck_assert_msg(strstr(err.text, expected) != NULL, "%s", err.text);
        f = good;
        f.spec[i].dtype = "I16";
        write_model(&f, style);
        ck_assert_int_eq(try_open(&err), MOE_ERR_UNSUPPORTED);
        ck_assert_msg(strstr(err.text, good.spec[i].name) != NULL, "%s", err.text);
    }
    model_dir_remove();
}
END_TEST

/* Kernels read w1 and w3 side by side, so they must be of one type; otherwise types may differ. */
START_TEST(mixed_types)
{
    struct moe_err err;
    char model[320];
    model_dir_make();
    snprintf(model, sizeof model, "'%s': tensor 'model.layers.0.", model_dir);
    for (size_t i = 0; i < make_file(CLASSIC).n; i++) {
        struct file f = make_file(CLASSIC);
        f.spec[i].dtype = "F32";
        write_model(&f, CLASSIC);
        bool side = strstr(f.spec[i].name, ".w1.") || strstr(f.spec[i].name, ".w3.");
        ck_assert_int_eq(try_open(&err), side ? MOE_ERR_UNSUPPORTED : MOE_OK);
        if (!side)
            continue;
        ck_assert_ptr_nonnull(strstr(err.text, ".w3.weight' is "));
        ck_assert_int_eq(strncmp(err.text, model, strlen(model)), 0);
    }
    model_dir_remove();
}
END_TEST

/* How many tensors of the file are not used, and the first of them. */
static uint64_t unused(const struct file *f, enum style style, char first[80])
{
    const char *name = NULL;
    write_model(f, style);
    struct moe_llm *llm = open_model(model_dir);
    uint64_t n = moe_llm_unused(llm, &name);
    ck_assert_int_eq(n > 0, name != NULL);
    snprintf(first, 80, "%s", name ? name : "");
    moe_llm_close(llm);
    return n;
}

/* What the file has and the model does not compute with is told, as a bias that the configuration
 * leaves out; RoPE's frequencies follow from it. */
START_TEST(tensors_not_used)
{
    enum style style = (enum style)_i;
    char first[80];
    struct file f = make_file(style);
    model_dir_make();
    ck_assert_uint_eq(unused(&f, style, first), 0);
    add(&f, "model.layers.0.self_attn.rotary_emb.inv_freq", 1, 0, 0);
    ck_assert_uint_eq(unused(&f, style, first), 0);
    add(&f, "model.layers.1.input_layernorm.weight", 4, 0, 0);
    add(&f, "model.layers.0.self_attn.x_norm.weight", 2, 0, 0);
    ck_assert_uint_eq(unused(&f, style, first), 2);
    ck_assert_str_eq(first, "model.layers.0.self_attn.x_norm.weight");
    model_dir_remove();
}
END_TEST

/* transformers 4 computes with the embedding and 5 with the head. */
START_TEST(tied_head_of_its_own)
{
    char first[80];
    struct moe_err err = {0};
    struct file f = {.tied = true};
    model_dir_make();
    add(&f, "model.embed_tokens.weight", 5, 4, 0);
    add(&f, "made_of_108_items", 108, 0, 0); /* bytes are their positions: the next begin as 0, 1 */
    add(&f, "lm_head.weight", 5, 4, 0);
    const struct file rest = make_file(CLASSIC);
    for (size_t i = 0; i < rest.n; i++)
        if (!strstr(rest.spec[i].name, "embed_tokens") && !strstr(rest.spec[i].name, "lm_head"))
            f.spec[f.n++] = rest.spec[i];
    ck_assert_uint_eq(unused(&f, CLASSIC, first), 1);
    ck_assert_str_eq(first, "made_of_108_items");
    f.spec[1].dim[0]++;
    write_model(&f, CLASSIC);
    ck_assert_int_eq(try_open(&err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(
        strstr(err.text, "tensor 'lm_head.weight' differs from 'model.embed_tokens.weight', though "
                         "tie_word_embeddings is true"));
    f.spec[1].dim[0]--;
    f.spec[2].dtype = "F32";
    write_model(&f, CLASSIC);
    ck_assert_int_eq(try_open(&err), MOE_ERR_INPUT);
    f.spec[2] = f.spec[--f.n];
    ck_assert_uint_eq(unused(&f, CLASSIC, first), 1);
    model_dir_remove();
}
END_TEST

static ptrdiff_t distance(const struct moe_matrix *a, const struct moe_matrix *b)
{
    return (const char *)b->data - (const char *)a->data;
}

/* The parts of fused experts are places in the file, not copies: gate rows, then up rows. */
START_TEST(fused_experts_in_place)
{
    const enum style styles[] = {FUSED, PHI_FUSED};
    for (int i = 0; i < 2; i++) {
        struct file f = make_file(styles[i]);
        struct moe_llm *llm;
        model_dir_make();
        write_model(&f, styles[i]);
        llm = open_model(model_dir);
        const struct moe_expert_weights *e = llm->layers[0].experts;
        const struct moe_tensor *up =
            moe_weights_find(llm->weights, "model.layers.0.mlp.experts.gate_up_proj");
        const struct moe_tensor *down =
            moe_weights_find(llm->weights, "model.layers.0.mlp.experts.down_proj");
        ck_assert_ptr_eq(e[0].w1.data, up->data);
        ck_assert_ptr_eq(e[0].w2.data, down->data);
        ck_assert_int_eq(distance(&e[0].w1, &e[0].w3), 3 * 4 * 2);
        ck_assert_int_eq(distance(&e[0].w1, &e[1].w1), 6 * 4 * 2);
        ck_assert_int_eq(distance(&e[0].w2, &e[1].w2), 4 * 3 * 2);
        ck_assert_uint_eq(e[1].w3.rows, 3);
        ck_assert_uint_eq(e[1].w3.cols, 4);
        ck_assert_uint_eq(e[1].w2.rows, 4);
        ck_assert_uint_eq(e[1].w2.cols, 3);
        ck_assert_uint_eq(moe_llm_expert_bytes(llm, 0), 3 * 3 * 4 * 2);
        moe_llm_close(llm);
        model_dir_remove();
    }
}
END_TEST

START_TEST(sizes_and_names)
{
    struct moe_llm *llm = open_model(GOLDEN "mixtral-gqa2/");
    ck_assert_str_eq(llm->name, "mixtral-gqa2");
    /* float32: three matrices of 17 x 40 */
    ck_assert_uint_eq(moe_llm_expert_bytes(llm, 1), 4 * 3 * 17 * 40);
    /* q and o of 48 x 40, k and v of 24 x 40, two norms, a router of 4 x 40 */
    ck_assert_uint_eq(moe_llm_dense_bytes(llm, 1), 4 * (2 * 48 + 2 * 24 + 2 + 4) * 40);
    ck_assert_ptr_ne(llm->head.data, llm->embedding.data);
    moe_llm_close(llm);
    llm = open_model(GOLDEN "mixtral-mqa8-top3-tied");
    ck_assert_ptr_eq(llm->head.data, llm->embedding.data);
    moe_llm_close(llm);
    llm = open_model(GOLDEN "phimoe-longrope");
    /* D 32, heads 4 of 8, one key-value head, E 6; biases of q, k, v, o and shifts of two norms */
    ck_assert_uint_eq(moe_llm_dense_bytes(llm, 0),
                      4 * ((32 + 8 + 8 + 32 + 2 + 6) * 32 + 32 + 8 + 8 + 32 + 2 * 32));
    moe_llm_close(llm);
    moe_llm_close(NULL);
}
END_TEST

START_TEST(no_model_there)
{
    struct moe_err err;
    struct moe_llm *llm = NULL;
    ck_assert_int_eq(moe_llm_open(&llm, GOLDEN "nothing", &err), MOE_ERR_IO);
    model_dir_make();
    struct file f = make_file(CLASSIC);
    write_model(&f, CLASSIC);
    ck_assert_int_eq(remove(model_path("model.safetensors")), 0);
    ck_assert_int_eq(moe_llm_open(&llm, model_dir, &err), MOE_ERR_IO);
    ck_assert_ptr_null(llm);
    model_dir_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("llm");
    TCase *tc = tcase_create("llm");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, every_tensor_missing_or_misshapen, 0, N_STYLES);
    tcase_add_test(tc, mixed_types);
    tcase_add_loop_test(tc, tensors_not_used, 0, N_STYLES);
    tcase_add_test(tc, tied_head_of_its_own);
    tcase_add_test(tc, fused_experts_in_place);
    tcase_add_test(tc, sizes_and_names);
    tcase_add_test(tc, no_model_there);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
