/* Files in memory that another process may cut short, or whose disk may fail, while they are read:
 * the kernel says so with SIGBUS, which would end the program without a word. */
#ifndef MOELAB_EXEC_MAPPED_FILES_H
#define MOELAB_EXEC_MAPPED_FILES_H

#include <stddef.h>

/* From now on a SIGBUS at [at, at + bytes) ends the program with one line that names the file, and
 * exit code 1. Other SIGBUS go to whoever handled them before (a sanitizer, the kernel). path is
 * copied. Any thread. Nothing happens for more than 512 files at a time. */
void moe_mapped_files_add(const void *at, size_t bytes, const char *path);

/* Before it is unmapped. After the last one the signal is handled as before the first. */
void moe_mapped_files_remove(const void *at);

#endif
