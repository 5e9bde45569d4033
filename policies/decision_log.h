/* The decisions of a run as text, one line for each event, so that two machines can be compared
 * byte for byte:
 *
 *     STEP LAYER PHASE EXPERT:ACCESS:SLOT:PLACE:FILL ...
 *     0 3 prefill 5:miss:-:cpu:- 1:miss:-:cpu:-
 *     1 3 decode 5:hit:12:gpu:- 7:flight:13:gpu:- 2:miss:-:cpu:14
 *
 * STEP    forward passes of the run before this one
 * PHASE   prefill or decode
 * EXPERT  the event's distinct experts: of one token in gate order, else in order of appearance
 * ACCESS  hit; flight: in a slot, but the copy had not landed; miss
 * SLOT    the slot of a hit or flight, or -
 * PLACE   gpu: on the GPU, from a slot
 *         cpu: on the CPU
 *         streamed: on the GPU, after a copy made for it
 *         early: on the CPU, which began it during the layer before (policies/step.h)
 * FILL    the slot reserved for a miss, or -
 *
 * Where a reroute rule changed the event, the line ends with " lossy:" and the experts that the
 * router chose, in gate order: "lossy:2,5". Where experts of the layer were begun early, " early:"
 * and these follow, including those whose results were not taken: "early:3".
 *
 * Whether a copy has landed depends on time, and so may what follows from it. With `timeless` set,
 * flight is written as hit, and the place of both as - (a strategy may send a flight to the CPU):
 * machines on which copies differ only in when they land then write the same bytes. But where one
 * machine needs a slot while the copy into it still runs, and another does not, the decisions
 * themselves differ: except under policies that ignore pins, no slot is evicted while in flight. */
#ifndef MOELAB_POLICIES_DECISION_LOG_H
#define MOELAB_POLICIES_DECISION_LOG_H

#include "policies/step.h"

#include <stdio.h>

struct moe_decision_log {
    FILE *stream; /* not owned: of a file or open_memstream. Callers check its error flag */
    bool timeless;
    FILE *timeless_too; /* gets the timeless text in addition, or NULL; not owned */
    /* Events written; those of them with moe_decision.copying; events before the first of these. */
    uint64_t n_events, n_copying, before_copying;
};

/* Writes one line. A moe_decision_observer, whose user is a struct moe_decision_log. */
void moe_decision_log_write(void *log, const struct moe_decision *decision);

#endif
