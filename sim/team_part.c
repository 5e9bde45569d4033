/* The end of a team. A rank may be lost when it has nothing to do, too, and would be waited for. */
#include "base/progress.h"
#include "sim/team_frame.h"

#include <stdlib.h>
#include <time.h>

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

/* Others that are not heard of are taken for lost. Rank 0 waits for those it never heard of: they
 * may still be reading traces. */
static void pass_time(struct moe_team *team, uint64_t ns)
{
    const uint32_t end = team->link.rank ? 1 : team->link.size;
    for (uint32_t r = team->link.rank ? 0 : 1; r < end; r++) {
        struct moe_team_peer *peer = &team->peer[r];
        peer->silent_ns += ns;
        if (peer->heard && !peer->closed && peer->silent_ns > team->lost_ns)
            peer->lost = true;
    }
    team->beat_ns += ns;
    if (team->beat_ns > team->lost_ns / 10) {
        team->beat_ns = 0;
        send_all(team, MOE_TEAM_BEAT);
    }
}

/* Has rank 0 heard from everyone, or another rank from rank 0? */
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
