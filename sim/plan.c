#include "sim/plan.h"

#include "sim/deal.h"
#include "sim/team_frame.h"

#include <stdlib.h>

enum kind { FINISHED, ASKED, DEALT };

struct event {
    double at;
    uint64_t order; /* ties: first come, first served */
    enum kind kind;
    uint32_t rank;
    size_t item;  /* of FINISHED */
    size_t batch; /* of DEALT: n_batch items at plan.dealt + batch */
    size_t n_batch;
};

struct rank {
    struct moe_crew_state crew;
    const uint64_t *queue; /* items dealt to it last */
    size_t head, tail, n_finished;
    double busy_ns, told_at; /* told: when it last sent results */
    bool asked;
};

struct planner {
    const struct moe_plan *plan;
    struct moe_deal deal;
    struct rank *rank;
    struct event *heap;
    size_t n_events, room;
    uint64_t *dealt; /* [n_items] items in the order they were dealt */
    size_t n_dealt;
    double now;
    double free_at, talking_ns; /* when rank 0 can take the next message; its time for all */
    uint64_t order, messages;
    bool out_of_memory;
};

/* --- events in order ------------------------------------------------------------------------ */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct planner *p, struct event e)
{
    if (p->n_events == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        struct event *more = realloc(p->heap, room * sizeof *more);
        if (!more) {
            p->out_of_memory = true;
            return;
        }
        p->heap = more;
        p->room = room;
    }
    size_t i = p->n_events++;
    e.order = p->order++;
    for (; i > 0 && before(&e, &p->heap[(i - 1) / 2]); i = (i - 1) / 2)
        p->heap[i] = p->heap[(i - 1) / 2];
    p->heap[i] = e;
}

static struct event pop(struct planner *p)
{
    struct event first = p->heap[0], last = p->heap[--p->n_events];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < p->n_events; i = child) {
        child += child + 1 < p->n_events && before(&p->heap[child + 1], &p->heap[child]);
        if (!before(&p->heap[child], &last))
            break;
        p->heap[i] = p->heap[child];
    }
    p->heap[i] = last;
    return first;
}

/* --- one rank ------------------------------------------------------------------------------- */

static void begin_items(struct planner *p, uint32_t r)
{
    struct rank *rank = &p->rank[r];
    for (; rank->crew.idle && rank->head < rank->tail; rank->crew.idle--) {
        size_t item = (size_t)rank->queue[rank->head++];
        push(p, (struct event){.at = p->now + (double)p->plan->item_ns[item],
                               .kind = FINISHED,
                               .rank = r,
                               .item = item});
    }
    rank->crew.waiting = rank->tail - rank->head;
}

static void take_items(struct planner *p, uint32_t r, const uint64_t *items, size_t n)
{
    struct rank *rank = &p->rank[r];
    rank->head = 0; /* it asks when nothing waits */
    rank->tail = n;
    rank->queue = items;
    rank->asked = false;
    begin_items(p, r);
}

/* Rank 0 takes a message once it is done with those before. Returns when it has answered. */
static double handle(struct planner *p)
{
    double begin = p->now > p->free_at ? p->now : p->free_at;
    p->messages++;
    p->talking_ns += p->plan->handling_ns;
    p->free_at = begin + p->plan->handling_ns;
    return p->free_at;
}

static void deal(struct planner *p, uint32_t r, double answered)
{
    struct rank *rank = &p->rank[r];
    uint64_t wanted =
        r == 0 && p->deal.n_ranks == 1 ? p->deal.n_items : moe_deal_wanted(&rank->crew);
    size_t n =
        moe_deal_give(&p->deal, r, wanted ? wanted : 1, p->deal.n_items, p->dealt + p->n_dealt);
    size_t at = p->n_dealt;
    p->n_dealt += n;
    if (n && r == 0)
        take_items(p, r, p->dealt + at, n);
    else if (n)
        push(p, (struct event){.at = answered + p->plan->answer_ns / 2,
                               .kind = DEALT,
                               .rank = r,
                               .batch = at,
                               .n_batch = n});
}

static void ask(struct planner *p, uint32_t r)
{
    struct rank *rank = &p->rank[r];
    if (rank->asked || !p->deal.n_left || !moe_deal_wanted(&rank->crew))
        return;
    if (r == 0) {
        deal(p, 0, p->now);
        return;
    }
    rank->asked = true;
    push(p, (struct event){.at = p->now + p->plan->answer_ns / 2, .kind = ASKED, .rank = r});
}

