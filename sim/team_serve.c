/* The other ranks of a team: ask, compute, hand in. */
#include "base/progress.h"
#include "sim/deal.h"
#include "sim/team_frame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20 }; /* of results in one message, about */

struct serve {
    struct moe_team *team;
    const struct moe_team_work *work;
    struct moe_crew *crew;
    bool asked;    /* and not been dealt items since */
    bool heard;    /* from rank 0, in this map */
    bool dealt;    /* items, at least once */
    bool stopping; /* STOP has come */
    uint64_t asked_ns, answer_ns;
    enum moe_status failed; /* a message could not be sent or taken, or rank 0 is lost */
    struct moe_err err;
};

static void send(struct serve *v, struct moe_team_frame frame, const void *payload, size_t size)
{
    struct moe_err err = {0};
    frame.map = v->team->map;
    if (moe_team_send(v->team, 0, frame, payload, size, &err) && !v->failed) {
        v->failed = err.status;
        v->err = err;
    }
}

static void send_failure(struct serve *v, const struct moe_err *why)
{
    struct moe_team *team = v->team;
    if (!team->why.status)
        team->why = *why;
    if (team->told)
        return;
    team->told = true;
    send(v, (struct moe_team_frame){.kind = MOE_TEAM_FAILED, .status = (uint32_t)why->status},
         why->text, sizeof why->text);
}

static void send_packed(struct serve *v, struct moe_team_text *text, uint64_t n)
{
    struct moe_err err = {0};
    if (text->room == SIZE_MAX) {
        moe_fail_memory(&err, "results");
        send_failure(v, &err);
    } else if (n) {
        send(v, (struct moe_team_frame){.kind = MOE_TEAM_RESULTS, .n = n}, text->bytes, text->size);
    }
    free(text->bytes);
    *text = (struct moe_team_text){0};
}

static void send_results(struct serve *v)
{
    struct moe_team_text text = {0};
    uint64_t n = 0;
    for (struct moe_crew_result *r = moe_crew_take(v->crew), *next; r; r = next) {
        next = r->next;
        if (r->err.status) {
            send_failure(v, &r->err);
        } else {
            moe_team_pack(&text, r->item, r->ns, r->bytes, r->size);
            n++;
        }
        moe_crew_result_free(r);
        if (text.size > MOST_BYTES) {
            send_packed(v, &text, n);
            n = 0;
        }
    }
    send_packed(v, &text, n);
}

static void ask(struct serve *v)
{
    struct moe_crew_state state = moe_crew_look(v->crew);
    uint64_t wanted = moe_deal_wanted(&state);
    if (v->asked || wanted == 0)
        return;
    v->asked = true;
    v->asked_ns = moe_clock_ns();
    send(v,
         (struct moe_team_frame){
             .kind = MOE_TEAM_ASK, .n = wanted, .a = v->work->identity, .b = v->answer_ns},
         NULL, 0);
}

/* --- from rank 0 ---------------------------------------------------------------------------- */

static void take_items(struct serve *v, const struct moe_team_frame *f, const char *block,
                       size_t size)
{
    struct moe_err err = {0};
    size_t n = (size - sizeof *f) / sizeof(uint64_t);
    uint64_t *items = malloc(n * sizeof *items + 1);
    if (items)
        memcpy(items, block + sizeof *f, n * sizeof *items);
    if (!items ? moe_fail_memory(&err, "items") : moe_crew_add(v->crew, items, n, &err))
        send_failure(v, &err);
    free(items);
    v->asked = false;
    /* Not for the first: rank 0 may still have been preparing. */
    v->answer_ns = v->dealt ? moe_clock_ns() - v->asked_ns : 0;
    v->dealt = true;
}

static void take_stop(struct serve *v, const struct moe_team_frame *f, const char *block,
                      size_t size)
{
    struct moe_team_packed r;
    struct moe_err err = {0};
    size_t at = sizeof *f;
    v->stopping = true;
    v->team->some_lost = f->a != 0;
    moe_crew_drop(v->crew);
    if (f->status) {
        moe_team_read_error(f, block, size, &err);
        if (!v->team->why.status)
            v->team->why = err;
        v->team->told = true;
        return;
    }
    while (!err.status && moe_team_unpack(block, size, &at, &r))
        v->work->done(v->work->context, (size_t)r.item, r.bytes, (size_t)r.size, r.ns, &err);
    if (err.status)
        send_failure(v, &err);
}

static bool take_messages(struct serve *v)
{
    struct moe_team_frame f;
    struct moe_err err = {0};
    char *block;
    size_t size;
    uint32_t from;
    bool any = false;
    while (!v->stopping && !moe_team_receive(v->team, &from, &f, &block, &size, &err) && block) {
        any = v->heard = true;
        if (f.kind == MOE_TEAM_STOP && (f.status || f.map == v->team->map))
            take_stop(v, &f, block, size);
        else if (f.kind == MOE_TEAM_DEAL && f.map == v->team->map)
            take_items(v, &f, block, size);
        free(block);
    }
    if (err.status && !v->failed) {
        v->failed = err.status;
        v->err = err;
    }
    return any;
}

/* Rank 0 is waited for without limit until it was heard once: it may still be reading traces. */
static void pass_time(struct serve *v, uint64_t ns)
{
    struct moe_team *team = v->team;
    team->peer[0].silent_ns = v->heard ? team->peer[0].silent_ns + ns : 0;
    if (!v->stopping && !v->failed && team->peer[0].silent_ns > team->lost_ns) {
        team->broken = true;
        v->failed = moe_fail(&v->err, MOE_ERR_IO,
                             "rank 0, which held the results, was silent for %.3g s: start again",
                             (double)team->lost_ns / 1e9);
        team->why = v->err;
    }
    team->beat_ns += ns;
    if (team->beat_ns > team->lost_ns / 10) {
        team->beat_ns = 0;
        send(v, (struct moe_team_frame){.kind = MOE_TEAM_BEAT}, NULL, 0);
    }
}

static void talk(struct serve *v)
{
    struct moe_team_pause pause = {0};
    for (;;) {
        struct moe_err err = {0};
        struct moe_crew_state state = moe_crew_look(v->crew);
        bool idle = state.idle == state.threads;
        send_results(v);
        if (!v->stopping && !v->team->told)
            ask(v);
        bool traffic = take_messages(v);
        if (moe_interrupted() && !v->team->told) {
            moe_fail(&err, MOE_ERR_INTERRUPTED, "interrupted");
            send_failure(v, &err);
        }
        if (v->team->told)
            moe_crew_drop(v->crew);
        if (v->failed || (idle && v->stopping))
            break;
        pass_time(v, moe_team_rest(&pause, v->crew, traffic, MOE_TEAM_LONGEST_NS));
    }
    send(v, (struct moe_team_frame){.kind = MOE_TEAM_BYE}, NULL, 0);
}

enum moe_status moe_team_serve(struct moe_team *team, const struct moe_team_work *work,
                               struct moe_err *err)
{
    struct serve v = {.team = team, .work = work};
    enum moe_status s = moe_crew_start(&v.crew, work->threads, work->run, work->context, err);
    if (s)
        return s;
    talk(&v);
    moe_crew_stop(v.crew);
    if (!v.failed && !team->why.status)
        return MOE_OK;
    *err = v.failed ? v.err : team->why;
    return err->status;
}
