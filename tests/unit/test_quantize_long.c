/* Tensors longer than one buffer of reading, rounding and writing, as in real models: every byte
 * of them, and which weight is named in a refusal. */
#include "base/progress.h"
#include "exec/quantize.h"
#include "exec/quantize_model.h"
#include "tests/unit/llm_dirs.h"
#include "tests/unit/model_files.h"
#include "tests/unit/run_suite.h"

#include <fcntl.h>
#include <signal.h>

/* One layer of one expert. A row of down is long, one of gate and up is short. */
enum { D = 32, F = 131072, V = 66000, N_TENSORS = 12 };

#define LAYER  "model.layers.0."
#define EXPERT LAYER "block_sparse_moe.experts.0."

static const struct {
    const char *name;
    uint32_t rows, cols; /* cols 0: a vector */
} tensors[N_TENSORS] = {
    {"model.embed_tokens.weight", V, D},
    {"model.norm.weight", D, 0},
    {LAYER "input_layernorm.weight", D, 0},
    {LAYER "post_attention_layernorm.weight", D, 0},
    {LAYER "self_attn.q_proj.weight", 32, D},
    {LAYER "self_attn.k_proj.weight", 16, D},
    {LAYER "self_attn.v_proj.weight", 16, D},
    {LAYER "self_attn.o_proj.weight", D, 32},
    {LAYER "block_sparse_moe.gate.weight", 1, D},
    {EXPERT "w1.weight", F, D},
    {EXPERT "w2.weight", D, F},
    {EXPERT "w3.weight", F, D},
};

/* BF16 numbers from 2^-7 to 2, of either sign. */
static void fill(uint16_t *bits, size_t n)
{
    uint64_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        bits[i] = (uint16_t)((seed >> 40 & 0x83ff) | 0x3c00);
    }
}

/* Returns where in the file the data begin. */
static off_t write_model(void)
{
    char header[4096] = "{";
    size_t used = 1, at = 0, size;
    for (int i = 0; i < N_TENSORS; i++) {
        const size_t begin = at, cols = tensors[i].cols;
        char shape[40];
        snprintf(shape, sizeof shape, cols ? "%u,%zu" : "%u", tensors[i].rows, cols);
        at += 2 * tensors[i].rows * (cols ? cols : 1);
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],"
                                 "\"data_offsets\":[%zu,%zu]}%s",
                                 tensors[i].name, shape, begin, at, i < N_TENSORS - 1 ? "," : "}");
    }
    while (used % 8)
        header[used++] = ' '; /* the data begin at a multiple of two */
    header[used] = 0;
    char *file = make_safetensors(header, at, &size);
    fill((uint16_t *)(void *)(file + size - at), at / 2);
    model_write("model.safetensors", file, size);
    free(file);
    model_write_text(
        "config.json",
        "{\"architectures\":[\"MixtralForCausalLM\"],\"hidden_size\":32,"
        "\"intermediate_size\":131072,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
        "\"num_key_value_heads\":1,\"num_local_experts\":1,\"num_experts_per_tok\":1,"
        "\"vocab_size\":66000,\"tie_word_embeddings\":true}");
    return (off_t)(size - at);
}

static void same_rows(const struct moe_matrix *now, const struct moe_matrix *was)
{
    const size_t from_bytes = (size_t)moe_dtype_row_bytes(MOE_BF16, was->cols);
    const size_t to_bytes = (size_t)moe_dtype_row_bytes(MOE_Q8, was->cols);
    float *weights = must_alloc(was->cols, sizeof *weights);
    char *row = must_alloc(1, to_bytes);
    ck_assert(now->dtype == MOE_Q8 && now->rows == was->rows && now->cols == was->cols);
    for (uint32_t r = 0; r < was->rows; r++) {
        moe_dtype_info(MOE_BF16)->to_f32((const char *)was->data + r * from_bytes, was->cols,
                                         weights);
        ck_assert_uint_eq(moe_quantize_row(MOE_Q8, weights, was->cols, row), was->cols);
        ck_assert_int_eq(memcmp((const char *)now->data + r * to_bytes, row, to_bytes), 0);
    }
    free(weights);
    free(row);
}

