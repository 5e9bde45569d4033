#include "exec/gemm.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Constants of the CBLAS interface. */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

static bool find(const struct moe_gemm *gemm, void *function, const char *name)
{
    void *const at = dlsym(gemm->library, name);
    memcpy(function, &at, sizeof at);
    return at != NULL;
}

enum moe_status moe_gemm_open(struct moe_gemm *out, struct moe_err *err)
{
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so"};
    struct moe_gemm gemm = {0};
    for (size_t i = 0; !gemm.library && i < sizeof names / sizeof *names; i++)
        /* never unloaded, as it has threads */
        gemm.library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!gemm.library) {
        const char *why = dlerror();
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "no OpenBLAS to compare with: %s",
                        why ? why : "not found");
    }
    if (find(&gemm, &gemm.set_threads, "openblas_set_num_threads") &&
        find(&gemm, &gemm.sgemm, "cblas_sgemm")) {
        *out = gemm;
        return MOE_OK;
    }
    moe_gemm_close(&gemm);
    return moe_fail(err, MOE_ERR_UNSUPPORTED,
                    "no OpenBLAS to compare with: it has no CBLAS functions");
}

void moe_gemm_close(struct moe_gemm *gemm)
{
    if (gemm->library)
        dlclose(gemm->library);
    *gemm = (struct moe_gemm){0};
}

void moe_gemm_f32(const struct moe_gemm *gemm, const float *w, uint32_t rows, uint32_t cols,
                  const float *x, uint32_t n_tokens, float *y, uint32_t threads)
{
    gemm->set_threads((int)threads);
    gemm->sgemm(ROW_MAJOR, NO_TRANS, TRANS, (int)n_tokens, (int)rows, (int)cols, 1, x, (int)cols, w,
                (int)cols, 0, y, (int)rows);
}
