/* Files: whole-file reading with a limit, and outputs that appear complete or not at all. */
#ifndef MOELAB_BASE_FILE_H
#define MOELAB_BASE_FILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Reads a regular file of at most max_bytes into a NUL-terminated heap buffer (*out, caller frees;
 * *size without the NUL). Directories, devices and larger files are errors, and so are files
 * compressed by gzip: none of those that are read whole should be. */
enum moe_status moe_file_read(const char *path, uint64_t max_bytes, char **out, size_t *size,
                              struct moe_err *err);

/* The same for files that a user names and that are read once: they may be pipes (/dev/stdin,
 * <(zcat x.gz), a FIFO, whose writer is waited for). Also MOE_ERR_INTERRUPTED. */
enum moe_status moe_input_read(const char *path, uint64_t max_bytes, char **out, size_t *size,
                               struct moe_err *err);

/* Do the first bytes of a file say that gzip (RFC 1952) made it? */
bool moe_is_gzip(const void *data, size_t size);

/* An output file: it is written under a temporary name beside its target, with the mode of the file
 * that it replaces, then committed (flush, fsync, rename) or abandoned (deleted). Path "-" is
 * stdout. Devices, FIFOs, and the file that stdout or stderr goes to, under any name such as
 * /dev/stdout, are written in place. */
struct moe_output {
    FILE *stream;
    char *path;      /* target */
    char *temporary; /* path + ".PID.part", shorter if too long; NULL: in place */
};

/* Errors of all: MOE_ERR_IO, with the path and why; MOE_ERR_INTERRUPTED (a FIFO that nobody reads),
 * MOE_ERR_MEMORY. Writes to stream need no check: commit sees what failed. */
enum moe_status moe_output_create(struct moe_output *out, const char *path, struct moe_err *err);
enum moe_status moe_output_commit(struct moe_output *out, struct moe_err *err);
void moe_output_abandon(struct moe_output *out);
/* Commits where the writer's status is MOE_OK, else abandons; returns the first failure of both. */
enum moe_status moe_output_end(struct moe_output *out, enum moe_status status, struct moe_err *err);
/* Could path be written? For use before long work whose result goes there; leaves nothing behind. A
 * device or FIFO is not opened, as its reader would see the end of the file. */
enum moe_status moe_output_check(const char *path, struct moe_err *err);

bool moe_is_directory(const char *path);
/* Makes directory path and its parents (mode 0777 & ~umask); no error if it is there. */
enum moe_status moe_make_directories(const char *path, struct moe_err *err);
/* Length of the part of path, from its beginning, that consists of existing directories. */
size_t moe_directories_there(const char *path);

/* After a failure: removes the directories of path behind its first `there` bytes, as far as they
 * are empty. there: moe_directories_there before moe_make_directories. */
void moe_remove_directories(const char *path, size_t there);

/* Finds a named file of a kind ("models", "platforms", "strategies"): a name with '/', or ending in
 * ".yaml" or ".yml", is itself the path; otherwise NAME.yaml is looked for in ./experiments/KIND
 * and in the experiments folder beside or above the program. Writes the path into buf. Errors:
 * MOE_ERR_USAGE; the message lists the known names. */
enum moe_status moe_find_config(const char *kind, const char *name, char *buf, size_t size,
                                struct moe_err *err);

/* The names that moe_find_config knows of a kind, sorted: a heap array of heap strings, released by
 * moe_free_names. Folders that cannot be read and names that find no memory are left out. */
char **moe_config_names(const char *kind, size_t *n);
void moe_free_names(char **names, size_t n);

/* Committed experiments name their data "experiments/data/...", which is found from any working
 * folder. Returns path itself if it can be read or does not begin with "experiments/"; else buf
 * with the same file beside or above the program, or path if there is none. */
const char *moe_find_data(const char *path, char *buf, size_t size);

/* The folder `name` ("plots", "experiments") of this installation, by the same search. */
enum moe_status moe_find_folder(const char *name, char *buf, size_t size, struct moe_err *err);

#endif
