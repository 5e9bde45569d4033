/* The event engine against the ladder of design section 7.4: exact ends, formula when alone, peak
 * when saturated, half each for two sharers, work conserved, order, priorities, determinism. */
#include "base/rng.h"
#include "sim/engine.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct moe_engine *new_engine(uint64_t dram, uint32_t capacity)
{
    struct moe_engine *e;
    ck_assert_int_eq(moe_engine_new(&e, dram * 1000000, capacity, NULL), MOE_OK);
    return e;
}

static moe_op submit_spec(struct moe_engine *e, enum moe_queue q, const struct moe_op_spec *spec)
{
    *moe_engine_place(e, q) = *spec;
    return moe_engine_submit(e, q);
}

static moe_op submit(struct moe_engine *e, enum moe_queue q, uint64_t work, uint64_t dram)
{
    struct moe_op_spec spec = {.work_ns = work, .dram_kb_per_s = dram * 1000000};
    return submit_spec(e, q, &spec);
}

static moe_op submit_after(struct moe_engine *e, enum moe_queue q, uint64_t work, moe_op a,
                           moe_op b)
{
    struct moe_op_spec spec = {.work_ns = work, .after = {a, b}};
    return submit_spec(e, q, &spec);
}

static uint64_t end_of(struct moe_engine *e, moe_op op)
{
    moe_engine_run_until(e, op);
    return moe_engine_now(e);
}

START_TEST(not_done_just_before_done_at_its_time)
{
    struct moe_engine *e = new_engine(100, 16);
    moe_op op = submit(e, MOE_QUEUE_CPU, 1000, 50);
    moe_op before = submit(e, MOE_QUEUE_DOWN, 999, 0);
    ck_assert(!moe_engine_done(e, op));
    ck_assert_uint_eq(end_of(e, before), 999);
    ck_assert(!moe_engine_done(e, op));
    ck_assert_uint_eq(end_of(e, op), 1000);
    ck_assert(moe_engine_done(e, op));
    moe_engine_run_until(e, op);
    ck_assert_uint_eq(moe_engine_now(e), 1000);
    moe_engine_free(e);
}
END_TEST

START_TEST(alone_takes_its_work)
{
    static const uint64_t works[] = {0, 1, 7, 12345, 1000000007};
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        struct moe_engine *e = new_engine(96, 16);
        ck_assert_uint_eq(end_of(e, submit(e, MOE_QUEUE_FILL, works[i], 25)), works[i]);
        ck_assert_uint_eq(end_of(e, submit(e, MOE_QUEUE_GPU, works[i], 0)), 2 * works[i]);
        moe_engine_free(e);
    }
}
END_TEST

START_TEST(two_equal_sharers_get_half_each)
{
    struct moe_engine *e = new_engine(100, 16);
    moe_op a = submit(e, MOE_QUEUE_CPU, 1000, 100);
    moe_op b = submit(e, MOE_QUEUE_FILL, 1000, 100);
    moe_op probe = submit(e, MOE_QUEUE_GPU, 1999, 0);
    ck_assert_uint_eq(end_of(e, probe), 1999);
    ck_assert(!moe_engine_done(e, a) && !moe_engine_done(e, b));
    ck_assert_uint_eq(end_of(e, a), 2000);
    ck_assert_uint_eq(end_of(e, b), 2000);
    moe_engine_free(e);
}
END_TEST

START_TEST(one_alone_wants_more_than_there_is)
{
    struct moe_engine *e = new_engine(50, 16);
    ck_assert_uint_eq(end_of(e, submit(e, MOE_QUEUE_CPU, 1000, 100)), 2000);
    moe_engine_free(e);
}
END_TEST

/* Both want 90 + 30 = 120 of 60: speed 1/2 until one ends, then the other alone is below 60. */
START_TEST(slowed_by_one_factor_then_free)
{
    struct moe_engine *e = new_engine(60, 16);
    moe_op a = submit(e, MOE_QUEUE_CPU, 1000, 90);
    moe_op b = submit(e, MOE_QUEUE_FILL, 3000, 30);
    ck_assert_uint_eq(end_of(e, a), 2000);
    ck_assert_uint_eq(end_of(e, b), 2000 + (3000 - 1000));
    moe_engine_free(e);
}
END_TEST

