/* Published values. What parses has ordered ranges, ids that are found again, and errors that are
 * numbers. */
#include "sim/expected.h"

#include <math.h>
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
    struct moe_expected e = {.n = SIZE_MAX};
    struct moe_err err = {0};
    if (moe_expected_parse("x", (const char *)data, size, &e, &err)) {
        expect(e.n == SIZE_MAX && strlen(err.text) > 0);
        return 0;
    }
    for (size_t i = 0; i < e.n; i++) {
        const struct moe_expected_value *v = &e.values[i];
        expect(v->low <= v->high && v->tolerance >= 0);
        expect(moe_expected_find(&e, v->id) == v);
        expect(moe_expected_within(v, v->low) && moe_expected_within(v, v->high));
        expect(!moe_expected_within(v, NAN));
        expect(!isnan(moe_expected_error(v, 1)));
    }
    moe_expected_release(&e);
    return 0;
}
