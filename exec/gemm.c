#include "exec/gemm.h"

#include <cblas.h>

void moe_gemm_f32(const float *w, uint32_t rows, uint32_t cols, const float *x, uint32_t n_tokens,
                  float *y, uint32_t threads)
{
    openblas_set_num_threads((int)threads);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n_tokens, (blasint)rows,
                (blasint)cols, 1, x, (blasint)cols, w, (blasint)cols, 0, y, (blasint)rows);
}
