/* HDF5 files that are no traces, or not quite: one clear line each, no read past a buffer, no
 * allocation by counts that the file only claims. They are made with the HDF5 library by changing
 * one thing in a good file; truncated files and flipped bits: test_hdf5_damage.c. */
#include "tests/unit/hdf5_hostile.h"
#include "tests/unit/run_suite.h"

#include <sys/stat.h>

static const char *const sets[] = {"tokens/step",      "tokens/position",    "tokens/token_id",
                                   "tokens/phase",     "routes/expert",      "routes/weight",
                                   "routes/score",     "routes/lookahead",   "log/residency",
                                   "log/loaded_bytes", "sequences/n_tokens", "sequences/text_hash",
                                   "sequences/label",  "sequences/category"};
enum { SETS = sizeof sets / sizeof *sets };

/* Overwrites the first n values. */
static void poke(hid_t file, const char *name, hid_t type, hsize_t n, const void *values)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set);
    hsize_t extent[3], point[1] = {n};
    hsize_t count[3] = {1, 1, 1}, start[3] = {0, 0, 0};
    int rank = H5Sget_simple_extent_dims(space, extent, NULL);
    count[rank - 1] = n;
    hid_t memory = H5Screate_simple(1, point, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    ck_assert_int_ge(H5Dwrite(set, type, memory, space, H5P_DEFAULT, values), 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(set);
}

static void set_attribute_array(hid_t file, const char *at, const char *name, hid_t type, hsize_t n,
                                const void *value)
{
    H5Adelete_by_name(file, at, name, H5P_DEFAULT);
    hid_t space = n == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL);
    hid_t a = H5Acreate_by_name(file, at, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    ck_assert_int_ge(H5Awrite(a, type, value), 0);
    H5Aclose(a);
    H5Sclose(space);
}

static void set_attribute(hid_t file, const char *at, const char *name, hid_t type,
                          const void *value)
{
    set_attribute_array(file, at, name, type, 1, value);
}

START_TEST(the_good_file_is_good)
{
    ck_assert_int_ge(H5Fclose(open_copy()), 0);
    expect(MOE_OK, "");
}
END_TEST

/* As a script of another program writes it: contiguous, nothing optional. */
START_TEST(a_minimal_file)
{
    const hsize_t T[1] = {trace.tokens.n_tokens};
    struct moe_trace x;
    struct moe_err err = {0};
    hid_t file = open_copy();
    static const char *const more[] = {"provenance", "log", "model/expert_bytes", "tokens/request"};
    for (int i = 0; i < 4; i++)
        H5Ldelete(file, more[i], H5P_DEFAULT);
    for (int i = 5; i < 8; i++)
        H5Ldelete(file, sets[i], H5P_DEFAULT);
    replace(file, "tokens/step", H5T_STD_U32BE, 1, T, H5P_DEFAULT, NULL);
    poke(file, "tokens/step", H5T_NATIVE_UINT32, T[0], trace.tokens.step);
    H5Fclose(file);
    expect(MOE_OK, "");
    ck_assert_int_eq(moe_trace_load(path, ALL_PARTS, &x, &err), MOE_OK);
    ck_assert_uint_eq(moe_tokens_parts(&x.tokens), 0);
    ck_assert_mem_eq(x.tokens.step, trace.tokens.step, T[0] * sizeof *x.tokens.step);
    ck_assert_str_eq(x.info.licence, "unknown");
    ck_assert_str_eq(x.info.note, "");
    ck_assert_ptr_null(x.info.header);
    ck_assert_ptr_null(x.info.expert_bytes);
    moe_trace_release(&x);
}
END_TEST

static hsize_t open_ids(void)
{
    static const H5I_type_t types[] = {H5I_FILE,    H5I_GROUP, H5I_DATATYPE,   H5I_DATASPACE,
                                       H5I_DATASET, H5I_ATTR,  H5I_GENPROP_LST};
    hsize_t sum = 0, n;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        sum += H5Inmembers(types[i], &n) >= 0 ? n : 0;
    return sum;
}

START_TEST(nothing_stays_open)
{
    struct moe_err err = {0};
    H5Fclose(open_copy());
    expect(MOE_OK, "");
    ck_assert_int_eq(moe_trace_save(path, &trace, &err), MOE_OK);
    hsize_t before = open_ids();
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(moe_trace_save(path, &trace, &err), MOE_OK);
        expect(MOE_OK, "");
    }
    ck_assert_uint_eq(open_ids(), before);
}
END_TEST

