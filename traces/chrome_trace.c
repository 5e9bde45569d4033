#include "traces/chrome_trace.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    const char *name;
    const char *start, *next, *end;
    uint64_t event; /* 1-based; 0: outside of the events */
    size_t max_events, room;
    struct moe_chrome_trace *t;
};

static enum moe_status fail(const struct reader *r, struct moe_err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum moe_status fail(const struct reader *r, struct moe_err *err, const char *format, ...)
{
    char why[200], where[40] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (r->event)
        snprintf(where, sizeof where, "event %" PRIu64 ": ", r->event);
    return moe_fail(err, MOE_ERR_INPUT, "'%.200s': %s%s", r->name, where, why);
}

/* The byte after blanks, 0 at the end. */
static char peek(struct reader *r)
{
    while (r->next < r->end && *r->next && strchr(" \t\r\n", *r->next))
        r->next++;
    return r->next < r->end ? *r->next : '\0';
}

static enum moe_status take(struct reader *r, char c, struct moe_err *err)
{
    if (peek(r) != c)
        return fail(r, err, "expected '%c' at byte %zu", c, (size_t)(r->next - r->start) + 1);
    r->next++;
    return MOE_OK;
}

/* One JSON value from here; the parser reads no further than its end. */
static enum moe_status take_value(struct reader *r, json_t **out, struct moe_err *err)
{
    json_error_t error;
    peek(r);
    *out = json_loadb(r->next, (size_t)(r->end - r->next), JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK,
                      &error);
    if (!*out && json_error_code(&error) == json_error_out_of_memory)
        return moe_fail_memory(err, "JSON");
    if (!*out || error.position <= 0) {
        json_decref(*out);
        return fail(r, err, "not JSON at byte %zu: %s", (size_t)(r->next - r->start) + 1,
                    error.text);
    }
    r->next += error.position;
    return MOE_OK;
}

static enum moe_status word_index(struct reader *r, const char *word, uint32_t *out,
                                  struct moe_err *err)
{
    struct moe_chrome_trace *t = r->t;
    for (size_t i = 0; i < t->n_words; i++) {
        if (strcmp(t->words[i], word) == 0) {
            *out = (uint32_t)i;
            return MOE_OK;
        }
    }
    if (t->n_words == MOE_CHROME_WORDS_MAX)
        return fail(r, err, "more than %d different names", MOE_CHROME_WORDS_MAX);
    char **words = realloc(t->words, (t->n_words + 1) * sizeof *words);
    if (!words)
        return moe_fail_memory(err, "a timeline");
    t->words = words;
    words[t->n_words] = strdup(word);
    if (!words[t->n_words])
        return moe_fail_memory(err, "a timeline");
    *out = (uint32_t)t->n_words++;
    return MOE_OK;
}

static enum moe_status track_index(struct reader *r, int64_t id, size_t *out, struct moe_err *err)
{
    struct moe_chrome_trace *t = r->t;
    size_t i = 0;
    while (i < t->n_tracks && t->tracks[i].id != id)
        i++;
    if (i == t->n_tracks) {
        char name[40];
        if (i == MOE_CHROME_TRACKS_MAX)
            return fail(r, err, "more than %d tracks", MOE_CHROME_TRACKS_MAX);
        struct moe_chrome_track *tracks = realloc(t->tracks, (i + 1) * sizeof *tracks);
        if (!tracks)
            return moe_fail_memory(err, "a timeline");
        t->tracks = tracks;
        snprintf(name, sizeof name, "track %" PRId64, id);
        tracks[i] = (struct moe_chrome_track){.id = id, .name = strdup(name)};
        if (!tracks[i].name)
            return moe_fail_memory(err, "a timeline");
        t->n_tracks++;
    }
    *out = i;
    return MOE_OK;
}

static enum moe_status replace_text(char **text, const json_t *value, struct moe_err *err)
{
    const char *given = json_string_value(value);
    char *copy = given ? strdup(given) : NULL;
    if (given && !copy)
        return moe_fail_memory(err, "a timeline");
    if (copy) {
        free(*text);
        *text = copy;
    }
    return MOE_OK;
}

/* Names of the process and the tracks, and what the writer left out. */
static enum moe_status take_metadata(struct reader *r, const json_t *event, struct moe_err *err)
{
    const char *what = json_string_value(json_object_get(event, "name"));
    const json_t *args = json_object_get(event, "args"), *tid = json_object_get(event, "tid");
    size_t track = 0;
    if (!what)
        return fail(r, err, "'name' is no text");
    if (strcmp(what, "process_name") == 0)
        return replace_text(&r->t->title, json_object_get(args, "name"), err);
    json_int_t dropped = json_integer_value(json_object_get(args, "operations"));
    if (strcmp(what, "dropped") == 0 && dropped > 0)
        r->t->dropped = (uint64_t)dropped;
    if (strcmp(what, "thread_name") != 0 || !json_is_integer(tid))
        return MOE_OK;
    enum moe_status s = track_index(r, json_integer_value(tid), &track, err);
    return s ? s : replace_text(&r->t->tracks[track].name, json_object_get(args, "name"), err);
}

/* Microseconds as nanoseconds: exact up to 2^53 ns, more than 100 days. */
static enum moe_status take_time(struct reader *r, const json_t *event, const char *key,
                                 uint64_t *out, struct moe_err *err)
{
    const json_t *value = json_object_get(event, key);
    double us = json_number_value(value), limit = 0x1p53 / 1000;
    if (!json_is_number(value))
        return fail(r, err, "'%s' is no number", key);
    if (!(us >= 0 && us <= limit))
        return fail(r, err, "'%s' %g is outside 0..%g", key, us, limit);
    *out = (uint64_t)llround(us * 1000);
    return MOE_OK;
}

static int32_t take_argument(const json_t *args, const char *key)
{
    const json_t *value = json_object_get(args, key);
    json_int_t n = json_integer_value(value);
    return json_is_integer(value) && n >= 0 && n <= INT32_MAX ? (int32_t)n : -1;
}

static enum moe_status keep(struct reader *r, const struct moe_chrome_event *event,
                            struct moe_err *err)
{
    struct moe_chrome_trace *t = r->t;
    if (t->n_events == r->room) {
        size_t room = r->room ? 2 * r->room : 1024;
        room = room < r->max_events ? room : r->max_events;
        struct moe_chrome_event *events =
            room < SIZE_MAX / sizeof *events ? realloc(t->events, room * sizeof *events) : NULL;
        if (!events)
            return moe_fail_memory(err, "a timeline");
        t->events = events;
        r->room = room;
    }
    t->events[t->n_events++] = *event;
    return MOE_OK;
}

/* A complete event: counted always, kept while there is room. */
static enum moe_status take_complete(struct reader *r, const json_t *event, struct moe_err *err)
{
    const char *name = json_string_value(json_object_get(event, "name"));
    const char *cause = json_string_value(json_object_get(event, "cat"));
    const json_t *args = json_object_get(event, "args");
    struct moe_chrome_event e = {0};
    size_t track = 0;
    if (!name)
        return fail(r, err, "'name' is no text");
    enum moe_status s = take_time(r, event, "ts", &e.start_ns, err);
    if (!s)
        s = take_time(r, event, "dur", &e.length_ns, err);
    if (!s)
        s = track_index(r, json_integer_value(json_object_get(event, "tid")), &track, err);
    if (s)
        return s;
    struct moe_chrome_trace *t = r->t;
    t->n_all++;
    t->tracks[track].n_events++;
    t->tracks[track].busy_ns += e.length_ns;
    if (e.start_ns + e.length_ns > t->end_ns)
        t->end_ns = e.start_ns + e.length_ns;
    if (t->n_events == r->max_events)
        return MOE_OK;
    e.track = (uint32_t)track;
    e.layer = take_argument(args, "layer");
    e.expert = take_argument(args, "expert");
    e.slot = take_argument(args, "slot");
    s = word_index(r, name, &e.name, err);
    if (!s)
        s = word_index(r, cause ? cause : name, &e.cause, err);
    return s ? s : keep(r, &e, err);
}

static enum moe_status take_event(struct reader *r, struct moe_err *err)
{
    json_t *event = NULL;
    r->event++;
    enum moe_status s = take_value(r, &event, err);
    if (s)
        return s;
    const char *kind = json_string_value(json_object_get(event, "ph"));
    if (!json_is_object(event))
        s = fail(r, err, "not an object");
    else if (kind && strcmp(kind, "M") == 0)
        s = take_metadata(r, event, err);
    else if (kind && strcmp(kind, "X") == 0)
        s = take_complete(r, event, err);
    json_decref(event);
    return s;
}

static enum moe_status take_events(struct reader *r, struct moe_err *err)
{
    enum moe_status s = take(r, '[', err);
    bool more = peek(r) != ']';
    while (!s && more) {
        s = take_event(r, err);
        more = !s && peek(r) == ',';
        if (more)
            r->next++;
    }
    r->event = 0;
    return s ? s : take(r, ']', err);
}

/* "key": value; *events is set for the one that is a timeline. */
static enum moe_status take_member(struct reader *r, bool *events, struct moe_err *err)
{
    json_t *key = NULL, *value = NULL;
    enum moe_status s = take_value(r, &key, err);
    if (!s && !json_is_string(key))
        s = fail(r, err, "a key is no text");
    if (!s)
        s = take(r, ':', err);
    bool found = !s && strcmp(json_string_value(key), "traceEvents") == 0;
    json_decref(key);
    if (found) {
        *events = true;
        return take_events(r, err);
    }
    if (!s)
        s = take_value(r, &value, err);
    json_decref(value);
    return s;
}

static enum moe_status take_file(struct reader *r, struct moe_err *err)
{
    bool events = false, more = true;
    if (peek(r) == '[')
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "'%.200s' is no timeline: a list", r->name);
    enum moe_status s = take(r, '{', err);
    if (!s && peek(r) == '}')
        more = false;
    while (!s && more) {
        s = take_member(r, &events, err);
        more = !s && peek(r) == ',';
        if (more)
            r->next++;
    }
    if (!s)
        s = take(r, '}', err);
    if (!s && peek(r))
        s = fail(r, err, "text after the end");
    if (!s && !events)
        s = moe_fail(err, MOE_ERR_UNSUPPORTED, "'%.200s' is no timeline: it has no 'traceEvents'",
                     r->name);
    return s;
}

enum moe_status moe_chrome_trace_parse(const char *name, const char *text, size_t size,
                                       size_t max_events, struct moe_chrome_trace *out,
                                       struct moe_err *err)
{
    struct moe_chrome_trace trace = {.title = strdup("")};
    struct reader r = {.name = name,
                       .start = text,
                       .next = text,
                       .end = text + size,
                       .max_events = max_events,
                       .t = &trace};
    enum moe_status s = trace.title ? take_file(&r, err) : moe_fail_memory(err, "a timeline");
    if (s)
        moe_chrome_trace_release(&trace);
    else
        *out = trace;
    return s;
}

void moe_chrome_trace_release(struct moe_chrome_trace *t)
{
    for (size_t i = 0; i < t->n_tracks; i++)
        free(t->tracks[i].name);
    for (size_t i = 0; i < t->n_words; i++)
        free(t->words[i]);
    free(t->tracks);
    free(t->words);
    free(t->events);
    free(t->title);
    *t = (struct moe_chrome_trace){0};
}
