/* Files: whole-file reading with a limit, and outputs that appear complete or not at all. */
#ifndef MOELAB_BASE_FILE_H
#define MOELAB_BASE_FILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Reads a regular file of at most max_bytes into a NUL-terminated heap buffer (*out, caller frees;
 * *size without the NUL). Directories, devices and larger files are errors, and so is what gzip
 * made: nothing that is read whole is meant to be that. */
enum moe_status moe_file_read(const char *path, uint64_t max_bytes, char **out, size_t *size,
                              struct moe_err *err);

/* The same of what a user names and what is read once: a pipe will do (/dev/stdin, <(zcat x.gz), a
 * FIFO, whose writer is waited for). Also MOE_ERR_INTERRUPTED. */
enum moe_status moe_input_read(const char *path, uint64_t max_bytes, char **out, size_t *size,
                               struct moe_err *err);

/* Do the first bytes of a file say that gzip (RFC 1952) made it? */
bool moe_is_gzip(const void *data, size_t size);

/* An output file under a temporary name beside its target, and with the mode of the file that is
 * there: stream to write to, then commit (flush, fsync, rename) or abandon (delete). Path "-" is
 * stdout, never renamed; nor is what stdout or stderr goes to under any name, such as /dev/stdout:
 * it is written there, behind what it has. */
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
/* Could path be written? Asked before long work whose result goes there; leaves nothing. A device
 * or FIFO is not opened: its reader would see an end. */
enum moe_status moe_output_check(const char *path, struct moe_err *err);

bool moe_is_directory(const char *path);
/* Makes directory path and its parents (mode 0777 & ~umask); no error if it is there. */
enum moe_status moe_make_directories(const char *path, struct moe_err *err);
/* How much of path, in bytes from its beginning, is directories already. Asked before they are
 * made, so that where the work then fails the empty ones among those made can go again. */
size_t moe_directories_there(const char *path);
void moe_remove_directories(const char *path, size_t there);

/* Finds a named file of a kind ("models", "platforms", "strategies"): a name with '/' or ending in
 * ".yaml" is a path as it stands; otherwise NAME.yaml is looked for in ./experiments/KIND and in
 * the experiments folder beside or above the program. On failure the message lists the known names.
 * Writes the path into buf. */
enum moe_status moe_find_config(const char *kind, const char *name, char *buf, size_t size,
                                struct moe_err *err);

/* The names that moe_find_config knows of a kind, sorted: a heap array of heap strings, released by
 * moe_free_names. Folders that cannot be read and names that find no memory are left out. */
char **moe_config_names(const char *kind, size_t *n);
void moe_free_names(char **names, size_t n);

/* Committed experiments name their data "experiments/data/...", found from any folder: path itself
 * where it can be read or does not begin so, else the same file beside or above the program, if it
 * is there. Returns path or buf. */
const char *moe_find_data(const char *path, char *buf, size_t size);

/* The folder `name` ("plots", "experiments") of this installation, by the same search. */
enum moe_status moe_find_folder(const char *name, char *buf, size_t size, struct moe_err *err);

#endif
