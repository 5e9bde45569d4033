/* The parts of `moelab report`: a folder of results as one HTML page. Inside cli/report_*.c and
 * cli/cmd_report.c only. */
#ifndef MOELAB_CLI_REPORT_H
#define MOELAB_CLI_REPORT_H

#include "base/error.h"
#include "base/tsv.h"
#include "traces/chrome_trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Size limits of the files read; larger tables and timelines are errors, larger pictures are left
 * out. */
enum { REPORT_MIB = 1 << 20 };
enum {
    REPORT_TABLE_MAX = 64 * REPORT_MIB,
    REPORT_PICTURE_MAX = 8 * REPORT_MIB,
    REPORT_TIMELINE_MAX = 256 * REPORT_MIB,
    REPORT_TEXT_MAX = REPORT_MIB, /* larger ones are left out */
    REPORT_FILES_MAX = 500,
    REPORT_DEPTH_MAX = 8, /* folders in folders */
};

enum report_kind { REPORT_UNTOLD, REPORT_SIMULATED, REPORT_MEASURED, REPORT_COUNTED };

/* A result table, and what was found in its cells. A column is an index; n_columns: absent. */
struct report_table {
    char *file, *stem; /* "demo.tsv", "demo" */
    struct moe_tsv tsv;
    enum report_kind kind;
    bool synthetic;
    bool lossy;      /* some row has a strategy that changes the model's output */
    bool *numeric;   /* [n_columns] every cell is a number or nan, and one is a number */
    bool *constant;  /* [n_columns] there are several rows, and all have the same cell */
    size_t value;    /* the column that ranks rows: tokens_per_s or hit_rate_percent */
    size_t best;     /* row of its largest value; n_rows: none */
    size_t faster;   /* a lossy row with a larger value than all others; n_rows: none */
    size_t oracle;   /* a row that knows the future with a larger value; n_rows: none */
    size_t n_failed; /* rows whose status is not "ok" */
};

struct report_plot {
    char *file, *stem;
    bool svg;
    char *markup; /* an element <svg>, or what stands in src="" */
    size_t n_markup;
    size_t table; /* index of the table it belongs to, or SIZE_MAX */
};

/* A text file among the results, shown unchanged. */
struct report_text {
    char *file, *content;
};

struct report_timeline {
    char *file;
    struct moe_chrome_trace trace;
};

/* A file that is not shown, and why. */
struct report_omission {
    char *file, *why;
};

struct report {
    const char *folder; /* as given; for messages, not on the page */
    char *title;
    size_t max_rows, max_events;
    struct report_table *tables;
    struct report_plot *plots;
    struct report_timeline *timelines;
    struct report_text *texts;
    struct report_omission *omissions;
    size_t n_tables, n_plots, n_timelines, n_texts, n_omissions;
};

/* Reads the files of the folder and of the folders inside it, sorted by name; does not follow links
 * to folders, nor enter hidden folders. title "": the folder's name. */
enum moe_status report_load(const char *folder, const char *title, size_t max_rows,
                            size_t max_events, struct report *out, struct moe_err *err);
void report_release(struct report *report);

/* Fills the fields of the table behind tsv. */
enum moe_status report_read_table(struct report_table *table, struct moe_err *err);

/* The title of a table: what it says itself, else its stem. */
const char *report_table_title(const struct report_table *table);

/* A cell as it is shown: numbers with four digits, "nan" as a dash. */
const char *report_cell(const char *cell, char *buf, size_t size);

/* "copied_gb_per_token" -> "copied", "GB per token"; unit "" when the name has none. */
void report_split_name(const char *column, char *label, char *unit, size_t size);

/* Is the row one that ran? */
bool report_row_ok(const struct report_table *table, size_t row);

/* Writes parts of the page. `index` numbers tables and timelines from 0. */
void report_put_summary(const struct report *report, FILE *out);
void report_put_badges(const struct report_table *table, FILE *out);
/* In words. For tables that rank their rows: the best row, how it compares with its bound and with
 * the others, and what was run. For tables with verdicts: how many rows got which. */
void report_put_words(const struct report_table *table, FILE *out);
void report_put_verdicts(const struct moe_tsv *tsv, FILE *out);
void report_put_table(const struct report *report, size_t index, FILE *out);
void report_put_timeline(const struct report *report, size_t index, FILE *out);

/* Writes the whole page, with the style and scripts in plots/report. */
enum moe_status report_write(const struct report *report, FILE *out, struct moe_err *err);

#endif
