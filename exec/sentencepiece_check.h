/* Checks of a model file that SentencePiece 0.1.97 does not make itself; called by moe_spm_load. */
#ifndef MOELAB_EXEC_SENTENCEPIECE_CHECK_H
#define MOELAB_EXEC_SENTENCEPIECE_CHECK_H

#include "base/error.h"

#include <stddef.h>

/* Errors: MOE_ERR_INPUT (not the framing of a protobuf message), MOE_ERR_UNSUPPORTED (a normaliser
 * with a table of characters, which the library reads outside its bounds if the file is wrong;
 * models whose rule is "identity", as those of Llama, Mixtral and Phi, have none). */
enum moe_status moe_spm_check(const char *data, size_t size, struct moe_err *err);

#endif
