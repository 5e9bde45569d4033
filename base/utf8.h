/* UTF-8, as Unicode defines it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef MOELAB_BASE_UTF8_H
#define MOELAB_BASE_UTF8_H

#include <stddef.h>

/* The character at the start of n > 0 bytes: its length, 1 to 4; 0 where the bytes end inside a
 * character that is right so far; -1 where none can start like this. */
int moe_utf8_char(const char *text, size_t n);

/* Length of the longest start of text that is whole and valid; n where everything is. */
size_t moe_utf8_prefix(const char *text, size_t n);

/* Copies n bytes as one line of valid UTF-8: bytes that are not UTF-8 become U+FFFD, control
 * characters spaces. out holds 3 n + 1 bytes. */
void moe_utf8_clean(char *out, const char *text, size_t n);

#endif
