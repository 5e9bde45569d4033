/* Added tokens: found in a text literally, before the rest of it is encoded. */
#ifndef MOELAB_EXEC_ADDED_TOKENS_H
#define MOELAB_EXEC_ADDED_TOKENS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_ADDED_MAX = 1 << 16 }; /* tokens */

struct moe_added_token {
    char *text; /* NUL-terminated, not empty */
    size_t n;   /* bytes */
    int32_t id;
    bool lstrip, rstrip; /* absorbs the white space on that side */
    bool special;        /* not shown to a reader */
    bool normalized;     /* fast tokenizers: found in the normalised text */
    bool named;          /* bos_token, eos_token, ... of the configuration */
    uint32_t rank;       /* order in which they were added; of equal ones the first counts */
};

struct moe_added_tokens {
    struct moe_added_token *token; /* [n], by text once moe_added_finish was called */
    uint32_t *by_id;               /* [n] indexes into token, sorted by id */
    size_t n, room;
};

/* Adds a copy of token. Errors: MOE_ERR_INPUT beyond MOE_ADDED_MAX, MOE_ERR_MEMORY. */
enum moe_status moe_added_push(struct moe_added_tokens *added, const struct moe_added_token *token,
                               struct moe_err *err);

/* Sorts the tokens and removes duplicates. Errors: MOE_ERR_INPUT for an id with two texts or a text
 * with two ids. */
enum moe_status moe_added_finish(struct moe_added_tokens *added, struct moe_err *err);
void moe_added_release(struct moe_added_tokens *added);

/* The longest token at the start of n bytes; NULL: none. */
const struct moe_added_token *moe_added_longest(const struct moe_added_tokens *added,
                                                const char *text, size_t n);
/* The token that is exactly these n bytes, or has this id; NULL: none. */
const struct moe_added_token *moe_added_exact(const struct moe_added_tokens *added,
                                              const char *text, size_t n);
const struct moe_added_token *moe_added_by_id(const struct moe_added_tokens *added, int32_t id);

/* A part of a text: an added token, or what lies between two. */
struct moe_part {
    const char *at;
    size_t n; /* may be 0 */
    const struct moe_added_token *token;
};

/* Cuts valid UTF-8 at its added tokens (leftmost, then longest) and strips white space next to
 * those with lstrip or rstrip. *parts: heap, caller frees; they point into text and added. */
enum moe_status moe_added_split(const struct moe_added_tokens *added, const char *text, size_t n,
                                struct moe_part **parts, size_t *n_parts, struct moe_err *err);

/* The same as fast tokenizers do it (find_matches of Hugging Face tokenizers 0.22): white space
 * next to a token becomes part of it, and only what remains of the text is cut further. Parts
 * without a token are not empty. n may be 0. */
enum moe_status moe_added_match(const struct moe_added_tokens *added, const char *text, size_t n,
                                struct moe_part **parts, size_t *n_parts, struct moe_err *err);

#endif
