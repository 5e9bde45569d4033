/* What the JSON files beside tokenizer.model say. They are read as transformers 4.57 reads them for
 * its LlamaTokenizer: the added tokens are those of "added_tokens_decoder" in tokenizer_config.json
 * or, where that key is missing, of tokenizer.json, added_tokens.json and special_tokens_map.json,
 * plus the tokens named by bos_token, eos_token and the like that are pieces of the model.
 * A named token without an id in any file is ignored (transformers would invent an id).
 *
 * Where the model's dummy prefix (a space) goes is decided by "legacy" in tokenizer_config.json,
 * unless tokenizer.json has a Prepend normalizer or a Metaspace pre-tokenizer: transformers then
 * uses its fast tokenizer, which follows these and not "legacy". */
#ifndef MOELAB_EXEC_TOKENIZER_CONFIG_H
#define MOELAB_EXEC_TOKENIZER_CONFIG_H

#include "base/error.h"
#include "exec/added_tokens.h"
#include "exec/sentencepiece.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { MOE_TOKEN_TEXT_MAX = 2000 }; /* bytes of a piece or added token */

/* The bytes of one file; data NULL: not there. */
struct moe_tokenizer_file {
    const char *data;
    size_t size;
};

struct moe_tokenizer_files {
    struct moe_tokenizer_file model;        /* tokenizer.model */
    struct moe_tokenizer_file config;       /* tokenizer_config.json */
    struct moe_tokenizer_file added_tokens; /* added_tokens.json */
    struct moe_tokenizer_file special_map;  /* special_tokens_map.json */
    struct moe_tokenizer_file fast;         /* tokenizer.json */
};

struct moe_tokenizer_config {
    bool prefix_parts; /* every part of the text gets the model's dummy prefix */
    bool prefix_start; /* otherwise: only the start of the text does */
    bool prefix_once;  /* then: except a text that begins with a space or an added token */
    bool adds_bos;
    int32_t bos;               /* -1: none */
    char *unknown;             /* unk_token */
    char *bos_text, *eos_text; /* bos_token and eos_token, for chat templates; NULL: none */
    struct moe_added_tokens added;
};

/* spm: the model, for the ids of named tokens and the limits of others; may be NULL (no pieces).
 * Errors: MOE_ERR_INPUT with the file's name (not JSON, wrong type, an id out of range, of two
 * texts), MOE_ERR_UNSUPPORTED (single_word), MOE_ERR_MEMORY. */
enum moe_status moe_tokenizer_config_parse(const struct moe_tokenizer_files *files,
                                           const struct moe_spm *spm,
                                           struct moe_tokenizer_config *out, struct moe_err *err);
void moe_tokenizer_config_release(struct moe_tokenizer_config *config);

/* For the readers of such files; name is the file's, for messages. */

/* Reads a flag; if it is absent or null, *value is unchanged. Errors: MOE_ERR_INPUT. */
enum moe_status moe_tokenizer_flag(const char *name, const json_t *object, const char *key,
                                   bool *value, struct moe_err *err);
/* The text of "x" or {"content": "x"}, which belongs to the JSON; NULL for anything else. */
const char *moe_tokenizer_token_text(const json_t *value);
/* {"content": "<|user|>", "rstrip": true, ...}: *token without its length and id; the text belongs
 * to the JSON. Errors: MOE_ERR_INPUT (no text, a flag that is none), MOE_ERR_UNSUPPORTED
 * (single_word). */
enum moe_status moe_tokenizer_token(const char *name, const json_t *value,
                                    struct moe_added_token *token, struct moe_err *err);

#endif
