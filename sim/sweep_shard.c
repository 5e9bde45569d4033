/* Shards of a sweep: reading their names, and merging their results. */
#include "base/file.h"
#include "base/tsv.h"
#include "base/units.h"
#include "sim/sweep_rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum moe_status moe_shard_parse(const char *text, struct moe_shard *out, struct moe_err *err)
{
    char part[16];
    uint64_t i, n;
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : 0;
    if (!slash || length >= sizeof part)
        return moe_fail(err, MOE_ERR_USAGE, "shard '%.40s' is not i/n, as 2/4: the second of four",
                        text);
    memcpy(part, text, length);
    part[length] = 0;
    enum moe_status s = moe_parse_u64(slash + 1, 1, MOE_MAX_SHARDS, &n, err);
    if (!s)
        s = moe_parse_u64(part, 1, n, &i, err);
    if (s)
        return moe_fail_prefix(err, "shard '%.40s'", text);
    *out = (struct moe_shard){(uint32_t)i, (uint32_t)n};
    return MOE_OK;
}

/* --- merging -------------------------------------------------------------------------------- */

struct part {
    const char *path; /* NULL: not there */
    struct moe_tsv tsv;
    struct moe_shard shard;
    uint64_t n_points;
};

struct merge {
    struct part *part; /* [parts], by number */
    struct moe_shard of;
    size_t n_points;
};

/* Is the note about the part? All others are about the whole sweep. */
static bool is_own_note(const char *key)
{
    static const char *const own[] = {"shard", "points", "points_hash", "experiment_file",
                                      "checksum"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(key, own[i]) == 0)
            return true;
    return false;
}

static const char *note_of(const struct part *p, const char *key)
{
    const char *value = moe_tsv_note(&p->tsv, key);
    return value ? value : "";
}

/* Adds to the error of a broken file that its shard can be run again. */
static enum moe_status suggest_again(struct moe_err *err)
{
    char why[sizeof err->text];
    snprintf(why, sizeof why, "%s", err->text);
    return moe_fail(err, MOE_ERR_INPUT, "%.400s (or run its shard again)", why);
}

/* Does the file's checksum match its bytes? */
static enum moe_status check_bytes(const struct part *p, struct moe_err *err)
{
    char *text;
    size_t size;
    const char *told;
    uint64_t got;
    enum moe_status s = moe_file_read(p->path, MOE_SWEEP_MAX_BYTES, &text, &size, err);
    if (s)
        return s;
    const bool whole = moe_sweep_is_whole(text, size, &told, &got);
    if (!told)
        s = moe_fail(err, MOE_ERR_INPUT,
                     "'%.200s' has no line '# checksum: HASH': run shard %s again", p->path,
                     note_of(p, "shard"));
    else if (!whole)
        s = moe_fail(err, MOE_ERR_INPUT,
                     "'%.200s': its rows are not those that were written (checksum %.16s, now "
                     "%016" PRIx64 "): run shard %s again",
                     p->path, note_of(p, "checksum"), got, note_of(p, "shard"));
    free(text);
    return s;
}

static enum moe_status read_part(const char *path, struct part *p, struct moe_err *err)
{
    p->path = path;
    enum moe_status s = moe_tsv_load(path, MOE_SWEEP_MAX_BYTES, &p->tsv, err);
    if (s)
        return s == MOE_ERR_INPUT ? suggest_again(err) : s;
    if (!moe_tsv_note(&p->tsv, "shard"))
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%.200s' is not a shard: it has no line '# shard: i/n', as 'moelab sweep "
                        "EXPERIMENT.yaml --shard i/n' writes it",
                        path);
    if (moe_shard_parse(note_of(p, "shard"), &p->shard, err) ||
        moe_parse_u64(note_of(p, "points"), 1, MOE_MAX_POINTS, &p->n_points, err)) {
        err->status = MOE_ERR_INPUT;
        return moe_fail_prefix(err, "'%.200s'", path);
    }
    const size_t want = (size_t)((p->n_points + p->shard.parts - p->shard.part) / p->shard.parts);
    if (p->tsv.n_rows != want)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%.200s' has %zu rows, but shard %s of %" PRIu64
                        " points has %zu: run its shard again",
                        path, p->tsv.n_rows, note_of(p, "shard"), p->n_points, want);
    return check_bytes(p, err);
}

