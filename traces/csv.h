/* Lines and fields of CSV files, strictly: every line ends, all line ends are alike, no NUL bytes,
 * numbers are plain decimals. Nothing is copied: slices point into the file's text. */
#ifndef MOELAB_TRACES_CSV_H
#define MOELAB_TRACES_CSV_H

#include "base/error.h"
#include "traces/ignored.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_CSV_MAX_COLUMNS = 256 };

/* A piece of the file, not NUL-terminated. */
struct moe_text {
    const char *at;
    size_t n;
};

enum moe_eol { MOE_EOL_UNKNOWN, MOE_EOL_LF, MOE_EOL_CRLF };

struct moe_csv {
    const char *name; /* of the file, for messages */
    const char *next, *end;
    uint64_t line;        /* 1-based, of text */
    struct moe_text text; /* the line under way, without its end */
    enum moe_eol eol;
};

void moe_csv_start(struct moe_csv *csv, const char *name, const char *data, size_t size);

/* The next line; *got is false at the end. Errors: MOE_ERR_INPUT for a last line without an end
 * (the file is cut short), a NUL byte, text that is not UTF-8 or starts with a byte order mark, LF
 * and CRLF mixed. */
enum moe_status moe_csv_next(struct moe_csv *csv, bool *got, struct moe_err *err);

/* MOE_ERR_INPUT with "'name':line: " in front. */
enum moe_status moe_csv_fail(const struct moe_csv *csv, struct moe_err *err, const char *format,
                             ...) __attribute__((format(printf, 3, 4)));

/* Takes the next comma-separated field off rest (a field in double quotes may hold commas and keeps
 * its quotes); false when none is left. A line always has at least one field. */
bool moe_csv_field(struct moe_text *rest, struct moe_text *field);

/* Splits the line under way into exactly n fields. */
enum moe_status moe_csv_row(const struct moe_csv *csv, struct moe_text *fields, size_t n,
                            struct moe_err *err);

/* Reads the column line: column[i] is the place of known[i] or -1; *n_columns the line's fields, up
 * to MOE_CSV_MAX_COLUMNS. Columns that are not known are skipped and named in `ignored`. The known
 * names of `same` (bit i) are synonyms: one of them is enough. Errors: an unknown name that looks
 * like a known one that is absent, a known name twice, one of required (bit i) missing. */
enum moe_status moe_csv_columns(const struct moe_csv *csv, const char *const *known, size_t n_known,
                                uint32_t required, uint32_t same, int *column, size_t *n_columns,
                                struct moe_ignored *ignored, struct moe_err *err);

/* The column line without the columns that moe_csv_columns skipped, and without its end: a heap
 * string in *out. */
enum moe_status moe_csv_kept_columns(const struct moe_csv *csv, const int *column, size_t n_known,
                                     char **out, struct moe_err *err);

/* Numbers; what names the field in messages: "'x.csv':17: expert 130 is outside 0..127". */
enum moe_status moe_csv_u64(const struct moe_csv *csv, struct moe_text field, const char *what,
                            uint64_t min, uint64_t max, uint64_t *out, struct moe_err *err);
enum moe_status moe_csv_f32(const struct moe_csv *csv, struct moe_text field, const char *what,
                            float *out, struct moe_err *err);

/* Heap copy of a field with its quotes undone. */
enum moe_status moe_csv_string(const struct moe_csv *csv, struct moe_text field, const char *what,
                               char **out, struct moe_err *err);

bool moe_text_equal(struct moe_text text, const char *word);
bool moe_text_is_utf8(const char *text, size_t n);

#endif
