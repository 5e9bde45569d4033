#include "exec/copy_team.h"

#include <pthread.h>
#include <stdlib.h>

/* What a thread takes at a time: small, so that one that wakes late takes fewer pieces, and nobody
 * waits long for its last one. */
enum { PIECE_BYTES = 256 << 10 };

struct moe_copy_team {
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    pthread_t thread[MOE_COPY_THREADS_MAX - 1];
    uint32_t n_threads; /* beside the caller */
    bool end;
    const struct moe_expert_layout *layout;
    const struct moe_expert_weights *expert;
    char *to;
    uint64_t at, next, n; /* of the n bytes from `at` on, [next, n) are not taken yet */
    uint32_t n_busy;      /* pieces that are being copied */
};

/* Takes and copies one piece. Called with the lock held, which is released while it copies. */
static void read_piece(struct moe_copy_team *team)
{
    const uint64_t from = team->next, left = team->n - from;
    const uint64_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
    team->next += n;
    team->n_busy++;
    pthread_mutex_unlock(&team->lock);
    moe_expert_layout_read(team->layout, team->expert, team->at + from, n, team->to + from);
    pthread_mutex_lock(&team->lock);
    if (--team->n_busy == 0 && team->next == team->n)
        pthread_cond_signal(&team->done);
}

static void *help(void *context)
{
    struct moe_copy_team *team = context;
    pthread_mutex_lock(&team->lock);
    while (!team->end)
        if (team->next < team->n)
            read_piece(team);
        else
            pthread_cond_wait(&team->wake, &team->lock);
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

enum moe_status moe_copy_team_new(struct moe_copy_team **out, uint32_t threads, struct moe_err *err)
{
    struct moe_copy_team *team = calloc(1, sizeof *team);
    if (!team)
        return moe_fail_memory(err, "the threads that fill a ring");
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    pthread_cond_init(&team->done, NULL);
    while (team->n_threads + 1 < threads &&
           !pthread_create(&team->thread[team->n_threads], NULL, help, team))
        team->n_threads++;
    *out = team;
    return MOE_OK;
}

void moe_copy_team_free(struct moe_copy_team *team)
{
    if (!team)
        return;
    pthread_mutex_lock(&team->lock);
    team->end = true;
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
    for (uint32_t i = 0; i < team->n_threads; i++)
        pthread_join(team->thread[i], NULL);
    pthread_mutex_destroy(&team->lock);
    pthread_cond_destroy(&team->wake);
    pthread_cond_destroy(&team->done);
    free(team);
}

void moe_copy_team_read(struct moe_copy_team *team, const struct moe_expert_layout *layout,
                        const struct moe_expert_weights *expert, uint64_t at, uint64_t n, void *to)
{
    pthread_mutex_lock(&team->lock);
    team->layout = layout;
    team->expert = expert;
    team->to = to;
    team->at = at;
    team->next = 0;
    team->n = n;
    if (n > PIECE_BYTES)
        pthread_cond_broadcast(&team->wake);
    while (team->next < team->n)
        read_piece(team);
    while (team->n_busy > 0)
        pthread_cond_wait(&team->done, &team->lock);
    pthread_mutex_unlock(&team->lock);
}