static enum moe_status differ(const struct part *a, const struct part *b, const char *what,
                              struct moe_err *err)
{
    return moe_fail(err, MOE_ERR_INPUT,
                    "'%.120s' and '%.120s' are not from the same sweep, their %.60s differs: run "
                    "the shards again with the same experiment, traces and program",
                    a->path, b->path, what);
}

/* The next of the sweep's notes, or n_notes. */
static size_t next_note(const struct part *p, size_t i)
{
    while (i < p->tsv.n_notes && is_own_note(p->tsv.notes[i].key))
        i++;
    return i;
}

static enum moe_status compare_notes(const struct part *a, const struct part *b,
                                     struct moe_err *err)
{
    size_t i = next_note(a, 0), j = next_note(b, 0);
    for (; i < a->tsv.n_notes && j < b->tsv.n_notes;
         i = next_note(a, i + 1), j = next_note(b, j + 1))
        if (strcmp(a->tsv.notes[i].key, b->tsv.notes[j].key) != 0 ||
            strcmp(a->tsv.notes[i].value, b->tsv.notes[j].value) != 0)
            return differ(a, b, a->tsv.notes[i].key, err);
    return i < a->tsv.n_notes || j < b->tsv.n_notes ? differ(a, b, "provenance", err) : MOE_OK;
}

static enum moe_status compare_parts(const struct part *a, const struct part *b,
                                     struct moe_err *err)
{
    if (a->shard.parts != b->shard.parts)
        return differ(a, b, "number of shards", err);
    enum moe_status s = compare_notes(a, b, err);
    if (s)
        return s;
    if (a->n_points != b->n_points ||
        strcmp(note_of(a, "points_hash"), note_of(b, "points_hash")) != 0)
        return differ(a, b, "points (axes, traces, models or platforms)", err);
    if (a->tsv.n_columns != b->tsv.n_columns)
        return differ(a, b, "columns", err);
    for (size_t c = 0; c < a->tsv.n_columns; c++)
        if (strcmp(a->tsv.columns[c], b->tsv.columns[c]) != 0)
            return differ(a, b, a->tsv.columns[c], err);
    return MOE_OK;
}

static enum moe_status compare_rows(const struct part *a, const struct part *b, struct moe_err *err)
{
    for (size_t i = 0; i < a->tsv.n_rows * a->tsv.n_columns; i++)
        if (strcmp(a->tsv.cells[i], b->tsv.cells[i]) != 0)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%.120s' and '%.120s' are both shard %s, but differ in row %zu: run "
                            "it again, or leave one out",
                            a->path, b->path, note_of(a, "shard"), i / a->tsv.n_columns + 1);
    return MOE_OK;
}

/* Takes over `p`, or releases it where the same part is there already. */
static enum moe_status add_part(struct merge *m, struct part *p, struct moe_err *err)
{
    if (!m->part) {
        m->of = p->shard;
        m->n_points = (size_t)p->n_points;
        m->part = calloc(m->of.parts, sizeof *m->part);
        if (!m->part)
            return moe_fail_memory(err, "shards");
        m->part[p->shard.part - 1] = *p;
        *p = (struct part){0};
        return MOE_OK;
    }
    const struct part *first = &m->part[m->of.part - 1];
    enum moe_status s = compare_parts(first, p, err);
    if (s)
        return s;
    struct part *there = &m->part[p->shard.part - 1];
    if (there->path)
        return compare_rows(there, p, err);
    *there = *p;
    *p = (struct part){0};
    return MOE_OK;
}

enum { MOST_RANGES = 8, RANGES_SIZE = MOST_RANGES * 16 };

