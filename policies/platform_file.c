#include "policies/platform_file.h"

#include "base/file.h"
#include "base/table.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t code_point(const char *text, int length)
{
    static const uint32_t first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = (uint8_t)text[0] & first_bits[length];
    for (int i = 1; i < length; i++)
        c = c << 6 | ((uint8_t)text[i] & 0x3f);
    return c;
}

/* May the character be written as it is, within a line (YAML 1.1, sections 5.1 and 5.4)? Quotes and
 * backslashes may not. */
static bool plain(uint32_t c)
{
    if (c == 0x2028 || c == 0x2029) /* they end lines */
        return false;
    return (c >= 0x20 && c <= 0x7e && c != '"' && c != '\\') || (c >= 0xa0 && c <= 0xd7ff) ||
           (c >= 0xe000 && c <= 0xfffd && c != 0xfeff) || c >= 0x10000;
}

/* A double-quoted scalar. */
static void put_text(const char *text, FILE *out)
{
    fputc('"', out);
    for (size_t left = strlen(text); left > 0;) {
        const int n = moe_utf8_char(text, left);
        const size_t step = n > 0 ? (size_t)n : 1;
        const uint32_t c = n > 0 ? code_point(text, n) : '?';
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", (char)c);
        else if (!plain(c))
            fprintf(out, "\\u%04" PRIx32, c);
        else if (n > 0)
            fwrite(text, 1, step, out);
        else
            fputc('?', out);
        text += step;
        left -= step;
    }
    fputc('"', out);
}

/* Comment lines; characters that YAML does not allow become '?'. */
static void put_head(const char *head, FILE *out)
{
    bool start = true;
    for (size_t left = strlen(head); left > 0;) {
        const int n = moe_utf8_char(head, left);
        const size_t step = n > 0 ? (size_t)n : 1;
        const uint32_t c = n > 0 ? code_point(head, n) : 0;
        if (start)
            fputs("# ", out);
        start = c == '\n';
        if (start || c == '"' || c == '\\' || plain(c))
            fwrite(head, 1, step, out);
        else
            fputc('?', out);
        head += step;
        left -= step;
    }
    if (!start)
        fputc('\n', out);
}

static void put_end(const struct moe_platform_notes *notes, const char *section, const char *name,
                    const char *unit, FILE *out)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", section, name);
    fprintf(out, "    unit: %s\n    origin: ", unit ? unit : "1");
    put_text(notes->origin(notes->context, key), out);
    fputc('\n', out);
}

static void put_points(const char *name, const char *bytes_name, const struct moe_ffn_point *point,
                       uint32_t n, const struct moe_platform_notes *notes, FILE *out)
{
    char ms[32];
    fprintf(out, "  %s:\n    value:\n", name);
    for (uint32_t i = 0; i < n; i++)
        fprintf(out, "      - {threads: %" PRIu32 ", %s: %" PRIu64 ", ms: %s}\n", point[i].threads,
                bytes_name, point[i].expert_bytes, moe_format_f64(point[i].ms, ms, sizeof ms));
    put_end(notes, "cpu", name, "ms", out);
}

static void put_lists(const struct moe_platform *p, const struct moe_platform_notes *notes,
                      FILE *out)
{
    put_points("expert_ffn", "expert_bytes", p->cpu.point, p->cpu.n_points, notes, out);
    if (p->cpu.n_dense)
        put_points("dense", "bytes", p->cpu.dense, p->cpu.n_dense, notes, out);
}

static void put_platform(const struct moe_platform *p, const struct moe_platform_notes *notes,
                         FILE *out)
{
    char value[64];
    if (notes->head)
        put_head(notes->head, out);
    fputs("name: ", out);
    put_text(p->name, out);
    fputs("\ndescription: ", out);
    put_text(p->description, out);
    fputc('\n', out);
    if (moe_platform_shares_dram(p))
        fputs("memory: unified\n", out);
    for (const struct moe_platform_section *s = moe_platform_sections; s->name; s++) {
        const struct moe_param *table = moe_platform_table(p, s);
        if (!table && strcmp(s->name, "gpu") == 0)
            fputs("\ngpu: none\n", out);
        if (!table)
            continue;
        fprintf(out, "\n%s:\n", s->name);
        for (const struct moe_param *c = table; c->name; c++) {
            fprintf(out, "  %s:\n    value: %s\n", c->name,
                    moe_param_format(c, p, value, sizeof value));
            put_end(notes, s->name, c->name, c->unit, out);
        }
        if (strcmp(s->name, "cpu") == 0)
            put_lists(p, notes, out);
    }
}

static bool same_points(const struct moe_ffn_point *a, uint32_t n, const struct moe_ffn_point *b,
                        uint32_t n_b)
{
    if (n != n_b)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (a[i].threads != b[i].threads || a[i].expert_bytes != b[i].expert_bytes ||
            a[i].ms != b[i].ms)
            return false;
    return true;
}

/* Are the constants equal, bit for bit? Names may have lost bytes that are no UTF-8. */
static bool same_constants(const struct moe_platform *a, const struct moe_platform *b)
{
    char x[64], y[64];
    if (moe_platform_shares_dram(a) != moe_platform_shares_dram(b))
        return false;
    for (const struct moe_platform_section *s = moe_platform_sections; s->name; s++)
        for (const struct moe_param *c = s->table; c->name; c++)
            if (strcmp(moe_param_format(c, a, x, sizeof x), moe_param_format(c, b, y, sizeof y)) !=
                0)
                return false;
    return same_points(a->cpu.point, a->cpu.n_points, b->cpu.point, b->cpu.n_points) &&
           same_points(a->cpu.dense, a->cpu.n_dense, b->cpu.dense, b->cpu.n_dense);
}

static enum moe_status check(const struct moe_platform *platform, const char *text, size_t size,
                             struct moe_err *err)
{
    struct moe_platform *again = malloc(sizeof *again);
    if (!again)
        return moe_fail_memory(err, "a platform");
    enum moe_status s = moe_platform_parse(platform->name, text, size, again, err);
    if (s)
        moe_fail_prefix(err, "a platform that cannot be written");
    else if (!same_constants(platform, again))
        s = moe_fail(err, MOE_ERR_USAGE,
                     "platform '%s' does not read back as it was written (points out of order?)",
                     platform->name);
    free(again);
    return s;
}

enum moe_status moe_platform_text(const struct moe_platform *platform,
                                  const struct moe_platform_notes *notes, char **out, size_t *size,
                                  struct moe_err *err)
{
    char *text = NULL;
    size_t n = 0;
    FILE *stream = open_memstream(&text, &n);
    if (!stream)
        return moe_fail_memory(err, "the text of a platform");
    put_platform(platform, notes, stream);
    const bool failed = ferror(stream) != 0;
    enum moe_status s = fclose(stream) != 0 || failed
                            ? moe_fail_memory(err, "the text of a platform")
                            : check(platform, text, n, err);
    if (s) {
        free(text);
        return s;
    }
    *out = text;
    *size = n;
    return MOE_OK;
}

enum moe_status moe_platform_save(const struct moe_platform *platform,
                                  const struct moe_platform_notes *notes, const char *path,
                                  struct moe_err *err)
{
    char *text;
    size_t size;
    struct moe_output out;
    enum moe_status s = moe_platform_text(platform, notes, &text, &size, err);
    if (s)
        return s;
    s = moe_output_create(&out, path, err);
    if (!s) {
        fwrite(text, 1, size, out.stream); /* commit sees the stream's error */
        s = moe_output_commit(&out, err);
    }
    free(text);
    return s;
}
