/* model.safetensors.index.json: which shard holds which tensor. */
#ifndef MOELAB_EXEC_WEIGHTS_INDEX_H
#define MOELAB_EXEC_WEIGHTS_INDEX_H

#include "base/error.h"

#include <stddef.h>

struct moe_index_entry {
    const char *tensor;
    size_t shard; /* position in shard[] */
};

/* Zero it before the first use. */
struct moe_weights_index {
    const char **shard; /* [n_shards] plain file names, ascending, each once */
    size_t n_shards;
    struct moe_index_entry *entry; /* [n] in the order of the file */
    size_t n;
    void *text; /* keeps the names alive */
};

/* Errors: MOE_ERR_INPUT (not JSON, no weight_map, a shard that is not a plain file name ending in
 * ".safetensors"), MOE_ERR_MEMORY; without the name of the file. Release also after an error. */
enum moe_status moe_weights_index_parse(const void *text, size_t size,
                                        struct moe_weights_index *out, struct moe_err *err);
void moe_weights_index_release(struct moe_weights_index *index);

#endif
