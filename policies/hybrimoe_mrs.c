/* HybriMoE's minus recent score: S of an expert is a moving mean of its router probability, in
 * which only the p largest probabilities of a token count and all others count as 0. The expert
 * with the smallest S is evicted; among equals the one inserted first. S is kept for experts
 * outside the cache, too. Events of several tokens carry no scores (event contract) and leave S
 * unchanged, as does a row whose scores were not recorded. */
#include "policies/mean_slots.h"
#include "policies/registry.h"
#include "policies/score_loops.h"
#include "traces/model.h"

enum scores { LOGITS, PROBABILITIES };

/* Rows of more than LONG_FROM experts are padded to whole units: loops over units are unrolled. */
enum { LONG_FROM = 64, LONG_UNIT = 4 * MOE_KEY_BLOCK };

enum { LINE = 64 / sizeof(float) }; /* scores of a cache line */

_Static_assert(MOE_MAX_EXPERTS < 16384 && MOE_MAX_LAYERS < 16384, "what moe_turns_first takes");

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

struct state;

/* The hot loops, compiled for rows of one block and for longer rows, with AVX2 and without. */
struct loops {
    void (*take_scores)(const struct state *st, const float *score, uint32_t layer);
    moe_slot (*find)(struct state *st);
};

struct slot {
    uint64_t since;     /* number of its insertion */
    uint32_t layer, at; /* at: index into the arrays [n_layers][row] */
};

/* A layer's row is padded to whole blocks or units, the number of layers to whole blocks.
 * Everything begins as 0. In a small pool mean_slots.h scans all slots. In a larger one every
 * resident has a turn, which is the higher the smaller its S is; `first` keeps the highest turn of
 * each layer. */
struct state {
    uint64_t now;
    float alpha;
    bool logits, small;
    uint32_t n_experts, row, p, n_unknown;
    uint32_t layer;                  /* of the latest scores */
    uint32_t first_layer, end_layer; /* range of the layers that ever had a resident */
    const struct loops *loops;
    struct moe_start *start; /* [n_layers] where the search for the p largest begins */
    float *mean;             /* [n_layers][row] S */
    uint32_t *turn;          /* [n_layers][row] of residents: the highest is evicted; others 0 */
    moe_slot *slot_of;       /* [n_layers][row] of residents */
    uint32_t *first;         /* [n_layers] the layer's highest turn, or UNKNOWN */
    moe_slot *first_slot;    /* [n_layers] the slot that has it, pinned or not */
    uint32_t *unknown;       /* [n_unknown] layers whose `first` is UNKNOWN */
    float *weight;           /* [row] scratch */
    int32_t *key;            /* [row] scratch */
    moe_slot *hidden;        /* [n_slots] scratch */
    moe_mean_slots_find *find_small;
    struct moe_mean_slots slots; /* of a small pool */
    struct slot slot[];          /* [n_slots] of a larger one */
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
     .help = "number of scores of a token that count (0: twice the top-k of the model, as in the "
             "paper)"},
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

static uint32_t row_of(const struct moe_policy_env *env)
{
    uint32_t row = moe_blocks_round(env->n_experts);
    return row > LONG_FROM ? (row + LONG_UNIT - 1) / LONG_UNIT * LONG_UNIT : row;
}

static size_t state_size(const struct moe_policy_env *env)
{
    size_t row = row_of(env), n_layers = moe_blocks_round(env->n_layers);
    return sizeof(struct state) + env->n_slots * (sizeof(struct slot) + sizeof(moe_slot)) +
           n_layers * sizeof(struct moe_start) + 4 * (3 * n_layers * row + 3 * n_layers + 2 * row);
}

/* S = rest S + gained, and in larger pools the residents' turns. */
MOE_LOOP void update_block(bool small, float *mean, const moe_floats *gained, float rest,
                           uint32_t *turn)
{
    moe_floats block = *(moe_floats *)mean * rest + *gained;
    *(moe_floats *)mean = block;
    if (small)
        return;
    moe_uints turns = *(moe_uints *)turn;
    moe_turns_find(&block, &turns);
    *(moe_uints *)turn = turns;
}