START_TEST(things_that_are_not_files_of_ours)
{
    FILE *f = fopen(path, "w");
    fprintf(f, "layer,expert\n1,2\n");
    fclose(f);
    expect(MOE_ERR_INPUT, "cannot open '%s': not an HDF5 file");
    f = fopen(path, "w");
    fclose(f);
    expect(MOE_ERR_INPUT, "cannot open '%s': not an HDF5 file");
    unlink(path);
    expect(MOE_ERR_IO, "cannot open '%s': No such file or directory");
    ck_assert_int_eq(mkdir(path, 0777), 0);
    expect(MOE_ERR_IO, "cannot open '%s': is a directory");
    rmdir(path);
    ck_assert_int_eq(mkfifo(path, 0666), 0);
    expect(MOE_ERR_IO, "cannot open '%s': not a regular file");
    unlink(path);
    H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    expect(MOE_ERR_INPUT, "'%s': not a trace: root attribute 'format' is not 'moelab-trace'");
}
END_TEST

START_TEST(values_that_cannot_be)
{
    hid_t file = open_copy();
    poke(file, "routes/expert", H5T_NATIVE_UINT16, 2, (uint16_t[]){9, 1});
    refuse(file, MOE_ERR_INPUT, "'%s': token 0 layer 0: expert 9 is outside 0..7");
    file = open_copy();
    poke(file, "routes/expert", H5T_NATIVE_UINT16, 2, (uint16_t[]){3, 3});
    refuse(file, MOE_ERR_INPUT, "'%s': token 0 layer 0: expert 3 appears twice in the route");
    file = open_copy();
    poke(file, "routes/expert", H5T_NATIVE_UINT16, 2, (uint16_t[]){255, 3});
    refuse(file, MOE_ERR_INPUT, "'%s': token 0 layer 0: expert 3 follows an absent entry");
    file = open_copy();
    poke(file, "routes/expert", H5T_NATIVE_UINT16, 2, (uint16_t[]){4, 3});
    poke(file, "routes/weight", H5T_NATIVE_FLOAT, 2, (float[]){0.5f, NAN});
    refuse(file, MOE_ERR_INPUT, "'%s': token 0 layer 0: weight nan of expert 3 is not finite");
    file = open_copy();
    poke(file, "routes/score", H5T_NATIVE_FLOAT, 2, (float[]){INFINITY, 1});
    refuse(file, MOE_ERR_INPUT,
           "'%s': token 0 layer 0: router scores are neither all finite nor all absent");
    file = open_copy();
    poke(file, "tokens/step", H5T_NATIVE_UINT32, 1, (uint32_t[]){70});
    refuse(file, MOE_ERR_INPUT, "'%s': token 1: step 0 follows step 70");
    file = open_copy();
    poke(file, "tokens/phase", H5T_NATIVE_UINT8, 1, (uint8_t[]){7});
    refuse(file, MOE_ERR_INPUT, "'%s': token 0: phase 7 is neither 0 (prefill) nor 1 (decode)");
}
END_TEST

/* Where one block ends and the next begins: no block alone shows that the steps fall. */
START_TEST(steps_that_fall_between_blocks)
{
    enum { T = 400000 };
    const hsize_t extent[1] = {T};
    const struct moe_tokens *b;
    struct moe_reader *r;
    struct moe_err err = {0};
    struct moe_trace x = make_trace(1, 2, 1, 1, T, 0, 2);
    for (uint32_t t = 0; t < T; t++) {
        x.tokens.step[t] = t;
        x.tokens.phase[t] = MOE_DECODE;
    }
    ck_assert_int_eq(moe_trace_save(path, &x, &err), MOE_OK);
    ck_assert_int_eq(moe_reader_open(&r, path, &err), MOE_OK);
    ck_assert_int_eq(moe_reader_next(r, 0, &b, &err), MOE_OK);
    uint64_t seam = b->n_tokens;
    ck_assert_uint_lt(seam, T);
    moe_reader_close(r);
    x.tokens.step[seam] = 0;
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    replace(file, "tokens/step", H5T_STD_U32LE, 1, extent, H5P_DEFAULT, x.tokens.step);
    char message[100];
    snprintf(message, sizeof message, "'%%s': token %lu: step 0 follows step %lu",
             (unsigned long)seam, (unsigned long)seam - 1);
    refuse(file, MOE_ERR_INPUT, message);
    moe_trace_release(&x);
}
END_TEST

