/* SentencePiece in plain C: one loaded model, pieces by id, text to ids. No exception leaves it.
 * Everything but load and free may run in several threads at once. */
#ifndef MOELAB_EXEC_SENTENCEPIECE_H
#define MOELAB_EXEC_SENTENCEPIECE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct moe_spm; /* opaque */

enum moe_spm_kind {
    MOE_SPM_TEXT,
    MOE_SPM_UNKNOWN,
    MOE_SPM_CONTROL,
    MOE_SPM_UNUSED,
    MOE_SPM_BYTE, /* "<0x0A>": one byte of a character that has no piece */
};

/* A model from the bytes of a tokenizer.model; size at most INT32_MAX. Errors: MOE_ERR_INPUT (not a
 * model), MOE_ERR_UNSUPPORTED (a normaliser with a table), MOE_ERR_MEMORY. */
enum moe_status moe_spm_load(struct moe_spm **out, const char *data, size_t size,
                             struct moe_err *err);
void moe_spm_free(struct moe_spm *spm); /* NULL: nothing */

int32_t moe_spm_size(const struct moe_spm *spm); /* number of pieces, >= 1 */

/* The piece of an id in [0, size): *n bytes (blanks as U+2581), owned by the model. */
const char *moe_spm_piece(const struct moe_spm *spm, int32_t id, size_t *n);
enum moe_spm_kind moe_spm_kind(const struct moe_spm *spm, int32_t id);

/* The id of a piece by its n bytes; -1: no such piece. */
int32_t moe_spm_id(const struct moe_spm *spm, const char *piece, size_t n);

/* Ids of n bytes of UTF-8 text; the model's own dummy prefix and normaliser apply. *ids: heap,
 * caller frees; *n_ids may be 0. Errors: MOE_ERR_INPUT, MOE_ERR_MEMORY. */
enum moe_status moe_spm_encode(const struct moe_spm *spm, const char *text, size_t n, int32_t **ids,
                               size_t *n_ids, struct moe_err *err);

/* The library's own text of n ids in [0, size): *out is heap and NUL-terminated, *n_out its length
 * without the NUL. The reference for moe_detokenizer_next. */
enum moe_status moe_spm_decode(const struct moe_spm *spm, const int32_t *ids, size_t n, char **out,
                               size_t *n_out, struct moe_err *err);

#endif
