/* The result of a what-if, as a table and in words. */
#ifndef MOELAB_CLI_WHATIF_SHOW_H
#define MOELAB_CLI_WHATIF_SHOW_H

#include "cli/output.h"
#include "sim/whatif.h"

struct cli_whatif_view {
    const struct cli_call *call;
    const struct moe_whatif_spec *spec;
    const struct moe_whatif *whatif;
};

/* One line, for plots and reports. */
void cli_whatif_title(const struct cli_whatif_view *view, char *buf, size_t size);

/* A row for each line at each value, and where the values come from. */
struct moe_table *cli_whatif_table(const struct cli_whatif_view *view);

/* What the machine does as it is, and what one step on each axis changes, the largest gain first.
 */
void cli_whatif_tell(const struct cli_whatif_view *view, FILE *out);

#endif