/* A newcomer slows the one that runs: 400 of 1000 done alone, 600 left at half speed. */
START_TEST(newcomer_slows_the_running_one)
{
    struct moe_engine *e = new_engine(100, 16);
    moe_op a = submit(e, MOE_QUEUE_CPU, 1000, 100);
    moe_op later = submit(e, MOE_QUEUE_DOWN, 400, 0);
    moe_engine_run_until(e, later);
    moe_op b = submit(e, MOE_QUEUE_FILL, 1000, 100);
    ck_assert_uint_eq(end_of(e, a), 400 + 1200);
    ck_assert_uint_eq(end_of(e, b), 1600 + 400);
    moe_engine_free(e);
}
END_TEST

/* 64 jobs a side, 80 + 40 GB/s of 100: all bytes pass at the peak while both sides are at work. */
START_TEST(saturated_is_peak)
{
    struct moe_engine *e = new_engine(100, 128);
    moe_op cpu = 0, copy = 0;
    for (int i = 0; i < 64; i++) {
        cpu = submit(e, MOE_QUEUE_CPU, 1000000, 80);
        copy = submit(e, MOE_QUEUE_FILL, 1000000, 40);
    }
    moe_engine_run_until(e, cpu);
    moe_engine_run_until(e, copy);
    double bytes = 64 * 1e6 * (80 + 40);
    ck_assert_double_eq_tol(bytes / (double)moe_engine_now(e), 100, 1e-4);
    ck_assert_double_le(bytes / (double)moe_engine_now(e), 100);
    moe_engine_free(e);
}
END_TEST

START_TEST(lane_is_in_order)
{
    struct moe_engine *e = new_engine(100, 16);
    moe_op slow = submit(e, MOE_QUEUE_DOWN, 500, 0);
    moe_op a = submit_after(e, MOE_QUEUE_GPU, 10, slow, 0);
    moe_op b = submit(e, MOE_QUEUE_GPU, 10, 0); /* ready at once, but behind a */
    ck_assert_uint_eq(end_of(e, b), 520);
    ck_assert(moe_engine_done(e, a));
    moe_engine_free(e);
}
END_TEST

START_TEST(waits_for_both_dependencies)
{
    struct moe_engine *e = new_engine(100, 16);
    moe_op a = submit(e, MOE_QUEUE_DOWN, 300, 0), b = submit(e, MOE_QUEUE_UP, 200, 0);
    ck_assert_uint_eq(end_of(e, submit_after(e, MOE_QUEUE_GPU, 5, a, b)), 305);
    ck_assert_uint_eq(end_of(e, submit_after(e, MOE_QUEUE_GPU, 5, a, b)), 310);
    moe_engine_free(e);
}
END_TEST

/* The running fill ends, then demand, then the other fill, then the prefetch. */
START_TEST(demand_passes_queued_fills)
{
    struct moe_engine *e = new_engine(1000, 16);
    moe_op prefetch0 = submit(e, MOE_QUEUE_PREFETCH, 100, 25);
    moe_op prefetch1 = submit(e, MOE_QUEUE_PREFETCH, 100, 25);
    moe_op fill = submit(e, MOE_QUEUE_FILL, 100, 25);
    moe_op demand = submit(e, MOE_QUEUE_DEMAND, 100, 25);
    ck_assert_uint_eq(end_of(e, prefetch0), 100);
    ck_assert_uint_eq(end_of(e, demand), 200);
    ck_assert_uint_eq(end_of(e, fill), 300);
    ck_assert_uint_eq(end_of(e, prefetch1), 400);
    moe_engine_free(e);
}
END_TEST

static void note_kind(void *user, moe_op op, const struct moe_op_spec *spec, uint64_t start_ns,
                      uint64_t end_ns)
{
    uint64_t *kind_end = user;
    (void)op, (void)start_ns;
    kind_end[spec->kind] = end_ns;
}

