#include "sim/team.h"

#include "base/progress.h"
#include "sim/team_frame.h"
#include "sim/team_launch.h"
#include "sim/team_mpi.h"

#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>

enum moe_status moe_team_over(const struct moe_team_link *link, double lost_after,
                              struct moe_team **out, struct moe_err *err)
{
    struct moe_team *team = calloc(1, sizeof *team);
    if (team)
        team->peer = calloc(link->size, sizeof *team->peer);
    if (!team || !team->peer) {
        if (link->ops) /* the others hear no more of this process, which ends and says why */
            link->ops->close(link->self, 0, MOE_LEAVE_SOME);
        free(team);
        return moe_fail_memory(err, "a team");
    }
    team->link = *link;
    team->lost_ns = (uint64_t)(lost_after * 1e9);
    *out = team;
    return MOE_OK;
}

/* A launcher's N processes must become N ranks: else each would take itself for rank 0, and all
 * would write the same files. */
enum moe_status moe_team_open(double lost_after, struct moe_team **out, struct moe_err *err)
{
    struct moe_team_link link;
    const struct moe_launch launch = moe_launch_look();
    *out = NULL;
    if (!launch.by)
        return MOE_OK;
    enum moe_status s = moe_team_mpi_open(&link, err);
    if (s)
        return moe_fail_prefix(err, "%s started %" PRIu32 " processes", launch.by, launch.size);
    if (link.size == launch.size)
        return moe_team_over(&link, lost_after, out, err);
    if (link.size > 1)
        link.ops->close(link.self, 0, MOE_LEAVE_TOGETHER);
    char library[80];
    return moe_fail(err, MOE_ERR_UNSUPPORTED,
                    "%s started %" PRIu32 " processes, but MPI knows of %" PRIu32
                    ": this program was built with %s; use its mpirun, or --shard",
                    launch.by, launch.size, link.size, moe_team_library(library, sizeof library));
}

/* Where this process fails alone the others hear of it. */
static void tell_others(struct moe_team *team, const struct moe_err *why)
{
    struct moe_team_frame frame = {.kind = team->link.rank ? MOE_TEAM_FAILED : MOE_TEAM_STOP,
                                   .status = (uint32_t)why->status,
                                   .map = team->map,
                                   .a = moe_team_lost_some(team)};
    const uint32_t end = team->link.rank ? 1 : team->link.size;
    for (uint32_t r = team->link.rank ? 0 : 1; r < end; r++)
        moe_team_send(team, r, frame, why->text, sizeof why->text, NULL);
}

enum moe_status moe_team_close(struct moe_team *team, enum moe_status s, struct moe_err *err)
{
    if (!team)
        return s;
    const bool mine = team->link.rank == 0;
    if (s && !team->told)
        tell_others(team, err);
    moe_team_part(team);
    if (team->broken)
        moe_log("%s", team->why.text);
    const enum moe_leave how = team->broken               ? MOE_LEAVE_BROKEN
                               : moe_team_lost_some(team) ? MOE_LEAVE_SOME
                                                          : MOE_LEAVE_TOGETHER;
    team->link.ops->close(team->link.self, team->lost_ns, how);
    free(team->peer);
    free(team);
    return mine ? s : MOE_OK;
}

uint32_t moe_team_rank(const struct moe_team *team)
{
    return team ? team->link.rank : 0;
}

uint32_t moe_team_size(const struct moe_team *team)
{
    return team ? team->link.size : 1;
}

uint32_t moe_team_threads(const struct moe_team *team, uint32_t wanted)
{
    uint32_t all = (uint32_t)omp_get_max_threads(), part = team ? team->link.threads : 0;
    if (wanted)
        return wanted;
    return part && part < all ? part : all;
}

enum moe_status moe_team_map(struct moe_team *team, const struct moe_team_work *work,
                             struct moe_err *err)
{
    struct moe_team_peer self = {0};
    struct moe_team alone = {.link = {.size = 1}, .lost_ns = UINT64_MAX, .peer = &self};
    if (!team)
        return moe_team_lead(&alone, work, err);
    team->map++;
    if (team->why.status) {
        *err = team->why;
        return err->status;
    }
    return team->link.rank ? moe_team_serve(team, work, err) : moe_team_lead(team, work, err);
}

uint32_t moe_team_launched_rank(void)
{
    return moe_launch_look().rank;
}
