/* A tree of small files, as Linux shows a machine, in a folder of its own. */
#ifndef MOELAB_TESTS_UNIT_FILE_TREE_H
#define MOELAB_TESTS_UNIT_FILE_TREE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void make_root(void)
{
    snprintf(root, sizeof root, "%s/moelab-tree.XXXXXX", P_tmpdir);
    ck_assert_ptr_nonnull(mkdtemp(root));
}

/* Writes a file below root, with the folders above it. */
static void put(const char *name, const char *text)
{
    char path[256];
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

/* These must be all that there are. */
static void remove_tree(const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        remove(path);
        for (char *slash; (slash = strrchr(path, '/')) && slash > path + strlen(root);) {
            *slash = '\0';
            rmdir(path);
        }
    }
    ck_assert_int_eq(rmdir(root), 0);
}

#endif
