#include "sim/engine.h"

#include <stdlib.h>

enum { SPEED_BITS = 20, QUEUE_BITS = MOE_OP_QUEUE_BITS };
#define FULL_SPEED ((uint64_t)1 << SPEED_BITS)

_Static_assert(MOE_N_QUEUES <= 1 << QUEUE_BITS, "a handle has room for the queue's number");

enum {
    COPY_QUEUES = 1 << MOE_QUEUE_DEMAND | 1 << MOE_QUEUE_FILL | 1 << MOE_QUEUE_PREFETCH,
    ALL_QUEUES = (1 << MOE_N_QUEUES) - 1
};

/* The queues that feed the same lane as this one, itself included. */
static const uint8_t siblings[MOE_N_QUEUES] = {
    [MOE_QUEUE_GPU] = 1 << MOE_QUEUE_GPU, [MOE_QUEUE_CPU] = 1 << MOE_QUEUE_CPU,
    [MOE_QUEUE_DEMAND] = COPY_QUEUES,     [MOE_QUEUE_FILL] = COPY_QUEUES,
    [MOE_QUEUE_PREFETCH] = COPY_QUEUES,   [MOE_QUEUE_DOWN] = 1 << MOE_QUEUE_DOWN,
    [MOE_QUEUE_UP] = 1 << MOE_QUEUE_UP,
};

static const uint8_t lane_of[MOE_N_QUEUES] = {
    [MOE_QUEUE_GPU] = MOE_LANE_GPU,      [MOE_QUEUE_CPU] = MOE_LANE_CPU,
    [MOE_QUEUE_DEMAND] = MOE_LANE_H2D,   [MOE_QUEUE_FILL] = MOE_LANE_H2D,
    [MOE_QUEUE_PREFETCH] = MOE_LANE_H2D, [MOE_QUEUE_DOWN] = MOE_LANE_DOWN,
    [MOE_QUEUE_UP] = MOE_LANE_UP,
};

/* A queue finishes its operations in the order in which they were submitted, so operation number i
 * (from 1) is done exactly when i <= n_done. */
struct queue {
    struct moe_op_spec *ring;
    uint64_t n_submitted, n_started, n_done;
};

struct lane {
    uint64_t end_ns; /* of the running operation at its present speed */
    uint64_t start_ns;
    uint64_t rated_ns; /* when `left` was computed; only for operations that use the DRAM */
    uint64_t left;     /* work left then, in 2^-20 ns */
    uint64_t dram_kb_per_s;
    uint8_t queue; /* that the running operation came from */
};

struct moe_engine {
    uint64_t now_ns;
    uint64_t *busy_ns;
    unsigned busy;    /* lanes that run an operation */
    unsigned open;    /* queues whose lane is idle */
    unsigned waiting; /* queues with operations not started */
    uint64_t speed;   /* of operations that use the DRAM; FULL_SPEED is 1 ns of work a ns */
    uint64_t dram_kb_per_s, wanted_kb_per_s; /* what it has; what the running operations want */
    uint32_t mask;                           /* ring size - 1 */
    unsigned observed;
    moe_op_observer *observer;
    void *user;
    struct lane lane[MOE_N_LANES];
    struct queue queue[MOE_N_QUEUES];
    uint64_t own_busy_ns[1 << MOE_N_LANES]; /* until the caller gives a table */
};

enum moe_status moe_engine_new(struct moe_engine **out, uint64_t dram_kb_per_s, uint32_t capacity,
                               struct moe_err *err)
{
    struct moe_engine *e = calloc(1, sizeof *e);
    uint32_t size = 16;
    while (size < capacity)
        size *= 2;
    if (!e)
        return moe_fail_memory(err, "the event engine");
    e->busy_ns = e->own_busy_ns;
    e->dram_kb_per_s = dram_kb_per_s;
    e->open = ALL_QUEUES;
    for (unsigned l = 0; l < MOE_N_LANES; l++)
        e->lane[l].end_ns = UINT64_MAX;
    e->speed = FULL_SPEED;
    e->mask = size - 1;
    for (int q = 0; q < MOE_N_QUEUES; q++) {
        e->queue[q].ring = calloc(size, sizeof *e->queue[q].ring);
        if (!e->queue[q].ring) {
            moe_engine_free(e);
            return moe_fail_memory(err, "the event engine");
        }
    }
    *out = e;
    return MOE_OK;
}

