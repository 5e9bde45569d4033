/* Mapped files may be cut short by another process, or their disk may fail, while they are read.
 * The kernel then sends SIGBUS, which would end the program without a message; this adds the
 * message. */
#ifndef MOELAB_EXEC_MAPPED_FILES_H
#define MOELAB_EXEC_MAPPED_FILES_H

#include <stddef.h>

/* From now on a SIGBUS for an address in [at, at + bytes) ends the program with one line that names
 * the file, and exit code 1. Any other SIGBUS goes to the handler that was installed before (a
 * sanitizer's, the default). path is copied. Any thread. With 512 files registered, further ones
 * are ignored. */
void moe_mapped_files_add(const void *at, size_t bytes, const char *path);

/* To be called before the file is unmapped. After the last file the previous handler is restored.
 */
void moe_mapped_files_remove(const void *at);

#endif
