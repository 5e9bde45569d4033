/* Result tables: any bytes. What parses holds whole rows of text that ends, and no two columns of
 * one name. */
#include "base/tsv.h"

#include <stdlib.h>
#include <string.h>

static void expect(bool ok)
{
    if (!ok)
        abort();
}

static bool is_clean(const char *text)
{
    for (; *text; text++)
        if ((*text > 0 && *text < ' ') || *text == 0x7f)
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_err err = {0};
    struct moe_tsv t;
    double x;
    if (moe_tsv_parse("x", (const char *)data, size, &t, &err)) {
        expect(err.status == MOE_ERR_INPUT && strlen(err.text) > 0);
        return 0;
    }
    expect(t.n_columns > 0);
    for (size_t j = 0; j < t.n_columns; j++)
        expect(is_clean(t.columns[j]) && moe_tsv_column(&t, t.columns[j]) == j);
    for (size_t i = 0; i < t.n_rows; i++)
        for (size_t j = 0; j < t.n_columns; j++) {
            const char *cell = moe_tsv_cell(&t, i, j);
            expect(is_clean(cell));
            if (moe_tsv_number(cell, &x))
                expect(x - x == 0); /* finite */
        }
    for (size_t i = 0; i < t.n_notes; i++) /* a note may hold tabs */
        expect(!strchr(t.notes[i].key, '\n') && !strchr(t.notes[i].value, '\n'));
    moe_tsv_release(&t);
    return 0;
}