void moe_engine_free(struct moe_engine *e)
{
    if (!e)
        return;
    for (int q = 0; q < MOE_N_QUEUES; q++)
        free(e->queue[q].ring);
    free(e);
}

void moe_engine_observe(struct moe_engine *e, unsigned queues, moe_op_observer *observer,
                        void *user)
{
    e->observed = queues;
    e->observer = observer;
    e->user = user;
}

void moe_engine_count_into(struct moe_engine *e, uint64_t *busy_ns)
{
    e->busy_ns = busy_ns;
}

uint64_t moe_engine_now(const struct moe_engine *e)
{
    return e->now_ns;
}

static moe_op handle_of(uint64_t number, unsigned q)
{
    return number << QUEUE_BITS | q;
}

bool moe_engine_done(const struct moe_engine *e, moe_op op)
{
    return op >> QUEUE_BITS <= e->queue[moe_op_queue(op)].n_done;
}

/* After the DRAM's readers changed: their new common speed, and when each of them ends at it. */
static void share_dram(struct moe_engine *e)
{
    uint64_t old = e->speed, speed = FULL_SPEED;
    if (e->wanted_kb_per_s > e->dram_kb_per_s)
        speed = (e->dram_kb_per_s << SPEED_BITS) / e->wanted_kb_per_s;
    e->speed = speed = speed ? speed : 1;
    for (unsigned l = 0; l < MOE_N_LANES; l++) {
        struct lane *lane = &e->lane[l];
        if (!(e->busy >> l & 1) || lane->dram_kb_per_s == 0)
            continue;
        uint64_t done = (e->now_ns - lane->rated_ns) * old;
        lane->left -= done < lane->left ? done : lane->left;
        lane->rated_ns = e->now_ns;
        lane->end_ns = e->now_ns + (lane->left + speed - 1) / speed;
    }
}

/* Whether a change of the DRAM's readers moves the ends of the others: not where it had enough for
 * all of them before, and has now. */
static bool dram_is_short(const struct moe_engine *e)
{
    return e->speed != FULL_SPEED || e->wanted_kb_per_s > e->dram_kb_per_s;
}

static bool head_is_ready(const struct moe_engine *e, unsigned q)
{
    const struct moe_op_spec *spec = &e->queue[q].ring[e->queue[q].n_started & e->mask];
    return moe_engine_done(e, spec->after[0]) && moe_engine_done(e, spec->after[1]);
}

static inline void start_head(struct moe_engine *e, unsigned q)
{
    struct queue *queue = &e->queue[q];
    unsigned l = lane_of[q];
    struct lane *lane = &e->lane[l];
    const struct moe_op_spec *spec = &queue->ring[queue->n_started++ & e->mask];
    if (queue->n_started == queue->n_submitted)
        e->waiting &= ~(1u << q);
    e->busy |= 1u << l;
    e->open &= ~(unsigned)siblings[q];
    lane->queue = (uint8_t)q;
    lane->start_ns = e->now_ns;
    lane->end_ns = e->now_ns + spec->work_ns;
    lane->dram_kb_per_s = spec->dram_kb_per_s;
    if (spec->dram_kb_per_s) {
        lane->rated_ns = e->now_ns;
        lane->left = spec->work_ns << SPEED_BITS;
        e->wanted_kb_per_s += spec->dram_kb_per_s;
        if (dram_is_short(e))
            share_dram(e);
    }
}

static inline void finish(struct moe_engine *e, unsigned l)
{
    struct lane *lane = &e->lane[l];
    unsigned q = lane->queue;
    struct queue *queue = &e->queue[q];
    const struct moe_op_spec *spec = &queue->ring[queue->n_done++ & e->mask];
    e->busy &= ~(1u << l);
    e->open |= siblings[q];
    lane->end_ns = UINT64_MAX;
    if (lane->dram_kb_per_s) {
        e->wanted_kb_per_s -= lane->dram_kb_per_s;
        if (dram_is_short(e))
            share_dram(e);
    }
    if (e->observed >> q & 1)
        e->observer(e->user, handle_of(queue->n_done, q), spec, lane->start_ns, e->now_ns);
}

