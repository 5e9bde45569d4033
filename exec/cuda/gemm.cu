// cuBLAS for many tokens. BF16 weights are multiplied as BF16 by BF16 with sums in float32: an
// activation is split into two BF16 terms, high and low, whose products with the weights are added.
// Other types are multiplied in float32; F16, Q8 and Q4 are converted first, some rows at a time.
// (A number times its scale has up to 18 bits of mantissa, more than the 16-bit types keep.)
#include "exec/cuda/weights.cuh"

#include "exec/cuda/gemm.h"

#include <dlfcn.h>

#include <cstdlib>

// The functions and constants of cuBLAS that are used, as in its reference manual.
typedef struct cublasContext *blas_handle;
enum { BLAS_SUCCESS = 0, BLAS_OP_N = 0, BLAS_OP_T = 1, BLAS_COMPUTE_32F = 68 };
enum { BLAS_PEDANTIC_32F = 69, BLAS_R_32F = 0, BLAS_R_16BF = 14, BLAS_DEFAULT_ALGO = -1 };

struct blas {
    void *library;
    int (*create)(blas_handle *);
    int (*destroy)(blas_handle);
    int (*set_stream)(blas_handle, cudaStream_t);
    int (*set_workspace)(blas_handle, void *, size_t);
    int (*gemm)(blas_handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                const void *beta, void *c, int type_c, int ldc, int compute, int algorithm);
};

enum { LIBRARY_BYTES = 32 << 20, OPERAND_BYTES = MOE_CUDA_GEMM_BYTES - LIBRARY_BYTES };

struct moe_cuda_gemm {
    struct blas blas;
    blas_handle handle;
    cudaStream_t stream;
    char *memory; // [LIBRARY_BYTES + OPERAND_BYTES] on the device
};

enum { THREADS = 256 };

// The nearest BF16, ties to even; NaN stays NaN.
static __device__ __forceinline__ uint32_t bf16_of(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if (isnan(x))
        return bits >> 16 | 0x40;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static __global__ void split_kernel(const float *x, size_t n, uint16_t *high, uint16_t *low)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= n)
        return;
    const uint32_t h = bf16_of(x[i]);
    const float rest = x[i] - bf16_low(h);
    high[i] = static_cast<uint16_t>(h);
    low[i] = isfinite(rest) ? static_cast<uint16_t>(bf16_of(rest)) : 0; // NaN, infinity: no rest
}

// n weights of whole rows of `cols`, fewer than 2^32.
template <moe_dtype TYPE>
static __global__ void convert_kernel(const void *w, uint32_t cols, uint32_t n, float *to)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n)
        to[i] = weight_at<TYPE>(row_at<TYPE>(w, i / cols, cols), cols, i % cols);
}

static __global__ void silu_kernel(float *h, const float *up, size_t n)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < n)
        h[i] = moe_silu(h[i]) * up[i];
}

cudaError_t moe_cuda_load_gemm()
{
    return load_kernels(split_kernel, convert_kernel<MOE_F16>, convert_kernel<MOE_Q8>,
                        convert_kernel<MOE_Q4>, silu_kernel);
}

static uint32_t blocks_of(size_t n)
{
    return static_cast<uint32_t>((n + THREADS - 1) / THREADS);
}

// y[t, r0 .. r0 + rows) of ldy columns = beta y + x w^T. cuBLAS is column-major, so our rows are
// its columns.
static bool multiply(const struct moe_cuda_gemm *g, const void *w, const void *x, bool bf16,
                     uint32_t rows, uint32_t cols, uint32_t n_tokens, float beta, float *y,
                     uint32_t ldy)
{
    const float alpha = 1;
    const int k = static_cast<int>(cols);
    int type = BLAS_R_32F, compute = BLAS_PEDANTIC_32F;
    if (bf16) {
        type = BLAS_R_16BF;
        compute = BLAS_COMPUTE_32F;
    }
    return g->blas.gemm(g->handle, BLAS_OP_T, BLAS_OP_N, static_cast<int>(rows),
                        static_cast<int>(n_tokens), k, &alpha, w, type, k, x, type, k, &beta, y,
                        BLAS_R_32F, static_cast<int>(ldy), compute,
                        BLAS_DEFAULT_ALGO) == BLAS_SUCCESS;
}

