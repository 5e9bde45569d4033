#include "exec/safetensors.h"
#include "model_files.h"
#include "tests/unit/run_suite.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TENSOR(name, type, shape, begin, end)                                                      \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":[" shape "],\"data_offsets\":[" #begin         \
    "," #end "]}"

static struct moe_safetensors *parsed(const char *header, size_t n_data, char **bytes)
{
    struct moe_safetensors *file = NULL;
    struct moe_err err = {0};
    size_t size;
    *bytes = make_safetensors(header, n_data, &size);
    ck_assert_msg(moe_safetensors_parse(&file, "x", *bytes, size, &err) == MOE_OK, "%s", err.text);
    return file;
}

START_TEST(good)
{
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR("z", "F32", "2,3", 0, 24) "," TENSOR(
            "a", "BF16", "1,4", 30, 38) "," TENSOR("i", "I64", "", 38, 46) "}     ";
    char *bytes;
    struct moe_safetensors *file = parsed(header, 50, &bytes);
    ck_assert_uint_eq(moe_safetensors_n(file), 3);
    ck_assert_str_eq(moe_safetensors_at(file, 0)->name, "a");
    ck_assert_str_eq(moe_safetensors_at(file, 1)->name, "i");
    ck_assert_str_eq(moe_safetensors_at(file, 2)->name, "z");
    const struct moe_tensor *a = moe_safetensors_find(file, "a");
    ck_assert_ptr_eq(a, moe_safetensors_at(file, 0));
    ck_assert(a->computable);
    ck_assert_int_eq((int)a->dtype, MOE_BF16);
    ck_assert_str_eq(a->dtype_name, "BF16");
    ck_assert_uint_eq(a->n_dims, 2);
    ck_assert_uint_eq(a->dim[0], 1);
    ck_assert_uint_eq(a->dim[1], 4);
    ck_assert_uint_eq(a->bytes, 8);
    ck_assert_ptr_eq(a->data, bytes + 8 + strlen(header) + 30);
    ck_assert_int_eq(*(const char *)a->data, 30);
    const struct moe_tensor *i = moe_safetensors_find(file, "i");
    ck_assert(!i->computable);
    ck_assert_uint_eq(i->n_dims, 0);
    ck_assert_uint_eq(i->bytes, 8);
    ck_assert_ptr_null(moe_safetensors_find(file, "__metadata__"));
    ck_assert_ptr_null(moe_safetensors_find(file, ""));
    ck_assert_ptr_null(moe_safetensors_find(file, "zz"));
    moe_safetensors_close(file);
    free(bytes);
}
END_TEST

START_TEST(odd_but_good)
{
    char *bytes;
    struct moe_safetensors *file = parsed("{}", 0, &bytes);
    ck_assert_uint_eq(moe_safetensors_n(file), 0);
    ck_assert_ptr_null(moe_safetensors_find(file, "a"));
    moe_safetensors_close(file);
    free(bytes);
    /* Empty tensors lie anywhere, also inside others, and have any other dimension. */
    file = parsed("{" TENSOR("a", "F32", "2", 0, 8) "," TENSOR("b", "F32", "0", 4, 4) "," TENSOR(
                      "c", "F16", "9007199254740992,9007199254740992,0", 8, 8) "}",
                  8, &bytes);
    ck_assert_uint_eq(moe_safetensors_n(file), 3);
    ck_assert_uint_eq(moe_safetensors_find(file, "b")->bytes, 0);
    moe_safetensors_close(file);
    free(bytes);
    /* Every type of the format opens; those of less than a byte too. */
    file =
        parsed("{" TENSOR("a", "F4", "2,3", 0, 3) "," TENSOR("b", "F6_E2M3", "4", 3, 6) "," TENSOR(
                   "c", "F8_E4M3", "2", 6, 8) "," TENSOR("d", "BOOL", "1", 8, 9) "}",
               9, &bytes);
    ck_assert_uint_eq(moe_safetensors_n(file), 4);
    ck_assert(!moe_safetensors_find(file, "c")->computable);
    moe_safetensors_close(file);
    free(bytes);
    moe_safetensors_close(NULL);
}
END_TEST

