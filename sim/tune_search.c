#include "sim/tune_search.h"

#include "base/progress.h"
#include "base/units.h"
#include "sim/simulate.h"
#include "sim/tune_split.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void moe_tune_search_release(struct moe_tune_search *q)
{
    free(q->candidate);
    free(q->seen);
    *q = (struct moe_tune_search){0};
}

/* --- candidates ----------------------------------------------------------------------------- */

static void put(uint64_t *set, size_t room, uint64_t id)
{
    size_t i = (size_t)(id & (room - 1));
    while (set[i])
        i = (i + 1) & (room - 1);
    set[i] = id;
}

static enum moe_status grow_seen(struct moe_tune_search *q, struct moe_err *err)
{
    size_t room = q->seen_room ? 2 * q->seen_room : 1024;
    uint64_t *set = calloc(room, sizeof *set);
    if (!set)
        return moe_fail_memory(err, "the candidates");
    for (size_t i = 0; i < q->seen_room; i++)
        if (q->seen[i])
            put(set, room, q->seen[i]);
    free(q->seen);
    q->seen = set;
    q->seen_room = room;
    return MOE_OK;
}

static bool is_seen(const struct moe_tune_search *q, uint64_t id)
{
    for (size_t i = (size_t)(id & (q->seen_room - 1)); q->seen[i]; i = (i + 1) & (q->seen_room - 1))
        if (q->seen[i] == id)
            return true;
    return false;
}

enum moe_status moe_tune_add(struct moe_tune_search *q, struct moe_tune_point point,
                             struct moe_err *err)
{
    point = moe_tune_canonical(q->space, point);
    uint64_t id = moe_tune_point_id(point) | 1;
    enum moe_status s = 2 * q->n_seen >= q->seen_room ? grow_seen(q, err) : MOE_OK;
    if (s || is_seen(q, id))
        return s;
    if (q->n == q->room) {
        size_t room = q->room ? 2 * q->room : 256;
        struct moe_tune_candidate *more = realloc(q->candidate, room * sizeof *more);
        if (!more)
            return moe_fail_memory(err, "the candidates");
        q->candidate = more;
        q->room = room;
    }
    put(q->seen, q->seen_room, id);
    q->n_seen++;
    q->candidate[q->n++] =
        (struct moe_tune_candidate){.point = point, .ns = INFINITY, .order = q->n_made++};
    return MOE_OK;
}

