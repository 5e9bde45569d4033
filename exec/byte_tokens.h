/* Added tokens and the beginning of a text of a byte-level tokenizer, as transformers 4.57 has them
 * for its fast tokenizers: the tokens of tokenizer.json, with the flags that "added_tokens_decoder"
 * in tokenizer_config.json gives them, and those named by bos_token, eos_token and the like, which
 * are special in any case. A named token without an id in tokenizer.json is ignored (transformers
 * would invent one). */
#ifndef MOELAB_EXEC_BYTE_TOKENS_H
#define MOELAB_EXEC_BYTE_TOKENS_H

#include "exec/byte_pieces.h"
#include "exec/tokenizer_config.h"

/* The parsed files; all but fast may be NULL. */
struct moe_byte_files {
    const json_t *fast;   /* tokenizer.json */
    const json_t *config; /* tokenizer_config.json */
    const json_t *map;    /* special_tokens_map.json */
};

/* Sets added, bos, adds_bos, bos_text, eos_text and prefix_start (ByteLevel's add_prefix_space) of
 * *out, which moe_tokenizer_config_release releases.
 *
 * BOS comes first where post_processor's template begins with a special token, or, for the
 * tokenizer classes that make a template of their own (GPTNeoX, Llama), where add_bos_token says
 * so. What a template puts at the end of a text is never added: the text is to be continued.
 * Errors: MOE_ERR_INPUT with the file's name (wrong type, an id out of range or of two texts, a
 * token that tokenizer.json lacks), MOE_ERR_UNSUPPORTED (single_word, another post_processor),
 * MOE_ERR_MEMORY. */
enum moe_status moe_byte_tokens_read(const struct moe_byte_files *files,
                                     const struct moe_byte_pieces *pieces,
                                     struct moe_tokenizer_config *out, struct moe_err *err);

#endif
