#include "exec/awake.h"

#include "exec/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

struct moe_awake {
    atomic_bool end, refused;
    atomic_uint ready;
    atomic_uint next;
    uint16_t cpu[MOE_CPUS_MAX];
    pthread_t thread[MOE_CPUS_MAX];
    uint32_t n;
};

static void *spin(void *context)
{
    struct moe_awake *a = context;
    const struct sched_param none = {0};
    moe_cpu_pin(a->cpu[atomic_fetch_add(&a->next, 1)]);
    if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none))
        atomic_store(&a->refused, true);
    atomic_fetch_add(&a->ready, 1);
    /* Enter the kernel each time: with lazy preemption (Linux from 6.12 on), a thread woken by
     * another processor would wait until the next tick while this one is in user mode, whatever its
     * priority. */
    while (!atomic_load_explicit(&a->end, memory_order_relaxed) && !atomic_load(&a->refused))
        sched_yield();
    return NULL;
}

void moe_awake_end(struct moe_awake *a)
{
    if (!a)
        return;
    atomic_store(&a->end, true);
    for (uint32_t i = 0; i < a->n; i++)
        pthread_join(a->thread[i], NULL);
    free(a);
}

enum moe_status moe_awake_start(struct moe_awake **out, struct moe_err *err)
{
    uint32_t cores, nodes;
    struct moe_awake *a = calloc(1, sizeof *a);
    if (!a)
        return moe_fail_memory(err, "threads that keep processors awake");
    const uint32_t n = moe_cpu_order(a->cpu, &cores, &nodes);
    enum moe_status s = MOE_OK;
    while (a->n < n && !s) {
        if (pthread_create(&a->thread[a->n], NULL, spin, a))
            s = moe_fail(err, MOE_ERR_MEMORY, "cannot start a thread to keep processors awake");
        else
            a->n++;
    }
    while (!s && atomic_load(&a->ready) < n)
        sched_yield();
    if (!s && atomic_load(&a->refused))
        s = moe_fail(err, MOE_ERR_UNSUPPORTED,
                     "the system grants no idle priority, which awake=on needs; use awake=off");
    if (s)
        moe_awake_end(a);
    else
        *out = a;
    return s;
}
