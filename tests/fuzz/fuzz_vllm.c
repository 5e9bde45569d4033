#include "import_fuzz.h"

/* Input: sequences.csv with its length in front, then the array or zip of arrays. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_blob sequences = fuzz_blob(&data, &size, "sequences");
    struct moe_blob arrays = {"arrays", (const char *)data, size};
    const struct moe_import_options options = {0};
    struct moe_trace trace;
    struct moe_err err = {0};
    if (moe_vllm_parse(&arrays, 1, &sequences, &options, &trace, &err) == MOE_OK)
        fuzz_accept(&trace);
    return 0;
}
