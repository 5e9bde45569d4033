/* Drawings: any bytes. What comes through is made of a few elements, holds no reference out of the
 * page, and comes through unchanged but for its ids when it is written again. */
#include "base/svg.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void expect(bool ok)
{
    if (!ok)
        abort();
}

static char *draw(const char *text, size_t size, size_t *made_size)
{
    struct moe_err err = {0};
    char *made = NULL;
    FILE *out = open_memstream(&made, made_size);
    expect(out != NULL);
    enum moe_status s = moe_svg_write("x", text, size, "p", "t", out, &err);
    fclose(out);
    if (!s)
        return made;
    expect(s == MOE_ERR_INPUT && strlen(err.text) > 0);
    free(made);
    return NULL;
}

/* Outside of quotes and text: '<' begins a shape, no attribute acts, references stay on the page.
 */
static void check_tags(const char *svg)
{
    char quote = 0;
    bool tag = false;
    for (const char *c = svg; *c; c++) {
        if (quote) {
            quote = *c == quote ? 0 : quote;
        } else if (tag && *c == '"') {
            quote = *c;
        } else if (*c == '<') {
            expect(!tag);
            tag = true;
            expect(strncmp(c, "<script", 7) != 0 && strncmp(c, "<foreign", 8) != 0);
            expect(strncmp(c, "<style", 6) != 0 && strncmp(c, "<a ", 3) != 0);
            expect(c[1] == '/' || islower((unsigned char)c[1]));
        } else if (*c == '>') {
            expect(tag);
            tag = false;
        } else if (tag && *c == ' ') {
            expect(strncmp(c + 1, "on", 2) != 0 && strncmp(c + 1, "style", 5) != 0);
            expect(strncmp(c + 1, "xlink:", 6) != 0);
            expect(strncmp(c + 1, "href=", 5) != 0 || strncmp(c + 6, "\"#p-", 4) == 0 ||
                   strncmp(c + 6, "\"data:image/png;base64,", 23) == 0);
        }
    }
    expect(!quote && !tag);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n, again;
    char *made = draw((const char *)data, size, &n);
    if (!made)
        return 0;
    expect(strncmp(made, "<svg role=\"img\"", 15) == 0 && strlen(made) == n);
    check_tags(made);
    /* The role is ours, and refused in a file; without it the drawing is one that is let through.
     */
    memset(made + 4, ' ', 11);
    char *twice = draw(made, n, &again);
    expect(twice != NULL);
    free(twice);
    free(made);
    return 0;
}
