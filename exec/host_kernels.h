/* The kernels of the `host` device: those of exec/dense.h on one thread, over memory that is
 * checked first. A job is taken with all the structs it points to, since it runs after the call. */
#ifndef MOELAB_EXEC_HOST_KERNELS_H
#define MOELAB_EXEC_HOST_KERNELS_H

#include "exec/host_memory.h"
#include "exec/host_options.h"
#include "exec/pool.h"

/* What kernels run on. */
struct moe_host_kernels {
    struct moe_host_memory *memory;
    struct moe_pool *pool; /* of one thread */
};

struct moe_host_attend {
    struct moe_attend_job job; /* its pointers to the following are not used */
    struct moe_llm_config config;
    struct moe_llm_layer layer;
    struct moe_matrix next_router; /* data NULL: none */
    struct moe_activations a;
};

struct moe_host_expert {
    struct moe_expert_job job;
    struct moe_expert_weights weights;
    struct moe_activations a;
};

struct moe_host_combine {
    struct moe_llm_config config;
    struct moe_activations a;
};

struct moe_host_head {
    struct moe_head_job job;
    struct moe_llm_config config;
    struct moe_norm norm;
    struct moe_matrix head;
    struct moe_activations a;
};

struct moe_host_attend moe_host_attend_take(const struct moe_attend_job *job);
struct moe_host_expert moe_host_expert_take(const struct moe_expert_job *job);
struct moe_host_combine moe_host_combine_take(const struct moe_combine_job *job);
struct moe_host_head moe_host_head_take(const struct moe_head_job *job);

/* What they read and compute, for set times; a combine nothing that counts. */
struct moe_host_load moe_host_attend_load(const struct moe_attend_job *job);
struct moe_host_load moe_host_expert_load(const struct moe_expert_job *job);
struct moe_host_load moe_host_head_load(const struct moe_head_job *job);

/* Errors: MOE_ERR_CHECK when the job is none (no token, more than the cache holds, an expert that
 * is not there) or leaves the memory that it may use, named. The box's flag is not set here. */
enum moe_status moe_host_attend_run(const struct moe_host_kernels *kernels,
                                    const struct moe_host_attend *attend, struct moe_err *err);
enum moe_status moe_host_expert_run(const struct moe_host_kernels *kernels,
                                    const struct moe_host_expert *expert, struct moe_err *err);
enum moe_status moe_host_combine_run(const struct moe_host_kernels *kernels,
                                     const struct moe_host_combine *combine, struct moe_err *err);
enum moe_status moe_host_head_run(const struct moe_host_kernels *kernels,
                                  const struct moe_host_head *head, struct moe_err *err);

#endif
