#include "sim/sweep_rows.h"

#include "base/file.h"
#include "base/progress.h"
#include "base/units.h"
#include "base/version.h"
#include "sim/sources.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum moe_status moe_sweep_line(const struct moe_table *table, bool header, char **out,
                               struct moe_err *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return moe_fail_memory(err, "a result row");
    enum moe_status s = moe_table_write_tsv(table, stream, err);
    if (fclose(stream) != 0 && !s)
        s = moe_fail_memory(err, "a result row");
    if (!s && header)
        text[strcspn(text, "\n")] = 0;
    if (!s && !header)
        text[size - 1] = 0; /* the final newline */
    char *last = s || header ? NULL : strrchr(text, '\n');
    char *line = s ? NULL : strdup(last ? last + 1 : text);
    free(text);
    if (s)
        return s;
    *out = line;
    return line ? MOE_OK : moe_fail_memory(err, "a result row");
}

bool moe_sweep_is_ours(const struct moe_sweep *w, size_t i)
{
    const struct moe_shard shard = w->o->shard;
    return !shard.parts || i % shard.parts == shard.part - 1;
}

uint64_t moe_sweep_hash(const uint64_t *ids, size_t n)
{
    return moe_hash_bytes(MOE_HASH_SEED, ids, n * sizeof *ids);
}

static const char checksum_key[] = "# checksum: ", sources_key[] = "# sources: ";

bool moe_sweep_is_whole(const char *text, size_t size, const char **told, uint64_t *got)
{
    const size_t key = sizeof checksum_key - 1;
    const char *end = text + size;
    char want[24];
    *told = NULL;
    *got = MOE_HASH_SEED;
    for (const char *line = text, *next; line < end; line = next) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        next = newline ? newline + 1 : end;
        if (!*told && (size_t)(next - line) > key && memcmp(line, checksum_key, key) == 0)
            *told = line + key;
        else
            *got = moe_hash_bytes(*got, line, (size_t)(next - line));
    }
    const int length = snprintf(want, sizeof want, "%016" PRIx64 "\n", *got);
    return !*told ||
           ((size_t)(end - *told) >= (size_t)length && memcmp(*told, want, (size_t)length) == 0);
}

/* --- reused -------------------------------------------------------------------------------- */

static size_t count_tabs(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\t';
    return n;
}

struct identity {
    uint64_t id;
    size_t point;
};

static int compare_ids(const void *left, const void *right)
{
    const uint64_t a = ((const struct identity *)left)->id;
    const uint64_t b = ((const struct identity *)right)->id;
    return (a > b) - (a < b);
}

/* The identities of all points in rising order; NULL: out of memory. Caller frees. */
static struct identity *sort_ids(const struct moe_sweep *w)
{
    struct identity *sorted = malloc(w->x->n_points * sizeof *sorted);
    for (size_t i = 0; sorted && i < w->x->n_points; i++)
        sorted[i] = (struct identity){w->ids[i], i};
    if (sorted)
        qsort(sorted, w->x->n_points, sizeof *sorted, compare_ids);
    return sorted;
}

