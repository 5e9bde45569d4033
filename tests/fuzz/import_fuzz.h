/* What the fuzz targets of importers share: checks that an accepted trace is valid. */
#ifndef MOELAB_TESTS_IMPORT_FUZZ_H
#define MOELAB_TESTS_IMPORT_FUZZ_H

#include "traces/formats.h"
#include "traces/trace.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Checks what every importer promises of an accepted trace, then releases it. */
static inline void fuzz_accept(struct moe_trace *trace)
{
    struct moe_err err = {0};
    uint64_t n = 0;
    if (moe_tokens_check(&trace->tokens, &trace->info, &err) != MOE_OK)
        abort();
    for (uint64_t i = 0; i < trace->n_sequences; i++)
        n += trace->sequences[i].n_tokens;
    if (n != trace->tokens.n_tokens || trace->info.top_k == 0 || trace->info.n_layers == 0)
        abort();
    moe_trace_release(trace);
}

/* One run of a text importer. */
static inline void fuzz_parse(moe_parse_fn *parse, const uint8_t *data, size_t size)
{
    const struct moe_import_options options = {0};
    struct moe_trace trace;
    struct moe_err err = {0};
    if (parse("x", (const char *)data, size, &options, &trace, &err) == MOE_OK)
        fuzz_accept(&trace);
    else if (!err.text[0])
        abort();
}

/* Takes the next of several files off the input: a length of two bytes, then the bytes. */
static inline struct moe_blob fuzz_blob(const uint8_t **data, size_t *size, const char *name)
{
    struct moe_blob blob = {name, NULL, 0};
    if (*size < 2)
        return blob;
    size_t n = (size_t)((*data)[0] | (*data)[1] << 8);
    n = n > *size - 2 ? *size - 2 : n;
    if (n)
        blob = (struct moe_blob){name, (const char *)*data + 2, n};
    *data += 2 + n;
    *size -= 2 + n;
    return blob;
}

#endif
