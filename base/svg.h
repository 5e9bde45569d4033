/* Drawings for an HTML page: an SVG file rewritten so that it can stand inside one.
 *
 * Only what draws is let through, by name: shapes, text, gradients, patterns, filters of a plot.
 * Everything that could act or load (scripts, handlers, links, styles, foreign content, references
 * out of the file) is refused, so that what the page shows never depends on anything else. */
#ifndef MOELAB_BASE_SVG_H
#define MOELAB_BASE_SVG_H

#include "base/error.h"

#include <stddef.h>
#include <stdio.h>

enum { MOE_SVG_DEPTH_MAX = 64 };

/* Writes the drawing as one element <svg role="img"> to out. ids become "PREFIX-id", so that
 * several drawings share a page; title (any text) is what a screen reader says; titles and
 * descriptions of the file, comments and classes are left out.
 * Errors: MOE_ERR_INPUT "'name':line: ..."; then out may hold a part. */
enum moe_status moe_svg_write(const char *name, const char *text, size_t size, const char *prefix,
                              const char *title, FILE *out, struct moe_err *err);

#endif
