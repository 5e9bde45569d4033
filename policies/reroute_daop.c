/* DAOP's decode: from layer `first` on, a layer uses the experts and weights that its router gives
 * for the input of the layer before; where none of these experts is resident, the last of them is
 * replaced by the resident one that scores highest. The purpose of the prediction: with
 * pre_calculation, the CPU begins its experts of a layer during the layer before, on that layer's
 * input. As the prediction is the choice, none of this work is in vain unless an expert comes into
 * a slot between the two layers. */
#include "policies/reroute.h"

struct params {
    uint64_t first;
    int pre_calculation; /* bool */
};

static const struct moe_param table[] = {
    {.name = "first",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, first),
     .default_text = "5",
     .min = 1,
     .max = 65535,
     .unit = "layers",
     .help = "the first N layers keep the router's choice; the others take the prediction"},
    {.name = "pre_calculation",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct params, pre_calculation),
     .default_text = "false",
     .help = "as in DAOP: the CPU begins its experts of a predicted layer during the layer before, "
             "and on that layer's input; off: only choice and weights are DAOP's"},
    {0},
};

static bool predicted(void *state, uint32_t layer)
{
    return layer >= ((const struct params *)state)->first;
}

static bool early(const void *params, uint32_t layer)
{
    const struct params *p = params;
    return p->pre_calculation && layer >= p->first;
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
    .summary = "computes the experts that the previous layer predicted, with the predicted "
               "weights; at least one of them is resident",
    .source = "arXiv 2501.10375 and ecolab-nus/DAOP 08fef33, model/modeling_daop.py: "
              "assign_gate_on_inps",
    .notes =
        "The released code begins the experts of the first predicted layer before the CPU's "
        "experts of the layer before it, here after them (as in all later layers, where the CPU "
        "has none but those begun early). Results go to the GPU with the layer that they are for. "
        "Weights are the softmax over the experts, scaled to the router's sum; the released code "
        "for Phi-3.5-MoE has SparseMixer's.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES | MOE_NEEDS_LOOKAHEAD,
    .predicted = predicted,
    .early = early,
    .replaces = replaces,
};
