#include "exec/weights_index.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_weights_index index = {0};
    if (moe_weights_index_parse(data, size, &index, NULL) == MOE_OK) {
        for (size_t i = 0; i < index.n; i++)
            if (index.entry[i].shard >= index.n_shards || !index.entry[i].tensor)
                abort();
        for (size_t i = 0; i < index.n_shards; i++)
            if (strchr(index.shard[i], '/') ||
                (i && strcmp(index.shard[i - 1], index.shard[i]) >= 0))
                abort();
    }
    moe_weights_index_release(&index);
    return 0;
}
