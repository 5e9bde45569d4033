/* Where the experts of an event are computed: what the strategy's `dispatch` and `prefill` say. */
#ifndef MOELAB_POLICIES_DISPATCH_H
#define MOELAB_POLICIES_DISPATCH_H

#include "policies/step.h"

/* Does the strategy place experts by the platform's costs, of prompts or in decode? */
bool moe_dispatch_needs_costs(const struct moe_strategy *strategy);

/* Fills loop->place for the event. True: the order in which its experts are to be started is that
 * of loop->jobs; false: the strategy's. */
bool moe_dispatch_event(struct moe_loop *loop, const struct moe_plan *plan,
                        const struct moe_layer_routes *routes);

#endif
