/* The end of a team. A rank may be lost while it has no items, too, and would be waited for. */
#include "base/progress.h"
#include "sim/team_frame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

/* After the end of the work, rank 0 waits so many times `lost_after` for a rank that it never heard
 * from. It may still be reading traces, so the limit of the others is too short; but rank 0 has
 * read the same ones, and all the work was done since then: a rank that is that late is dead. */
enum { UNHEARD = 10 };

static void send(struct moe_team *team, uint32_t to, enum moe_team_kind kind)
{
    moe_team_send(
        team, to,
        (struct moe_team_frame){.kind = kind, .map = team->map, .a = moe_team_lost_some(team)},
        NULL, 0, NULL);
}

static void send_all(struct moe_team *team, enum moe_team_kind kind)
{
    const uint32_t end = team->link.rank ? 1 : team->link.size;
    for (uint32_t r = team->link.rank ? 0 : 1; r < end; r++)
        send(team, r, kind);
}

/* Considers a rank lost that is silent for too long; but not a rank 0 that was never heard from: it
 * may still be reading, and what the others have done is of no use without it. */
static void check_silence(struct moe_team *team, uint32_t rank)
{
    struct moe_team_peer *peer = &team->peer[rank];
    const uint64_t most = peer->heard ? team->lost_ns : UNHEARD * team->lost_ns;
    if (peer->closed || peer->lost || peer->silent_ns <= most || (rank == 0 && !peer->heard))
        return;
    peer->lost = true;
    if (!peer->heard)
        moe_log("rank %" PRIu32 " sent nothing, not even within %.3g s after the end of the work: "
                "the job ends without it",
                rank, (double)most / 1e9);
}

static void pass_time(struct moe_team *team, uint64_t ns)
{
    const uint32_t end = team->link.rank ? 1 : team->link.size;
    for (uint32_t r = team->link.rank ? 0 : 1; r < end; r++) {
        team->peer[r].silent_ns += ns;
        check_silence(team, r);
    }
    team->beat_ns += ns;
    if (team->beat_ns > team->lost_ns / 10) {
        team->beat_ns = 0;
        send_all(team, MOE_TEAM_BEAT);
    }
}

/* On rank 0: has every other rank closed, or is lost? On others: has rank 0? */
static bool is_over(const struct moe_team *team)
{
    const uint32_t end = team->link.rank ? 1 : team->link.size;
    for (uint32_t r = team->link.rank ? 0 : 1; r < end; r++)
        if (!team->peer[r].closed && !team->peer[r].lost)
            return false;
    return true;
}

static bool take_message(struct moe_team *team)
{
    struct moe_team_frame frame;
    struct moe_err err = {0};
    char *block;
    size_t size;
    uint32_t from;
    if (moe_team_receive(team, &from, &frame, &block, &size, &err) || !block)
        return false;
    if (frame.kind == MOE_TEAM_CLOSE || frame.kind == MOE_TEAM_LEAVE)
        team->peer[from].closed = true;
    if (frame.kind == MOE_TEAM_LEAVE)
        team->some_lost = frame.a != 0;
    free(block);
    return true;
}

void moe_team_part(struct moe_team *team)
{
    if (team->broken)
        return;
    if (team->link.rank)
        send(team, 0, MOE_TEAM_CLOSE);
    for (uint32_t r = 0; r < team->link.size; r++)
        if (!team->peer[r].heard)
            team->peer[r].silent_ns = 0; /* its time starts now, at the end of the work */
    for (uint64_t last = moe_clock_ns(); !is_over(team);) {
        if (take_message(team))
            continue;
        nanosleep(&(struct timespec){.tv_nsec = MOE_TEAM_LONGEST_NS}, NULL);
        uint64_t now = moe_clock_ns(), most = 10 * (uint64_t)MOE_TEAM_LONGEST_NS;
        pass_time(team, now - last < most ? now - last : most);
        last = now;
    }
    if (team->link.rank == 0)
        send_all(team, MOE_TEAM_LEAVE);
}
