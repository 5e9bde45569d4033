/* Any text as a number, a size, a truth value and a misspelt name. */
#include "base/table.h"
#include "base/units.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_numbers(const char *text)
{
    uint64_t u = 0, again = 0;
    double f = 0, same = 1;
    int flag = 0;
    char buf[64];
    if (moe_parse_u64(text, 3, UINT64_MAX, &u, NULL) == MOE_OK) {
        snprintf(buf, sizeof buf, "%" PRIu64, u);
        if (u < 3 || moe_parse_u64(buf, 0, UINT64_MAX, &again, NULL) || again != u)
            abort();
    }
    if (moe_parse_f64(text, -1e300, 1e300, &f, NULL) == MOE_OK) {
        moe_format_f64(f, buf, sizeof buf);
        if (!isfinite(f) || moe_parse_f64(buf, -1e300, 1e300, &same, NULL) || same < f || same > f)
            abort();
    }
    if (moe_parse_bytes(text, &u, NULL) == MOE_OK) {
        snprintf(buf, sizeof buf, "%" PRIu64, u);
        if (moe_parse_bytes(buf, &again, NULL) || again != u)
            abort();
        moe_format_bytes(u, buf, sizeof buf);
    }
    if (moe_parse_bool(text, &flag, NULL) == MOE_OK && flag != 0 && flag != 1)
        abort();
    moe_format_count(f, buf, sizeof buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"lru", "lfu", "quota", "geometry", "link_gb_per_s", ""};
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    check_numbers(text);
    moe_nearest_name(text, names, sizeof names / sizeof *names);
    free(text);
    return 0;
}
