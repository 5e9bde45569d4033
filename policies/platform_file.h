/* Platforms written to files. Here and not with the measuring code, because writer and reader go
 * over the same tables (moe_platform_sections): a constant that is added is written as well. */
#ifndef MOELAB_POLICIES_PLATFORM_FILE_H
#define MOELAB_POLICIES_PLATFORM_FILE_H

#include "policies/platform.h"

struct moe_platform_notes {
    const char *head; /* lines of the comment at the top, without '#'; NULL: none */
    /* Where a constant is from: begins with measured, paper, datasheet, fitted or guess. key is
     * "link.copy_setup_us", "cpu.expert_ffn". Valid until the next call. */
    const char *(*origin)(void *context, const char *key);
    void *context;
};

/* The file's text in heap memory (*out, caller frees; NUL-terminated). It was read back and found
 * equal to *platform: what moe_platform_parse refuses (a rate of zero, NaN) is an error here. In
 * texts, bytes that are no UTF-8 become '?'. Errors: MOE_ERR_USAGE, MOE_ERR_MEMORY. */
enum moe_status moe_platform_text(const struct moe_platform *platform,
                                  const struct moe_platform_notes *notes, char **out, size_t *size,
                                  struct moe_err *err);

/* The same into a file that appears whole or not at all. Errors: also MOE_ERR_IO. */
enum moe_status moe_platform_save(const struct moe_platform *platform,
                                  const struct moe_platform_notes *notes, const char *path,
                                  struct moe_err *err);

#endif