START_TEST(sequences_that_do_not_add_up)
{
    static const uint64_t lengths[] = {1000000000000000000u, UINT64_MAX, 8};
    const char *const messages[] = {
        "'%s': sequence 0 of 1000000000000000000 tokens ends beyond the 18 tokens of the file",
        "'%s': sequence 0 of 18446744073709551615 tokens ends beyond the 18 tokens of the file",
        "'%s': sequences have 17 tokens together, the file has 18"};
    ck_assert_uint_eq(trace.tokens.n_tokens, 18);
    for (int i = 0; i < 3; i++) {
        hid_t file = open_copy();
        poke(file, "sequences/n_tokens", H5T_NATIVE_UINT64, 1, &lengths[i]);
        refuse(file, MOE_ERR_INPUT, messages[i]);
    }
}
END_TEST

START_TEST(attributes_that_cannot_be)
{
    static const struct {
        const char *at, *name;
        int64_t value;
        enum moe_status status;
        const char *message;
    } cases[] = {
        {"/", "schema_version", 2, MOE_ERR_UNSUPPORTED,
         "'%s': schema version 2 is not the version 1 of this program"},
        {"/", "schema_version", -1, MOE_ERR_INPUT,
         "'%s': attribute 'schema_version' of '/' is -1, outside 0..9223372036854775807"},
        {"/", "synthetic", 2, MOE_ERR_INPUT,
         "'%s': attribute 'synthetic' of '/' is 2, outside 0..1"},
        {"model", "n_layers", 0, MOE_ERR_INPUT,
         "'%s': attribute 'n_layers' of 'model' is 0, outside 1..1024"},
        {"model", "n_layers", 1025, MOE_ERR_INPUT,
         "'%s': attribute 'n_layers' of 'model' is 1025, outside 1..1024"},
        {"model", "n_layers", 3, MOE_ERR_INPUT,
         "'%s': dataset 'model/expert_bytes' is not 3 readable integers"},
        {"model", "n_experts", 4097, MOE_ERR_INPUT,
         "'%s': attribute 'n_experts' of 'model' is 4097, outside 1..4096"},
        {"model", "n_experts", 1, MOE_ERR_INPUT, "'%s': top_k 2 exceeds the 1 experts"},
        {"model", "n_experts", 9, MOE_ERR_INPUT,
         "'%s': dataset 'routes/score' has rows of 2 x 8, not 2 x 9"},
        {"model", "top_k", 65, MOE_ERR_INPUT,
         "'%s': attribute 'top_k' of 'model' is 65, outside 1..64"},
        {"model", "top_k", 3, MOE_ERR_INPUT,
         "'%s': dataset 'routes/expert' has rows of 2 x 2, not 2 x 3"},
        {"model", "name", 7, MOE_ERR_INPUT,
         "'%s': attribute 'name' of 'model' is not one string of fixed length up to 255 (h5py: "
         "numpy.bytes_)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hid_t file = open_copy();
        set_attribute(file, cases[i].at, cases[i].name, H5T_NATIVE_INT64, &cases[i].value);
        refuse(file, cases[i].status, cases[i].message);
    }
    hid_t file = open_copy();
    set_attribute(file, "model", "top_k", H5T_NATIVE_DOUBLE, &(double){2});
    refuse(file, MOE_ERR_INPUT, "'%s': attribute 'top_k' of 'model' is not one integer");
    file = open_copy();
    H5Adelete_by_name(file, "model", "top_k", H5P_DEFAULT);
    refuse(file, MOE_ERR_INPUT, "'%s': no attribute 'top_k' in 'model'");
    file = open_copy();
    hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, 300);
    char long_text[300];
    memset(long_text, 'x', sizeof long_text);
    set_attribute(file, "provenance", "note", text, long_text);
    refuse(file, MOE_ERR_INPUT,
           "'%s': attribute 'note' of 'provenance' is not one string of fixed length up to 255 "
           "(h5py: numpy.bytes_)");
    /* More values than one would be written behind the place for it. */
    static const int64_t integers[1000] = {2};
    file = open_copy();
    set_attribute_array(file, "model", "top_k", H5T_NATIVE_INT64, 1000, integers);
    refuse(file, MOE_ERR_INPUT, "'%s': attribute 'top_k' of 'model' is not one integer");
    static const char texts[1000][4];
    H5Tset_size(text, sizeof *texts);
    file = open_copy();
    set_attribute_array(file, "provenance", "note", text, 1000, texts);
    refuse(file, MOE_ERR_INPUT,
           "'%s': attribute 'note' of 'provenance' is not one string of fixed length up to 255 "
           "(h5py: numpy.bytes_)");
    H5Tclose(text);
}
END_TEST

