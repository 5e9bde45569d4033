/* Teams: every item is computed once, for any number of ranks and threads; errors, lost ranks,
 * differing inputs; how many items a rank gets; what more ranks would bring, by hand. */
#include "sim/deal.h"
#include "sim/plan.h"
#include "sim/sweep.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/team_hub.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { ITEMS = 500, NONE = 99 };

/* What a job of several ranks is to do, and what came of it. */
struct job {
    struct hub hub;
    uint32_t ranks, threads, maps;
    bool share;
    double lost_after;
    size_t fail_at;      /* item */
    bool unplug;         /* the first rank but 0 that runs an item is unplugged by it */
    bool unplug_last;    /* rank 1 is unplugged when rank 0 has all results */
    uint32_t stranger;   /* rank with another identity */
    uint32_t unprepared; /* rank that fails before its first map */
    uint32_t absent;     /* rank that died before it said anything */
    const bool *skip;
    _Atomic int runs[ITEMS]; /* of each item, on any rank */
    _Atomic int unplugged;
};

struct rank {
    struct job *job;
    uint32_t rank;
    pthread_t thread;
    int done[ITEMS]; /* results that were taken there */
    uint64_t sum;
    size_t n_done;
    enum moe_status s, closed;
    struct moe_err err;
};

static enum moe_status run_item(void *context, size_t i, char **bytes, size_t *size,
                                struct moe_err *err)
{
    struct rank *rank = context;
    struct job *job = rank->job;
    job->runs[i]++;
    if (i == job->fail_at)
        return moe_fail(err, MOE_ERR_INPUT, "item %zu is bad", i);
    /* What is to happen while items are run happens before the first one ends: rank 0 leaves them
     * to others until one is unplugged, all wait until a stranger or a failed rank has said so, or
     * until one that is unplugged later has heard of rank 0: before, it waits without limit. */
    while ((job->unplug_last && !job->hub.heard[1]) ||
           (job->unplug && rank->rank == 0 && !job->unplugged && job->hub.n_closed == 0) ||
           (job->stranger < HUB_RANKS && !job->hub.sent[job->stranger]) ||
           (job->unprepared < HUB_RANKS && !job->hub.sent[job->unprepared]))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (job->unplug && rank->rank > 0 && job->unplugged++ == 0)
        hub_unplug(&job->hub, rank->rank);
    *size = 8 + i % 40; /* results of many sizes */
    *bytes = calloc(1, *size);
    ck_assert(*bytes != NULL);
    uint64_t value = i * i + 7;
    memcpy(*bytes, &value, sizeof value);
    return MOE_OK;
}

static enum moe_status take_item(void *context, size_t i, const char *bytes, size_t size,
                                 uint64_t ns, struct moe_err *err)
{
    struct rank *rank = context;
    uint64_t value;
    (void)ns;
    (void)err;
    memcpy(&value, bytes, sizeof value);
    ck_assert(size == 8 + i % 40 && value == i * i + 7);
    rank->done[i]++;
    rank->sum += value;
    rank->n_done++;
    if (rank->job->unplug_last && rank->rank == 0 && rank->n_done == ITEMS)
        hub_unplug(&rank->job->hub, 1);
    return MOE_OK;
}

static void *live(void *argument)
{
    struct rank *rank = argument;
    struct job *job = rank->job;
    struct moe_team *team = hub_join(&job->hub, rank->rank, job->ranks, job->lost_after);
    struct moe_team_work work = {.n_items = ITEMS,
                                 .skip = job->skip,
                                 .threads = job->threads,
                                 .identity = rank->rank == job->stranger ? 1 : 2,
                                 .share = job->share,
                                 .run = run_item,
                                 .done = take_item,
                                 .context = rank};
    if (rank->rank == job->unprepared)
        rank->s = moe_fail(&rank->err, MOE_ERR_IO, "no trace");
    for (uint32_t m = 0; !rank->s && m < job->maps; m++)
        rank->s = moe_team_map(team, &work, &rank->err);
    struct moe_err err = rank->err;
    rank->closed = moe_team_close(team, rank->s, &err);
    return NULL;
}

static struct job plain(uint32_t ranks, uint32_t threads)
{
    return (struct job){.ranks = ranks,
                        .threads = threads,
                        .maps = 1,
                        .lost_after = 60,
                        .fail_at = ITEMS,
                        .stranger = NONE,
                        .unprepared = NONE,
                        .absent = NONE};
}

