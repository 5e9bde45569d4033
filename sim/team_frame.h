/* The messages of a team, and what its two sides share (private to sim/team*.c). */
#ifndef MOELAB_SIM_TEAM_FRAME_H
#define MOELAB_SIM_TEAM_FRAME_H

#include "sim/team.h"

enum moe_team_kind {
    MOE_TEAM_BEAT = 1, /* heartbeat; any message counts as one */
    /* to rank 0 */
    MOE_TEAM_ASK,     /* n: items wanted; a: identity; b: ns that the last answer took, or 0 */
    MOE_TEAM_RESULTS, /* n: results, of moe_team_pack */
    MOE_TEAM_FAILED,  /* status, text; may be of an earlier map */
    MOE_TEAM_BYE,     /* the rank's part of the map is over: it will not finish what it still has */
    MOE_TEAM_CLOSE,   /* there will be no more maps; answered by LEAVE */
    /* from rank 0 */
    MOE_TEAM_DEAL,  /* n: items, u64 each */
    MOE_TEAM_STOP,  /* status MOE_OK: all is computed, with the shared results; else the failure's
                     * text, may be of an earlier map. a: some rank is lost */
    MOE_TEAM_LEAVE, /* every rank has said CLOSE or is lost. a: some rank is lost */
};

/* Ranks run the same program on machines of the same byte order. */
struct moe_team_frame {
    uint32_t kind, status;
    uint64_t map; /* number of the map that it belongs to */
    uint64_t n, a, b;
};

struct moe_team_peer {
    uint64_t silent_ns; /* since its last message */
    uint64_t wanted;    /* items that it asked for and has not been dealt */
    bool lost, heard;   /* considered lost, until it is heard again; heard from at all */
    bool closed;        /* has said CLOSE; rank 0: LEAVE */
};

struct moe_team {
    struct moe_team_link link;
    uint64_t lost_ns, map;
    struct moe_team_peer *peer; /* [size] */
    uint64_t beat_ns;           /* since the last beat */
    struct moe_err why;         /* status: the job has failed */
    bool told;                  /* the others know why */
    bool broken;                /* rank 0 is lost */
    bool some_lost;             /* on other ranks: rank 0 said so */
};

/* A growing message. Where memory ran out bytes is NULL, room SIZE_MAX, and it stays so. */
struct moe_team_text {
    char *bytes;
    size_t size, room;
};

void moe_team_pack(struct moe_team_text *text, uint64_t item, uint64_t ns, const char *bytes,
                   size_t size);

/* The next packed result, from *at on, which is moved behind it. False at the end, or where it is
 * cut short. */
struct moe_team_packed {
    uint64_t item, ns, size;
    const char *bytes;
};
bool moe_team_unpack(const char *bytes, size_t size, size_t *at, struct moe_team_packed *out);

/* Sends a frame with its payload. */
enum moe_status moe_team_send(struct moe_team *team, uint32_t to, struct moe_team_frame frame,
                              const void *payload, size_t size, struct moe_err *err);
/* A message: its frame, and the heap block that its payload lies in after the frame; *block NULL:
 * none. Messages too short for a frame are left out. */
enum moe_status moe_team_receive(struct moe_team *team, uint32_t *from,
                                 struct moe_team_frame *frame, char **block, size_t *size,
                                 struct moe_err *err);
/* Is some rank taken for lost? */
bool moe_team_lost_some(const struct moe_team *team);

/* The error in a message of FAILED or STOP. */
void moe_team_read_error(const struct moe_team_frame *frame, const char *block, size_t size,
                         struct moe_err *err);

/* Waits until all ranks that are not lost have come to the end as well. */
void moe_team_part(struct moe_team *team);

/* Both sides of moe_team_map. */
enum moe_status moe_team_lead(struct moe_team *team, const struct moe_team_work *work,
                              struct moe_err *err);
enum moe_status moe_team_serve(struct moe_team *team, const struct moe_team_work *work,
                               struct moe_err *err);

/* The pauses of the thread that talks: the shortest while messages come, doubled up to the longest
 * while none do. */
struct moe_team_pause {
    uint64_t last_ns, pause_ns; /* end of the last one; its length */
};
enum { MOE_TEAM_SHORTEST_NS = 100000, MOE_TEAM_LONGEST_NS = 1000000, MOE_TEAM_ALONE_NS = 50000000 };

/* Sleeps for the next pause, or until the crew has news. traffic: messages came since the last one.
 * Returns the time that passed since then, but at most 10 MOE_TEAM_LONGEST_NS: a process that was
 * itself stopped for a while must not take the others for silent. */
uint64_t moe_team_rest(struct moe_team_pause *pause, struct moe_crew *crew, bool traffic,
                       uint64_t longest_ns);

#endif
