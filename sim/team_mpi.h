/* MPI as the link of a team; the only code that knows MPI. A build without it has the same
 * functions, which know no ranks. */
#ifndef MOELAB_SIM_TEAM_MPI_H
#define MOELAB_SIM_TEAM_MPI_H

#include "sim/team_link.h"

/* Initialises MPI (the main thread alone talks: MPI_THREAD_FUNNELED). A world of one process is
 * left at once: out->size is 1 and there is nothing to close. Errors: MOE_ERR_UNSUPPORTED (no MPI
 * in this build), MOE_ERR_IO, MOE_ERR_MEMORY. */
enum moe_status moe_team_mpi_open(struct moe_team_link *out, struct moe_err *err);

/* "none", or the library and its version. */
const char *moe_team_library(char *buf, size_t size);

#endif
