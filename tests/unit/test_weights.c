#include "exec/weights.h"
#include "exec/weights_index.h"
#include "model_files.h"
#include "tests/unit/run_suite.h"

#define TENSOR(name, type, shape, begin, end)                                                      \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":[" shape "],\"data_offsets\":[" #begin         \
    "," #end "]}"
#define INDEX "model.safetensors.index.json"

static struct moe_weights *opened(void)
{
    struct moe_weights *weights = NULL;
    struct moe_err err = {0};
    ck_assert_msg(moe_weights_open(&weights, model_dir, &err) == MOE_OK, "%s", err.text);
    return weights;
}

static void refused(enum moe_status status, const char *expected)
{
    struct moe_weights *weights = NULL;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_weights_open(&weights, model_dir, &err), status);
    ck_assert_ptr_null(weights);
    ck_assert_msg(strstr(err.text, expected) != NULL, "'%s' lacks '%s'", err.text, expected);
    ck_assert_msg(strstr(err.text, model_dir) != NULL, "'%s' lacks the directory", err.text);
}

/* Two shards: a and c in the first, b in the second. */
static void write_shards(void)
{
    model_write_safetensors(
        "s1.safetensors",
        "{" TENSOR("c", "F32", "2,3", 0, 24) "," TENSOR("a", "F16", "3", 24, 30) "}", 30);
    model_write_safetensors("s2.safetensors", "{" TENSOR("b", "BF16", "2,2,3", 0, 24) "}", 24);
}

START_TEST(sharded)
{
    write_shards();
    model_write_text(INDEX, "{\"metadata\":{\"total_size\":9e99},\"weight_map\":{"
                            "\"b\":\"s2.safetensors\",\"a\":\"s1.safetensors\","
                            "\"c\":\"s1.safetensors\"}}");
    struct moe_weights *weights = opened();
    ck_assert_uint_eq(moe_weights_n(weights), 3);
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < 3; i++) {
        const struct moe_tensor *t = moe_weights_at(weights, i);
        bytes += t->bytes;
        ck_assert_str_eq(t->name, ((const char *[]){"a", "b", "c"})[i]);
        ck_assert_ptr_eq(moe_weights_find(weights, t->name), t);
    }
    ck_assert_uint_eq(bytes, 54);
    ck_assert_int_eq(((const char *)moe_weights_find(weights, "a")->data)[5], 29);
    ck_assert_ptr_null(moe_weights_find(weights, "d"));
    moe_weights_close(weights);
    moe_weights_close(NULL);
}
END_TEST

START_TEST(one_file)
{
    /* Any name, where it is the only one; model.safetensors goes before all others. */
    model_write_safetensors("only.safetensors", "{" TENSOR("a", "F32", "1", 0, 4) "}", 4);
    struct moe_weights *weights = opened();
    ck_assert_ptr_nonnull(moe_weights_find(weights, "a"));
    moe_weights_close(weights);
    model_write_safetensors("model.safetensors", "{" TENSOR("m", "F32", "1", 0, 4) "}", 4);
    model_write_text(INDEX, "not looked at");
    weights = opened();
    ck_assert_ptr_nonnull(moe_weights_find(weights, "m"));
    ck_assert_uint_eq(moe_weights_n(weights), 1);
    moe_weights_close(weights);
}
END_TEST

