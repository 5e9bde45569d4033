#include "traces/sequences.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_sequence_rows rows = {0};
    struct moe_err err = {0};
    if (moe_sequences_parse("x", (const char *)data, size, false, &rows, &err) == MOE_OK)
        moe_sequences_release(&rows);
    return 0;
}
