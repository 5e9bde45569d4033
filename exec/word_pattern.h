/* Cuts a text into words by a regular expression, with PCRE2. Optional: without that library every
 * pattern is refused. */
#ifndef MOELAB_EXEC_WORD_PATTERN_H
#define MOELAB_EXEC_WORD_PATTERN_H

#include "base/error.h"

#include <stddef.h>

struct moe_word_pattern; /* may be used by several threads */

/* pattern: UTF-8, with Unicode properties. Errors: MOE_ERR_UNSUPPORTED (no PCRE2: what to install;
 * or PCRE2's reason for refusing it), MOE_ERR_MEMORY. */
enum moe_status moe_word_pattern_new(struct moe_word_pattern **out, const char *pattern,
                                     struct moe_err *err);
void moe_word_pattern_free(struct moe_word_pattern *pattern);

/* Called with each word in turn, never an empty one; an error ends the cutting. */
typedef enum moe_status moe_word_taker(void *context, const char *word, size_t n,
                                       struct moe_err *err);

/* Words are the matches and what lies between them, in n bytes of valid UTF-8. Errors: those of
 * take; MOE_ERR_UNSUPPORTED with PCRE2's reason (its limit of steps), MOE_ERR_MEMORY. */
enum moe_status moe_word_pattern_cut(const struct moe_word_pattern *pattern, const char *text,
                                     size_t n, moe_word_taker *take, void *context,
                                     struct moe_err *err);

#endif
