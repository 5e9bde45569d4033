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

enum moe_status moe_times_median(const double *const *runs, size_t n_runs, size_t n, double *out,
                                 struct moe_err *err)
{
    double *sorted = malloc(n_runs * sizeof *sorted);
    if (!sorted)
        return moe_fail_memory(err, "the times of a token");
    for (size_t i = 0; i < n; i++) {
        for (size_t r = 0; r < n_runs; r++)
            sorted[r] = runs[r][i];
        moe_sort_f64(sorted, n_runs);
        out[i] = moe_quantile(sorted, n_runs, 0.5);
    }
    free(sorted);
    return MOE_OK;
}
