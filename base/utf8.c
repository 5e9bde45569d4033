#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* The Unicode standard's table of well-formed byte sequences: first byte, range of the second. */
static const struct {
    uint8_t first, last, second_min, second_max, length;
} forms[] = {
    {0x00, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
    {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
    {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

int moe_utf8_char(const char *text, size_t n)
{
    const uint8_t *c = (const uint8_t *)text;
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        if (c[0] < forms[f].first || c[0] > forms[f].last)
            continue;
        for (size_t i = 1; i < forms[f].length && i < n; i++) {
            uint8_t min = i == 1 ? forms[f].second_min : 0x80;
            uint8_t max = i == 1 ? forms[f].second_max : 0xbf;
            if (c[i] < min || c[i] > max)
                return -1;
        }
        return n < forms[f].length ? 0 : forms[f].length;
    }
    return -1;
}

size_t moe_utf8_prefix(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        int length = moe_utf8_char(text + i, n - i);
        if (length <= 0)
            break;
        i += (size_t)length;
    }
    return i;
}

void moe_utf8_clean(char *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        int length = moe_utf8_char(text + i, n - i);
        if (length > 1)
            memcpy(out, text + i, (size_t)length);
        else if (length == 1)
            *out = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
        else
            memcpy(out, "\xef\xbf\xbd", 3);
        out += length > 0 ? length : 3;
        i += length > 0 ? (size_t)length : 1;
    }
    *out = 0;
}
