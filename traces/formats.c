#include "traces/formats.h"

#include "base/file.h"
#include "base/units.h"
#include "traces/build.h"

#include <stdlib.h>
#include <string.h>

const struct moe_format moe_formats[] = {
    {"expert-choices", "CSV of expert ids per layer, one row a token; empty rows start a sequence",
     "MoE-CPU-GPU-Collaborative-Inference, expert_choices.csv", moe_expert_choices_import,
     moe_expert_choices_export},
    {"route-csv", "engine log: one row a (token, layer, slot), with the engine's hits",
     "BigMoeOnEdge, *.route.csv", moe_route_csv_import, moe_route_csv_export},
    {"npy", "NumPy ids [tokens, layers, k], optional weights and sequences.csv; file or folder",
     "NumPy; gpt-oss expert fingerprinting, repacked", moe_npy_routes_import,
     moe_npy_routes_export},
    {"jsonl", "one JSON object a token; lossless for any trace", "moelab", moe_jsonl_import,
     moe_jsonl_export},
    {"vllm", "return_routed_experts arrays: .npy of one request, .npz or folder of several",
     "vLLM, return_routed_experts", moe_vllm_import, NULL},
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

enum moe_status moe_import_file(const char *path, moe_parse_fn *parse,
                                const struct moe_import_options *options, struct moe_trace *out,
                                struct moe_err *err)
{
    char *data = NULL;
    size_t size = 0;
    enum moe_status status = moe_file_read(path, MOE_IMPORT_MAX_BYTES, &data, &size, err);
    if (status == MOE_OK)
        status = parse(path, data, size, options, out, err);
    free(data);
    return status;
}
