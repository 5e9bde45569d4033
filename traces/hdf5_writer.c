/* The writer keeps two files: PATH, complete and closed, and PATH.part, which it works on.
 *
 * A commit closes PATH.part and exchanges the two names in one step. What was PATH, one commit
 * behind, becomes the next PATH.part and first gets from PATH the rows that it lacks. So PATH is
 * whole at every moment, and a commit costs the new rows, not the file. Where there is no such
 * PATH.part (start, resume, no exchange, in use by a reader, too many holes) it is made anew from
 * PATH. */
#include "traces/hdf5.h"
#include "traces/hdf5_schema.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BUFFER_BYTES = 32 << 20, /* of rows in memory before they are written out */
    FIRST_ROWS = 64,
    HOLES_BYTES = 1 << 20, /* of holes are always allowed; in larger files half may be holes */
};

struct place {
    uint64_t tokens, sequences;
};

struct moe_writer {
    char *path, *part;
    struct moe_trace_info info;
    unsigned parts;
    struct moe_h5_file file; /* PATH.part while it is open */
    bool published;          /* PATH is this trace */
    bool has_part;           /* PATH.part is ours */
    struct place lag;        /* rows of PATH.part while it is closed */
    struct place committed;  /* rows of PATH */

    struct place written;     /* rows before the buffer */
    struct moe_tokens buffer; /* n_tokens in use */
    uint64_t capacity, max_rows;
    struct moe_sequence *sequences;
    uint64_t n_sequences, sequences_capacity;

    uint64_t under_way; /* tokens of the sequence not ended yet */
    uint32_t last_step;
    uint8_t last_phase;
    struct moe_err failed; /* the first failure; nothing works after it */
};

static struct place end_of(const struct moe_writer *w)
{
    return (struct place){w->written.tokens + w->buffer.n_tokens,
                          w->written.sequences + w->n_sequences};
}

static void drop_sequences(struct moe_writer *w)
{
    for (uint64_t i = 0; i < w->n_sequences; i++) {
        free(w->sequences[i].label);
        free(w->sequences[i].category);
    }
    w->n_sequences = 0;
}

static void remove_part(struct moe_writer *w)
{
    moe_h5_abandon(&w->file);
    if (w->has_part)
        unlink(w->part);
    w->has_part = false;
}

/* Remembers the failure and takes PATH.part away; what is committed stays. */
static enum moe_status fail_writer(struct moe_writer *w, enum moe_status status,
                                   struct moe_err *err)
{
    moe_fail_prefix(&w->failed, "cannot write '%s'", w->path);
    remove_part(w);
    if (err)
        *err = w->failed;
    return status;
}

/* Tail chunks that grew and moved leave holes, and HDF5 forgets holes when it closes a file. */
static bool has_many_holes(const struct moe_h5_file *f)
{
    hsize_t size = 0, used = HOLES_BYTES / 2;
    for (int i = 0; i < MOE_H5_COLUMNS; i++)
        used += f->column[i] < 0 ? 0 : H5Dget_storage_size(f->column[i]);
    for (int i = 0; i < MOE_H5_LISTS; i++)
        used += H5Dget_storage_size(f->list[i]);
    return H5Fget_filesize(f->file, &size) >= 0 && size > 2 * used;
}

/* Opens the lagging PATH.part if it is worth it; otherwise takes it away. HDF5's locks keep it from
 * being changed under a reader that opened it when it was PATH. */
static void reopen_part(struct moe_writer *w)
{
    struct moe_trace_info info;
    struct place found;
    struct moe_err ignored;
    if (moe_h5_open(w->part, true, &w->file, &info, &found.tokens, &found.sequences, &ignored)) {
        remove_part(w); /* a reader has it open, and keeps it */
        return;
    }
    moe_trace_info_release(&info);
    if (found.tokens != w->lag.tokens || found.sequences != w->lag.sequences ||
        has_many_holes(&w->file))
        remove_part(w);
}

