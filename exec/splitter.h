/* What happens to a text before byte-level BPE: "normalizer" and "pre_tokenizer" of tokenizer.json.
 * Known are NFC or no normaliser, and ByteLevel alone (GPT-2's way to cut) or behind one Split by a
 * published pattern (GPT-2's, Qwen2's, which is Qwen3's, and cl100k's, which is Llama 3's). Others
 * are refused by their text: words that are cut differently become other ids.
 *
 * The patterns are those of the files in PCRE2's words, checked against Hugging Face tokenizers
 * 0.22 with every code point: its letters and numbers are Unicode 16's, its NFC is Unicode 9's. */
#ifndef MOELAB_EXEC_SPLITTER_H
#define MOELAB_EXEC_SPLITTER_H

#include "base/error.h"
#include "exec/word_pattern.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct moe_splitter; /* may be used by several threads */

/* root: a whole tokenizer.json, not kept. adds_space: ByteLevel's add_prefix_space as
 * tokenizer_config.json has it, which is what counts where ByteLevel stands alone. Errors:
 * MOE_ERR_UNSUPPORTED (another kind: the key and its value; a library that this build lacks),
 * MOE_ERR_MEMORY. */
enum moe_status moe_splitter_read(struct moe_splitter **out, const json_t *root, bool adds_space,
                                  struct moe_err *err);
void moe_splitter_free(struct moe_splitter *splitter);

/* The text as it is cut: *out is text itself where nothing changes, else heap (the caller frees
 * it). Errors: those of moe_compose. */
enum moe_status moe_splitter_normalize(const struct moe_splitter *splitter, const char *text,
                                       size_t n, char **out, size_t *n_out, struct moe_err *err);

/* Cuts a normalised part of a text, n > 0 bytes between two added tokens. Errors: those of
 * moe_word_pattern_cut. */
enum moe_status moe_splitter_cut(const struct moe_splitter *splitter, const char *text, size_t n,
                                 moe_word_taker *take, void *context, struct moe_err *err);

#endif
