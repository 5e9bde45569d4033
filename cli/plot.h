/* Plots: runs gnuplot on a script of plots/ and a result file. */
#ifndef MOELAB_CLI_PLOT_H
#define MOELAB_CLI_PLOT_H

#include "base/error.h"

/* Draws plots/SCRIPT.gp from the TSV into STEM.svg and STEM.png; title: of the plot. The
 * script gets the variables tsv, out (STEM), title. Errors: MOE_ERR_UNSUPPORTED when gnuplot is not
 * installed (with what to install), MOE_ERR_IO when it cannot be started or the script failed,
 * MOE_ERR_INTERRUPTED (gnuplot is terminated then). */
enum moe_status moe_plot(const char *script, const char *tsv, const char *stem, const char *title,
                         struct moe_err *err);

/* Checks that there is a script of that name, before long work whose result it is to draw. Errors:
 * MOE_ERR_USAGE, with the nearest name. */
enum moe_status moe_plot_check(const char *script, struct moe_err *err);

#endif
