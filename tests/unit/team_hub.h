/* Ranks of a team as threads of one process with message queues in memory. A rank can be unplugged:
 * from then on nothing that it sends arrives, and nothing reaches it. */
#ifndef MOELAB_TESTS_UNIT_TEAM_HUB_H
#define MOELAB_TESTS_UNIT_TEAM_HUB_H

#include "sim/team.h"
#include "tests/unit/run_suite.h"

#include <pthread.h>
#include <stdlib.h>

enum { HUB_RANKS = 6 };

struct hub_message {
    struct hub_message *next;
    uint32_t from;
    char *bytes;
    size_t size;
};

struct hub {
    pthread_mutex_t lock;
    struct hub_message *first[HUB_RANKS], *last[HUB_RANKS];
    bool unplugged[HUB_RANKS];
    _Atomic int sent[HUB_RANKS];  /* messages that each rank sent */
    _Atomic int heard[HUB_RANKS]; /* messages that reached it */
    int closed_with[HUB_RANKS];   /* enum moe_leave */
    _Atomic int n_closed;
};

struct hub_link {
    struct hub *hub;
    uint32_t rank;
};

static enum moe_status hub_send(void *self, uint32_t to, char *bytes, size_t size,
                                struct moe_err *err)
{
    struct hub_link *link = self;
    struct hub *hub = link->hub;
    struct hub_message *message = malloc(sizeof *message);
    (void)err;
    ck_assert(message && to < HUB_RANKS);
    *message = (struct hub_message){.from = link->rank, .bytes = bytes, .size = size};
    pthread_mutex_lock(&hub->lock);
    if (hub->unplugged[link->rank] || hub->unplugged[to]) {
        free(bytes);
        free(message);
    } else if (hub->last[to]) {
        hub->last[to] = hub->last[to]->next = message;
    } else {
        hub->first[to] = hub->last[to] = message;
    }
    pthread_mutex_unlock(&hub->lock);
    hub->sent[link->rank]++;
    return MOE_OK;
}

static enum moe_status hub_poll(void *self, uint32_t *from, char **bytes, size_t *size,
                                struct moe_err *err)
{
    struct hub_link *link = self;
    struct hub *hub = link->hub;
    (void)err;
    *bytes = NULL;
    pthread_mutex_lock(&hub->lock);
    struct hub_message *message = hub->unplugged[link->rank] ? NULL : hub->first[link->rank];
    if (message) {
        hub->first[link->rank] = message->next;
        if (!message->next)
            hub->last[link->rank] = NULL;
        hub->heard[link->rank]++;
        *from = message->from;
        *bytes = message->bytes;
        *size = message->size;
        free(message);
    }
    pthread_mutex_unlock(&hub->lock);
    return MOE_OK;
}

static void hub_close(void *self, uint64_t wait_ns, enum moe_leave how)
{
    struct hub_link *link = self;
    (void)wait_ns;
    link->hub->closed_with[link->rank] = (int)how;
    link->hub->n_closed++;
    free(link);
}

static const struct moe_team_link_ops hub_ops = {hub_send, hub_poll, hub_close};

static void hub_init(struct hub *hub)
{
    *hub = (struct hub){.first = {NULL}};
    pthread_mutex_init(&hub->lock, NULL);
}

static void hub_release(struct hub *hub)
{
    for (int r = 0; r < HUB_RANKS; r++)
        for (struct hub_message *m = hub->first[r], *next; m; m = next) {
            next = m->next;
            free(m->bytes);
            free(m);
        }
    pthread_mutex_destroy(&hub->lock);
}

static struct moe_team *hub_join(struct hub *hub, uint32_t rank, uint32_t size, double lost_after)
{
    struct moe_team *team;
    struct hub_link *link = malloc(sizeof *link);
    ck_assert(link != NULL);
    *link = (struct hub_link){hub, rank};
    const struct moe_team_link over = {&hub_ops, link, rank, size, 1};
    ck_assert(!moe_team_over(&over, lost_after, &team, NULL));
    return team;
}

static void hub_unplug(struct hub *hub, uint32_t rank)
{
    pthread_mutex_lock(&hub->lock);
    hub->unplugged[rank] = true;
    pthread_mutex_unlock(&hub->lock);
}

#endif