static struct rank *run_job(struct job *job)
{
    struct rank *ranks = calloc(HUB_RANKS, sizeof *ranks);
    ck_assert(ranks != NULL);
    hub_init(&job->hub);
    for (uint32_t r = 0; r < job->ranks; r++) {
        ranks[r].job = job;
        ranks[r].rank = r;
        if (r != job->absent)
            ck_assert(pthread_create(&ranks[r].thread, NULL, live, &ranks[r]) == 0);
    }
    for (uint32_t r = 0; r < job->ranks; r++)
        if (r != job->absent)
            pthread_join(ranks[r].thread, NULL);
    hub_release(&job->hub);
    return ranks;
}

static void each_item_is_taken(const struct rank *rank, int times)
{
    ck_assert_msg(rank->s == MOE_OK, "rank %" PRIu32 ": %s", rank->rank, rank->err.text);
    for (size_t i = 0; i < ITEMS; i++)
        ck_assert_int_eq(rank->done[i], times);
}

START_TEST(every_item_once)
{
    for (uint32_t ranks = 1; ranks <= 5; ranks += 2)
        for (uint32_t threads = 1; threads <= 3; threads += 2) {
            struct job job = plain(ranks, threads);
            struct rank *r = run_job(&job);
            each_item_is_taken(&r[0], 1);
            for (size_t i = 0; i < ITEMS; i++)
                ck_assert_int_eq(job.runs[i], 1);
            for (uint32_t k = 1; k < ranks; k++)
                ck_assert(r[k].s == MOE_OK && r[k].sum == 0);
            free(r);
        }
}
END_TEST

START_TEST(shared_with_every_rank_map_after_map)
{
    struct job job = plain(4, 2);
    job.share = true;
    job.maps = 3;
    struct rank *r = run_job(&job);
    for (uint32_t k = 0; k < 4; k++) {
        each_item_is_taken(&r[k], 3);
        ck_assert_int_eq(job.hub.closed_with[k], MOE_LEAVE_TOGETHER);
    }
    free(r);
}
END_TEST

START_TEST(a_process_alone)
{
    struct job job = plain(1, 2);
    struct rank rank = {.job = &job};
    struct moe_err err;
    struct moe_team_work work = {
        .n_items = ITEMS, .threads = 2, .run = run_item, .done = take_item, .context = &rank};
    ck_assert(moe_team_map(NULL, &work, &err) == MOE_OK);
    each_item_is_taken(&rank, 1);
    job.fail_at = 30;
    ck_assert_int_eq(moe_team_map(NULL, &work, &err), MOE_ERR_INPUT);
    ck_assert_str_eq(err.text, "item 30 is bad");
    ck_assert(moe_team_rank(NULL) == 0 && moe_team_size(NULL) == 1);
    ck_assert(moe_team_close(NULL, MOE_ERR_IO, &err) == MOE_ERR_IO);
    work.n_items = 0;
    ck_assert(moe_team_map(NULL, &work, &err) == MOE_OK);
}
END_TEST

START_TEST(skipped_items)
{
    static bool skip[ITEMS];
    struct job job = plain(3, 1);
    for (size_t i = 0; i < ITEMS; i++)
        skip[i] = i % 3 != 0;
    job.skip = skip;
    struct rank *r = run_job(&job);
    for (size_t i = 0; i < ITEMS; i++)
        ck_assert(job.runs[i] == !skip[i] && r[0].done[i] == !skip[i]);
    free(r);
}
END_TEST

/* One error, the same everywhere; only rank 0 has it to report. */
START_TEST(an_item_fails)
{
    struct job job = plain(4, 2);
    job.fail_at = 250;
    job.maps = 2;
    struct rank *r = run_job(&job);
    for (uint32_t k = 0; k < 4; k++) {
        ck_assert_int_eq(r[k].s, MOE_ERR_INPUT);
        ck_assert_msg(strstr(r[k].err.text, "item 250 is bad") != NULL, "%s", r[k].err.text);
        ck_assert_int_eq(r[k].closed, k ? MOE_OK : MOE_ERR_INPUT);
    }
    ck_assert(r[0].done[250] == 0);
    free(r);
}
END_TEST

