#include "import_fuzz.h"

/* Input: ids.npy, weights.npy and sequences.csv, each with its length in front. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_blob ids = fuzz_blob(&data, &size, "ids");
    struct moe_blob weights = fuzz_blob(&data, &size, "weights");
    struct moe_blob sequences = fuzz_blob(&data, &size, "sequences");
    const struct moe_import_options options = {0};
    struct moe_trace trace;
    struct moe_err err = {0};
    if (!ids.data)
        return 0;
    if (moe_npy_routes_parse(&ids, &weights, &sequences, &options, &trace, &err) == MOE_OK)
        fuzz_accept(&trace);
    return 0;
}
