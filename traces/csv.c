#include "traces/csv.h"

#include "base/units.h"
#include "base/utf8.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void moe_csv_start(struct moe_csv *csv, const char *name, const char *data, size_t size)
{
    *csv = (struct moe_csv){.name = name, .next = data, .end = data + size};
}

enum moe_status moe_csv_fail(const struct moe_csv *csv, struct moe_err *err, const char *format,
                             ...)
{
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return moe_fail(err, MOE_ERR_INPUT, "'%s':%llu: %s", csv->name, (unsigned long long)csv->line,
                    text);
}

bool moe_text_is_utf8(const char *text, size_t n)
{
    return moe_utf8_prefix(text, n) == n;
}

static enum moe_status check_end(struct moe_csv *csv, enum moe_eol eol, struct moe_err *err)
{
    if (csv->eol != MOE_EOL_UNKNOWN && csv->eol != eol)
        return moe_csv_fail(csv, err, "line ends are mixed: LF and CRLF");
    csv->eol = eol;
    if (memchr(csv->text.at, 0, csv->text.n))
        return moe_csv_fail(csv, err, "line holds a NUL byte");
    if (!moe_text_is_utf8(csv->text.at, csv->text.n))
        return moe_csv_fail(csv, err, "line is not UTF-8");
    return MOE_OK;
}

enum moe_status moe_csv_next(struct moe_csv *csv, bool *got, struct moe_err *err)
{
    if (csv->next == csv->end) {
        *got = false;
        return MOE_OK;
    }
    const char *start = csv->next;
    const char *stop = memchr(start, '\n', (size_t)(csv->end - start));
    csv->line++;
    if (csv->line == 1 && csv->end - start >= 3 && memcmp(start, "\xef\xbb\xbf", 3) == 0)
        return moe_csv_fail(csv, err,
                            "file starts with a byte order mark: save it as UTF-8 without one");
    if (!stop)
        return moe_csv_fail(csv, err,
                            "last line does not end: the file is cut short (if it is whole, add a "
                            "line end)");
    csv->next = stop + 1;
    bool crlf = stop > start && stop[-1] == '\r';
    csv->text = (struct moe_text){start, (size_t)(stop - start) - crlf};
    enum moe_status status = check_end(csv, crlf ? MOE_EOL_CRLF : MOE_EOL_LF, err);
    if (status == MOE_OK)
        *got = true;
    return status;
}

/* Length of a field that starts with a quote: to the quote that closes it, or all of the rest. */
static size_t quoted_length(struct moe_text rest)
{
    size_t i = 1;
    while (i < rest.n) {
        if (rest.at[i] != '"')
            i++;
        else if (i + 1 < rest.n && rest.at[i + 1] == '"')
            i += 2;
        else
            return i + 1;
    }
    return rest.n;
}

bool moe_csv_field(struct moe_text *rest, struct moe_text *field)
{
    if (!rest->at)
        return false;
    size_t skip = rest->n && rest->at[0] == '"' ? quoted_length(*rest) : 0;
    const char *comma = memchr(rest->at + skip, ',', rest->n - skip);
    size_t n = comma ? (size_t)(comma - rest->at) : rest->n;
    *field = (struct moe_text){rest->at, n};
    *rest = comma ? (struct moe_text){comma + 1, rest->n - n - 1} : (struct moe_text){NULL, 0};
    return true;
}

enum moe_status moe_csv_row(const struct moe_csv *csv, struct moe_text *fields, size_t n,
                            struct moe_err *err)
{
    struct moe_text rest = csv->text, field;
    size_t found = 0;
    while (moe_csv_field(&rest, &field)) {
        if (found < n)
            fields[found] = field;
        found++;
    }
    if (found != n)
        return moe_csv_fail(csv, err, "line has %zu field%s, the column line has %zu", found,
                            moe_plural(found), n);
    return MOE_OK;
}

bool moe_text_equal(struct moe_text text, const char *word)
{
    return strlen(word) == text.n && memcmp(text.at, word, text.n) == 0;
}

static enum moe_status take_unknown(const struct moe_csv *csv, const char *const *known,
                                    uint32_t same, const int *column, size_t n_known,
                                    struct moe_ignored *ignored, struct moe_err *err)
{
    bool present[32];
    struct moe_text rest = csv->text, field;
    bool any = false;
    for (size_t i = 0; i < n_known; i++)
        any = any || (column[i] >= 0 && same >> i & 1);
    for (size_t i = 0; i < n_known; i++)
        present[i] = column[i] >= 0 || (any && same >> i & 1);
    while (moe_csv_field(&rest, &field)) {
        size_t i = 0;
        while (i < n_known && !moe_text_equal(field, known[i]))
            i++;
        const char *meant =
            i < n_known ? NULL
                        : moe_ignored_take(ignored, field.at, field.n, known, present, n_known);
        if (meant)
            return moe_csv_fail(csv, err, "unknown column '%.*s' (did you mean '%s'?)",
                                field.n < 63 ? (int)field.n : 63, field.at, meant);
    }
    return MOE_OK;
}

