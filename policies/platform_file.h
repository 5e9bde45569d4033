/* Platforms written to files. Here, and not with the measuring code, because writer and reader use
 * the same tables (moe_platform_sections): a constant that is added to one is written as well. */
#ifndef MOELAB_POLICIES_PLATFORM_FILE_H
#define MOELAB_POLICIES_PLATFORM_FILE_H

#include "policies/platform.h"

struct moe_platform_notes {
    const char *head; /* lines of the comment at the top, without '#'; NULL: none */
    /* Returns where a constant is from, beginning with measured, paper, datasheet, fitted or guess;
     * valid until the next call. key: like "link.copy_setup_us", "cpu.expert_ffn". */
    const char *(*origin)(void *context, const char *key);
    void *context;
};

/* The file's text in heap memory (*out, which the caller frees; NUL-terminated). The text has been
 * parsed again and found equal to *platform: what moe_platform_parse refuses (a rate of zero, NaN)
 * is an error here. In names and comments, bytes that are no UTF-8 become '?'. Errors:
 * MOE_ERR_USAGE, MOE_ERR_MEMORY. */
enum moe_status moe_platform_text(const struct moe_platform *platform,
                                  const struct moe_platform_notes *notes, char **out, size_t *size,
                                  struct moe_err *err);

/* Writes the same into a file, which appears whole or not at all. Errors: also MOE_ERR_IO. */
enum moe_status moe_platform_save(const struct moe_platform *platform,
                                  const struct moe_platform_notes *notes, const char *path,
                                  struct moe_err *err);

#endif
