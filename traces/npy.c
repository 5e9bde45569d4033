#include "traces/npy.h"

#include "base/units.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* The header is a Python dictionary; this cursor walks over its text. */
struct cursor {
    const char *name;
    const char *at, *end;
};

static enum moe_status bad_header(const struct cursor *c, struct moe_err *err, const char *what)
{
    return moe_fail(err, MOE_ERR_INPUT, "'%s': npy header: %s", c->name, what);
}

static bool take(struct cursor *c, const char *word)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n'))
        c->at++;
    size_t n = strlen(word);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0)
        return false;
    c->at += n;
    return true;
}

static bool take_string(struct cursor *c, char *buf, size_t size)
{
    char quote = take(c, "'") ? '\'' : take(c, "\"") ? '"' : '\0';
    const char *end = quote ? memchr(c->at, quote, (size_t)(c->end - c->at)) : NULL;
    if (!end || (size_t)(end - c->at) >= size)
        return false;
    memcpy(buf, c->at, (size_t)(end - c->at));
    buf[end - c->at] = '\0';
    c->at = end + 1;
    return true;
}

static bool take_number(struct cursor *c, uint64_t *out)
{
    uint64_t value = 0;
    const char *start = (take(c, ""), c->at);
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (!moe_mul_u64(value, 10, &value) ||
            !moe_add_u64(value, (uint64_t)(*c->at - '0'), &value))
            return false;
    *out = value;
    return c->at > start;
}

static enum moe_status parse_descr(struct cursor *c, struct moe_npy *npy, struct moe_err *err)
{
    static const char *const known[] = {"|u1", "|i1", "<u2", "<i2", "<f2", "<u4",
                                        "<i4", "<f4", "<u8", "<i8", "<f8"};
    char descr[16];
    if (!take_string(c, descr, sizeof descr))
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "'%s': dtype is not a plain number type",
                        c->name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(descr, known[i]) == 0) {
            npy->kind = descr[1];
            npy->width = (unsigned)(descr[2] - '0');
            return MOE_OK;
        }
    }
    return moe_fail(err, MOE_ERR_UNSUPPORTED,
                    "'%s': dtype '%s' is not one of u1 i1 u2 i2 f2 u4 i4 f4 u8 i8 f8, "
                    "little-endian: save a.astype('<i4') or the like",
                    c->name, descr);
}

static enum moe_status parse_order(struct cursor *c, struct moe_npy *npy, struct moe_err *err)
{
    (void)npy; /* only C order is read */
    if (take(c, "False"))
        return MOE_OK;
    if (take(c, "True"))
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "'%s': fortran_order True, not C order: save numpy.ascontiguousarray(a)",
                        c->name);
    return bad_header(c, err, "fortran_order is neither True nor False");
}

static enum moe_status parse_shape(struct cursor *c, struct moe_npy *npy, struct moe_err *err)
{
    if (!take(c, "("))
        return bad_header(c, err, "shape is not a tuple");
    npy->n_dims = 0;
    while (!take(c, ")")) {
        if (npy->n_dims == MOE_NPY_MAX_DIMS)
            return bad_header(c, err, "more than 4 dimensions");
        if (!take_number(c, &npy->shape[npy->n_dims++]))
            return bad_header(c, err, "shape holds something that is not a number of 64 bits");
        if (!take(c, ",") && !(c->at < c->end && *c->at == ')'))
            return bad_header(c, err, "shape is not closed");
    }
    return MOE_OK;
}

static enum moe_status parse_entry(struct cursor *c, struct moe_npy *npy, unsigned *seen,
                                   struct moe_err *err)
{
    static const struct {
        const char *key;
        enum moe_status (*parse)(struct cursor *c, struct moe_npy *npy, struct moe_err *err);
    } entries[] = {{"descr", parse_descr}, {"fortran_order", parse_order}, {"shape", parse_shape}};
    char key[16];
    unsigned i = 0;
    if (!take_string(c, key, sizeof key) || !take(c, ":"))
        return bad_header(c, err, "not a dictionary of descr, fortran_order and shape");
    while (i < 3 && strcmp(key, entries[i].key) != 0)
        i++;
    if (i == 3 || *seen >> i & 1)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': npy header: key '%s' is unknown or twice",
                        c->name, key);
    *seen |= 1u << i;
    return entries[i].parse(c, npy, err);
}

static enum moe_status parse_dictionary(struct cursor *c, struct moe_npy *npy, struct moe_err *err)
{
    unsigned seen = 0; /* one bit an entry */
    if (!take(c, "{"))
        return bad_header(c, err, "not a dictionary");
    while (!take(c, "}")) {
        enum moe_status status = parse_entry(c, npy, &seen, err);
        if (status != MOE_OK)
            return status;
        if (!take(c, ",") && !(c->at < c->end && *c->at == '}'))
            return bad_header(c, err, "dictionary is not closed");
    }
    take(c, "");
    if (seen != 7 || c->at != c->end)
        return bad_header(c, err, "descr, fortran_order or shape is missing, or text follows");
    return MOE_OK;
}

