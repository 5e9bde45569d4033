/* Statistics of samples: quantiles and means. */
#ifndef MOELAB_BASE_NUMBERS_H
#define MOELAB_BASE_NUMBERS_H

#include <stddef.h>

/* Sorts values[0..n) in place, ascending. */
void moe_sort_f64(double *values, size_t n);

/* Quantile q in [0, 1] of sorted values, linear between order statistics (type 7, as R and NumPy
 * do); NaN when n is 0. */
double moe_quantile(const double *sorted, size_t n, double q);

/* Arithmetic mean by pairwise summation; NaN when n is 0. */
double moe_mean(const double *values, size_t n);

#endif
