/* The formats behind the table moe_formats: each has an import from a path, a parse of the same
 * bytes in memory (for tests and fuzzers; `name` stands for the file in messages), and an export.
 * Contracts as in import.h. */
#ifndef MOELAB_TRACES_FORMATS_H
#define MOELAB_TRACES_FORMATS_H

#include "traces/import.h"

#include <stddef.h>

/* A file in memory; data NULL: there is none. */
struct moe_blob {
    const char *name;
    const char *data;
    size_t size;
};

typedef enum moe_status moe_parse_fn(const char *name, const char *data, size_t size,
                                     const struct moe_import_options *options,
                                     struct moe_trace *out, struct moe_err *err);

/* Reads path whole and parses it. */
enum moe_status moe_import_file(const char *path, moe_parse_fn *parse,
                                const struct moe_import_options *options, struct moe_trace *out,
                                struct moe_err *err);

/* expert-choices: the reference implementation's CSV. "Index,Block_0,Block_0,..." then index and k
 * ids a layer; a row of the index alone starts a sequence (an empty prefill). k is the model's,
 * else how often the second header name repeats, 2 where there is none. Export keeps decode routes
 * only; each sequence's prefill becomes one empty row. */
moe_parse_fn moe_expert_choices_parse;
enum moe_status moe_expert_choices_import(const char *path,
                                          const struct moe_import_options *options,
                                          struct moe_trace *out, struct moe_err *err);
enum moe_status moe_expert_choices_export(const struct moe_trace *trace, const char *path,
                                          struct moe_err *err);

/* route-csv: one row a (token, layer, slot), below "# key=value" header lines and a column line.
 * Positions of a forward pass must rise. Export writes execution order. */
moe_parse_fn moe_route_csv_parse;
enum moe_status moe_route_csv_import(const char *path, const struct moe_import_options *options,
                                     struct moe_trace *out, struct moe_err *err);
enum moe_status moe_route_csv_export(const struct moe_trace *trace, const char *path,
                                     struct moe_err *err);

/* npy: ids [T, L, K], weights of the same shape, sequences.csv. path is the ids file, or a folder
 * with ids.npy and, where they are there, weights.npy and sequences.csv. Export makes such a folder
 * (which must not be there yet) and keeps routes, weights and what sequences.csv can say. */
enum moe_status moe_npy_routes_parse(const struct moe_blob *ids, const struct moe_blob *weights,
                                     const struct moe_blob *sequences,
                                     const struct moe_import_options *options,
                                     struct moe_trace *out, struct moe_err *err);
enum moe_status moe_npy_routes_import(const char *path, const struct moe_import_options *options,
                                      struct moe_trace *out, struct moe_err *err);
enum moe_status moe_npy_routes_export(const struct moe_trace *trace, const char *path,
                                      struct moe_err *err);

/* jsonl: one object a token; lossless for any trace. */
moe_parse_fn moe_jsonl_parse;
enum moe_status moe_jsonl_import(const char *path, const struct moe_import_options *options,
                                 struct moe_trace *out, struct moe_err *err);
enum moe_status moe_jsonl_export(const struct moe_trace *trace, const char *path,
                                 struct moe_err *err);

/* vllm: return_routed_experts arrays [tokens, layers, k]: one .npy, a .npz with one array a
 * request, or a folder with one .npy a request (and sequences.csv), in natural order of their
 * names; files has that many. Import only: export npy. */
enum moe_status moe_vllm_parse(const struct moe_blob *files, size_t n_files,
                               const struct moe_blob *sequences,
                               const struct moe_import_options *options, struct moe_trace *out,
                               struct moe_err *err);
enum moe_status moe_vllm_import(const char *path, const struct moe_import_options *options,
                                struct moe_trace *out, struct moe_err *err);

#endif
