/* Result tables: named columns, rows, provenance; written as TSV or JSON.
 *
 * TSV: lines "# key: value" (provenance, in the order added), one header line, one line a row, tabs
 * between. JSON: {"provenance": {...}, "columns": [...], "rows": [[...], ...]}; where the table has
 * exactly one row its columns are also top-level keys. Numbers print as the shortest decimal text
 * that reads back to the same double; the same table gives the same bytes on every machine. */
#ifndef MOELAB_BASE_TABLE_H
#define MOELAB_BASE_TABLE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct moe_table; /* opaque; grows as needed; single-threaded */

/* NULL when out of memory. The functions that free, add to or write a table take NULL; writing then
 * fails. */
struct moe_table *moe_table_new(void);
void moe_table_free(struct moe_table *table);

/* Provenance line; the value is formatted; control characters become blanks (in cells too). A key
 * used again replaces its value. */
void moe_table_note(struct moe_table *table, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Cells are added by column name to the row begun last; the first use of a name makes the column
 * (unit in the name: tokens_per_s). A cell never set prints as "nan" in TSV and null in JSON. */
void moe_table_row(struct moe_table *table);
void moe_table_u64(struct moe_table *table, const char *column, uint64_t value);
void moe_table_f64(struct moe_table *table, const char *column, double value);
void moe_table_text(struct moe_table *table, const char *column, const char *value);

/* The columns so far, in their order, *n of them; valid until the table is changed or freed. */
const char *const *moe_table_columns(const struct moe_table *table, size_t *n);

/* Out-of-memory while adding is remembered and reported here. */
enum moe_status moe_table_write_tsv(const struct moe_table *table, FILE *out, struct moe_err *err);
enum moe_status moe_table_write_json(const struct moe_table *table, FILE *out, struct moe_err *err);
/* Aligned columns for a terminal, without provenance; numbers with four significant digits. A
 * single row of more than eight columns is written downwards, a line a column. */
enum moe_status moe_table_write_text(const struct moe_table *table, FILE *out, struct moe_err *err);

/* Text as a JSON string with its quotes; control characters and quotes escaped, UTF-8 as it is. */
void moe_json_text(const char *text, FILE *out);

/* Shortest decimal text that strtod reads back to the same double; "nan" for NaN. */
const char *moe_format_f64(double value, char *buf, size_t size);

#endif