START_TEST(no_weights)
{
    struct moe_weights *weights = NULL;
    struct moe_err err = {0};
    refused(MOE_ERR_IO, "': no *.safetensors");
    model_write_text("pytorch_model.bin", "");
    model_write_text("consolidated.00.pth", "");
    refused(MOE_ERR_IO, "': no *.safetensors (only safetensors are read; found "
                        "'consolidated.00.pth')");
    write_shards();
    refused(MOE_ERR_INPUT, "': 2 *.safetensors and no model.safetensors.index.json");
    ck_assert_int_eq(moe_weights_open(&weights, "nowhere", &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "cannot open 'nowhere': No such file or directory");
}
END_TEST

static void index_refused(const char *map, enum moe_status status, const char *expected)
{
    char text[600];
    snprintf(text, sizeof text, "{\"weight_map\":%s}", map);
    model_write_text(INDEX, text);
    refused(status, expected);
}

START_TEST(lying_index)
{
    write_shards();
    model_write_safetensors("s3.safetensors", "{" TENSOR("b", "F32", "1", 0, 4) "}", 4);
    index_refused("{\"a\":\"s1.safetensors\",\"b\":\"s4.safetensors\"}", MOE_ERR_IO,
                  "': missing shard 's4.safetensors', named in model.safetensors.index.json");
    index_refused("{\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\"}", MOE_ERR_INPUT,
                  "': no tensor 'b' in shard 's1.safetensors', where "
                  "model.safetensors.index.json has it");
    index_refused("{\"a\":\"s3.safetensors\",\"b\":\"s2.safetensors\"}", MOE_ERR_INPUT,
                  "': tensor 'b' in both 's2.safetensors' and 's3.safetensors'");
    index_refused("{}", MOE_ERR_INPUT, "json': no weight_map");
    index_refused("[]", MOE_ERR_INPUT, "json': no weight_map");
    index_refused("{\"a\":1}", MOE_ERR_INPUT, "json': shard of tensor 'a' is not a string");
    static const char *const names[] = {"../s1.safetensors",  "/s1.safetensors", ".safetensors",
                                        "..safetensors",      "s1.bin",          "",
                                        "x/../s1.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char map[100], expected[200];
        snprintf(map, sizeof map, "{\"a\":\"%s\"}", names[i]);
        snprintf(expected, sizeof expected,
                 "json': shard '%s' of tensor 'a' is not a plain file name", names[i]);
        index_refused(map, MOE_ERR_INPUT, expected);
    }
    model_write_text(INDEX, "{\"weight_map\"");
    refused(MOE_ERR_INPUT, "json': not JSON: line 1");
    model_write_text("s2.safetensors", "");
    index_refused("{\"b\":\"s2.safetensors\"}", MOE_ERR_INPUT, "s2.safetensors': empty file");
}
END_TEST

START_TEST(index_alone)
{
    static const char text[] = "{\"weight_map\":{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\","
                               "\"z\":\"b.safetensors\"}}";
    struct moe_weights_index index = {0};
    struct moe_err err = {0};
    ck_assert_int_eq(moe_weights_index_parse(text, sizeof text - 1, &index, &err), MOE_OK);
    ck_assert_uint_eq(index.n_shards, 2);
    ck_assert_str_eq(index.shard[0], "a.safetensors");
    ck_assert_str_eq(index.shard[1], "b.safetensors");
    ck_assert_uint_eq(index.n, 3);
    ck_assert_str_eq(index.entry[1].tensor, "y");
    ck_assert_uint_eq(index.entry[1].shard, 0);
    ck_assert_uint_eq(index.entry[2].shard, 1);
    moe_weights_index_release(&index);
    ck_assert_uint_eq(index.n, 0);
}
END_TEST

START_TEST(shapes)
{
    struct moe_err err = {0};
    struct moe_matrix m = {.rows = 77};
    float *v = NULL;
    static const char header[] =
        "{" TENSOR("c", "F32", "2,3", 0, 24) "," TENSOR("v", "BF16", "3", 24, 30) "," TENSOR(
            "b", "F16", "2,2,3", 30, 54) "," TENSOR("i", "I64", "1", 54, 62) "}";
    model_write_safetensors("m.safetensors", header, 62);
    struct moe_weights *w = opened();
    const char *data = moe_weights_find(w, "c")->data;
    ck_assert_int_eq(moe_weights_matrix(w, "c", MOE_F32, 2, 3, &m, &err), MOE_OK);
    ck_assert(m.data == data && m.dtype == MOE_F32 && m.rows == 2 && m.cols == 3);
    ck_assert_int_eq(moe_weights_slice(w, "b", MOE_F32, 2, 1, 2, 3, &m, &err), MOE_OK);
    ck_assert(m.data == data + 30 + 12 && m.dtype == MOE_F16 && m.rows == 2 && m.cols == 3);
    ck_assert_int_eq(moe_weights_vector(w, "v", 3, &v, &err), MOE_OK);
    for (int i = 0; i < 3; i++) { /* bytes 24, 25: pattern 0x1918 and so on */
        uint32_t bits = (uint32_t)(25 + 2 * i) << 24 | (uint32_t)(24 + 2 * i) << 16;
        ck_assert_int_eq(memcmp(&v[i], &bits, 4), 0);
    }
    free(v);
    v = NULL;
    m = (struct moe_matrix){.rows = 77};
    ck_assert_int_eq(moe_weights_matrix(w, "c", MOE_F32, 3, 2, &m, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "': tensor 'c' has shape [2, 3], expected [3, 2]"), "%s",
                  err.text);
    ck_assert_int_eq(moe_weights_matrix(w, "v", MOE_F32, 1, 3, &m, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "has shape [3], expected [1, 3]"), "%s", err.text);
    ck_assert_int_eq(moe_weights_matrix(w, "b", MOE_F32, 2, 2, &m, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "has shape [2, 2, 3], expected [2, 2]"), "%s", err.text);
    ck_assert_int_eq(moe_weights_matrix(w, "d", MOE_F32, 3, 2, &m, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "': no tensor 'd'"), "%s", err.text);
    ck_assert_int_eq(moe_weights_slice(w, "b", MOE_F32, 2, 2, 2, 3, &m, &err), MOE_ERR_INPUT);
    ck_assert_int_eq(moe_weights_slice(w, "c", MOE_F32, 2, 0, 1, 3, &m, &err), MOE_ERR_INPUT);
    ck_assert_int_eq(moe_weights_vector(w, "i", 1, &v, &err), MOE_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.text, "': tensor 'i' is of type I64, not F32, BF16 or F16"), "%s",
                  err.text);
    ck_assert_int_eq(moe_weights_vector(w, "v", 4, &v, &err), MOE_ERR_INPUT);
    ck_assert_ptr_null(v);
    ck_assert_uint_eq(m.rows, 77); /* out-parameters only on success */
    moe_weights_close(w);
}
END_TEST