/* Copies the records of sequences [first, end) from PATH to PATH.part. */
static enum moe_status copy_sequences(struct moe_writer *w, struct moe_reader *r, uint64_t first,
                                      uint64_t end)
{
    enum { BATCH = 256 };
    struct moe_sequence batch[BATCH];
    enum moe_status status = MOE_OK;
    for (uint64_t i = first; !status && i < end;) {
        uint64_t n = 0;
        while (!status && n < BATCH && i + n < end)
            if (!(status = moe_reader_sequence(r, i + n, &batch[n], &w->failed)))
                n++;
        if (!status)
            status = moe_h5_append_sequences(&w->file, i, batch, n, &w->failed);
        i += n;
        while (n-- > 0) {
            free(batch[n].label);
            free(batch[n].category);
        }
    }
    return status;
}

/* Appends to PATH.part, which is open and has the rows before `from`, all later rows of PATH. */
static enum moe_status catch_up(struct moe_writer *w, struct place from)
{
    struct moe_reader *r;
    const struct moe_tokens *block;
    enum moe_status status = moe_reader_open(&r, w->path, &w->failed);
    if (status)
        return status;
    moe_h5_seek(r, from.tokens, from.sequences);
    for (;;) {
        if ((status = moe_reader_next(r, w->parts, &block, &w->failed)) || !block)
            break;
        if ((status =
                 moe_h5_append_tokens(&w->file, &w->info, block->first_token, block, &w->failed)))
            break;
    }
    if (!status)
        status = copy_sequences(w, r, from.sequences, w->committed.sequences);
    moe_reader_close(r);
    return status;
}

/* Has someone the file open? HDF5 holds such a lock while it has. */
static bool is_locked(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return locked;
}

/* Gives PATH.part the mode of PATH, if that exists: who could not read PATH must not be able to
 * read what takes its place. */
static enum moe_status keep_mode(struct moe_writer *w)
{
    struct stat st;
    if (stat(w->path, &st) == 0 && chmod(w->part, st.st_mode & 0777) != 0)
        return moe_fail(&w->failed, MOE_ERR_IO, "%s", strerror(errno));
    return MOE_OK;
}

/* Makes sure that PATH.part is open and has all rows of PATH. */
static enum moe_status open_part(struct moe_writer *w)
{
    if (w->file.file >= 0)
        return MOE_OK;
    if (w->has_part)
        reopen_part(w);
    if (!w->has_part) {
        enum moe_status status = moe_h5_create(w->part, &w->info, w->parts, &w->file, &w->failed);
        if (status) { /* a full disk leaves an empty file; one that was there is another's */
            const bool was_there = strcmp(w->failed.text, strerror(EEXIST)) == 0;
            if (!was_there && !is_locked(w->part))
                unlink(w->part);
            return status;
        }
        w->has_part = true;
        w->lag = (struct place){0, 0};
        if ((status = keep_mode(w)))
            return status;
    }
    return w->published ? catch_up(w, w->lag) : MOE_OK;
}

/* Writes the buffer into PATH.part and empties it. */
static enum moe_status flush(struct moe_writer *w)
{
    enum moe_status status = open_part(w);
    if (!status)
        status =
            moe_h5_append_tokens(&w->file, &w->info, w->written.tokens, &w->buffer, &w->failed);
    if (!status)
        status = moe_h5_append_sequences(&w->file, w->written.sequences, w->sequences,
                                         w->n_sequences, &w->failed);
    if (status)
        return status;
    w->written = end_of(w);
    w->buffer.n_tokens = 0;
    drop_sequences(w);
    return MOE_OK;
}

