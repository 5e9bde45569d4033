#include "cli/plot.h"

#include "base/file.h"
#include "base/progress.h"
#include "base/units.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FOLDER_MAX = 4096, PATH_ROOM = 4300 };

/* Text as a gnuplot single-quoted string: a quote inside is doubled. */
static void quote(const char *name, const char *before, const char *text, char *buf, size_t size)
{
    size_t at = (size_t)snprintf(buf, size, "%s='%s", name, before);
    for (; *text && at + 4 < size; text++) {
        buf[at++] = *text;
        if (*text == '\'')
            buf[at++] = '\'';
    }
    snprintf(buf + at, size - at, "'");
}

/* Quotes a path, with a folder in front so that it cannot be mistaken for something else: gnuplot
 * runs names that begin with '|' or '<' as commands, awk takes a=b for a variable, grep takes -x
 * for an option. */
static void quote_path(const char *name, const char *path, char *buf, size_t size)
{
    quote(name, path[0] == '/' ? "" : "./", path, buf, size);
}

enum { MAX_SCRIPTS = 64 }; /* more are only missing from suggestions */

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Lists the scripts' names without ".gp"; not style.gp, which other scripts include. */
static size_t list_scripts(const char *folder, char names[][64])
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && n < MAX_SCRIPTS && (e = readdir(dir));) {
        const size_t length = strlen(e->d_name);
        if (length > 3 && length < 64 && strcmp(e->d_name + length - 3, ".gp") == 0 &&
            strcmp(e->d_name, "style.gp") != 0)
            snprintf(names[n++], 64, "%.*s", (int)(length - 3), e->d_name);
    }
    if (dir)
        closedir(dir);
    qsort(names, n, sizeof *names, compare_names);
    return n;
}

static enum moe_status fail_script(const char *script, const char *folder, struct moe_err *err)
{
    char names[MAX_SCRIPTS][64];
    const char *name[MAX_SCRIPTS];
    const size_t n = list_scripts(folder, names);
    for (size_t i = 0; i < n; i++)
        name[i] = names[i];
    const char *near = moe_nearest_name(script, name, n);
    return moe_fail(err, MOE_ERR_USAGE, "no plot script '%s' in '%.300s'%s%s%s", script, folder,
                    near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

/* folder: of all scripts; path: of this one. */
static enum moe_status find_script(const char *script, char *folder, size_t folder_size, char *path,
                                   size_t size, struct moe_err *err)
{
    enum moe_status s = moe_find_folder("plots", folder, folder_size, err);
    if (s)
        return s;
    snprintf(path, size, "%s/%s.gp", folder, script);
    if (access(path, R_OK) == 0)
        return MOE_OK;
    if (errno == ENOENT)
        return fail_script(script, folder, err);
    return moe_fail(err, MOE_ERR_USAGE, "cannot read plot script '%s': %s", path, strerror(errno));
}

enum moe_status moe_plot_check(const char *script, struct moe_err *err)
{
    char folder[FOLDER_MAX], path[PATH_ROOM];
    return find_script(script, folder, sizeof folder, path, sizeof path, err);
}

/* Waits for the end of gnuplot; terminates it after an interrupt. */
static enum moe_status wait_for(pid_t child, int *status, const char *tsv, struct moe_err *err)
{
    const struct timespec nap = {.tv_nsec = 5000000};
    pid_t ended = 0;
    while (!moe_interrupted() && (ended = waitpid(child, status, WNOHANG)) <= 0) {
        if (ended < 0 && errno != EINTR)
            return moe_fail(err, MOE_ERR_IO, "cannot wait for gnuplot: %s", strerror(errno));
        nanosleep(&nap, NULL);
    }
    if (ended > 0 && !moe_interrupted())
        return MOE_OK;
    if (ended <= 0) {
        kill(child, SIGKILL);
        waitpid(child, status, 0);
    }
    return moe_fail(err, MOE_ERR_INTERRUPTED,
                    "interrupted while gnuplot drew; the data are in '%s'", tsv);
}

/* Is the picture complete, or does it not exist (then it was not asked for)? */
static bool is_whole(const char *path, const char *end)
{
    enum { TAIL = 64 };
    char tail[TAIL + 1] = "";
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == ENOENT;
    if (fseek(file, -TAIL, SEEK_END) != 0)
        rewind(file);
    const size_t n = fread(tail, 1, TAIL, file);
    fclose(file);
    return memmem(tail, n, end, strlen(end)) != NULL;
}

/* gnuplot does not report a full disk: removes incomplete pictures, and fails then. */
static enum moe_status check_pictures(const char *stem, const char *tsv, struct moe_err *err)
{
    static const char *const forms[][2] = {{"svg", "</svg>"}, {"png", "IEND"}, {"pdf", "%%EOF"}};
    char path[PATH_ROOM], cut[PATH_ROOM] = "";
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(path, sizeof path, "%s.%s", stem, forms[i][0]);
        if (is_whole(path, forms[i][1]))
            continue;
        unlink(path);
        memcpy(cut, path, sizeof cut);
    }
    return *cut ? moe_fail(err, MOE_ERR_IO,
                           "gnuplot could not write all of '%s' (is the disk full?); the data are "
                           "in '%s'",
                           cut, tsv)
                : MOE_OK;
}

enum moe_status moe_plot(const char *script, const char *tsv, const char *stem, const char *title,
                         struct moe_err *err)
{
    enum { ROOM = 9000 };
    char folder[FOLDER_MAX], path[PATH_ROOM];
    char set_tsv[ROOM], set_out[ROOM], set_title[600], set_dir[ROOM];
    enum moe_status s = find_script(script, folder, sizeof folder, path, sizeof path, err);
    if (s)
        return s;
    /* The scripts pass the name to a shell, in single quotes. */
    if (strchr(tsv, '\''))
        return moe_fail(err, MOE_ERR_USAGE,
                        "cannot plot '%s': a quote (') in its name; the data are there, draw them "
                        "under another name",
                        tsv);
    quote_path("tsv", tsv, set_tsv, sizeof set_tsv);
    quote_path("out", stem, set_out, sizeof set_out);
    quote("title", "", title, set_title, sizeof set_title);
    quote_path("plots", folder, set_dir, sizeof set_dir);
    char gnuplot[] = "gnuplot", e[] = "-e";
    char *argv[] = {gnuplot, e, set_tsv, e, set_out, e, set_title, e, set_dir, path, NULL};
    pid_t child;
    int status = 0;
    fflush(NULL);
    /* In the C locale gnuplot warns of UTF-8; in a locale with decimal commas awk would write
     * commas. */
    setenv("LC_ALL", "C.UTF-8", 1);
    const int number = posix_spawnp(&child, gnuplot, NULL, NULL, argv, environ);
    if (number == ENOENT)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "gnuplot is not installed (Debian: apt-get install gnuplot-nox); the data "
                        "are in '%s'",
                        tsv);
    if (number)
        return moe_fail(err, MOE_ERR_IO, "cannot start gnuplot: %s; the data are in '%s'",
                        strerror(number), tsv);
    s = wait_for(child, &status, tsv, err);
    if (!s && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        s = moe_fail(err, MOE_ERR_IO, "gnuplot failed on '%s' with '%s'", path, tsv);
    return s ? s : check_pictures(stem, tsv, err);
}
