/* Pieces and merges of a byte-level BPE tokenizer: "model" in tokenizer.json of GPT-2, OLMoE, Qwen
 * and Llama 3. Such a file writes each of the 256 bytes as one printable character (the byte
 * alphabet): '!' to '~', U+00A1 to U+00AC and U+00AE to U+00FF stand for themselves, the other 68
 * bytes, in order, are U+0100 to U+0143. Sources: encoder.py of GPT-2 (the alphabet); models/bpe of
 * Hugging Face tokenizers 0.22 (which merge comes next, ignore_merges). */
#ifndef MOELAB_EXEC_BYTE_PIECES_H
#define MOELAB_EXEC_BYTE_PIECES_H

#include "base/error.h"
#include "exec/id_list.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MOE_BYTE_PIECE_MAX = 640,     /* bytes of a piece or added token */
    MOE_BYTE_IDS_ABOVE = 1 << 17, /* ids may have holes: the largest is below pieces + this */
    MOE_BYTE_WORD_MAX = 1u << 28, /* bytes of a word, so that its symbols can be counted */
};

struct moe_byte_pieces; /* immutable; may be used by several threads */

/* root: a whole tokenizer.json, not kept. Both spellings of merges are read, "a b" and ["a", "b"].
 * Every byte that valid UTF-8 may have must be a piece, as it would be lost without. A piece with
 * other characters than those of the byte alphabet must be an added token. Errors: MOE_ERR_INPUT
 * (an id twice or out of range, a merge of what are no pieces, a merge twice), MOE_ERR_UNSUPPORTED
 * (another kind of model: the key and its value), MOE_ERR_MEMORY. */
enum moe_status moe_byte_pieces_read(struct moe_byte_pieces **out, const json_t *root,
                                     struct moe_err *err);
void moe_byte_pieces_free(struct moe_byte_pieces *pieces);

uint32_t moe_byte_pieces_size(const struct moe_byte_pieces *pieces); /* largest id + 1 */

/* The bytes of a piece; *n is 0 for an id without one. */
const char *moe_byte_pieces_text(const struct moe_byte_pieces *pieces, int32_t id, size_t *n);

/* The bytes that a text of tokenizer.json stands for: those of its characters if all are of the
 * byte alphabet, else the text itself, as the ByteLevel decoder has it. Returns their number, at
 * most strlen(text), which is the room that out needs. */
size_t moe_byte_pieces_spell(const char *text, char *out);

/* Memory of one encoding, so that not every word allocates. Starts as {0}. */
struct moe_byte_work {
    struct moe_byte_symbol *symbol;
    struct moe_byte_merge *queue;
    size_t room, queue_room;
};
void moe_byte_work_release(struct moe_byte_work *work);

/* Appends the ids of one word of n bytes of valid UTF-8: its bytes, of which the neighbours whose
 * merge has the lowest rank are joined first (leftmost first where ranks are equal), until none is
 * left. Takes O(n log n). Errors: MOE_ERR_UNSUPPORTED (longer than MOE_BYTE_WORD_MAX),
 * MOE_ERR_MEMORY. */
enum moe_status moe_byte_pieces_encode(const struct moe_byte_pieces *pieces, const char *word,
                                       size_t n, struct moe_byte_work *work,
                                       struct moe_id_list *list, struct moe_err *err);

#endif
