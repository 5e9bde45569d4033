/* The CPU pool: OpenMP threads with fixed placement that compute matrices and experts together.
 * Only _new and _free allocate and release memory. The results do not depend on the number of
 * threads. */
#ifndef MOELAB_EXEC_POOL_H
#define MOELAB_EXEC_POOL_H

#include "exec/kernels.h"

struct moe_pool; /* opaque; one caller at a time */

struct moe_pool_options {
    uint32_t threads; /* 0: one for each physical core that this process may use */
    bool pin; /* pin each thread to a core of its own; the caller's is only moved to its core */
    const char *kernels; /* name of a set; NULL: "auto" */
};

/* Errors: MOE_ERR_USAGE (more threads than 1024, unknown kernels), MOE_ERR_MEMORY. */
enum moe_status moe_pool_new(struct moe_pool **out, const struct moe_pool_options *options,
                             struct moe_err *err);
void moe_pool_free(struct moe_pool *pool);
uint32_t moe_pool_threads(const struct moe_pool *pool);
const struct moe_kernels *moe_pool_kernels(const struct moe_pool *pool);

/* y[T, rows] = x[T, cols] w^T + bias (NULL: none), all float32 in host memory. */
void moe_pool_linear(struct moe_pool *pool, const struct moe_matrix *w, const float *bias,
                     const float *x, uint32_t n_tokens, float *y);

/* Several matrices over the same x in one parallel region (q, k, v). */
struct moe_linear {
    const struct moe_matrix *w;
    const float *bias; /* [rows] or NULL */
    float *y;          /* [T, rows] */
};
void moe_pool_linears(struct moe_pool *pool, const struct moe_linear *jobs, uint32_t n_jobs,
                      const float *x, uint32_t n_tokens);

/* One expert on the tokens that chose it: y = (silu(x w1^T) * (x w3^T)) w2^T. */
struct moe_ffn_job {
    struct moe_matrix w1, w3; /* gate and up, [F, D] */
    struct moe_matrix w2;     /* down, [D, F] */
    uint32_t n_tokens;
    const float *x; /* [n_tokens, D] */
    float *h;       /* [n_tokens, F] scratch of the caller */
    float *y;       /* [n_tokens, D] */
};

/* All experts of an event in one parallel region with a single barrier, between gate/up and down.
 */
void moe_pool_experts(struct moe_pool *pool, const struct moe_ffn_job *jobs, uint32_t n_jobs);

/* Calls f(context, i) once for each i in [0, n), shared out over the threads. */
void moe_pool_each(struct moe_pool *pool, uint32_t n, void (*f)(void *context, uint32_t i),
                   void *context);

#endif
