/* The decisions of a run as text, one line an event, so that two machines can be compared byte for
 * byte:
 *
 *     STEP LAYER PHASE EXPERT:ACCESS:SLOT:PLACE:FILL ...
 *     0 3 prefill 5:miss:-:cpu:- 1:miss:-:cpu:-
 *     1 3 decode 5:hit:12:gpu:- 7:flight:13:gpu:- 2:miss:-:cpu:14
 *
 * STEP    forward passes of the run before this one
 * PHASE   prefill or decode
 * EXPERT  the event's different experts, in gate order, then in order of appearance
 * ACCESS  hit; flight: in a slot, but the copy had not landed; miss
 * SLOT    where a hit or flight lies, or -
 * PLACE   gpu: from a slot; cpu; streamed: on the GPU, after a copy made for it; early: taken from
 * the CPU, which began it with the layer before (policies/step.h) FILL    the slot reserved for a
 * miss, or -
 *
 * Where a reroute rule changed the event, the line ends with " lossy:" and the experts that the
 * router chose, in gate order: "lossy:2,5". Where experts of the layer were begun early, " early:"
 * and these follow, also those whose results were not taken: "early:3".
 *
 * Whether a copy has landed depends on time, and so may what follows from it. With `timeless` set,
 * flight is written hit and the place of both is - (a strategy may send a flight to the CPU): where
 * copies differ in nothing but when they land, machines write the same bytes. A slot with a copy
 * under way is never given up, though (but by policies that ignore pins): where a slot is needed
 * while its copy runs, on one machine and not on the other, the decisions themselves differ. */
#ifndef MOELAB_POLICIES_DECISION_LOG_H
#define MOELAB_POLICIES_DECISION_LOG_H

#include "policies/step.h"

#include <stdio.h>

struct moe_decision_log {
    FILE *stream; /* not owned: a file's, or open_memstream's. Its error flag tells failed writes */
    bool timeless;
    FILE *timeless_too; /* the timeless text as well, or NULL; not owned */
    /* Counted as events are written: all, those planned with copies under way (struct
     * moe_decision), and how many events there were before the first of these. */
    uint64_t n_events, n_copying, before_copying;
};

/* Writes one line. A moe_decision_observer, whose user is a struct moe_decision_log. */
void moe_decision_log_write(void *log, const struct moe_decision *decision);

#endif
