/* The SentencePiece model that a tokenizer.json was made of, for folders without tokenizer.model
 * (Phi-tiny-MoE's). Only what is surely the same is taken: BPE with byte fallback on text whose
 * spaces are U+2581, merges that list every way to put each piece together, best piece first.
 * Source: transformers 4.57, convert_slow_tokenizer.py, LlamaConverter (the way there);
 * sentencepiece_model.proto and bpe_model.cc of SentencePiece 0.1.97 (what is read of a model). */
#ifndef MOELAB_EXEC_TOKENIZER_FAST_H
#define MOELAB_EXEC_TOKENIZER_FAST_H

#include "base/error.h"

#include <stddef.h>

/* The bytes of such a tokenizer.model; *model: heap, caller frees. Pieces that are also added
 * tokens become control pieces; scores only have the order of the merges. Errors: MOE_ERR_INPUT
 * (not JSON, ids with holes, a merge of what are no pieces), MOE_ERR_UNSUPPORTED (another kind of
 * tokenizer: the key and its value), MOE_ERR_MEMORY. */
enum moe_status moe_tokenizer_fast_model(const char *json, size_t size, char **model, size_t *n,
                                         struct moe_err *err);

#endif