static const char *numpy_name(hid_t type, bool expert)
{
    const struct {
        hid_t type;
        const char *name;
    } names[] = {{H5T_STD_U8LE, "u1"},  {H5T_STD_U16LE, "u2"}, {H5T_STD_U32LE, "u4"},
                 {H5T_STD_I32LE, "i4"}, {H5T_STD_U64LE, "u8"}, {H5T_IEEE_F32LE, "f4"}};
    for (size_t i = 0; !expert && i < sizeof names / sizeof *names; i++)
        if (H5Tequal(type, names[i].type) > 0)
            return names[i].name;
    return "u1 or u2";
}

/* Every dataset: away, of other types, of another rank, with a row too few, as links. */
START_TEST(datasets_of_another_kind)
{
    const hid_t types[] = {H5T_STD_I8LE,  H5T_STD_U16LE,  H5T_STD_I32LE,
                           H5T_STD_U64LE, H5T_IEEE_F64LE, H5T_IEEE_F32LE};
    const hsize_t T = trace.tokens.n_tokens, flat[2] = {T, 1}, few[3] = {T - 1, L, K};
    struct moe_err err;
    for (int i = 0; i < SETS; i++) {
        char message[200];
        hid_t file = open_copy(), set = H5Dopen2(file, sets[i], H5P_DEFAULT);
        hid_t type = H5Dget_type(set);
        H5Dclose(set);
        bool optional = strncmp(sets[i], "routes/", 7) == 0 && i != 4;
        H5Ldelete(file, sets[i], H5P_DEFAULT);
        snprintf(message, sizeof message, "'%%s': dataset '%s' is missing", sets[i]);
        refuse(file, optional ? MOE_OK : MOE_ERR_INPUT, optional ? "" : message);

        file = open_copy();
        H5Lmove(file, sets[i], file, "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_soft("/elsewhere", file, sets[i], H5P_DEFAULT, H5P_DEFAULT);
        snprintf(message, sizeof message, "'%%s': dataset '%s' is a link to another place",
                 sets[i]);
        refuse(file, MOE_ERR_INPUT, message);

        file = open_copy();
        replace(file, sets[i], type, 2, flat, H5P_DEFAULT, NULL);
        snprintf(message, sizeof message, "'%%s': dataset '%s' has rank 2, not %d", sets[i],
                 strchr("45678", '0' + i) || i == 9 ? 3 : 1);
        refuse(file, MOE_ERR_INPUT, message);

        file = open_copy();
        replace(file, sets[i], type, strstr(message, "not 3") ? 3 : 1, few, H5P_DEFAULT, NULL);
        H5Fclose(file);
        ck_assert_msg(read_all(path, &err) == MOE_ERR_INPUT, "%s with a row too few", sets[i]);

        for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
            bool same = H5Tequal(type, types[k]) > 0 || (i == 4 && types[k] == H5T_STD_U16LE);
            file = open_copy();
            if (same) {
                H5Fclose(file);
                continue;
            }
            replace(file, sets[i], types[k], 1, flat, H5P_DEFAULT, NULL);
            snprintf(message, sizeof message, "'%%s': dataset '%s' %s%s%s", sets[i],
                     i < 12 ? "has the wrong type, not "
                            : "is not of strings of fixed length up to 255 bytes (h5py: dtype S)",
                     i < 12 ? numpy_name(type, i == 4) : "", i < 12 ? " (NumPy)" : "");
            refuse(file, MOE_ERR_INPUT, message);
        }
        H5Tclose(type);
    }
}
END_TEST

