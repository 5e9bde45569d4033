#include "exec/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every byte of a tensor that was believed lies inside the file, in no other tensor. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_safetensors *file;
    if (moe_safetensors_parse(&file, "x", data, size, NULL) != MOE_OK)
        return 0;
    uint64_t total = 0;
    unsigned sum = 0;
    for (uint64_t i = 0; i < moe_safetensors_n(file); i++) {
        const struct moe_tensor *t = moe_safetensors_at(file, i);
        const uint8_t *bytes = t->data;
        for (uint64_t k = 0; k < t->bytes; k++)
            sum += bytes[k];
        if (moe_safetensors_find(file, t->name) != t || t->n_dims > MOE_TENSOR_DIMS_MAX)
            abort();
        total += t->bytes;
    }
    if (total > size || (sum && !total))
        abort();
    moe_safetensors_close(file);
    return 0;
}
