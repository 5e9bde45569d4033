/* The forward pass on the CPU in pieces of one layer each, which exec/session.c calls in a loop.
 * (The real-time machine has its own order of operations and shares only exec/dense.h with this
 * one.) Inside exec only. */
#ifndef MOELAB_EXEC_FORWARD_H
#define MOELAB_EXEC_FORWARD_H

#include "exec/session.h"

/* Can n tokens be the next pass? Errors: as moe_session_forward. */
enum moe_status moe_forward_check(const struct moe_session *session, const int32_t *tokens,
                                  uint32_t n, struct moe_err *err);

/* Embeds n tokens at the end of the sequence. If they make it longer than LongRoPE's original
 * context, the cache is first recomputed, with every expert on the CPU. Errors: as
 * moe_session_forward. */
enum moe_status moe_forward_begin(struct moe_session *session, const int32_t *tokens, uint32_t n,
                                  struct moe_err *err);

/* Embeds n tokens at `position`, whatever the cache holds before it: for passes whose times matter,
 * not their text. The caller has checked that 1 <= n <= chunk, that the tokens are within the
 * vocabulary and that position + n fits into the context. */
void moe_forward_place(struct moe_session *session, const int32_t *tokens, uint32_t n,
                       uint32_t position);

/* Dense part of the layer: attention, norm, router. The chosen experts are then in session->a:
 * expert, weight [n, K]. No choice is absent: the router always gives K. */
void moe_forward_attend(struct moe_session *session, uint32_t layer);

/* Replaces the router's choice by expert, weight [n, K], of which none is absent. */
void moe_forward_choose(struct moe_session *session, uint32_t layer, const moe_expert *expert,
                        const float *weight);

/* Computes every chosen expert on its tokens, on the CPU pool, into session->a.ffn_y. */
void moe_forward_experts(struct moe_session *session, uint32_t layer);

/* Requests the weights of all experts from disk now instead of before the first use of each: for
 * runs whose times matter, when the model fits into memory. Ends early after an interrupt. */
void moe_forward_fetch_experts(struct moe_session *session);

/* Adds the weighted results to the residual stream, in gate order for every token. */
void moe_forward_combine(struct moe_session *session, uint32_t layer);

/* Ends the pass: final norm and head of the last token (logits [V] or NULL); the sequence is now n
 * tokens longer. */
void moe_forward_end(struct moe_session *session, float *logits);

#endif
