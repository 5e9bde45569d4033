/* How many threads take independent tasks in turn. */
#ifndef MOELAB_SIM_THREADS_H
#define MOELAB_SIM_THREADS_H

#include <omp.h>
#include <stddef.h>
#include <stdint.h>

/* `wanted`, or 0: as many as OpenMP would start (OMP_NUM_THREADS, or every processor); but no more
 * than there are tasks, and at least one. */
static inline int moe_threads_for(size_t n_tasks, uint64_t wanted)
{
    const uint64_t most = wanted ? wanted : (uint64_t)omp_get_max_threads();
    return (int)(n_tasks < most ? n_tasks + !n_tasks : most);
}

#endif
