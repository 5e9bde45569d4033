/* Statistics of samples: quantiles and means. */
#ifndef MOELAB_BASE_NUMBERS_H
#define MOELAB_BASE_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

/* Sorts values[0..n) in place, ascending. */
void moe_sort_f64(double *values, size_t n);

/* Quantile q in [0, 1] of sorted values, linear between order statistics (type 7, as R and NumPy
 * do); NaN when n is 0. */
double moe_quantile(const double *sorted, size_t n, double q);

/* Sorts values and returns their median; NaN when n is 0. */
double moe_median(double *values, size_t n);

/* Arithmetic mean by pairwise summation; NaN when n is 0. */
double moe_mean(const double *values, size_t n);

/* 100 part / whole. If whole is 0: 0, for tables with a number in every cell; or NaN. */
double moe_percent(uint64_t part, uint64_t whole);
double moe_percent_or_nan(uint64_t part, uint64_t whole);

#endif