#define MATRIX(name, kind, rows, cols) moe_weights_matrix(w, name, kind, rows, cols, &m, &err)

/* Rows of 64 weights: 68 bytes as Q8, 36 as Q4. */
START_TEST(quantized_rows)
{
    struct moe_err err = {0};
    struct moe_matrix m = {.rows = 77};
    static const char header[] = "{" TENSOR("a", "U8", "3,68", 0, 204) "," TENSOR(
        "b", "U8", "2,3,36", 204, 420) "," TENSOR("f", "BF16", "1,68", 420, 556) "}";
    model_write_safetensors("m.safetensors", header, 556);
    struct moe_weights *w = opened();
    const char *data = moe_weights_find(w, "a")->data;
    ck_assert_int_eq(MATRIX("a", MOE_Q8, 3, 64), MOE_OK);
    ck_assert(m.data == data && m.dtype == MOE_Q8 && m.rows == 3 && m.cols == 64);
    ck_assert_uint_eq(moe_matrix_bytes(&m), 204);
    ck_assert_int_eq(moe_weights_slice(w, "b", MOE_Q4, 2, 1, 3, 64, &m, &err), MOE_OK);
    ck_assert(m.data == data + 204 + 108 && m.dtype == MOE_Q4 && m.rows == 3 && m.cols == 64);
    m = (struct moe_matrix){.rows = 77};
    ck_assert_int_eq(MATRIX("a", MOE_Q4, 3, 64), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "': tensor 'a' has shape [3, 68], expected [3, 36] (rows of 64 "
                                   "weights in Q4)"),
                  "%s", err.text);
    ck_assert_int_eq(MATRIX("a", MOE_Q8, 3, 96), MOE_ERR_INPUT);
    ck_assert_int_eq(MATRIX("a", MOE_Q8, 2, 64), MOE_ERR_INPUT);
    ck_assert_int_eq(moe_weights_slice(w, "b", MOE_Q4, 3, 1, 3, 64, &m, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "': tensor 'b' has shape [2, 3, 36], expected [3, 3, 36] (rows"),
                  "%s", err.text);
    ck_assert_int_eq(MATRIX("f", MOE_Q8, 1, 64), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "': tensor 'f' is of type BF16, expected U8, as config.json "
                                   "says that it is Q8"),
                  "%s", err.text);
    ck_assert_int_eq(MATRIX("a", MOE_F32, 3, 68), MOE_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.text, "': tensor 'a' is of type U8, not F32, BF16 or F16, and "
                                   "config.json names no Q8 or Q4 for it"),
                  "%s", err.text);
    ck_assert_uint_eq(m.rows, 77);
    moe_weights_close(w);
}
END_TEST

/* Numbers may have any bits; of the scales, two for each of 3 rows, one is infinite, later NaN. */
START_TEST(scales_that_are_no_numbers)
{
    struct moe_err err = {0};
    struct moe_matrix m;
    static const char *const kinds[] = {"infinite", "NaN"};
    for (unsigned i = 0; i < 2; i++) {
        size_t size;
        char *file = make_safetensors("{" TENSOR("a", "U8", "3,68", 0, 204) "}", 204, &size);
        memset(file + size - 204, 0xff, 204);
        for (unsigned row = 0; row < 3; row++)
            memset(file + size - 4 - 68 * row, 0x3c, 4);
        model_write("m.safetensors", file, size);
        struct moe_weights *w = opened();
        ck_assert_int_eq(MATRIX("a", MOE_Q8, 3, 64), MOE_OK);
        ck_assert_msg(moe_weights_check_finite(w, &err) == MOE_OK, "%s", err.text);
        moe_weights_close(w);
        file[size - 68 - 1] = 0x7c;
        file[size - 68 - 2] = (char)i;
        model_write("m.safetensors", file, size);
        free(file);
        w = opened();
        ck_assert_int_eq(moe_weights_check_finite(w, &err), MOE_OK); /* nothing but bytes */
        ck_assert_int_eq(MATRIX("a", MOE_Q8, 3, 64), MOE_OK);
        ck_assert_int_eq(moe_weights_check_finite(w, &err), MOE_ERR_INPUT);
        char expected[80];
        snprintf(expected, sizeof expected, "': scale 1 of row 1 of tensor 'a' is %s", kinds[i]);
        ck_assert_msg(strstr(err.text, expected) != NULL, "%s", err.text);
        moe_weights_close(w);
    }
}
END_TEST

