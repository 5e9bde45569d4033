/* Strict reading of JSON files of a model directory: UTF-8 only, no duplicate keys, at most
 * MOE_JSON_DEPTH_MAX deep.
 *
 * Every number is read as a double, so that one too large for an integer can be refused by its
 * name (or ignored with its key) instead of refusing the file; whole numbers are exact up to
 * MOE_JSON_WHOLE_MAX, which is the largest one accepted. */
#ifndef MOELAB_EXEC_JSON_H
#define MOELAB_EXEC_JSON_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_JSON_DEPTH_MAX = 64 };
#define MOE_JSON_WHOLE_MAX ((uint64_t)1 << 53)

/* The object that the text holds; the caller releases it with json_decref. Errors:
 * MOE_ERR_INPUT (not JSON, with line and reason; too deep; not an object), MOE_ERR_MEMORY. */
enum moe_status moe_json_parse(const void *text, size_t size, json_t **out, struct moe_err *err);

/* Value of a key; NULL if it is absent or null, which mean the same in configurations. */
const json_t *moe_json_get(const json_t *object, const char *key);

/* A whole number in [min, max], called `what` in messages; max at most MOE_JSON_WHOLE_MAX. */
enum moe_status moe_json_u64(const json_t *value, const char *what, uint64_t min, uint64_t max,
                             uint64_t *out, struct moe_err *err);

/* A number in [min, max]. */
enum moe_status moe_json_f64(const json_t *value, const char *what, double min, double max,
                             double *out, struct moe_err *err);

/* MOE_ERR_UNSUPPORTED "KEY VALUE is not supported (KNOWN)", with the value as JSON, cut if it is
 * long.
 */
enum moe_status moe_json_refuse(const json_t *value, const char *key, const char *known,
                                struct moe_err *err);

#endif
