/* Pay-back: a missed expert is fetched if its expected uses save at least the time of its copy.
 *
 * The future is expected to mirror the past: an expert that was used c times, where a use counts
 * half as much after `half_life` forward passes, is expected to be used c times more, discounted
 * in the same way. The use at hand counts in neither. Each use saves the CPU's time for the expert
 * less the GPU's; the copy costs its time on the link. Where the strategy copies every miss anyway
 * (dispatch.miss=wait), keeping the copy costs nothing, and all are kept.
 *
 * The source's rule also caps the time of all copies as a share of token time; that needs a clock
 * and is left out (the rule quota is a cap without one). Neither counts what the evicted expert
 * would have saved, which only the policy knows. */
#include "policies/admission_rules.h"

#include "policies/cost.h"

#include <math.h>

struct params {
    double half_life;
};

struct score {
    double uses;   /* as of `pass` */
    uint64_t pass; /* of the latest use */
};

struct state {
    double half_life;
    double uses_to_pay; /* uses that save the time of one copy */
    uint64_t pass;
    uint32_t n_experts;
    struct score score[]; /* [L * E] */
};

static const struct moe_param table[] = {
    {.name = "half_life",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, half_life),
     .default_text = "32",
     .min = 0.01,
     .max = 1e9,
     .unit = "forward passes",
     .help = "time after which a use counts half"},
    {0},
};

static size_t state_size(const struct moe_admission_env *env)
{
    return sizeof(struct state) + (size_t)env->n_layers * env->n_experts * sizeof(struct score);
}

/* Infinite where a use saves nothing. */
static double uses_to_pay(const struct moe_admission_env *env)
{
    const struct moe_costs *costs = env->costs;
    double saved = (double)costs->cpu_expert_ns - (double)costs->gpu_expert_ns;
    if (env->miss_waits)
        return 0;
    return saved > 0 ? (double)costs->copy_ns[env->pageable] / saved : INFINITY;
}

static void init(void *state, const struct moe_admission_env *env)
{
    struct state *s = state;
    const struct params *params = env->params;
    s->half_life = params->half_life;
    s->uses_to_pay = uses_to_pay(env);
    s->n_experts = env->n_experts;
}

static void on_step(void *state)
{
    struct state *s = state;
    s->pass++;
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *s = state;
    for (uint32_t i = 0; i < route->n; i++) {
        struct score *score = &s->score[route->layer * s->n_experts + route->expert[i]];
        double passes = (double)(s->pass - score->pass);
        score->uses = score->uses * exp2(-passes / s->half_life) + 1;
        score->pass = s->pass;
    }
}

static bool admit(void *state, const struct moe_admit_req *req)
{
    const struct state *s = state;
    const struct moe_route *route = req->route;
    double uses = s->score[route->layer * s->n_experts + route->expert[req->i]].uses - 1;
    return uses >= s->uses_to_pay;
}

const struct moe_admission_ops moe_admission_pay_back = {
    .name = "pay-back",
    .summary = "a missed expert is fetched if its expected uses save the time of its copy",
    .source = "neurall/llama.cpp README (pay-back filter)",
    .notes =
        "Expected uses are a decaying count, an estimate: nothing is known of the future. A past "
        "use counts 2^(-passes since / `half_life`), the one at hand not at all. An expert is "
        "fetched if its count is at least the time of a copy / (CPU's - GPU's time for an expert "
        "of one token). All are fetched where `dispatch.miss` is wait, as they are copied anyway.",
    .params = table,
    .params_size = sizeof(struct params),
    .flags = MOE_ADMISSION_NEEDS_COSTS,
    .state_size = state_size,
    .init = init,
    .on_step = on_step,
    .on_route = on_route,
    .admit = admit,
};
