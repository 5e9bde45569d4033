/* Spec strings of synthetic traces: parsed, written back, and made where the trace is small. */
#include "traces/reuse.h"
#include "traces/synth.h"
#include "traces/synth_spec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make(const char *spec)
{
    struct moe_trace trace;
    struct moe_reuse reuse;
    struct moe_err err;
    if (moe_synth_make(spec, &trace, &err))
        return;
    if (moe_tokens_check(&trace.tokens, &trace.info, &err))
        abort();
    if (moe_reuse_compute(&trace, &reuse, &err) == MOE_OK)
        moe_reuse_release(&reuse);
    moe_trace_release(&trace);
}

/* What is written parses to the same text again. */
static void write_back(const struct moe_synth_config *config)
{
    struct moe_synth_config again;
    struct moe_err err;
    char first[512], second[512];
    moe_synth_format(config, first, sizeof first);
    if (moe_synth_parse(first, &again, &err))
        abort();
    if (strcmp(first, moe_synth_format(&again, second, sizeof second)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_synth_config config;
    struct moe_err err;
    char *spec = malloc(size + 1);
    if (!spec)
        return 0;
    memcpy(spec, data, size);
    spec[size] = 0;
    if (moe_synth_parse(spec, &config, &err) == MOE_OK && config.kind != MOE_SYNTH_STATS) {
        write_back(&config);
        uint64_t tokens = config.tokens + config.prompt * config.sequences;
        if (tokens < 200 && config.layers * config.experts * config.top_k < 1000)
            make(spec);
    }
    free(spec);
    return 0;
}