/* S of a layer whose experts fit into one block. */
MOE_LOOP void take_block(const struct state *st, const float *score, uint32_t layer)
{
    size_t at = (size_t)layer * MOE_KEY_BLOCK;
    float gain = st->alpha;
    moe_floats weight = *(const moe_floats *)score;
    moe_ints counts;
    if (st->logits) {
        moe_floats power = weight - moe_floats_highest(score, MOE_KEY_BLOCK, MOE_KEY_BLOCK);
        moe_exp_blocks(&power, 1);
        *(moe_floats *)st->weight = weight = power;
        float sum = moe_lanes_sum(&power);
        if (!(sum >= 1)) /* not numbers */
            return;
        gain /= sum;
        moe_keys_cut_block((const int32_t *)st->weight, st->p, &counts);
    } else {
        moe_keys_find(score, MOE_KEY_BLOCK, st->key);
        moe_keys_cut_block(st->key, st->p, &counts);
    }
    weight = gain * (moe_floats)((moe_ints)weight & counts);
    update_block(false, st->mean + at, &weight, 1 - st->alpha, st->turn + at);
}

MOE_LOOP void update_units(const struct state *st, bool small, size_t unit, const float *of,
                           const int32_t *key, int32_t least, float gain, uint32_t layer)
{
    size_t row = st->row / unit * unit, at = layer * row;
    float *mean = st->mean + at, rest = 1 - st->alpha;
    uint32_t *turn = st->turn + at;
    for (size_t e = 0; e < row; e += unit)
        for (size_t i = e; i < e + unit; i += MOE_KEY_BLOCK) {
            moe_ints counts = *(const moe_ints *)(key + i) >= least;
            moe_floats gained = gain * (moe_floats)(*(const moe_ints *)(of + i) & counts);
            update_block(small, mean + i, &gained, rest, turn + i);
        }
}

/* S of a longer row, `unit` experts at a time. */
MOE_LOOP void take_units(const struct state *st, size_t unit, const float *score, uint32_t layer)
{
    size_t row = st->row / unit * unit;
    float *weight = st->weight, gain = st->alpha, shift = 0;
    int32_t *key = st->logits ? (int32_t *)weight : st->key;
    if (st->logits) {
        float most = moe_floats_highest(score, row, unit);
        float sum = moe_exp_all(score, weight, row, unit, most);
        if (!(sum >= 1)) /* not numbers */
            return;
        gain /= sum;
        shift = most * (MOE_KEY_OCTAVE * 1.442695f);
    } else {
        moe_keys_find(score, row, key);
    }
    int32_t least = moe_keys_cut(key, row, unit, st->p, &st->start[layer], shift);
    const float *of = st->logits ? weight : score;
    if (st->small)
        update_units(st, true, unit, of, key, least, gain, layer);
    else
        update_units(st, false, unit, of, key, least, gain, layer);
}

/* Usually the scores of the next layer, or of the next token, follow a layer's in memory:
 * prefetched while these are processed (128 experts on Zen 4: 1.02 to 1.06 times as fast). */
MOE_LOOP void fetch_next(const float *score, uint32_t n)
{
    for (uint32_t e = 0; e < n; e += LINE)
        __builtin_prefetch((const void *)((uintptr_t)score + (n + e) * sizeof *score));
}

/* Scores that were not recorded are all NaN: S stays as it is. */
MOE_LOOP void take_scores_inline(const struct state *st, bool one_block, const float *score,
                                 uint32_t layer)
{
    if (!one_block)
        fetch_next(score, st->n_experts);
    if (!st->logits || st->n_experts < st->row) {
        if (!moe_floats_finite(score, st->n_experts))
            return;
        for (uint32_t e = 0; e < st->row; e++)
            st->weight[e] = e < st->n_experts ? score[e] + 0.0f : -INFINITY; /* no -0 */
        score = st->weight;
    }
    if (one_block)
        take_block(st, score, layer);
    else if (st->row % LONG_UNIT == 0)
        take_units(st, LONG_UNIT, score, layer);
    else
        take_units(st, MOE_KEY_BLOCK, score, layer);
}