/* Index of the first identity that is not below id, or n. */
static size_t find_id(const struct identity *sorted, size_t n, uint64_t id)
{
    size_t low = 0, high = n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (sorted[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Takes over a finished row: it has the sweep's columns and the identity of a point, or of several.
 * Rows of points that could not run are tried again. */
static enum moe_status reuse_row(struct moe_sweep *w, const struct identity *sorted,
                                 const char *line, struct moe_err *err)
{
    char *end;
    uint64_t id = strtoull(line, &end, 16);
    if (end != line + 16 || strncmp(end, "\tok\t", 4) != 0 ||
        count_tabs(line) != count_tabs(w->header))
        return MOE_OK;
    const size_t n = w->x->n_points;
    for (size_t at = find_id(sorted, n, id); at < n && sorted[at].id == id; at++) {
        const size_t i = sorted[at].point;
        if (w->rows[i] || w->skip[i])
            continue;
        w->rows[i] = strdup(line);
        if (!w->rows[i])
            return moe_fail_memory(err, "a result row");
        w->skip[i] = true;
        w->summary.n_reused++;
    }
    return MOE_OK;
}

/* Is there nothing to read: no file, or a device that the result goes to? */
static bool is_no_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? !S_ISREG(st.st_mode) : errno == ENOENT;
}

/* Takes over rows of an earlier run. A last line without newline was cut by a kill and does not
 * count; a file whose checksum is wrong is ignored. One that cannot be read is an error: ignored,
 * it would be replaced, and its points lost. */
static enum moe_status reuse_file(struct moe_sweep *w, const struct identity *sorted,
                                  const char *path, struct moe_err *err)
{
    char *text;
    size_t size;
    if (is_no_file(path))
        return MOE_OK;
    enum moe_status s = moe_file_read(path, MOE_SWEEP_MAX_BYTES, &text, &size, err);
    if (s)
        return moe_fail_prefix(err, "points of an earlier run");
    const char *told;
    uint64_t got;
    if (!moe_sweep_is_whole(text, size, &told, &got)) {
        free(text);
        return MOE_OK;
    }
    const size_t key = sizeof sources_key - 1;
    const char *sources = "unknown";
    bool same_columns = false;
    for (char *line = text, *newline; !s && (newline = strchr(line, '\n')); line = newline + 1) {
        *newline = 0;
        if (strncmp(line, sources_key, key) == 0)
            sources = line + key;
        if (line[0] == '#')
            continue;
        if (strcmp(sources, moe_sources()) != 0) {
            moe_log("rows of '%s' are not reused: the program that made them has sources %.40s, "
                    "this one %s",
                    path, sources, moe_sources());
            break;
        }
        if (strcmp(line, w->header) == 0)
            same_columns = true;
        else if (same_columns)
            s = reuse_row(w, sorted, line, err);
    }
    free(text);
    return s;
}

void moe_sweep_journal_path(const struct moe_sweep *w, char *buf, size_t size)
{
    snprintf(buf, size, "%s.journal", w->output);
}

/* The journal of an earlier run is replaced in one step: a full disk must not cost its rows. */
static enum moe_status open_journal(struct moe_sweep *w, const char *path, struct moe_err *err)
{
    struct moe_output out;
    enum moe_status s = moe_output_create(&out, path, err);
    if (s)
        return s;
    fprintf(out.stream, "%s%s\n%s\n", sources_key, moe_sources(), w->header);
    for (size_t i = 0; i < w->x->n_points; i++)
        if (w->rows[i])
            fprintf(out.stream, "%s\n", w->rows[i]);
    s = moe_output_commit(&out, err);
    if (s)
        return s;
    w->journal = fopen(path, "a");
    if (!w->journal)
        return moe_fail(err, MOE_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    return MOE_OK;
}

enum moe_status moe_sweep_resume(struct moe_sweep *w, struct moe_err *err)
{
    char path[4200];
    moe_sweep_journal_path(w, path, sizeof path);
    struct identity *sorted = sort_ids(w);
    if (!sorted)
        return moe_fail_memory(err, "a sweep");
    enum moe_status s = reuse_file(w, sorted, w->output, err);
    if (!s)
        s = reuse_file(w, sorted, path, err);
    free(sorted);
    return s ? s : open_journal(w, path, err);
}

/* --- written -------------------------------------------------------------------------------- */

enum moe_status moe_sweep_store(struct moe_sweep *w, size_t i, char *row, struct moe_err *err)
{
    w->rows[i] = row;
    w->summary.n_run++;
    if (fprintf(w->journal, "%s\n", row) < 0 || fflush(w->journal) != 0)
        return moe_fail(err, MOE_ERR_IO, "cannot write '%s.journal': %s", w->output,
                        strerror(errno ? errno : EIO));
    return MOE_OK;
}

static void write_shard_notes(const struct moe_sweep *w, FILE *out)
{
    const struct moe_shard shard = w->o->shard;
    if (!shard.parts)
        return;
    fprintf(out, "# experiment_file: %s\n", w->o->file ? w->o->file : w->x->name);
    fprintf(out, "# shard: %" PRIu32 "/%" PRIu32 "\n# points: %zu\n# points_hash: %016" PRIx64 "\n",
            shard.part, shard.parts, w->x->n_points, moe_sweep_hash(w->ids, w->x->n_points));
}

static void write_head(const struct moe_sweep *w, FILE *out)
{
    fprintf(out, "# program: moelab %s\n%s%s\n# experiment: %s\n", MOELAB_VERSION, sources_key,
            moe_sources(), w->x->name);
    if (*w->x->title)
        fprintf(out, "# title: %s\n", w->x->title);
    for (size_t t = 0; t < w->n_traces; t++) {
        const struct moe_trace_info *info = &w->traces[t].trace.info;
        fprintf(out, "# trace: %s (%s%s, %s)\n", w->traces[t].name,
                info->synthetic ? "SYNTHETIC, " : "", info->model, info->source);
    }
    fprintf(out, "# synthetic: %s\n", w->summary.synthetic ? "yes" : "no");
    fprintf(out, "# lossy: %s\n", w->x->lossy ? "yes" : "no");
    write_shard_notes(w, out);
}

static uint64_t hash_line(uint64_t hash, const char *line)
{
    return moe_hash_bytes(moe_hash_bytes(hash, line, strlen(line)), "\n", 1);
}

/* A shard travels between machines before it is merged: its head ends with a hash of all else. */
static enum moe_status write_checksum(const struct moe_sweep *w, FILE *out, struct moe_err *err)
{
    char *head = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&head, &size);
    if (!stream)
        return moe_fail_memory(err, "a result's head");
    write_head(w, stream);
    if (fclose(stream) != 0) {
        free(head);
        return moe_fail_memory(err, "a result's head");
    }
    uint64_t hash = hash_line(moe_hash_bytes(MOE_HASH_SEED, head, size), w->header);
    for (size_t i = 0; i < w->x->n_points; i++)
        if (w->rows[i])
            hash = hash_line(hash, w->rows[i]);
    free(head);
    fprintf(out, "%s%016" PRIx64 "\n", checksum_key, hash);
    return MOE_OK;
}

enum moe_status moe_sweep_write(const struct moe_sweep *w, struct moe_err *err)
{
    struct moe_output out;
    char path[4200];
    enum moe_status s = moe_output_create(&out, w->output, err);
    if (s)
        return s;
    write_head(w, out.stream);
    if (w->o->shard.parts)
        s = write_checksum(w, out.stream, err);
    if (s) {
        moe_output_abandon(&out);
        return s;
    }
    fprintf(out.stream, "%s\n", w->header);
    for (size_t i = 0; i < w->x->n_points; i++)
        if (w->rows[i])
            fprintf(out.stream, "%s\n", w->rows[i]);
    s = moe_output_commit(&out, err);
    moe_sweep_journal_path(w, path, sizeof path);
    if (!s)
        remove(path);
    return s;
}
