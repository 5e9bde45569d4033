#include "base/utf8.h"
#include "traces/prompts.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte chooses format and limit. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_prompts prompts;
    struct moe_err err = {0};
    if (!size)
        return 0;
    enum moe_prompts_format format = (enum moe_prompts_format)(data[0] % 4);
    uint64_t limit = data[0] / 4 % 4;
    if (moe_prompts_parse("d/x_test.csv", (const char *)data + 1, size - 1, format, limit, &prompts,
                          &err) != MOE_OK) {
        if (!err.text[0])
            abort();
        return 0;
    }
    if (!prompts.n || (limit && prompts.n > limit))
        abort();
    for (size_t i = 0; i < prompts.n; i++) {
        const struct moe_prompt *p = &prompts.prompt[i];
        size_t n = strlen(p->text);
        if (!n || moe_utf8_prefix(p->text, n) < n || !p->line ||
            strlen(p->category) > MOE_CATEGORY_MAX)
            abort();
    }
    moe_prompts_release(&prompts);
    return 0;
}
