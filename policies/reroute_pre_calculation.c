/* Pre-calculation alone: every layer keeps its router's choice, but the CPU begins early the
 * experts that the router chooses for the input of the layer before. The result of one of them,
 * computed on that older input, is taken if the real route has the expert and the CPU has to
 * compute it; the others were computed in vain, and experts that were not predicted are computed as
 * usual. */
#include "policies/reroute.h"

struct params {
    uint64_t first;
};

static const struct moe_param table[] = {
    {.name = "first",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, first),
     .default_text = "1",
     .min = 1,
     .max = 65535,
     .unit = "layers",
     .help = "no early start in the first N layers"},
    {0},
};

static bool early(const void *params, uint32_t layer)
{
    return layer >= ((const struct params *)params)->first;
}

const struct moe_reroute_ops moe_reroute_pre_calculation = {
    .name = "pre-calculation",
    .summary = "keeps the router's choice; the CPU starts early on the experts that the previous "
               "layer predicted, with that layer's input",
    .source = "arXiv 2501.10375 (DAOP), predictive pre-calculation, without its choice of experts",
    .notes = "One reading of what DAOP calls pre-calculation; its released code computes what was "
             "predicted, right or wrong (`daop` with `pre_calculation`). Here the weights are "
             "those of the real route, and the CPU time of a wrong guess is lost.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES | MOE_NEEDS_LOOKAHEAD,
    .early = early,
};
