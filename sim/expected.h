/* Published values to compare results with: experiments/paper/expected.tsv.
 *
 * Columns: id (fig5.mixtral.best.16), low and high (equal, or a published range), unit, tolerance
 * and tolerance_unit ("%" of the nearer end, or "points", in the value's own unit), check (must:
 * outside the tolerance is a failed check; report: it is told), kind (stated, derived from stated
 * values, or input: the platform is fitted to it), where (in the paper), note (the cause of a
 * difference; "-": none known). */
#ifndef MOELAB_SIM_EXPECTED_H
#define MOELAB_SIM_EXPECTED_H

#include "base/tsv.h"

struct moe_expected_value {
    const char *id, *unit, *kind, *where, *note; /* note "": none; live in the file */
    double low, high, tolerance;
    bool relative; /* tolerance in percent of the nearer end */
    bool must;
};

struct moe_expected {
    struct moe_tsv file;
    size_t n;
    struct moe_expected_value *values; /* in the file's order */
};

/* Errors: MOE_ERR_IO, MOE_ERR_INPUT (columns missing, numbers that are none, low above high, an id
 * twice, unknown words), MOE_ERR_MEMORY. Release after use. */
enum moe_status moe_expected_load(const char *path, struct moe_expected *out, struct moe_err *err);
enum moe_status moe_expected_parse(const char *name, const char *text, size_t size,
                                   struct moe_expected *out, struct moe_err *err);
void moe_expected_release(struct moe_expected *expected);

/* By id, or NULL. */
const struct moe_expected_value *moe_expected_find(const struct moe_expected *expected,
                                                   const char *id);

/* Obtained less the nearer end, 0 inside the range: in percent of that end where the tolerance is
 * relative, else in the value's unit. */
double moe_expected_error(const struct moe_expected_value *value, double obtained);

/* Is the error at most the tolerance? A NaN is not. */
bool moe_expected_within(const struct moe_expected_value *value, double obtained);

#endif