static inline void start_ready(struct moe_engine *e)
{
    for (unsigned ready = e->waiting & e->open; ready;) {
        unsigned q = (unsigned)__builtin_ctz(ready);
        ready &= ready - 1;
        if (head_is_ready(e, q)) {
            start_head(e, q);
            ready &= e->open;
        }
    }
}

/* Moves time to the next end of an operation, and starts what that end allows. */
static inline void advance(struct moe_engine *e)
{
    unsigned first = 0;
    uint64_t end = e->lane[0].end_ns;
    for (unsigned l = 1; l < MOE_N_LANES; l++) {
        bool sooner = e->lane[l].end_ns < end;
        end = sooner ? e->lane[l].end_ns : end;
        first = sooner ? l : first;
    }
    e->busy_ns[e->busy] += end - e->now_ns;
    e->now_ns = end;
    finish(e, first);
    start_ready(e);
}

/* Moves time on by ns with these lanes busy, while copies run on. A copy that ends just then is
 * left to whoever moves time next, as the lanes before the copies' are served first. */
static inline void pass_time(struct moe_engine *e, unsigned lanes, uint64_t ns)
{
    const uint64_t end = e->now_ns + ns;
    while (ns && e->lane[MOE_LANE_H2D].end_ns < end) {
        e->busy_ns[e->busy | lanes] += e->lane[MOE_LANE_H2D].end_ns - e->now_ns;
        e->now_ns = e->lane[MOE_LANE_H2D].end_ns;
        finish(e, MOE_LANE_H2D);
        start_ready(e);
    }
    e->busy_ns[e->busy | lanes] += end - e->now_ns;
    e->now_ns = end;
}

bool moe_engine_run_layer(struct moe_engine *e, const struct moe_layer_work *work)
{
    const unsigned gpu = 1u << MOE_LANE_GPU, copy = 1u << MOE_LANE_H2D;
    const unsigned lane[] = {1u << MOE_LANE_DOWN, 1u << MOE_LANE_CPU, 1u << MOE_LANE_UP};
    const uint64_t beside[] = {work->down_ns, work->cpu_ns, work->up_ns};
    uint64_t left = work->gpu_ns;
    bool only_copies = e->busy & copy ? !(e->waiting & ~(unsigned)COPY_QUEUES) : !e->waiting;
    if ((e->busy & ~copy) || !only_copies || work->dram_kb_per_s > e->dram_kb_per_s)
        return false;
    for (size_t i = 0; i < sizeof lane / sizeof lane[0]; i++) {
        uint64_t both = beside[i] < left ? beside[i] : left;
        pass_time(e, lane[i] | gpu, both);
        pass_time(e, lane[i], beside[i] - both);
        left -= both;
    }
    pass_time(e, gpu, left + work->last_ns);
    return true;
}

struct moe_op_spec *moe_engine_place(struct moe_engine *e, enum moe_queue q)
{
    struct queue *queue = &e->queue[q];
    struct moe_op_spec *spec = &queue->ring[queue->n_submitted & e->mask];
    if (queue->n_submitted - queue->n_done > e->mask)
        moe_engine_run_until(e, handle_of(queue->n_done + 1, q));
    return spec;
}

moe_op moe_engine_submit(struct moe_engine *e, enum moe_queue q)
{
    struct queue *queue = &e->queue[q];
    struct moe_op_spec *spec = &queue->ring[queue->n_submitted++ & e->mask];
    if (spec->work_ns > MOE_MAX_WORK_NS)
        spec->work_ns = MOE_MAX_WORK_NS;
    bool is_head = !(e->waiting >> q & 1);
    e->waiting |= 1u << q;
    if (is_head && e->open >> q & 1 && head_is_ready(e, q))
        start_head(e, q);
    return handle_of(queue->n_submitted, q);
}

bool moe_engine_cancel(struct moe_engine *e, moe_op op, uint8_t kind)
{
    struct queue *queue = &e->queue[moe_op_queue(op)];
    if (op >> QUEUE_BITS <= queue->n_started)
        return false;
    struct moe_op_spec *spec = &queue->ring[((op >> QUEUE_BITS) - 1) & e->mask];
    spec->work_ns = spec->dram_kb_per_s = 0;
    spec->kind = kind;
    return true;
}

void moe_engine_run_until(struct moe_engine *e, moe_op op)
{
    while (!moe_engine_done(e, op))
        advance(e);
}