/* `expected` is all of the message behind the name; or, ending in a blank, its begin: jansson's own
 * words differ between versions. */
static void check_refusal(const void *bytes, size_t size, const char *expected)
{
    struct moe_safetensors *file = NULL;
    struct moe_err err = {0};
    void *copy = malloc(size ? size : 1); /* of exactly this size, for AddressSanitizer */
    memcpy(copy, bytes, size);
    ck_assert_int_eq(moe_safetensors_parse(&file, "x.safetensors", copy, size, &err),
                     MOE_ERR_INPUT);
    ck_assert_ptr_null(file);
    ck_assert_msg(strncmp(err.text, "'x.safetensors': ", 17) == 0, "%s", err.text);
    size_t n = strlen(expected);
    bool same = expected[n - 1] == ' ' ? strncmp(err.text + 17, expected, n) == 0
                                       : strcmp(err.text + 17, expected) == 0;
    ck_assert_msg(same, "'%s' instead of '%s'", err.text + 17, expected);
    free(copy);
}

/* A file of this header and 100 bytes of data. */
static void refused(const char *header, const char *expected)
{
    size_t size;
    char *bytes = make_safetensors(header, 100, &size);
    check_refusal(bytes, size, expected);
    free(bytes);
}

START_TEST(bad_length)
{
    char bytes[64] = {0};
    check_refusal(bytes, 0, "0 bytes are too few for a header");
    check_refusal(bytes, 7, "7 bytes are too few for a header");
    check_refusal(bytes, 8, "header: not JSON: line 1: ");
    memset(bytes, 0xff, 8);
    check_refusal(bytes, sizeof bytes,
                  "header of 18446744073709551615 bytes exceeds the limit of 100000000");
    memcpy(bytes, (char[8]){57}, 8);
    check_refusal(bytes, sizeof bytes, "truncated: header of 57 bytes in a file of 64");
    memcpy(bytes, "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789", 64);
    check_refusal(bytes, sizeof bytes, "a Git LFS pointer, not the weights themselves");
}
END_TEST

START_TEST(bad_json)
{
    refused("[]", "header: not a JSON object");
    refused("{\"a\":", "header: not JSON: line 1: ");
    refused("{} {}", "header: not JSON: line 1: ");
    refused("{\"a\":{},\"a\":{}}", "header: not JSON: line 1: ");
    refused("{\"a\\u0000\":{}}", "header: not JSON: line 1: ");
    refused("{\"\xff\":{}}", "header: not JSON: line 1: ");
    char deep[100000];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    memcpy(deep, "{\"a\":", 5);
    refused(deep, "header: JSON nested deeper than 64");
    /* Brackets in a name do not count, nor does an escaped quote end it. */
    memcpy(deep, "{\"\\\"[", 5);
    snprintf(deep + 1000, sizeof deep - 1000, "\":{}}");
    struct moe_safetensors *file = NULL;
    struct moe_err err = {0};
    size_t size;
    char *bytes = make_safetensors(deep, 0, &size);
    ck_assert_int_eq(moe_safetensors_parse(&file, "x", bytes, size, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "[': no dtype") != NULL, "%s", err.text);
    free(bytes);
}
END_TEST

#define REFUSED(type, shape, begin, end, why)                                                      \
    refused("{" TENSOR("w", type, shape, begin, end) "}", "tensor 'w': " why)

