#include "exec/id_list.h"

#include <stdlib.h>
#include <string.h>

enum moe_status moe_id_list_append(struct moe_id_list *list, const int32_t *ids, size_t n,
                                   struct moe_err *err)
{
    if (!list->id || n > list->room - list->n) {
        size_t room = 2 * list->room + n + 16;
        int32_t *more = realloc(list->id, room * sizeof *more);
        if (!more)
            return moe_fail_memory(err, "token ids");
        list->id = more;
        list->room = room;
    }
    if (n)
        memcpy(list->id + list->n, ids, n * sizeof *ids);
    list->n += n;
    return MOE_OK;
}