enum moe_status moe_csv_columns(const struct moe_csv *csv, const char *const *known, size_t n_known,
                                uint32_t required, uint32_t same, int *column, size_t *n_columns,
                                struct moe_ignored *ignored, struct moe_err *err)
{
    struct moe_text rest = csv->text, field;
    int at = 0;
    for (size_t i = 0; i < n_known; i++)
        column[i] = -1;
    for (; moe_csv_field(&rest, &field); at++) {
        size_t i = 0;
        while (i < n_known && !moe_text_equal(field, known[i]))
            i++;
        if (i < n_known && column[i] >= 0)
            return moe_csv_fail(csv, err, "column '%s' appears twice", known[i]);
        if (i < n_known)
            column[i] = at;
    }
    if (at > MOE_CSV_MAX_COLUMNS)
        return moe_csv_fail(csv, err, "%d columns exceed %d", at, MOE_CSV_MAX_COLUMNS);
    enum moe_status status = take_unknown(csv, known, same, column, n_known, ignored, err);
    if (status != MOE_OK)
        return status;
    for (size_t i = 0; i < n_known; i++)
        if (column[i] < 0 && required >> i & 1)
            return moe_csv_fail(csv, err, "column '%s' is missing%s", known[i],
                                at == 1 ? ": fields are separated by commas" : "");
    *n_columns = (size_t)at;
    return MOE_OK;
}

enum moe_status moe_csv_kept_columns(const struct moe_csv *csv, const int *column, size_t n_known,
                                     char **out, struct moe_err *err)
{
    struct moe_text rest = csv->text, field;
    char *text = malloc(csv->text.n + 1);
    size_t n = 0;
    if (!text)
        return moe_fail_memory(err, "a column line");
    for (int at = 0; moe_csv_field(&rest, &field); at++) {
        size_t i = 0;
        while (i < n_known && column[i] != at)
            i++;
        if (i == n_known)
            continue;
        if (n)
            text[n++] = ',';
        memcpy(text + n, field.at, field.n);
        n += field.n;
    }
    text[n] = '\0';
    *out = text;
    return MOE_OK;
}

/* Copies the field into a string for messages and strtod; no number is longer than its 63 bytes. */
static enum moe_status number_text(const struct moe_csv *csv, struct moe_text field,
                                   const char *what, char text[static 64], struct moe_err *err)
{
    if (field.n == 0)
        return moe_csv_fail(csv, err, "%s is empty", what);
    if (field.n >= 64)
        return moe_csv_fail(csv, err, "%s '%.20s...' is not a number", what, field.at);
    memcpy(text, field.at, field.n);
    text[field.n] = '\0';
    return MOE_OK;
}

enum moe_status moe_csv_u64(const struct moe_csv *csv, struct moe_text field, const char *what,
                            uint64_t min, uint64_t max, uint64_t *out, struct moe_err *err)
{
    uint64_t value = 0;
    bool digits = field.n > 0 && field.n < 64, fits = true;
    for (size_t i = 0; digits && i < field.n; i++) {
        digits = field.at[i] >= '0' && field.at[i] <= '9';
        fits = fits && moe_mul_u64(value, 10, &value) &&
               moe_add_u64(value, (uint64_t)(field.at[i] - '0'), &value);
    }
    char text[64] = "";
    if (digits && fits && value >= min && value <= max) {
        *out = value;
        return MOE_OK;
    }
    enum moe_status status = number_text(csv, field, what, text, err);
    if (status != MOE_OK)
        return status;
    if (!digits && !(text[0] == '-' && text[1] >= '0' && text[1] <= '9'))
        return moe_csv_fail(csv, err, "%s '%s' is not a whole number", what, text);
    return moe_csv_fail(csv, err, "%s %s is outside %llu..%llu", what, text,
                        (unsigned long long)min, (unsigned long long)max);
}

enum moe_status moe_csv_f32(const struct moe_csv *csv, struct moe_text field, const char *what,
                            float *out, struct moe_err *err)
{
    char text[64];
    enum moe_status status = number_text(csv, field, what, text, err);
    if (status != MOE_OK)
        return status;
    double value = 0;
    if (moe_parse_f64(text, -(double)FLT_MAX, (double)FLT_MAX, &value, NULL) != MOE_OK)
        return moe_csv_fail(csv, err, "%s '%s' is not a finite number", what, text);
    *out = (float)value;
    return MOE_OK;
}

enum moe_status moe_csv_string(const struct moe_csv *csv, struct moe_text field, const char *what,
                               char **out, struct moe_err *err)
{
    bool quoted = field.n && field.at[0] == '"';
    if (quoted && (quoted_length(field) != field.n || field.n < 2 || field.at[field.n - 1] != '"'))
        return moe_csv_fail(csv, err, "%s: a quote is not closed, or text follows it", what);
    char *copy = malloc(field.n + 1);
    if (!copy)
        return moe_fail_memory(err, what);
    size_t n = 0;
    for (size_t i = quoted; i < field.n - quoted; i++) {
        copy[n++] = field.at[i];
        i += quoted && field.at[i] == '"';
    }
    copy[n] = '\0';
    *out = copy;
    return MOE_OK;
}
