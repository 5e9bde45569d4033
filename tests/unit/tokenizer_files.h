/* Reads files and JSON and opens tokenizers, for the tests of tokenizers. */
#ifndef MOELAB_TESTS_TOKENIZER_FILES_H
#define MOELAB_TESTS_TOKENIZER_FILES_H

#include "base/file.h"
#include "exec/tokenizer.h"
#include "tests/unit/run_suite.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_TOKENIZER "tests/golden/tokenizer/"

struct file_bytes {
    char *data; /* to be freed */
    size_t size;
};

static inline struct file_bytes read_bytes(const char *path)
{
    struct file_bytes file = {0};
    struct moe_err err = {0};
    ck_assert_msg(moe_file_read(path, 64 << 20, &file.data, &file.size, &err) == MOE_OK, "%s",
                  err.text);
    return file;
}

static inline json_t *read_json(const char *path)
{
    struct file_bytes file = read_bytes(path);
    json_error_t fault;
    json_t *root =
        json_loadb(file.data, file.size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &fault);
    ck_assert_msg(root != NULL, "%s:%d: %s", path, fault.line, fault.text);
    free(file.data);
    return root;
}

/* Makes a tokenizer from one model file and, unless config is NULL, a tokenizer_config.json. */
static inline struct moe_tokenizer *open_model(const char *path, const char *config)
{
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    struct file_bytes model = read_bytes(path);
    struct moe_tokenizer_files files = {.model = {model.data, model.size}};
    if (config)
        files.config = (struct moe_tokenizer_file){config, strlen(config)};
    ck_assert_msg(moe_tokenizer_parse(&t, &files, &err) == MOE_OK, "%s", err.text);
    free(model.data);
    return t;
}

#endif