/* A copy that is taken back keeps its place, takes no time and is told as its new kind. */
START_TEST(taken_back)
{
    struct moe_engine *e = new_engine(1000, 16);
    uint64_t kind_end[8] = {0};
    moe_engine_observe(e, 1 << MOE_QUEUE_PREFETCH, note_kind, kind_end);
    moe_op running = submit(e, MOE_QUEUE_PREFETCH, 100, 25);
    moe_op queued = submit(e, MOE_QUEUE_PREFETCH, 100, 25);
    moe_op behind = submit(e, MOE_QUEUE_PREFETCH, 100, 25);
    ck_assert(!moe_engine_cancel(e, running, 7)); /* has begun */
    ck_assert(!moe_engine_cancel(e, 0, 7));       /* was always done */
    ck_assert(moe_engine_cancel(e, queued, 7));
    ck_assert_uint_eq(end_of(e, behind), 200);
    ck_assert_uint_eq(kind_end[7], 100);
    ck_assert_uint_eq(kind_end[0], 200);
    ck_assert(moe_engine_done(e, queued));
    ck_assert(!moe_engine_cancel(e, queued, 7));
    moe_engine_free(e);
}
END_TEST

/* A demand copy that must wait for a kernel, which waits for a queued fill: the fill goes first. */
START_TEST(blocked_demand_does_not_hold_the_link)
{
    struct moe_engine *e = new_engine(1000, 16);
    moe_op running = submit(e, MOE_QUEUE_FILL, 100, 25);
    moe_op fill = submit(e, MOE_QUEUE_FILL, 100, 25);
    moe_op kernel = submit_after(e, MOE_QUEUE_GPU, 10, fill, 0);
    moe_op demand = submit_after(e, MOE_QUEUE_DEMAND, 100, kernel, 0);
    ck_assert_uint_eq(end_of(e, demand), 310);
    ck_assert(moe_engine_done(e, running));
    moe_engine_free(e);
}
END_TEST

START_TEST(full_queue_blocks_the_host)
{
    struct moe_engine *e = new_engine(1000, 16);
    for (int i = 0; i < 16; i++)
        submit(e, MOE_QUEUE_GPU, 10, 0);
    ck_assert_uint_eq(moe_engine_now(e), 0);
    moe_op last = submit(e, MOE_QUEUE_GPU, 10, 0);
    ck_assert_uint_eq(moe_engine_now(e), 10);
    ck_assert_uint_eq(end_of(e, last), 170);
    moe_engine_free(e);
}
END_TEST

START_TEST(busy_time_by_set_of_lanes)
{
    struct moe_engine *e = new_engine(1000, 16);
    uint64_t busy[1 << MOE_N_LANES] = {0};
    moe_engine_count_into(e, busy);
    submit(e, MOE_QUEUE_GPU, 300, 0);
    moe_op cpu = submit(e, MOE_QUEUE_CPU, 1000, 1);
    moe_engine_run_until(e, cpu);
    ck_assert_uint_eq(busy[1 << MOE_LANE_GPU | 1 << MOE_LANE_CPU], 300);
    ck_assert_uint_eq(busy[1 << MOE_LANE_CPU], 700);
    moe_engine_free(e);
}
END_TEST

/* Random schedules. */

enum { MAX_OPS = 120 };

struct record {
    moe_op op, after[2];
    unsigned queue;
    uint64_t number; /* of submission */
    uint64_t work, start, end;
    double dram;
};

struct log {
    size_t n;
    struct record done[MAX_OPS];
};

static void keep(void *user, moe_op op, const struct moe_op_spec *spec, uint64_t start,
                 uint64_t end)
{
    struct log *log = user;
    log->done[log->n++] = (struct record){.op = op,
                                          .after = {spec->after[0], spec->after[1]},
                                          .queue = (unsigned)(op & 7),
                                          .number = (uint64_t)spec->slot,
                                          .work = spec->work_ns,
                                          .start = start,
                                          .end = end,
                                          .dram = (double)spec->dram_kb_per_s * 1e-6};
}

