/* Second miss: an expert is fetched if it was missed before, at most `window` forward passes ago.
 * So experts that are used once evict nothing. Every miss is remembered, fetched or not. */
#include "policies/admission_rules.h"

struct params {
    uint64_t window;
};

struct state {
    uint64_t window, pass; /* pass: the one under way, from 1 */
    uint32_t n_experts;
    uint64_t missed[]; /* [L * E] pass of the latest miss, 0: none */
};

static const struct moe_param table[] = {
    {.name = "window",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, window),
     .default_text = "16",
     .min = 1,
     .max = 1e9,
     .unit = "forward passes",
     .help = "how long a miss is remembered"},
    {0},
};

static size_t state_size(const struct moe_admission_env *env)
{
    return sizeof(struct state) + (size_t)env->n_layers * env->n_experts * sizeof(uint64_t);
}

static void init(void *state, const struct moe_admission_env *env)
{
    struct state *s = state;
    const struct params *params = env->params;
    s->window = params->window;
    s->n_experts = env->n_experts;
    s->pass = 1;
}

static void on_step(void *state)
{
    struct state *s = state;
    s->pass++;
}

static bool admit(void *state, const struct moe_admit_req *req)
{
    struct state *s = state;
    uint64_t *missed = &s->missed[req->route->layer * s->n_experts + req->route->expert[req->i]];
    bool again = *missed && s->pass - *missed <= s->window;
    *missed = s->pass;
    return again;
}

const struct moe_admission_ops moe_admission_second_miss = {
    .name = "second-miss",
    .summary = "a missed expert is fetched if it was missed in the last `window` passes too",
    .source =
        "cache on second hit: Maggs, Sitaraman, Algorithmic nuggets in content delivery, 2015",
    .notes = "Missed twice within the window, with or without hits in between; the window is "
             "counted in forward passes.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_step = on_step,
    .admit = admit,
};