/* The layer's highest turn has to be searched anew. */
static void forget_first(struct state *st, uint32_t layer)
{
    if (st->first[layer] != UNKNOWN)
        st->unknown[st->n_unknown++] = layer;
    st->first[layer] = UNKNOWN;
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    if (!route->score)
        return;
    st->layer = route->layer;
    st->loops->take_scores(st, route->score, route->layer);
    if (st->first[route->layer] > 0) /* never in a small pool */
        forget_first(st, route->layer);
}

/* Enters the turn of a slot that was filled or hidden. */
static void show(struct state *st, moe_slot slot)
{
    const struct slot *own = &st->slot[slot];
    uint32_t layer = own->layer, turn = moe_turn(((const moe_float_bits *)st->mean)[own->at]);
    st->turn[own->at] = turn;
    st->slot_of[own->at] = slot;
    if (turn > st->first[layer] ||
        (turn == st->first[layer] && own->since < st->slot[st->first_slot[layer]].since)) {
        st->first[layer] = turn;
        st->first_slot[layer] = slot;
    }
}

/* Usually the layer is that of the latest scores, which saves two divisions. */
static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t layer = st->layer, expert = key - layer * st->n_experts;
    if (expert >= st->n_experts) {
        layer = key / st->n_experts;
        expert = key % st->n_experts;
    }
    if (st->small) {
        st->slots.at[slot] = layer * st->row + expert;
        st->slots.since[slot] = ++st->now;
        return;
    }
    st->slot[slot] = (struct slot){++st->now, layer, layer * st->row + expert};
    st->first_layer = layer < st->first_layer ? layer : st->first_layer;
    st->end_layer = layer >= st->end_layer ? layer + 1 : st->end_layer;
    show(st, slot);
}

/* Takes the slot out of the search. */
static void hide(struct state *st, moe_slot slot)
{
    uint32_t layer = st->slot[slot].layer, at = st->slot[slot].at;
    st->turn[at] = 0;
    if (st->first_slot[layer] == slot)
        forget_first(st, layer);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    (void)key;
    if (!((struct state *)state)->small)
        hide(state, slot);
}

/* Of the slots with turn `most` the one filled first. Rarely called, and not inlined so that its
 * caller needs fewer registers. */
__attribute__((noinline)) static moe_slot find_oldest(const struct state *st, const uint32_t *turn,
                                                      const moe_slot *slot_of, size_t n,
                                                      uint32_t most)
{
    moe_slot best = MOE_NO_SLOT;
    for (size_t i = 0; i < n; i++)
        if (turn[i] == most &&
            (best == MOE_NO_SLOT || st->slot[slot_of[i]].since < st->slot[best].since))
            best = slot_of[i];
    return best;
}

/* The slot with the highest turn, of equals the one filled first; *highest is its turn, 0 if there
 * is none. turn and slot_of [n]: of a layer's experts, or the firsts of all layers. */
MOE_LOOP moe_slot find_first(const struct state *st, const uint32_t *turn, const moe_slot *slot_of,
                             size_t n, size_t unit, uint32_t *highest)
{
    struct moe_first first = moe_turns_first(turn, n / unit * unit, unit);
    *highest = first.turn;
    if (first.turn == 0)
        return MOE_NO_SLOT;
    return first.alone ? slot_of[first.at] : find_oldest(st, turn, slot_of, n, first.turn);
}

MOE_LOOP void find_first_of_layer(struct state *st, bool one_block, uint32_t l)
{
    size_t at = (size_t)l * st->row;
    const uint32_t *turn = st->turn + at;
    const moe_slot *slot_of = st->slot_of + at;
    uint32_t *first = &st->first[l];
    size_t row = one_block ? MOE_KEY_BLOCK : st->row;
    st->first_slot[l] = !one_block && st->row % LONG_UNIT == 0
                            ? find_first(st, turn, slot_of, row, LONG_UNIT, first)
                            : find_first(st, turn, slot_of, row, MOE_KEY_BLOCK, first);
}

/* The slot to evict, pinned or not. Only layers with new scores and layers that lost their first
 * slot are searched again. */
