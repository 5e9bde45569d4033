/* The parser of JSON lines, shared by its two files; not for others. */
#ifndef MOELAB_TRACES_JSONL_H
#define MOELAB_TRACES_JSONL_H

#include "base/error.h"
#include "traces/ignored.h"
#include "traces/trace.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct moe_jsonl {
    const char *name, *next, *end;
    uint64_t line;
    struct moe_trace *trace; /* NULL in the first pass */
    bool has_header;
    uint64_t n_layers, n_experts, top_k; /* told by the header; 0: not told */
    uint64_t used_layers, used_top_k, used_experts;
    uint64_t n_tokens, n_sequences;
    unsigned parts;
    unsigned lists; /* bits of format_jsonl.c's optional lists: which some token has */
    struct moe_ignored ignored;
    /* the token before */
    int64_t step;
    enum moe_phase phase;
    bool open; /* the sequence under way has tokens */
};

/* MOE_ERR_INPUT with "'file':line: " in front. */
enum moe_status moe_jsonl_fail(const struct moe_jsonl *p, struct moe_err *err, const char *format,
                               ...) __attribute__((format(printf, 3, 4)));

/* Whole number in [min, max]; absent or null: fallback. */
enum moe_status moe_jsonl_integer(const struct moe_jsonl *p, const json_t *object, const char *key,
                                  int64_t min, int64_t max, int64_t fallback, int64_t *out,
                                  struct moe_err *err);

/* String; absent or null: *out stays. It lives as long as the object. */
enum moe_status moe_jsonl_text(const struct moe_jsonl *p, const json_t *object, const char *key,
                               const char **out, struct moe_err *err);

/* Looks for keys that are not among the n known ones: skips and notes them, or fails where a known
 * one that is absent was probably meant. */
enum moe_status moe_jsonl_keys(struct moe_jsonl *p, const json_t *object, const char *const *known,
                               size_t n, struct moe_err *err);

/* The line {"moelab_trace": 1, ...}: shape in the first pass, everything else in the second. */
enum moe_status moe_jsonl_header(struct moe_jsonl *p, const json_t *object, struct moe_err *err);

#endif
