/* The tensors of a model directory, from model.safetensors, or else model.safetensors.index.json
 * and its shards (transformers looks in the same order), or else the only *.safetensors there is.
 * The files are mapped; nothing is read before it is used. */
#ifndef MOELAB_EXEC_WEIGHTS_H
#define MOELAB_EXEC_WEIGHTS_H

#include "exec/safetensors.h"

/* A row-major matrix [rows, cols], wherever it lies in memory. */
struct moe_matrix {
    const void *data; /* NULL: absent */
    enum moe_dtype dtype;
    uint32_t rows, cols;
};

uint64_t moe_matrix_bytes(const struct moe_matrix *matrix);

/* Reads a mapped matrix from disk into memory. Only a hint: does nothing if the system cannot. */
void moe_matrix_fetch(const struct moe_matrix *matrix);

/* Drops the pages of a matrix in a mapped file from the resident set; they are read again when
 * used. Only a hint. Not for a matrix in memory without a file: its contents would be lost. */
void moe_matrix_drop(const struct moe_matrix *matrix);

#define MOE_WEIGHTS_INDEX "model.safetensors.index.json"

struct moe_weights; /* opaque; immutable once open, except for the marks of moe_weights_taken */

/* Errors: those of moe_safetensors_open; MOE_ERR_IO for a missing shard ("'DIR': missing shard
 * 'model-00002-of-00019.safetensors', named in model.safetensors.index.json"); MOE_ERR_INPUT for
 * an index that names a tensor which its shard lacks, or a tensor in two shards. */
enum moe_status moe_weights_open(struct moe_weights **out, const char *dir, struct moe_err *err);
void moe_weights_close(struct moe_weights *weights);

/* The files, each once, sorted by name; whether they were named by an index (MOE_WEIGHTS_INDEX). */
size_t moe_weights_n_files(const struct moe_weights *weights);
const struct moe_safetensors *moe_weights_file(const struct moe_weights *weights, size_t i);
bool moe_weights_indexed(const struct moe_weights *weights);

uint64_t moe_weights_n(const struct moe_weights *weights);
const struct moe_tensor *moe_weights_at(const struct moe_weights *weights, uint64_t i);
const struct moe_tensor *moe_weights_find(const struct moe_weights *weights, const char *name);

/* The tensor `name` as a matrix of exactly [rows, cols]. kind: any plain type for a tensor of any
 * plain type; MOE_Q8 or MOE_Q4 for one of dtype U8 and shape [rows, bytes of a row], cols being a
 * multiple of MOE_QUANT_BLOCK. Errors name the tensor, its shape and the one expected, or its type.
 */
enum moe_status moe_weights_matrix(const struct moe_weights *weights, const char *name,
                                   enum moe_dtype kind, uint32_t rows, uint32_t cols,
                                   struct moe_matrix *out, struct moe_err *err);

/* Slice e of the tensor `name` of exactly [n, rows, cols]; kind: as above. */
enum moe_status moe_weights_slice(const struct moe_weights *weights, const char *name,
                                  enum moe_dtype kind, uint32_t n, uint32_t e, uint32_t rows,
                                  uint32_t cols, struct moe_matrix *out, struct moe_err *err);

/* The tensor `name` of exactly [n] as float32, copied into heap memory (*out, caller frees): norms
 * and biases. */
enum moe_status moe_weights_vector(const struct moe_weights *weights, const char *name, uint32_t n,
                                   float **out, struct moe_err *err);

/* Has one of the three calls above given tensor i to the caller? */
bool moe_weights_taken(const struct moe_weights *weights, uint64_t i);

/* moe_safetensors_check_finite for all files, and the same for the Q8 and Q4 tensors that were
 * taken. Reads everything, so it is only called to explain a failure. */
enum moe_status moe_weights_check_finite(const struct moe_weights *weights, struct moe_err *err);

/* FNV-1a over the sorted names, types and shapes, and over the first and last 4 KiB of every
 * tensor: distinguishes models without reading 90 GB, and does not depend on the sharding. Leaves
 * no page of the files resident. */
uint64_t moe_weights_hash(const struct moe_weights *weights);

#endif
