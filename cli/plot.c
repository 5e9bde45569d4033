#include "cli/plot.h"

#include "base/file.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Text as a gnuplot single-quoted string: a quote inside is doubled. */
static void quote(const char *name, const char *text, char *buf, size_t size)
{
    size_t at = (size_t)snprintf(buf, size, "%s='", name);
    for (; *text && at + 4 < size; text++) {
        buf[at++] = *text;
        if (*text == '\'')
            buf[at++] = '\'';
    }
    snprintf(buf + at, size - at, "'");
}

enum moe_status moe_plot(const char *script, const char *tsv, const char *stem, const char *title,
                         struct moe_err *err)
{
    enum { ROOM = 9000 };
    char folder[4096], path[4300], set_tsv[ROOM], set_out[ROOM], set_title[600], set_dir[ROOM];
    enum moe_status s = moe_find_folder("plots", folder, sizeof folder, err);
    if (s)
        return s;
    snprintf(path, sizeof path, "%s/%s.gp", folder, script);
    if (access(path, R_OK) != 0)
        return moe_fail(err, MOE_ERR_USAGE, "cannot read plot script '%s': %s", path,
                        strerror(errno));
    /* The scripts hand the name to a shell, between quotes. */
    if (strchr(tsv, '\''))
        return moe_fail(err, MOE_ERR_USAGE,
                        "cannot plot '%s': a quote (') in its name; the data are there, draw them "
                        "under another name",
                        tsv);
    quote("tsv", tsv, set_tsv, sizeof set_tsv);
    quote("out", stem, set_out, sizeof set_out);
    quote("title", title, set_title, sizeof set_title);
    quote("plots", folder, set_dir, sizeof set_dir);
    char gnuplot[] = "gnuplot", e[] = "-e";
    char *argv[] = {gnuplot, e, set_tsv, e, set_out, e, set_title, e, set_dir, path, NULL};
    pid_t child;
    int status;
    fflush(NULL);
    setenv("LC_CTYPE", "C.UTF-8", 1); /* in the C locale gnuplot warns of UTF-8 */
    if (posix_spawnp(&child, gnuplot, NULL, NULL, argv, environ) != 0)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "gnuplot is not installed (Debian: apt-get install gnuplot-nox); the data "
                        "are in '%s'",
                        tsv);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return moe_fail(err, MOE_ERR_IO, "gnuplot failed on '%s' with '%s'", path, tsv);
    return MOE_OK;
}
