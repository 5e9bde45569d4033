/* Result tables read back, strictly: what base/table.h writes as TSV.
 *
 * Lines "# key: value" (provenance) come first, then a line of column names, then rows of as many
 * fields, parted by tabs; of several fields the first may begin with '#'. Every line ends in "\n";
 * text is UTF-8 without control characters. */
#ifndef MOELAB_BASE_TSV_H
#define MOELAB_BASE_TSV_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_TSV_MAX_COLUMNS = 4096 };

struct moe_tsv_note {
    const char *key, *value; /* key "": a remark without a colon */
};

/* Strings point into text and end with it. Released by moe_tsv_release. */
struct moe_tsv {
    char *text;
    size_t n_notes, n_columns, n_rows;
    struct moe_tsv_note *notes; /* in the file's order; a key may come again */
    const char **columns;
    const char **cells; /* [n_rows * n_columns], row by row */
};

/* Errors: MOE_ERR_INPUT "'name':line: ..." for no column line, a column without a name or named
 * twice, a row of another number of fields, a remark after the column line, a last line that is cut
 * short, control characters, text that is not UTF-8. MOE_ERR_MEMORY. */
enum moe_status moe_tsv_parse(const char *name, const char *text, size_t size, struct moe_tsv *out,
                              struct moe_err *err);

/* The same for a file of at most max_bytes. */
enum moe_status moe_tsv_load(const char *path, uint64_t max_bytes, struct moe_tsv *out,
                             struct moe_err *err);

void moe_tsv_release(struct moe_tsv *tsv);

/* The first note of that key, or NULL. */
const char *moe_tsv_note(const struct moe_tsv *tsv, const char *key);

/* Index of the column, or n_columns. */
size_t moe_tsv_column(const struct moe_tsv *tsv, const char *name);

const char *moe_tsv_cell(const struct moe_tsv *tsv, size_t row, size_t column);

/* Is the cell a finite number? */
bool moe_tsv_number(const char *cell, double *out);

#endif
