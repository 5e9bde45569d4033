/* Reconstructs the SentencePiece model from which a tokenizer.json was made, for folders without
 * tokenizer.model (Phi-tiny-MoE's). Accepts only files for which the result is certain to be the
 * same: BPE with byte fallback on text whose spaces are U+2581, with merges that list every way to
 * put each piece together, best piece first. Source: transformers 4.57, convert_slow_tokenizer.py,
 * LlamaConverter (the way there); sentencepiece_model.proto and bpe_model.cc of SentencePiece
 * 0.1.97 (what is read of a model). */
#ifndef MOELAB_EXEC_TOKENIZER_FAST_H
#define MOELAB_EXEC_TOKENIZER_FAST_H

#include "base/error.h"

#include <jansson.h>
#include <stddef.h>

/* root: the whole file, not kept. The bytes of that tokenizer.model; *model: heap, caller frees.
 * Pieces that are also added tokens become control pieces; scores only reflect the order of the
 * merges. Errors: MOE_ERR_INPUT (ids with holes, a merge of what are no pieces),
 * MOE_ERR_UNSUPPORTED (another kind of tokenizer: the key and its value), MOE_ERR_MEMORY. */
enum moe_status moe_tokenizer_fast_model(const json_t *root, char **model, size_t *n,
                                         struct moe_err *err);

#endif