static void random_run(uint64_t seed, uint64_t dram, struct log *log, uint64_t *busy, uint64_t *end)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    struct moe_engine *e = new_engine(dram, 16);
    moe_op ops[MAX_OPS];
    size_t n = 20 + moe_rng_below(&rng, MAX_OPS - 20);
    log->n = 0;
    moe_engine_observe(e, ~0u, keep, log);
    moe_engine_count_into(e, busy);
    for (size_t i = 0; i < n; i++) {
        enum moe_queue q = (enum moe_queue)moe_rng_below(&rng, MOE_N_QUEUES);
        bool reads = q == MOE_QUEUE_CPU || (q >= MOE_QUEUE_DEMAND && q <= MOE_QUEUE_PREFETCH);
        struct moe_op_spec spec = {.work_ns = moe_rng_below(&rng, 5000),
                                   .slot = (int32_t)i,
                                   .dram_kb_per_s = reads ? moe_rng_below(&rng, 120000000) : 0};
        for (int d = 0; d < 2; d++)
            if (i > 0 && moe_rng_below(&rng, 3) == 0)
                spec.after[d] = ops[moe_rng_below(&rng, i)];
        ops[i] = submit_spec(e, q, &spec);
        if (moe_rng_below(&rng, 8) == 0)
            moe_engine_run_until(e, ops[moe_rng_below(&rng, i + 1)]);
    }
    for (size_t i = 0; i < n; i++)
        moe_engine_run_until(e, ops[i]);
    ck_assert_uint_eq(log->n, n);
    *end = moe_engine_now(e);
    moe_engine_free(e);
}

static unsigned lane_of_queue(unsigned q)
{
    return q >= MOE_QUEUE_DEMAND && q <= MOE_QUEUE_PREFETCH ? 99 : q;
}

/* Work that the op got done, from the starts and ends alone: the sum over all stretches between
 * events of their length times min(1, dram / wanted). Stretches are cut at every event. */
static double work_done(const struct log *log, const struct record *op, double dram)
{
    double done = 0;
    for (uint64_t at = op->start; at < op->end;) {
        uint64_t next = op->end;
        double wanted = 0;
        for (size_t i = 0; i < log->n; i++) {
            const struct record *o = &log->done[i];
            if (o->start <= at && at < o->end)
                wanted += o->dram;
            if (o->start > at && o->start < next)
                next = o->start;
            if (o->end > at && o->end < next)
                next = o->end;
        }
        done += (double)(next - at) * (op->dram > 0 && wanted > dram ? dram / wanted : 1);
        at = next;
    }
    return done;
}

static const struct record *find(const struct log *log, moe_op op)
{
    for (size_t i = 0; i < log->n; i++)
        if (log->done[i].op == op)
            return &log->done[i];
    return NULL;
}

static void check_schedule(const struct log *log, double dram)
{
    for (size_t i = 0; i < log->n; i++) {
        const struct record *a = &log->done[i];
        double done = work_done(log, a, dram);
        /* An end is the first whole ns at which the work is done; speeds are cut to 2^-20. */
        ck_assert_double_ge(done, (double)a->work - 1e-6);
        ck_assert_double_le(done, (double)a->work + 1 + 1e-6 * (double)(a->end - a->start));
        if (a->dram == 0)
            ck_assert_uint_eq(a->end - a->start, a->work);
        for (int d = 0; d < 2; d++)
            if (a->after[d])
                ck_assert_uint_le(find(log, a->after[d])->end, a->start);
        for (size_t j = 0; j < i; j++) {
            const struct record *b = &log->done[j];
            if (lane_of_queue(a->queue) == lane_of_queue(b->queue))
                ck_assert_uint_le(b->end, a->start); /* one at a time */
            if (a->queue == b->queue)
                ck_assert_uint_lt(b->number, a->number); /* in order */
        }
    }
}

START_TEST(random_schedules_conserve_work)
{
    static struct log log;
    for (uint64_t seed = 0; seed < 150; seed++) {
        uint64_t busy[1 << MOE_N_LANES] = {0}, end, sum = 0;
        uint64_t dram = 20 + seed % 10 * 20;
        random_run(seed, dram, &log, busy, &end);
        check_schedule(&log, (double)dram);
        for (size_t i = 0; i < sizeof busy / sizeof busy[0]; i++)
            sum += busy[i];
        ck_assert_uint_eq(sum, end);
    }
}
END_TEST

