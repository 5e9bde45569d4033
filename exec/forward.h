/* The forward pass on the CPU, layer by layer: what exec/session.c loops over. (The machine in real
 * time has its own order, and shares exec/dense.h with this one.) Inside exec only. */
#ifndef MOELAB_EXEC_FORWARD_H
#define MOELAB_EXEC_FORWARD_H

#include "exec/session.h"

/* Can n tokens be the next pass? Errors: as moe_session_forward. */
enum moe_status moe_forward_check(const struct moe_session *session, const int32_t *tokens,
                                  uint32_t n, struct moe_err *err);

/* Embeds n tokens at the end of the sequence. Where they make it longer than LongRoPE's switch, the
 * cache is first made again, every expert on the CPU. Errors: as moe_session_forward. */
enum moe_status moe_forward_begin(struct moe_session *session, const int32_t *tokens, uint32_t n,
                                  struct moe_err *err);

/* Embeds n tokens, 1 <= n <= chunk and within the vocabulary, at a position that leaves them room:
 * what the cache holds before it is taken as it is. For passes whose times count, not their text.
 */
void moe_forward_place(struct moe_session *session, const int32_t *tokens, uint32_t n,
                       uint32_t position);

/* Dense part of the layer: attention, norm, router. What was chosen is then in session->a: expert,
 * weight [n, K]. Absent choices cannot happen: the router always gives K. */
void moe_forward_attend(struct moe_session *session, uint32_t layer);

/* In place of what the router chose: expert, weight [n, K], where no expert is absent. */
void moe_forward_choose(struct moe_session *session, uint32_t layer, const moe_expert *expert,
                        const float *weight);

/* Computes all experts that were chosen on their tokens, on the CPU pool, and keeps the results. */
void moe_forward_experts(struct moe_session *session, uint32_t layer);

/* Asks for the weights of all experts now, which else happens before the first use of each: where
 * times count, and the model fits into memory. Ends early after an interrupt. */
void moe_forward_meet(struct moe_session *session);

/* Adds the weighted results to the residual stream, in gate order for every token. */
void moe_forward_combine(struct moe_session *session, uint32_t layer);

/* Ends the pass: final norm and head of the last token (logits [V] or NULL); the sequence is now n
 * tokens longer. */
void moe_forward_end(struct moe_session *session, float *logits);

#endif