START_TEST(bad_entry)
{
    refused("{\"w\":3}", "tensor 'w': not an object");
    refused("{\"w\":{}}", "tensor 'w': no dtype");
    refused("{\"w\":{\"dtype\":\"F32\"}}", "tensor 'w': no shape");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":3}}", "tensor 'w': no shape");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[]}}", "tensor 'w': no data_offsets [begin, end]");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}",
            "tensor 'w': no data_offsets [begin, end]");
    REFUSED("F33", "1", 0, 4, "unknown dtype 'F33'");
    REFUSED("f32", "1", 0, 4, "unknown dtype 'f32'");
    REFUSED("F32", "1,1,1,1,1,1,1,1,1", 0, 4, "9 dimensions exceed the limit of 8");
    REFUSED("F32", "-1", 0, 4, "dimension -1 is outside 0..9007199254740992");
    REFUSED("F32", "1.5", 0, 4, "dimension 1.5 is not a whole number");
    REFUSED("F32", "\"1\"", 0, 4, "dimension is not a number");
    REFUSED("F32", "null", 0, 4, "dimension is not a number");
    REFUSED("F32", "9223372036854775808", 0, 4,
            "dimension 9.2233720368547758e+18 is outside 0..9007199254740992");
    REFUSED("F32", "1e30", 0, 4, "dimension 1e+30 is outside 0..9007199254740992");
    REFUSED("F32", "4611686018427387904,4", 0, 4,
            "dimension 4.6116860184273879e+18 is outside 0..9007199254740992");
    REFUSED("F32", "4294967296,4294967296", 0, 4, "the product of its dimensions overflows");
    REFUSED("F32", "67108864,67108864,67108864", 0, 0, "the product of its dimensions overflows");
    REFUSED("F4", "3", 0, 2, "12 bits are not whole bytes");
}
END_TEST

START_TEST(bad_place)
{
    REFUSED("F32", "1", 4, 0, "data_offsets [4, 0] run backwards");
    REFUSED("F32", "1", -4, 0, "data offset -4 is outside 0..9007199254740992");
    REFUSED("F32", "1", 97, 101, "data_offsets [97, 101] exceed the 100 bytes of data in the file");
    REFUSED("F32", "1", 18446744073709551612, 0,
            "data offset 1.8446744073709552e+19 is outside 0..9007199254740992");
    REFUSED("F32", "2", 0, 4, "data_offsets hold 4 bytes, its shape and dtype F32 need 8");
    REFUSED("BF16", "", 0, 0, "data_offsets hold 0 bytes, its shape and dtype BF16 need 2");
    REFUSED("F16", "0", 0, 2, "data_offsets hold 2 bytes, its shape and dtype F16 need 0");
    refused("{" TENSOR("a", "F32", "2", 0, 8) "," TENSOR("b", "F32", "1", 7, 11) "}",
            "tensors 'a' and 'b' overlap");
    refused("{" TENSOR("b", "F32", "1", 8, 12) "," TENSOR("a", "F32", "5", 0, 20) "}",
            "tensors 'a' and 'b' overlap");
    /* The empty one between does not hide it. */
    refused("{" TENSOR("a", "F32", "2", 0, 8) "," TENSOR("b", "F32", "0", 4,
                                                         4) "," TENSOR("c", "F32", "1", 4, 8) "}",
            "tensors 'a' and 'c' overlap");
    refused("{" TENSOR("a", "F32", "2", 0, 8) "," TENSOR("b", "F32", "2", 0, 8) "}",
            "tensors 'a' and 'b' overlap");
}
END_TEST

/* A good file cut short anywhere is refused, and never read beyond its end. */
START_TEST(truncated)
{
    size_t size;
    char *bytes = make_safetensors("{" TENSOR("a", "F32", "2", 0, 8) "}", 8, &size);
    for (size_t n = 0; n < size; n++) {
        struct moe_safetensors *file = NULL;
        struct moe_err err = {0};
        char *copy = malloc(n + !n);
        memcpy(copy, bytes, n);
        ck_assert_int_eq(moe_safetensors_parse(&file, "x", copy, n, &err), MOE_ERR_INPUT);
        ck_assert_ptr_null(file);
        free(copy);
    }
    free(bytes);
}
END_TEST

static void not_opened(const char *name, enum moe_status status, const char *expected)
{
    struct moe_safetensors *file = NULL;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_safetensors_open(&file, model_path(name), &err), status);
    ck_assert_ptr_null(file);
    ck_assert_msg(strstr(err.text, expected) != NULL, "%s", err.text);
}