// BF16 weights: as many tokens at once as fit into `room` bytes for the operands.
static bool run_bf16(const struct moe_cuda_gemm *g, const struct moe_matrix *w, const float *x,
                     uint32_t n_tokens, float *y, char *room, size_t bytes)
{
    const size_t most = bytes / (4 * static_cast<size_t>(w->cols));
    for (uint32_t t = 0, n; t < n_tokens; t += n) {
        n = n_tokens - t < most ? n_tokens - t : static_cast<uint32_t>(most);
        const size_t items = static_cast<size_t>(n) * w->cols;
        uint16_t *high = reinterpret_cast<uint16_t *>(room), *low = high + items;
        float *to = y + static_cast<size_t>(t) * w->rows;
        if (n == 0)
            return false;
        MOE_LAUNCH(split_kernel, blocks_of(items), THREADS, 0, g->stream,
                   x + static_cast<size_t>(t) * w->cols, items, high, low);
        if (!multiply(g, w->data, high, true, w->rows, w->cols, n, 0, to, w->rows) ||
            !multiply(g, w->data, low, true, w->rows, w->cols, n, 1, to, w->rows))
            return false;
    }
    return true;
}

// Other weights: as many rows at once as fit.
template <moe_dtype TYPE>
static bool run_converted(const struct moe_cuda_gemm *g, const struct moe_matrix *w, const float *x,
                          uint32_t n_tokens, float *y, char *room, size_t bytes)
{
    auto *const convert = convert_kernel<TYPE>;
    const size_t most = bytes / (sizeof(float) * w->cols);
    float *panel = reinterpret_cast<float *>(room);
    for (uint32_t r = 0, n; r < w->rows; r += n) {
        n = w->rows - r < most ? w->rows - r : static_cast<uint32_t>(most);
        if (n == 0)
            return false;
        MOE_LAUNCH(convert, blocks_of(static_cast<size_t>(n) * w->cols), THREADS, 0, g->stream,
                   row_at<TYPE>(w->data, r, w->cols), w->cols, n * w->cols, panel);
        if (!multiply(g, panel, x, false, n, w->cols, n_tokens, 0, y + r, w->rows))
            return false;
    }
    return true;
}

static bool run_in(const struct moe_cuda_gemm *g, const struct moe_matrix *w, const float *x,
                   uint32_t n_tokens, float *y, char *room, size_t bytes)
{
    if (w->dtype == MOE_BF16)
        return run_bf16(g, w, x, n_tokens, y, room, bytes);
    if (w->dtype == MOE_F16)
        return run_converted<MOE_F16>(g, w, x, n_tokens, y, room, bytes);
    if (w->dtype == MOE_Q8)
        return run_converted<MOE_Q8>(g, w, x, n_tokens, y, room, bytes);
    if (w->dtype == MOE_Q4)
        return run_converted<MOE_Q4>(g, w, x, n_tokens, y, room, bytes);
    return multiply(g, w->data, x, false, w->rows, w->cols, n_tokens, 0, y, w->rows);
}

bool moe_cuda_gemm_run(struct moe_cuda_gemm *gemm, const struct moe_matrix *w, const float *x,
                       uint32_t n_tokens, float *y)
{
    return run_in(gemm, w, x, n_tokens, y, gemm->memory + LIBRARY_BYTES, OPERAND_BYTES);
}

// The first half of the operands' memory holds the products with w3, for as many tokens as fit.
bool moe_cuda_gemm_gate_up(struct moe_cuda_gemm *gemm, const struct moe_matrix *w1,
                           const struct moe_matrix *w3, const float *x, uint32_t n_tokens, float *h)
{
    const size_t half = OPERAND_BYTES / 2, most = half / (sizeof(float) * w1->rows);
    char *const room = gemm->memory + LIBRARY_BYTES;
    float *up = reinterpret_cast<float *>(room);
    for (uint32_t t = 0, n; t < n_tokens; t += n) {
        n = n_tokens - t < most ? n_tokens - t : static_cast<uint32_t>(most);
        const size_t items = static_cast<size_t>(n) * w1->rows;
        const float *from = x + static_cast<size_t>(t) * w1->cols;
        float *to = h + static_cast<size_t>(t) * w1->rows;
        if (n == 0 || !run_in(gemm, w1, from, n, to, room + half, half) ||
            !run_in(gemm, w3, from, n, up, room + half, half))
            return false;
        MOE_LAUNCH(silu_kernel, blocks_of(items), THREADS, 0, gemm->stream, to, up, items);
    }
    return true;
}