/* Ends at one time are handled in the order of the lanes, whatever the order of submission. */
START_TEST(simultaneous_ends_in_lane_order)
{
    static struct log log;
    struct moe_engine *e = new_engine(1000, 16);
    log.n = 0;
    moe_engine_observe(e, ~0u, keep, &log);
    for (int q = MOE_N_QUEUES - 1; q >= 0; q--)
        if (lane_of_queue((unsigned)q) == (unsigned)q)
            submit(e, (enum moe_queue)q, 77, 0);
    moe_engine_run_until(e, submit(e, MOE_QUEUE_UP, 1, 0));
    ck_assert_uint_eq(log.n, 5);
    for (size_t i = 0; i < 4; i++) {
        static const unsigned order[] = {MOE_QUEUE_GPU, MOE_QUEUE_CPU, MOE_QUEUE_DOWN,
                                         MOE_QUEUE_UP};
        ck_assert_uint_eq(log.done[i].queue, order[i]);
        ck_assert_uint_eq(log.done[i].end, 77);
    }
    moe_engine_free(e);
}
END_TEST

START_TEST(same_submissions_same_times)
{
    static struct log a, b;
    uint64_t busy_a[1 << MOE_N_LANES] = {0}, busy_b[1 << MOE_N_LANES] = {0}, end_a, end_b;
    random_run(42, 60, &a, busy_a, &end_a);
    random_run(42, 60, &b, busy_b, &end_b);
    ck_assert_uint_eq(end_a, end_b);
    ck_assert_uint_eq(a.n, b.n);
    for (size_t i = 0; i < a.n; i++) {
        ck_assert_uint_eq(a.done[i].op, b.done[i].op);
        ck_assert_uint_eq(a.done[i].start, b.done[i].start);
        ck_assert_uint_eq(a.done[i].end, b.done[i].end);
    }
}
END_TEST

/* A layer's operations, one by one, and then waits for all of them. */
static void run_one_by_one(struct moe_engine *e, const struct moe_layer_work *w, uint64_t dram)
{
    moe_op gpu = 0, up = 0;
    if (w->gpu_ns) {
        submit(e, MOE_QUEUE_GPU, w->gpu_ns / 2, 0);
        gpu = submit(e, MOE_QUEUE_GPU, w->gpu_ns - w->gpu_ns / 2, 0);
    }
    if (w->cpu_ns) {
        moe_op down = submit(e, MOE_QUEUE_DOWN, w->down_ns, 0);
        struct moe_op_spec cpu = {
            .work_ns = w->cpu_ns, .dram_kb_per_s = dram * 1000000, .after = {down, 0}};
        moe_op end = submit_spec(e, MOE_QUEUE_CPU, &cpu);
        up = submit_after(e, MOE_QUEUE_UP, w->up_ns, end, 0);
    }
    moe_op last = submit_after(e, MOE_QUEUE_GPU, w->last_ns, gpu, up);
    moe_engine_run_until(e, last);
}

static struct moe_layer_work random_layer(struct moe_rng *rng)
{
    struct moe_layer_work w = {.last_ns = 1 + moe_rng_below(rng, 20)};
    if (moe_rng_below(rng, 3))
        w.gpu_ns = moe_rng_below(rng, 40);
    if (moe_rng_below(rng, 3)) {
        w.down_ns = moe_rng_below(rng, 5);
        w.cpu_ns = 1 + moe_rng_below(rng, 30);
        w.up_ns = moe_rng_below(rng, 5);
    }
    return w;
}

struct landed {
    uint64_t sum, n;
};

static void note_landed(void *user, moe_op op, const struct moe_op_spec *spec, uint64_t start_ns,
                        uint64_t end_ns)
{
    struct landed *landed = user;
    (void)spec;
    landed->n++;
    landed->sum = landed->sum * 31 + op * 7 + start_ns * 3 + end_ns;
}