START_TEST(a_rank_cannot_prepare)
{
    for (uint32_t bad = 0; bad < 2; bad++) {
        struct job job = plain(3, 1);
        job.unprepared = bad;
        struct rank *r = run_job(&job);
        ck_assert_int_eq(r[0].s, MOE_ERR_IO);
        ck_assert_str_eq(r[0].err.text, bad ? "rank 1: no trace" : "no trace");
        ck_assert_int_eq(r[2].s, MOE_ERR_IO);
        ck_assert_int_eq(r[0].closed, MOE_ERR_IO);
        ck_assert_int_eq(r[1].closed, MOE_OK);
        free(r);
    }
}
END_TEST

START_TEST(other_inputs)
{
    struct job job = plain(3, 1);
    job.stranger = 2;
    struct rank *r = run_job(&job);
    ck_assert_int_eq(r[0].s, MOE_ERR_USAGE);
    ck_assert(strstr(r[0].err.text, "rank 2 has other inputs") != NULL);
    free(r);
}
END_TEST

/* A rank that goes silent with items: the others run them, and do not wait for it at the end. */
START_TEST(a_rank_is_lost)
{
    struct job job = plain(3, 1);
    job.unplug = true;
    job.lost_after = 0.6;
    struct rank *r = run_job(&job);
    ck_assert_msg(r[0].s == MOE_OK, "%s", r[0].err.text);
    each_item_is_taken(&r[0], 1);
    uint32_t lost = job.hub.unplugged[1] ? 1 : 2;
    ck_assert_int_eq(r[lost].s, MOE_ERR_IO);
    ck_assert(strstr(r[lost].err.text, "rank 0, which held the results, was silent for 0.6 s") !=
              NULL);
    ck_assert_int_eq(job.hub.closed_with[lost], MOE_LEAVE_BROKEN);
    ck_assert_int_eq(job.hub.closed_with[0], MOE_LEAVE_SOME);
    ck_assert_int_eq(job.hub.closed_with[3 - lost], MOE_LEAVE_SOME);
    free(r);
}
END_TEST

/* One that has nothing to do any more is not waited for, either. */
START_TEST(a_rank_is_lost_at_the_end)
{
    struct job job = plain(3, 1);
    job.unplug_last = true;
    job.lost_after = 0.6;
    struct rank *r = run_job(&job);
    each_item_is_taken(&r[0], 1);
    ck_assert_int_eq(r[2].s, MOE_OK);
    ck_assert_int_eq(job.hub.closed_with[0], MOE_LEAVE_SOME);
    ck_assert_int_eq(job.hub.closed_with[1], MOE_LEAVE_BROKEN);
    ck_assert_int_eq(job.hub.closed_with[2], MOE_LEAVE_SOME);
    free(r);
}
END_TEST

/* One that died before it was heard at all is waited for, but not for ever. */
START_TEST(a_rank_is_never_heard)
{
    struct job job = plain(3, 1);
    job.absent = 1;
    job.lost_after = 0.6;
    struct rank *r = run_job(&job);
    each_item_is_taken(&r[0], 1);
    ck_assert_int_eq(r[2].s, MOE_OK);
    ck_assert_int_eq(job.hub.closed_with[0], MOE_LEAVE_SOME);
    ck_assert_int_eq(job.hub.closed_with[2], MOE_LEAVE_SOME);
    free(r);
}
END_TEST

START_TEST(dealt_by_hand)
{
    struct moe_deal deal;
    uint64_t items[64];
    ck_assert(!moe_deal_init(&deal, 40, 2, NULL));
    ck_assert_uint_eq(moe_deal_give(&deal, 1, 100, 64, items), 10); /* half of what is left, by 2 */
    ck_assert(items[0] == 0 && items[9] == 9);
    ck_assert_uint_eq(moe_deal_give(&deal, 0, 3, 64, items), 3);
    ck_assert_uint_eq(moe_deal_give(&deal, 0, 100, 2, items), 2);
    ck_assert(deal.n_left == 25 && deal.owned[0] == 5 && deal.owned[1] == 10);
    ck_assert(moe_deal_finish(&deal, 4) && !moe_deal_finish(&deal, 4));
    ck_assert(!moe_deal_finish(&deal, 40) && deal.n_done == 1);
    ck_assert_uint_eq(moe_deal_take_back(&deal, 1), 9);
    ck_assert(deal.n_left == 34 && deal.owned[1] == 0);
    ck_assert(moe_deal_finish(&deal, 9)); /* by the one that was taken for lost */
    ck_assert(deal.n_left == 33);
    size_t n = 0;
    for (size_t more; (more = moe_deal_give(&deal, 0, 100, 64, items)) > 0; n += more)
        for (size_t i = 0; i < more; i++)
            ck_assert(items[i] != 4 && items[i] != 9);
    ck_assert(n == 33 && deal.owned[0] == 38);
    moe_deal_release(&deal);
}
END_TEST

