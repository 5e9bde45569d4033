/* The fields of a loaded tokenizer, for exec/tokenizer.c and exec/detokenizer.c only. */
#ifndef MOELAB_EXEC_TOKENIZER_STATE_H
#define MOELAB_EXEC_TOKENIZER_STATE_H

#include "exec/tokenizer.h"
#include "exec/tokenizer_bytes.h"

#define MOE_SPM_BLANK "\xe2\x96\x81" /* U+2581: how pieces write a space */

struct moe_tokenizer {
    struct moe_byte_tokenizer *bytes; /* byte-level BPE, or NULL; then spm is not: */
    struct moe_spm *spm;              /* without dummy prefix where config.prefix_parts is false */
    struct moe_tokenizer_config config;
    bool has_prefix;   /* the first piece of a text begins with a space that is not in the text */
    bool drops_prefix; /* a piece with only that space is dropped in front of a named token */
    size_t n_unknown;  /* without prefix_parts: pieces of the unknown token's text */
    int32_t blank;     /* id of the piece that is one space; -1: none */
    uint32_t n_tokens; /* largest id + 1 */
};

#endif
