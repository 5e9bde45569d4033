/* What importers and exporters share: provenance, shape decisions, allocation with a limit against
 * hostile files, and the dialect string. */
#ifndef MOELAB_TRACES_BUILD_H
#define MOELAB_TRACES_BUILD_H

#include "base/error.h"
#include "traces/import.h"
#include "traces/trace.h"

#include <stddef.h>
#include <stdint.h>

/* Files of up to 64 GiB are read whole. */
#define MOE_IMPORT_MAX_BYTES ((uint64_t)64 << 30)

/* Starts an empty trace: provenance from options; source defaults to "FORMAT, N bytes, fnv1a64 HEX"
 * of the content, so that the same bytes give the same trace whatever the file's name or time. */
void moe_import_start(struct moe_trace *trace, const char *format,
                      const struct moe_import_options *options, uint64_t n_bytes, uint64_t hash);

/* For loops over a file, to be called every few thousand rows: shows that `done` bytes of `total`
 * were read. MOE_ERR_INTERRUPTED when the user wants to stop. */
enum moe_status moe_import_tick(const struct moe_import_options *options, uint64_t done,
                                uint64_t total, struct moe_err *err);

/* Keeps text verbatim as info.header; at most MOE_HEADER_MAX bytes. name is the file's. */
enum moe_status moe_import_header(struct moe_trace *trace, const char *name, const char *text,
                                  size_t n, struct moe_err *err);

/* Settles n_layers: found in the file (0: none) or the model's; both must agree. */
enum moe_status moe_import_layers(struct moe_trace *trace, const char *name,
                                  const struct moe_import_options *options, uint64_t found,
                                  struct moe_err *err);

/* Settles n_experts: told by the file (0: not told), the model or options->n_experts, else
 * n_used = largest id + 1. Needs top_k. Errors where they disagree or an id is too large. */
enum moe_status moe_import_experts(struct moe_trace *trace, const char *name,
                                   const struct moe_import_options *options, uint64_t told,
                                   uint64_t n_used, struct moe_err *err);

/* Allocates tokens (unknown, absent, decode, step 0, sequence 0) and sequences (empty strings).
 * A trace of more than 64 MiB that is over 1024 times its file is refused: no honest file is that
 * sparse. */
enum moe_status moe_import_alloc(struct moe_trace *trace, const char *name, uint64_t n_tokens,
                                 uint64_t n_sequences, unsigned parts, uint64_t file_bytes,
                                 struct moe_err *err);

/* Numbers one sequence's forward passes: its first n_prompt tokens are one prefill pass, each other
 * token a decode pass. */
void moe_import_steps(struct moe_tokens *tokens, uint64_t first, uint64_t n, uint64_t n_prompt);

/* True when every forward pass has one token: then tokens row by row are in execution order. */
bool moe_import_single_passes(const struct moe_tokens *tokens);

/* Ends an import: on status MOE_OK checks the tokens, then moves the trace to *out; on any failure
 * releases it. Returns the first failure. */
enum moe_status moe_import_finish(struct moe_trace *trace, const char *name, enum moe_status status,
                                  struct moe_trace *out, struct moe_err *err);

/* Value of `key` in a dialect "key=value key=value": a pointer to it and *n its length, or NULL. */
const char *moe_dialect_get(const char *dialect, const char *key, size_t *n);

/* True when the dialect has key=value. */
bool moe_dialect_is(const char *dialect, const char *key, const char *value);

#endif
