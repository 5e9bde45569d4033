/* `moelab repro`: the paper's figures and tables. Each has one row in `figures`: its name, its
 * configurations, and a function that runs them, compares with the published values and draws. */
#ifndef MOELAB_CLI_REPRO_H
#define MOELAB_CLI_REPRO_H

#include "base/table.h"
#include "base/tsv.h"
#include "cli/command.h"
#include "sim/expected.h"
#include "sim/experiment.h"

/* From this error on the cause is stated, even if the tolerance is wider. */
enum { REPRO_ID_MAX = 64, REPRO_TOLD_PERCENT = 10 };

struct repro_value {
    char id[REPRO_ID_MAX];
    const char *variant; /* static; the first variant of an id is the prediction, others are shown
                            beside it */
    double value;
};

struct repro {
    char folder[CLI_PATH_MAX]; /* of the results */
    bool reduced, plot;
    uint32_t jobs;
    struct moe_expected expected;
    /* of the current figure */
    const struct repro_figure *figure;
    size_t n_values;
    struct repro_value *values;
    size_t n_compared, n_within;
    char worst[REPRO_ID_MAX];
    double worst_error; /* in percent, or points */
    bool worst_relative;
    /* over all figures */
    size_t n_names;
    char **names;    /* of shortened traces, to be freed */
    size_t n_failed; /* checks */
    bool no_gnuplot;
};

struct repro_figure {
    const char *name, *title;
    const char *configs; /* stems in experiments/, separated by blanks */
    const char *status;  /* its status on the page; NULL: derived from the numbers */
    const char *goal;    /* what is expected, if no published numbers are compared; else NULL */
    bool synthetic;      /* its tables rest on SYNTHETIC routing */
    enum moe_status (*run)(struct repro *r, struct moe_err *err);
};

/* FOLDER/NAME.EXT */
const char *repro_path(const struct repro *r, const char *name, const char *ext, char *buf,
                       size_t size);

/* Loads experiments/STEM.yaml, shortened if the run is reduced. Points whose trace file does not
 * exist are left out, and that is logged. Release with moe_experiment_release. */
enum moe_status repro_experiment(struct repro *r, const char *stem, struct moe_experiment *out,
                                 struct moe_err *err);

/* Runs the points of experiments/STEM.yaml that FOLDER/STEM.tsv does not have yet, and reads that
 * file. */
enum moe_status repro_sweep(struct repro *r, const char *stem, struct moe_tsv *out,
                            struct moe_err *err);
enum moe_status repro_load(const struct repro *r, const char *stem, struct moe_tsv *out,
                           struct moe_err *err);

/* The first row from `from` on that is ok and meets the conditions, e.g. {"threads", "24", ...,
 * NULL}; n_rows: none. */
size_t repro_find(const struct moe_tsv *tsv, size_t from, const char *const *conditions);
const char *repro_text(const struct moe_tsv *tsv, size_t row, const char *column); /* "" */
double repro_number(const struct moe_tsv *tsv, size_t row, const char *column);    /* NaN */

/* The row with the most tokens_per_s among those that meet the conditions; n_rows: none. */
size_t repro_fastest(const struct moe_tsv *tsv, const char *const *conditions);

/* A result table for the current figure, which names program and command and says whether the
 * routing is synthetic; free with moe_table_free. NULL: out of memory. */
struct moe_table *repro_table(const struct repro *r);

/* The same for a table that rests on recordings only, whatever else the figure shows. */
struct moe_table *repro_recorded_table(const struct repro *r);
/* If `status` is MOE_OK, writes FOLDER/STEM.tsv, with a title. Frees the table in any case. Returns
 * the first failure, `status` or its own. */
enum moe_status repro_write(const struct repro *r, struct moe_table *table, enum moe_status status,
                            const char *stem, struct moe_err *err);

/* Plots FOLDER/STEM.tsv; if gnuplot is missing, that is logged once and is not an error. */
enum moe_status repro_plot(struct repro *r, const char *script, const char *stem, const char *title,
                           struct moe_err *err);

/* Records a value, to be compared with the published one of that id. */
enum moe_status repro_obtain(struct repro *r, struct moe_err *err, const char *variant,
                             double value, const char *id_format, ...)
    __attribute__((format(printf, 5, 6)));

/* Compares the recorded values with the published ones whose ids have the prefix ("fig5."), into
 * FOLDER/compare-FIGURE.tsv. */
enum moe_status repro_compare(struct repro *r, const char *figure, const char *prefix,
                              struct moe_err *err);

/* A comparison with published values: how many are within their tolerance, and how far they are
 * off. */
struct repro_tally {
    uint64_t n, within;
    double sum, worst; /* errors in percent; sum without signs */
};
void repro_tally_add(struct repro_tally *tally, const struct moe_expected_value *e, double value);
void repro_tally_cells(const struct repro_tally *tally, struct moe_table *table);

/* Reports a check other than a comparison with a published value; if any fails, the program's exit
 * code is 3. */
void repro_check(struct repro *r, bool passed, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Makes the traces that figures need: records embedded models, imports logs that exist. */
enum moe_status repro_traces(const struct repro *r, struct moe_err *err);

/* Runs another command of this program as if typed; its standard output is discarded. */
enum moe_status repro_command(const struct cli_command *command, int argc, const char *const *argv,
                              struct moe_err *err);

/* Writes FOLDER/paper-repro.md from the folder's tables and experiments/paper/page.md. */
enum moe_status repro_page(const struct repro *r, struct moe_err *err);

/* The functions of the figures. */
enum moe_status repro_fig2(struct repro *r, struct moe_err *err);
enum moe_status repro_fig3(struct repro *r, struct moe_err *err);
enum moe_status repro_fig4(struct repro *r, struct moe_err *err);
enum moe_status repro_fig5(struct repro *r, struct moe_err *err);
enum moe_status repro_fixed_time(struct repro *r, struct moe_err *err); /* of repro_fig5 */
enum moe_status repro_fig6(struct repro *r, struct moe_err *err);
enum moe_status repro_tab1(struct repro *r, struct moe_err *err);
enum moe_status repro_tab2(struct repro *r, struct moe_err *err);
enum moe_status repro_tab4(struct repro *r, struct moe_err *err);
enum moe_status repro_tab5(struct repro *r, struct moe_err *err);
enum moe_status repro_variants(struct repro *r, struct moe_err *err);
enum moe_status repro_beyond(struct repro *r, struct moe_err *err);
enum moe_status repro_real(struct repro *r, struct moe_err *err);
/* Of repro_real: the traces that the sweep's rows name. */
enum moe_status repro_pairs(struct repro *r, const struct moe_tsv *tsv, struct moe_err *err);

/* The fig5 sweeps of one model: its name in ids, its file, its stem. */
struct repro_model {
    const char *id, *model, *stem;
    const char *variants[8][3]; /* name, strategy, part of the trace's name; NULL name ends */
};
extern const struct repro_model repro_models[2];

/* The best row of a model's sweep at so many threads among the cached geometries of a variant. */
size_t repro_fig5_best(const struct moe_tsv *tsv, const char *const *variant, const char *threads);
enum { REPRO_N_THREADS = 6, REPRO_MOST_THREADS = REPRO_N_THREADS - 1 };
extern const char *const repro_threads[REPRO_N_THREADS + 1]; /* those of the paper, ended by NULL */

#endif
