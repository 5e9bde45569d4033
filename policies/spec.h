/* "NAME" or "NAME:key=value,key=value": how policies, admission rules, prefetchers and reroute
 * rules are named. */
#ifndef MOELAB_POLICIES_SPEC_H
#define MOELAB_POLICIES_SPEC_H

#include "base/error.h"
#include "base/param.h"

#include <stddef.h>

/* Splits text into name (a buffer of size bytes) and *rest, which points to the part after ':' or
 * to "". what: "policy", for messages. Errors: MOE_ERR_USAGE when the name is empty or too long. */
enum moe_status moe_spec_split(const char *what, const char *text, char *name, size_t size,
                               const char **rest, struct moe_err *err);

/* Fails with "unknown WHAT 'x' (did you mean 'y'?); known: a b c". */
enum moe_status moe_spec_unknown(const char *what, const char *name, const char *const *known,
                                 size_t n, struct moe_err *err);

/* Sets params to the defaults and then as the list `rest` says. table NULL: rest must be "". */
enum moe_status moe_spec_params(const char *what, const char *name, const struct moe_param *table,
                                void *params, const char *rest, struct moe_err *err);

/* The reverse: the name and the parameters that are not at their defaults. Truncated to fit size.
 * table may be NULL; params [MOE_POLICY_PARAMS_MAX]. Returns buf. */
const char *moe_spec_format(const char *name, const struct moe_param *table, const void *params,
                            char *buf, size_t size);

#endif
