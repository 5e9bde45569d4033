/* Timelines: byte 0 is how many events are kept, the rest is JSON. */
#include "traces/chrome_trace.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void expect(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_chrome_trace t;
    struct moe_err err = {0};
    uint64_t n = 0;
    if (size < 1)
        return 0;
    enum moe_status s =
        moe_chrome_trace_parse("x", (const char *)data + 1, size - 1, data[0], &t, &err);
    if (s) {
        expect((s == MOE_ERR_INPUT || s == MOE_ERR_UNSUPPORTED) && strlen(err.text) > 0);
        return 0;
    }
    expect(t.title && t.n_events <= data[0] && t.n_events <= t.n_all);
    for (size_t i = 0; i < t.n_events; i++) {
        const struct moe_chrome_event *e = &t.events[i];
        expect(e->track < t.n_tracks && e->name < t.n_words && e->cause < t.n_words);
        expect(e->start_ns + e->length_ns <= t.end_ns && e->layer >= -1 && e->slot >= -1);
    }
    for (size_t i = 0; i < t.n_tracks; i++)
        n += t.tracks[i].name ? t.tracks[i].n_events : 0;
    expect(n == t.n_all);
    moe_chrome_trace_release(&t);
    return 0;
}
