/* The tensors of a model directory: model.safetensors, or else model.safetensors.index.json and its
 * shards (the order of transformers), or else the one *.safetensors there is. Everything stays
 * mapped where it lies; nothing is read before it is used. */
#ifndef MOELAB_EXEC_WEIGHTS_H
#define MOELAB_EXEC_WEIGHTS_H

#include "exec/safetensors.h"

/* A matrix in place: row-major [rows, cols]. */
struct moe_matrix {
    const void *data; /* NULL: absent */
    enum moe_dtype dtype;
    uint32_t rows, cols;
};

uint64_t moe_matrix_bytes(const struct moe_matrix *matrix);

/* Brings the matrix from disk into memory, where it is mapped; does nothing where the system
 * cannot. Only a hint: nothing depends on it. */
void moe_matrix_fetch(const struct moe_matrix *matrix);

/* The pages of a matrix of a mapped file leave the resident set; they come back when they are read.
 * Only a hint. Never for a matrix in memory that no file backs: that would lose it. */
void moe_matrix_drop(const struct moe_matrix *matrix);

#define MOE_WEIGHTS_INDEX "model.safetensors.index.json"

struct moe_weights; /* opaque; once open only the marks of moe_weights_taken change */

/* Errors: those of moe_safetensors_open; MOE_ERR_IO for a missing shard ("'DIR': missing shard
 * 'model-00002-of-00019.safetensors', named in model.safetensors.index.json"); MOE_ERR_INPUT for
 * an index that names a tensor which its shard lacks, or a tensor in two shards. */
enum moe_status moe_weights_open(struct moe_weights **out, const char *dir, struct moe_err *err);
void moe_weights_close(struct moe_weights *weights);

/* The files, each once, in order of name; has an index (MOE_WEIGHTS_INDEX) named them? */
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

/* moe_safetensors_check_finite of all files, and the same of the Q8 and Q4 tensors that were taken.
 * Reads all of them: to explain a failure, not before one. */
enum moe_status moe_weights_check_finite(const struct moe_weights *weights, struct moe_err *err);

/* FNV-1a over the sorted names, types and shapes and, of every tensor, its first and last 4 KiB:
 * tells models apart without reading 90 GB, and does not depend on how they are sharded. Leaves no
 * page of the files resident. */
uint64_t moe_weights_hash(const struct moe_weights *weights);

#endif