/* Puts other bits into the file, which is mapped, for a weight; returns those that were there. */
static uint16_t poke(const struct moe_llm *llm, off_t data, const char *tensor, size_t weight,
                     uint16_t bits)
{
    const char *first = moe_weights_find(llm->weights, tensors[0].name)->data;
    const char *at = moe_weights_find(llm->weights, tensor)->data;
    const off_t place = data + (at - first) + (off_t)(2 * weight);
    const int fd = open(model_path("model.safetensors"), O_RDWR);
    uint16_t old;
    ck_assert_int_eq(pread(fd, &old, 2, place), 2);
    ck_assert_int_eq(pwrite(fd, &bits, 2, place), 2);
    ck_assert_int_eq(close(fd), 0);
    return old;
}

/* Weights a and b of the tensor, a before b, are NaN: the first is named. */
static void refused(const struct moe_llm *llm, off_t data, const char *out, const char *tensor,
                    size_t a, size_t b)
{
    const struct moe_quantize what = {llm, model_dir, out, MOE_Q8, MOE_F32, 3};
    const uint16_t old_b = poke(llm, data, tensor, b, 0x7fc0);
    const uint16_t old_a = poke(llm, data, tensor, a, 0x7fc0);
    struct moe_quantized done;
    struct moe_err err = {0};
    char text[200];
    ck_assert_int_eq(moe_quantize_model(&what, &done, &err), MOE_ERR_INPUT);
    snprintf(text, sizeof text, "': weight %zu of tensor '%s' is NaN, ", a, tensor);
    ck_assert_msg(strstr(err.text, text) != NULL, "'%s' lacks '%s'", err.text, text);
    poke(llm, data, tensor, a, old_a);
    poke(llm, data, tensor, b, old_b);
}

START_TEST(every_byte)
{
    char out[300];
    struct moe_err err = {0};
    struct moe_quantized done;
    model_dir_make();
    snprintf(out, sizeof out, "%s-out", model_dir);
    const off_t data = write_model();
    struct moe_llm *was = open_model(model_dir);
    refused(was, data, out, EXPERT "w1.weight", 7 * D + 3, 100000 * D);
    refused(was, data, out, EXPERT "w2.weight", 31 * (size_t)F + 5, 32 * (size_t)F - 1);
    const struct moe_quantize what = {was, model_dir, out, MOE_Q8, MOE_F32, 3};
    ck_assert_msg(moe_quantize_model(&what, &done, &err) == MOE_OK, "%s", err.text);
    struct moe_llm *now = open_model(out);
    const struct moe_expert_weights *a = was->layers[0].experts, *b = now->layers[0].experts;
    same_rows(&b->w1, &a->w1);
    same_rows(&b->w3, &a->w3);
    same_rows(&b->w2, &a->w2);
    for (int i = 0; !strstr(tensors[i].name, EXPERT); i++) {
        const struct moe_tensor *x = moe_weights_find(was->weights, tensors[i].name);
        const struct moe_tensor *y = moe_weights_find(now->weights, tensors[i].name);
        ck_assert_uint_eq(x->bytes, y->bytes);
        ck_assert_msg(memcmp(x->data, y->data, x->bytes) == 0, "%s", x->name);
    }
    moe_llm_close(now);
    remove_folder(out);
    moe_catch_interrupts();
    ck_assert_int_eq(raise(SIGINT), 0);
    ck_assert_int_eq(moe_quantize_model(&what, &done, &err), MOE_ERR_INTERRUPTED);
    ck_assert_int_ne(access(out, F_OK), 0);
    moe_llm_close(was);
    model_dir_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantize_long");
    TCase *tc = tcase_create("quantize_long");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, every_byte);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
