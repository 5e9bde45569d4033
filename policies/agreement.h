/* Two runs of one trace compared, a simulated and a real one: their decisions, their times. */
#ifndef MOELAB_POLICIES_AGREEMENT_H
#define MOELAB_POLICIES_AGREEMENT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two decision logs (policies/decision_log.h) compared event by event. Events that only one of them
 * has count as different. */
struct moe_decision_agreement {
    uint64_t n_events;               /* of the longer text */
    uint64_t n_different;            /* 0: equal byte for byte */
    uint64_t first;                  /* number of the first that differs, from 0 */
    char first_a[160], first_b[160]; /* its lines, truncated; "" where a log has none */
};

/* Texts of n_a and n_b bytes; a last line without its newline is a line. */
void moe_decisions_compare(const char *a, size_t n_a, const char *b, size_t n_b,
                           struct moe_decision_agreement *out);

/* same[i], i < n_steps: the two texts, of one trace, agree in all events of decode step i. A step
 * has an event for each of the layers. */
void moe_decisions_same(const char *a, size_t n_a, const char *b, size_t n_b, uint32_t layers,
                        bool *same, size_t n_steps);

/* Times of n tokens, predicted p and measured m > 0. */
struct moe_time_agreement {
    double predicted_ms, measured_ms; /* means */
    double error_percent;             /* of the means: 100 (p - m) / m */
    double median_percent;            /* over the tokens, of 100 |p - m| / m */
    double p95_percent;               /* the same, 95th percentile */
};

/* n >= 1. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_times_compare(const double *predicted_ms, const double *measured_ms, size_t n,
                                  struct moe_time_agreement *out, struct moe_err *err);

/* out[i] = the median of runs[r][i] over r, r < n_runs, i < n; n_runs >= 1. */
enum moe_status moe_times_median(const double *const *runs, size_t n_runs, size_t n, double *out,
                                 struct moe_err *err);

/* Where errors of predicted token times come from: from a machine that does not repeat itself, from
 * decisions that differ (after one, caches hold other experts, and tokens have other work), or from
 * the model of the machine. */
struct moe_time_causes {
    double repeat_p95_percent; /* over tokens and runs r, of 100 |m_r - m| / m, m: median of runs */
    double same_percent;       /* share of tokens times runs that were decided as predicted */
    /* Errors as in moe_time_agreement of the tokens that at least one run decided as predicted, m
     * the median of these runs; NaN where there are none. */
    double same_median_percent, same_p95_percent;
};

/* runs[r][i] and same[r][i] of n_runs >= 1 runs and n >= 1 tokens. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_times_causes(const double *predicted_ms, const double *const *runs,
                                 const bool *const *same, size_t n_runs, size_t n,
                                 struct moe_time_causes *out, struct moe_err *err);

#endif
