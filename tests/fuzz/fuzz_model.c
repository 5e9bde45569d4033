#include "traces/model.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_model model;
    struct moe_err err = {0};
    if (moe_model_parse("x", data, size, &model, &err) != MOE_OK)
        return 0;
    uint64_t sum = moe_model_expert_bytes(&model) + moe_model_dense_layer_bytes(&model) +
                   moe_model_head_bytes(&model) + moe_model_kv_bytes(&model, 1);
    if (model.top_k > model.n_experts || sum == 0)
        abort();
    return 0;
}
