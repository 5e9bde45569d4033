/* HybriMoE's minus recent score: S of every expert is a moving mean of its router probability,
 * where only the p largest of a token count and the others count 0. The smallest S goes; among
 * equals the one that came in first. S outlives a stay in the cache. Steps of several tokens have
 * no scores in the event contract and leave S as it is. */
#include "policies/registry.h"
#include "policies/score_loops.h"

enum scores { LOGITS, PROBABILITIES };

#define UNKNOWN ((moe_slot)-2)

#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2")))
#else
#define AVX2
#endif

struct params {
    int scores;
    uint64_t p;
    double alpha;
};

struct slot {
    uint64_t since; /* order of coming in */
    moe_key key;
};

struct state {
    uint64_t now;
    float alpha;
    uint32_t n_slots, n_experts, p, scores;
    bool avx2;                       /* the processor has it */
    uint32_t first_layer, end_layer; /* those of residents, ever */
    moe_slot *slot_of;               /* [n_keys] lies behind slot */
    moe_slot *lowest;   /* [n_layers] of the layer's residents, pinned or not; or UNKNOWN */
    float *weight;      /* [E] scratch */
    int32_t *key;       /* [E] scratch, whole blocks */
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

static bool has_avx2(void)
{
#ifdef __x86_64__
    return __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}

static size_t count_room(const struct moe_policy_env *env)
{
    return ((size_t)env->n_experts + MOE_KEY_BLOCK - 1) / MOE_KEY_BLOCK * MOE_KEY_BLOCK;
}

static size_t state_size(const struct moe_policy_env *env)
{
    size_t n_keys = (size_t)env->n_layers * env->n_experts;
    return sizeof(struct state) + env->n_slots * sizeof(struct slot) +
           (n_keys + env->n_layers) * sizeof(moe_slot) + n_keys * sizeof(float) +
           count_room(env) * (sizeof(float) + sizeof(int32_t));
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    size_t n_keys = (size_t)env->n_layers * env->n_experts;
    st->n_slots = env->n_slots;
    st->n_experts = env->n_experts;
    st->p = count_top(env);
    st->alpha = (float)params->alpha;
    st->scores = (uint32_t)params->scores;
    st->avx2 = has_avx2();
    st->slot_of = (moe_slot *)(st->slot + env->n_slots);
    st->lowest = st->slot_of + n_keys;
    st->weight = (float *)(st->lowest + env->n_layers);
    st->mean = st->weight + count_room(env);
    st->key = (int32_t *)(st->mean + n_keys);
    st->first_layer = env->n_layers;
    for (size_t k = 0; k < n_keys; k++)
        st->slot_of[k] = MOE_NO_SLOT;
    for (uint32_t l = 0; l < env->n_layers; l++)
        st->lowest[l] = UNKNOWN;
}

/* Of those at the threshold the higher experts do not count, where there are more than p. */
MOE_LOOP void leave_out(const struct state *st, int32_t threshold)
{
    uint32_t n = 0;
    for (uint32_t e = 0; e < st->n_experts; e++)
        n += st->key[e] >= threshold;
    for (uint32_t e = st->n_experts; n > st->p && e-- > 0;)
        if (st->key[e] == threshold) {
            st->key[e] = INT32_MIN;
            n--;
        }
}

MOE_LOOP void take_scores_inline(const struct state *st, const float *score, float *restrict mean)
{
    uint32_t n = st->n_experts;
    float *restrict weight = st->weight, alpha = st->alpha;
    int32_t *restrict key = st->key;
    if (st->scores == LOGITS)
        moe_softmax(score, n, weight, key);
    for (uint32_t e = 0; st->scores != LOGITS && e < n; e++)
        weight[e] = score[e] + 0.0f; /* no -0 */
    moe_keys_find(weight, n, key);
    int32_t threshold = moe_keys_threshold(key, n, st->p);
    leave_out(st, threshold);
    moe_float_bits *bits = (moe_float_bits *)weight;
    for (uint32_t e = 0; e < n; e++)
        bits[e] &= -(key[e] >= threshold);
    for (uint32_t e = 0; e < n; e++)
        mean[e] = (1 - alpha) * mean[e] + alpha * weight[e];
}

static void take_scores_plain(const struct state *st, const float *score, float *mean)
{
    take_scores_inline(st, score, mean);
}

AVX2 static void take_scores_avx2(const struct state *st, const float *score, float *mean)
{
    take_scores_inline(st, score, mean);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    float *mean = st->mean + (size_t)route->layer * st->n_experts;
    if (!route->score)
        return;
    if (st->avx2)
        take_scores_avx2(st, route->score, mean);
    else
        take_scores_plain(st, route->score, mean);
    st->lowest[route->layer] = UNKNOWN;
}

static bool goes_before(const struct state *st, moe_slot a, moe_slot b)
{
    const struct slot *x = &st->slot[a], *y = &st->slot[b];
    float mean_x = st->mean[x->key], mean_y = st->mean[y->key];
    return mean_x < mean_y || (!(mean_x > mean_y) && x->since < y->since);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t layer = key / st->n_experts;
    st->slot[slot] = (struct slot){++st->now, key};
    st->slot_of[key] = slot;
    moe_slot lowest = st->lowest[layer];
    if (lowest != UNKNOWN && (lowest == MOE_NO_SLOT || goes_before(st, slot, lowest)))
        st->lowest[layer] = slot;
    st->first_layer = layer < st->first_layer ? layer : st->first_layer;
    st->end_layer = layer >= st->end_layer ? layer + 1 : st->end_layer;
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t layer = key / st->n_experts;
    st->slot_of[key] = MOE_NO_SLOT;
    if (st->lowest[layer] == slot)
        st->lowest[layer] = UNKNOWN;
}

/* Of the layer's residents; pinned: of those that are not, or NULL. */
MOE_LOOP moe_slot find_lowest_inline(const struct state *st, uint32_t layer, const uint8_t *pinned)
{
    const moe_slot *slot_of = st->slot_of + (size_t)layer * st->n_experts;
    const float *mean = st->mean + (size_t)layer * st->n_experts;
    int32_t *key = st->key, least;
    uint32_t n = st->n_experts;
    moe_slot best = MOE_NO_SLOT;
    moe_keys_find(mean, n, key);
    for (uint32_t e = 0; e < n; e++)
        key[e] = slot_of[e] == MOE_NO_SLOT ? INT32_MAX : key[e];
    for (uint32_t e = 0; pinned && e < n; e++)
        if (slot_of[e] != MOE_NO_SLOT && pinned[slot_of[e]])
            key[e] = INT32_MAX;
    least = moe_keys_lowest(key, n);
    for (uint32_t first = 0; least < INT32_MAX && first < n; first += MOE_KEY_BLOCK) {
        int any = 0; /* what lies behind the n-th is no matter: it is not looked at below */
        for (uint32_t i = 0; i < MOE_KEY_BLOCK; i++)
            any |= key[first + i] == least;
        for (uint32_t e = first; any && e < n && e < first + MOE_KEY_BLOCK; e++)
            if (key[e] == least && (best == MOE_NO_SLOT || goes_before(st, slot_of[e], best)))
                best = slot_of[e];
    }
    return best;
}

static moe_slot find_lowest_plain(const struct state *st, uint32_t layer, const uint8_t *pinned)
{
    return find_lowest_inline(st, layer, pinned);
}

AVX2 static moe_slot find_lowest_avx2(const struct state *st, uint32_t layer, const uint8_t *pinned)
{
    return find_lowest_inline(st, layer, pinned);
}

static moe_slot find_lowest(const struct state *st, uint32_t layer, const uint8_t *pinned)
{
    return st->avx2 ? find_lowest_avx2(st, layer, pinned) : find_lowest_plain(st, layer, pinned);
}

/* Where there are several layers and fewer slots than experts of one. */
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
    if (st->n_slots <= st->n_experts && st->end_layer - st->first_layer > 1)
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
        "probability, in float32 (exponentials are the program's own, the "
        "same on every processor). Other layers keep theirs. Of a pool over several layers the "
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
