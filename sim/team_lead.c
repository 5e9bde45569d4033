/* Rank 0 of a team: deals, collects, and computes. */
#include "base/progress.h"
#include "sim/deal.h"
#include "sim/team_frame.h"

#include <inttypes.h>
#include <stdlib.h>

enum { MOST_DEALT = 65536 }; /* items in one message */

struct lead {
    struct moe_team *team;
    const struct moe_team_work *work;
    struct moe_crew *crew;
    struct moe_deal deal;
    struct moe_team_text shared; /* results, where all ranks want them */
    struct moe_team_cost cost;
    uint64_t *items; /* [MOST_DEALT] */
};

/* The first failure is the one that is reported. */
static void fail(struct lead *l, const struct moe_err *why)
{
    if (!l->team->why.status)
        l->team->why = *why;
}

static void take_result(struct lead *l, const struct moe_team_packed *r)
{
    struct moe_err err = {0};
    if (!moe_deal_finish(&l->deal, r->item))
        return;
    if (l->work->share)
        moe_team_pack(&l->shared, r->item, 0, r->bytes, (size_t)r->size);
    if (l->work->done(l->work->context, (size_t)r->item, r->bytes, (size_t)r->size, r->ns, &err))
        fail(l, &err);
}

static void take_own(struct lead *l)
{
    for (struct moe_crew_result *r = moe_crew_take(l->crew), *next; r; r = next) {
        next = r->next;
        if (r->err.status)
            fail(l, &r->err);
        else
            take_result(l, &(struct moe_team_packed){r->item, r->ns, r->size, r->bytes});
        moe_crew_result_free(r);
    }
}

/* --- dealing -------------------------------------------------------------------------------- */

static enum moe_status deal_to(struct lead *l, uint32_t rank, struct moe_err *err)
{
    struct moe_team *team = l->team;
    size_t n = moe_deal_give(&l->deal, rank, team->peer[rank].wanted, MOST_DEALT, l->items);
    if (n == 0)
        return MOE_OK;
    team->peer[rank].wanted = 0;
    team->peer[rank].silent_ns = 0;
    return moe_team_send(team, rank,
                         (struct moe_team_frame){.kind = MOE_TEAM_DEAL, .map = team->map, .n = n},
                         l->items, n * sizeof *l->items, err);
}

static void deal_to_self(struct lead *l)
{
    struct moe_err err = {0};
    struct moe_crew_state state = moe_crew_look(l->crew);
    uint64_t wanted = l->team->link.size == 1 ? l->deal.n_items : moe_deal_wanted(&state);
    size_t n = moe_deal_give(&l->deal, 0, wanted, MOST_DEALT, l->items);
    if (n && moe_crew_add(l->crew, l->items, n, &err))
        fail(l, &err);
}

static void deal_all(struct lead *l)
{
    struct moe_err err = {0};
    if (l->team->why.status)
        return;
    for (uint32_t r = 1; l->deal.n_left && r < l->team->link.size; r++)
        if (l->team->peer[r].wanted && !l->team->peer[r].lost && deal_to(l, r, &err))
            fail(l, &err);
    if (l->deal.n_left)
        deal_to_self(l);
}

/* --- messages ------------------------------------------------------------------------------- */

static void take_ask(struct lead *l, uint32_t from, const struct moe_team_frame *f)
{
    struct moe_err err = {0};
    if (f->a != l->work->identity) {
        moe_fail(&err, MOE_ERR_USAGE,
                 "rank %" PRIu32 " has other inputs than rank 0: program, traces, models and "
                 "platforms must be the same on every machine",
                 from);
        fail(l, &err);
    }
    l->team->peer[from].wanted = f->n;
    l->cost.answers += f->b > 0;
    l->cost.waiting_ns += f->b;
}

static void take_message(struct lead *l, uint32_t from, const struct moe_team_frame *f,
                         const char *block, size_t size)
{
    struct moe_err err = {0};
    struct moe_team_packed r;
    size_t at = sizeof *f;
    if (f->kind == MOE_TEAM_FAILED) {
        moe_team_read_error(f, block, size, &err);
        if (err.status != MOE_ERR_INTERRUPTED)
            moe_fail_prefix(&err, "rank %" PRIu32, from);
        fail(l, &err);
    }
    if (f->kind == MOE_TEAM_CLOSE)
        l->team->peer[from].closed = true;
    if (f->map != l->team->map)
        return; /* of an earlier map, from a rank that was considered lost */
    if (f->kind == MOE_TEAM_ASK)
        take_ask(l, from, f);
    else if (f->kind == MOE_TEAM_RESULTS)
        while (moe_team_unpack(block, size, &at, &r))
            take_result(l, &r);
    else if (f->kind == MOE_TEAM_BYE)
        moe_deal_take_back(&l->deal, from);
}

