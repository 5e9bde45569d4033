#include "exec/kernels.h"

#include <stdio.h>
#include <string.h>

const struct moe_kernels *const moe_kernel_sets[] = {
    &moe_kernels_portable,
#ifdef __x86_64__
    &moe_kernels_avx2,
    &moe_kernels_amx, /* only chosen by name: every processor with AMX has AVX-512, too */
    &moe_kernels_avx512_bf16,
    &moe_kernels_avx512,
#elif defined(__aarch64__)
    &moe_kernels_neon,
#endif
};
const size_t moe_n_kernel_sets = sizeof moe_kernel_sets / sizeof *moe_kernel_sets;

const struct moe_kernels *moe_kernels_best(void)
{
    size_t i = moe_n_kernel_sets - 1;
    while (i > 0 && !moe_kernel_sets[i]->usable())
        i--;
    return moe_kernel_sets[i];
}

enum moe_status moe_kernels_find(const char *name, const struct moe_kernels **out,
                                 struct moe_err *err)
{
    char known[128] = "auto";
    if (strcmp(name, "auto") == 0) {
        *out = moe_kernels_best();
        return MOE_OK;
    }
    for (size_t i = 0, used = 4; i < moe_n_kernel_sets; i++) {
        const struct moe_kernels *set = moe_kernel_sets[i];
        if (strcmp(name, set->name) == 0) {
            if (!set->usable())
                return moe_fail(err, MOE_ERR_UNSUPPORTED,
                                "kernels '%s' need %s, which this processor lacks", name,
                                set->summary);
            *out = set;
            return MOE_OK;
        }
        const int n = snprintf(known + used, sizeof known - used, ", %s", set->name);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    return moe_fail(err, MOE_ERR_USAGE, "unknown kernels '%.40s'; known: %s", name, known);
}
