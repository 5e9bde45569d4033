/* Unicode normalisation form C, by utf8proc. Optional: without that library every text that needs
 * it is refused. */
#ifndef MOELAB_EXEC_COMPOSE_H
#define MOELAB_EXEC_COMPOSE_H

#include "base/error.h"

#include <stddef.h>

/* MOE_OK if this build can compose; else MOE_ERR_UNSUPPORTED, with what to install. */
enum moe_status moe_compose_check(struct moe_err *err);

/* n bytes of valid UTF-8 in form C: *out is text itself where nothing changes, else heap (the
 * caller frees it). Errors: MOE_ERR_MEMORY, MOE_ERR_UNSUPPORTED (no utf8proc, 1 GiB or more). */
enum moe_status moe_compose(const char *text, size_t n, char **out, size_t *n_out,
                            struct moe_err *err);

#endif