/* "1,3-5": the shards that are missing, as Slurm's --array takes them; returns how many. */
static size_t list_missing(const struct merge *m, char list[RANGES_SIZE])
{
    size_t missing = 0, ranges = 0, used = 0;
    for (size_t i = 0, end; i < m->of.parts; i = end + 1) {
        for (end = i; end < m->of.parts && !m->part[end].path;)
            end++;
        missing += end - i;
        if (end == i || ++ranges > MOST_RANGES)
            continue;
        char last[16] = "";
        if (end - i > 1)
            snprintf(last, sizeof last, "-%" PRIu32, (uint32_t)end);
        used += (size_t)snprintf(list + used, RANGES_SIZE - used, "%s%" PRIu32 "%s",
                                 used ? "," : "", (uint32_t)i + 1, last);
    }
    if (ranges > MOST_RANGES)
        snprintf(list + used, RANGES_SIZE - used, ",...");
    return missing;
}

static enum moe_status check_all_there(const struct merge *m, struct moe_err *err)
{
    char list[RANGES_SIZE];
    const size_t missing = list_missing(m, list);
    if (!missing)
        return MOE_OK;
    return moe_fail(
        err, MOE_ERR_INPUT,
        "%zu of %" PRIu32 " shards missing (%s): run 'moelab sweep %.200s --shard "
        "%.*s/%" PRIu32 "'%s",
        missing, m->of.parts, list, note_of(&m->part[m->of.part - 1], "experiment_file"),
        (int)strspn(list, "0123456789"), list, m->of.parts, missing > 1 ? " first" : "");
}

/* Row i of the whole sweep. */
static const char *const *row_of(const struct merge *m, size_t i)
{
    const struct part *p = &m->part[i % m->of.parts];
    return (const char *const *)p->tsv.cells + i / m->of.parts * p->tsv.n_columns;
}

/* Are the rows' points, in order, those whose hash every shard has? */
static enum moe_status check_points(const struct merge *m, struct moe_err *err)
{
    const struct part *first = &m->part[m->of.part - 1];
    uint64_t hash = MOE_HASH_SEED;
    char text[24];
    for (size_t i = 0; i < m->n_points; i++) {
        uint64_t id = strtoull(row_of(m, i)[0], NULL, 16);
        hash = moe_hash_bytes(hash, &id, sizeof id);
    }
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    if (strcmp(first->tsv.columns[0], "point") == 0 &&
        strcmp(text, note_of(first, "points_hash")) == 0)
        return MOE_OK;
    return moe_fail(
        err, MOE_ERR_INPUT,
        "the rows of '%.120s' and the other %" PRIu32
        " shards are not the points of that sweep: some file was changed; run the shards again",
        first->path, m->of.parts - 1);
}

static void write_rows(const struct merge *m, FILE *out)
{
    const struct moe_tsv *first = &m->part[m->of.part - 1].tsv;
    for (size_t i = 0; i < first->n_notes; i++)
        if (!is_own_note(first->notes[i].key))
            fprintf(out, "# %s: %s\n", first->notes[i].key, first->notes[i].value);
    for (size_t c = 0; c < first->n_columns; c++)
        fprintf(out, "%s%s", c ? "\t" : "", first->columns[c]);
    fputc('\n', out);
    for (size_t i = 0; i < m->n_points; i++) {
        const char *const *row = row_of(m, i);
        for (size_t c = 0; c < first->n_columns; c++)
            fprintf(out, "%s%s", c ? "\t" : "", row[c]);
        fputc('\n', out);
    }
}

enum moe_status moe_sweep_merge(const char *const *paths, size_t n, const char *output,
                                size_t *n_points, struct moe_err *err)
{
    struct merge m = {0};
    enum moe_status s = n ? MOE_OK : moe_fail(err, MOE_ERR_USAGE, "no shards to merge");
    for (size_t i = 0; !s && i < n; i++) {
        struct part p = {0};
        s = read_part(paths[i], &p, err);
        if (!s)
            s = add_part(&m, &p, err);
        moe_tsv_release(&p.tsv);
    }
    if (!s)
        s = check_all_there(&m, err);
    if (!s)
        s = check_points(&m, err);
    struct moe_output out;
    if (!s)
        s = moe_output_create(&out, output, err);
    if (!s) {
        write_rows(&m, out.stream);
        s = moe_output_commit(&out, err);
    }
    for (size_t i = 0; m.part && i < m.of.parts; i++)
        moe_tsv_release(&m.part[i].tsv);
    free(m.part);
    if (!s)
        *n_points = m.n_points;
    return s;
}
