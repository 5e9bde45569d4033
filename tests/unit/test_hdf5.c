/* HDF5 traces: what was written is read back, whole and in blocks, in every shape; the same trace
 * gives the same bytes; growing, resuming, full disks. Foreign and damaged files:
 * test_hdf5_hostile.c. */
#include "tests/unit/hdf5_traces.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[256], path[300], other[300];

static void must(enum moe_status status, const struct moe_err *err)
{
    ck_assert_msg(status == MOE_OK, "%s", err->text);
}

static void check_equal(const struct moe_trace *a, const struct moe_trace *b)
{
    ck_assert_uint_eq(a->tokens.n_tokens, b->tokens.n_tokens);
    ck_assert_uint_eq(a->n_sequences, b->n_sequences);
    ck_assert_uint_eq(moe_tokens_parts(&a->tokens), moe_tokens_parts(&b->tokens));
    ck_assert(same_rows(&a->tokens, 0, &b->tokens, 0, a->tokens.n_tokens, &a->info));
    for (uint64_t i = 0; i < a->n_sequences; i++) {
        ck_assert_uint_eq(a->sequences[i].n_tokens, b->sequences[i].n_tokens);
        ck_assert_uint_eq(a->sequences[i].text_hash, b->sequences[i].text_hash);
        ck_assert_str_eq(a->sequences[i].label, b->sequences[i].label);
        ck_assert_str_eq(a->sequences[i].category, b->sequences[i].category);
    }
}

static void check_info(const struct moe_trace_info *a, const struct moe_trace_info *b)
{
    ck_assert_str_eq(a->model, b->model);
    ck_assert_str_eq(a->source, b->source);
    ck_assert_str_eq(a->licence, b->licence);
    ck_assert_str_eq(a->tool, b->tool);
    ck_assert_str_eq(a->created, b->created);
    ck_assert_str_eq(a->note, b->note);
    ck_assert_str_eq(a->dialect, b->dialect);
    ck_assert_str_eq(a->header, b->header);
    ck_assert(a->n_layers == b->n_layers && a->n_experts == b->n_experts && a->top_k == b->top_k);
    ck_assert(a->synthetic == b->synthetic && a->rows_in_order == b->rows_in_order);
    ck_assert_mem_eq(a->expert_bytes, b->expert_bytes, a->n_layers * sizeof *a->expert_bytes);
    ck_assert_ptr_null(b->dense_bytes);
}

/* Reads in blocks and compares each with the rows it stands for. */
static uint64_t check_blocks(const char *file, const struct moe_trace *want, unsigned parts)
{
    struct moe_reader *r;
    struct moe_err err = {0};
    const struct moe_tokens *b;
    uint64_t at = 0, blocks = 0;
    must(moe_reader_open(&r, file, &err), &err);
    for (;; at += b->n_tokens, blocks++) {
        must(moe_reader_next(r, parts, &b, &err), &err);
        if (!b)
            break;
        ck_assert_uint_eq(b->first_token, at);
        ck_assert_uint_eq(moe_tokens_parts(b),
                          (parts | MOE_HAS_REQUEST) & moe_tokens_parts(&want->tokens));
        ck_assert(same_rows(b, 0, &want->tokens, at, b->n_tokens, &want->info));
        uint64_t end = at + b->n_tokens; /* a block ends where a pass ends */
        ck_assert(moe_step_end(&want->tokens, end - 1) == end);
    }
    ck_assert_uint_eq(at, want->tokens.n_tokens);
    moe_reader_close(r);
    return blocks;
}

