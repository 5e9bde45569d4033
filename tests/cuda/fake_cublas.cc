// Stands for cuBLAS in tests: the functions that exec/cuda/gemm.cu loads, which queue their work on
// the emulated runtime of the program that loads this library. Built with FAKE_CUBLAS_REFUSES it
// behaves like a cuBLAS for which the driver is too old.
#include "tests/cuda/cuda_runtime_api.h"

#include <cstdint>
#include <cstring>

struct cublasContext {
    cudaStream_t stream;
};

static float item(const void *p, int type, size_t i)
{
    float f;
    if (type == 0) {
        f = static_cast<const float *>(p)[i];
    } else {
        const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(p)[i]) << 16;
        memcpy(&f, &bits, sizeof f);
    }
    return f;
}

extern "C" {
int cublasCreate_v2(cublasContext **out);
int cublasDestroy_v2(cublasContext *handle);
int cublasSetStream_v2(cublasContext *handle, cudaStream_t stream);
int cublasSetWorkspace_v2(cublasContext *handle, void *memory, size_t bytes);
int cublasGemmEx(cublasContext *handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                 const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                 const void *beta, void *c, int type_c, int ldc, int compute, int algorithm);
}

int cublasCreate_v2(cublasContext **out)
{
#ifdef FAKE_CUBLAS_REFUSES
    *out = nullptr;
    return 1;
#else
    *out = new cublasContext{nullptr};
    return 0;
#endif
}

int cublasDestroy_v2(cublasContext *handle)
{
    delete handle;
    return 0;
}

int cublasSetStream_v2(cublasContext *handle, cudaStream_t stream)
{
    handle->stream = stream;
    return 0;
}

int cublasSetWorkspace_v2(cublasContext *, void *memory, size_t bytes)
{
    return memory && bytes ? 0 : 7;
}

/* Column-major, only op_a transposed: c = alpha a^T b + beta c with sums in float32. */
int cublasGemmEx(cublasContext *handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                 const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                 const void *beta, void *c, int type_c, int ldc, int compute, int)
{
    const bool bf16 = type_a == 14 && type_b == 14 && compute == 68;
    const bool f32 = type_a == 0 && type_b == 0 && compute == 69;
    const float scale = *static_cast<const float *>(alpha),
                keep = *static_cast<const float *>(beta);
    if (op_a != 1 || op_b != 0 || type_c != 0 || (!bf16 && !f32) || lda < k || ldb < k || ldc < m)
        return 7;
    const size_t rows = static_cast<size_t>(m), cols = static_cast<size_t>(n),
                 depth = static_cast<size_t>(k), step_a = static_cast<size_t>(lda),
                 step_b = static_cast<size_t>(ldb), step_c = static_cast<size_t>(ldc);
    cuda_emulation_queue(handle->stream, [=] {
        for (size_t j = 0; j < cols; j++)
            for (size_t i = 0; i < rows; i++) {
                float sum = 0, *to = static_cast<float *>(c) + j * step_c + i;
                for (size_t d = 0; d < depth; d++)
                    sum += item(a, type_a, i * step_a + d) * item(b, type_b, j * step_b + d);
                *to = scale * sum + (keep != 0 ? keep * *to : 0);
            }
    });
    return 0;
}
