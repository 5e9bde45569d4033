/* Small synthetic traces for the tests of HDF5 files. */
#ifndef MOELAB_TESTS_HDF5_TRACES_H
#define MOELAB_TESTS_HDF5_TRACES_H

#include "base/rng.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "traces/hdf5.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ALL_PARTS = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD | MOE_HAS_LOG | MOE_HAS_REQUEST
};

/* Fills the row of token t in layer l: sometimes absent, else different experts with weights and
 * scores. */
static inline void fill_route(struct moe_tokens *x, const struct moe_trace_info *info, uint64_t t,
                              uint32_t l, struct moe_rng *rng)
{
    uint32_t K = info->top_k, E = info->n_experts;
    uint64_t at = (t * info->n_layers + l) * K, row = (t * info->n_layers + l) * E;
    uint64_t shape = moe_rng_below(rng, 16);
    uint32_t n = shape == 0 ? 0 : shape == 1 ? K - 1 : K;
    uint32_t first = (uint32_t)moe_rng_below(rng, E);
    for (uint32_t k = 0; k < K; k++) {
        x->expert[at + k] = k < n ? (moe_expert)((first + k) % E) : MOE_NO_EXPERT;
        if (x->weight)
            x->weight[at + k] = k < n ? (float)moe_rng_unit(rng) : NAN;
        if (x->log_residency) {
            x->log_residency[at + k] = (uint8_t)moe_rng_below(rng, 3);
            x->log_bytes[at + k] = moe_rng_next(rng) >> 1;
        }
    }
    for (uint32_t e = 0; e < E && (x->score || x->lookahead); e++) {
        if (x->score)
            x->score[row + e] = shape == 0 ? NAN : (float)moe_rng_unit(rng);
        if (x->lookahead)
            x->lookahead[row + e] = l + 1 == info->n_layers ? NAN : (float)moe_rng_unit(rng);
    }
}

/* Makes tokens [from, from + n) of x one sequence: the first third prefill, the rest decode. */
static inline void fill_sequence(struct moe_tokens *x, const struct moe_trace_info *info,
                                 uint64_t from, uint64_t n, uint32_t index, struct moe_rng *rng)
{
    uint64_t prefill = n / 3;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t t = from + i;
        x->sequence[t] = index;
        x->step[t] = (uint32_t)(i < prefill ? 0 : i - prefill + 1);
        x->phase[t] = i < prefill ? MOE_PREFILL : MOE_DECODE;
        x->position[t] = (int32_t)i;
        x->token_id[t] = (int32_t)moe_rng_below(rng, 32000);
        if (x->request)
            x->request[t] = (uint32_t)(i < prefill ? i : i % 3);
        for (uint32_t l = 0; l < info->n_layers; l++)
            fill_route(x, info, t, l, rng);
    }
}

static inline void fill_label(struct moe_sequence *s, uint64_t n, uint64_t index)
{
    char text[64];
    s->n_tokens = n;
    s->text_hash = moe_mix64(index);
    snprintf(text, sizeof text, "data set %u \xc3\xa4", (unsigned)(index % 7));
    s->label = strdup(text);
    snprintf(text, sizeof text, "%.*s", (int)(index % 5), "kind");
    s->category = strdup(text);
}

/* A trace of n sequences with lengths 0..max_length. */
static inline struct moe_trace make_trace(uint32_t L, uint32_t E, uint32_t K, uint64_t n,
                                          uint64_t max_length, unsigned parts, uint64_t seed)
{
    struct moe_trace x = {.info = {.model = "toy",
                                   .n_layers = L,
                                   .n_experts = E,
                                   .top_k = K,
                                   .synthetic = true,
                                   .rows_in_order = true,
                                   .source = "test",
                                   .licence = "MIT",
                                   .tool = "test 1",
                                   .created = "2024-02-29T12:00:00Z",
                                   .note = "synthetic \xe2\x82\xac",
                                   .dialect = "eol=crlf"},
                          .n_sequences = n};
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    uint64_t total = 0, at = 0;
    x.sequences = calloc(n ? n : 1, sizeof *x.sequences);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t length = i == 0 ? max_length : moe_rng_below(&rng, max_length + 1);
        fill_label(&x.sequences[i], length, i);
        total += length;
    }
    x.info.header = strdup("# first line\r\n# second\r\n");
    x.info.expert_bytes = calloc(L, sizeof *x.info.expert_bytes);
    for (uint32_t l = 0; l < L; l++)
        x.info.expert_bytes[l] = 1000 + l;
    struct moe_err err = {0};
    if (moe_tokens_init(&x.tokens, &x.info, total, parts, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    for (uint64_t i = 0; i < n; at += x.sequences[i].n_tokens, i++)
        fill_sequence(&x.tokens, &x.info, at, x.sequences[i].n_tokens, (uint32_t)i, &rng);
    return x;
}

/* True when rows [at, at + n) of a equal rows [from, from + n) of b in every part that a has. */
static inline bool same_rows(const struct moe_tokens *a, uint64_t at, const struct moe_tokens *b,
                             uint64_t from, uint64_t n, const struct moe_trace_info *info)
{
    uint64_t r = (uint64_t)info->n_layers * info->top_k;
    uint64_t s = (uint64_t)info->n_layers * info->n_experts;
#define SAME(member, row)                                                                          \
    (!a->member ||                                                                                 \
     memcmp(a->member + at * (row), b->member + from * (row), n * (row) * sizeof *a->member) == 0)
    return SAME(sequence, 1) && SAME(step, 1) && SAME(position, 1) && SAME(token_id, 1) &&
           SAME(phase, 1) && SAME(request, 1) && SAME(expert, r) && SAME(weight, r) &&
           SAME(score, s) && SAME(lookahead, s) && SAME(log_residency, r) && SAME(log_bytes, r);
#undef SAME
}

/* Reads the whole file both in blocks and at once; both must give the same trace. */
static inline enum moe_status read_all(const char *path, struct moe_err *err)
{
    struct moe_reader *r;
    struct moe_trace x;
    struct moe_err whole = {0};
    const struct moe_tokens *b = NULL;
    memset(err, 0, sizeof *err);
    enum moe_status status = moe_reader_open(&r, path, err);
    if (status)
        return status;
    do
        status = moe_reader_next(r, ALL_PARTS, &b, err);
    while (!status && b);
    for (uint64_t i = 0; !status && i < moe_reader_n_sequences(r); i++) {
        struct moe_sequence s;
        if (!(status = moe_reader_sequence(r, i, &s, err))) {
            free(s.label);
            free(s.category);
        }
    }
    moe_reader_close(r);
    if (!moe_trace_load(path, ALL_PARTS, &x, &whole))
        moe_trace_release(&x);
    ck_assert_msg(whole.status == err->status, "streamed '%s', loaded '%s'", err->text, whole.text);
    return status;
}

#endif
