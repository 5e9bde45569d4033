#include "exec/compose.h"

#ifdef MOELAB_HAVE_UTF8PROC

#include "base/utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { TEXT_MAX = 1 << 30 }; /* bytes */

enum moe_status moe_compose_check(struct moe_err *err)
{
    (void)err;
    return MOE_OK;
}

/* What takes part in normalisation since Unicode 10: Hugging Face tokenizers 0.22 composes by the
 * tables of Unicode 9 and leaves these characters alone, so that nothing moves past them. Found by
 * comparing its NFC with that of Unicode 18. */
static const struct {
    uint32_t first, last;
} later[] = {
    {0x5c8, 0x5c9},     {0x7fd, 0x7fd},     {0x897, 0x89f},     {0x8ca, 0x8d3},
    {0x9fe, 0x9fe},     {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},
    {0x1715, 0x1715},   {0x1abf, 0x1af0},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},
    {0x105c9, 0x105c9}, {0x105d2, 0x105d2}, {0x105da, 0x105da}, {0x105e4, 0x105e4},
    {0x10d24, 0x10d27}, {0x10d69, 0x10d6d}, {0x10eab, 0x10eac}, {0x10ecb, 0x10ecf},
    {0x10ef0, 0x10efb}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85},
    {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x11382, 0x11385}, {0x1138b, 0x1138b},
    {0x1138e, 0x1138e}, {0x11390, 0x11391}, {0x113b8, 0x113b8}, {0x113bb, 0x113bb},
    {0x113c2, 0x113c2}, {0x113c5, 0x113c5}, {0x113c7, 0x113c9}, {0x113ce, 0x113d0},
    {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11930, 0x11930}, {0x11935, 0x11935},
    {0x11938, 0x11938}, {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0},
    {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42},
    {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x1611e, 0x16129},
    {0x1612f, 0x1612f}, {0x16d63, 0x16d63}, {0x16d67, 0x16d6a}, {0x16ff0, 0x16ff1},
    {0x1d127, 0x1d128}, {0x1d250, 0x1d252}, {0x1d25b, 0x1d25c}, {0x1d25f, 0x1d25f},
    {0x1d280, 0x1d281}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae},
    {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}, {0x1e5ee, 0x1e5ef}, {0x1e6e3, 0x1e6e3},
    {0x1e6e6, 0x1e6e6}, {0x1e6ee, 0x1e6ef}, {0x1e6f5, 0x1e6f5},
};

/* The character of n bytes of valid UTF-8. */
static uint32_t value_of(const char *at, size_t n)
{
    static const uint8_t bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t value = (uint8_t)at[0] & bits[n];
    for (size_t i = 1; i < n; i++)
        value = value << 6 | ((uint8_t)at[i] & 0x3f);
    return value;
}

static bool is_later(uint32_t value)
{
    size_t low = 0, high = sizeof later / sizeof *later;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (value > later[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof later / sizeof *later && value >= later[low].first;
}

/* Bytes in front of the first later character, whose own bytes go to *length; n and 0: none. */
static size_t before_later(const char *text, size_t n, size_t *length)
{
    *length = 0;
    for (size_t i = 0; i < n;) {
        int step = moe_utf8_char(text + i, n - i);
        size_t bytes = step > 0 ? (size_t)step : 1;
        if (bytes > 1 && is_later(value_of(text + i, bytes))) {
            *length = bytes;
            return i;
        }
        i += bytes;
    }
    return n;
}

/* Below U+0300 every text is in form C already. */
static bool is_composed(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] >= 0xcc)
            return false;
    return true;
}

struct text {
    char *bytes; /* heap */
    size_t n, room;
};

static enum moe_status append(struct text *to, const void *bytes, size_t n, struct moe_err *err)
{
    if (!to->bytes || n > to->room - to->n) {
        size_t room = 2 * to->room + n + 16;
        char *more = realloc(to->bytes, room);
        if (!more)
            return moe_fail_memory(err, "a text");
        to->bytes = more;
        to->room = room;
    }
    memcpy(to->bytes + to->n, bytes, n);
    to->n += n;
    return MOE_OK;
}

static enum moe_status append_composed(struct text *to, const char *text, size_t n,
                                       struct moe_err *err)
{
    utf8proc_uint8_t *composed = NULL;
    if (!n)
        return MOE_OK;
    utf8proc_ssize_t got = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n,
                                        &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (got < 0) /* the text is valid and short enough, so nothing else can fail */
        return moe_fail_memory(err, "a text");
    enum moe_status status = append(to, composed, (size_t)got, err);
    free(composed);
    return status;
}

enum moe_status moe_compose(const char *text, size_t n, char **out, size_t *n_out,
                            struct moe_err *err)
{
    struct text composed = {0};
    enum moe_status status = MOE_OK;
    if (n >= TEXT_MAX)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "a text of %zu bytes, limit %d", n, TEXT_MAX);
    if (is_composed(text, n)) {
        *out = (char *)text;
        *n_out = n;
        return MOE_OK;
    }
    for (size_t i = 0, length = 0; i < n && status == MOE_OK; i += length) {
        size_t before = before_later(text + i, n - i, &length);
        status = append_composed(&composed, text + i, before, err);
        i += before;
        if (status == MOE_OK && length)
            status = append(&composed, text + i, length, err);
    }
    if (status != MOE_OK) {
        free(composed.bytes);
        return status;
    }
    *out = composed.bytes;
    *n_out = composed.n;
    return MOE_OK;
}

#else

enum moe_status moe_compose_check(struct moe_err *err)
{
    return moe_fail(err, MOE_ERR_UNSUPPORTED,
                    "this tokenizer needs Unicode normalisation (NFC), and moelab was built "
                    "without utf8proc: install libutf8proc-dev and build again");
}

enum moe_status moe_compose(const char *text, size_t n, char **out, size_t *n_out,
                            struct moe_err *err)
{
    (void)text, (void)n, (void)out, (void)n_out;
    return moe_compose_check(err);
}

#endif
