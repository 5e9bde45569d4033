#include "sim/tune_compare.h"

#include "base/numbers.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

enum { FEWEST_SEQUENCES = 8, BLOCKS = 16 };

static uint64_t count_decode(const struct moe_trace *trace)
{
    uint64_t n = 0;
    for (uint64_t t = 0; t < trace->tokens.n_tokens; t++)
        n += trace->tokens.phase[t] == MOE_DECODE;
    return n;
}

/* Gives each decode token its unit: a new one where a sequence begins, and with blocks also after
 * `block` tokens. Returns how many units there are. */
static uint32_t number_units(const struct moe_trace *trace, uint64_t block, uint32_t *unit_of)
{
    const struct moe_tokens *tokens = &trace->tokens;
    uint64_t at = 0, in_unit = 0;
    uint32_t n = 0, sequence = 0;
    for (uint64_t t = 0; t < tokens->n_tokens; t++) {
        if (tokens->phase[t] != MOE_DECODE)
            continue;
        if (at == 0 || tokens->sequence[t] != sequence || (block && in_unit == block)) {
            n++;
            in_unit = 0;
        }
        sequence = tokens->sequence[t];
        unit_of[at++] = n - 1;
        in_unit++;
    }
    return n;
}

enum moe_status moe_tune_units_init(struct moe_tune_units *units, const struct moe_trace *held_out,
                                    struct moe_err *err)
{
    struct moe_tune_units made = {.n_tokens = count_decode(held_out)};
    made.unit_of = malloc(made.n_tokens * sizeof *made.unit_of + 1);
    if (!made.unit_of)
        return moe_fail_memory(err, "the units to resample");
    made.n = number_units(held_out, 0, made.unit_of);
    made.blocks = made.n < FEWEST_SEQUENCES;
    if (made.blocks)
        made.n = number_units(held_out, (made.n_tokens + BLOCKS - 1) / BLOCKS, made.unit_of);
    *units = made;
    return MOE_OK;
}

void moe_tune_units_release(struct moe_tune_units *units)
{
    free(units->unit_of);
    *units = (struct moe_tune_units){0};
}

static double replicate(const double *sums, uint32_t n, struct moe_rng *rng)
{
    double a = 0, b = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t k = moe_rng_below(rng, n);
        a += sums[2 * k];
        b += sums[2 * k + 1];
    }
    return b / a;
}

enum moe_status moe_tune_compare(const struct moe_tune_units *units, const double *ms,
                                 const double *other_ms, uint64_t seed, struct moe_tune_gain *out,
                                 struct moe_err *err)
{
    struct moe_tune_gain gain = {NAN, NAN, NAN};
    double *sums = calloc(2 * (size_t)units->n + 1, sizeof *sums);
    double *ratios = calloc(MOE_TUNE_REPLICATES, sizeof *ratios);
    double a = 0, b = 0;
    if (!sums || !ratios) {
        free(sums);
        free(ratios);
        return moe_fail_memory(err, "resampled times");
    }
    for (uint64_t t = 0; t < units->n_tokens; t++) {
        sums[2 * (size_t)units->unit_of[t]] += ms[t];
        sums[2 * (size_t)units->unit_of[t] + 1] += other_ms[t];
        a += ms[t];
        b += other_ms[t];
    }
    gain.ratio = b / a;
    if (units->n > 1) {
        struct moe_rng rng;
        moe_rng_init(&rng, seed);
        for (uint32_t r = 0; r < MOE_TUNE_REPLICATES; r++)
            ratios[r] = replicate(sums, units->n, &rng);
        moe_sort_f64(ratios, MOE_TUNE_REPLICATES);
        gain.low = moe_quantile(ratios, MOE_TUNE_REPLICATES, 0.025);
        gain.high = moe_quantile(ratios, MOE_TUNE_REPLICATES, 0.975);
    }
    free(sums);
    free(ratios);
    *out = gain;
    return MOE_OK;
}
