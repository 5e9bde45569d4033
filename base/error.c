#include "base/error.h"

#include <stdio.h>
#include <string.h>

void moe_clean_line(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

/* Names in parentheses: functions, not the macros that the header gives to clang-tidy. */
enum moe_status(moe_fail)(struct moe_err *err, enum moe_status status, const char *format, ...)
{
    if (!err)
        return status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    moe_clean_line(err->text);
    err->status = status;
    return status;
}

enum moe_status(moe_fail_prefix)(struct moe_err *err, const char *format, ...)
{
    if (!err)
        return MOE_ERR_INPUT;
    char tail[sizeof err->text];
    memcpy(tail, err->text, sizeof tail);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    size_t at = n < 0 ? 0 : (size_t)n;
    if (at + 2 < sizeof err->text) {
        size_t room = sizeof err->text - at - 2, length = strlen(tail);
        memcpy(err->text + at, ": ", 2);
        memcpy(err->text + at + 2, tail, length < room ? length + 1 : room);
        err->text[sizeof err->text - 1] = 0;
    }
    moe_clean_line(err->text);
    return err->status;
}

enum moe_status(moe_fail_memory)(struct moe_err *err, const char *what)
{
    return moe_fail(err, MOE_ERR_MEMORY, "out of memory for %s", what);
}

int moe_exit_code(enum moe_status status)
{
    switch (status) {
    case MOE_OK:
        return 0;
    case MOE_ERR_USAGE:
        return 2;
    case MOE_ERR_CHECK:
        return 3;
    case MOE_ERR_IO:
    case MOE_ERR_MEMORY:
    case MOE_ERR_INPUT:
    case MOE_ERR_UNSUPPORTED:
    case MOE_ERR_INTERRUPTED:
        break;
    }
    return 1;
}

const char *moe_plural(unsigned long long n)
{
    return n == 1 ? "" : "s";
}
