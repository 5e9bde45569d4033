/* YAML documents with line numbers, bound to structs through struct moe_param tables.
 *
 * A document is a tree of scalars, mappings and sequences. Anchors are refused (they allow
 * exponential documents), depth is at most 16, a file at most 16 MiB; a key twice is an error. */
#ifndef MOELAB_BASE_YAML_H
#define MOELAB_BASE_YAML_H

#include "base/error.h"
#include "base/param.h"

#include <stddef.h>

enum moe_yaml_kind { MOE_YAML_SCALAR, MOE_YAML_MAP, MOE_YAML_LIST };

struct moe_yaml {
    enum moe_yaml_kind kind;
    int line;               /* 1-based */
    const char *file;       /* the name given at load, for messages */
    char *text;             /* SCALAR: the value, NUL-terminated UTF-8 */
    size_t n;               /* MAP, LIST: number of children */
    char **keys;            /* MAP: n keys in file order */
    int *key_lines;         /* MAP: n lines */
    struct moe_yaml **item; /* MAP, LIST: n children */
};

/* Reads a file; the caller frees the root with moe_yaml_free. Errors: MOE_ERR_IO when it cannot be
 * read, MOE_ERR_USAGE with 'file':line when it is not valid. */
enum moe_status moe_yaml_load(const char *path, struct moe_yaml **out, struct moe_err *err);

/* The same from memory; name stands for the file in messages. */
enum moe_status moe_yaml_parse(const char *name, const void *data, size_t size,
                               struct moe_yaml **out, struct moe_err *err);
void moe_yaml_free(struct moe_yaml *root);

/* Child of a mapping, or NULL. */
const struct moe_yaml *moe_yaml_get(const struct moe_yaml *map, const char *key);

/* MOE_ERR_USAGE with "'file':line: " in front of the formatted text. */
enum moe_status moe_yaml_fail(const struct moe_yaml *node, struct moe_err *err, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));

/* Fails when the mapping has a key that is neither in the table nor in also[0..n_also); the message
 * names the nearest known key and the line. */
enum moe_status moe_yaml_check_keys(const struct moe_yaml *map, const struct moe_param *table,
                                    const char *const *also, size_t n_also, struct moe_err *err);

/* Sets each record of the table that the mapping has (constants are {value, unit, origin}, each
 * checked), and fails on a missing REQUIRED one. Keys outside the table are left to check_keys.
 * After an error base may be partly set. */
enum moe_status moe_yaml_bind(const struct moe_yaml *map, const struct moe_param *table, void *base,
                              struct moe_err *err);

/* The value of a constant node {value, unit, origin}: checks that exactly these keys are there,
 * that unit equals `unit` (NULL: "1", a pure number) and that origin starts with measured, paper,
 * datasheet, fitted or guess. *value points to the scalar or list under `value`. */
enum moe_status moe_yaml_constant(const struct moe_yaml *node, const char *unit,
                                  const struct moe_yaml **value, struct moe_err *err);

#endif
