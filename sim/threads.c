#include "sim/threads.h"

#include <omp.h>

int moe_threads_for(size_t n_tasks, uint32_t wanted)
{
    const uint32_t most = wanted ? wanted : (uint32_t)omp_get_max_threads();
    return n_tasks == 0 ? 1 : (int)(n_tasks < most ? n_tasks : most);
}
