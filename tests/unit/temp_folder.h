/* Temporary folders for tests, below TMPDIR or /tmp. */
#ifndef MOELAB_TESTS_TEMP_FOLDER_H
#define MOELAB_TESTS_TEMP_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Creates a folder and writes its path to buf, or ends the program. */
static inline void temporary_folder(char *buf, size_t size)
{
    const char *base = getenv("TMPDIR");
    snprintf(buf, size, "%s/moelab-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(buf)) {
        perror(buf);
        exit(1);
    }
}

/* Removes a folder with everything in it. (A test that expects it to be empty uses rmdir.) */
static inline void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[4096];
        snprintf(path, sizeof path, "%.3000s/%s", folder, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlink(path) != 0)
            remove_folder(path);
    }
    if (dir)
        closedir(dir);
    rmdir(folder);
}

#endif
