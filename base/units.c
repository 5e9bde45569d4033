#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int moe_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

int moe_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

enum moe_status moe_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                              struct moe_err *err)
{
    uint64_t value = 0;
    if (!*text)
        return moe_fail(err, MOE_ERR_USAGE, "empty value where a whole number is expected");
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9')
            return moe_fail(err, MOE_ERR_USAGE, "'%.40s' is not a whole number", text);
        if (!moe_mul_u64(value, 10, &value) || !moe_add_u64(value, (uint64_t)(*c - '0'), &value))
            return moe_fail(err, MOE_ERR_USAGE, "'%.40s' is too large for 64 bits", text);
    }
    if (value < min || value > max)
        return moe_fail(err, MOE_ERR_USAGE, "%" PRIu64 " is outside %" PRIu64 "..%" PRIu64, value,
                        min, max);
    *out = value;
    return MOE_OK;
}

/* strtod() accepts blanks, hex, nan and inf; a value of a configuration file may be none of them.
 */
static int plain_number(const char *text)
{
    return *text && strspn(text, "0123456789+-.eE") == strlen(text);
}

enum moe_status moe_parse_f64(const char *text, double min, double max, double *out,
                              struct moe_err *err)
{
    char *end = NULL;
    errno = 0;
    double value = plain_number(text) ? strtod(text, &end) : 0;
    if (!end || end == text || *end || errno == ERANGE || !isfinite(value))
        return moe_fail(err, MOE_ERR_USAGE, "'%.40s' is not a finite number", text);
    if (value < min || value > max)
        return moe_fail(err, MOE_ERR_USAGE, "%g is outside %g..%g", value, min, max);
    *out = value;
    return MOE_OK;
}

static const struct {
    const char *name;
    uint64_t bytes;
} byte_units[] = {
    {"", 1},
    {"B", 1},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
    {"KiB", 1u << 10},
    {"MiB", 1u << 20},
    {"GiB", 1u << 30},
    {"TiB", (uint64_t)1 << 40},
};

/* "12.345" in whole units and millionths: in doubles 4.35GB would come out one byte short. */
static int parse_decimal(const char *text, size_t length, uint64_t *whole, uint64_t *millionths)
{
    uint64_t place = 100000;
    int point = 0;
    *whole = *millionths = 0;
    for (size_t i = 0; i < length; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (text[i] == '.') {
            if (point++ || length == 1)
                return 0;
        } else if (point) {
            if (!place)
                return 0;
            *millionths += digit * place;
            place /= 10;
        } else if (!moe_mul_u64(*whole, 10, whole) || !moe_add_u64(*whole, digit, whole)) {
            return 0;
        }
    }
    return length > 0;
}

enum moe_status moe_parse_bytes(const char *text, uint64_t *out, struct moe_err *err)
{
    size_t digits = strspn(text, "0123456789.");
    uint64_t whole, millionths, bytes;
    if (!parse_decimal(text, digits, &whole, &millionths))
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%.40s' is not a size such as 4000MiB or 1.5GB (six decimals at most)",
                        text);
    for (size_t i = 0; i < sizeof byte_units / sizeof *byte_units; i++) {
        if (strcmp(text + digits, byte_units[i].name) != 0)
            continue;
        if (!moe_mul_u64(whole, byte_units[i].bytes, &bytes) ||
            !moe_add_u64(bytes, millionths * byte_units[i].bytes / 1000000, &bytes) ||
            bytes > (uint64_t)1 << 60)
            return moe_fail(err, MOE_ERR_USAGE, "'%.40s' exceeds 1024 PiB", text);
        *out = bytes;
        return MOE_OK;
    }
    return moe_fail(err, MOE_ERR_USAGE,
                    "'%.40s' has an unknown unit (B KB MB GB TB KiB MiB GiB TiB)", text);
}

enum moe_status moe_parse_bool(const char *text, int *out, struct moe_err *err)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (int i = 0; i < 8; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i & 1;
            return MOE_OK;
        }
    }
    return moe_fail(err, MOE_ERR_USAGE, "'%.40s' is not true or false", text);
}

const char *moe_format_bytes(uint64_t bytes, char *buf, size_t size)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024 && unit < 5) {
        value /= 1024;
        unit++;
    }
    snprintf(buf, size, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, names[unit]);
    return buf;
}

const char *moe_format_count(double value, char *buf, size_t size)
{
    static const char *const names[] = {"", " k", " M", " G", " T"};
    int unit = 0;
    while (value >= 1000 && unit < 4) {
        value /= 1000;
        unit++;
    }
    snprintf(buf, size,
             value < 10 && unit ? "%.2f%s"
             : value < 100      ? "%.1f%s"
                                : "%.0f%s",
             value, names[unit]);
    return buf;
}

static size_t edit_distance(const char *a, const char *b)
{
    enum { CAP = 64 };
    size_t row[CAP + 1];
    size_t n = strlen(a), m = strlen(b);
    if (n > CAP || m > CAP)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best =
                diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

/* The shortest name that begins with text, of at least three letters; NULL: none. */
static const char *completed(const char *text, const char *const *names, size_t n)
{
    const char *best = NULL;
    const size_t begun = strlen(text);
    for (size_t i = 0; begun >= 3 && i < n; i++)
        if (strncasecmp(text, names[i], begun) == 0 && (!best || strlen(names[i]) < strlen(best)))
            best = names[i];
    return best;
}

const char *moe_nearest_name(const char *text, const char *const *names, size_t n)
{
    size_t best = n, limit = strlen(text) / 3 + 1;
    for (size_t i = 0; i < n; i++) {
        size_t d = edit_distance(text, names[i]);
        if (d <= limit && (best == n || d < limit)) {
            best = i;
            limit = d;
        }
    }
    return best < n ? names[best] : completed(text, names, n);
}

const char *moe_join_names(const char *const *names, size_t n, const char *between,
                           const char *where, char *buf, size_t size)
{
    char rest[100];
    const size_t tail = (size_t)snprintf(rest, sizeof rest, " and %zu more%s", n, where);
    size_t at = 0, i = 0;
    buf[0] = 0;
    for (; i < n; i++) {
        const size_t room = i + 1 < n ? tail : 0;
        if (at + strlen(between) + strlen(names[i]) + room >= size)
            break;
        at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? between : "", names[i]);
    }
    if (i < n)
        snprintf(buf + at, size - at, " and %zu more%s", n - i, where);
    return buf;
}

uint64_t moe_hash_bytes(uint64_t hash, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}
