/* DAOP's decode: from layer `first` on a layer computes what its router made of the layer before's
 * input, with the weights of that; and where none of these experts is resident, the last of them is
 * replaced by the resident one that scores highest. What the prediction is made for, that the CPU
 * begins a layer early, and on that layer's input, is not part of a rule. */
#include "policies/reroute.h"

struct params {
    uint64_t first;
};

static const struct moe_param table[] = {
    {.name = "first",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, first),
     .default_text = "5",
     .min = 1,
     .max = 65535,
     .unit = "layers",
     .help = "so many layers keep the router's choice; the others take the prediction"},
    {0},
};

static bool predicted(void *state, uint32_t layer)
{
    return layer >= ((const struct params *)state)->first;
}

static bool replaces(void *state, const struct moe_reroute_req *req, uint32_t i, moe_expert by)
{
    (void)state;
    (void)by;
    if (!req->predicted || req->n < 2 || i + 1 < req->n)
        return false;
    for (uint32_t k = 0; k < req->n; k++)
        if (req->resident[req->expert[k]])
            return false;
    return true;
}

const struct moe_reroute_ops moe_reroute_daop = {
    .name = "daop",
    .summary = "experts and weights that the layer before predicted; one of them at least resident",
    .source = "arXiv 2501.10375 and ecolab-nus/DAOP 08fef33, model/modeling_daop.py: "
              "assign_gate_on_inps",
    .notes =
        "Only the choice of experts and weights. That the CPU begins a predicted layer early, and "
        "on the input of the layer before, is not part of it: the times are an upper bound of "
        "DAOP's, and its loss is greater. Weights are the softmax over the experts, scaled "
        "to the router's sum; the released code for Phi-3.5-MoE has SparseMixer's.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES | MOE_NEEDS_LOOKAHEAD,
    .predicted = predicted,
    .replaces = replaces,
};