/* Copies of both kinds, more than the link has done when the next layer begins. */
static void queue_copies(struct moe_engine *const e[2], struct moe_rng *rng)
{
    for (uint64_t n = moe_rng_below(rng, 4); n > 0; n--) {
        enum moe_queue q = moe_rng_below(rng, 2) ? MOE_QUEUE_FILL : MOE_QUEUE_PREFETCH;
        uint64_t work = moe_rng_below(rng, 25);
        submit(e[0], q, work, 10);
        submit(e[1], q, work, 10);
    }
}

START_TEST(layer_as_a_sum_is_the_layer_one_by_one)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 7);
    for (int world = 0; world < 300; world++) {
        uint64_t busy[2][1 << MOE_N_LANES] = {{0}}, dram = world % 2 ? 110 : 100, summed = 0;
        struct landed landed[2] = {{0}};
        struct moe_engine *e[2] = {new_engine(dram, 16), new_engine(dram, 16)};
        for (int i = 0; i < 2; i++) {
            moe_engine_count_into(e[i], busy[i]);
            moe_engine_observe(e[i], 1 << MOE_QUEUE_FILL | 1 << MOE_QUEUE_PREFETCH, note_landed,
                               &landed[i]);
        }
        for (int layer = 0; layer < 40; layer++) {
            struct moe_layer_work w = random_layer(&rng);
            w.dram_kb_per_s = (w.cpu_ns ? 110 : 10) * 1000000;
            queue_copies(e, &rng);
            run_one_by_one(e[0], &w, 100);
            if (moe_engine_run_layer(e[1], &w))
                summed++;
            else
                run_one_by_one(e[1], &w, 100);
            ck_assert_uint_eq(moe_engine_now(e[0]), moe_engine_now(e[1]));
            ck_assert_mem_eq(busy[0], busy[1], sizeof busy[0]);
            ck_assert_mem_eq(&landed[0], &landed[1], sizeof landed[0]);
        }
        ck_assert((summed == 40) == (world % 2 == 1));
        moe_engine_free(e[0]);
        moe_engine_free(e[1]);
    }
}
END_TEST

START_TEST(no_sum_behind_other_work)
{
    struct moe_engine *e = new_engine(100, 16);
    const struct moe_layer_work w = {.gpu_ns = 5, .last_ns = 5};
    moe_op blocked = submit(e, MOE_QUEUE_CPU, 10, 0);
    ck_assert(!moe_engine_run_layer(e, &w));
    submit_after(e, MOE_QUEUE_FILL, 3, blocked, 0);
    ck_assert(!moe_engine_run_layer(e, &w));
    ck_assert_uint_eq(moe_engine_now(e), 0);
    ck_assert_uint_eq(end_of(e, blocked), 10);
    ck_assert(moe_engine_run_layer(e, &w));
    ck_assert_uint_eq(moe_engine_now(e), 20);
    moe_engine_free(e);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine");
    TCase *tests = tcase_create("engine");
    tcase_add_test(tests, not_done_just_before_done_at_its_time);
    tcase_add_test(tests, alone_takes_its_work);
    tcase_add_test(tests, two_equal_sharers_get_half_each);
    tcase_add_test(tests, one_alone_wants_more_than_there_is);
    tcase_add_test(tests, slowed_by_one_factor_then_free);
    tcase_add_test(tests, newcomer_slows_the_running_one);
    tcase_add_test(tests, saturated_is_peak);
    tcase_add_test(tests, lane_is_in_order);
    tcase_add_test(tests, waits_for_both_dependencies);
    tcase_add_test(tests, demand_passes_queued_fills);
    tcase_add_test(tests, taken_back);
    tcase_add_test(tests, blocked_demand_does_not_hold_the_link);
    tcase_add_test(tests, full_queue_blocks_the_host);
    tcase_add_test(tests, busy_time_by_set_of_lanes);
    tcase_add_test(tests, random_schedules_conserve_work);
    tcase_add_test(tests, simultaneous_ends_in_lane_order);
    tcase_add_test(tests, same_submissions_same_times);
    tcase_add_test(tests, layer_as_a_sum_is_the_layer_one_by_one);
    tcase_add_test(tests, no_sum_behind_other_work);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
