/* Rank 0 of a team against a rank 1 that the test plays message by message: slow, or late. */
#include "sim/team_frame.h"
#include "tests/unit/run_suite.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ITEMS = 2, HERS = 1 }; /* the item that rank 1 is dealt */

/* Once rank 0 has an item rank 1 asks, is dealt the other one and asks for one more, of which there
 * is none. It is silent until it is taken for lost, and then there. */
struct slow_rank {
    enum { ASKS, ASKS_MORE, SILENT, MISSED, LOST, HEARD, DONE, ENDS, ENDED } now;
    int dealt;            /* items, so far */
    int dealt_while_lost; /* until rank 0 had said twice that some rank is lost */
    int dealt_when_heard; /* until rank 0 had read the first message after that */
    atomic_bool begun;    /* rank 0's thread has its item */
    atomic_bool let_go;   /* and may finish it */
    int done[ITEMS];
};

static enum moe_status hear(void *self, uint32_t to, char *bytes, size_t size, struct moe_err *err)
{
    struct slow_rank *slow = self;
    struct moe_team_frame f;
    (void)err;
    ck_assert(to == 1 && size >= sizeof f);
    memcpy(&f, bytes, sizeof f);
    if (f.kind == MOE_TEAM_DEAL) {
        slow->dealt += (int)f.n;
    } else if (f.kind == MOE_TEAM_BEAT && f.a && (slow->now == SILENT || slow->now == MISSED)) {
        slow->dealt_while_lost = slow->dealt;
        slow->now++; /* at the second such beat rank 0 has dealt what it has, to whom it would */
    } else if (f.kind == MOE_TEAM_STOP) {
        slow->now = ENDS;
    }
    free(bytes);
    return MOE_OK;
}

static char *message(struct moe_team_frame frame, const struct moe_team_text *payload, size_t *size)
{
    *size = sizeof frame + payload->size;
    char *bytes = malloc(*size);
    ck_assert(bytes != NULL);
    frame.map = 1;
    memcpy(bytes, &frame, sizeof frame);
    if (payload->size)
        memcpy(bytes + sizeof frame, payload->bytes, payload->size);
    free(payload->bytes);
    return bytes;
}

static enum moe_status say(void *self, uint32_t *from, char **bytes, size_t *size,
                           struct moe_err *err)
{
    struct slow_rank *slow = self;
    struct moe_team_frame f = {0};
    struct moe_team_text payload = {0};
    (void)err;
    switch (slow->now) {
    case ASKS:
    case ASKS_MORE:
        if (!slow->begun)
            break;
        f = (struct moe_team_frame){.kind = MOE_TEAM_ASK, .n = 1};
        slow->now++;
        break;
    case LOST:
        f.kind = MOE_TEAM_BEAT;
        slow->now = HEARD;
        break;
    case HEARD:
        slow->dealt_when_heard = slow->dealt;
        f = (struct moe_team_frame){.kind = MOE_TEAM_RESULTS, .n = 1};
        moe_team_pack(&payload, HERS, 1, "r", 1);
        slow->let_go = true;
        slow->now = DONE;
        break;
    case ENDS:
        f.kind = MOE_TEAM_CLOSE;
        slow->now = ENDED;
        break;
    case SILENT:
    case MISSED:
    case DONE:
    case ENDED:
        break;
    }
    *from = 1;
    *bytes = f.kind ? message(f, &payload, size) : NULL;
    return MOE_OK;
}

static void leave(void *self, uint64_t wait_ns, enum moe_leave how)
{
    (void)self;
    (void)wait_ns;
    ck_assert_int_eq(how, MOE_LEAVE_TOGETHER);
}

static enum moe_status run_item(void *context, size_t i, char **bytes, size_t *size,
                                struct moe_err *err)
{
    struct slow_rank *slow = context;
    (void)i;
    (void)err;
    slow->begun = true;
    while (!slow->let_go)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    *size = 1;
    *bytes = calloc(1, 1);
    ck_assert(*bytes != NULL);
    return MOE_OK;
}

static enum moe_status take_item(void *context, size_t i, const char *bytes, size_t size,
                                 uint64_t ns, struct moe_err *err)
{
    struct slow_rank *slow = context;
    (void)bytes;
    (void)ns;
    (void)err;
    ck_assert(i < ITEMS && size == 1);
    slow->done[i]++;
    return MOE_OK;
}

/* What it wished before it was taken for lost is granted as soon as it is heard again: it does not
 * ask twice, and would be idle to the end. */