static uint64_t hash_of_dir(void)
{
    struct moe_weights *weights = opened();
    uint64_t hash = moe_weights_hash(weights);
    ck_assert_uint_eq(moe_weights_hash(weights), hash);
    moe_weights_close(weights);
    return hash;
}

/* Of a file with n bytes of data, of which byte `at` is set. */
static uint64_t hash_of_one(const char *header, size_t n, long at, char value)
{
    model_dir_empty();
    model_write_safetensors("m.safetensors", header, n);
    FILE *f = fopen(model_path("m.safetensors"), "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, 8 + (long)strlen(header) + at, SEEK_SET), 0);
    fputc(value, f);
    fclose(f);
    return hash_of_dir();
}

/* Values 0, 1, 2, ... as bytes; the pattern of NaN in BF16 lies in b[2, 1] of the second file. */
START_TEST(weights_that_are_no_numbers)
{
    struct moe_weights *weights;
    struct moe_err err = {0};
    write_shards();
    model_write_text(INDEX, "{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}}");
    size_t size;
    char *file = make_safetensors("{" TENSOR("b", "BF16", "2,2,3", 0, 24) "}", 24, &size);
    file[size - 24 + 2 * 7] = '\xc0';
    file[size - 24 + 2 * 7 + 1] = '\x7f';
    ck_assert_int_eq(moe_weights_open(&weights, model_dir, &err), MOE_OK);
    ck_assert_int_eq(moe_weights_check_finite(weights, &err), MOE_OK);
    moe_weights_close(weights);
    model_write("s2.safetensors", file, size);
    free(file);
    ck_assert_int_eq(moe_weights_open(&weights, model_dir, &err), MOE_OK);
    ck_assert_int_eq(moe_weights_check_finite(weights, &err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "/s2.safetensors': weight 7 of tensor 'b' is NaN"));
    moe_weights_close(weights);
    model_dir_empty();
}
END_TEST

START_TEST(hashes)
{
    /* The same tensors in one file and in two, in another order, with other gaps. */
    model_write_safetensors("x.safetensors",
                            "{" TENSOR("b", "F32", "1", 4, 8) "," TENSOR("a", "F32", "1", 0, 4) "}",
                            8);
    uint64_t one = hash_of_dir();
    model_dir_empty();
    model_write_safetensors("x.safetensors", "{" TENSOR("a", "F32", "1", 0, 4) "}", 4);
    model_write_safetensors("y.safetensors", "{" TENSOR("b", "F32", "1", 4, 8) "}", 8);
    model_write_text(INDEX, "{\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"}}");
    ck_assert_uint_eq(hash_of_dir(), one);
    /* FNV-1a of "a\0" "F32\0", 1 and 1 as u64, bytes 0 to 3; computed apart from moelab. */
    ck_assert_uint_eq(hash_of_one("{" TENSOR("a", "F32", "1", 0, 4) "}", 4, 3, 3),
                      UINT64_C(0xa464dba6aa1cdb91));
    /* Name, type, shape and both ends of the data tell models apart; the middle does not. */
    static const char header[] = "{" TENSOR("a", "F32", "3000", 0, 12000) "}";
    uint64_t base = hash_of_one(header, 12000, 0, 0);
    ck_assert_uint_ne(hash_of_one(header, 12000, 4095, 0), base);
    ck_assert_uint_eq(hash_of_one(header, 12000, 4096, 1), base);
    ck_assert_uint_eq(hash_of_one(header, 12000, 12000 - 4097, 1), base);
    ck_assert_uint_ne(hash_of_one(header, 12000, 12000 - 4096, 1), base);
    ck_assert_uint_ne(hash_of_one("{" TENSOR("b", "F32", "3000", 0, 12000) "}", 12000, 0, 0), base);
    ck_assert_uint_ne(hash_of_one("{" TENSOR("a", "I32", "3000", 0, 12000) "}", 12000, 0, 0), base);
    ck_assert_uint_ne(hash_of_one("{" TENSOR("a", "F32", "3,1000", 0, 12000) "}", 12000, 0, 0),
                      base);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *tcase = tcase_create("weights");
    tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
    tcase_add_test(tcase, sharded);
    tcase_add_test(tcase, one_file);
    tcase_add_test(tcase, no_weights);
    tcase_add_test(tcase, lying_index);
    tcase_add_test(tcase, index_alone);
    tcase_add_test(tcase, shapes);
    tcase_add_test(tcase, weights_that_are_no_numbers);
    tcase_add_test(tcase, quantized_rows);
    tcase_add_test(tcase, scales_that_are_no_numbers);
    tcase_add_test(tcase, hashes);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
