/* HybriMoE's minus recent score: S of every expert is a moving mean of its router probability,
 * where only the p largest of a token count and the others count 0. The smallest S goes; among
 * equals the one that came in first. S outlives a stay in the cache. Steps of several tokens have
 * no scores in the contract and leave S as it is. */
#include "policies/registry.h"

#include <math.h>

enum scores { LOGITS, PROBABILITIES };

struct params {
    int scores;
    uint64_t p;
    double alpha;
};

struct slot {
    uint64_t since; /* order of coming in */
    moe_key key;
};

struct top {
    float score;
    uint32_t expert;
};

struct state {
    uint64_t now;
    float alpha;
    uint32_t n_slots, n_experts, p, scores;
    struct top *top;    /* [p] scratch, rising; lies behind slot */
    float *weight;      /* [E] scratch */
    float *mean;        /* [n_keys] S */
    struct slot slot[]; /* [n_slots] */
};

static const struct moe_param table[] = {
    {.name = "scores",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, scores),
     .default_text = "logits",
     .choices = "logits|probabilities",
     .help = "what the trace's scores are; logits go through a softmax first"},
    {.name = "p",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, p),
     .default_text = "0",
     .min = 0,
     .max = 65535,
     .unit = "experts",
     .help = "scores of a token that count (0: twice its experts, as in the paper)"},
    {.name = "alpha",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, alpha),
     .default_text = "0.5",
     .min = 0,
     .max = 1,
     .help = "weight of the latest token in the moving mean"},
    {0},
};

static uint32_t count_top(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    uint64_t p = params->p ? params->p : 2 * (uint64_t)env->top_k;
    return p < env->n_experts ? (uint32_t)p : env->n_experts;
}

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots * sizeof(struct slot) +
           count_top(env) * sizeof(struct top) +
           (size_t)env->n_experts * (1 + (size_t)env->n_layers) * sizeof(float);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->n_experts = env->n_experts;
    st->p = count_top(env);
    st->alpha = (float)params->alpha;
    st->scores = (uint32_t)params->scores;
    st->top = (struct top *)(st->slot + env->n_slots);
    st->weight = (float *)(st->top + st->p);
    st->mean = st->weight + env->n_experts;
}

/* Into a rising list of n; among equals the newcomer stands lowest and falls out first. */
static void add_top(struct top *top, uint32_t n, struct top new)
{
    uint32_t i = n;
    for (; i > 0 && top[i - 1].score >= new.score; i--)
        top[i] = top[i - 1];
    top[i] = new;
}

static void replace_lowest(struct top *top, uint32_t n, struct top new)
{
    uint32_t i = 0;
    for (; i + 1 < n && top[i + 1].score < new.score; i++)
        top[i] = top[i + 1];
    top[i] = new;
}

/* The p largest scores into top; of equals the lower experts. */
static void find_top(const struct state *st, const float *score)
{
    for (uint32_t e = 0; e < st->n_experts; e++) {
        struct top new = {score[e], e};
        if (e < st->p)
            add_top(st->top, e, new);
        else if (new.score > st->top[0].score)
            replace_lowest(st->top, st->p, new);
    }
}

static const float *probabilities(const struct state *st, const float *score)
{
    float most = score[0], sum = 0;
    if (st->scores == PROBABILITIES)
        return score;
    for (uint32_t e = 1; e < st->n_experts; e++)
        most = score[e] > most ? score[e] : most;
    for (uint32_t e = 0; e < st->n_experts; e++)
        sum += st->weight[e] = expf(score[e] - most);
    for (uint32_t e = 0; e < st->n_experts; e++)
        st->weight[e] /= sum;
    return st->weight;
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    float *mean = st->mean + (size_t)route->layer * st->n_experts;
    if (!route->score)
        return;
    find_top(st, probabilities(st, route->score));
    for (uint32_t e = 0; e < st->n_experts; e++)
        mean[e] *= 1 - st->alpha;
    for (uint32_t i = 0; i < st->p; i++)
        mean[st->top[i].expert] += st->alpha * st->top[i].score;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->slot[slot] = (struct slot){++st->now, key};
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    float least = 0;
    for (uint32_t s = 0; s < st->n_slots; s++) {
        if (req->pinned[s])
            continue;
        float mean = st->mean[st->slot[s].key];
        bool equal = best != MOE_NO_SLOT && !(mean < least) && !(mean > least);
        if (best == MOE_NO_SLOT || mean < least ||
            (equal && st->slot[s].since < st->slot[best].since)) {
            best = (moe_slot)s;
            least = mean;
        }
    }
    return best;
}

const struct moe_policy_ops moe_policy_hybrimoe_mrs = {
    .name = "hybrimoe-mrs",
    .summary = "minus recent score: smallest moving mean of the router probability goes, where "
               "only the p largest of a token count; steps of several tokens change nothing",
    .source = "HybriMoE, DAC 2025; PKU-SEC-Lab/HybriMoE 508a85b ktransformers/operators/experts.py "
              "(there p = 12)",
    .notes = "The paper counts the p = 2 K largest scores, the code 12: `p` sets it. Needs all E "
             "scores of a token: traces with the chosen experts' weights alone do not do. Scores "
             "are taken for logits unless `scores=probabilities`.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES,
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
};
