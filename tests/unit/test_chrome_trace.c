/* traces/chrome_trace.h: a written timeline is read back to the nanosecond; refusals. */
#include "traces/chrome_trace.h"

#include "base/file.h"
#include "policies/timeline.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct moe_err err;
static struct moe_chrome_trace t;

static enum moe_status parse(const char *text, size_t max)
{
    err = (struct moe_err){0};
    return moe_chrome_trace_parse("x.json", text, strlen(text), max, &t, &err);
}

static void add(struct moe_timeline *timeline, const struct moe_operation *op)
{
    moe_timeline_add(timeline, op);
}

START_TEST(written_and_read)
{
    char path[] = "/tmp/moelab-timeline.XXXXXX", *text;
    size_t size;
    struct moe_timeline *timeline;
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(moe_timeline_new(&timeline, 3, &err), MOE_OK);
    add(timeline, &(struct moe_operation){MOE_TRACK_GPU, "attend", NULL, 3, -1, -1, 0, 678055});
    add(timeline, &(struct moe_operation){MOE_TRACK_CPU, "expert", "miss", 31, 127, -1, 678055,
                                          9007199254740});
    add(timeline, &(struct moe_operation){MOE_TRACK_H2D, "fill", "miss", 0, 0, 5, 1, 3});
    add(timeline, &(struct moe_operation){MOE_TRACK_GPU, "lost", NULL, 0, 0, 0, 1, 2});
    ck_assert_int_eq(moe_timeline_write(timeline, "a \"title\" \xc3\xa4", path, &err), MOE_OK);
    ck_assert_int_eq(moe_file_read(path, 1 << 20, &text, &size, &err), MOE_OK);
    unlink(path);
    ck_assert_msg(moe_chrome_trace_parse("x", text, size, 10, &t, &err) == MOE_OK, "%s", err.text);
    ck_assert_str_eq(t.title, "a \"title\" \xc3\xa4");
    ck_assert_uint_eq(t.n_tracks, MOE_N_TRACKS);
    ck_assert_str_eq(t.tracks[MOE_TRACK_CPU].name, "CPU experts");
    ck_assert_uint_eq(t.tracks[MOE_TRACK_CPU].n_events, 1);
    ck_assert_uint_eq(t.tracks[MOE_TRACK_GPU].busy_ns, 678055);
    ck_assert_uint_eq(t.n_events, 3);
    ck_assert_uint_eq(t.n_all, 3);
    ck_assert_uint_eq(t.dropped, 1);
    ck_assert_uint_eq(t.end_ns, 9007199254740);
    const struct moe_chrome_event *e = &t.events[1];
    ck_assert_uint_eq(e->track, MOE_TRACK_CPU);
    ck_assert_str_eq(t.words[e->name], "expert");
    ck_assert_str_eq(t.words[e->cause], "miss");
    ck_assert_uint_eq(e->start_ns, 678055);
    ck_assert_uint_eq(e->length_ns, 9007199254740 - 678055);
    ck_assert_int_eq(e->layer, 31);
    ck_assert_int_eq(e->expert, 127);
    ck_assert_int_eq(e->slot, -1);
    ck_assert_int_eq(t.events[2].slot, 5);
    moe_chrome_trace_release(&t);
    moe_timeline_free(timeline);
    free(text);
}
END_TEST

#define EVENT(ts) "{\"name\":\"e\",\"ph\":\"X\",\"tid\":7,\"ts\":" ts ",\"dur\":1.5}"

