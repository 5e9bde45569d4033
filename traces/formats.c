#include "traces/formats.h"

#include "base/file.h"
#include "base/units.h"
#include "traces/build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct moe_format moe_formats[] = {
    {"expert-choices",
     "CSV of expert ids per layer, one row per token; empty rows start a sequence",
     "MoE-CPU-GPU-Collaborative-Inference, expert_choices.csv", moe_expert_choices_import,
     moe_expert_choices_export, 0},
    {"route-csv", "engine log: one row per (token, layer, slot), with the engine's hits",
     "BigMoeOnEdge, *.route.csv", moe_route_csv_import, moe_route_csv_export,
     MOE_HOLDS_PROMPTS | MOE_HOLDS_TURNS | MOE_HOLDS_POSITIONS | MOE_HAS_WEIGHT | MOE_HAS_LOG},
    {"npy", "NumPy ids [tokens, layers, k], optional weights and sequences.csv; file or folder",
     "NumPy; gpt-oss expert fingerprinting, repacked", moe_npy_routes_import, moe_npy_routes_export,
     MOE_HOLDS_PROMPTS | MOE_HOLDS_POSITIONS | MOE_HOLDS_LABELS | MOE_HAS_WEIGHT},
    {"jsonl", "one JSON object per token; lossless for any trace", "moelab", moe_jsonl_import,
     moe_jsonl_export, MOE_HOLDS_ALL},
    {"vllm", "return_routed_experts arrays: .npy of one request, .npz or folder of several",
     "vLLM, return_routed_experts", moe_vllm_import, NULL, 0},
    {.name = NULL},
};

enum moe_status moe_format_find(const char *name, const struct moe_format **out,
                                struct moe_err *err)
{
    const char *names[sizeof moe_formats / sizeof *moe_formats];
    size_t n = 0;
    for (const struct moe_format *f = moe_formats; f->name; f++) {
        if (strcmp(f->name, name) == 0) {
            *out = f;
            return MOE_OK;
        }
        names[n++] = f->name;
    }
    const char *near = moe_nearest_name(name, names, n);
    if (near)
        return moe_fail(err, MOE_ERR_USAGE, "unknown format '%s' (did you mean '%s'?)", name, near);
    return moe_fail(err, MOE_ERR_USAGE,
                    "unknown format '%s': known are expert-choices, route-csv, npy, jsonl, vllm",
                    name);
}

/* enum moe_format_holds of what the trace has. */
static unsigned has(const struct moe_trace *trace)
{
    const struct moe_tokens *x = &trace->tokens;
    const uint64_t n = (uint64_t)trace->info.n_layers * trace->info.top_k;
    unsigned bits = moe_tokens_parts(x);
    for (uint64_t t = 0; t < x->n_tokens; t++) {
        bits |= x->token_id[t] >= 0 ? MOE_HOLDS_TOKEN_IDS : 0;
        bits |= x->position[t] >= 0 ? MOE_HOLDS_POSITIONS : 0;
        bits |= t && x->sequence[t] == x->sequence[t - 1] && x->phase[t] == MOE_PREFILL &&
                        x->phase[t - 1] == MOE_DECODE
                    ? MOE_HOLDS_TURNS
                    : 0;
        for (uint64_t i = 0; x->phase[t] == MOE_PREFILL && i < n; i++)
            bits |= x->expert[t * n + i] != MOE_NO_EXPERT ? MOE_HOLDS_PROMPTS : 0;
    }
    for (uint64_t i = 0; i < trace->n_sequences; i++)
        bits |= *trace->sequences[i].label || *trace->sequences[i].category ? MOE_HOLDS_LABELS : 0;
    return bits;
}

const char *moe_format_loses(const struct moe_format *format, const struct moe_trace *trace,
                             char *buf, size_t size)
{
    static const struct {
        unsigned bit;
        const char *name;
    } parts[] = {
        {MOE_HOLDS_PROMPTS, "routes of prompts"},
        {MOE_HOLDS_TURNS, "which tokens are of a later prompt"},
        {MOE_HAS_WEIGHT, "weights"},
        {MOE_HAS_SCORE, "scores"},
        {MOE_HAS_LOOKAHEAD, "lookahead"},
        {MOE_HAS_LOG, "the engine's log"},
        {MOE_HOLDS_TOKEN_IDS, "token ids"},
        {MOE_HOLDS_POSITIONS, "positions"},
        {MOE_HOLDS_LABELS, "labels"},
        {MOE_HAS_REQUEST, "which request a token is of"},
    };
    const unsigned lost = has(trace) & ~format->holds;
    size_t at = 0;
    buf[0] = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && at < size; i++)
        if (lost & parts[i].bit)
            at += (size_t)snprintf(buf + at, size - at, "%s%s", at ? ", " : "", parts[i].name);
    return buf;
}

enum moe_status moe_import_file(const char *path, moe_parse_fn *parse,
                                const struct moe_import_options *options, struct moe_trace *out,
                                struct moe_err *err)
{
    char *data = NULL;
    size_t size = 0;
    enum moe_status status = moe_input_read(path, MOE_IMPORT_MAX_BYTES, &data, &size, err);
    if (status == MOE_OK)
        status = parse(path, data, size, options, out, err);
    free(data);
    return status;
}
