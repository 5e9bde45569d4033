/* HDF5 files that were truncated or have flipped bits are refused, or read if only a value or
 * unused space was hit. Files with flipped bits are opened in a child process, so that a crash is
 * reported with its case. */
#include "tests/unit/hdf5_traces.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sanitizer.h"

#include <hdf5.h>
#include <sys/mman.h>
#include <sys/wait.h>

static char folder[256], good[300], path[300];
static struct moe_trace trace;

static unsigned char *slurp(size_t *size)
{
    FILE *f = fopen(good, "rb");
    unsigned char *data = malloc(1 << 20);
    *size = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

static void spill(const unsigned char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    ck_assert_uint_eq(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* Truncations are found at once, as the file knows its size. */
START_TEST(truncated_files)
{
    size_t size;
    unsigned char *data = slurp(&size);
    for (size_t n = size - 1; n > 0; n = n > 40 ? n - n / 40 : n - 1) {
        struct moe_err err;
        spill(data, n);
        ck_assert_msg(read_all(path, &err) == MOE_ERR_INPUT, "%zu of %zu bytes", n, size);
        ck_assert_int_eq(strncmp(err.text, "cannot open '", 13), 0);
    }
    free(data);
}
END_TEST

/* A flip, and what became of those before it: in memory that a child shares with its parent. */
struct flips {
    size_t at;
    unsigned char bits;
    int refused;
    bool silent; /* refused without a word */
};

/* In a child: `n` flips, one after the other. */
static void flip_some(struct flips *f, struct moe_rng *rng, unsigned char *data, size_t size, int n)
{
    for (int i = 0; i < n && !f->silent; i++) {
        struct moe_err err;
        f->at = moe_rng_below(rng, size);
        f->bits = (unsigned char)(1 + moe_rng_below(rng, 255));
        data[f->at] ^= f->bits;
        spill(data, size);
        enum moe_status status = read_all(path, &err);
        f->silent = status && !err.text[0];
        f->refused += status != MOE_OK;
        data[f->at] ^= f->bits;
    }
}

/* Bits flipped anywhere: the file is refused, or, where a value or slack was hit, read; the process
 * neither crashes nor hangs nor takes much memory. A child takes many: a fork under
 * AddressSanitizer costs more than the flip. */
START_TEST(flipped_bytes)
{
    enum { CHILDREN = ADDRESS_SANITIZER ? 10 : 30, PER_CHILD = 20 }; /* fuzz_hdf5 has it, too */
    size_t size;
    unsigned char *data = slurp(&size);
    struct flips *f =
        mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(f, MAP_FAILED);
    for (int i = 0; i < CHILDREN; i++) {
        struct moe_rng rng;
        moe_rng_init(&rng, (uint64_t)(99 + i));
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            flip_some(f, &rng, data, size, PER_CHILD);
            _exit(f->silent);
        }
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                      "byte %zu of %zu xor %#x: status %#x", f->at, size, f->bits,
                      (unsigned)status);
    }
    ck_assert_int_gt(f->refused, CHILDREN * PER_CHILD / 4);
    munmap(f, sizeof *f);
    free(data);
}
END_TEST

int main(void)
{
    struct moe_err err = {0};
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    temporary_folder(folder, sizeof folder);
    snprintf(good, sizeof good, "%s/good.h5", folder);
    snprintf(path, sizeof path, "%s/x.h5", folder);
    trace = make_trace(2, 8, 2, 3, 9, ALL_PARTS, 1);
    if (moe_trace_save(good, &trace, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    Suite *suite = suite_create("hdf5_damage");
    TCase *tc = tcase_create("hdf5_damage");
    tcase_add_test(tc, truncated_files);
    tcase_add_test(tc, flipped_bytes);
    suite_add_tcase(suite, tc);
    const int failed = run_suite(suite);
    moe_trace_release(&trace);
    remove_folder(folder);
    return failed;
}