static int by_time(const void *a, const void *b)
{
    const struct moe_tune_candidate *x = a, *y = b;
    if (x->ns != y->ns)
        return x->ns < y->ns ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

void moe_tune_rank(struct moe_tune_search *q, size_t keep)
{
    qsort(q->candidate, q->n, sizeof *q->candidate, by_time);
    q->n = q->n < keep ? q->n : keep;
}

size_t moe_tune_best_moving(const struct moe_tune_search *q)
{
    const struct moe_tune_values *axis = q->space->axis;
    size_t i = 0;
    for (; i < q->n; i++) {
        const uint16_t *at = q->candidate[i].point.at;
        const int geometry = axis[MOE_TUNE_GEOMETRY].value[at[MOE_TUNE_GEOMETRY]].kind;
        if ((geometry == MOE_TUNE_POOLS || geometry == MOE_TUNE_UNIFORM) &&
            !axis[MOE_TUNE_POLICY].value[at[MOE_TUNE_POLICY]].kind &&
            !axis[MOE_TUNE_ADMISSION].value[at[MOE_TUNE_ADMISSION]].kind)
            break;
    }
    return i;
}

void moe_tune_rank_different(struct moe_tune_search *q, size_t keep)
{
    size_t n = 0;
    moe_tune_rank(q, q->n);
    for (size_t i = 0; i < q->n; i++)
        if (n == 0 || q->candidate[i].ns != q->candidate[n - 1].ns)
            q->candidate[n++] = q->candidate[i];
    q->n = n;
    const size_t moving = moe_tune_best_moving(q);
    if (keep > 1 && moving >= keep && moving < n)
        q->candidate[keep - 1] = q->candidate[moving];
    q->n = n < keep ? n : keep;
}

/* --- timing --------------------------------------------------------------------------------- */

static enum moe_status time_one(const struct moe_tune_search *q, struct moe_tune_point point,
                                uint64_t max_tokens, double *ns, struct moe_err *err)
{
    struct moe_strategy strategy;
    struct moe_result result;
    enum moe_status s = moe_tune_strategy(q->space, point, &strategy, err);
    struct moe_sim_input input = {.trace = q->train,
                                  .model = q->model,
                                  .platform = q->platform,
                                  .strategy = &strategy,
                                  .max_tokens = max_tokens};
    if (!s)
        s = moe_simulate(&input, &result, err);
    if (!s)
        *ns = (double)result.decode_ns / (double)result.decode_tokens;
    return s;
}

struct evaluation {
    struct moe_tune_search *q;
    struct moe_progress progress;
    size_t first, done;
    uint64_t max_tokens;
};

/* An item's result is its ns a token; infinite for a strategy that cannot run, which is not an
 * error but never chosen. */
static enum moe_status run_item(void *context, size_t i, char **bytes, size_t *size,
                                struct moe_err *err)
{
    const struct evaluation *e = context;
    struct moe_err why = {0};
    double ns = INFINITY, *out = malloc(sizeof *out);
    if (!out)
        return moe_fail_memory(err, "a time");
    enum moe_status s =
        time_one(e->q, e->q->candidate[e->first + i].point, e->max_tokens, &ns, &why);
    if (s && s != MOE_ERR_USAGE) {
        free(out);
        *err = why;
        return s;
    }
    *out = ns;
    *bytes = (char *)out;
    *size = sizeof *out;
    return MOE_OK;
}

static enum moe_status finish_item(void *context, size_t i, const char *bytes, size_t size,
                                   uint64_t ns, struct moe_err *err)
{
    struct evaluation *e = context;
    double value;
    (void)ns;
    if (size != sizeof value)
        return moe_fail(err, MOE_ERR_IO, "a time of %zu bytes", size);
    memcpy(&value, bytes, sizeof value);
    e->q->candidate[e->first + i].ns = value;
    if (moe_team_rank(e->q->team) == 0)
        moe_progress_update(&e->progress, ++e->done);
    return MOE_OK;
}

/* Times candidates [first, n) on max_tokens decode tokens (0: all). */
static enum moe_status evaluate(struct moe_tune_search *q, size_t first, uint64_t max_tokens,
                                const char *what, struct moe_err *err)
{
    struct evaluation e = {.q = q, .first = first, .max_tokens = max_tokens};
    if (first >= q->n)
        return MOE_OK;
    const struct moe_team_work work = {
        .n_items = q->n - first,
        .threads = moe_team_threads(q->team, q->jobs),
        .identity = moe_hash_bytes(q->identity, &q->n_made, sizeof q->n_made),
        .share = true,
        .run = run_item,
        .done = finish_item,
        .context = &e,
    };
    moe_progress_begin(&e.progress, what, "strategies", q->n - first);
    enum moe_status s = moe_team_map(q->team, &work, err);
    moe_progress_end(&e.progress);
    if (s)
        return s;
    uint64_t all = moe_tune_decode_tokens(q->train);
    q->simulations += q->n - first;
    q->tokens += (q->n - first) * (max_tokens && max_tokens < all ? max_tokens : all);
    for (size_t i = first; i < q->n; i++)
        if (isfinite(q->candidate[i].ns))
            return MOE_OK;
    double ns;
    return first ? MOE_OK : time_one(q, q->candidate[0].point, max_tokens, &ns, err);
}

/* Decode tokens of the training part that are used at all. */
static uint64_t all_tokens(const struct moe_tune_search *q)
{
    uint64_t all = moe_tune_decode_tokens(q->train);
    return q->max_tokens && q->max_tokens < all ? q->max_tokens : all;
}

enum moe_status moe_tune_race(struct moe_tune_search *q, size_t first, const char *what,
                              struct moe_err *err)
{
    enum { SHARE = 8, FEWEST_TOKENS = 16, FEWEST = 8 };
    const uint64_t all = all_tokens(q), prefix = moe_tune_prefix(q->train, all / SHARE);
    const size_t n = q->n - first, kept = n / SHARE > FEWEST ? n / SHARE : FEWEST;
    if (all / SHARE >= FEWEST_TOKENS && prefix < all && kept < n) {
        enum moe_status s = evaluate(q, first, prefix, what, err);
        if (s)
            return s;
        qsort(q->candidate + first, n, sizeof *q->candidate, by_time);
        q->n = first + kept;
    }
    return evaluate(q, first, all, what, err);
}

/* --- halving -------------------------------------------------------------------------------- */

static size_t third(size_t n, size_t least)
{
    size_t kept = (n + 2) / 3;
    return kept > least ? kept : least;
}

static uint64_t count_rungs(const struct moe_tune_search *q)
{
    uint64_t rungs = 1;
    for (size_t n = q->n; n > q->n_keep; n = third(n, (size_t)q->n_keep))
        rungs++;
    return q->n_rungs ? q->n_rungs : rungs;
}

enum moe_status moe_tune_halve(struct moe_tune_search *q, struct moe_err *err)
{
    enum { FEWEST_TOKENS = 16 };
    const uint64_t most = all_tokens(q), rungs = count_rungs(q);
    enum moe_status s = MOE_OK;
    for (uint64_t r = 0; !s && r < rungs; r++) {
        char what[64];
        uint64_t left = rungs - 1 - r, tokens = left < 63 ? most >> left : 0;
        tokens = tokens > FEWEST_TOKENS ? tokens : FEWEST_TOKENS;
        tokens = left && tokens < most ? moe_tune_prefix(q->train, tokens) : most;
        snprintf(what, sizeof what, "tuning, rung %d of %d", (int)r + 1, (int)rungs);
        s = evaluate(q, 0, tokens < most ? tokens : most, what, err);
        moe_tune_rank(q, left ? third(q->n, (size_t)q->n_keep) : q->n);
    }
    moe_tune_rank_different(q, (size_t)q->n_keep);
    return s;
}
