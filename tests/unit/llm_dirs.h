/* Opens model directories (tests/golden/logits, embedded models) and sessions on them. */
#ifndef MOELAB_TESTS_LLM_DIRS_H
#define MOELAB_TESTS_LLM_DIRS_H

#include "exec/session.h"
#include "tests/unit/run_suite.h"

#include <stdlib.h>

#define GOLDEN "tests/golden/logits/"

static inline struct moe_llm *open_model(const char *dir)
{
    struct moe_llm *llm = NULL;
    struct moe_err err = {0};
    enum moe_status s = moe_llm_open(&llm, dir, &err);
    ck_assert_msg(s == MOE_OK, "%s: %s", dir, err.text);
    return llm;
}

static inline struct moe_session *open_session(const struct moe_llm *llm,
                                               const struct moe_session_options *options)
{
    struct moe_session *session = NULL;
    struct moe_err err = {0};
    enum moe_status s = moe_session_new(&session, llm, options, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return session;
}

/* calloc that fails the test if there is no memory. */
static inline void *must_alloc(size_t items, size_t bytes)
{
    void *p = calloc(items ? items : 1, bytes);
    ck_assert_ptr_nonnull(p);
    return p;
}

/* The routes of n tokens. */
struct routes {
    struct moe_route_sink sink;
    size_t n_choices, n_scores; /* in all tokens together */
};

static inline struct routes new_routes(const struct moe_llm_config *c, size_t n)
{
    struct routes r = {.n_choices = n * c->n_layers * c->top_k,
                       .n_scores = n * c->n_layers * c->n_experts};
    r.sink.expert = must_alloc(r.n_choices, sizeof *r.sink.expert);
    r.sink.weight = must_alloc(r.n_choices, sizeof *r.sink.weight);
    r.sink.score = must_alloc(r.n_scores, sizeof *r.sink.score);
    r.sink.lookahead = must_alloc(r.n_scores, sizeof *r.sink.lookahead);
    return r;
}

static inline void free_routes(struct routes *r)
{
    free(r->sink.expert);
    free(r->sink.weight);
    free(r->sink.score);
    free(r->sink.lookahead);
}

/* The sink for the tokens from t on. */
static inline struct moe_route_sink sink_at(const struct moe_llm_config *c, const struct routes *r,
                                            size_t t)
{
    size_t lk = t * c->n_layers * c->top_k, le = t * c->n_layers * c->n_experts;
    return (struct moe_route_sink){r->sink.expert + lk, r->sink.weight + lk, r->sink.score + le,
                                   r->sink.lookahead + le};
}

#endif
