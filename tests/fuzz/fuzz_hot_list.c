/* Hot lists: byte 0 layers, byte 1 experts, the rest is text. What parses holds different experts
 * of the model, and no more than it has. */
#include "policies/hot_list.h"

#include <stdlib.h>
#include <string.h>

static void expect(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static moe_key keys[255 * 255];
    static bool seen[255 * 255];
    struct moe_err err = {0};
    uint32_t n = UINT32_MAX;
    if (size < 2)
        return 0;
    uint32_t all = (uint32_t)data[0] * data[1];
    if (moe_hot_list_parse("x", (const char *)data + 2, size - 2, data[0], data[1], keys, &n,
                           &err)) {
        expect(n == UINT32_MAX && strlen(err.text) > 0);
        expect(err.status == (all ? MOE_ERR_INPUT : MOE_ERR_USAGE));
        return 0;
    }
    expect(n <= all);
    memset(seen, 0, all * sizeof *seen);
    for (uint32_t i = 0; i < n; i++) {
        expect(keys[i] < all && !seen[keys[i]]);
        seen[keys[i]] = true;
    }
    return 0;
}