START_TEST(asking)
{
    struct moe_crew_state state = {.threads = 4, .idle = 4};
    ck_assert_uint_eq(moe_deal_wanted(&state), 4); /* nothing known: an item a thread */
    state.waiting = 1;
    ck_assert_uint_eq(moe_deal_wanted(&state), 0);
    state = (struct moe_crew_state){.threads = 4, .idle = 1, .mean_ns = MOE_DEAL_SHORT_NS};
    ck_assert_uint_eq(moe_deal_wanted(&state), 1); /* long: what can begin now */
    state.idle = 0;
    ck_assert_uint_eq(moe_deal_wanted(&state), 0);
    state.mean_ns = MOE_DEAL_GRAIN_NS / 1000; /* short: before the last one ends */
    ck_assert_uint_eq(moe_deal_wanted(&state), 4000);
}
END_TEST

START_TEST(plans_by_hand)
{
    uint64_t ns[9];
    struct moe_plan_row row;
    struct moe_plan plan = {.item_ns = ns, .n_items = 8, .threads = 1};
    for (int i = 0; i < 9; i++)
        ns[i] = 1000000000;
    const uint32_t ranks[] = {1, 2, 4, 8, 16};
    const double seconds[] = {8, 4, 2, 1, 1};
    for (int i = 0; i < 5; i++) {
        ck_assert(!moe_plan_ranks(&plan, ranks[i], &row, NULL));
        ck_assert_double_eq(row.seconds, seconds[i]);
        ck_assert_double_eq(row.efficiency, 8 / seconds[i] / ranks[i]);
    }
    ck_assert_str_eq(row.limit, "the longest point");
    plan.n_items = 9; /* one of nine is left over */
    ck_assert(!moe_plan_ranks(&plan, 4, &row, NULL) && row.seconds == 3);
    ns[8] = 0; /* not run: not planned with */
    ck_assert(!moe_plan_ranks(&plan, 4, &row, NULL) && row.seconds == 2);
    plan.prepare_ns = 2000000000;
    ck_assert(!moe_plan_ranks(&plan, 8, &row, NULL) && row.seconds == 3);
    ck_assert_double_eq_tol(row.speedup, 10.0 / 3, 1e-12);
    ck_assert_str_eq(row.limit, "preparation");
    /* Rank 1 waits 0.2 s for each answer; its last result is told at once: 4.8 of 4 s. */
    plan = (struct moe_plan){.item_ns = ns, .n_items = 8, .threads = 1, .answer_ns = 2e8};
    ck_assert(!moe_plan_ranks(&plan, 2, &row, NULL));
    ck_assert_double_eq_tol(row.seconds, 4.8, 1e-12);
    memset(ns, 0, sizeof ns);
    ck_assert_int_eq(moe_plan_ranks(&plan, 2, &row, NULL), MOE_ERR_USAGE);
}
END_TEST

START_TEST(shards_named)
{
    static const char *const bad[] = {"",         "1",    "/",   "0/0",   "0/4",
                                      "5/4",      "1/",   "/4",  "1/4/",  "-1/4",
                                      "1/100001", " 1/4", "a/b", "1.0/4", "1/4x"};
    struct moe_shard shard;
    struct moe_err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(moe_shard_parse(bad[i], &shard, &err) == MOE_ERR_USAGE, "%s", bad[i]);
    ck_assert(!moe_shard_parse("5/7", &shard, &err) && shard.part == 5 && shard.parts == 7);
    ck_assert(!moe_shard_parse("1/1", &shard, &err) && shard.part == 1 && shard.parts == 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("team");
    TCase *t = tcase_create("team");
    tcase_add_test(t, every_item_once);
    tcase_add_test(t, shared_with_every_rank_map_after_map);
    tcase_add_test(t, a_process_alone);
    tcase_add_test(t, skipped_items);
    tcase_add_test(t, an_item_fails);
    tcase_add_test(t, a_rank_cannot_prepare);
    tcase_add_test(t, other_inputs);
    tcase_add_test(t, a_rank_is_lost);
    tcase_add_test(t, a_rank_is_lost_at_the_end);
    tcase_add_test(t, a_rank_is_never_heard);
    tcase_add_test(t, dealt_by_hand);
    tcase_add_test(t, asking);
    tcase_add_test(t, plans_by_hand);
    tcase_add_test(t, shards_named);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