static bool is_link(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

/* The file to write: of a link the one that it points to. The link itself, exchanged with
 * PATH.part, would alternate between the two names, and its file be left as it was. */
static char *behind_link(const char *path)
{
    char *real = is_link(path) ? realpath(path, NULL) : NULL;
    return real ? real : strdup(path);
}

static enum moe_status check_target(const char *path, struct moe_err *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return moe_fail(err, MOE_ERR_IO, "%s",
                        S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    return is_link(path) ? moe_fail(err, MOE_ERR_IO, "is a link to a file that is not there")
                         : MOE_OK;
}

static enum moe_status resume(struct moe_writer *w, struct moe_err *err)
{
    struct moe_h5_file f;
    struct moe_trace_info found;
    enum moe_status status =
        moe_h5_open(w->path, false, &f, &found, &w->committed.tokens, &w->committed.sequences, err);
    if (status)
        return status;
    unsigned parts = moe_h5_parts(&f);
    moe_h5_abandon(&f);
    if (found.n_layers != w->info.n_layers || found.n_experts != w->info.n_experts ||
        found.top_k != w->info.top_k || parts != w->parts || found.synthetic != w->info.synthetic)
        status = moe_fail(err, MOE_ERR_INPUT,
                          "cannot continue '%s': it has %u layers, %u experts, top-k %u, parts "
                          "%#x, synthetic %d; requested are %u, %u, %u, %#x, %d",
                          w->path, found.n_layers, found.n_experts, found.top_k, parts,
                          found.synthetic, w->info.n_layers, w->info.n_experts, w->info.top_k,
                          w->parts, w->info.synthetic);
    moe_trace_info_release(&w->info);
    w->info = found; /* the file keeps its description */
    w->published = !status;
    w->written = w->committed;
    return status;
}

/* Removes the unfinished file of a writer that was killed; that of a running one is an error. */
static enum moe_status clear_part(struct moe_writer *w)
{
    if (is_locked(w->part))
        return moe_fail(&w->failed, MOE_ERR_IO, "another process is writing '%s'", w->part);
    if (unlink(w->part) != 0 && errno != ENOENT)
        return moe_fail(&w->failed, MOE_ERR_IO, "cannot remove '%s': %s", w->part, strerror(errno));
    return MOE_OK;
}

static uint64_t rows_in(const struct moe_trace_info *info, unsigned parts, uint64_t bytes)
{
    uint64_t row = 0;
    for (int i = 0; i < MOE_H5_COLUMNS; i++)
        if ((moe_h5_columns[i].part & parts) == moe_h5_columns[i].part)
            row += moe_h5_row(&moe_h5_columns[i], info) * moe_h5_size(moe_h5_columns[i].kind);
    return bytes / row ? bytes / row : 1;
}

static enum moe_status check_info(const struct moe_trace_info *info, struct moe_err *err)
{
    if (info->n_layers < 1 || info->n_experts < 1 || info->top_k < 1 ||
        info->top_k > info->n_experts)
        return moe_fail(err, MOE_ERR_INPUT,
                        "a trace of %u layers, %u experts and top-k %u is not possible",
                        info->n_layers, info->n_experts, info->top_k);
    if (info->header && strlen(info->header) > MOE_HEADER_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "header of %zu bytes exceeds %d", strlen(info->header),
                        MOE_HEADER_MAX);
    return MOE_OK;
}

static struct moe_writer *new_writer(const char *path)
{
    struct moe_writer *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->file = (struct moe_h5_file)MOE_H5_FILE_NONE;
    w->path = behind_link(path);
    size_t n = (w->path ? strlen(w->path) : 0) + sizeof ".part";
    w->part = malloc(n);
    if (!w->path || !w->part) {
        moe_writer_close(w);
        return NULL;
    }
    snprintf(w->part, n, "%s.part", w->path);
    return w;
}

static enum moe_status start(struct moe_writer *w, const struct moe_trace_info *info,
                             unsigned parts, bool continue_file, struct moe_err *err)
{
    enum moe_status status = check_target(w->path, &w->failed);
    if (!status)
        status = check_info(info, &w->failed);
    if (!status)
        status = moe_trace_info_copy(&w->info, info, &w->failed);
    if (status)
        return fail_writer(w, status, err);
    w->parts = parts;
    w->max_rows = rows_in(info, parts, BUFFER_BYTES);
    if (continue_file && access(w->path, F_OK) == 0 && (status = resume(w, err)))
        return status;
    status = clear_part(w);
    if (!status) /* at once, so that an unwritable place shows before any work is done */
        status = open_part(w);
    return status ? fail_writer(w, status, err) : MOE_OK;
}

enum moe_status moe_writer_open(struct moe_writer **out, const char *path,
                                const struct moe_trace_info *info, unsigned parts, bool resume_file,
                                struct moe_err *err)
{
    if (strcmp(path, "-") == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "a trace cannot go to standard output ('-'), as HDF5 is no stream: name a "
                        "file");
    moe_h5_begin();
    struct moe_writer *w = new_writer(path);
    if (!w)
        return moe_fail_memory(err, "a trace writer");
    enum moe_status status = start(w, info, parts, resume_file, err);
    if (status)
        moe_writer_close(w);
    else
        *out = w;
    return status;
}

uint64_t moe_writer_n_sequences(const struct moe_writer *writer)
{
    return writer->committed.sequences;
}

static enum moe_status grow_buffer(struct moe_writer *w, uint64_t capacity)
{
    struct moe_tokens bigger;
    enum moe_status status = moe_tokens_init(&bigger, &w->info, capacity, w->parts, &w->failed);
    if (status)
        return status;
    for (int i = 0; w->capacity > 0 && i < MOE_H5_COLUMNS; i++) {
        const struct moe_h5_column *c = &moe_h5_columns[i];
        if (moe_h5_array(c, &bigger))
            memcpy(moe_h5_array(c, &bigger), moe_h5_array(c, &w->buffer),
                   w->buffer.n_tokens * moe_h5_row(c, &w->info) * moe_h5_size(c->kind));
    }
    bigger.n_tokens = w->buffer.n_tokens;
    moe_tokens_release(&w->buffer);
    w->buffer = bigger;
    w->capacity = capacity;
    return MOE_OK;
}

/* Room for at least one more row; *n is cut to what fits. The buffer is always filled before it is
 * written out, so that the file does not depend on how the rows came. */
static enum moe_status make_room(struct moe_writer *w, uint64_t *n)
{
    if (w->buffer.n_tokens == w->max_rows) {
        enum moe_status status = flush(w);
        if (status)
            return status;
    }
    if (*n > w->max_rows - w->buffer.n_tokens)
        *n = w->max_rows - w->buffer.n_tokens;
    uint64_t need = w->buffer.n_tokens + *n, capacity = w->capacity ? w->capacity : FIRST_ROWS;
    while (capacity < need)
        capacity *= 2;
    if (capacity > w->max_rows)
        capacity = w->max_rows;
    return capacity > w->capacity ? grow_buffer(w, capacity) : MOE_OK;
}

static void take_rows(struct moe_writer *w, const struct moe_tokens *from, uint64_t at, uint64_t n)
{
    for (int i = 0; i < MOE_H5_COLUMNS; i++) {
        const struct moe_h5_column *c = &moe_h5_columns[i];
        if ((c->part & w->parts) == c->part)
            memcpy(moe_h5_at(c, &w->info, &w->buffer, w->buffer.n_tokens),
                   moe_h5_at(c, &w->info, from, at),
                   n * moe_h5_row(c, &w->info) * moe_h5_size(c->kind));
    }
    w->buffer.n_tokens += n;
}

/* Tokens must keep the format, also across the calls that append to one sequence. */
static enum moe_status check_append(struct moe_writer *w, const struct moe_tokens *tokens)
{
    struct moe_tokens x = *tokens;
    x.sequence = NULL;
    x.first_token = end_of(w).tokens;
    if ((moe_tokens_parts(tokens) & w->parts) != w->parts)
        return moe_fail(&w->failed, MOE_ERR_INPUT,
                        "tokens have the parts %#x, the trace was opened with %#x",
                        moe_tokens_parts(tokens), w->parts);
    if (w->under_way > 0 && x.step[0] < w->last_step)
        return moe_fail(&w->failed, MOE_ERR_INPUT, "token %" PRIu64 ": step %u follows step %u",
                        x.first_token, x.step[0], w->last_step);
    if (w->under_way > 0 && x.step[0] == w->last_step && x.phase[0] != w->last_phase)
        return moe_fail(&w->failed, MOE_ERR_INPUT,
                        "token %" PRIu64 ": phase %u differs from phase %u of its step %u",
                        x.first_token, x.phase[0], w->last_phase, x.step[0]);
    return moe_tokens_check(&x, &w->info, &w->failed);
}

enum moe_status moe_writer_append(struct moe_writer *writer, const struct moe_tokens *tokens,
                                  struct moe_err *err)
{
    struct moe_writer *w = writer;
    uint64_t n = tokens->n_tokens;
    if (w->failed.status) {
        if (err)
            *err = w->failed;
        return w->failed.status;
    }
    if (n == 0)
        return MOE_OK;
    enum moe_status status = check_append(w, tokens);
    for (uint64_t at = 0; !status && at < n;) {
        uint64_t slice = n - at;
        if (!(status = make_room(w, &slice)))
            take_rows(w, tokens, at, slice);
        at += slice;
    }
    if (status)
        return fail_writer(w, status, err);
    w->under_way += n;
    w->last_step = tokens->step[n - 1];
    w->last_phase = tokens->phase[n - 1];
    return MOE_OK;
}

static enum moe_status add_sequence(struct moe_writer *w, const struct moe_sequence *seq)
{
    if (w->n_sequences == w->sequences_capacity) {
        uint64_t more = w->sequences_capacity ? 2 * w->sequences_capacity : 16;
        struct moe_sequence *p = realloc(w->sequences, more * sizeof *p);
        if (!p)
            return moe_fail_memory(&w->failed, "sequences");
        w->sequences = p;
        w->sequences_capacity = more;
    }
    struct moe_sequence s = {w->under_way, seq->text_hash, NULL, NULL};
    const char *const texts[] = {seq->label ? seq->label : "", seq->category ? seq->category : ""};
    for (int i = 0; i < 2; i++)
        if (strlen(texts[i]) > MOE_H5_LABEL_MAX)
            return moe_fail(&w->failed, MOE_ERR_INPUT,
                            "sequence %" PRIu64 ": %s of %zu bytes exceeds %d", end_of(w).sequences,
                            i ? "category" : "label", strlen(texts[i]), MOE_H5_LABEL_MAX);
    s.label = strdup(texts[0]);
    s.category = strdup(texts[1]);
    if (!s.label || !s.category) {
        free(s.label);
        free(s.category);
        return moe_fail_memory(&w->failed, "a label");
    }
    w->sequences[w->n_sequences++] = s;
    return MOE_OK;
}

enum moe_status moe_writer_end_sequence(struct moe_writer *writer, const struct moe_sequence *seq,
                                        struct moe_err *err)
{
    struct moe_writer *w = writer;
    if (w->failed.status) {
        if (err)
            *err = w->failed;
        return w->failed.status;
    }
    enum moe_status status = add_sequence(w, seq);
    if (status)
        return fail_writer(w, status, err);
    w->under_way = 0;
    return MOE_OK;
}

static enum moe_status sync_path(const char *path, int flags, struct moe_err *err)
{
    int fd = open(path, flags | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int cause = errno;
    if (fd >= 0)
        close(fd);
    return ok ? MOE_OK : moe_fail(err, MOE_ERR_IO, "%s", strerror(cause));
}

/* Gives PATH.part the name PATH; afterwards PATH.part is the version before, or nothing. */
static enum moe_status exchange(struct moe_writer *w)
{
    bool exchanged =
        w->published && renameat2(AT_FDCWD, w->part, AT_FDCWD, w->path, RENAME_EXCHANGE) == 0;
    if (!exchanged && rename(w->part, w->path) != 0) /* not every file system can exchange */
        return moe_fail(&w->failed, MOE_ERR_IO, "%s", strerror(errno));
    w->has_part = exchanged;
    w->lag = w->committed;
    w->committed = w->written;
    w->published = true;
    return MOE_OK;
}

static enum moe_status publish(struct moe_writer *w)
{
    const char *slash = strrchr(w->path, '/');
    char *folder = slash ? strndup(w->path, (size_t)(slash - w->path) + 1) : strdup(".");
    enum moe_status status = folder ? exchange(w) : moe_fail_memory(&w->failed, "a path");
    if (!status)
        status = sync_path(folder, O_RDONLY | O_DIRECTORY, &w->failed);
    free(folder);
    return status;
}

enum moe_status moe_writer_commit(struct moe_writer *writer, struct moe_err *err)
{
    struct moe_writer *w = writer;
    if (w->failed.status) {
        if (err)
            *err = w->failed;
        return w->failed.status;
    }
    if (w->under_way > 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%s': commit inside a sequence (%" PRIu64 " tokens of it)", w->path,
                        w->under_way);
    if (w->published && end_of(w).sequences == w->committed.sequences)
        return MOE_OK;
    enum moe_status status = flush(w);
    if (!status)
        status = moe_h5_close(&w->file, &w->failed);
    if (!status)
        status = sync_path(w->part, O_RDONLY, &w->failed);
    if (!status)
        status = publish(w);
    return status ? fail_writer(w, status, err) : MOE_OK;
}

void moe_writer_close(struct moe_writer *writer)
{
    if (!writer)
        return;
    struct moe_writer *w = writer;
    remove_part(w);
    drop_sequences(w);
    free(w->sequences);
    moe_tokens_release(&w->buffer);
    moe_trace_info_release(&w->info);
    free(w->path);
    free(w->part);
    free(w);
}
