/* What `moelab validate` prints. */
#ifndef MOELAB_CLI_VALIDATE_TABLE_H
#define MOELAB_CLI_VALIDATE_TABLE_H

#include "cli/validate.h"

/* One row for each point. whole: every column; else those that fit a terminal. */
void cli_validate_rows(struct moe_table *table, const struct cli_point *points, size_t n,
                       const struct cli_validation *v, bool whole);

/* Where the time of a token went, as text: "predicted / measured" in ms, a row a point. */
void cli_validate_causes(struct moe_table *table, const struct cli_point *points, size_t n);

/* One line: how many points, how many within the tolerances, the worst of them. */
void cli_validate_summary(const struct cli_point *points, size_t n, const struct cli_validation *v,
                          char *buf, size_t size);

/* MOE_ERR_CHECK, saying what failed, if a point missed a tolerance or decided differently although
 * no copy was under way. */
enum moe_status cli_validate_verdict(const struct cli_point *points, size_t n,
                                     const struct cli_validation *v, struct moe_err *err);

#endif
