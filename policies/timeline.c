#include "policies/timeline.h"

#include "base/file.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_ROOM = 1024 };

struct moe_timeline {
    uint64_t n, room, max, dropped;
    struct moe_operation *op;
    bool no_memory; /* an operation that was to be kept is missing */
};

static const char *const track_names[MOE_N_TRACKS] = {
    [MOE_TRACK_GPU] = "GPU compute",   [MOE_TRACK_CPU] = "CPU experts",
    [MOE_TRACK_H2D] = "expert copies", [MOE_TRACK_STATE] = "state transfer",
    [MOE_TRACK_TOKEN] = "token",
};

enum moe_status moe_timeline_new(struct moe_timeline **out, uint64_t max_operations,
                                 struct moe_err *err)
{
    struct moe_timeline *t = calloc(1, sizeof *t);
    if (!t)
        return moe_fail_memory(err, "a timeline");
    t->max = max_operations;
    *out = t;
    return MOE_OK;
}

void moe_timeline_free(struct moe_timeline *t)
{
    if (!t)
        return;
    free(t->op);
    free(t);
}

static int make_room(struct moe_timeline *t)
{
    uint64_t room = t->room ? 2 * t->room : FIRST_ROOM;
    if (room > t->max)
        room = t->max;
    if (room <= t->n || room > SIZE_MAX / sizeof *t->op)
        return 0;
    struct moe_operation *op = realloc(t->op, (size_t)room * sizeof *op);
    t->no_memory |= !op;
    if (!op)
        return 0;
    t->op = op;
    t->room = room;
    return 1;
}

void moe_timeline_add(struct moe_timeline *t, const struct moe_operation *op)
{
    if (t->n == t->room && !make_room(t)) {
        t->dropped++;
        return;
    }
    t->op[t->n++] = *op;
}

uint64_t moe_timeline_count(const struct moe_timeline *t)
{
    return t->n;
}

const struct moe_operation *moe_timeline_at(const struct moe_timeline *t, uint64_t i)
{
    return &t->op[i];
}

uint64_t moe_timeline_dropped(const struct moe_timeline *t)
{
    return t->dropped;
}

/* Bytes from 0x80 on pass as they are: titles are UTF-8, and so is JSON. */
static void write_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void write_name(FILE *out, const char *what, int track, const char *name)
{
    fprintf(out, "{\"name\":\"%s\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":", what,
            track);
    write_text(out, name);
    fputs("}},\n", out);
}

/* The format counts in microseconds; three decimals keep every nanosecond. */
static void write_us(FILE *out, const char *key, uint64_t ns)
{
    fprintf(out, ",\"%s\":%" PRIu64 ".%03" PRIu64, key, ns / 1000, ns % 1000);
}

static void write_operation(FILE *out, const struct moe_operation *op)
{
    fputs("{\"name\":", out);
    write_text(out, op->name);
    fputs(",\"cat\":", out);
    write_text(out, op->cause ? op->cause : op->name);
    fprintf(out, ",\"ph\":\"X\",\"pid\":1,\"tid\":%d", (int)op->track);
    write_us(out, "ts", op->start_ns);
    write_us(out, "dur", op->end_ns - op->start_ns);
    fputs(",\"args\":{", out);
    const struct {
        const char *name;
        int32_t value;
    } args[] = {{"layer", op->layer}, {"expert", op->expert}, {"slot", op->slot}};
    const char *comma = "";
    for (size_t i = 0; i < sizeof args / sizeof args[0]; i++) {
        if (args[i].value < 0)
            continue;
        fprintf(out, "%s\"%s\":%" PRId32, comma, args[i].name, args[i].value);
        comma = ",";
    }
    fputs("}}", out);
}

enum moe_status moe_timeline_write(const struct moe_timeline *t, const char *title,
                                   const char *path, struct moe_err *err)
{
    struct moe_output out;
    if (t->no_memory)
        return moe_fail_memory(err, "a timeline");
    enum moe_status s = moe_output_create(&out, path, err);
    if (s)
        return s;
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n", out.stream);
    for (int track = 0; track < MOE_N_TRACKS; track++)
        write_name(out.stream, "thread_name", track, track_names[track]);
    fprintf(out.stream,
            "{\"name\":\"dropped\",\"ph\":\"M\",\"pid\":1,\"args\":{\"operations\":%" PRIu64
            "}},\n",
            t->dropped);
    for (uint64_t i = 0; i < t->n; i++) {
        write_operation(out.stream, &t->op[i]);
        fputs(",\n", out.stream);
    }
    fputs("{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":", out.stream);
    write_text(out.stream, title);
    fputs("}}\n]}\n", out.stream);
    return moe_output_commit(&out, err);
}
