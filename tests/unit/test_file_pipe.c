/* Inputs that come through a pipe: read whole, or not at all. */
#include "base/file.h"
#include "base/progress.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[400], path[500];
static struct moe_err err;

static void make_fifo(void)
{
    snprintf(path, sizeof path, "%s/fifo", folder);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
}

/* A child that opens the FIFO, so that it may be late, and writes n bytes; exit code 1: it cannot.
 */
static pid_t write_late(size_t n)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child > 0)
        return child;
    signal(SIGPIPE, SIG_IGN);
    const int fd = open(path, O_WRONLY);
    for (size_t i = 0; fd >= 0 && i < n; i++)
        if (write(fd, i % 7 ? "x" : "y", 1) != 1)
            _exit(1);
    _exit(fd < 0);
}

static int exit_code(pid_t child)
{
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

/* Longer than a pipe holds, a few bytes at a time, and to the byte at the limit. */
START_TEST(whole)
{
    enum { N = 100000 };
    char *data = NULL;
    size_t size = 0;
    make_fifo();
    pid_t child = write_late(N);
    ck_assert_int_eq(moe_input_read(path, N, &data, &size, &err), MOE_OK);
    ck_assert_uint_eq(size, N);
    for (size_t i = 0; i < N; i++)
        ck_assert_int_eq(data[i], i % 7 ? 'x' : 'y');
    ck_assert_int_eq(data[N], 0);
    free(data);
    ck_assert_int_eq(exit_code(child), 0);
    child = write_late(N);
    ck_assert_int_eq(moe_input_read(path, N - 1, &data, &size, &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "/fifo': more than 99999 bytes"));
    (void)exit_code(child);
    child = write_late(0);
    ck_assert_int_eq(moe_input_read(path, N, &data, &size, &err), MOE_OK);
    ck_assert_uint_eq(size, 0);
    free(data);
    ck_assert_int_eq(exit_code(child), 0);
    unlink(path);
}
END_TEST

/* As behind <(...): the writer is over before the pipe is opened. */
START_TEST(written_before)
{
    int end[2];
    char *data = NULL;
    size_t size = 0;
    for (size_t n = 0; n < 6; n += 5) {
        ck_assert_int_eq(pipe(end), 0);
        ck_assert_int_eq(write(end[1], "whole", n), (intmax_t)n);
        close(end[1]);
        snprintf(path, sizeof path, "/dev/fd/%d", end[0]);
        ck_assert_int_eq(moe_input_read(path, 5, &data, &size, &err), MOE_OK);
        ck_assert_uint_eq(size, n);
        ck_assert_str_eq(data, n ? "whole" : "");
        free(data);
        close(end[0]);
    }
    ck_assert_int_eq(moe_input_read("/dev/zero", 5, &data, &size, &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "cannot read '/dev/zero': not a regular file or pipe");
}
END_TEST

/* Without a writer one interrupt is enough; so it is for one that says nothing. */
START_TEST(nobody_writes)
{
    make_fifo();
    for (int silent = 0; silent < 2; silent++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            char *data;
            size_t size;
            const int writer = silent ? open(path, O_RDWR) : -1;
            moe_catch_interrupts();
            raise(SIGINT);
            if (moe_input_read(path, 5, &data, &size, &err) != MOE_ERR_INTERRUPTED)
                _exit(1);
            _exit(strstr(err.text, "interrupted: nobody writes to '") ? 0 : 2 + writer);
        }
        ck_assert_int_eq(exit_code(child), 0);
    }
    unlink(path);
}
END_TEST

int main(void)
{
    temporary_folder(folder, sizeof folder);
    Suite *suite = suite_create("file_pipe");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, whole);
    tcase_add_test(tests, written_before);
    tcase_add_test(tests, nobody_writes);
    suite_add_tcase(suite, tests);
    const int failed = run_suite(suite);
    return rmdir(folder) != 0 || failed; /* nothing may be left behind */
}