START_TEST(a_slow_rank_keeps_its_wish)
{
    static const struct moe_team_link_ops ops = {hear, say, leave};
    struct slow_rank slow = {.now = ASKS};
    struct moe_team *team;
    struct moe_err err = {0};
    const struct moe_team_link link = {.ops = &ops, .self = &slow, .size = 2, .threads = 1};
    const struct moe_team_work work = {
        .n_items = ITEMS, .threads = 1, .run = run_item, .done = take_item, .context = &slow};
    ck_assert(!moe_team_over(&link, 0.02, &team, &err));
    ck_assert_msg(!moe_team_map(team, &work, &err), "%s", err.text);
    ck_assert(!moe_team_close(team, MOE_OK, &err));
    ck_assert_int_eq(slow.dealt_while_lost, 1);
    ck_assert_int_eq(slow.dealt_when_heard, 2);
    ck_assert(slow.done[0] == 1 && slow.done[1] == 1);
}
END_TEST

/* --- a rank that says nothing before the work is done ---------------------------------------- */

/* Time is told in beats of rank 0: one comes after a tenth of `lost_after` and a pause, of which
 * rank 0 counts at most 10 ms. */
#define LOST_AFTER 0.05
enum { BEAT_LEAST_MS = 5, BEAT_MOST_MS = 15, LOST_MS = 50, UNHEARD_MS = 10 * LOST_MS };

struct late_rank {
    int comes_at;        /* that many beats after the end of the work; 0: never */
    int beats, late;     /* that it was sent while there was work, and after */
    bool ended, said;    /* it was told of the end; has said CLOSE */
    atomic_bool let_go;  /* rank 0's thread may finish */
    enum moe_leave left; /* how rank 0 did */
};

static enum moe_status late_hear(void *self, uint32_t to, char *bytes, size_t size,
                                 struct moe_err *err)
{
    struct late_rank *late = self;
    struct moe_team_frame f;
    (void)err;
    ck_assert(to == 1 && size >= sizeof f);
    memcpy(&f, bytes, sizeof f);
    free(bytes);
    late->ended |= f.kind == MOE_TEAM_STOP;
    if (f.kind == MOE_TEAM_BEAT)
        late->ended ? late->late++ : late->beats++;
    if (late->beats * BEAT_LEAST_MS > UNHEARD_MS)
        late->let_go = true;
    return MOE_OK;
}

static enum moe_status late_say(void *self, uint32_t *from, char **bytes, size_t *size,
                                struct moe_err *err)
{
    struct late_rank *late = self;
    struct moe_team_text nothing = {0};
    (void)err;
    *bytes = NULL;
    *from = 1;
    if (late->ended && late->comes_at && late->late >= late->comes_at && !late->said) {
        late->said = true;
        *bytes = message((struct moe_team_frame){.kind = MOE_TEAM_CLOSE}, &nothing, size);
    }
    return MOE_OK;
}

static void late_leave(void *self, uint64_t wait_ns, enum moe_leave how)
{
    struct late_rank *late = self;
    (void)wait_ns;
    late->left = how;
}

static enum moe_status long_item(void *context, size_t i, char **bytes, size_t *size,
                                 struct moe_err *err)
{
    struct late_rank *late = context;
    (void)i;
    (void)err;
    while (!late->let_go)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    *size = 1;
    *bytes = calloc(1, 1);
    ck_assert(*bytes != NULL);
    return MOE_OK;
}

static enum moe_status drop_item(void *context, size_t i, const char *bytes, size_t size,
                                 uint64_t ns, struct moe_err *err)
{
    (void)context, (void)i, (void)bytes, (void)size, (void)ns, (void)err;
    return MOE_OK;
}

static void work_without(struct late_rank *late)
{
    static const struct moe_team_link_ops ops = {late_hear, late_say, late_leave};
    struct moe_team *team;
    struct moe_err err = {0};
    const struct moe_team_link link = {.ops = &ops, .self = late, .size = 2, .threads = 1};
    const struct moe_team_work work = {
        .n_items = 1, .threads = 1, .run = long_item, .done = drop_item, .context = late};
    ck_assert(!moe_team_over(&link, LOST_AFTER, &team, &err));
    ck_assert_msg(!moe_team_map(team, &work, &err), "%s", err.text);
    ck_assert(!moe_team_close(team, MOE_OK, &err));
}

/* However long the work took, rank 0 then waits for its first word: longer than for one that it
 * knows, but not for ever. */
START_TEST(a_rank_may_still_be_reading)
{
    struct late_rank late = {.comes_at = LOST_MS / BEAT_LEAST_MS + 5}, dead = {0};
    ck_assert_int_lt(late.comes_at * BEAT_MOST_MS, UNHEARD_MS);
    work_without(&late);
    ck_assert_int_eq(late.left, MOE_LEAVE_TOGETHER);
    work_without(&dead);
    ck_assert_int_eq(dead.left, MOE_LEAVE_SOME);
    ck_assert_int_gt(dead.late, UNHEARD_MS / BEAT_MOST_MS - 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("team_lead");
    TCase *t = tcase_create("team_lead");
    tcase_add_test(t, a_slow_rank_keeps_its_wish);
    tcase_add_test(t, a_rank_may_still_be_reading);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
