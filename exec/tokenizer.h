/* Text to token ids and back, with the files of a model directory: tokenizer.model (SentencePiece)
 * and, where present, tokenizer_config.json, added_tokens.json, special_tokens_map.json and
 * tokenizer.json. Without tokenizer.model, tokenizer.json is read: as byte-level BPE
 * (exec/tokenizer_bytes.h: the ids of transformers' fast tokenizers), or else the SentencePiece
 * model is made from it (exec/tokenizer_fast.h).
 *
 * With SentencePiece, added tokens are found in the text first (leftmost, then longest, with their
 * lstrip and rstrip); the parts between them are encoded by SentencePiece. By default each part
 * gets the model's dummy prefix (see exec/tokenizer_config.h for exceptions). The ids are those of
 * transformers 4.57: of its slow LlamaTokenizer or, with a tokenizer.json that says otherwise, of
 * its fast one. */
#ifndef MOELAB_EXEC_TOKENIZER_H
#define MOELAB_EXEC_TOKENIZER_H

#include "base/error.h"
#include "exec/tokenizer_config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct moe_tokenizer; /* opaque; encode and decode may run in several threads */

/* Errors: MOE_ERR_IO ("'DIR': no tokenizer.model ..."), MOE_ERR_INPUT (broken file, id out of
 * range, the same id for two tokens), MOE_ERR_UNSUPPORTED. */
enum moe_status moe_tokenizer_open(struct moe_tokenizer **out, const char *dir,
                                   struct moe_err *err);
/* The same from the files' bytes, which need not outlive the call. Only tokenizer.model or,
 * instead, tokenizer.json is required. */
enum moe_status moe_tokenizer_parse(struct moe_tokenizer **out,
                                    const struct moe_tokenizer_files *files, struct moe_err *err);
void moe_tokenizer_free(struct moe_tokenizer *tokenizer);

uint32_t moe_tokenizer_size(const struct moe_tokenizer *tokenizer); /* largest id + 1 */
/* Does a text begin with the BOS token? With SentencePiece: as tokenizer_config.json has it, true
 * if it says nothing. Byte-level BPE: see exec/byte_tokens.h. */
bool moe_tokenizer_adds_bos(const struct moe_tokenizer *tokenizer);
/* bos_token and eos_token as a chat template sees them; NULL: none. */
const char *moe_tokenizer_bos(const struct moe_tokenizer *tokenizer);
const char *moe_tokenizer_eos(const struct moe_tokenizer *tokenizer);

/* Ids of text; bos: put the BOS token first, unless the text begins with it as the text of a chat
 * template may. *ids: heap, caller frees; *n may be 0. Errors: MOE_ERR_INPUT "invalid UTF-8 at byte
 * N", MOE_ERR_USAGE (bos, and there is none), MOE_ERR_MEMORY. NUL bytes are text like any other. */
enum moe_status moe_tokenizer_encode(const struct moe_tokenizer *tokenizer, const char *text,
                                     size_t size, bool bos, int32_t **ids, size_t *n,
                                     struct moe_err *err);

/* Converts ids to text one id at a time, without ever returning an incomplete UTF-8 character. The
 * pieces add up to the text that SentencePiece's own Decode gives for all ids at once or, for
 * byte-level BPE, the `decode` of Hugging Face tokenizers 0.22, whose one U+FFFD for several bytes
 * of an incomplete character is one for each here. (transformers' clean_up_tokenization_spaces,
 * which removes spaces before punctuation, is left out.) */
struct moe_detokenizer {
    const struct moe_tokenizer *tokenizer;
    bool began;         /* the first piece, which loses its dummy space, was written */
    bool show_special;  /* print special added tokens such as <|end|>; control pieces never are */
    uint8_t pending[4]; /* bytes of a character that is not complete yet */
    uint32_t n_pending;
};

void moe_detokenizer_init(struct moe_detokenizer *d, const struct moe_tokenizer *tokenizer,
                          bool continues); /* continues: after a prompt, so a space is kept */
/* Writes the text of id, with the pending character if that is complete now, to buf
 * (NUL-terminated; the text itself may contain NUL) and returns its length. Every invalid byte
 * becomes U+FFFD. Ids out of range give nothing. */
enum { MOE_PIECE_MAX = 2048 };
size_t moe_detokenizer_next(struct moe_detokenizer *d, int32_t id, char buf[MOE_PIECE_MAX]);
/* What is left at the end: U+FFFD for each byte of an incomplete character, or nothing. */
size_t moe_detokenizer_end(struct moe_detokenizer *d, char buf[MOE_PIECE_MAX]);

#endif
