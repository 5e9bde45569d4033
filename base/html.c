#include "base/html.h"

#include "base/utf8.h"

#include <stdbool.h>
#include <string.h>

/* Length of the character at text, 0 where it is none or must not be shown. */
static size_t char_length(const char *text, size_t left)
{
    int n = moe_utf8_char(text, left);
    const unsigned char c = (unsigned char)*text;
    bool control = n == 1 && ((c < ' ' && !strchr("\t\n", c)) || c == 0x7f);
    return n > 0 && !control ? (size_t)n : 0;
}

void moe_html_text(const char *text, FILE *out)
{
    static const struct {
        char c;
        const char *name;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    for (size_t left = strlen(text); left;) {
        size_t n = char_length(text, left);
        const char *escape = n ? NULL : "\xef\xbf\xbd";
        for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
            if (*text == escapes[i].c)
                escape = escapes[i].name;
        if (escape)
            fputs(escape, out);
        else
            fwrite(text, 1, n, out);
        n += n == 0;
        text += n;
        left -= n;
    }
}

void moe_html_json_text(const char *text, FILE *out)
{
    fputc('"', out);
    for (size_t left = strlen(text); left;) {
        size_t n = char_length(text, left);
        if (n == 0)
            fputs("\\ufffd", out);
        else if (n == 1 && strchr("\"\\<>&\t\n", *text))
            fprintf(out, "\\u%04x", (unsigned)*text);
        else
            fwrite(text, 1, n, out);
        n += n == 0;
        text += n;
        left -= n;
    }
    fputc('"', out);
}

void moe_html_data_uri(const char *mime, const void *data, size_t n, FILE *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *byte = data;
    fprintf(out, "data:%s;base64,", mime);
    for (size_t i = 0; i < n; i += 3) {
        unsigned long group = (unsigned long)byte[i] << 16;
        group |= i + 1 < n ? (unsigned long)byte[i + 1] << 8 : 0;
        group |= i + 2 < n ? byte[i + 2] : 0;
        fputc(digits[group >> 18], out);
        fputc(digits[group >> 12 & 63], out);
        fputc(i + 1 < n ? digits[group >> 6 & 63] : '=', out);
        fputc(i + 2 < n ? digits[group & 63] : '=', out);
    }
}
