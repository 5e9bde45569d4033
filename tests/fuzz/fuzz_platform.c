/* Platform files: whatever the bytes, a platform that loads has speeds that a simulation can use.
 */
#include "policies/platform.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same bytes once more as "KEY VALUE" of moe_platform_set. */
static void set_one(struct moe_platform *platform, const uint8_t *data, size_t size)
{
    char text[128];
    size_t n = size < sizeof text - 1 ? size : sizeof text - 1;
    struct moe_err err;
    memcpy(text, data, n);
    text[n] = 0;
    char *value = strchr(text, ' ');
    if (!value)
        return;
    *value++ = 0;
    value[strcspn(value, "\n")] = 0;
    moe_platform_set(platform, text, value, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t bytes[] = {1, 157286400, UINT64_MAX};
    struct moe_platform p;
    struct moe_err err;
    memset(&p, 0, sizeof p);
    if (moe_platform_parse("fuzz", data, size, &p, &err) == MOE_OK) {
        for (size_t i = 0; i < 3; i++)
            for (uint64_t threads = 1; threads <= p.cpu.cores + 1; threads++) {
                double speed = moe_platform_expert_gb_per_s(&p, threads, bytes[i]);
                double dense = moe_platform_dense_gb_per_s(&p, threads, bytes[i]);
                if (!(speed > 0 && speed < 1e300) || !(dense > 0 && dense < 1e300))
                    abort();
            }
    }
    set_one(&p, data, size);
    return 0;
}