START_TEST(promises_without_data)
{
    const hsize_t huge[1] = {1000000000000000000u}, more[1] = {100000}, chunk[1] = {1000};
    hid_t plist = sparse_list(1, chunk), file = open_copy();
    replace(file, "tokens/step", H5T_STD_U32LE, 1, huge, plist, NULL);
    H5Fclose(file);
    struct moe_err err;
    ck_assert_int_eq(read_all(path, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "dataset 'tokens/step' promises 1000000000000000000 rows, more "
                                   "than a file of ") != NULL,
                  "%s", err.text);
    file = open_copy();
    replace(file, "tokens/step", H5T_STD_U32LE, 1, more, plist, NULL);
    refuse(file, MOE_ERR_INPUT,
           "'%s': dataset 'tokens/step' has 0 of the 100 chunks that its extent promises");
    file = open_copy(); /* contiguous, never written */
    replace(file, "tokens/step", H5T_STD_U32LE, 1, more, H5P_DEFAULT, NULL);
    refuse(file, MOE_ERR_INPUT,
           "'%s': dataset 'tokens/step' has 0 of the 400000 bytes that its extent promises");
    H5Pclose(plist);
}
END_TEST

/* A file of holes, 10^11 tokens long for the file system: whole it is refused before anything is
 * allocated; streamed it takes a block and no more. */
START_TEST(a_long_file_of_holes)
{
    const uint64_t T = 100000000000u;
    const hsize_t one[1] = {T}, three[3] = {T, 1, 1}, single[1] = {1};
    const int64_t numbers[] = {1, 300, 1};
    static const char *const names[] = {"n_layers", "n_experts", "top_k"};
    hid_t file = open_copy(), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(plist, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);
    for (int i = 0; i < 3; i++)
        set_attribute(file, "model", names[i], H5T_NATIVE_INT64, &numbers[i]);
    H5Ldelete(file, "log", H5P_DEFAULT);
    H5Ldelete(file, "model/expert_bytes", H5P_DEFAULT);
    H5Ldelete(file, "tokens/request", H5P_DEFAULT);
    for (int i = 5; i < 8; i++)
        H5Ldelete(file, sets[i], H5P_DEFAULT);
    replace(file, sets[0], H5T_STD_U32LE, 1, one, plist, NULL);
    replace(file, sets[1], H5T_STD_I32LE, 1, one, plist, NULL);
    replace(file, sets[2], H5T_STD_I32LE, 1, one, plist, NULL);
    replace(file, sets[3], H5T_STD_U8LE, 1, one, plist, NULL);
    replace(file, sets[4], H5T_STD_U16LE, 3, three, plist, NULL);
    hid_t text = H5Tcopy(H5T_C_S1);
    replace(file, sets[10], H5T_STD_U64LE, 1, single, H5P_DEFAULT, &T);
    replace(file, sets[11], H5T_STD_U64LE, 1, single, H5P_DEFAULT, &T);
    replace(file, sets[12], text, 1, single, H5P_DEFAULT, "a");
    replace(file, sets[13], text, 1, single, H5P_DEFAULT, "b");
    H5Tclose(text);
    H5Pclose(plist);
    if (H5Fclose(file) < 0) /* a file system without holes of this size */
        return;
    struct moe_trace whole;
    struct moe_reader *r;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_trace_load(path, 0, &whole, &err), MOE_ERR_MEMORY);
    ck_assert_msg(strstr(err.text, "out of memory for 100000000000 tokens: ") != NULL, "%s",
                  err.text);
    ck_assert_int_eq(moe_reader_open(&r, path, &err), MOE_OK);
    ck_assert_uint_eq(moe_reader_n_tokens(r), T);
    moe_reader_close(r);
    truncate(path, 1000);
}
END_TEST

