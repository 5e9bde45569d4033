/* A writer killed with SIGKILL at any moment: the file opens with exactly the first k sequences,
 * where k is at least what was reported as committed, and the next writer continues from there. */
#include "tests/unit/hdf5_traces.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <signal.h>
#include <sys/wait.h>

enum { ROUNDS = 40, MAX_LENGTH = 30 };

static char folder[256], path[300], part[320];
static const struct moe_trace_info shape = {
    .model = "toy", .n_layers = 3, .n_experts = 8, .top_k = 2, .synthetic = true};

/* Sequence i is a function of i alone. */
static struct moe_tokens sequence(uint64_t i)
{
    struct moe_rng rng;
    struct moe_tokens x;
    moe_rng_init(&rng, i);
    uint64_t n = moe_rng_below(&rng, MAX_LENGTH + 1);
    if (moe_tokens_init(&x, &shape, n, MOE_HAS_WEIGHT, NULL))
        exit(1);
    fill_sequence(&x, &shape, 0, n, (uint32_t)i, &rng);
    return x;
}

/* Says 'a' after an append, 'e' before a commit, 'c' after it; stops when nobody reads any more. */
static void write_for_ever(int out)
{
    struct moe_writer *w;
    struct moe_err err = {0};
    enum moe_status status = moe_writer_open(&w, path, &shape, MOE_HAS_WEIGHT, true, &err);
    for (uint64_t i = status ? 0 : moe_writer_n_sequences(w); !status; i++) {
        struct moe_tokens x = sequence(i);
        struct moe_sequence s;
        fill_label(&s, 0, i);
        status = moe_writer_append(w, &x, &err);
        if (!status && write(out, "a", 1) == 1)
            status = moe_writer_end_sequence(w, &s, &err);
        bool commit = !status && i % 3 != 1; /* commits of one and of two sequences */
        if (commit && write(out, "e", 1) == 1)
            status = moe_writer_commit(w, &err);
        if (commit && !status && write(out, i % 3 ? "d" : "c", 1) != 1)
            break;
        moe_tokens_release(&x);
        free(s.label);
        free(s.category);
    }
    fprintf(stderr, "writer: %s\n", err.text);
    _exit(1);
}

/* Kills the child after n marks and some work of no fixed length; gives the commits it told of,
 * also those that it told of just before it died. */
static uint64_t kill_after(pid_t child, int in, uint64_t marks, struct moe_rng *rng)
{
    uint64_t sequences = 0;
    char c;
    for (uint64_t i = 0; i < marks; i++) {
        ck_assert_int_eq(read(in, &c, 1), 1);
        sequences += c == 'c' ? 1 : c == 'd' ? 2 : 0;
    }
    uint64_t spin = moe_rng_below(rng, 1u << moe_rng_below(rng, 24));
    volatile uint64_t sink = 0;
    for (uint64_t i = 0; i < spin; i++)
        sink = sink + moe_mix64(i);
    kill(child, SIGKILL);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status), "the writer ended by itself");
    while (read(in, &c, 1) == 1)
        sequences += c == 'c' ? 1 : c == 'd' ? 2 : 0;
    return sequences;
}

/* All sequences in the file are whole and right; returns their number. */
static uint64_t check_file(void)
{
    struct moe_trace x;
    struct moe_err err = {0};
    enum moe_status status = moe_trace_load(path, ALL_PARTS, &x, &err);
    ck_assert_msg(status == MOE_OK, "%s", err.text);
    uint64_t at = 0, n = x.n_sequences;
    for (uint64_t i = 0; i < n; i++) {
        struct moe_tokens want = sequence(i);
        ck_assert_uint_eq(x.sequences[i].n_tokens, want.n_tokens);
        ck_assert_uint_eq(x.sequences[i].text_hash, moe_mix64(i));
        ck_assert(same_rows(&want, 0, &x.tokens, at, want.n_tokens, &shape));
        at += want.n_tokens;
        moe_tokens_release(&want);
    }
    ck_assert_uint_eq(at, x.tokens.n_tokens);
    moe_trace_release(&x);
    return n;
}

START_TEST(killed_at_random_points)
{
    struct moe_rng rng;
    uint64_t before = 0, unfinished = 0, ahead = 0;
    moe_rng_init(&rng, 20);
    for (int round = 0; round < ROUNDS; round++) {
        int fd[2];
        ck_assert_int_eq(pipe(fd), 0);
        pid_t child = fork();
        if (child == 0) {
            close(fd[0]);
            write_for_ever(fd[1]);
        }
        close(fd[1]);
        uint64_t told = kill_after(child, fd[0], moe_rng_below(&rng, 12), &rng);
        close(fd[0]);
        unfinished += access(part, F_OK) == 0;
        if (before + told == 0 && access(path, F_OK) != 0)
            continue; /* killed before the very first commit */
        uint64_t now = check_file();
        ck_assert_uint_ge(now, before + told);
        ck_assert_uint_le(now, before + told + 2); /* at most the commit under way */
        ahead += now > before + told;
        before = now;
    }
    ck_assert_uint_gt(before, ROUNDS); /* work went on across the kills */
    ck_assert_uint_gt(unfinished, 0);  /* and some of them left a file half-written */
    struct moe_writer *w;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_writer_open(&w, path, &shape, MOE_HAS_WEIGHT, true, &err), MOE_OK);
    ck_assert_uint_eq(moe_writer_n_sequences(w), before);
    moe_writer_close(w);
    ck_assert_int_ne(access(part, F_OK), 0);
    ck_assert_uint_eq(check_file(), before);
    printf("%d kills, %lu sequences, %lu files left half-written, %lu commits done but not told\n",
           ROUNDS, (unsigned long)before, (unsigned long)unfinished, (unsigned long)ahead);
}
END_TEST

int main(void)
{
    temporary_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/x.h5", folder);
    snprintf(part, sizeof part, "%s.part", path);
    Suite *suite = suite_create("hdf5_kill");
    TCase *tc = tcase_create("hdf5_kill");
    tcase_add_test(tc, killed_at_random_points);
    suite_add_tcase(suite, tc);
    const int failed = run_suite(suite);
    remove_folder(folder);
    return failed;
}
