#include "sim/team_frame.h"

#include "base/progress.h"

#include <stdlib.h>
#include <string.h>

static void append(struct moe_team_text *text, const void *bytes, size_t size)
{
    if (text->room == SIZE_MAX)
        return;
    if (text->room - text->size < size) {
        size_t room = 2 * text->room + size;
        char *more = realloc(text->bytes, room);
        if (!more) {
            free(text->bytes);
            *text = (struct moe_team_text){.room = SIZE_MAX};
            return;
        }
        text->bytes = more;
        text->room = room;
    }
    if (size)
        memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

void moe_team_pack(struct moe_team_text *text, uint64_t item, uint64_t ns, const char *bytes,
                   size_t size)
{
    const uint64_t head[3] = {item, ns, size};
    append(text, head, sizeof head);
    append(text, bytes, size);
}

bool moe_team_unpack(const char *bytes, size_t size, size_t *at, struct moe_team_packed *out)
{
    uint64_t head[3];
    if (size - *at < sizeof head)
        return false;
    memcpy(head, bytes + *at, sizeof head);
    if (size - *at - sizeof head < head[2])
        return false;
    *out = (struct moe_team_packed){head[0], head[1], head[2], bytes + *at + sizeof head};
    *at += sizeof head + (size_t)head[2];
    return true;
}

enum moe_status moe_team_send(struct moe_team *team, uint32_t to, struct moe_team_frame frame,
                              const void *payload, size_t size, struct moe_err *err)
{
    char *bytes = malloc(sizeof frame + size);
    if (!bytes)
        return moe_fail_memory(err, "a message");
    memcpy(bytes, &frame, sizeof frame);
    if (size)
        memcpy(bytes + sizeof frame, payload, size);
    return team->link.ops->send(team->link.self, to, bytes, sizeof frame + size, err);
}

enum moe_status moe_team_receive(struct moe_team *team, uint32_t *from,
                                 struct moe_team_frame *frame, char **block, size_t *size,
                                 struct moe_err *err)
{
    *block = NULL;
    if (team->link.size == 1)
        return MOE_OK;
    for (;;) {
        enum moe_status s = team->link.ops->poll(team->link.self, from, block, size, err);
        if (s || !*block)
            return s;
        team->peer[*from].silent_ns = 0;
        team->peer[*from].lost = false;
        team->peer[*from].heard = true;
        if (*size >= sizeof *frame)
            break;
        free(*block);
    }
    memcpy(frame, *block, sizeof *frame);
    return MOE_OK;
}

bool moe_team_lost_some(const struct moe_team *team)
{
    bool lost = team->some_lost;
    for (uint32_t r = 0; r < team->link.size; r++)
        lost = lost || team->peer[r].lost;
    return lost;
}

void moe_team_read_error(const struct moe_team_frame *frame, const char *block, size_t size,
                         struct moe_err *err)
{
    moe_fail(err, (enum moe_status)frame->status, "%.*s", (int)(size - sizeof *frame),
             block + sizeof *frame);
}

uint64_t moe_team_rest(struct moe_team_pause *pause, struct moe_crew *crew, bool traffic,
                       uint64_t longest_ns)
{
    uint64_t doubled = pause->pause_ns < longest_ns / 2 ? 2 * pause->pause_ns : longest_ns;
    pause->pause_ns = traffic || !pause->pause_ns ? MOE_TEAM_SHORTEST_NS : doubled;
    moe_crew_wait(crew, pause->pause_ns);
    uint64_t now = moe_clock_ns(), passed = pause->last_ns ? now - pause->last_ns : 0;
    pause->last_ns = now;
    const uint64_t most = 10 * (uint64_t)MOE_TEAM_LONGEST_NS;
    return passed < most ? passed : most;
}
