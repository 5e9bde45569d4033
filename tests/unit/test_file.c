/* base/file.h and base/progress.h: outputs appear complete or not at all; a full disk is reported.
 */

#include "base/file.h"
#include "base/progress.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct moe_err err;
static char folder[256];

static const char *in_folder(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int exists(const char *name)
{
    struct stat st;
    return lstat(in_folder(name), &st) == 0;
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(in_folder(name), "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void expect_text(const char *name, const char *text)
{
    char *data;
    size_t size;
    ck_assert_int_eq(moe_file_read(in_folder(name), 1000, &data, &size, &err), MOE_OK);
    ck_assert_str_eq(data, text);
    ck_assert_uint_eq(size, strlen(text));
    free(data);
}

START_TEST(reading)
{
    char *data = NULL;
    size_t size = 7;
    ck_assert_int_eq(moe_file_read(in_folder("none"), 9, &data, &size, &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "/none': No such file or directory"));
    ck_assert_int_eq(strncmp(err.text, "cannot open '", 13), 0);
    ck_assert_int_eq(moe_file_read(folder, 9, &data, &size, &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "not a regular file"));
    ck_assert_int_eq(moe_file_read("/dev/zero", 9, &data, &size, &err), MOE_ERR_IO);
    ck_assert_int_eq(mkfifo(in_folder("fifo"), 0600), 0);
    ck_assert_int_eq(moe_file_read(in_folder("fifo"), 9, &data, &size, &err), MOE_ERR_IO);
    unlink(in_folder("fifo"));

    write_text("f", "123456789");
    ck_assert_int_eq(moe_file_read(in_folder("f"), 8, &data, &size, &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 8 bytes"));
    ck_assert_ptr_null(data);
    ck_assert_uint_eq(size, 7);
    ck_assert_int_eq(moe_file_read(in_folder("f"), 9, &data, &size, &err), MOE_OK);
    ck_assert_str_eq(data, "123456789");
    ck_assert_uint_eq(size, 9);
    free(data);
    write_text("f", "");
    expect_text("f", "");
    unlink(in_folder("f"));

    /* More than one buffer, and a file whose size is told as 0. */
    enum { BIG = 200000 };
    FILE *f = fopen(in_folder("big"), "w");
    for (int i = 0; i < BIG; i++)
        fputc('a' + i % 26, f);
    fclose(f);
    ck_assert_int_eq(moe_file_read(in_folder("big"), BIG, &data, &size, &err), MOE_OK);
    ck_assert_uint_eq(size, BIG);
    for (int i = 0; i < BIG; i++)
        ck_assert_int_eq(data[i], 'a' + i % 26);
    free(data);
    unlink(in_folder("big"));
    ck_assert_int_eq(moe_file_read("/proc/self/status", 100000, &data, &size, &err), MOE_OK);
    ck_assert_uint_gt(size, 0);
    free(data);
}
END_TEST

/* As base/file.h has it. */
static const char *temporary(const char *name)
{
    static char buf[64];
    snprintf(buf, sizeof buf, "%s.%ld.part", name, (long)getpid());
    return buf;
}

START_TEST(output_commit)
{
    struct moe_output out;
    write_text("o", "old");
    ck_assert_int_eq(moe_output_create(&out, in_folder("o"), &err), MOE_OK);
    fputs("new", out.stream);
    fflush(out.stream);
    expect_text("o", "old"); /* until the commit */
    expect_text(temporary("o"), "new");
    ck_assert_int_eq(moe_output_commit(&out, &err), MOE_OK);
    expect_text("o", "new");
    ck_assert(!exists(temporary("o")));
    moe_output_abandon(&out); /* harmless after a commit */
    expect_text("o", "new");

    ck_assert_int_eq(moe_output_create(&out, in_folder("o"), &err), MOE_OK);
    fputs("third", out.stream);
    moe_output_abandon(&out);
    expect_text("o", "new");
    ck_assert(!exists(temporary("o")));
    unlink(in_folder("o"));
}
END_TEST

START_TEST(output_refusals)
{
    struct moe_output out;
    memset(&out, 0x55, sizeof out);
    struct moe_output before = out;
    ck_assert_int_eq(moe_output_create(&out, in_folder("no/o"), &err), MOE_ERR_IO);
    ck_assert_int_eq(strncmp(err.text, "cannot create '", 15), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "/no/o': No such file or directory"));
    ck_assert_int_eq(moe_output_create(&out, folder, &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "': Is a directory"));
    ck_assert_int_eq(moe_output_create(&out, "", &err), MOE_ERR_IO);
    ck_assert_mem_eq(&out, &before, sizeof out);
}
END_TEST

/* As long as names may be; two at a time are two files. */
START_TEST(long_names)
{
    char names[2][NAME_MAX + 1], longer[NAME_MAX + 2];
    struct moe_output out[2];
    for (int i = 0; i < 2; i++) {
        memset(names[i], 'x', NAME_MAX);
        names[i][NAME_MAX / 2] = (char)('a' + i);
        names[i][NAME_MAX] = 0;
        ck_assert_int_eq(moe_output_create(&out[i], in_folder(names[i]), &err), MOE_OK);
    }
    for (int i = 0; i < 2; i++) {
        fputc('0' + i, out[i].stream);
        ck_assert_int_eq(moe_output_commit(&out[i], &err), MOE_OK);
        expect_text(names[i], i ? "1" : "0");
        unlink(in_folder(names[i]));
    }
    snprintf(longer, sizeof longer, "%sx", names[0]);
    ck_assert_int_eq(moe_output_create(&out[0], in_folder(longer), &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "File name too long"));
}
END_TEST

/* What only its owner could read stays so, from the first byte on. */
START_TEST(output_mode)
{
    struct moe_output out;
    struct stat first, last;
    write_text("o", "old");
    ck_assert_int_eq(chmod(in_folder("o"), 0600), 0);
    ck_assert_int_eq(moe_output_create(&out, in_folder("o"), &err), MOE_OK);
    ck_assert_int_eq(fstat(fileno(out.stream), &first), 0);
    ck_assert_int_eq(moe_output_commit(&out, &err), MOE_OK);
    ck_assert_int_eq(stat(in_folder("o"), &last), 0);
    ck_assert_uint_eq(first.st_mode & 07777, 0600);
    ck_assert_uint_eq(last.st_mode & 07777, 0600);
    unlink(in_folder("o"));
}
END_TEST

START_TEST(output_link)
{
    struct moe_output out;
    write_text("target", "old");
    ck_assert_int_eq(symlink("target", in_folder("link")), 0);
    ck_assert_int_eq(moe_output_create(&out, in_folder("link"), &err), MOE_OK);
    fputs("new", out.stream);
    ck_assert_int_eq(moe_output_commit(&out, &err), MOE_OK);
    struct stat st;
    ck_assert_int_eq(lstat(in_folder("link"), &st), 0);
    ck_assert(S_ISLNK(st.st_mode));
    expect_text("target", "new");
    unlink(in_folder("target"));
    ck_assert_int_eq(moe_output_create(&out, in_folder("link"), &err), MOE_ERR_IO);
    unlink(in_folder("link"));
}
END_TEST

START_TEST(devices)
{
    struct moe_output out;
    /* A FIFO of our own comes first and ends this test if it is renamed over: were that rule broken
     * and this run as root, the machine would lose its /dev/full below. */
    struct stat st;
    char text[4] = "";
    ck_assert_int_eq(mkfifo(in_folder("fifo"), 0600), 0);
    int reader = open(in_folder("fifo"), O_RDONLY | O_NONBLOCK);
    ck_assert_int_ge(reader, 0);
    ck_assert_int_eq(moe_output_create(&out, in_folder("fifo"), &err), MOE_OK);
    ck_assert_ptr_null(out.temporary);
    fputs("abc", out.stream);
    ck_assert_int_eq(moe_output_commit(&out, &err), MOE_OK);
    ck_assert_int_eq(read(reader, text, 3), 3);
    ck_assert_str_eq(text, "abc");
    close(reader);
    ck_assert_int_eq(stat(in_folder("fifo"), &st), 0);
    ck_assert(S_ISFIFO(st.st_mode));
    unlink(in_folder("fifo"));

    /* The disk is full: found at the end for little output, on the way for much. */
    for (int n = 1; n <= 100000; n += 99999) {
        ck_assert_int_eq(moe_output_create(&out, "/dev/full", &err), MOE_OK);
        for (int i = 0; i < n; i++)
            fputc('x', out.stream);
        ck_assert_int_eq(moe_output_commit(&out, &err), MOE_ERR_IO);
        ck_assert_str_eq(err.text, "cannot write '/dev/full': No space left on device");
    }
}
END_TEST

/* A disk that fills up under a regular file: its temporary is deleted, and the old content
 * stays. The descriptor is swapped for that of a full device. Of what is written past the buffer
 * only the stream's error is left when it is committed. */
START_TEST(failed_commit)
{
    static const char much[1 << 20];
    for (size_t n = 3; n <= sizeof much; n += sizeof much - 3) {
        struct moe_output out;
        write_text("o", "old");
        ck_assert_int_eq(moe_output_create(&out, in_folder("o"), &err), MOE_OK);
        int full = open("/dev/full", O_WRONLY);
        ck_assert_int_ge(full, 0);
        ck_assert_int_ge(dup2(full, fileno(out.stream)), 0);
        close(full);
        fwrite(much, 1, n, out.stream);
        ck_assert_int_eq(moe_output_commit(&out, &err), MOE_ERR_IO);
        ck_assert_ptr_nonnull(strstr(err.text, "/o': No space left on device"));
        ck_assert_int_eq(strncmp(err.text, "cannot write '", 14), 0);
        expect_text("o", "old");
        ck_assert(!exists(temporary("o")));
        unlink(in_folder("o"));
    }
}
END_TEST

START_TEST(standard_output)
{
    struct moe_output out;
    ck_assert_int_eq(moe_output_create(&out, "-", &err), MOE_OK);
    ck_assert_ptr_eq(out.stream, stdout);
    ck_assert_ptr_null(out.temporary);
    ck_assert_int_eq(moe_output_commit(&out, &err), MOE_OK);
    ck_assert_int_eq(moe_output_create(&out, "-", &err), MOE_OK);
    moe_output_abandon(&out);
    ck_assert_int_eq(fflush(stdout), 0); /* still open */

    fflush(stdout);
    int saved = dup(STDOUT_FILENO), full = open("/dev/full", O_WRONLY);
    dup2(full, STDOUT_FILENO);
    ck_assert_int_eq(moe_output_create(&out, "-", &err), MOE_OK);
    fputs("lost\n", out.stream);
    enum moe_status s = moe_output_commit(&out, &err);
    dup2(saved, STDOUT_FILENO);
    clearerr(stdout);
    close(saved);
    close(full);
    ck_assert_int_eq(s, MOE_ERR_IO);
    ck_assert_str_eq(err.text, "cannot write to standard output: No space left on device");
}
END_TEST

START_TEST(directories)
{
    struct stat st;
    ck_assert_int_eq(moe_make_directories(in_folder("a/b//c/"), &err), MOE_OK);
    ck_assert_int_eq(moe_make_directories(in_folder("a/b/c"), &err), MOE_OK);
    ck_assert_int_eq(stat(in_folder("a/b/c"), &st), 0);
    ck_assert(S_ISDIR(st.st_mode));
    write_text("a/file", "");
    ck_assert_int_eq(moe_make_directories(in_folder("a/file"), &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "/a/file': exists, not a directory"));
    /* What mkdir says, and not what the look at what stands there says. */
    ck_assert_int_eq(symlink("nowhere", in_folder("a/link")), 0);
    ck_assert_int_eq(moe_make_directories(in_folder("a/link/x"), &err), MOE_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "/a/link': exists, not a directory"));
    unlink(in_folder("a/link"));
    ck_assert_int_eq(moe_make_directories(in_folder("a/file/x"), &err), MOE_ERR_IO);
    ck_assert_int_eq(moe_make_directories("", &err), MOE_ERR_IO);
    ck_assert_int_eq(moe_make_directories("/", &err), MOE_OK);
    /* What was there stays, and so does what holds something. */
    char path[4096];
    snprintf(path, sizeof path, "%s", in_folder("a/b/d//e/"));
    const size_t there = moe_directories_there(path);
    ck_assert_uint_eq(there, strlen(path) - strlen("/d//e/"));
    ck_assert_int_eq(moe_make_directories(path, &err), MOE_OK);
    ck_assert_uint_eq(moe_directories_there(path), strlen(path) - 1);
    moe_remove_directories(path, strlen(path) - 1);
    ck_assert_int_eq(access(path, F_OK), 0);
    moe_remove_directories(path, there);
    ck_assert_int_eq(access(in_folder("a/b/d"), F_OK), -1);
    ck_assert_int_eq(access(in_folder("a/b"), F_OK), 0);
    moe_remove_directories(path, there); /* not there at all */
    ck_assert_int_eq(access(in_folder("a/b/c"), F_OK), 0);
    moe_remove_directories(in_folder("a/b"), 0);
    ck_assert_int_eq(access(in_folder("a/b"), F_OK), 0);
    unlink(in_folder("a/file"));
    rmdir(in_folder("a/b/c"));
    rmdir(in_folder("a/b"));
    rmdir(in_folder("a"));
}
END_TEST

START_TEST(finding)
{
    char buf[600], here[400];
    ck_assert_int_eq(moe_find_config("zoo", "./x", buf, sizeof buf, &err), MOE_OK);
    ck_assert_str_eq(buf, "./x");
    ck_assert_int_eq(moe_find_config("zoo", "x.yaml", buf, sizeof buf, &err), MOE_OK);
    ck_assert_str_eq(buf, "x.yaml");
    ck_assert_int_eq(moe_find_config("zoo", "long.yaml", buf, 9, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_find_config("zoo", "lion", buf, sizeof buf, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_ptr_nonnull(strstr(err.text, "unknown name 'lion' in zoo (known: none; no folder "
                                           "experiments/zoo in '"));
    ck_assert(strlen(here) > 120 || strstr(err.text, here)); /* where it looked */

    ck_assert_int_eq(moe_make_directories(in_folder("experiments/zoo"), &err), MOE_OK);
    ck_assert_int_eq(chdir(folder), 0);
    write_text("experiments/zoo/tiger.yaml", "");
    write_text("experiments/zoo/lion.yaml", "");
    write_text("experiments/zoo/notes.txt", "");
    enum moe_status found = moe_find_config("zoo", "lion", buf, sizeof buf, &err);
    struct moe_err misspelt, unlike;
    char other[100];
    moe_find_config("zoo", "tigre", other, sizeof other, &misspelt);
    moe_find_config("zoo", "crocodile", other, sizeof other, &unlike);
    char plots[100];
    enum moe_status folder_found = moe_find_folder("experiments", plots, sizeof plots, &err);
    ck_assert_int_eq(chdir(here), 0);
    unlink(in_folder("experiments/zoo/tiger.yaml"));
    unlink(in_folder("experiments/zoo/lion.yaml"));
    unlink(in_folder("experiments/zoo/notes.txt"));
    rmdir(in_folder("experiments/zoo"));
    rmdir(in_folder("experiments"));
    ck_assert_int_eq(found, MOE_OK);
    ck_assert_str_eq(buf, "./experiments/zoo/lion.yaml");
    ck_assert_str_eq(misspelt.text,
                     "unknown name 'tigre' in zoo (did you mean 'tiger'? known: lion, tiger)");
    ck_assert_str_eq(unlike.text, "unknown name 'crocodile' in zoo (known: lion, tiger)");
    ck_assert_int_eq(folder_found, MOE_OK);
    ck_assert_str_eq(plots, "./experiments");
    ck_assert_int_eq(moe_find_folder("no such folder", buf, sizeof buf, &err), MOE_ERR_IO);
}
END_TEST

/* All names while a message holds them; then whole ones, and where the rest are told. */
START_TEST(many_names)
{
    char here[400], file[80], buf[100], shown[600] = "unknown name 'bear' in zoo (known: ";
    struct moe_err few, many;
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_int_eq(moe_make_directories(in_folder("experiments/zoo"), &err), MOE_OK);
    ck_assert_int_eq(chdir(folder), 0);
    for (int i = 10; i < 50; i++) {
        snprintf(file, sizeof file, "experiments/zoo/elephant-%d.yaml", i);
        write_text(file, "");
        if (i == 28)
            moe_find_config("zoo", "bear", buf, sizeof buf, &few);
    }
    moe_find_config("zoo", "bear", buf, sizeof buf, &many);
    for (int i = 10; i < 50; i++) {
        snprintf(file, sizeof file, "experiments/zoo/elephant-%d.yaml", i);
        ck_assert_int_eq(unlink(file), 0);
    }
    ck_assert_int_eq(chdir(here), 0);
    rmdir(in_folder("experiments/zoo"));
    rmdir(in_folder("experiments"));
    ck_assert_ptr_nonnull(strstr(few.text, "elephant-27, elephant-28)"));
    const char *const last = strstr(many.text, " and ");
    ck_assert_ptr_nonnull(last);
    int n = 10;
    for (size_t at = strlen(shown); at < (size_t)(last - many.text); n++)
        at +=
            (size_t)snprintf(shown + at, sizeof shown - at, "%selephant-%d", n > 10 ? ", " : "", n);
    snprintf(shown + strlen(shown), sizeof shown - strlen(shown), " and %d more: moelab list zoo)",
             50 - n);
    ck_assert_str_eq(many.text, shown);
}
END_TEST

/* From elsewhere the folder is found above the program: the test lies in build/ of the source. */
START_TEST(finding_from_elsewhere)
{
    char here[400], buf[600] = "";
    struct stat st;
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    if (stat("tests/unit/test_file.c", &st))
        return;
    ck_assert_int_eq(chdir("/"), 0);
    enum moe_status s = moe_find_folder("tests", buf, sizeof buf, &err);
    ck_assert_int_eq(chdir(here), 0);
    if (s == MOE_OK)
        ck_assert_int_eq(buf[0], '/');
    else
        printf("# program not under the source: search above it not tested\n");
}
END_TEST

START_TEST(progress_is_silent_off_a_terminal)
{
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    int file = open(in_folder("log"), O_CREAT | O_RDWR | O_TRUNC, 0600);
    dup2(file, STDERR_FILENO);
    struct moe_progress p;
    moe_progress_begin(&p, "testing", "tokens", 10);
    p.last_ns -= 1000000000u; /* as if a second had passed */
    moe_progress_update(&p, 5);
    moe_progress_end(&p);
    moe_log("hello\n%d", 5);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(file);
    expect_text("log", "moelab: hello?5\n");
    unlink(in_folder("log"));
    ck_assert(!p.shown);
}
END_TEST

START_TEST(progress_on_a_terminal)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master)) {
        printf("# no pseudo-terminals here: progress line not tested\n");
        return;
    }
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    ck_assert_int_ge(slave, 0);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    dup2(slave, STDERR_FILENO);
    struct moe_progress p;
    moe_progress_begin(&p, "testing", "tokens", 400);
    moe_progress_update(&p, 1); /* too early to draw */
    bool early = p.shown;
    p.last_ns -= 1000000000u;
    p.start_ns -= 100000000000u; /* 100 seconds for 100 tokens */
    moe_progress_update(&p, 100);
    bool late = p.shown;
    moe_progress_end(&p);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    char text[200] = "";
    ssize_t n = read(master, text, sizeof text - 1);
    close(saved);
    close(slave);
    close(master);
    ck_assert_int_gt(n, 0);
    ck_assert(!early && late);
    /* Rate and time left vary with the clock by a moment. */
    ck_assert_int_eq(strncmp(text, "\r\033[Ktesting  25 %  1.0 tokens/s  5:0", 35), 0);
}
END_TEST

/* A terminal that goes away interrupts, unless nohup said that it is not to. */
START_TEST(hangups)
{
    for (int nohup = 0; nohup < 2; nohup++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            signal(SIGHUP, nohup ? SIG_IGN : SIG_DFL);
            moe_catch_interrupts();
            raise(SIGHUP);
            _exit(moe_interrupted() ? 3 : 4);
        }
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), nohup ? 4 : 3);
    }
}
END_TEST