static bool find(struct blas *blas, void *function, const char *name)
{
    void *const at = dlsym(blas->library, name);
    memcpy(function, &at, sizeof at);
    return at != nullptr;
}

static enum moe_status load(struct blas *blas, const char *name, struct moe_err *err)
{
    // It stays loaded: kernels and threads of its own may outlive its handle.
    blas->library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!blas->library) {
        const char *const why = dlerror();
        return moe_fail(
            err, MOE_ERR_UNSUPPORTED,
            "no cuBLAS (%.200s): prompts are slower, install the CUDA toolkit's libcublas",
            why ? why : "not found");
    }
    if (find(blas, &blas->create, "cublasCreate_v2") &&
        find(blas, &blas->destroy, "cublasDestroy_v2") &&
        find(blas, &blas->set_stream, "cublasSetStream_v2") &&
        find(blas, &blas->set_workspace, "cublasSetWorkspace_v2") &&
        find(blas, &blas->gemm, "cublasGemmEx"))
        return MOE_OK;
    return moe_fail(err, MOE_ERR_UNSUPPORTED, "'%s' is not a cuBLAS of version 11 or later", name);
}

static enum moe_status reserve(struct moe_cuda_gemm *g, struct moe_err *err)
{
    void *memory = nullptr;
    if (g->memory)
        return MOE_OK;
    if (cudaMalloc(&memory, MOE_CUDA_GEMM_BYTES) != cudaSuccess) {
        (void)cudaGetLastError(); // told here
        return moe_fail(err, MOE_ERR_MEMORY, "no %d MiB of device memory for matrix products",
                        MOE_CUDA_GEMM_BYTES >> 20);
    }
    g->memory = static_cast<char *>(memory);
    return MOE_OK;
}

static enum moe_status start(struct moe_cuda_gemm *g, const char *name, struct moe_err *err)
{
    enum moe_status status = load(&g->blas, name, err);
    if (status || (status = reserve(g, err)))
        return status;
    int code = g->blas.create(&g->handle);
    if (code == BLAS_SUCCESS)
        code = g->blas.set_stream(g->handle, g->stream);
    if (code == BLAS_SUCCESS)
        code = g->blas.set_workspace(g->handle, g->memory, LIBRARY_BYTES);
    return code == BLAS_SUCCESS ? MOE_OK
                                : moe_fail(err, MOE_ERR_UNSUPPORTED,
                                           "cuBLAS '%s' does not start: its status %d", name, code);
}

static void close_library(struct moe_cuda_gemm *g)
{
    if (g->handle)
        g->blas.destroy(g->handle);
    if (g->blas.library)
        dlclose(g->blas.library);
    g->handle = nullptr;
    g->blas.library = nullptr;
}

// Takes the first library that starts; a newer one may be installed for which the driver is too
// old. The error is that of the first one that exists, or else of the first.
static enum moe_status start_any(struct moe_cuda_gemm *g, const char *const *names,
                                 struct moe_err *err)
{
    bool is_there = false;
    enum moe_status status = MOE_ERR_UNSUPPORTED;
    for (int i = 0; names[i] && status == MOE_ERR_UNSUPPORTED; i++) {
        struct moe_err why = {};
        status = start(g, names[i], &why);
        if (status == MOE_OK)
            break;
        if (i == 0 || status != MOE_ERR_UNSUPPORTED || (g->blas.library && !is_there))
            *err = why;
        is_there = is_there || g->blas.library;
        close_library(g);
    }
    return status;
}

enum moe_status moe_cuda_gemm_open(struct moe_cuda_gemm **out, struct CUstream_st *stream,
                                   const char *const *names, struct moe_err *err)
{
    static const char *const usual[] = {MOE_CUBLAS_NAMES, nullptr};
    struct moe_cuda_gemm *g = static_cast<struct moe_cuda_gemm *>(calloc(1, sizeof *g));
    if (!g)
        return moe_fail(err, MOE_ERR_MEMORY, "out of memory");
    g->stream = stream;
    const enum moe_status status = start_any(g, names ? names : usual, err);
    if (status) {
        moe_cuda_gemm_close(g);
        return status;
    }
    *out = g;
    return MOE_OK;
}

void moe_cuda_gemm_close(struct moe_cuda_gemm *gemm)
{
    if (!gemm)
        return;
    close_library(gemm);
    (void)cudaFree(gemm->memory);
    free(gemm);
}
