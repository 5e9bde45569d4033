/* HybriMoE's minus recent score: S of every expert is a moving mean of its router probability,
 * where only the p largest of a token count and the others count 0. The smallest S goes; among
 * equals the one that came in first. S outlives a stay in the cache. Steps of several tokens have
 * no scores in the event contract and leave S as it is. */
#include "policies/registry.h"

#include <math.h>

enum scores { LOGITS, PROBABILITIES };

#define UNKNOWN ((moe_slot)-2)

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
    uint32_t first_layer, end_layer; /* those of residents, ever */
    moe_slot *slot_of;               /* [n_keys] */
    moe_slot *lowest;   /* [n_layers] of the layer's residents, pinned or not; or UNKNOWN */
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
           (size_t)env->n_experts * (1 + (size_t)env->n_layers) * sizeof(float) +
           ((size_t)env->n_experts + 1) * env->n_layers * sizeof(moe_slot);
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
    size_t n_keys = (size_t)env->n_layers * env->n_experts;
    st->slot_of = (moe_slot *)(st->mean + n_keys);
    st->lowest = st->slot_of + n_keys;
    st->first_layer = env->n_layers;
    for (size_t k = 0; k < n_keys; k++)
        st->slot_of[k] = MOE_NO_SLOT;
    for (uint32_t l = 0; l < env->n_layers; l++)
        st->lowest[l] = UNKNOWN;
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
    st->lowest[route->layer] = UNKNOWN;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t layer = key / st->n_experts;
    st->slot[slot] = (struct slot){++st->now, key};
    st->slot_of[key] = slot;
    st->lowest[layer] = UNKNOWN;
    st->first_layer = layer < st->first_layer ? layer : st->first_layer;
    st->end_layer = layer >= st->end_layer ? layer + 1 : st->end_layer;
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    st->slot_of[key] = MOE_NO_SLOT;
    st->lowest[key / st->n_experts] = UNKNOWN;
}

static bool goes_before(const struct state *st, moe_slot a, moe_slot b)
{
    const struct slot *x = &st->slot[a], *y = &st->slot[b];
    float mean_x = st->mean[x->key], mean_y = st->mean[y->key];
    return mean_x < mean_y || (!(mean_x > mean_y) && x->since < y->since);
}

/* Of the layer's residents; pinned: of those that are not, or NULL. */
static moe_slot find_lowest(const struct state *st, uint32_t layer, const uint8_t *pinned)
{
    const moe_slot *slot_of = st->slot_of + (size_t)layer * st->n_experts;
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t e = 0; e < st->n_experts; e++) {
        moe_slot s = slot_of[e];
        if (s != MOE_NO_SLOT && !(pinned && pinned[s]) &&
            (best == MOE_NO_SLOT || goes_before(st, s, best)))
            best = s;
    }
    return best;
}

/* Where there are fewer slots than experts of a layer. */
static moe_slot search_slots(const struct state *st, const uint8_t *pinned)
{
    moe_slot best = MOE_NO_SLOT;
    for (moe_slot s = 0; s < (moe_slot)st->n_slots; s++)
        if (st->slot_of[st->slot[s].key] == s && !pinned[s] &&
            (best == MOE_NO_SLOT || goes_before(st, s, best)))
            best = s;
    return best;
}

/* Only an event of its own changes the order in a layer. */
static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    if (st->n_slots <= st->n_experts)
        return search_slots(st, req->pinned);
    for (uint32_t l = st->first_layer; l < st->end_layer; l++) {
        if (st->lowest[l] == UNKNOWN)
            st->lowest[l] = find_lowest(st, l, NULL);
        moe_slot s = st->lowest[l];
        if (s != MOE_NO_SLOT && req->pinned[s])
            s = find_lowest(st, l, req->pinned);
        if (s != MOE_NO_SLOT && (best == MOE_NO_SLOT || goes_before(st, s, best)))
            best = s;
    }
    return best;
}

const struct moe_policy_ops moe_policy_hybrimoe_mrs = {
    .name = "hybrimoe-mrs",
    .summary = "minus recent score: smallest moving mean of the router probability goes, where "
               "only the p largest of a token count",
    .source = "HybriMoE, DAC 2025; PKU-SEC-Lab/HybriMoE 508a85b ktransformers/operators/experts.py "
              "(there p = 12)",
    .notes =
        "The paper counts the p = 2 K largest scores, the code 12: `p` sets it. Needs all E "
        "scores of a token: traces with the chosen experts' weights alone do not do. Scores "
        "are taken for logits unless `scores=probabilities`. S begins at 0; a token's scores, "
        "before its misses seek victims, turn all S of its layer into (1 - alpha) S, and those "
        "of the p largest probabilities (of equals the lower experts) gain alpha times the "
        "probability, in float32. Other layers keep theirs. Of a pool over several layers the "
        "smallest S of all goes, of equals the expert that came in first. Under the `event` "
        "contract forward passes of several tokens leave S as it is; under `access` every "
        "token counts, prompts' too, with its first expert in the layer.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES,
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
