/* Matrices of expert uses (arXiv 2401.14361v3 sections 4.3 to 4.5). The experts that a request uses
 * are counted in a matrix [L, E] (EAM), prompt and answer apart; matrices of past requests are kept
 * (EAMC). The past matrix that looks most like the forward pass under way (cosine) predicts how
 * probable every expert is in its layer; equally similar ones are added up. A full collection
 * replaces its member that is most similar to the new one. Cosines need a product of every member
 * with the pass: it grows by one row of `count` with each use. */
#ifndef MOELAB_POLICIES_EAM_H
#define MOELAB_POLICIES_EAM_H

#include "policies/policy.h"

/* The matrices of one phase. */
struct moe_eam_collection {
    uint32_t n;     /* members */
    bool used;      /* by the request under way */
    float *count;   /* [n_keys, capacity] */
    float *row;     /* [L, capacity] sums of the rows */
    float *square;  /* [capacity] sum of the squares of all */
    float *mine;    /* [n_keys] of the request under way */
    float *product; /* [capacity] with the forward pass under way */
};

struct moe_eam {
    struct moe_eam_collection of[2]; /* by enum moe_phase */
    uint32_t n_layers, n_experts, n_keys, capacity;
    enum moe_phase phase; /* of the latest event */
    bool matched;         /* match is of the latest event */
    uint32_t n_match;
    uint32_t *match;  /* [capacity] the most similar members */
    uint64_t version; /* of what is predicted: another whenever a share may have changed */
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

/* Finds the most similar members, where that was not done since the latest event. */
static inline void moe_eam_match(struct moe_eam *eam)
{
    if (!eam->matched)
        moe_eam_match_anew(eam);
}

/* How probable an expert of the layer is in it, in 0..1; 0 also where nothing is known. */
double moe_eam_share(struct moe_eam *eam, uint32_t layer, moe_key key);
/* Of all experts of a layer, share [E]. */
void moe_eam_shares(struct moe_eam *eam, uint32_t layer, double *share);

#endif
