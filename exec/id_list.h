/* A growing list of token ids. */
#ifndef MOELAB_EXEC_ID_LIST_H
#define MOELAB_EXEC_ID_LIST_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct moe_id_list {
    int32_t *id; /* heap: free it; never NULL after the first append */
    size_t n, room;
};

/* Appends n ids, which may be 0. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_id_list_append(struct moe_id_list *list, const int32_t *ids, size_t n,
                                   struct moe_err *err);

#endif