static void finish(struct planner *p, const struct event *e)
{
    struct rank *rank = &p->rank[e->rank];
    rank->busy_ns += (double)p->plan->item_ns[e->item];
    rank->n_finished++;
    rank->crew.mean_ns = (uint64_t)(rank->busy_ns / (double)rank->n_finished);
    rank->crew.idle++;
    moe_deal_finish(&p->deal, e->item);
    begin_items(p, e->rank);
    /* Results that are finished within one pause of the talking thread share a message. */
    if (e->rank > 0 && p->now - rank->told_at >= MOE_TEAM_LONGEST_NS) {
        rank->told_at = p->now;
        handle(p);
    }
    ask(p, e->rank);
}

/* --- the whole ------------------------------------------------------------------------------ */

static enum moe_status prepare(struct planner *p, uint32_t ranks, struct moe_err *err)
{
    const struct moe_plan *plan = p->plan;
    enum moe_status s = moe_deal_init(&p->deal, plan->n_items, ranks, err);
    if (s)
        return s;
    for (size_t i = 0; i < plan->n_items; i++)
        if (!plan->item_ns[i])
            moe_deal_finish(&p->deal, i);
    p->dealt = calloc(plan->n_items + 1, sizeof *p->dealt);
    p->rank = calloc(ranks, sizeof *p->rank);
    for (uint32_t r = 0; p->rank && r < ranks; r++)
        p->rank[r].crew = (struct moe_crew_state){.threads = plan->threads, .idle = plan->threads};
    p->free_at = p->now = (double)plan->prepare_ns;
    return p->dealt && p->rank ? MOE_OK : moe_fail_memory(err, "a plan");
}

static void run(struct planner *p, uint32_t ranks)
{
    for (uint32_t r = 0; r < ranks; r++)
        ask(p, r);
    while (p->n_events && !p->out_of_memory) {
        struct event e = pop(p);
        p->now = e.at;
        if (e.kind == FINISHED)
            finish(p, &e);
        else if (e.kind == ASKED)
            deal(p, e.rank, handle(p));
        else
            take_items(p, e.rank, p->dealt + e.batch, e.n_batch);
        if (e.kind == DEALT)
            ask(p, e.rank);
    }
}

static const char *limit_of(const struct planner *p, double end, uint32_t ranks)
{
    const struct moe_plan *plan = p->plan;
    double sum = 0, longest = 0;
    for (size_t i = 0; i < plan->n_items; i++) {
        double ns = (double)plan->item_ns[i];
        sum += ns;
        longest = ns > longest ? ns : longest;
    }
    const double work = sum / ((double)ranks * plan->threads),
                 rest = end - (double)plan->prepare_ns;
    if (work >= 0.9 * end)
        return "the points themselves";
    if ((double)plan->prepare_ns > 0.5 * end)
        return "preparation";
    if (longest > 0.9 * rest)
        return "the longest point";
    return p->talking_ns > 0.5 * rest ? "messages to rank 0" : "the last points, and answers";
}

static enum moe_status plan_once(const struct moe_plan *plan, uint32_t ranks,
                                 struct moe_plan_row *out, struct moe_err *err)
{
    struct planner p = {.plan = plan};
    enum moe_status s = prepare(&p, ranks, err);
    if (!s)
        run(&p, ranks);
    if (!s && p.out_of_memory)
        s = moe_fail_memory(err, "a plan");
    if (!s) {
        double end = p.now > p.free_at ? p.now : p.free_at;
        *out = (struct moe_plan_row){.ranks = ranks,
                                     .seconds = end / 1e9,
                                     .messages = p.messages,
                                     .limit = limit_of(&p, end, ranks)};
    }
    free(p.rank);
    free(p.heap);
    free(p.dealt);
    moe_deal_release(&p.deal);
    return s;
}

enum moe_status moe_plan_ranks(const struct moe_plan *plan, uint32_t ranks,
                               struct moe_plan_row *out, struct moe_err *err)
{
    struct moe_plan_row one, many;
    bool any = false;
    for (size_t i = 0; i < plan->n_items; i++)
        any |= plan->item_ns[i] > 0;
    if (!any)
        return moe_fail(err, MOE_ERR_USAGE, "no point was run, so there are no times to plan with");
    enum moe_status s = plan_once(plan, 1, &one, err);
    if (!s)
        s = plan_once(plan, ranks, &many, err);
    if (s)
        return s;
    many.speedup = one.seconds / many.seconds;
    many.efficiency = many.speedup / ranks;
    *out = many;
    return MOE_OK;
}
