#include "policies/agreement.h"

#include "base/numbers.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A text read line by line. */
struct reader {
    const char *at;
    size_t left;
    const char *line; /* of n bytes, without its newline; NULL: no more */
    size_t n;
};

static void next_line(struct reader *r)
{
    const char *end = r->left ? memchr(r->at, '\n', r->left) : NULL;
    r->line = r->left ? r->at : NULL;
    r->n = end ? (size_t)(end - r->at) : r->left;
    size_t taken = end ? r->n + 1 : r->left;
    r->at += taken;
    r->left -= taken;
}

static bool same_line(const struct reader *a, const struct reader *b)
{
    return a->line && b->line && a->n == b->n && memcmp(a->line, b->line, a->n) == 0;
}

static void keep_line(const struct reader *r, char *buf, size_t size)
{
    size_t n = r->line ? r->n : 0;
    if (n > size - 1)
        n = size - 1;
    if (n)
        memcpy(buf, r->line, n);
    buf[n] = 0;
}

void moe_decisions_compare(const char *a, size_t n_a, const char *b, size_t n_b,
                           struct moe_decision_agreement *out)
{
    struct reader ra = {.at = a, .left = n_a}, rb = {.at = b, .left = n_b};
    *out = (struct moe_decision_agreement){0};
    for (next_line(&ra), next_line(&rb); ra.line || rb.line; next_line(&ra), next_line(&rb)) {
        uint64_t event = out->n_events++;
        if (same_line(&ra, &rb))
            continue;
        if (out->n_different++)
            continue;
        out->first = event;
        keep_line(&ra, out->first_a, sizeof out->first_a);
        keep_line(&rb, out->first_b, sizeof out->first_b);
    }
}

/* STEP LAYER PHASE ... */
static bool is_decode(const struct reader *r)
{
    const char *at = r->line, *end = r->line + r->n;
    for (int word = 0; word < 2 && at; word++) {
        at = memchr(at, ' ', (size_t)(end - at));
        at += at != NULL;
    }
    return at && end - at >= 6 && memcmp(at, "decode", 6) == 0;
}

void moe_decisions_same(const char *a, size_t n_a, const char *b, size_t n_b, uint32_t layers,
                        bool *same, size_t n_steps)
{
    struct reader ra = {.at = a, .left = n_a}, rb = {.at = b, .left = n_b};
    uint64_t n = 0;
    for (size_t i = 0; i < n_steps; i++)
        same[i] = true;
    for (next_line(&ra), next_line(&rb); ra.line && n / layers < n_steps;
         next_line(&ra), next_line(&rb)) {
        if (!is_decode(&ra))
            continue;
        same[n / layers] &= same_line(&ra, &rb);
        n++;
    }
}

enum moe_status moe_times_compare(const double *predicted_ms, const double *measured_ms, size_t n,
                                  struct moe_time_agreement *out, struct moe_err *err)
{
    double *errors = malloc(n * sizeof *errors);
    if (!errors)
        return moe_fail_memory(err, "the errors of the tokens' times");
    for (size_t i = 0; i < n; i++)
        errors[i] = 100 * fabs(predicted_ms[i] - measured_ms[i]) / measured_ms[i];
    moe_sort_f64(errors, n);
    double p = moe_mean(predicted_ms, n), m = moe_mean(measured_ms, n);
    *out = (struct moe_time_agreement){.predicted_ms = p,
                                       .measured_ms = m,
                                       .error_percent = 100 * (p - m) / m,
                                       .median_percent = moe_quantile(errors, n, 0.5),
                                       .p95_percent = moe_quantile(errors, n, 0.95)};
    free(errors);
    return MOE_OK;
}

/* Median time of token i over the runs whose flag in `same` is set, or over all if same is NULL;
 * NaN: no flag is set. room [n_runs]: scratch. */
static double median_of_runs(const double *const *runs, const bool *const *same, size_t n_runs,
                             size_t i, double *room)
{
    size_t n = 0;
    for (size_t r = 0; r < n_runs; r++)
        if (!same || same[r][i])
            room[n++] = runs[r][i];
    return moe_median(room, n);
}

enum moe_status moe_times_median(const double *const *runs, size_t n_runs, size_t n, double *out,
                                 struct moe_err *err)
{
    double *room = malloc(n_runs * sizeof *room);
    if (!room)
        return moe_fail_memory(err, "the times of a token");
    for (size_t i = 0; i < n; i++)
        out[i] = median_of_runs(runs, NULL, n_runs, i, room);
    free(room);
    return MOE_OK;
}

enum moe_status moe_times_causes(const double *predicted_ms, const double *const *runs,
                                 const bool *const *same, size_t n_runs, size_t n,
                                 struct moe_time_causes *out, struct moe_err *err)
{
    double *room = malloc((n_runs + n * n_runs + n) * sizeof *room);
    if (!room)
        return moe_fail_memory(err, "the errors of the tokens' times");
    double *apart = room + n_runs, *errors = apart + n * n_runs;
    size_t n_apart = 0, n_errors = 0, n_same = 0;
    for (size_t i = 0; i < n; i++) {
        const double all = median_of_runs(runs, NULL, n_runs, i, room);
        const double alike = median_of_runs(runs, same, n_runs, i, room);
        for (size_t r = 0; r < n_runs; r++) {
            apart[n_apart++] = 100 * fabs(runs[r][i] - all) / all;
            n_same += same[r][i];
        }
        if (!isnan(alike))
            errors[n_errors++] = 100 * fabs(predicted_ms[i] - alike) / alike;
    }
    moe_sort_f64(apart, n_apart);
    moe_sort_f64(errors, n_errors);
    *out = (struct moe_time_causes){.repeat_p95_percent = moe_quantile(apart, n_apart, 0.95),
                                    .same_percent = 100 * (double)n_same / (double)n_apart,
                                    .same_median_percent = moe_quantile(errors, n_errors, 0.5),
                                    .same_p95_percent = moe_quantile(errors, n_errors, 0.95)};
    free(room);
    return MOE_OK;
}
