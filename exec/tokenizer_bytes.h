/* A byte-level BPE tokenizer from tokenizer.json: GPT-2's kind, which OLMoE, Qwen and Llama 3 have.
 *
 * As in Hugging Face tokenizers 0.22, a text is cut at the added tokens that are not "normalized";
 * the rest is normalised and cut at those that are; what remains is cut into words
 * (exec/splitter.h), of which each becomes ids (exec/byte_pieces.h). */
#ifndef MOELAB_EXEC_TOKENIZER_BYTES_H
#define MOELAB_EXEC_TOKENIZER_BYTES_H

#include "exec/byte_tokens.h"
#include "exec/id_list.h"

#include <stdbool.h>

struct moe_byte_tokenizer; /* may be used by several threads */

/* Is this tokenizer.json of that kind (rather than one made of a SentencePiece model)? */
bool moe_byte_tokenizer_is(const json_t *root);

/* Reads the files, which are not kept, and what moe_byte_tokens_read says into *config (release
 * it). Errors: those of moe_byte_pieces_read, moe_splitter_read and moe_byte_tokens_read, with the
 * file's name. */
enum moe_status moe_byte_tokenizer_read(struct moe_byte_tokenizer **out,
                                        const struct moe_byte_files *files,
                                        struct moe_tokenizer_config *config, struct moe_err *err);
void moe_byte_tokenizer_free(struct moe_byte_tokenizer *tokenizer);

/* Largest id of a piece + 1; added tokens may have larger ones. */
uint32_t moe_byte_tokenizer_pieces(const struct moe_byte_tokenizer *tokenizer);

/* Appends the ids of n bytes of valid UTF-8. Errors: MOE_ERR_UNSUPPORTED (a limit of the libraries
 * or of moe_byte_pieces_encode), MOE_ERR_MEMORY. */
enum moe_status moe_byte_tokenizer_encode(const struct moe_byte_tokenizer *tokenizer,
                                          const char *text, size_t n, struct moe_id_list *list,
                                          struct moe_err *err);

/* The bytes of a piece; *n is 0 for an id without one. */
const char *moe_byte_tokenizer_piece(const struct moe_byte_tokenizer *tokenizer, int32_t id,
                                     size_t *n);

#endif
