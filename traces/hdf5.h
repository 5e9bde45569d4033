/* Traces in HDF5 files (schema in format.md). HDF5 itself is named only in hdf5_*.c.
 *
 * Reader: streams blocks of whole forward passes in constant memory, or loads the whole trace.
 * Writer: commits whole sequences; the file under the final name is at every moment a complete,
 * closed HDF5 file with every sequence committed so far, also after kill -9. */
#ifndef MOELAB_TRACES_HDF5_H
#define MOELAB_TRACES_HDF5_H

#include "base/progress.h"
#include "traces/trace.h"

struct moe_reader; /* opaque; not thread-safe */

/* Opens and checks shape, datasets, extents and version against each other before any data is
 * read. Errors: MOE_ERR_IO, MOE_ERR_INPUT ("'x.h5': ..."), MOE_ERR_UNSUPPORTED (schema version). */
enum moe_status moe_reader_open(struct moe_reader **out, const char *path, struct moe_err *err);
void moe_reader_close(struct moe_reader *reader);

const struct moe_trace_info *moe_reader_info(const struct moe_reader *reader);
uint64_t moe_reader_n_tokens(const struct moe_reader *reader);
uint64_t moe_reader_n_sequences(const struct moe_reader *reader);
unsigned moe_reader_parts(const struct moe_reader *reader); /* enum moe_tokens_part bits present */

/* Sequence i's record, strings owned by the caller's struct (free label and category). */
enum moe_status moe_reader_sequence(struct moe_reader *reader, uint64_t i, struct moe_sequence *out,
                                    struct moe_err *err);

/* The next block: whole forward passes, about block_bytes of memory (at least one pass). *out
 * points into the reader and is valid until the next call; *out is NULL at the end. Only the parts
 * in `want` are read, and always requests: several of them must never be taken for one. Every block
 * has passed moe_tokens_check. */
enum moe_status moe_reader_next(struct moe_reader *reader, unsigned want,
                                const struct moe_tokens **out, struct moe_err *err);
enum moe_status moe_reader_rewind(struct moe_reader *reader, struct moe_err *err);

/* Whole trace with the parts in `want` (those present), and requests. Release with
 * moe_trace_release. */
enum moe_status moe_trace_load(const char *path, unsigned want, struct moe_trace *out,
                               struct moe_err *err);

struct moe_writer; /* opaque */

/* Starts a new trace at path. `parts` says which optional arrays the tokens will have. With resume
 * an existing file of the same shape and parts is continued after its last committed sequence;
 * without it an existing file is replaced at the first commit. Where path is a symbolic link, the
 * file that it points to is written; a dangling link is refused. Path "-" is refused:
 * MOE_ERR_USAGE. */
enum moe_status moe_writer_open(struct moe_writer **out, const char *path,
                                const struct moe_trace_info *info, unsigned parts, bool resume,
                                struct moe_err *err);

/* Sequences already in the file (resume). */
uint64_t moe_writer_n_sequences(const struct moe_writer *writer);

/* Appends tokens to the sequence under way (tokens->sequence is ignored). */
enum moe_status moe_writer_append(struct moe_writer *writer, const struct moe_tokens *tokens,
                                  struct moe_err *err);

/* Ends the sequence under way: label, category (up to 255 bytes each), text_hash from seq (n_tokens
 * is counted). */
enum moe_status moe_writer_end_sequence(struct moe_writer *writer, const struct moe_sequence *seq,
                                        struct moe_err *err);

/* Makes everything ended so far durable under the final name. Inside a sequence: MOE_ERR_USAGE,
 * and nothing changes. After any other failure of a writer's function PATH.part is gone and every
 * further call gives the same error; what was committed stays. */
enum moe_status moe_writer_commit(struct moe_writer *writer, struct moe_err *err);

/* Frees the writer; what was not committed is dropped and leaves no file behind. */
void moe_writer_close(struct moe_writer *writer);

/* Writes a whole trace: open, append, commit, close. progress (may be NULL) is told the tokens
 * written; MOE_ERR_INTERRUPTED, and no file, when the user wants to stop. */
enum moe_status moe_trace_save_watched(const char *path, const struct moe_trace *trace,
                                       struct moe_progress *progress, struct moe_err *err);

/* The same, unwatched. */
enum moe_status moe_trace_save(const char *path, const struct moe_trace *trace,
                               struct moe_err *err);

/* "1.10.8": the HDF5 library in use. */
const char *moe_hdf5_version(void);

#endif
