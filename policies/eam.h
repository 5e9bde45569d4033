/* Expert activation matrices (EAM; arXiv 2401.14361v3 sections 4.3 to 4.5). A matrix [L, E] counts
 * the experts that a request uses, prompt and answer apart; matrices of past requests are kept in a
 * collection (EAMC). The past matrix most similar (by cosine) to the forward pass under way
 * predicts how probable every expert is in its layer; equally similar ones are added up. In a full
 * collection a new matrix replaces the member most similar to it. The cosines need the inner
 * product of every member with the pass, which is updated at each use of an expert by that expert's
 * row of `count`. */
#ifndef MOELAB_POLICIES_EAM_H
#define MOELAB_POLICIES_EAM_H

#include "policies/policy.h"

/* The matrices of one phase. */
struct moe_eam_collection {
    uint32_t n;     /* members */
    bool used;      /* the request under way has had an event of this phase */
    float *count;   /* [n_keys, capacity] uses of a key in each member */
    float *row;     /* [L, capacity] uses of a layer in each member */
    float *square;  /* [capacity] sum of the squares of a member's counts */
    float *mine;    /* [n_keys] the matrix of the request under way */
    float *product; /* [capacity] inner product of a member with the forward pass under way */
};

struct moe_eam {
    struct moe_eam_collection of[2]; /* by enum moe_phase */
    uint32_t n_layers, n_experts, n_keys, capacity;
    enum moe_phase phase; /* of the latest event */
    bool matched;         /* `match` has been found since the latest event */
    uint32_t n_match;
    uint32_t *match;  /* [n_match], room for capacity: the most similar members */
    uint64_t version; /* changes whenever a predicted share may have changed */
};

/* Bytes of the arrays, which need 4-byte alignment and must be zero before moe_eam_init. */
size_t moe_eam_size(uint32_t n_layers, uint32_t n_experts, uint64_t capacity);
void moe_eam_init(struct moe_eam *eam, uint32_t n_layers, uint32_t n_experts, uint64_t capacity,
                  void *arrays);

/* A sequence begins: the one before has ended, and its matrices join the collections. */
void moe_eam_sequence(struct moe_eam *eam);
void moe_eam_step(struct moe_eam *eam); /* a forward pass begins */
void moe_eam_route(struct moe_eam *eam, const struct moe_route *route);

void moe_eam_match_anew(struct moe_eam *eam);

/* Finds the most similar members, unless that was done since the latest event. */
static inline void moe_eam_match(struct moe_eam *eam)
{
    if (!eam->matched)
        moe_eam_match_anew(eam);
}

/* The predicted share of the layer's uses that fall to its expert `key`, in 0..1; 0 also where
 * nothing is known. */
double moe_eam_share(struct moe_eam *eam, uint32_t layer, moe_key key);
/* The same for all experts of a layer, share [E]. */
void moe_eam_shares(struct moe_eam *eam, uint32_t layer, double *share);

#endif