START_TEST(every_shape_comes_back)
{
    static const struct {
        uint32_t L, E, K;
        uint64_t n, length;
        unsigned parts;
    } cases[] = {
        {1, 1, 1, 1, 1, 0},
        {2, 8, 2, 5, 40, ALL_PARTS},
        {3, 254, 4, 9, 30, 0},
        {3, 255, 4, 9, 30, 0},
        {3, 256, 4, 9, 30, ALL_PARTS},
        {1, 4096, 64, 3, 20, 0},
        {1024, 4, 4, 3, 9, MOE_HAS_LOG},
        {32, 8, 2, 60, 80, MOE_HAS_WEIGHT},
        {4, 16, 2, 0, 0, ALL_PARTS},
        {4, 16, 2, 3, 0, 0},
        {64, 128, 8, 4, 60, ALL_PARTS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_err err = {0};
        struct moe_trace back, x = make_trace(cases[i].L, cases[i].E, cases[i].K, cases[i].n,
                                              cases[i].length, cases[i].parts, i);
        must(moe_trace_save(path, &x, &err), &err);
        must(moe_trace_load(path, ALL_PARTS, &back, &err), &err);
        check_equal(&x, &back);
        check_info(&x.info, &back.info);
        check_blocks(path, &x, ALL_PARTS);
        check_blocks(path, &x, MOE_HAS_WEIGHT);
        must(moe_trace_save(other, &back, &err), &err);
        moe_trace_release(&back);
        must(moe_trace_load(path, 0, &back, &err), &err);
        ck_assert_uint_eq(moe_tokens_parts(&back.tokens), cases[i].parts & MOE_HAS_REQUEST);
        moe_trace_release(&back);
        moe_trace_release(&x);
        char command[700];
        snprintf(command, sizeof command, "cmp -s '%s' '%s'", path, other);
        ck_assert_msg(system(command) == 0, "case %zu: not the same bytes", i);
    }
}
END_TEST

/* Enough tokens for many blocks; one pass is larger than a block. Rows are wide rather than many.
 */
START_TEST(blocks_hold_whole_passes)
{
    struct moe_err err = {0};
    struct moe_trace x = make_trace(4, 64, 64, 6, 30000, 0, 4);
    must(moe_trace_save(path, &x, &err), &err);
    ck_assert_uint_gt(check_blocks(path, &x, ALL_PARTS), 8);
    struct moe_reader *r;
    const struct moe_tokens *b;
    must(moe_reader_open(&r, path, &err), &err);
    for (int round = 0; round < 2; round++) {
        must(moe_reader_next(r, 0, &b, &err), &err);
        ck_assert_uint_eq(b->first_token, 0);
        must(moe_reader_rewind(r, &err), &err);
    }
    moe_reader_close(r);
    moe_trace_release(&x);
}
END_TEST

START_TEST(a_pass_larger_than_a_block_comes_whole)
{
    struct moe_err err = {0};
    struct moe_trace x = make_trace(8, 8, 2, 1, 200000, 0, 5);
    for (uint64_t t = 0; t < x.sequences[0].n_tokens; t++) {
        x.tokens.step[t] = t < 1000 ? 0 : 1;
        x.tokens.phase[t] = MOE_PREFILL;
    }
    must(moe_trace_save(path, &x, &err), &err);
    check_blocks(path, &x, 0);
    moe_trace_release(&x);
}
END_TEST

/* More sequences than are read or written at a time, asked for in an order that jumps. */
START_TEST(records_of_many_sequences)
{
    enum { N = 4096 + 300 };
    struct moe_err err = {0};
    struct moe_trace back, x = make_trace(1, 2, 1, N, 1, 0, 21);
    struct moe_reader *r;
    must(moe_trace_save(path, &x, &err), &err);
    must(moe_trace_load(path, 0, &back, &err), &err);
    check_equal(&x, &back);
    moe_trace_release(&back);
    must(moe_reader_open(&r, path, &err), &err);
    for (uint64_t k = 0; k < 64; k++) {
        uint64_t i = (N - 1 + k * 255) % N;
        struct moe_sequence s;
        must(moe_reader_sequence(r, i, &s, &err), &err);
        ck_assert_uint_eq(s.n_tokens, x.sequences[i].n_tokens);
        ck_assert_uint_eq(s.text_hash, x.sequences[i].text_hash);
        ck_assert_str_eq(s.label, x.sequences[i].label);
        ck_assert_str_eq(s.category, x.sequences[i].category);
        free(s.label);
        free(s.category);
    }
    moe_reader_close(r);
    moe_trace_release(&x);
}
END_TEST

/* Text of every length up to the limit, the header beyond HDF5's own limit of a plain attribute. */
START_TEST(long_texts_come_back)
{
    struct moe_err err = {0};
    char message[600];
    struct moe_trace back, x = make_trace(1, 2, 1, 1, 1, 0, 13);
    free(x.info.header);
    x.info.header = calloc(MOE_HEADER_MAX + 2, 1);
    memset(x.info.header, 'h', MOE_HEADER_MAX);
    memset(x.info.note, 'n', MOE_TEXT_MAX - 1);
    free(x.sequences[0].label);
    x.sequences[0].label = calloc(257, 1);
    memset(x.sequences[0].label, 'l', 255);
    must(moe_trace_save(path, &x, &err), &err);
    must(moe_trace_load(path, 0, &back, &err), &err);
    check_equal(&x, &back);
    check_info(&x.info, &back.info);
    moe_trace_release(&back);
    x.sequences[0].label[255] = 'l';
    ck_assert_int_eq(moe_trace_save(path, &x, &err), MOE_ERR_INPUT);
    snprintf(message, sizeof message,
             "cannot write '%s': sequence 0: label of 256 bytes exceeds 255", path);
    ck_assert_str_eq(err.text, message);
    x.info.header[MOE_HEADER_MAX] = 'h';
    ck_assert_int_eq(moe_trace_save(path, &x, &err), MOE_ERR_INPUT);
    snprintf(message, sizeof message, "cannot write '%s': header of 65537 bytes exceeds 65536",
             path);
    ck_assert_str_eq(err.text, message);
    moe_trace_release(&x);
}
END_TEST

START_TEST(small_traces_make_small_files)
{
    struct moe_err err = {0};
    struct stat st;
    struct moe_trace x = make_trace(32, 8, 2, 5, 10, 0, 6);
    must(moe_trace_save(path, &x, &err), &err);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_lt(st.st_size, 24 << 10);
    moe_trace_release(&x);
}
END_TEST

static bool exists(const char *file)
{
    return access(file, F_OK) == 0;
}

static void append_sequence(struct moe_writer *w, const struct moe_trace *x, uint64_t i,
                            uint64_t from)
{
    struct moe_err err = {0};
    struct moe_tokens rows;
    uint64_t n = x->sequences[i].n_tokens;
    must(moe_tokens_init(&rows, &x->info, n, 0, &err), &err);
    uint64_t r = (uint64_t)x->info.n_layers * x->info.top_k;
    memcpy(rows.step, x->tokens.step + from, n * sizeof *rows.step);
    memcpy(rows.position, x->tokens.position + from, n * sizeof *rows.position);
    memcpy(rows.token_id, x->tokens.token_id + from, n * sizeof *rows.token_id);
    memcpy(rows.phase, x->tokens.phase + from, n);
    memcpy(rows.expert, x->tokens.expert + from * r, n * r * sizeof *rows.expert);
    must(moe_writer_append(w, &rows, &err), &err);
    must(moe_writer_end_sequence(w, &x->sequences[i], &err), &err);
    moe_tokens_release(&rows);
}

/* A commit after every sequence, with a resume now and then; a reader that opened an old version
 * keeps reading just that, while the writer goes on. */
START_TEST(growing_file_is_whole_after_every_commit)
{
    struct moe_err err = {0};
    struct moe_trace back, x = make_trace(4, 8, 2, 30, 50, 0, 7);
    struct moe_writer *w;
    struct moe_reader *old = NULL;
    char part[320];
    snprintf(part, sizeof part, "%s.part", path);
    unlink(path);
    must(moe_writer_open(&w, path, &x.info, 0, false, &err), &err);
    ck_assert(!exists(path));
    uint64_t at = 0;
    for (uint64_t i = 0; i < x.n_sequences; i++) {
        append_sequence(w, &x, i, at);
        at += x.sequences[i].n_tokens;
        must(moe_writer_commit(w, &err), &err);
        must(moe_writer_commit(w, &err), &err); /* nothing new: nothing happens */
        must(moe_trace_load(path, 0, &back, &err), &err);
        ck_assert_uint_eq(back.n_sequences, i + 1);
        ck_assert_uint_eq(back.tokens.n_tokens, at);
        ck_assert(same_rows(&back.tokens, 0, &x.tokens, 0, at, &x.info));
        ck_assert_str_eq(back.sequences[i].label, x.sequences[i].label);
        moe_trace_release(&back);
        if (i == 10)
            must(moe_reader_open(&old, path, &err), &err);
        if (i % 7 == 6) {
            moe_writer_close(w);
            ck_assert(!exists(part));
            must(moe_writer_open(&w, path, &x.info, 0, true, &err), &err);
            ck_assert_uint_eq(moe_writer_n_sequences(w), i + 1);
        }
    }
    const struct moe_tokens *b;
    must(moe_reader_next(old, 0, &b, &err), &err);
    ck_assert_uint_eq(moe_reader_n_sequences(old), 11);
    ck_assert_uint_eq(b->n_tokens, moe_reader_n_tokens(old));
    ck_assert(same_rows(b, 0, &x.tokens, 0, b->n_tokens, &x.info));
    moe_reader_close(old);
    append_sequence(w, &x, 0, 0); /* not committed: not there */
    moe_writer_close(w);
    ck_assert(!exists(part));
    must(moe_trace_load(path, 0, &back, &err), &err);
    check_equal(&x, &back);
    moe_trace_release(&back);
    moe_trace_release(&x);
}
END_TEST

/* Through a link its file grows with every commit, and the link stays one. */
START_TEST(a_link_is_written_through)
{
    struct moe_err err = {0};
    struct moe_trace back, x = make_trace(2, 8, 2, 5, 9, 0, 22);
    struct moe_writer *w;
    struct stat st;
    char link[320], part[330], message[700];
    snprintf(link, sizeof link, "%s/link.h5", folder);
    snprintf(part, sizeof part, "%s.part", link);
    ck_assert_int_eq(symlink("x.h5", link), 0);
    unlink(path);
    ck_assert_int_eq(moe_writer_open(&w, link, &x.info, 0, false, &err), MOE_ERR_IO);
    snprintf(message, sizeof message, "cannot write '%s': is a link to a file that is not there",
             link);
    ck_assert_str_eq(err.text, message);
    must(moe_trace_save(path, &x, &err), &err);
    must(moe_writer_open(&w, link, &x.info, 0, false, &err), &err);
    uint64_t at = 0;
    for (uint64_t i = 0; i < x.n_sequences; at += x.sequences[i].n_tokens, i++) {
        append_sequence(w, &x, i, at);
        must(moe_writer_commit(w, &err), &err);
        ck_assert(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
        ck_assert(lstat(path, &st) == 0 && S_ISREG(st.st_mode));
        must(moe_trace_load(path, 0, &back, &err), &err);
        ck_assert_uint_eq(back.n_sequences, i + 1);
        moe_trace_release(&back);
        if (i == 2) {
            moe_writer_close(w);
            must(moe_writer_open(&w, link, &x.info, 0, true, &err), &err);
        }
    }
    moe_writer_close(w);
    must(moe_trace_load(path, 0, &back, &err), &err);
    check_equal(&x, &back);
    moe_trace_release(&back);
    moe_trace_release(&x);
    snprintf(message, sizeof message, "%s.part", path);
    ck_assert(!exists(part) && !exists(message));
    unlink(link);
}
END_TEST

/* More rows between commits than the writer keeps: it must copy, and still be right. */
START_TEST(commits_larger_than_the_buffer)
{
    struct moe_err err = {0};
    struct moe_trace back, x = make_trace(64, 64, 64, 2, 4500, 0, 8);
    struct moe_writer *w;
    uint64_t at = 0;
    ck_assert_uint_gt(x.sequences[0].n_tokens * 64 * 64 * sizeof *x.tokens.expert, 34 << 20);
    must(moe_writer_open(&w, path, &x.info, 0, false, &err), &err);
    for (uint64_t i = 0; i < x.n_sequences; at += x.sequences[i].n_tokens, i++) {
        append_sequence(w, &x, i, at);
        must(moe_writer_commit(w, &err), &err);
    }
    moe_writer_close(w);
    must(moe_trace_load(path, 0, &back, &err), &err);
    check_equal(&x, &back);
    moe_trace_release(&back);
    moe_trace_release(&x);
}
END_TEST

START_TEST(resume_wants_the_same_shape)
{
    struct moe_err err = {0};
    struct moe_trace x = make_trace(4, 8, 2, 2, 5, 0, 9);
    struct moe_writer *w;
    char message[600];
    must(moe_trace_save(path, &x, &err), &err);
    x.info.n_experts = 9;
    ck_assert_int_eq(moe_writer_open(&w, path, &x.info, 0, true, &err), MOE_ERR_INPUT);
    snprintf(message, sizeof message,
             "cannot continue '%s': it has 4 layers, 8 experts, top-k 2, parts 0, synthetic 1; "
             "requested are 4, 9, 2, 0, 1",
             path);
    ck_assert_str_eq(err.text, message);
    moe_trace_release(&x);
}
END_TEST

START_TEST(bad_tokens_are_not_written)
{
    struct moe_err err = {0};
    struct moe_trace x = make_trace(4, 8, 2, 2, 9, 0, 10);
    char message[600];
    unlink(path);
    x.tokens.expert[(3 * 4 + 2) * 2] = 9;
    ck_assert_int_eq(moe_trace_save(path, &x, &err), MOE_ERR_INPUT);
    snprintf(message, sizeof message,
             "cannot write '%s': token 3 layer 2: expert 9 is outside 0..7", path);
    ck_assert_str_eq(err.text, message);
    snprintf(message, sizeof message, "%s.part", path);
    ck_assert(!exists(path) && !exists(message));
    moe_trace_release(&x);
}
END_TEST

START_TEST(places_that_cannot_be_written)
{
    struct moe_err err = {0};
    struct moe_trace x = make_trace(1, 2, 1, 1, 1, 0, 11);
    char message[600];
    ck_assert_int_eq(moe_trace_save(folder, &x, &err), MOE_ERR_IO);
    snprintf(message, sizeof message, "cannot write '%s': is a directory", folder);
    ck_assert_str_eq(err.text, message);
    ck_assert_int_eq(moe_trace_save("/nonexistent/x.h5", &x, &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "cannot write '/nonexistent/x.h5': No such file or directory");
    ck_assert_int_eq(moe_trace_save("/dev/null", &x, &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "cannot write '/dev/null': not a regular file");
    moe_trace_release(&x);
}
END_TEST

/* Through every commit; who could not read what is replaced cannot read PATH.part. */
START_TEST(a_replaced_file_keeps_its_mode)
{
    static const mode_t modes[] = {0600, 0444, 0755};
    struct moe_err err = {0};
    struct moe_trace x = make_trace(1, 2, 1, 1, 4, 0, 18);
    char part[600];
    struct stat st;
    snprintf(part, sizeof part, "%s.part", path);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct moe_writer *w;
        must(moe_trace_save(path, &x, &err), &err);
        ck_assert_int_eq(chmod(path, modes[i]), 0);
        must(moe_writer_open(&w, path, &x.info, 0, i == 2, &err), &err);
        for (int commit = 0; commit < 3; commit++) {
            append_sequence(w, &x, 0, 0);
            ck_assert(commit > 0 || (stat(part, &st) == 0 && (st.st_mode & 0777) == modes[i]));
            must(moe_writer_commit(w, &err), &err);
            ck_assert_int_eq(stat(path, &st), 0);
            ck_assert_uint_eq(st.st_mode & 0777, modes[i]);
        }
        moe_writer_close(w);
    }
    unlink(path);
    moe_trace_release(&x);
}
END_TEST

START_TEST(one_writer_at_a_time)
{
    struct moe_err err = {0};
    struct moe_trace x = make_trace(1, 2, 1, 1, 1, 0, 14);
    struct moe_writer *w, *second;
    char message[700];
    unlink(path);
    must(moe_writer_open(&w, path, &x.info, 0, false, &err), &err);
    ck_assert_int_eq(moe_writer_open(&second, path, &x.info, 0, false, &err), MOE_ERR_IO);
    snprintf(message, sizeof message, "cannot write '%s': another process is writing '%s.part'",
             path, path);
    ck_assert_str_eq(err.text, message);
    append_sequence(w, &x, 0, 0);
    must(moe_writer_commit(w, &err), &err);
    moe_writer_close(w);
    moe_trace_release(&x);
}
END_TEST

/* Another writer has just created PATH.part, and HDF5 has not locked it yet. */
START_TEST(another_s_part_stays)
{
    struct moe_err err = {0};
    struct moe_trace x = make_trace(1, 2, 1, 1, 1, 0, 14);
    struct moe_writer *w;
    char part[600];
    snprintf(part, sizeof part, "%s.part", path);
    unlink(path);
    must(moe_writer_open(&w, path, &x.info, 0, false, &err), &err);
    append_sequence(w, &x, 0, 0);
    must(moe_writer_commit(w, &err), &err); /* PATH.part became PATH */
    FILE *theirs = fopen(part, "wx");
    ck_assert_ptr_nonnull(theirs);
    append_sequence(w, &x, 0, 0);
    ck_assert_int_eq(moe_writer_commit(w, &err), MOE_ERR_IO);
    ck_assert_msg(strstr(err.text, "File exists") != NULL, "%s", err.text);
    moe_writer_close(w);
    ck_assert_int_eq(access(part, F_OK), 0);
    fclose(theirs);
    unlink(part);
    unlink(path);
    moe_trace_release(&x);
}
END_TEST

/* A commit inside a sequence is refused and harms nothing. */
START_TEST(commits_stand_between_sequences)
{
    struct moe_err err = {0};
    struct moe_trace back, x = make_trace(1, 2, 1, 1, 4, 0, 15);
    struct moe_writer *w;
    must(moe_writer_open(&w, path, &x.info, 0, false, &err), &err);
    must(moe_writer_append(w, &x.tokens, &err), &err);
    ck_assert_int_eq(moe_writer_commit(w, &err), MOE_ERR_USAGE);
    must(moe_writer_end_sequence(w, &x.sequences[0], &err), &err);
    must(moe_writer_commit(w, &err), &err);
    moe_writer_close(w);
    must(moe_trace_load(path, 0, &back, &err), &err);
    check_equal(&x, &back);
    moe_trace_release(&back);
    moe_trace_release(&x);
}
END_TEST

/* In a child that may write files of `limit` bytes only. 0: the one line was as expected, what was
 * committed opens, nothing else is left. */
static int write_on_full_disk(const struct moe_trace *trace, rlim_t limit)
{
    struct rlimit small = {limit, RLIM_INFINITY};
    struct moe_err err = {0}, wanted = {0};
    struct moe_trace back, x = *trace;
    struct moe_writer *w;
    uint64_t committed = 0, at = 0;
    char part[320];
    snprintf(part, sizeof part, "%s.part", path);
    unlink(path);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    enum moe_status status = moe_writer_open(&w, path, &x.info, 0, false, &err);
    for (uint64_t i = 0; !status && i < x.n_sequences; at += x.sequences[i].n_tokens, i++) {
        struct moe_tokens rows = x.tokens;
        uint64_t row = (uint64_t)x.info.n_layers * x.info.top_k;
        rows.n_tokens = x.sequences[i].n_tokens;
        rows.step += at, rows.position += at, rows.token_id += at, rows.phase += at;
        rows.expert += at * row;
        rows.weight += at * row;
        status = moe_writer_append(w, &rows, &err);
        if (!status)
            status = moe_writer_end_sequence(w, &x.sequences[i], &err);
        if (!status && !(status = moe_writer_commit(w, &err)))
            committed = i + 1;
    }
    if (status != MOE_ERR_IO)
        return 10;
    moe_fail(&wanted, MOE_ERR_IO, "cannot write '%s': File too large", path);
    if (strcmp(err.text, wanted.text) != 0)
        return 11;
    if (exists(part)) /* gone already at the failure: its room is free again */
        return 12;
    moe_writer_close(w);
    if (committed == 0)
        return exists(path) ? 13 : 0;
    if (moe_trace_load(path, 0, &back, &err))
        return 14;
    return back.n_sequences != committed || exists(part) ? 15 : 0;
}

START_TEST(a_full_disk_costs_only_what_was_not_committed)
{
    struct moe_trace x = make_trace(8, 64, 4, 40, 60, MOE_HAS_WEIGHT, 12);
    for (rlim_t limit = 12000; limit < 40000; limit += 1777) {
        pid_t child = fork();
        if (child == 0) /* _exit: what HDF5 could not write it does not free either */
            _exit(write_on_full_disk(&x, limit));
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "limit %lu: status %#x",
                      (unsigned long)limit, (unsigned)status);
    }
    moe_trace_release(&x);
}
END_TEST

START_TEST(version_has_three_numbers)
{
    unsigned a, b, c;
    char tail;
    ck_assert_int_eq(sscanf(moe_hdf5_version(), "%u.%u.%u%c", &a, &b, &c, &tail), 3);
}
END_TEST

int main(void)
{
    temporary_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/x.h5", folder);
    snprintf(other, sizeof other, "%s/y.h5", folder);
    Suite *suite = suite_create("hdf5");
    TCase *tc = tcase_create("hdf5");
    tcase_add_test(tc, every_shape_comes_back);
    tcase_add_test(tc, blocks_hold_whole_passes);
    tcase_add_test(tc, a_pass_larger_than_a_block_comes_whole);
    tcase_add_test(tc, records_of_many_sequences);
    tcase_add_test(tc, long_texts_come_back);
    tcase_add_test(tc, small_traces_make_small_files);
    tcase_add_test(tc, growing_file_is_whole_after_every_commit);
    tcase_add_test(tc, a_link_is_written_through);
    tcase_add_test(tc, commits_larger_than_the_buffer);
    tcase_add_test(tc, resume_wants_the_same_shape);
    tcase_add_test(tc, bad_tokens_are_not_written);
    tcase_add_test(tc, places_that_cannot_be_written);
    tcase_add_test(tc, a_replaced_file_keeps_its_mode);
    tcase_add_test(tc, one_writer_at_a_time);
    tcase_add_test(tc, another_s_part_stays);
    tcase_add_test(tc, commits_stand_between_sequences);
    tcase_add_test(tc, a_full_disk_costs_only_what_was_not_committed);
    tcase_add_test(tc, version_has_three_numbers);
    suite_add_tcase(suite, tc);
    const int failed = run_suite(suite);
    remove_folder(folder);
    return failed;
}
