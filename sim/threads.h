/* How many threads take independent tasks in turn. */
#ifndef MOELAB_SIM_THREADS_H
#define MOELAB_SIM_THREADS_H

#include <stddef.h>
#include <stdint.h>

/* `wanted`, or 0: as many as OpenMP would start (OMP_NUM_THREADS, or every processor); but no more
 * than there are tasks, and at least one. */
int moe_threads_for(size_t n_tasks, uint32_t wanted);

#endif
