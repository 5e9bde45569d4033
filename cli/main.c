#include "base/progress.h"
#include "base/units.h"
#include "base/version.h"
#include "cli/command.h"
#include "sim/team.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *title;
    const struct cli_command *commands[8];
} groups[] = {
    {"real models", {&cli_run, &cli_record, &cli_quantize}},
    {"traces in and out of HDF5",
     {&cli_trace_import, &cli_trace_info, &cli_trace_stats, &cli_trace_verify, &cli_trace_synth,
      &cli_trace_export, &cli_trace_cat, &cli_trace_batch}},
    {"which cache, how fast",
     {&cli_replay, &cli_mrc, &cli_sim, &cli_sweep, &cli_sweep_merge, &cli_tune, &cli_whatif}},
    {"results to look at", {&cli_repro, &cli_report}},
    {"this machine", {&cli_calibrate, &cli_validate}},
    {"the program itself",
     {&cli_list, &cli_bench, &cli_bench_kernels, &cli_bench_device, &cli_version}},
};

enum { N_GROUPS = sizeof groups / sizeof *groups };

static enum moe_status check_stdout(struct moe_err *err)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return MOE_OK;
    return moe_fail(err, MOE_ERR_IO, "cannot write to standard output: %s",
                    strerror(errno ? errno : EIO));
}

static enum moe_status print_help(struct moe_err *err)
{
    printf("moelab %s: which experts should live on the GPU, who computes the rest, how fast?\n\n"
           "usage: moelab COMMAND [arguments] [options]; moelab COMMAND --help\n",
           MOELAB_VERSION);
    for (size_t g = 0; g < N_GROUPS; g++) {
        printf("\n%s:\n", groups[g].title);
        for (size_t c = 0; c < 8 && groups[g].commands[c]; c++)
            printf("  %-14s %s\n", groups[g].commands[c]->name, groups[g].commands[c]->summary);
    }
    printf("\nexit codes: 0 ok, 1 failed, 2 usage, 3 ran but a check or tolerance failed\n");
    return check_stdout(err);
}

/* Matches the words of a command's name; returns how many words it takes, or 0. */
static int matches(const struct cli_command *command, int argc, char **argv)
{
    const char *space = strchr(command->name, ' ');
    if (!space)
        return argc >= 1 && strcmp(argv[0], command->name) == 0;
    size_t n = (size_t)(space - command->name);
    return argc >= 2 && strlen(argv[0]) == n && strncmp(argv[0], command->name, n) == 0 &&
                   strcmp(argv[1], space + 1) == 0
               ? 2
               : 0;
}

/* The command whose name matches the most words: "sweep merge" is not "sweep". */
static const struct cli_command *find_command(int argc, char **argv, int *words)
{
    const struct cli_command *found = NULL;
    *words = 0;
    for (size_t g = 0; g < N_GROUPS; g++) {
        for (size_t c = 0; c < 8 && groups[g].commands[c]; c++) {
            const int n = matches(groups[g].commands[c], argc, argv);
            if (n > *words) {
                *words = n;
                found = groups[g].commands[c];
            }
        }
    }
    return found;
}

static enum moe_status unknown_command(int argc, char **argv, struct moe_err *err)
{
    const char *names[32];
    char given[80];
    size_t n = 0;
    const bool trace = strcmp(argv[0], "trace") == 0;
    const bool two = trace && argc > 1 && argv[1][0] != '-'; /* not an option such as --help */
    snprintf(given, sizeof given, "%.30s%s%.30s", argv[0], two ? " " : "", two ? argv[1] : "");
    for (size_t g = 0; g < N_GROUPS; g++)
        for (size_t c = 0; c < 8 && groups[g].commands[c]; c++)
            names[n++] = groups[g].commands[c]->name;
    if (trace && !two)
        return moe_fail(
            err, MOE_ERR_USAGE,
            "'trace' needs one of import, info, stats, verify, synth, export, cat, batch");
    const char *nearest = moe_nearest_name(given, names, n);
    if (nearest)
        return moe_fail(err, MOE_ERR_USAGE, "unknown command '%s' (did you mean '%s'?)", given,
                        nearest);
    return moe_fail(err, MOE_ERR_USAGE, "unknown command '%s' (see 'moelab help')", given);
}

static enum moe_status run(int argc, char **argv, struct moe_err *err)
{
    int words = 0, help = 0;
    const struct cli_command *command = find_command(argc, argv, &words);
    if (!command)
        return unknown_command(argc, argv, err);
    struct cli_call call;
    enum moe_status s = cli_parse(command, argc - words, argv + words, &call, &help, err);
    if (!s && help)
        cli_help_command(command);
    else if (!s)
        s = command->run(&call, err);
    cli_call_release(&call);
    if (s && command->joins_team && moe_team_launched_rank() > 0)
        return MOE_OK; /* rank 0 reports it; for our exit code a launcher would kill rank 0 */
    return s ? s : check_stdout(err);
}

/* Prints the help of `moelab`, `moelab help` and `moelab --help`, or of `moelab help COMMAND`. */
static enum moe_status help(int argc, char **argv, struct moe_err *err)
{
    static char help_flag[] = "--help";
    char *helped[3] = {NULL, NULL, help_flag};
    if (argc <= 2 || strcmp(argv[1], "help") != 0 || argv[2][0] == '-' ||
        strcmp(argv[2], "help") == 0)
        return print_help(err);
    /* `help trace import` is `trace import --help`. */
    int n = argc > 3 ? 2 : 1;
    helped[0] = argv[2];
    helped[1] = n == 2 ? argv[3] : help_flag;
    return run(n + 1, helped, err);
}

/* If a standard stream is closed, the first file opened would get its number and receive what is
 * printed. So each closed one is replaced by something that can neither be read nor written, so
 * that its use still fails: a folder (/dev/null could be written through /dev/stdout). */
static void occupy_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!(fd == STDIN_FILENO ? open("/dev/null", O_WRONLY) : open("/", O_RDONLY));
}

int main(int argc, char **argv)
{
    occupy_standard_streams();
    struct moe_err err = {0};
    static char version[] = "version";
    enum moe_status s;
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        argv[1] = version;
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        s = help(argc, argv, &err);
        if (!s && argc < 2)
            return moe_exit_code(MOE_ERR_USAGE);
    } else {
        moe_catch_interrupts();
        s = run(argc - 1, argv + 1, &err);
    }
    if (s && ferror(stdout) && moe_reader_gone())
        moe_end_by_pipe(); /* `moelab ... | head`: all is cleaned up, and the reader is gone */
    if (s)
        moe_log("%s", err.text);
    return moe_exit_code(s);
}
