/* Names of columns or keys that an importer skipped: other tools log more than a trace can hold. */
#ifndef MOELAB_TRACES_IGNORED_H
#define MOELAB_TRACES_IGNORED_H

#include "traces/trace.h"

#include <stdbool.h>
#include <stddef.h>

struct moe_ignored {
    char names[MOE_TEXT_MAX - 32]; /* "a b c", each once, in file order */
    bool cut;                      /* there were more than fit */
};

/* What an unknown name means: the name of known[] that was probably meant, or NULL, then it is
 * another tool's and was added to `ignored`. Only a name whose present[] is false can be meant: one
 * that is there was not mistyped. */
const char *moe_ignored_take(struct moe_ignored *ignored, const char *name, size_t length,
                             const char *const *known, const bool *present, size_t n_known);

/* Adds "ignored WHAT: a b c ..." to the trace's note, cut at a name where it does not fit. */
void moe_ignored_note(const struct moe_ignored *ignored, const char *what,
                      struct moe_trace_info *info);

#endif