START_TEST(interrupts)
{
    /* In a child: after the first signal's moment another must kill it; one at once need not. */
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        moe_catch_interrupts();
        if (moe_interrupted())
            _exit(1);
        raise(SIGTERM);
        if (!moe_interrupted())
            _exit(2);
        alarm(60);
        for (;;)
            raise(SIGINT);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGINT);
    ck_assert(!moe_interrupted());
    uint64_t before = moe_clock_ns();
    ck_assert_uint_ge(moe_clock_ns(), before);
}
END_TEST

START_TEST(gzip)
{
    char *data;
    size_t size;
    write_text("x.tsv", "\x1f\x8b\x08 the rest");
    ck_assert_int_eq(moe_file_read(in_folder("x.tsv"), 99, &data, &size, &err), MOE_ERR_INPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "/x.tsv': compressed by gzip; gunzip it first"));
    ck_assert(!moe_is_gzip("\x1f\x8b", 2));
    unlink(in_folder("x.tsv"));
}
END_TEST

START_TEST(fifo)
{
    struct moe_output out;
    char got[8] = "";
    ck_assert_int_eq(mkfifo(in_folder("pipe"), 0600), 0);
    pid_t child = fork(); /* without a reader one interrupt is enough */
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        moe_catch_interrupts();
        raise(SIGINT);
        if (moe_output_create(&out, in_folder("pipe"), &err) != MOE_ERR_INTERRUPTED)
            _exit(1);
        _exit(strstr(err.text, "interrupted: nobody reads '") ? 0 : 2);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    int reader = open(in_folder("pipe"), O_RDONLY | O_NONBLOCK);
    ck_assert_int_ge(reader, 0);
    ck_assert_int_eq(moe_output_create(&out, in_folder("pipe"), &err), MOE_OK);
    ck_assert_int_eq(fcntl(fileno(out.stream), F_GETFL) & O_NONBLOCK, 0);
    fputs("whole", out.stream);
    ck_assert_int_eq(moe_output_commit(&out, &err), MOE_OK);
    ck_assert_int_eq(read(reader, got, sizeof got), 5);
    ck_assert_str_eq(got, "whole");
    close(reader);
    unlink(in_folder("pipe"));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {reading,
                                  output_commit,
                                  output_refusals,
                                  long_names,
                                  output_mode,
                                  output_link,
                                  devices,
                                  failed_commit,
                                  standard_output,
                                  directories,
                                  finding,
                                  many_names,
                                  finding_from_elsewhere,
                                  progress_is_silent_off_a_terminal,
                                  progress_on_a_terminal,
                                  gzip,
                                  hangups,
                                  interrupts,
                                  fifo};
    temporary_folder(folder, sizeof folder);
    Suite *suite = suite_create("file");
    TCase *tcase = tcase_create("all");
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    const int failed = run_suite(suite);
    return rmdir(folder) != 0 || failed; /* nothing may be left behind */
}
