/* Statistics files: parsed, and where one layer is small, fitted. */
#include "traces/synth_stats.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fit(const struct moe_stats *stats)
{
    struct moe_latent_params params;
    struct moe_err err;
    if (stats->n_experts > 8 || moe_latent_params_init(&params, stats->n_experts, &err))
        return;
    if (moe_stats_fit(stats, 0, &params, &err))
        abort();
    double sum = 0;
    for (int i = 0; i < MOE_LATENT_PROCESSES; i++) {
        if (!(params.share[i] >= 0 && params.share[i] <= 1))
            abort();
        sum += params.share[i];
    }
    if (sum > 1 + 1e-9 || !(params.copy >= 0 && params.copy < 1))
        abort();
    moe_latent_params_release(&params);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_stats stats;
    struct moe_err err;
    if (moe_stats_parse("fuzz", (const char *)data, size, &stats, &err) == MOE_OK) {
        fit(&stats);
        moe_stats_release(&stats);
    }
    return 0;
}