static bool take_messages(struct lead *l)
{
    struct moe_team_frame frame;
    struct moe_err err = {0};
    char *block;
    size_t size;
    uint32_t from;
    bool any = false;
    uint64_t begin = moe_clock_ns();
    while (!moe_team_receive(l->team, &from, &frame, &block, &size, &err) && block) {
        any = true;
        take_message(l, from, &frame, block, size);
        deal_all(l);
        free(block);
        uint64_t now = moe_clock_ns();
        l->cost.messages += frame.kind != MOE_TEAM_BEAT;
        l->cost.handling_ns += now - begin;
        begin = now;
    }
    if (err.status)
        fail(l, &err);
    return any;
}

/* Sends to every rank; also to those considered lost, which may only be slow. */
static void tell_all(struct lead *l, struct moe_team_frame frame, const void *payload, size_t size)
{
    struct moe_err err = {0};
    frame.map = l->team->map;
    frame.a = moe_team_lost_some(l->team);
    for (uint32_t r = 1; r < l->team->link.size; r++)
        if (moe_team_send(l->team, r, frame, payload, size, &err))
            fail(l, &err);
}

/* --- time ----------------------------------------------------------------------------------- */

static void lose(struct lead *l, uint32_t rank)
{
    l->team->peer[rank].lost = true; /* until it is heard again; `wanted` stays for then */
    size_t n = moe_deal_take_back(&l->deal, rank);
    moe_log("rank %" PRIu32 " was silent for %.3g s: others run its %zu items again", rank,
            (double)l->team->lost_ns / 1e9, n);
}

static void pass_time(struct lead *l, uint64_t ns)
{
    struct moe_team *team = l->team;
    for (uint32_t r = 1; r < team->link.size; r++) {
        team->peer[r].silent_ns += ns;
        if (l->deal.owned[r] && team->peer[r].silent_ns > team->lost_ns)
            lose(l, r);
    }
    team->beat_ns += ns;
    if (team->beat_ns > team->lost_ns / 10) {
        team->beat_ns = 0;
        tell_all(l, (struct moe_team_frame){.kind = MOE_TEAM_BEAT}, NULL, 0);
    }
}

/* --- the map -------------------------------------------------------------------------------- */

/* Does nobody compute any more? After a failure the items that were begun are waited for. */
static bool is_quiet(const struct lead *l)
{
    struct moe_crew_state state = moe_crew_look(l->crew);
    if (state.idle < state.threads)
        return false;
    for (uint32_t r = 1; r < l->team->link.size; r++)
        if (l->deal.owned[r])
            return false;
    return true;
}

static void end_early(struct lead *l)
{
    struct moe_team *team = l->team;
    if (team->told)
        return;
    team->told = true;
    moe_crew_drop(l->crew);
    tell_all(l,
             (struct moe_team_frame){.kind = MOE_TEAM_STOP, .status = (uint32_t)team->why.status},
             team->why.text, sizeof team->why.text);
}

static void talk(struct lead *l)
{
    struct moe_team *team = l->team;
    struct moe_team_pause pause = {0};
    const uint64_t longest = team->link.size == 1 ? MOE_TEAM_ALONE_NS : MOE_TEAM_LONGEST_NS;
    while (l->deal.n_done < l->deal.n_items || team->why.status) {
        struct moe_err err = {0};
        /* Looked at before results are taken: a thread that is idle then has handed in its own. */
        bool quiet = team->why.status && is_quiet(l);
        take_own(l);
        bool traffic = take_messages(l);
        if (moe_interrupted() && !team->why.status) {
            moe_fail(&err, MOE_ERR_INTERRUPTED, "interrupted");
            fail(l, &err);
        }
        if (quiet && team->told)
            break;
        if (team->why.status)
            end_early(l);
        deal_all(l);
        if (l->deal.n_done < l->deal.n_items || team->why.status)
            pass_time(l, moe_team_rest(&pause, l->crew, traffic, longest));
    }
}

enum moe_status moe_team_lead(struct moe_team *team, const struct moe_team_work *work,
                              struct moe_err *err)
{
    struct lead l = {.team = team, .work = work};
    for (uint32_t r = 0; r < team->link.size; r++)
        team->peer[r].wanted = 0;
    enum moe_status s = moe_deal_init(&l.deal, work->n_items, team->link.size, err);
    if (!s && !(l.items = malloc(MOST_DEALT * sizeof *l.items)))
        s = moe_fail_memory(err, "items");
    if (!s)
        for (size_t i = 0; work->skip && i < work->n_items; i++)
            if (work->skip[i])
                moe_deal_finish(&l.deal, i);
    if (!s)
        s = moe_crew_start(&l.crew, work->threads, work->run, work->context, err);
    if (!s) {
        talk(&l);
        if (!team->why.status && l.shared.room == SIZE_MAX)
            s = moe_fail_memory(err, "shared results");
        else if (!team->why.status)
            tell_all(&l, (struct moe_team_frame){.kind = MOE_TEAM_STOP}, l.shared.bytes,
                     l.shared.size);
    }
    moe_crew_stop(l.crew);
    moe_deal_release(&l.deal);
    free(l.shared.bytes);
    free(l.items);
    if (!s && work->cost)
        *work->cost = l.cost;
    if (!s && team->why.status) {
        *err = team->why;
        s = team->why.status;
    }
    return s;
}
