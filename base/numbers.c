#include "base/numbers.h"

#include <math.h>
#include <stdlib.h>

/* NaN sorts last: a comparison that is false both ways would leave qsort's order undefined. */
static int compare_f64(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y);
    return (x > y) - (x < y);
}

void moe_sort_f64(double *values, size_t n)
{
    if (n > 1)
        qsort(values, n, sizeof *values, compare_f64);
}

double moe_quantile(const double *sorted, size_t n, double q)
{
    if (n == 0 || isnan(q))
        return NAN;
    double at = (double)(n - 1) * fmin(fmax(q, 0), 1);
    size_t low = (size_t)at;
    double share = at - (double)low;
    if (share <= 0) /* also keeps infinities from becoming inf - inf */
        return sorted[low];
    return sorted[low] + share * (sorted[low + 1] - sorted[low]);
}

double moe_median(double *values, size_t n)
{
    moe_sort_f64(values, n);
    return moe_quantile(values, n, 0.5);
}

static double pairwise_sum(const double *values, size_t n)
{
    if (n <= 16) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += values[i];
        return sum;
    }
    return pairwise_sum(values, n / 2) + pairwise_sum(values + n / 2, n - n / 2);
}

double moe_mean(const double *values, size_t n)
{
    return n ? pairwise_sum(values, n) / (double)n : NAN;
}

double moe_percent(uint64_t part, uint64_t whole)
{
    return whole ? 100 * (double)part / (double)whole : 0;
}

double moe_percent_or_nan(uint64_t part, uint64_t whole)
{
    return whole ? moe_percent(part, whole) : NAN;
}
