/* HybriMoE's minus recent score: S of every expert is a moving mean of its router probability,
 * where only the p largest of a token count and the others count 0. The smallest S goes; among
 * equals the one that came in first. S outlives a stay in the cache. Steps of several tokens have
 * no scores in the event contract and leave S as it is, as does a row that was not recorded. */
#include "policies/registry.h"
#include "policies/score_loops.h"

enum scores { LOGITS, PROBABILITIES };

#define UNKNOWN UINT32_MAX

#ifdef __x86_64__
#define AVX2     __attribute__((target("avx2")))
#define HAS_AVX2 __builtin_cpu_supports("avx2")
#else
#define AVX2
#define HAS_AVX2 false
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

/* Rows of a layer and the layers are whole blocks. All begins as 0. */
struct state {
    uint64_t now;
    float alpha;
    uint32_t n_experts, row, p, scores, n_unknown;
    bool avx2;                       /* the processor has it */
    uint32_t first_layer, end_layer; /* those of residents, ever */
    float *threshold;                /* [n_layers] of the last token, as a key + OCTAVE ln */
    float *mean;                     /* [n_layers][row] S */
    uint32_t *turn;       /* [n_layers][row] of residents: the highest goes; of others 0 */
    moe_slot *slot_of;    /* [n_layers][row] of residents */
    uint32_t *first;      /* [n_layers] the highest turn of the layer, or UNKNOWN */
    moe_slot *first_slot; /* [n_layers] whose it is, pinned or not */
    uint32_t *unknown;    /* [n_layers] layers whose first one is; n_unknown of them */
    float *weight;        /* [row] scratch */
    int32_t *key;         /* [row] scratch */
    moe_slot *hidden;     /* [n_slots] scratch */
    struct slot slot[];   /* [n_slots] */
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
     .help = "number of scores of a token that count (0: twice its experts, as in the paper)"},
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
    size_t row = moe_blocks_round(env->n_experts), n_layers = moe_blocks_round(env->n_layers);
    return sizeof(struct state) + env->n_slots * (sizeof(struct slot) + sizeof(moe_slot)) +
           4 * (3 * n_layers * row + 4 * n_layers + 2 * row);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    uint32_t n_layers = moe_blocks_round(env->n_layers);
    st->n_experts = env->n_experts;
    st->row = moe_blocks_round(env->n_experts);
    st->p = count_top(env);
    st->alpha = (float)params->alpha;
    st->scores = (uint32_t)params->scores;
    st->avx2 = HAS_AVX2;
    st->first_layer = n_layers;
    size_t n = (size_t)n_layers * st->row;
    st->mean = (float *)(st->slot + env->n_slots);
    st->turn = (uint32_t *)(st->mean + n);
    st->slot_of = (moe_slot *)(st->turn + n);
    st->first = (uint32_t *)(st->slot_of + n);
    st->first_slot = (moe_slot *)(st->first + n_layers);
    st->unknown = (uint32_t *)(st->first_slot + n_layers);
    st->threshold = (float *)(st->unknown + n_layers);
    st->weight = st->threshold + n_layers;
    st->key = (int32_t *)(st->weight + st->row);
    st->hidden = (moe_slot *)(st->key + st->row);
}

MOE_LOOP void take_scores_inline(const struct state *st, uint32_t row, const float *score,
                                 uint32_t layer)
{
    size_t at = (size_t)layer * st->row;
    float *restrict weight = st->weight, *restrict mean = st->mean + at;
    uint32_t *restrict turn = st->turn + at;
    int32_t *restrict key = st->key;
    float rest = 1 - st->alpha, gain = st->alpha, shift = 0;
    for (uint32_t e = row - MOE_KEY_BLOCK; e < row; e++)
        weight[e] = -INFINITY;
    for (uint32_t e = 0; e < st->n_experts; e++)
        weight[e] = score[e] + 0.0f; /* no -0 */
    if (st->scores == LOGITS) {
        float most = moe_floats_highest(weight, row);
        gain /= moe_exp_all(weight, row, most);
        shift = most * (MOE_KEY_OCTAVE * 1.442695f);
    }
    moe_keys_find(weight, row, key);
    float guess = st->threshold[layer] - shift;
    int32_t least =
        moe_keys_cut(key, row, st->p, guess > 0 && guess < 0x1p31f ? (int64_t)guess : 0);
    st->threshold[layer] = (float)least + shift;
    for (uint32_t e = 0; e < row; e += MOE_KEY_BLOCK) {
        moe_ints counts = *(moe_ints *)(key + e) >= least;
        *(moe_floats *)(mean + e) *= rest;
        *(moe_floats *)(mean + e) += gain * (moe_floats)(*(moe_ints *)(weight + e) & counts);
        moe_turns_find(mean + e, turn + e);
    }
}

static void take_scores_plain(const struct state *st, const float *score, uint32_t layer)
{
    take_scores_inline(st, st->row, score, layer);
}

AVX2 static void take_scores_avx2(const struct state *st, const float *score, uint32_t layer)
{
    take_scores_inline(st, st->row / MOE_KEY_BLOCK * MOE_KEY_BLOCK, score, layer);
}

