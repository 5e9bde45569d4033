/* Lists in options: words between commas. */
#ifndef MOELAB_CLI_WORDS_H
#define MOELAB_CLI_WORDS_H

#include "base/error.h"

enum { CLI_WORD_MAX = 64 };

/* Calls take for every word of "a,b,c", until one is refused. Errors: take's; MOE_ERR_USAGE (a word
 * of CLI_WORD_MAX characters or more). */
enum moe_status cli_each_word(const char *list,
                              enum moe_status (*take)(void *context, const char *word,
                                                      struct moe_err *err),
                              void *context, struct moe_err *err);

#endif
