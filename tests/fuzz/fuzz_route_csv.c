#include "import_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_parse(moe_route_csv_parse, data, size);
    return 0;
}
