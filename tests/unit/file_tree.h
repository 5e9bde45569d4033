/* A tree of small files in a temporary folder, in place of /proc, /sys and the like. */
#ifndef MOELAB_TESTS_UNIT_FILE_TREE_H
#define MOELAB_TESTS_UNIT_FILE_TREE_H

#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[200]; /* set by temporary_folder, removed by remove_folder */

/* Writes a file below root and creates the folders that it is in. */
static void put(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0777);
    }
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

#endif