MOE_LOOP moe_slot find_of_all_inline(struct state *st, bool one_block)
{
    while (st->n_unknown > 0)
        find_first_of_layer(st, one_block, st->unknown[--st->n_unknown]);
    if (st->end_layer - st->first_layer == 1)
        return st->first_slot[st->first_layer];
    uint32_t begin = st->first_layer / MOE_KEY_BLOCK * MOE_KEY_BLOCK, most;
    uint32_t n = moe_blocks_round(st->end_layer - begin);
    return find_first(st, st->first + begin, st->first_slot + begin, n, MOE_KEY_BLOCK, &most);
}

#define LOOPS(name, target, one_block)                                                             \
    target static void take_scores_##name(const struct state *st, const float *score,              \
                                          uint32_t layer)                                          \
    {                                                                                              \
        take_scores_inline(st, one_block, score, layer);                                           \
    }                                                                                              \
    target static moe_slot find_##name(struct state *st)                                           \
    {                                                                                              \
        return find_of_all_inline(st, one_block);                                                  \
    }                                                                                              \
    static const struct loops name = {take_scores_##name, find_##name};

LOOPS(block_plain, , true)
LOOPS(rows_plain, , false)
LOOPS(block_avx2, AVX2, true)
LOOPS(rows_avx2, AVX2, false)

static const struct loops *loops_of(uint32_t row)
{
    if (HAS_AVX2)
        return row == MOE_KEY_BLOCK ? &block_avx2 : &rows_avx2;
    return row == MOE_KEY_BLOCK ? &block_plain : &rows_plain;
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    uint32_t n_layers = moe_blocks_round(env->n_layers);
    st->n_experts = env->n_experts;
    st->row = row_of(env);
    st->p = count_top(env);
    st->alpha = (float)params->alpha;
    st->logits = params->scores == LOGITS;
    st->loops = loops_of(st->row);
    st->small = env->n_slots <= MOE_MEAN_SLOTS_MAX;
    st->find_small = moe_mean_slots_best();
    st->slots.n_slots = env->n_slots;
    st->first_layer = n_layers;
    size_t n = (size_t)n_layers * st->row;
    st->start = (struct moe_start *)(st->slot + env->n_slots);
    st->mean = (float *)(st->start + n_layers);
    st->turn = (uint32_t *)(st->mean + n);
    st->slot_of = (moe_slot *)(st->turn + n);
    st->first = (uint32_t *)(st->slot_of + n);
    st->first_slot = (moe_slot *)(st->first + n_layers);
    st->unknown = (uint32_t *)(st->first_slot + n_layers);
    st->weight = (float *)(st->unknown + n_layers);
    st->key = (int32_t *)(st->weight + st->row);
    st->hidden = (moe_slot *)(st->key + st->row);
}

/* For larger pools. Pinned slots are hidden during the search. */
static inline moe_slot find_unpinned(struct state *st, const uint8_t *pinned)
{
    uint32_t n = 0;
    moe_slot best = st->now > 0 ? st->loops->find(st) : MOE_NO_SLOT;
    for (; best != MOE_NO_SLOT && pinned[best]; best = st->loops->find(st)) {
        hide(st, best);
        st->hidden[n++] = best;
    }
    while (n > 0)
        show(st, st->hidden[--n]);
    return best;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot slot;
    if (!st->small)
        return find_unpinned(st, req->pinned);
    st->find_small(&st->slots, st->mean, req->pinned, 1, &slot);
    return slot;
}

static bool victims(void *state, uint32_t n, const uint8_t *pinned, moe_slot *slot)
{
    struct state *st = state;
    if (st->small)
        st->find_small(&st->slots, st->mean, pinned, n, slot);
    return st->small;
}

const struct moe_policy_ops moe_policy_hybrimoe_mrs = {
    .name = "hybrimoe-mrs",
    .summary = "minus recent score: evicts the smallest moving mean of router probabilities, in "
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
        "token counts, prompts' too, with its first expert in the layer. A token whose scores were "
        "not recorded leaves S as it is.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES,
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
    .victims = victims,
};
