/* MoE-Infinity, the paper's rule: after every layer's routing, all experts of later layers that the
 * most similar past request used, by falling (probability + eps) * (1 - (l' - l) / L), in place of
 * what was queued before. Probabilities as eam.h predicts them. */
#include "policies/eam.h"
#include "policies/prefetcher.h"

struct params {
    uint64_t capacity;
    uint64_t horizon;
    double eps;
};

struct wish {
    double priority;
    moe_key key;
};

struct state {
    struct moe_eam eam; /* its arrays lie at the end */
    struct params params;
};

static const struct moe_param table[] = {
    {.name = "capacity",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, capacity),
     .default_text = "120",
     .min = 1,
     .max = 4096,
     .unit = "requests",
     .help = "matrices kept of each phase"},
    {.name = "horizon",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, horizon),
     .default_text = "0",
     .max = 65535,
     .unit = "layers",
     .help = "how far ahead it fetches; 0: to the last layer"},
    {.name = "eps",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, eps),
     .default_text = "1e-6",
     .max = 1,
     .help = "added to a probability"},
    {0},
};

static size_t state_size(const struct moe_prefetch_env *env)
{
    const struct params *params = env->params;
    return sizeof(struct state) + moe_eam_size(env->n_layers, env->n_experts, params->capacity);
}

static void init(void *state, const struct moe_prefetch_env *env)
{
    struct state *st = state;
    st->params = *(const struct params *)env->params;
    moe_eam_init(&st->eam, env->n_layers, env->n_experts, st->params.capacity, st + 1);
}

static void on_sequence(void *state)
{
    moe_eam_sequence(&((struct state *)state)->eam);
}

static void on_step(void *state, const struct moe_step *step)
{
    (void)step;
    moe_eam_step(&((struct state *)state)->eam);
}

/* Keeps the `max` most wanted in out, by falling priority, the lower key first where equal. */
static uint32_t insert(struct wish *wishes, uint32_t n, uint32_t max, struct wish wish)
{
    uint32_t at = n < max ? n : max;
    n = n < max ? n + 1 : n;
    for (; at > 0 && wishes[at - 1].priority < wish.priority; at--)
        if (at < max)
            wishes[at] = wishes[at - 1];
    if (at < max)
        wishes[at] = wish;
    return n;
}

static uint32_t predict(void *state, const struct moe_route *route, moe_key *out, uint32_t max)
{
    struct state *st = state;
    struct moe_eam *eam = &st->eam;
    struct wish wishes[128];
    const uint32_t most = max < 128 ? max : 128;
    uint32_t n = 0, end = eam->n_layers;
    moe_eam_route(eam, route);
    if (st->params.horizon && st->params.horizon < end - 1 - route->layer)
        end = route->layer + 1 + (uint32_t)st->params.horizon;
    for (uint32_t l = route->layer + 1; l < end; l++) {
        double near = 1 - (double)(l - route->layer) / eam->n_layers;
        /* Farther layers cannot do better: a share is 1 at most. */
        if (n > 0 && n == most && wishes[n - 1].priority >= (1 + st->params.eps) * near)
            break;
        for (uint32_t e = 0; e < eam->n_experts; e++) {
            moe_key key = l * eam->n_experts + e;
            double share = moe_eam_share(eam, key);
            if (share > 0)
                n = insert(wishes, n, most, (struct wish){(share + st->params.eps) * near, key});
        }
    }
    for (uint32_t i = 0; i < n; i++)
        out[i] = wishes[i].key;
    return n;
}

const struct moe_prefetcher_ops moe_prefetcher_moe_infinity = {
    .name = "moe-infinity",
    .summary =
        "the paper's: what the most similar past request used in later layers, nearer layers "
        "first",
    .source = "arXiv 2401.14361v3 sections 4.3 to 4.5 (PredictEAM, proximity factor)",
    .notes = "The paper's prefetcher; the released code has it commented out for Mixtral.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SEQUENCE,
    .replaces = true,
    .state_size = state_size,
    .init = init,
    .on_sequence = on_sequence,
    .on_step = on_step,
    .predict = predict,
};