START_TEST(storage_that_is_not_plain)
{
    const hsize_t T = trace.tokens.n_tokens, one[1] = {T}, three[3] = {T, L, K};
    uint32_t zeros[64] = {0};
    hid_t file = open_copy(), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(plist, "/etc/hostname", 0, T * 4);
    replace(file, "tokens/step", H5T_STD_U32LE, 1, one, plist, NULL);
    refuse(file, MOE_ERR_INPUT, "'%s': dataset 'tokens/step' keeps its data outside the file");
    H5Pclose(plist);

    file = open_copy();
    plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, 1, one);
    H5Pset_nbit(plist);
    replace(file, "tokens/step", H5T_STD_U32LE, 1, one, plist, zeros);
    refuse(file, MOE_ERR_UNSUPPORTED,
           "'%s': dataset 'tokens/step' uses filter 5 'nbit'; known are "
           "deflate, shuffle and fletcher32");
    H5Pclose(plist);

    const hsize_t wide[3] = {T, L, K}, far[3] = {H5S_UNLIMITED, L, K};
    const hsize_t chunk[3] = {(33 << 20) / (L * K), L, K};
    file = open_copy();
    plist = sparse_list(3, chunk);
    H5Ldelete(file, "log/residency", H5P_DEFAULT);
    hid_t space = H5Screate_simple(3, wide, far);
    H5Dclose(
        H5Dcreate2(file, "log/residency", H5T_STD_U8LE, space, H5P_DEFAULT, plist, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(plist);
    refuse(file, MOE_ERR_UNSUPPORTED,
           "'%s': dataset 'log/residency' has chunks of more than 32 MiB");

    file = open_copy(); /* bytes cannot name 256 experts and the absent one */
    uint8_t bytes[18 * L * K];
    memset(bytes, 1, sizeof bytes);
    replace(file, "routes/expert", H5T_STD_U8LE, 3, three, H5P_DEFAULT, bytes);
    for (int i = 6; i < 8; i++)
        H5Ldelete(file, sets[i], H5P_DEFAULT);
    set_attribute(file, "model", "n_experts", H5T_NATIVE_INT64, &(int64_t){256});
    refuse(file, MOE_ERR_INPUT,
           "'%s': dataset 'routes/expert' has one byte for each of 256 "
           "experts; 255 marks an absent entry");
}
END_TEST

START_TEST(strings_of_other_kinds)
{
    const hsize_t S[1] = {3};
    char text[3 * 300] = "x";
    const char *const message = "'%s': dataset 'sequences/label' is not of strings of fixed length "
                                "up to 255 bytes (h5py: dtype S)";
    hid_t file = open_copy(), type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 257);
    replace(file, "sequences/label", type, 1, S, H5P_DEFAULT, text);
    refuse(file, MOE_ERR_INPUT, message);
    H5Tclose(type);
    file = open_copy();
    type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    replace(file, "sequences/label", type, 1, S, H5P_DEFAULT, (char *[]){"a", "b", "c"});
    refuse(file, MOE_ERR_INPUT, message);
    file = open_copy();
    set_attribute(file, "model", "name", type, &(char *){"m"});
    refuse(file, MOE_ERR_INPUT,
           "'%s': attribute 'name' of 'model' is not one string of fixed length up to 255 (h5py: "
           "numpy.bytes_)");

    H5Tclose(type);
    type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 255); /* as other programs pad: no NUL, or blanks */
    memset(text, 'y', sizeof text);
    static const H5T_str_t pads[] = {H5T_STR_NULLPAD, H5T_STR_SPACEPAD};
    for (int i = 0; i < 2; i++) {
        struct moe_reader *r;
        struct moe_sequence s;
        struct moe_err err = {0};
        file = open_copy();
        H5Tset_strpad(type, pads[i]);
        memset(text + 250, i ? ' ' : 'y', 5);
        replace(file, "sequences/label", type, 1, S, H5P_DEFAULT, text);
        H5Fclose(file);
        expect(MOE_OK, "");
        ck_assert_int_eq(moe_reader_open(&r, path, &err), MOE_OK);
        ck_assert_int_eq(moe_reader_sequence(r, 0, &s, &err), MOE_OK);
        ck_assert_uint_eq(strlen(s.label), i ? 250 : 255);
        free(s.label);
        free(s.category);
        moe_reader_close(r);
    }
    H5Tclose(type);
}
END_TEST

int main(void)
{
    make_good();
    Suite *suite = suite_create("hdf5_hostile");
    TCase *tc = tcase_create("hdf5_hostile");
    tcase_add_test(tc, the_good_file_is_good);
    tcase_add_test(tc, a_minimal_file);
    tcase_add_test(tc, nothing_stays_open);
    tcase_add_test(tc, things_that_are_not_files_of_ours);
    tcase_add_test(tc, values_that_cannot_be);
    tcase_add_test(tc, steps_that_fall_between_blocks);
    tcase_add_test(tc, sequences_that_do_not_add_up);
    tcase_add_test(tc, attributes_that_cannot_be);
    tcase_add_test(tc, datasets_of_another_kind);
    tcase_add_test(tc, promises_without_data);
    tcase_add_test(tc, a_long_file_of_holes);
    tcase_add_test(tc, storage_that_is_not_plain);
    tcase_add_test(tc, strings_of_other_kinds);
    suite_add_tcase(suite, tc);
    const int failed = run_suite(suite);
    moe_trace_release(&trace);
    remove_folder(folder);
    return failed;
}
