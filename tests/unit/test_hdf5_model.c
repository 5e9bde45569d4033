/* The description of the model in a trace file is checked as strictly as its tokens: integers of
 * each layer, and groups that are links to elsewhere or take more memory than they promise. */
#include "tests/unit/hdf5_hostile.h"
#include "tests/unit/run_suite.h"

#include <sys/stat.h>

static const char *const names[] = {"model/expert_bytes", "model/dense_bytes"};

/* A copy that has both of them. */
static hid_t open_both(void)
{
    hid_t file = open_copy();
    ck_assert_int_ge(H5Lcopy(file, names[0], file, names[1], H5P_DEFAULT, H5P_DEFAULT), 0);
    return file;
}

static void refuse_about(hid_t file, enum moe_status want, const char *name, const char *what)
{
    char message[200];
    snprintf(message, sizeof message, "'%%s': dataset '%s' %s", name, what);
    refuse(file, want, message);
}

START_TEST(both_are_good)
{
    refuse(open_both(), MOE_OK, "");
}
END_TEST

START_TEST(storage_that_is_not_plain)
{
    const hsize_t one[1] = {L};
    const uint64_t values[L] = {1, 2};
    char fifo[300]; /* whoever opened it would wait for ever */
    snprintf(fifo, sizeof fifo, "%.280s/fifo", folder);
    ck_assert_int_eq(mkfifo(fifo, 0666), 0);
    for (int i = 0; i < 2; i++) {
        hid_t file = open_both(), plist = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_external(plist, fifo, 0, L * 8);
        replace(file, names[i], H5T_STD_U64LE, 1, one, plist, NULL);
        refuse_about(file, MOE_ERR_INPUT, names[i], "keeps its data outside the file");
        H5Pclose(plist);

        file = open_both();
        plist = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_chunk(plist, 1, one);
        H5Pset_nbit(plist);
        replace(file, names[i], H5T_STD_U64LE, 1, one, plist, values);
        refuse_about(file, MOE_ERR_UNSUPPORTED, names[i],
                     "uses filter 5 'nbit'; known are deflate, shuffle and fletcher32");
        H5Pclose(plist);

        file = open_both();
        plist = sparse_list(1, one);
        replace(file, names[i], H5T_STD_U64LE, 1, one, plist, NULL);
        refuse_about(file, MOE_ERR_INPUT, names[i],
                     "has 0 of the 1 chunks that its extent promises");
        H5Pclose(plist);
    }
    unlink(fifo);
}
END_TEST

/* Written, such a chunk has a few bytes in the file; read, it takes all of its size. */
START_TEST(chunks_too_large)
{
    const hsize_t one[1] = {L}, far[1] = {H5S_UNLIMITED}, chunk[1] = {(33 << 20) / 8};
    for (int i = 0; i < 2; i++) {
        hid_t file = open_both(), plist = sparse_list(1, chunk);
        hid_t space = H5Screate_simple(1, one, far);
        H5Ldelete(file, names[i], H5P_DEFAULT);
        H5Dclose(H5Dcreate2(file, names[i], H5T_STD_U64LE, space, H5P_DEFAULT, plist, H5P_DEFAULT));
        H5Sclose(space);
        H5Pclose(plist);
        refuse_about(file, MOE_ERR_UNSUPPORTED, names[i], "has chunks of more than 32 MiB");
    }
}
END_TEST

START_TEST(other_types_and_extents)
{
    const hsize_t one[1] = {L}, more[1] = {L + 1}, two[2] = {L, 1};
    const uint64_t values[L + 1] = {0};
    for (int i = 0; i < 2; i++) {
        hid_t file = open_both();
        replace(file, names[i], H5T_IEEE_F64LE, 1, one, H5P_DEFAULT, values);
        refuse_about(file, MOE_ERR_INPUT, names[i], "is not 2 readable integers");
        file = open_both();
        replace(file, names[i], H5T_STD_U64LE, 1, more, H5P_DEFAULT, values);
        refuse_about(file, MOE_ERR_INPUT, names[i], "is not 2 readable integers");
        file = open_both();
        replace(file, names[i], H5T_STD_U64LE, 2, two, H5P_DEFAULT, values);
        refuse_about(file, MOE_ERR_INPUT, names[i], "has rank 2, not 1");
    }
}
END_TEST

START_TEST(links)
{
    static const char *const groups[] = {"model", "provenance"};
    char message[200];
    for (int i = 0; i < 2; i++) {
        hid_t file = open_both();
        H5Lmove(file, names[i], file, "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_soft("/elsewhere", file, names[i], H5P_DEFAULT, H5P_DEFAULT);
        refuse_about(file, MOE_ERR_INPUT, names[i], "is a link to another place");

        file = open_copy();
        H5Lmove(file, groups[i], file, "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_soft("/elsewhere", file, groups[i], H5P_DEFAULT, H5P_DEFAULT);
        snprintf(message, sizeof message, "'%%s': group '%s' is a link to another place",
                 groups[i]);
        refuse(file, MOE_ERR_INPUT, message);

        file = open_copy();
        H5Ldelete(file, groups[i], H5P_DEFAULT);
        H5Lcreate_external(good, groups[i], file, groups[i], H5P_DEFAULT, H5P_DEFAULT);
        refuse(file, MOE_ERR_INPUT, message);
    }
}
END_TEST

int main(void)
{
    make_good();
    Suite *suite = suite_create("hdf5_model");
    TCase *tc = tcase_create("hdf5_model");
    tcase_add_test(tc, both_are_good);
    tcase_add_test(tc, storage_that_is_not_plain);
    tcase_add_test(tc, chunks_too_large);
    tcase_add_test(tc, other_types_and_extents);
    tcase_add_test(tc, links);
    suite_add_tcase(suite, tc);
    const int failed = run_suite(suite);
    moe_trace_release(&trace);
    remove_folder(folder);
    return failed;
}