static enum moe_status check_extent(const char *name, struct moe_npy *npy, size_t left,
                                    struct moe_err *err)
{
    uint64_t items = 1, bytes = 0;
    bool fits = true;
    for (unsigned d = 0; d < npy->n_dims; d++)
        fits = fits && moe_mul_u64(items, npy->shape[d], &items);
    fits = fits && moe_mul_u64(items, npy->width, &bytes);
    if (!fits)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': shape promises more than 2^64 bytes", name);
    if (bytes != left)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': shape promises %" PRIu64 " bytes of items, the file has %zu", name,
                        bytes, left);
    npy->n_items = items;
    return MOE_OK;
}

enum moe_status moe_npy_parse(const char *name, const void *data, size_t size, struct moe_npy *out,
                              struct moe_err *err)
{
    const unsigned char *b = data;
    struct moe_npy npy = {0};
    if (size < 10 || memcmp(b, "\x93NUMPY", 6) != 0)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': not a npy file", name);
    if (b[6] < 1 || b[6] > 3)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "'%s': npy version %u is not 1, 2 or 3", name,
                        b[6]);
    size_t start = b[6] == 1 ? 10 : 12, length = b[8] | (size_t)b[9] << 8;
    if (b[6] > 1 && size >= 12)
        length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (size < start || length > size - start)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': npy header is cut short", name);
    struct cursor c = {name, (const char *)b + start, (const char *)b + start + length};
    enum moe_status status = parse_dictionary(&c, &npy, err);
    if (status == MOE_OK)
        status = check_extent(name, &npy, size - start - length, err);
    if (status != MOE_OK)
        return status;
    npy.items = b + start + length;
    *out = npy;
    return MOE_OK;
}

/* One case a width: each becomes a single load. */
static uint64_t load(const struct moe_npy *array, uint64_t i)
{
    const unsigned char *p = array->items + i * array->width;
    uint64_t low = p[0];
    if (array->width == 1)
        return low;
    low |= (uint64_t)p[1] << 8;
    if (array->width == 2)
        return low;
    low |= (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
    if (array->width == 4)
        return low;
    return low | (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

int64_t moe_npy_integer(const struct moe_npy *array, uint64_t i)
{
    uint64_t value = load(array, i);
    if (array->kind == 'u')
        return value > INT64_MAX ? INT64_MAX : (int64_t)value;
    unsigned shift = 64 - 8 * array->width;
    return (int64_t)(value << shift) >> shift;
}

static double half_to_real(uint32_t bits)
{
    int exponent = (int)(bits >> 10 & 0x1f);
    double fraction = bits & 0x3ff;
    double value = exponent == 31  ? (fraction != 0 ? (double)NAN : (double)INFINITY)
                   : exponent == 0 ? ldexp(fraction, -24)
                                   : ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000 ? -value : value;
}

static uint32_t real_to_half(double value)
{
    uint32_t sign = signbit(value) ? 0x8000 : 0;
    int exponent;
    double size = fabs(value);
    if (isnan(value) || size >= 65520)
        return sign | (isnan(value) ? 0x7e00u : 0x7c00u);
    frexp(size, &exponent);
    int scale = size < 0x1p-14 ? -24 : exponent - 11;
    uint32_t steps = (uint32_t)nearbyint(ldexp(size, -scale));
    /* A carry out of the fraction moves into the exponent by itself. */
    return sign | (scale == -24 ? steps : ((uint32_t)(scale + 24) << 10) + steps);
}

double moe_npy_real(const struct moe_npy *array, uint64_t i)
{
    uint64_t bits = load(array, i);
    uint32_t low = (uint32_t)bits;
    float single;
    double value;
    if (array->width == 2)
        return half_to_real(low);
    memcpy(&single, &low, sizeof single);
    memcpy(&value, &bits, sizeof value);
    return array->width == 4 ? (double)single : value;
}

void moe_npy_write_header(FILE *out, char kind, unsigned width, const uint64_t *shape,
                          unsigned n_dims)
{
    char text[192];
    int n = snprintf(text, sizeof text, "{'descr': '%c%c%u', 'fortran_order': False, 'shape': (",
                     width == 1 ? '|' : '<', kind, width);
    for (unsigned d = 0; d < n_dims; d++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%" PRIu64 "%s", d ? " " : "", shape[d],
                      d + 1 < n_dims || n_dims == 1 ? "," : "");
    n += snprintf(text + n, sizeof text - (size_t)n, "), }");
    /* NumPy leaves room for the first dimension to grow to 21 digits, then pads to 64 bytes. */
    int growth = n_dims ? 21 - snprintf(NULL, 0, "%" PRIu64, shape[0]) : 0;
    int total = (10 + n + growth + 1 + 63) / 64 * 64;
    fprintf(out, "\x93NUMPY%c%c%c%c%-*s\n", 1, 0, (total - 10) & 0xff, (total - 10) >> 8,
            total - 11, text);
}

void moe_npy_write_integer(FILE *out, unsigned width, int64_t value)
{
    for (unsigned b = 0; b < width; b++)
        fputc((int)((uint64_t)value >> 8 * b & 0xff), out);
}

void moe_npy_write_real(FILE *out, unsigned width, double value)
{
    float single = (float)value;
    uint32_t low = real_to_half(value);
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (width == 4)
        memcpy(&low, &single, sizeof low);
    moe_npy_write_integer(out, width, width == 8 ? (int64_t)bits : (int64_t)low);
}