static void forget(struct state *st, uint32_t layer)
{
    if (st->first[layer] != UNKNOWN)
        st->unknown[st->n_unknown++] = layer;
    st->first[layer] = UNKNOWN;
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    if (!route->score || isnan(route->score[0]))
        return;
    (st->avx2 ? take_scores_avx2 : take_scores_plain)(st, route->score, route->layer);
    if (st->first[route->layer] > 0)
        forget(st, route->layer);
}

/* A slot comes back, or in. */
static void show(struct state *st, moe_slot slot)
{
    uint32_t layer = st->slot[slot].key / st->n_experts;
    size_t at = (size_t)layer * st->row + st->slot[slot].key % st->n_experts;
    st->turn[at] = moe_turn(((const moe_float_bits *)st->mean)[at]);
    st->slot_of[at] = slot;
    if (st->turn[at] > st->first[layer] ||
        (st->turn[at] == st->first[layer] &&
         st->slot[slot].since < st->slot[st->first_slot[layer]].since)) {
        st->first[layer] = st->turn[at];
        st->first_slot[layer] = slot;
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t layer = key / st->n_experts;
    st->slot[slot] = (struct slot){++st->now, key};
    show(st, slot);
    st->first_layer = layer < st->first_layer ? layer : st->first_layer;
    st->end_layer = layer >= st->end_layer ? layer + 1 : st->end_layer;
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t layer = key / st->n_experts;
    st->turn[(size_t)layer * st->row + key % st->n_experts] = 0;
    if (st->first_slot[layer] == slot)
        forget(st, layer);
}

/* Of a layer's residents, or of layers' first ones; *highest: its turn, where there is none 0. Of
 * equals the one that came in first. */
MOE_LOOP moe_slot find_first(const struct state *st, const uint32_t *turn, const moe_slot *slot_of,
                             uint32_t n, uint32_t *highest)
{
    uint32_t most = moe_turns_highest(turn, n), n_there = 0, at = 0;
    *highest = most;
    if (most == 0)
        return MOE_NO_SLOT;
    for (uint32_t i = 0; i < n; i++) {
        n_there += turn[i] == most;
        at |= turn[i] == most ? i : 0;
    }
    if (n_there == 1)
        return slot_of[at];
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t i = 0; i < n; i++)
        if (turn[i] == most &&
            (best == MOE_NO_SLOT || st->slot[slot_of[i]].since < st->slot[best].since))
            best = slot_of[i];
    return best;
}

MOE_LOOP void find_first_of_layer(struct state *st, uint32_t l)
{
    size_t at = (size_t)l * st->row;
    uint32_t n = st->row / MOE_KEY_BLOCK * MOE_KEY_BLOCK;
    st->first_slot[l] = find_first(st, st->turn + at, st->slot_of + at, n, &st->first[l]);
}

/* Only an event of its own and what goes change the order in a layer. */
MOE_LOOP moe_slot find_of_all_inline(struct state *st)
{
    while (st->n_unknown > 0)
        find_first_of_layer(st, st->unknown[--st->n_unknown]);
    if (st->end_layer - st->first_layer == 1)
        return st->first_slot[st->first_layer];
    uint32_t begin = st->first_layer / MOE_KEY_BLOCK * MOE_KEY_BLOCK, most;
    uint32_t n = moe_blocks_round(st->end_layer - begin);
    return find_first(st, st->first + begin, st->first_slot + begin, n, &most);
}

static moe_slot find_of_all_plain(struct state *st)
{
    return find_of_all_inline(st);
}

AVX2 static moe_slot find_of_all_avx2(struct state *st)
{
    return find_of_all_inline(st);
}

/* What is pinned is hidden while another is looked for. */
static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    uint32_t n = 0;
    moe_slot (*find)(struct state *) = st->avx2 ? find_of_all_avx2 : find_of_all_plain;
    moe_slot best = st->now > 0 ? find(st) : MOE_NO_SLOT;
    for (; best != MOE_NO_SLOT && req->pinned[best]; best = find(st)) {
        on_evict(st, best, st->slot[best].key);
        st->hidden[n++] = best;
    }
    while (n > 0)
        show(st, st->hidden[--n]);
    return best;
}

const struct moe_policy_ops moe_policy_hybrimoe_mrs = {
    .name = "hybrimoe-mrs",
    .summary = "minus recent score: the smallest moving mean of router probabilities goes, in "
               "which only the p largest of each token count",
    .source = "HybriMoE, DAC 2025; PKU-SEC-Lab/HybriMoE 508a85b ktransformers/operators/experts.py "
              "(there p = 12)",
    .notes =
        "The paper counts the p = 2 K largest scores, the code 12: `p` sets the number. Two things "
        "of the code are not followed: it assigns the p probabilities, sorted by size, to their "
        "experts sorted by number, so that most get another expert's, and it may give up an expert "
        "of the event under way. With both mended the code decides as here. All E scores of a "
        "token are needed: the weights of the chosen experts alone are not enough. Scores "
        "are taken for logits unless `scores=probabilities`. S begins at 0; a token's scores, "
        "before its misses seek victims, turn all S of its layer into (1 - alpha) S, and those "
        "of the p largest probabilities (of equals the lower experts) gain alpha times the "
        "probability, in float32 (exponentials are the program's own, summed in eight lanes; the "
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
