/* MoE-Infinity, the paper's rule: after the routing of layer l, all experts of later layers l' that
 * the most similar past request used, by falling (probability + eps) * (1 - (l' - l) / L), in place
 * of what was queued before. Probabilities are those that eam.h predicts. */
#include "policies/eam.h"
#include "policies/prefetcher.h"

#include <string.h>

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
    struct moe_eam eam; /* its arrays lie behind the others */
    struct params params;
    uint64_t *version; /* [L] 1 + the eam.version for which the layer's shares hold; 0: none */
    double *share;     /* [L, E] */
};

static const struct moe_param table[] = {
    {.name = "capacity",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, capacity),
     .default_text = "120",
     .min = 1,
     .max = 4096,
     .unit = "requests",
     .help = "matrices kept for each phase"},
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
    size_t keys = (size_t)env->n_layers * env->n_experts;
    return sizeof(struct state) + env->n_layers * sizeof(uint64_t) + keys * sizeof(double) +
           moe_eam_size(env->n_layers, env->n_experts, params->capacity);
}

static void init(void *state, const struct moe_prefetch_env *env)
{
    struct state *st = state;
    st->params = *(const struct params *)env->params;
    st->version = (uint64_t *)(st + 1);
    st->share = (double *)(st->version + env->n_layers);
    moe_eam_init(&st->eam, env->n_layers, env->n_experts, st->params.capacity,
                 st->share + (size_t)env->n_layers * env->n_experts);
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

/* Inserts a wish into a list by falling priority, equal ones in order of insertion; of more than
 * `max` the last is dropped. Returns the new length. */
static uint32_t insert(struct wish *wishes, uint32_t n, uint32_t max, struct wish wish)
{
    uint32_t at = 0, end = n;
    if (n == max && (n == 0 || wishes[n - 1].priority >= wish.priority))
        return n;
    while (at < end) {
        uint32_t middle = (at + end) / 2;
        if (wishes[middle].priority < wish.priority)
            end = middle;
        else
            at = middle + 1;
    }
    n = n < max ? n + 1 : n;
    memmove(wishes + at + 1, wishes + at, (n - 1 - at) * sizeof *wishes);
    wishes[at] = wish;
    return n;
}

/* The layer's shares, computed anew if the prediction has changed. */
static const double *shares_of(struct state *st, uint32_t layer)
{
    double *share = st->share + (size_t)layer * st->eam.n_experts;
    if (st->version[layer] != st->eam.version + 1)
        moe_eam_shares(&st->eam, layer, share);
    st->version[layer] = st->eam.version + 1;
    return share;
}

static uint32_t predict(void *state, const struct moe_route *route, moe_key *out, uint32_t max)
{
    struct state *st = state;
    struct moe_eam *eam = &st->eam;
    struct wish wishes[128];
    const uint32_t most = max < 128 ? max : 128;
    uint32_t n = 0, end = eam->n_layers;
    moe_eam_route(eam, route);
    moe_eam_match(eam);
    if (st->params.horizon && st->params.horizon < end - 1 - route->layer)
        end = route->layer + 1 + (uint32_t)st->params.horizon;
    for (uint32_t l = route->layer + 1; l < end; l++) {
        double near = 1 - (double)(l - route->layer) / eam->n_layers;
        /* No expert of this layer or a later one can have a higher priority: shares are at most
         * 1. */
        if (n > 0 && n == most && wishes[n - 1].priority >= (1 + st->params.eps) * near)
            break;
        const double *share = shares_of(st, l);
        for (uint32_t e = 0; e < eam->n_experts; e++) {
            struct wish wish = {(share[e] + st->params.eps) * near, l * eam->n_experts + e};
            if (share[e] > 0)
                n = insert(wishes, n, most, wish);
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
    .notes =
        "The paper's prefetcher: the released functions, put together as the paper says, want the "
        "same. As released (cca059c; called for Grok and Arctic, commented out for Mixtral) they "
        "are another rule: the sequence so far, prompt and answer together, is matched by later "
        "layers only, by the mean of their cosines; counts take the place of shares, the factor is "
        "1 - (l' - l) / (L + 1), and all experts are wanted, from the layer under way on. What "
        "would fill the collection is never called, and fails where it is: nothing is known, and "
        "experts are wanted by layer and number.",
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
