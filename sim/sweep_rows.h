/* Rows of a sweep as text: finished before, journal, result (private to sim/sweep*.c). */
#ifndef MOELAB_SIM_SWEEP_ROWS_H
#define MOELAB_SIM_SWEEP_ROWS_H

#include "base/table.h"
#include "sim/sweep.h"
#include "sim/sweep_point.h"

#include <stdio.h>

enum { MOE_SWEEP_MAX_BYTES = 1 << 30 }; /* of a result file */

struct moe_sweep {
    const struct moe_experiment *x;
    const struct moe_sweep_options *o;
    const char *output;
    char *header;     /* the column line of every row */
    char **rows;      /* [n_points] finished rows without newline, or NULL */
    uint64_t *ids;    /* [n_points] */
    bool *skip;       /* [n_points] not to be run: finished, or of another shard */
    size_t *trace_of; /* [n_points] */
    unsigned *parts;  /* [n_points] as in struct moe_sweep_inputs */
    size_t n_traces;
    struct moe_sweep_trace *traces;
    struct moe_sweep_files files; /* that points name */
    FILE *journal;
    struct moe_sweep_summary summary;
};

/* The last line of the table's TSV, or its column line. Caller frees. */
enum moe_status moe_sweep_line(const struct moe_table *table, bool header, char **out,
                               struct moe_err *err);

/* Is point i one of this shard's? */
bool moe_sweep_is_ours(const struct moe_sweep *sweep, size_t i);

/* Takes over rows of the result and the journal of an earlier run, and begins the journal. */
enum moe_status moe_sweep_resume(struct moe_sweep *sweep, struct moe_err *err);

/* Stores a finished point; takes the row over. Errors: MOE_ERR_IO. */
enum moe_status moe_sweep_store(struct moe_sweep *sweep, size_t i, char *row, struct moe_err *err);

/* Writes the result and removes the journal. */
enum moe_status moe_sweep_write(const struct moe_sweep *sweep, struct moe_err *err);

void moe_sweep_journal_path(const struct moe_sweep *sweep, char *buf, size_t size);

/* A hash of the points' identities, in order: equal if two runs have the same points. */
uint64_t moe_sweep_hash(const uint64_t *ids, size_t n);

/* Does a result file's line "# checksum: HASH" match all its other bytes? True also without such a
 * line. *told: the line's hash (text in the file), or NULL; *got: the hash of the bytes. */
bool moe_sweep_is_whole(const char *text, size_t size, const char **told, uint64_t *got);

#endif
