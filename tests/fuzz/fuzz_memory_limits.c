#include "exec/memory_limits.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All four parsers of the same text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { SMALL = 16, LARGE = 4096 };
    char *text = malloc(size + 1), small[SMALL], large[LARGE];
    uint64_t value = 0;
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    (void)moe_cgroup_number(text, &value);
    (void)moe_cgroup_stat(text, "inactive_file", &value);
    if (moe_meminfo_available(text, &value) && value % 1024)
        abort();
    for (int v1 = 0; v1 < 2; v1++) {
        bool fits = moe_cgroup_path(text, v1, small, sizeof small);
        bool told = moe_cgroup_path(text, v1, large, sizeof large);
        if ((fits && (!told || strcmp(small, large) != 0)) ||
            (told && (large[0] != '/' || strstr(large, ".."))))
            abort();
    }
    free(text);
    return 0;
}
