/* MoE-Infinity, the paper's rule. The experts that a request uses are counted in a matrix (EAM),
 * prompt and answer apart; matrices of past requests are kept (EAMC). The past matrix that looks
 * most like the forward pass under way (cosine) predicts how probable every expert is in its layer.
 * The cached expert with the smallest (probability + eps) * (1 - layer / L) goes; equally similar
 * matrices are added up, equal priorities go by recency. A full collection replaces its member that
 * is most similar to the new one. Cosines need a product of every member with the pass: it grows by
 * one row of `count` with each use. */
#include "policies/registry.h"

#include <math.h>

struct params {
    uint64_t capacity;
    double eps;
};

/* The matrices of one phase. */
struct collection {
    uint32_t n;     /* members */
    float *count;   /* [n_keys, capacity] */
    float *row;     /* [L, capacity] sums of the rows */
    float *inverse; /* [capacity] 1 / norm */
    float *mine;    /* [n_keys] of the request under way */
    float *product; /* [capacity] with the forward pass under way */
};

struct slot {
    uint64_t last; /* time of the last use, in uses of the pool */
    moe_key key;
};

struct state {
    struct collection of[2]; /* by enum moe_phase; arrays lie behind slot and match */
    uint64_t now;
    double eps;
    uint32_t n_slots, n_layers, n_experts, n_keys, capacity;
    enum moe_phase phase; /* of the latest event */
    bool matched;         /* match is of the latest event */
    uint32_t n_match;
    uint32_t *match;    /* [capacity] the most similar members */
    struct slot slot[]; /* [n_slots] */
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
    {.name = "eps",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, eps),
     .default_text = "1e-6",
     .min = 0,
     .max = 1,
     .help = "added to a probability"},
    {0},
};

static size_t collection_floats(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    size_t keys = (size_t)env->n_layers * env->n_experts;
    return (keys + env->n_layers + 2) * params->capacity + keys;
}

static size_t state_size(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    return sizeof(struct state) + env->n_slots * sizeof(struct slot) +
           params->capacity * sizeof(uint32_t) + 2 * collection_floats(env) * sizeof(float);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    st->n_keys = env->n_layers * env->n_experts;
    st->capacity = (uint32_t)params->capacity;
    st->eps = params->eps;
    st->match = (uint32_t *)(st->slot + env->n_slots);
    float *at = (float *)(st->match + st->capacity); /* both of 4-byte alignment */
    for (int p = 0; p < 2; p++, at += st->n_keys) {
        struct collection *c = &st->of[p];
        c->count = at;
        c->row = at += (size_t)st->n_keys * st->capacity;
        c->inverse = at += (size_t)st->n_layers * st->capacity;
        c->product = at += st->capacity;
        c->mine = at += st->capacity;
    }
}

/* Adds weight times a row of counts to the products. */
static void add_row(const struct state *st, struct collection *c, moe_key key, float weight)
{
    const float *count = c->count + (size_t)key * st->capacity;
    float *product = c->product;
    for (uint32_t j = 0; j < c->n; j++)
        product[j] += weight * count[j];
}

static void clear_products(struct state *st)
{
    for (int p = 0; p < 2; p++)
        for (uint32_t j = 0; j < st->of[p].n; j++)
            st->of[p].product[j] = 0;
    st->matched = false;
}

static void on_step(void *state)
{
    clear_products(state);
}

static double cosine(const struct collection *c, uint32_t j)
{
    return (double)c->product[j] * c->inverse[j];
}

/* A free place, or the member most similar to the request. */
static uint32_t find_place(const struct state *st, struct collection *c)
{
    uint32_t best = 0;
    if (c->n < st->capacity)
        return c->n++;
    for (moe_key k = 0; k < st->n_keys; k++)
        if (c->mine[k] > 0)
            add_row(st, c, k, c->mine[k]);
    for (uint32_t j = 1; j < c->n; j++)
        if (cosine(c, j) > cosine(c, best))
            best = j;
    return best;
}

/* The request has ended: its matrix joins the collection. */
static void collect(const struct state *st, struct collection *c)
{
    double square = 0;
    for (moe_key k = 0; k < st->n_keys; k++)
        square += (double)c->mine[k] * c->mine[k];
    if (square <= 0)
        return;
    uint32_t j = find_place(st, c);
    c->inverse[j] = (float)(1 / sqrt(square));
    for (uint32_t l = 0; l < st->n_layers; l++)
        c->row[(size_t)l * st->capacity + j] = 0;
    for (moe_key k = 0; k < st->n_keys; k++) {
        c->count[(size_t)k * st->capacity + j] = c->mine[k];
        c->row[(size_t)(k / st->n_experts) * st->capacity + j] += c->mine[k];
        c->mine[k] = 0;
    }
}

static void on_sequence(void *state)
{
    struct state *st = state;
    clear_products(st);
    for (int p = 0; p < 2; p++)
        collect(st, &st->of[p]);
    clear_products(st);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    struct collection *c = &st->of[route->phase];
    st->phase = route->phase;
    st->matched = false;
    for (uint32_t i = 0; i < route->n; i++) {
        moe_key key = route->layer * st->n_experts + route->expert[i];
        float tokens = route->tokens ? (float)route->tokens[i] : 1;
        c->mine[key] += tokens;
        add_row(st, c, key, tokens);
    }
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->slot[slot].last = ++st->now;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->slot[slot] = (struct slot){++st->now, key};
}

static void find_matches(struct state *st)
{
    const struct collection *c = &st->of[st->phase];
    double best = -1;
    st->matched = true;
    st->n_match = 0;
    for (uint32_t j = 0; j < c->n; j++) {
        double similar = cosine(c, j);
        if (similar < best)
            continue;
        if (similar > best)
            st->n_match = 0;
        best = similar;
        st->match[st->n_match++] = j;
    }
}

static double priority(const struct state *st, moe_key key)
{
    const struct collection *c = &st->of[st->phase];
    uint32_t layer = key / st->n_experts;
    double count = 0, row = 0;
    for (uint32_t i = 0; i < st->n_match; i++) {
        count += (double)c->count[(size_t)key * st->capacity + st->match[i]];
        row += (double)c->row[(size_t)layer * st->capacity + st->match[i]];
    }
    return ((row > 0 ? count / row : 0) + st->eps) * (1 - (double)layer / st->n_layers);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    double least = 0;
    if (!st->matched)
        find_matches(st);
    for (uint32_t s = 0; s < st->n_slots; s++) {
        if (req->pinned[s])
            continue;
        double p = priority(st, st->slot[s].key);
        bool equal = best != MOE_NO_SLOT && !(p < least) && !(p > least);
        if (best == MOE_NO_SLOT || p < least || (equal && st->slot[s].last < st->slot[best].last)) {
            best = (moe_slot)s;
            least = p;
        }
    }
    return best;
}

const struct moe_policy_ops moe_policy_moe_infinity = {
    .name = "moe-infinity",
    .summary = "the paper's cache: smallest (predicted share of the layer + eps) * (1 - layer / L) "
               "goes, predicted by the past request most like this forward pass; not the released "
               "code's rule (moe-infinity-code)",
    .source = "arXiv 2401.14361v3 sections 4.3 to 4.5, Algorithm 1",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SEQUENCE,
    .state_size = state_size,
    .init = init,
    .on_sequence = on_sequence,
    .on_step = on_step,
    .on_route = on_route,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .victim = victim,
};
