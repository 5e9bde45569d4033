/* Text and data inside an HTML page. */
#ifndef MOELAB_BASE_HTML_H
#define MOELAB_BASE_HTML_H

#include <stddef.h>
#include <stdio.h>

/* Text as content of an element or a quoted attribute: & < > " ' are escaped, control characters
 * and bytes that are not UTF-8 become U+FFFD. */
void moe_html_text(const char *text, FILE *out);

/* "data:MIME;base64,..." */
void moe_html_data_uri(const char *mime, const void *data, size_t n, FILE *out);

/* A JSON string that can stand in a script element: as moe_json_text, with < > & as \u escapes. */
void moe_html_json_text(const char *text, FILE *out);

#endif
