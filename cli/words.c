#include "cli/words.h"

#include <string.h>

enum moe_status cli_each_word(const char *list,
                              enum moe_status (*take)(void *context, const char *word,
                                                      struct moe_err *err),
                              void *context, struct moe_err *err)
{
    for (const char *word = list; word;) {
        char text[CLI_WORD_MAX];
        const size_t n = strcspn(word, ",");
        if (n >= sizeof text)
            return moe_fail(err, MOE_ERR_USAGE,
                            "'%.70s' is too long: an item has at most %d characters", word,
                            CLI_WORD_MAX - 1);
        memcpy(text, word, n);
        text[n] = '\0';
        enum moe_status s = take(context, text, err);
        if (s)
            return s;
        word = word[n] ? word + n + 1 : NULL;
    }
    return MOE_OK;
}
