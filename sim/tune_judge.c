#include "sim/tune_judge.h"

#include "base/progress.h"
#include "sim/simulate.h"

#include <stdlib.h>
#include <string.h>

struct judge {
    const struct moe_tune_judging *j;
    struct moe_progress progress;
    size_t done;
};

static size_t ms_bytes(const struct moe_tune_judging *j)
{
    return (size_t)j->n_tokens * sizeof(double);
}

static enum moe_status simulate(const struct moe_tune_judging *j, size_t i,
                                struct moe_result *result, double *ms, struct moe_err *err)
{
    struct moe_strategy strategy;
    enum moe_status s = moe_tune_strategy(j->space, j->candidate[i].point, &strategy, err);
    struct moe_sim_input input = {.trace = j->held_out,
                                  .model = j->model,
                                  .platform = j->platform,
                                  .strategy = &strategy,
                                  .bound = true,
                                  .token_ms = ms};
    return s ? s : moe_simulate(&input, result, err);
}

/* Hands over the result and behind it the times of the tokens. */
static enum moe_status run_item(void *context, size_t i, char **bytes, size_t *size,
                                struct moe_err *err)
{
    const struct moe_tune_judging *j = ((const struct judge *)context)->j;
    struct moe_result *result = malloc(sizeof *result + ms_bytes(j));
    if (!result)
        return moe_fail_memory(err, "a finalist's result");
    enum moe_status s = simulate(j, i, result, (double *)(void *)(result + 1), err);
    if (s) {
        free(result);
        return s;
    }
    *bytes = (char *)result;
    *size = sizeof *result + ms_bytes(j);
    return MOE_OK;
}

static enum moe_status finish_item(void *context, size_t i, const char *bytes, size_t size,
                                   uint64_t ns, struct moe_err *err)
{
    struct judge *judge = context;
    const struct moe_tune_judging *j = judge->j;
    struct moe_tune_row *row = &j->row[i];
    (void)ns;
    if (moe_team_rank(j->team) == 0)
        moe_progress_update(&judge->progress, ++judge->done);
    if (size != sizeof row->held_out + ms_bytes(j))
        return moe_fail(err, MOE_ERR_IO, "a finalist's result of %zu bytes", size);
    j->ms[i] = calloc((size_t)j->n_tokens + 1, sizeof *j->ms[i]);
    if (!j->ms[i])
        return moe_fail_memory(err, "the times of the tokens");
    memcpy(&row->held_out, bytes, sizeof row->held_out);
    memcpy(j->ms[i], bytes + sizeof row->held_out, ms_bytes(j));
    return moe_tune_strategy(j->space, j->candidate[i].point, &row->strategy, err);
}

enum moe_status moe_tune_judge(const struct moe_tune_judging *j, struct moe_err *err)
{
    struct judge judge = {.j = j};
    const struct moe_team_work work = {
        .n_items = j->n,
        .threads = moe_team_threads(j->team, j->jobs),
        .identity = j->identity,
        .share = true,
        .run = run_item,
        .done = finish_item,
        .context = &judge,
    };
    moe_progress_begin(&judge.progress, "tuning, finalists", "strategies", j->n);
    enum moe_status s = moe_team_map(j->team, &work, err);
    moe_progress_end(&judge.progress);
    return s;
}
