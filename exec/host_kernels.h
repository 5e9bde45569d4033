/* The kernels of the `host` device: exec/dense.h on one thread, after a check that all memory of
 * the job is allocated. A job is copied with all the structs that it points to, since it runs after
 * the call that queued it. */
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
    struct moe_attend_job job; /* its pointers to the structs copied below are not used */
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

/* What a job reads and computes, for its set time. (A combine counts as nothing.) */
struct moe_host_load moe_host_attend_load(const struct moe_attend_job *job);
struct moe_host_load moe_host_expert_load(const struct moe_expert_job *job);
struct moe_host_load moe_host_head_load(const struct moe_head_job *job);

/* Errors: MOE_ERR_CHECK when the job is invalid (no token, more tokens than the cache holds, a
 * forced expert that the model does not have) or accesses memory that is not allocated (says which
 * array). The box's flag is not set here. */
enum moe_status moe_host_attend_run(const struct moe_host_kernels *kernels,
                                    const struct moe_host_attend *attend, struct moe_err *err);
enum moe_status moe_host_expert_run(const struct moe_host_kernels *kernels,
                                    const struct moe_host_expert *expert, struct moe_err *err);
enum moe_status moe_host_combine_run(const struct moe_host_kernels *kernels,
                                     const struct moe_host_combine *combine, struct moe_err *err);
enum moe_status moe_host_head_run(const struct moe_host_kernels *kernels,
                                  const struct moe_host_head *head, struct moe_err *err);

#endif