START_TEST(files)
{
    struct moe_safetensors *file;
    struct moe_err err = {0};
    model_dir_make();
    model_write_safetensors("m", "{" TENSOR("a", "F32", "2", 0, 8) "}", 8);
    ck_assert_int_eq(moe_safetensors_open(&file, model_path("m"), &err), MOE_OK);
    const unsigned char *data = moe_safetensors_find(file, "a")->data;
    ck_assert_int_eq(data[7], 7);
    moe_safetensors_peek(file, true);
    ck_assert_int_eq(data[6], 6);
    moe_safetensors_peek(file, false);
    ck_assert_int_eq(data[5], 5);
    moe_safetensors_close(file);
    not_opened("none", MOE_ERR_IO, "none': No such file or directory");
    not_opened(".", MOE_ERR_IO, "not a regular file");
    ck_assert_int_eq(mkfifo(model_path("fifo"), 0600), 0);
    not_opened("fifo", MOE_ERR_IO, "not a regular file");
    model_write_text("empty", "");
    not_opened("empty", MOE_ERR_INPUT, "empty': empty file");
    model_write_text("text", "not weights at all");
    not_opened("text", MOE_ERR_INPUT, "text': header of ");
    model_dir_remove();
}
END_TEST

enum { LONG_BYTES = 1 << 20 };

/* Maps file m, cuts it short and reads behind its new end; `other`: another mapping of it, that no
 * one was told of. Returns only if that harms nothing. */
static void read_cut(bool other)
{
    struct moe_safetensors *file;
    struct moe_err err = {0};
    if (moe_safetensors_open(&file, model_path("m"), &err))
        _exit(10);
    const char *data = moe_safetensors_find(file, "a")->data;
    if (other) {
        int fd = open(model_path("m"), O_RDONLY);
        data = mmap(NULL, LONG_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    }
    if (truncate(model_path("m"), 5000) != 0)
        _exit(11);
    volatile char last = data[LONG_BYTES - 1];
    (void)last;
    moe_safetensors_close(file);
}

/* What the child says, and its status. */
static int said_of_cut(bool other, char *said, size_t size)
{
    int ends[2], status;
    size_t n = 0;
    model_write_safetensors("m", "{" TENSOR("a", "U8", "1048576", 0, 1048576) "}", LONG_BYTES);
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        read_cut(other);
        _exit(12);
    }
    close(ends[1]);
    for (ssize_t more = 1; more > 0 && n<size - 1; n += more> 0 ? (size_t)more : 0)
        more = read(ends[0], said + n, size - 1 - n);
    said[n] = 0;
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

START_TEST(cut_short_while_mapped)
{
    char said[8000], wanted[800];
    struct moe_safetensors *file, *second;
    struct moe_err err = {0};
    struct sigaction before, now;
    model_dir_make();
    int status = said_of_cut(false, said, sizeof said);
    snprintf(wanted, sizeof wanted, "moelab: a model file was cut short or cannot be read: '%s'\n",
             model_path("m"));
    ck_assert_str_eq(said, wanted);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %#x", (unsigned)status);
    /* elsewhere it is what it was: a sanitizer's report, or the signal */
    status = said_of_cut(true, said, sizeof said);
    ck_assert_ptr_null(strstr(said, "model file"));
    ck_assert_msg(strstr(said, "Sanitizer") || (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS),
                  "status %#x: %s", (unsigned)status, said);
    /* handled only while a file is mapped */
    model_write_safetensors("m", "{" TENSOR("a", "F32", "2", 0, 8) "}", 8);
    sigaction(SIGBUS, NULL, &before);
    ck_assert_int_eq(moe_safetensors_open(&file, model_path("m"), &err), MOE_OK);
    ck_assert_int_eq(moe_safetensors_open(&second, model_path("m"), &err), MOE_OK);
    moe_safetensors_close(file);
    sigaction(SIGBUS, NULL, &now);
    ck_assert(now.sa_sigaction != before.sa_sigaction);
    moe_safetensors_close(second);
    sigaction(SIGBUS, NULL, &now);
    ck_assert(now.sa_sigaction == before.sa_sigaction);
    model_dir_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tcase = tcase_create("safetensors");
    tcase_add_test(tcase, good);
    tcase_add_test(tcase, odd_but_good);
    tcase_add_test(tcase, bad_length);
    tcase_add_test(tcase, bad_json);
    tcase_add_test(tcase, bad_entry);
    tcase_add_test(tcase, bad_place);
    tcase_add_test(tcase, truncated);
    tcase_add_test(tcase, files);
    tcase_add_test(tcase, cut_short_while_mapped);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
