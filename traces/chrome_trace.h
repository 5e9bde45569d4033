/* Timelines read back: the Chrome trace JSON that policies/timeline.h writes, and any other with
 * complete events ("ph": "X"). Source: the document "Trace Event Format" of the Chromium project.
 *
 * Read one event at a time: memory grows with the events that are kept, not with the file. */
#ifndef MOELAB_TRACES_CHROME_TRACE_H
#define MOELAB_TRACES_CHROME_TRACE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct moe_chrome_event {
    uint32_t track;       /* index in tracks */
    uint32_t name, cause; /* indexes in words: "name" and "cat" */
    uint64_t start_ns, length_ns;
    int32_t layer, expert, slot; /* -1: none */
};

struct moe_chrome_track {
    int64_t id;                 /* "tid" */
    char *name;                 /* told by "thread_name", else "track ID" */
    uint64_t n_events, busy_ns; /* of all events, kept or not; busy: the sum of their lengths */
};

struct moe_chrome_trace {
    char *title; /* told by "process_name", else "" */
    struct moe_chrome_track *tracks;
    char **words;
    struct moe_chrome_event *events; /* the first ones of the file, in its order */
    size_t n_tracks, n_words, n_events;
    uint64_t n_all;   /* events in the file */
    uint64_t dropped; /* operations that the writer left out, as it says */
    uint64_t end_ns;  /* of the last event of all */
};

enum { MOE_CHROME_TRACKS_MAX = 256, MOE_CHROME_WORDS_MAX = 4096 };

/* Keeps up to max_events. Errors: MOE_ERR_UNSUPPORTED for JSON without a list "traceEvents" (the
 * file is something else), MOE_ERR_INPUT "'name': event 7: ..." for what is broken, MOE_ERR_MEMORY.
 * Released by moe_chrome_trace_release. */
enum moe_status moe_chrome_trace_parse(const char *name, const char *text, size_t size,
                                       size_t max_events, struct moe_chrome_trace *out,
                                       struct moe_err *err);

void moe_chrome_trace_release(struct moe_chrome_trace *trace);

#endif
