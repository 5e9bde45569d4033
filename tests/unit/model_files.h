/* Files of a model directory for tests: safetensors in memory, a temporary directory. */
#ifndef MOELAB_TESTS_MODEL_FILES_H
#define MOELAB_TESTS_MODEL_FILES_H

#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A safetensors file: header length, header, n_data bytes 0, 1, 2, ... The caller frees it. */
static inline char *make_safetensors(const char *header, size_t n_data, size_t *size)
{
    uint64_t length = strlen(header);
    *size = 8 + length + n_data;
    char *file = malloc(*size);
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 8; i++)
        file[i] = (char)(length >> 8 * i);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < n_data; i++)
        file[8 + length + i] = (char)i;
    return file;
}

static char model_dir[256];

static inline void model_dir_make(void)
{
    temporary_folder(model_dir, sizeof model_dir);
}

static inline const char *model_path(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", model_dir, name);
    return path;
}

static inline void model_dir_empty(void)
{
    DIR *dir = opendir(model_dir);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            remove(model_path(e->d_name));
    if (dir)
        closedir(dir);
}

static inline void model_dir_remove(void)
{
    remove_folder(model_dir);
}

static inline void model_write(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(model_path(name), "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
}

static inline void model_write_text(const char *name, const char *text)
{
    model_write(name, text, strlen(text));
}

static inline void model_write_safetensors(const char *name, const char *header, size_t n_data)
{
    size_t size;
    char *file = make_safetensors(header, n_data, &size);
    model_write(name, file, size);
    free(file);
}

#endif