START_TEST(cut)
{
    ck_assert_int_eq(
        parse(" {\"a\": [1, {}], \"traceEvents\" : [" EVENT("0") ", " EVENT(
                  "2.0005") "\n, {\"ph\":\"i\"}, " EVENT("9") " ] , \"b\":\"\xc3\xa4\"} \n",
              2),
        MOE_OK);
    ck_assert_uint_eq(t.n_events, 2);
    ck_assert_uint_eq(t.n_all, 3);
    ck_assert_uint_eq(t.end_ns, 10500);
    ck_assert_uint_eq(t.n_tracks, 1);
    ck_assert_str_eq(t.tracks[0].name, "track 7");
    ck_assert_uint_eq(t.tracks[0].busy_ns, 4500);
    ck_assert_str_eq(t.words[t.events[1].cause], "e");
    moe_chrome_trace_release(&t);
    ck_assert_int_eq(parse("{\"traceEvents\":[]}", 2), MOE_OK);
    ck_assert_uint_eq(t.n_all, 0);
    moe_chrome_trace_release(&t);
}
END_TEST

static const struct {
    enum moe_status status;
    const char *text, *message;
} broken[] = {
    {MOE_ERR_UNSUPPORTED, "{}", "'x.json' is no timeline: it has no 'traceEvents'"},
    {MOE_ERR_UNSUPPORTED, "{\"rows\": [[1]]}", "'x.json' is no timeline"},
    {MOE_ERR_UNSUPPORTED, "[1]", "'x.json' is no timeline: a list"},
    {MOE_ERR_INPUT, "", "'x.json': expected '{' at byte 1"},
    {MOE_ERR_INPUT, "{1:2}", "'x.json': a key is no text"},
    {MOE_ERR_INPUT, "{\"a\" 2}", "'x.json': expected ':' at byte 6"},
    {MOE_ERR_INPUT, "{\"a\":}", "'x.json': not JSON at byte 6"},
    {MOE_ERR_INPUT, "{\"traceEvents\":7}", "'x.json': expected '[' at byte 16"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[7]}", "'x.json': event 1: not an object"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[{},]}", "'x.json': event 2: not JSON at byte 20"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[" EVENT("1"), "'x.json': expected ']'"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[]", "'x.json': expected '}'"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[]}x", "'x.json': text after the end"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[{\"ph\":\"X\"}]}", "event 1: 'name' is no text"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[{\"ph\":\"M\"}]}", "event 1: 'name' is no text"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[" EVENT("-1") "]}", "'ts' -1 is outside 0..9.0072e+12"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[" EVENT("1e13") "]}", "'ts' 1e+13 is outside"},
    {MOE_ERR_INPUT, "{\"traceEvents\":[" EVENT("\"1\"") "]}", "'ts' is no number"},
};

START_TEST(refused)
{
    ck_assert_msg(parse(broken[_i].text, 9) == broken[_i].status, "%s: %s", broken[_i].text,
                  err.text);
    ck_assert_msg(strstr(err.text, broken[_i].message) != NULL, "%s: %s", broken[_i].text,
                  err.text);
}
END_TEST

/* More tracks or names than are kept: an error, not a slow walk. */
START_TEST(too_many)
{
    static char text[600000];
    for (int kind = 0; kind < 2; kind++) {
        size_t at = (size_t)snprintf(text, sizeof text, "{\"traceEvents\":[");
        for (int i = 0; i <= MOE_CHROME_WORDS_MAX; i++)
            at +=
                (size_t)snprintf(text + at, sizeof text - at,
                                 "%s{\"name\":\"n%d\",\"ph\":\"X\",\"tid\":%d,\"ts\":1,\"dur\":1}",
                                 i ? "," : "", kind ? i : 0, kind ? 0 : i);
        snprintf(text + at, sizeof text - at, "]}");
        ck_assert_int_eq(parse(text, 100000), MOE_ERR_INPUT);
        ck_assert_str_eq(err.text, kind ? "'x.json': event 4097: more than 4096 different names"
                                        : "'x.json': event 257: more than 256 tracks");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chrome_trace");
    TCase *c = tcase_create("chrome_trace");
    tcase_add_test(c, written_and_read);
    tcase_add_test(c, cut);
    tcase_add_loop_test(c, refused, 0, sizeof broken / sizeof *broken);
    tcase_add_test(c, too_many);
    suite_add_tcase(suite, c);
    return run_suite(suite);
}
