/* "NAME" or "NAME:key=value,key=value": how policies, admission rules and prefetchers are named. */
#ifndef MOELAB_POLICIES_SPEC_H
#define MOELAB_POLICIES_SPEC_H

#include "base/error.h"
#include "base/param.h"

#include <stddef.h>

/* Splits text into name (buf) and the part after ':' ("" when absent), which points into text.
 * what ("policy") stands in messages. Errors: MOE_ERR_USAGE when the name is empty or too long. */
enum moe_status moe_spec_split(const char *what, const char *text, char *name, size_t size,
                               const char **rest, struct moe_err *err);

/* "unknown WHAT 'x' (did you mean 'y'?); known: a b c". */
enum moe_status moe_spec_unknown(const char *what, const char *name, const char *const *known,
                                 size_t n, struct moe_err *err);

/* Defaults and then the list `rest` into params. A rule without a table takes no keys. */
enum moe_status moe_spec_params(const char *what, const char *name, const struct moe_param *table,
                                void *params, const char *rest, struct moe_err *err);

/* NAME, and the parameters that are not at their defaults as the list that moe_spec_params takes.
 * Cut where it does not fit. table may be NULL; params [MOE_POLICY_PARAMS_MAX]. Returns buf. */
const char *moe_spec_format(const char *name, const struct moe_param *table, const void *params,
                            char *buf, size_t size);

#endif
