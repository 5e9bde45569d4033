/* Strategy files: whatever the bytes, a strategy that loads has rules, and setting its keys by name
 * holds to their limits. */
#include "policies/strategy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same bytes once more as "KEY VALUE" of moe_strategy_set. */
static void set_one(struct moe_strategy *strategy, const uint8_t *data, size_t size)
{
    char text[256];
    size_t n = size < sizeof text - 1 ? size : sizeof text - 1;
    struct moe_err err;
    memcpy(text, data, n);
    text[n] = 0;
    char *value = strchr(text, ' ');
    if (!value)
        return;
    *value++ = 0;
    (void)moe_strategy_set(strategy, text, value, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_strategy s;
    struct moe_yaml *root;
    struct moe_err err;
    char described[512];
    moe_strategy_default(&s);
    if (moe_yaml_parse("fuzz", data, size, &root, &err) == MOE_OK) {
        moe_strategy_from_yaml(root, &s, &err);
        moe_yaml_free(root);
    }
    set_one(&s, data, size);
    if (!s.policy.ops || !s.admission.ops || !s.prefetcher.ops || s.threads == 0)
        abort();
    moe_strategy_describe(&s, described, sizeof described);
    if (strlen(described) >= sizeof described)
        abort();
    return 0;
}
