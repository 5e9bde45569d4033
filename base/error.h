/* Errors: every fallible function returns enum moe_status and takes struct moe_err * last.
 *
 * Invariants: out-parameters are written only on MOE_OK. Library code never prints, exits or
 * aborts on bad input; only main() maps a status to an exit code (moe_exit_code).
 * A message is lower case, names the fault first, quotes the subject, and gives value and limit:
 *     cannot open 'x.h5': not an HDF5 file
 *     strategy 'a.yaml':12: ways 9 exceeds the 8 experts of a layer
 */
#ifndef MOELAB_BASE_ERROR_H
#define MOELAB_BASE_ERROR_H

#include <stdarg.h>

enum moe_status {
    MOE_OK = 0,
    MOE_ERR_IO,          /* open, read, write, rename failed; disk full */
    MOE_ERR_MEMORY,      /* host, pinned or device memory ran out */
    MOE_ERR_INPUT,       /* a data file breaks its format */
    MOE_ERR_USAGE,       /* an option, key, value or name the user gave is wrong */
    MOE_ERR_UNSUPPORTED, /* well-formed, but not something this build or version does */
    MOE_ERR_CHECK,       /* ran to the end, and a comparison or tolerance failed */
    MOE_ERR_INTERRUPTED, /* SIGINT, SIGTERM or SIGHUP */
};

struct moe_err {
    enum moe_status status;
    char text[480]; /* one line, no final newline; "" when status is MOE_OK */
};

/* Sets status and text (printf style; cut at the buffer's end; control characters become '?')
 * and returns the status, so that callers can write `return moe_fail(err, ...)`. err may be NULL.
 */
enum moe_status moe_fail(struct moe_err *err, enum moe_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Makes text one line, as above: a quoted file name may have a newline in it. */
void moe_clean_line(char *text);

/* Puts "format: " in front of the text already in err; returns err->status. For adding the file
 * name on the way up. */
enum moe_status moe_fail_prefix(struct moe_err *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* MOE_ERR_MEMORY with "out of memory for WHAT". */
enum moe_status moe_fail_memory(struct moe_err *err, const char *what);

/* clang-tidy looks at one file at a time: tell it that a failure is never MOE_OK. */
#ifdef __clang_analyzer__
#define moe_fail(err, status, ...) (moe_fail(err, status, __VA_ARGS__), status)
#define moe_fail_prefix(err, ...)  (moe_fail_prefix(err, __VA_ARGS__), MOE_ERR_INPUT)
#define moe_fail_memory(err, what) (moe_fail_memory(err, what), MOE_ERR_MEMORY)
#endif

/* Exit code of the program: 0 ok, 1 failed, 2 usage, 3 a check failed. */
int moe_exit_code(enum moe_status status);

/* The ending of a regular noun after the number n: "" for 1, else "s". */
const char *moe_plural(unsigned long long n);

#endif
