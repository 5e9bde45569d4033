/* Private to traces/hdf5_*.c: the names and types of schema 1 (format.md), as one table that
 * reader and writer share, and the small wrappers both need around HDF5. */
#ifndef MOELAB_TRACES_HDF5_SCHEMA_H
#define MOELAB_TRACES_HDF5_SCHEMA_H

#include "traces/trace.h"

#include <hdf5.h>

#define MOE_H5_FORMAT "moelab-trace"

enum {
    MOE_H5_VERSION = 1,
    /* Raw bytes of one chunk of routes: small enough that a boundary chunk of every column stays
     * cached, large enough that the index and the calls take little time beside inflating. */
    MOE_H5_CHUNK_BYTES = 512 << 10,
    MOE_H5_CHUNK_TOKENS = 64 << 10, /* of the columns with one value a token */
    MOE_H5_CHUNK_SEQUENCES = 1 << 10,
    /* A chunk is inflated whole, so foreign files may not have them of any size. One row of the
     * largest shape (1024 x 4096 scores) has 16 MiB. */
    MOE_H5_CHUNK_MAX = 32 << 20,
    MOE_H5_DEFLATE = 4,     /* measured, see format.md */
    MOE_H5_LABEL_MAX = 255, /* bytes of a label or category */
};

enum moe_h5_kind { MOE_H5_U8, MOE_H5_U16, MOE_H5_U32, MOE_H5_I32, MOE_H5_U64, MOE_H5_F32 };

enum moe_h5_shape { MOE_H5_T, MOE_H5_TLK, MOE_H5_TLE };

/* One dataset with a row a token, and the member of struct moe_tokens it fills. */
struct moe_h5_column {
    const char *name;
    enum moe_h5_kind kind; /* of the member; expert may be narrower in the file */
    enum moe_h5_shape shape;
    unsigned part; /* enum moe_tokens_part; 0: always there */
    size_t member; /* offset in struct moe_tokens */
};

enum { MOE_H5_COLUMNS = 11, MOE_H5_EXPERT = 4 };
extern const struct moe_h5_column moe_h5_columns[MOE_H5_COLUMNS];

/* One dataset with a row a sequence. */
enum moe_h5_list { MOE_H5_N_TOKENS, MOE_H5_TEXT_HASH, MOE_H5_LABEL, MOE_H5_CATEGORY, MOE_H5_LISTS };
extern const char *const moe_h5_lists[MOE_H5_LISTS];

/* One text attribute of /model or /provenance. */
struct moe_h5_text {
    const char *group, *name;
    size_t member;          /* offset of char[MOE_TEXT_MAX] in struct moe_trace_info */
    const char *if_missing; /* value in a file without it */
};
enum { MOE_H5_TEXTS = 7 };
extern const struct moe_h5_text moe_h5_texts[MOE_H5_TEXTS];

size_t moe_h5_size(enum moe_h5_kind kind);
hid_t moe_h5_memory_type(enum moe_h5_kind kind);
hid_t moe_h5_file_type(enum moe_h5_kind kind);

/* Values a token has in the column. */
uint64_t moe_h5_row(const struct moe_h5_column *column, const struct moe_trace_info *info);

/* The member's array, and its address at row t. */
void *moe_h5_array(const struct moe_h5_column *column, const struct moe_tokens *tokens);
void *moe_h5_at(const struct moe_h5_column *column, const struct moe_trace_info *info,
                const struct moe_tokens *tokens, uint64_t t);

/* Silences HDF5's own printing and its clean-up at exit; called by every entry point. */
void moe_h5_begin(void);

/* Fails with the cause that HDF5 noted for the call that just failed, as short as it can be told.
 * Must come before any other HDF5 function, as those forget the cause. */
enum moe_status moe_h5_fail(struct moe_err *err, enum moe_status status);

/* Strings have a fixed length in the file. HDF5 keeps those of variable length in a heap without
 * checksums, and 1.10.8 reads past its buffers when that heap is damaged. */
hid_t moe_h5_string_type(size_t size);

/* True for a string type of fixed length, up to max bytes without the final NUL. */
bool moe_h5_is_text(hid_t type, size_t max);

/* Ends text of a type, read as it stands into size + 1 bytes, at its padding. */
void moe_h5_trim(hid_t type, char *text);

/* An open trace file: all its datasets. Ids are -1 where absent. */
struct moe_h5_file {
    hid_t file;
    hid_t column[MOE_H5_COLUMNS];
    hid_t list[MOE_H5_LISTS];
    bool narrow; /* expert ids are bytes in the file */
};
#define MOE_H5_FILE_NONE                                                                           \
    {                                                                                              \
        .file = -1, .column = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .list = {              \
            -1,                                                                                    \
            -1,                                                                                    \
            -1,                                                                                    \
            -1                                                                                     \
        }                                                                                          \
    }

/* Closes everything; fails (MOE_ERR_IO) when data could not be written out. */
enum moe_status moe_h5_close(struct moe_h5_file *f, struct moe_err *err);

/* Closes everything, whatever the errors: of a file that was only read, or could not be written. */
void moe_h5_abandon(struct moe_h5_file *f);

/* Rows [first, first + n) of a dataset whose further extents are taken whole, from or to memory of
 * the given type. Fails with MOE_ERR_INPUT (read) or MOE_ERR_IO (write) and the cause. */
enum moe_status moe_h5_read_rows(hid_t dataset, hid_t type, uint64_t first, uint64_t n, void *to,
                                 struct moe_err *err);
enum moe_status moe_h5_write_rows(hid_t dataset, hid_t type, uint64_t first, uint64_t n,
                                  const void *from, struct moe_err *err);

/* hdf5_attr.c: the description of a trace, as far as attributes tell it; the datasets of it are
 * hdf5_open.c's, which checks them all. Messages do not name the file. */
enum moe_status moe_h5_read_info(hid_t file, struct moe_trace_info *info, struct moe_err *err);
enum moe_status moe_h5_write_info(hid_t file, const struct moe_trace_info *info,
                                  struct moe_err *err);

/* hdf5_open.c: opens for reading or appending and checks types and extents against each other.
 * Messages name the file. On MOE_OK the caller closes f and releases info. */
enum moe_status moe_h5_open(const char *path, bool writable, struct moe_h5_file *f,
                            struct moe_trace_info *info, uint64_t *n_tokens, uint64_t *n_sequences,
                            struct moe_err *err);
unsigned moe_h5_parts(const struct moe_h5_file *f);

/* hdf5_reader.c: the next block starts at this token, the first of this sequence. */
struct moe_reader;
void moe_h5_seek(struct moe_reader *reader, uint64_t token, uint64_t sequence);

/* hdf5_store.c: an empty file, and appending to one: all tokens become rows [at, at + n_tokens) of
 * the file. Messages are the bare cause. */
enum moe_status moe_h5_create(const char *path, const struct moe_trace_info *info, unsigned parts,
                              struct moe_h5_file *f, struct moe_err *err);
enum moe_status moe_h5_append_tokens(struct moe_h5_file *f, const struct moe_trace_info *info,
                                     uint64_t at, const struct moe_tokens *tokens,
                                     struct moe_err *err);
enum moe_status moe_h5_append_sequences(struct moe_h5_file *f, uint64_t at,
                                        const struct moe_sequence *sequences, uint64_t n,
                                        struct moe_err *err);

#endif
