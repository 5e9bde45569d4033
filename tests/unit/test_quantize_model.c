/* Folders with experts and dense weights of 8 and 4 bits: every byte of every tensor, in both
 * spellings, of every type, in one file and in two; what is kept beside them; refusals, after which
 * nothing is left. */
#include "base/file.h"
#include "exec/json.h"
#include "exec/quantize.h"
#include "exec/quantize_model.h"
#include "tests/unit/llm_dirs.h"
#include "tests/unit/model_files.h"
#include "tests/unit/run_suite.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

/* Two layers: D 32, F 512, two heads of 16, one key-value head, E 3, V 5. */
enum { D = 32, F = 512, E = 3, V = 5, MAX_DATA = 4 << 20 };

struct source {
    bool fused, sharded;
    char header[2][16384];
    size_t n_header[2], n_data[2];
    unsigned char *data[2];
    uint64_t seed;
};

static float next_weight(struct source *m)
{
    m->seed = m->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (float)((double)(int32_t)(m->seed >> 32) / 3e9);
}

/* A tensor of random weights in file f; dtype "I64" and "U8" get their bytes from them, too. */
static void add(struct source *m, int f, const char *name, const char *dtype, uint32_t a,
                uint32_t b, uint32_t c)
{
    enum moe_dtype type;
    const bool known = moe_dtype_find(dtype, &type);
    const size_t item = known ? moe_dtype_info(type)->bytes : strcmp(dtype, "U8") == 0 ? 1 : 8;
    const size_t n = (size_t)a * (b ? b : 1) * (c ? c : 1), begin = m->n_data[f];
    char shape[64];
    ck_assert_uint_lt(begin + n * item, MAX_DATA);
    for (size_t i = 0; i < n; i++) {
        unsigned char *at = m->data[f] + begin + i * item;
        const float x = next_weight(m);
        const uint16_t half = moe_f16_of(x);
        if (item == 2)
            memcpy(at, type == MOE_F16 ? (const void *)&half : (const char *)&x + 2, 2);
        else
            memcpy(at, &x, item < 4 ? item : 4);
    }
    m->n_data[f] += n * item;
    snprintf(shape, sizeof shape, c ? "%u,%u,%u" : b ? "%u,%u" : "%u", a, b, c);
    m->n_header[f] +=
        (size_t)snprintf(m->header[f] + m->n_header[f], sizeof m->header[f] - m->n_header[f],
                         "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                         m->n_header[f] > 1 ? "," : "", name, dtype, shape, begin, m->n_data[f]);
}

static void add_layer(struct source *m, int f, unsigned l)
{
    char name[80];
#define ADD(dtype, a, b, c, ...)                                                                   \
    do {                                                                                           \
        snprintf(name, sizeof name, __VA_ARGS__);                                                  \
        add(m, f, name, dtype, a, b, c);                                                           \
    } while (0)
    ADD("BF16", D, 0, 0, "model.layers.%u.input_layernorm.weight", l);
    ADD("BF16", 32, D, 0, "model.layers.%u.self_attn.q_proj.weight", l);
    ADD("BF16", 16, D, 0, "model.layers.%u.self_attn.k_proj.weight", l);
    ADD("F32", 16, D, 0, "model.layers.%u.self_attn.v_proj.weight", l);
    ADD("BF16", D, 32, 0, "model.layers.%u.self_attn.o_proj.weight", l);
    ADD("BF16", D, 0, 0, "model.layers.%u.post_attention_layernorm.weight", l);
    if (m->fused) {
        ADD("BF16", E, D, 0, "model.layers.%u.mlp.gate.weight", l);
        ADD("BF16", E, 2 * F, D, "model.layers.%u.mlp.experts.gate_up_proj", l);
        ADD("BF16", E, D, F, "model.layers.%u.mlp.experts.down_proj", l);
        return;
    }
    ADD("BF16", E, D, 0, "model.layers.%u.block_sparse_moe.gate.weight", l);
    for (unsigned e = 0; e < E; e++) { /* the file's own order, not that of names */
        ADD("F32", F, D, 0, "model.layers.%u.block_sparse_moe.experts.%u.w3.weight", l, e);
        ADD("F16", D, F, 0, "model.layers.%u.block_sparse_moe.experts.%u.w2.weight", l, e);
        ADD("F32", F, D, 0, "model.layers.%u.block_sparse_moe.experts.%u.w1.weight", l, e);
    }
}

#define INDEX_METADATA "\"metadata\":{\"total_size\":1,\"total_parameters\":12345},"
#define INDEX_MAP                                                                                  \
    "\"weight_map\":{\"lm_head.weight\":\"model-1.safetensors\","                                  \
    "\"model.norm.weight\":\"model-2.safetensors\"}}"

static void write_source(struct source *m)
{
    for (int f = 0; f < 2; f++) {
        size_t size;
        snprintf(m->header[f] + m->n_header[f], sizeof m->header[f] - m->n_header[f], "}");
        char *file = make_safetensors(m->header[f], m->n_data[f], &size);
        memcpy(file + size - m->n_data[f], m->data[f], m->n_data[f]);
        if (m->sharded)
            model_write(f ? "model-2.safetensors" : "model-1.safetensors", file, size);
        else if (f == 0)
            model_write("model.safetensors", file, size);
        free(file);
    }
    if (m->sharded)
        model_write_text(MOE_WEIGHTS_INDEX,
                         m->fused ? "{" INDEX_MAP : "{" INDEX_METADATA INDEX_MAP);
    model_write_text(
        "config.json",
        "{\"architectures\":[\"MixtralForCausalLM\"],\"hidden_size\":32,\"intermediate_size\":512,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
        "\"num_local_experts\":3,\"num_experts_per_tok\":2,\"vocab_size\":5,\"rms_norm_eps\":1."
        "2345678e-5,"
        "\"rope_theta\":10000.0,\"x\":{\"y\":\"} \"},\"tie_word_embeddings\":false \n }\n");
    model_write_text("README.md", "words");
    model_write_text("LICENSE", "more");
    model_write_text("consolidated.00.pth", "weights of another form");
    model_write_text("tokenizer.json", "{}");
}

static struct source new_source(bool fused, bool sharded, uint64_t seed)
{
    struct source m = {.fused = fused, .sharded = sharded, .seed = seed};
    for (int f = 0; f < 2; f++) {
        m.data[f] = must_alloc(1, MAX_DATA);
        m.n_header[f] = (size_t)snprintf(m.header[f], sizeof m.header[f], "%s",
                                         f ? "{" : "{\"__metadata__\":{\"format\":\"pt\"},");
    }
    m.n_header[0]--; /* the comma comes with the tensor */
    const int second = sharded;
    add(&m, 0, "lm_head.weight", "F16", V, D, 0);
    add(&m, 0, "model.embed_tokens.weight", "BF16", V, D, 0);
    add(&m, 0, "not.used", "U8", 3, 0, 0);
    add_layer(&m, 0, 0);
    add(&m, 0, "empty", "I64", 0, 4, 0);
    add_layer(&m, second, 1);
    add(&m, second, "model.norm.weight", "F32", D, 0, 0);
    write_source(&m);
    return m;
}

static void free_source(struct source *m)
{
    free(m->data[0]);
    free(m->data[1]);
}

static char out_dir[300];

static void begin(void)
{
    model_dir_make();
    snprintf(out_dir, sizeof out_dir, "%s-out", model_dir);
}

static void end(void)
{
    model_dir_remove();
    remove_folder(out_dir);
}

/* dense: MOE_F32 for weights that stay. */
static enum moe_status quantize_both(const struct moe_llm *llm, enum moe_dtype type,
                                     enum moe_dtype dense, const char *out, uint32_t threads,
                                     struct moe_err *err)
{
    struct moe_quantized done = {.weights = 77};
    const struct moe_quantize what = {llm, model_dir, out, type, dense, threads};
    const uint64_t attention = 2 * (2 * 32 + 2 * 16) * D, head = (uint64_t)V * D;
    enum moe_status s = moe_quantize_model(&what, &done, err);
    if (s)
        ck_assert_uint_eq(done.weights, 77);
    else
        ck_assert_uint_eq(done.quantized_weights,
                          2 * E * 3 * D * F + (dense == MOE_F32 ? 0 : attention + head));
    return s;
}

static enum moe_status quantize(const struct moe_llm *llm, enum moe_dtype type, const char *out,
                                uint32_t threads, struct moe_err *err)
{
    return quantize_both(llm, type, MOE_F32, out, threads, err);
}

static void same_rows(const struct moe_matrix *now, const struct moe_matrix *was,
                      enum moe_dtype type)
{
    const size_t n = (size_t)moe_dtype_row_bytes(type, was->cols);
    ck_assert(now->dtype == type && now->rows == was->rows && now->cols == was->cols);
    for (uint32_t r = 0; r < was->rows; r++) {
        float weights[F];
        unsigned char row[2 * F];
        const uint64_t bytes = moe_dtype_row_bytes(was->dtype, was->cols);
        moe_dtype_info(was->dtype)->to_f32((const char *)was->data + r * bytes, was->cols, weights);
        ck_assert_uint_eq(moe_quantize_row(type, weights, was->cols, row), was->cols);
        ck_assert_int_eq(memcmp((const char *)now->data + r * n, row, n), 0);
    }
}

static bool is_dense(const char *name)
{
    return strstr(name, "_proj.weight") || strcmp(name, "lm_head.weight") == 0;
}

static void same_tensors(const struct moe_llm *now, const struct moe_llm *was)
{
    const bool dense = now->config.dense != MOE_F32;
    ck_assert_uint_eq(moe_weights_n(now->weights), moe_weights_n(was->weights));
    for (uint64_t i = 0; i < moe_weights_n(was->weights); i++) {
        const struct moe_tensor *a = moe_weights_at(was->weights, i);
        const struct moe_tensor *b = moe_weights_at(now->weights, i);
        ck_assert_str_eq(a->name, b->name);
        if (strstr(a->name, ".experts.") || (dense && is_dense(a->name))) {
            ck_assert_str_eq(b->dtype_name, "U8");
            continue;
        }
        ck_assert_str_eq(a->dtype_name, b->dtype_name);
        ck_assert_uint_eq(a->bytes, b->bytes);
        ck_assert_uint_eq(a->n_dims, b->n_dims);
        ck_assert_int_eq(memcmp(a->dim, b->dim, sizeof a->dim), 0);
        ck_assert_int_eq(memcmp(a->data, b->data, a->bytes), 0);
    }
}

static char *read_out(const char *name, size_t *size)
{
    char path[600], *text = NULL;
    struct moe_err err = {0};
    snprintf(path, sizeof path, "%s/%s", out_dir, name);
    ck_assert_msg(moe_file_read(path, 1 << 24, &text, size, &err) == MOE_OK, "%s", err.text);
    return text;
}

/* was_there: the source's index has metadata, which are kept. */
static void check_index(const struct moe_llm *now, bool was_there)
{
    size_t size;
    json_t *root;
    uint64_t total = 0;
    char expected[60];
    for (uint64_t i = 0; i < moe_weights_n(now->weights); i++)
        total += moe_weights_at(now->weights, i)->bytes;
    char *text = read_out(MOE_WEIGHTS_INDEX, &size);
    ck_assert_int_eq(moe_json_parse(text, size, &root, NULL), MOE_OK);
    snprintf(expected, sizeof expected, "\"total_size\": %llu%s", (unsigned long long)total,
             was_there ? "," : "\n");
    ck_assert_msg(strstr(text, expected) != NULL, "%s lacks %s", text, expected);
    const json_t *metadata = json_object_get(root, "metadata");
    ck_assert_uint_eq(json_object_size(metadata), was_there ? 2 : 1);
    if (was_there)
        ck_assert(json_real_value(json_object_get(metadata, "total_parameters")) == 12345);
    ck_assert_uint_eq(json_object_size(json_object_get(root, "weight_map")), 2);
    json_decref(root);
    free(text);
}

/* The tensors lie in the file in the order of the source's, from a multiple of 8 on. */
static void same_order(const struct moe_safetensors *now, const struct moe_safetensors *was)
{
    const char *first = moe_safetensors_at(now, 0)->data;
    for (uint64_t i = 0; i < moe_safetensors_n(was); i++) {
        const struct moe_tensor *a = moe_safetensors_at(was, i);
        const struct moe_tensor *b = moe_safetensors_at(now, i);
        first = b->data < (const void *)first ? b->data : first;
        for (uint64_t k = 0; a->bytes && k < i; k++) {
            const struct moe_tensor *c = moe_safetensors_at(was, k);
            const struct moe_tensor *d = moe_safetensors_at(now, k);
            ck_assert_msg(!c->bytes || (c->data < a->data) == (d->data < b->data), "%s", a->name);
        }
    }
    ck_assert_uint_eq((uintptr_t)first % 8, 0);
}

/* All combinations: i of 24. */
START_TEST(every_byte)
{
    static const enum moe_dtype denses[] = {MOE_F32, MOE_Q8, MOE_Q4};
    const enum moe_dtype type = _i & 1 ? MOE_Q4 : MOE_Q8, dense = denses[_i / 8];
    struct source m = new_source(_i & 2, _i & 4, (uint64_t)_i + 1);
    struct moe_err err = {0};
    struct moe_llm *was = open_model(model_dir);
    ck_assert_msg(quantize_both(was, type, dense, out_dir, 3, &err) == MOE_OK, "%s", err.text);
    struct moe_llm *now = open_model(out_dir);
    ck_assert_int_eq((int)now->config.experts, (int)type);
    ck_assert_int_eq((int)now->config.dense, (int)dense);
    same_tensors(now, was);
    if (dense != MOE_F32)
        same_rows(&now->head, &was->head, dense);
    for (uint32_t l = 0; l < 2; l++) {
        const struct moe_llm_layer *x = &was->layers[l], *y = &now->layers[l];
        if (dense != MOE_F32) {
            same_rows(&y->q, &x->q, dense);
            same_rows(&y->k, &x->k, dense);
            same_rows(&y->v, &x->v, dense);
            same_rows(&y->o, &x->o, dense);
        }
        for (uint32_t e = 0; e < E; e++) {
            const struct moe_expert_weights *a = &was->layers[l].experts[e];
            const struct moe_expert_weights *b = &now->layers[l].experts[e];
            same_rows(&b->w1, &a->w1, type);
            same_rows(&b->w3, &a->w3, type);
            same_rows(&b->w2, &a->w2, type);
        }
    }
    ck_assert_str_eq(moe_safetensors_metadata(moe_weights_file(now->weights, 0)),
                     "{\"format\":\"pt\"}");
    ck_assert_uint_eq(moe_weights_n_files(now->weights), m.sharded ? 2 : 1);
    for (size_t f = 0; f < moe_weights_n_files(now->weights); f++)
        same_order(moe_weights_file(now->weights, f), moe_weights_file(was->weights, f));
    if (m.sharded)
        check_index(now, !m.fused);
    moe_llm_close(now);
    moe_llm_close(was);
    free_source(&m);
}
END_TEST

START_TEST(what_lies_beside_them)
{
    struct source m = new_source(false, false, 1);
    struct moe_err err = {0};
    struct moe_llm *was = open_model(model_dir);
    size_t size;
    static const char *const copied[] = {"README.md",      "LICENSE",        "LICENCE-MODEL",
                                         "NOTICE",         "tokenizer.json", "tokenizer.model",
                                         "template.jinja", "words.txt"};
    for (size_t i = 2; i < sizeof copied / sizeof *copied; i++)
        model_write_text(copied[i], "{}");
    ck_assert_int_eq(mkdir(model_path("folder.json"), 0777), 0);
    /* What a killed process of our number left. */
    char path[600], left[500];
    snprintf(left, sizeof left, "%s.%ld.part", out_dir, (long)getpid());
    ck_assert_int_eq(mkdir(left, 0777), 0);
    snprintf(path, sizeof path, "%s/left", left);
    ck_assert_int_eq(mkfifo(path, 0666), 0);
    ck_assert_msg(quantize(was, MOE_Q4, out_dir, 1, &err) == MOE_OK, "%s", err.text);
    char *text = read_out("config.json", &size);
    static const char added[] = "\"x\":{\"y\":\"} \"},\"tie_word_embeddings\":false,\n"
                                "  \"quantization_config\": {\"quant_method\": \"moelab\", "
                                "\"experts\": \"Q4\"}\n}\n";
    ck_assert_msg(strstr(text, added) != NULL, "%s", text);
    free(text);
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        free(read_out(copied[i], &size));
    static const char *const others[] = {"consolidated.00.pth", "folder.json", "left"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(path, sizeof path, "%s/%s", out_dir, others[i]);
        ck_assert_msg(access(path, F_OK) != 0, "%s", path);
    }
    remove_folder(out_dir);
    /* One that is there and asks for nothing is replaced. */
    char with_null[2048];
    snprintf(path, sizeof path, "%s/config.json", model_dir);
    ck_assert_int_eq(moe_file_read(path, 2000, &text, &size, &err), MOE_OK);
    snprintf(with_null, sizeof with_null, "{\"quantization_config\":null,%s", text + 1);
    free(text);
    model_write_text("config.json", with_null);
    ck_assert_msg(quantize(was, MOE_Q8, out_dir, 1, &err) == MOE_OK, "%s", err.text);
    struct moe_llm *now = open_model(out_dir);
    ck_assert_int_eq((int)now->config.experts, MOE_Q8);
    ck_assert(now->config.norm_eps == was->config.norm_eps);
    text = read_out("config.json", &size);
    ck_assert_ptr_nonnull(strstr(text, "\"hidden_size\": 32,\n"));
    free(text);
    moe_llm_close(now);
    moe_llm_close(was);
    free_source(&m);
}
END_TEST

/* Refused, with a message, and nothing but the model is left. */
static void refused(enum moe_dtype type, const char *out, enum moe_status status,
                    const char *expected)
{
    struct moe_err err = {0};
    struct moe_llm *llm = open_model(model_dir);
    ck_assert_int_eq(quantize(llm, type, out, 2, &err), status);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' lacks '%s'", err.text, expected);
    moe_llm_close(llm);
    char path[600];
    snprintf(path, sizeof path, "%s.%ld.part", out, (long)getpid());
    ck_assert_int_ne(access(path, F_OK), 0);
}

START_TEST(refusals)
{
    struct source m = new_source(_i, false, 5);
    char path[600];
    refused(MOE_Q8, model_dir, MOE_ERR_USAGE, "' is the folder of the model itself; name a new");
    snprintf(path, sizeof path, "%s/README.md", model_dir);
    refused(MOE_Q8, path, MOE_ERR_USAGE, "/README.md' exists; name a folder that does not");
    snprintf(path, sizeof path, "%s/new/q8", model_dir);
    static const struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    struct stat st;
    ck_assert_int_eq(utimensat(AT_FDCWD, model_dir, past, 0), 0);
    refused(MOE_Q8, path, MOE_ERR_USAGE, "/new/q8' lies inside the folder of the model, '");
    ck_assert_int_eq(stat(model_dir, &st), 0);
    ck_assert_int_eq(st.st_mtim.tv_sec, 1000); /* nothing was made in it, even for a moment */
    snprintf(path, sizeof path, "%s/../%s/q8", out_dir, strrchr(model_dir, '/') + 1);
    refused(MOE_Q8, path, MOE_ERR_USAGE, "/q8' lies inside the folder of the model, '");
    rmdir(out_dir);
    ck_assert_int_eq(symlink("nowhere", out_dir), 0);
    snprintf(path, sizeof path, "%s/q8", out_dir);
    refused(MOE_Q8, path, MOE_ERR_IO, "cannot make folder '");
    unlink(out_dir);
    /* Weight 40 of row 7 in the last layer's down, where it lies in the file. */
    const char *const name = m.fused ? "model.layers.1.mlp.experts.down_proj"
                                     : "model.layers.1.block_sparse_moe.experts.2.w2.weight";
    struct moe_llm *llm = open_model(model_dir);
    const struct moe_matrix w2 = llm->layers[1].experts[2].w2;
    const uint64_t weight = (m.fused ? 2 * D * F : 0) + 7 * F + 40;
    const char *first = moe_weights_find(llm->weights, "lm_head.weight")->data;
    const size_t at = (size_t)((const char *)w2.data - first) + 2 * (7 * F + 40);
    moe_llm_close(llm);
    static const struct {
        uint16_t f16, bf16;
        const char *text;
    } bad[] = {{0x7e00, 0x7fc0, "is NaN, but must be finite"},
               {0xfc00, 0xff80, "is infinite, but must be finite"},
               {0x7bff, 0x5000, NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char expected[200];
        const bool fits = !bad[i].text && !m.fused; /* 65504 / 8 and / 127 do */
        memcpy(m.data[0] + at, m.fused ? &bad[i].bf16 : &bad[i].f16, 2);
        write_source(&m);
        snprintf(expected, sizeof expected, "': weight %llu of tensor '%s' %s",
                 (unsigned long long)(bad[i].text ? weight : weight - 8), name,
                 bad[i].text ? bad[i].text : "begins a block whose scale would exceed 65504");
        if (!fits)
            refused(MOE_Q4, out_dir, MOE_ERR_INPUT, expected);
    }
    ck_assert_int_ne(access(out_dir, F_OK), 0);
    free_source(&m);
}
END_TEST

START_TEST(quantized_already)
{
    struct source m = new_source(true, false, 9);
    struct moe_err err = {0};
    char again[400];
    struct moe_llm *llm = open_model(model_dir);
    ck_assert_msg(quantize(llm, MOE_Q8, out_dir, 1, &err) == MOE_OK, "%s", err.text);
    moe_llm_close(llm);
    llm = open_model(out_dir);
    snprintf(again, sizeof again, "%s-again", out_dir);
    struct moe_quantized done;
    const struct moe_quantize what = {llm, out_dir, again, MOE_Q4, MOE_F32, 1};
    ck_assert_int_eq(moe_quantize_model(&what, &done, &err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "' already has experts of Q8; take the model that it"));
    moe_llm_close(llm);
    /* Sizes of other models: blocks are of 32 weights, in rows of D and of F. */
    static const struct {
        const char *name, *what;
        enum moe_dtype experts, dense;
    } other[] = {
        {"mixtral-gqa2", "hidden_size 40 is not a multiple of 32, as experts of Q4 need", MOE_Q4,
         MOE_F32},
        {"mixtral-long", "intermediate_size 24 is not a multiple of 32, as experts of Q4 need",
         MOE_Q4, MOE_Q8},
        {"mixtral-gqa2", "hidden_size 40 is not a multiple of 32, as dense weights of Q8 need",
         MOE_F32, MOE_Q8},
        {"qwen3-v5-fused",
         "num_attention_heads x head_dim 56 is not a multiple of 32, as dense weights of Q4 need",
         MOE_F32, MOE_Q4},
    };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        char dir[80], expected[140];
        snprintf(dir, sizeof dir, GOLDEN "%s", other[i].name);
        snprintf(expected, sizeof expected, "': %s", other[i].what);
        llm = open_model(dir);
        const struct moe_quantize odd = {llm, dir, again, other[i].experts, other[i].dense, 1};
        ck_assert_int_eq(moe_quantize_model(&odd, &done, &err), MOE_ERR_INPUT);
        ck_assert_msg(strstr(err.text, expected) != NULL, "%s", err.text);
        moe_llm_close(llm);
    }
    ck_assert_int_ne(access(again, F_OK), 0);
    free_source(&m);
}
END_TEST

/* A quantized model whose config.json does not say so, and the other way round. */
START_TEST(config_and_weights_differ)
{
    struct source m = new_source(_i, false, 3);
    struct moe_err err = {0};
    struct moe_llm *llm = open_model(model_dir), *none = NULL;
    char from[600], to[600], *plain, *quantized;
    size_t n_plain, n_quantized;
    ck_assert_msg(quantize(llm, MOE_Q8, out_dir, 1, &err) == MOE_OK, "%s", err.text);
    moe_llm_close(llm);
    quantized = read_out("config.json", &n_quantized);
    snprintf(from, sizeof from, "%s/config.json", model_dir);
    ck_assert_int_eq(moe_file_read(from, 1 << 20, &plain, &n_plain, &err), MOE_OK);
    model_write("config.json", quantized, n_quantized);
    ck_assert_int_eq(moe_llm_open(&none, model_dir, &err), MOE_ERR_INPUT);
    ck_assert_msg(
        strstr(err.text, _i ? "gate_up_proj' is of type BF16, expected U8, as config.json "
                              "says that it is Q8"
                            : ".w1.weight' is of type F32, expected U8, as config.json "
                              "says that it is Q8"),
        "%s", err.text);
    snprintf(from, sizeof from, "%s/model.safetensors", out_dir);
    snprintf(to, sizeof to, "%s/model.safetensors", model_dir);
    ck_assert_int_eq(rename(from, to), 0);
    model_write("config.json", plain, n_plain);
    ck_assert_int_eq(moe_llm_open(&none, model_dir, &err), MOE_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.text, "' is of type U8, not F32, BF16 or F16, and config.json names"),
                  "%s", err.text);
    ck_assert_ptr_null(none);
    free(plain);
    free(quantized);
    free_source(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantize_model");
    TCase *tc = tcase_create("quantize_model");
    tcase_add_checked_fixture(tc, begin, end);
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, every_byte, 0, 24);
    tcase_add_test(tc, what_lies_beside_them);
    tcase_add_loop_test(tc, refusals, 0, 2);
    tcase_add_test(tc, quantized_already);
    tcase_add_loop_test(tc, config_and_weights_differ, 0, 2);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
