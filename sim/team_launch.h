/* Was this process started as one of several? The one place of the program that reads the
 * environment: a launcher says it nowhere else, and asking MPI itself costs a third of a second. */
#ifndef MOELAB_SIM_TEAM_LAUNCH_H
#define MOELAB_SIM_TEAM_LAUNCH_H

#include <stdint.h>

struct moe_launch {
    const char *by;      /* "mpirun (Open MPI)"; NULL: not by a launcher, or alone */
    uint32_t rank, size; /* 0 and 1 where not by one */
};

struct moe_launch moe_launch_look(void);

#endif
