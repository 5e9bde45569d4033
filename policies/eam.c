#include "policies/eam.h"

static size_t collection_floats(uint32_t n_layers, uint32_t n_experts, uint64_t capacity)
{
    size_t keys = (size_t)n_layers * n_experts;
    return (keys + n_layers + 2) * capacity + keys;
}

size_t moe_eam_size(uint32_t n_layers, uint32_t n_experts, uint64_t capacity)
{
    return capacity * sizeof(uint32_t) +
           2 * collection_floats(n_layers, n_experts, capacity) * sizeof(float);
}

void moe_eam_init(struct moe_eam *st, uint32_t n_layers, uint32_t n_experts, uint64_t capacity,
                  void *arrays)
{
    *st = (struct moe_eam){.n_layers = n_layers,
                           .n_experts = n_experts,
                           .n_keys = n_layers * n_experts,
                           .capacity = (uint32_t)capacity,
                           .match = arrays};
    float *at = (float *)(st->match + st->capacity); /* both of 4-byte alignment */
    for (int p = 0; p < 2; p++, at += st->n_keys) {
        struct moe_eam_collection *c = &st->of[p];
        c->count = at;
        c->row = at += (size_t)st->n_keys * st->capacity;
        c->square = at += (size_t)st->n_layers * st->capacity;
        c->product = at += st->capacity;
        c->mine = at += st->capacity;
    }
}

/* Adds weight times the members' counts of a key to their products. */
static void add_row(const struct moe_eam *st, struct moe_eam_collection *c, moe_key key,
                    float weight)
{
    const float *count = c->count + (size_t)key * st->capacity;
    float *product = c->product;
    for (uint32_t j = 0; j < c->n; j++)
        product[j] += weight * count[j];
}

static void clear_products(struct moe_eam *st)
{
    for (int p = 0; p < 2; p++)
        for (uint32_t j = 0; j < st->of[p].n; j++)
            st->of[p].product[j] = 0;
    st->matched = false;
}

void moe_eam_step(struct moe_eam *st)
{
    clear_products(st);
}

/* The square of the cosine, times the squared norm of the pass, which is the same for all members.
 * Product and square are whole numbers, so that equal similarities come out equal. */
static double similarity(const struct moe_eam_collection *c, uint32_t j)
{
    double product = c->product[j];
    return product * product / c->square[j];
}

/* A free place, or the member most similar to the request. */
static uint32_t find_place(const struct moe_eam *st, struct moe_eam_collection *c)
{
    uint32_t best = 0;
    if (c->n < st->capacity)
        return c->n++;
    for (moe_key k = 0; k < st->n_keys; k++)
        if (c->mine[k] > 0)
            add_row(st, c, k, c->mine[k]);
    for (uint32_t j = 1; j < c->n; j++)
        if (similarity(c, j) > similarity(c, best))
            best = j;
    return best;
}

/* The request has ended: its matrix joins the collection. */
static void collect(const struct moe_eam *st, struct moe_eam_collection *c)
{
    double square = 0;
    if (!c->used)
        return;
    c->used = false;
    for (moe_key k = 0; k < st->n_keys; k++)
        square += (double)c->mine[k] * c->mine[k];
    uint32_t j = find_place(st, c);
    c->square[j] = (float)square;
    for (uint32_t l = 0; l < st->n_layers; l++)
        c->row[(size_t)l * st->capacity + j] = 0;
    for (moe_key k = 0; k < st->n_keys; k++) {
        c->count[(size_t)k * st->capacity + j] = c->mine[k];
        c->row[(size_t)(k / st->n_experts) * st->capacity + j] += c->mine[k];
        c->mine[k] = 0;
    }
}

void moe_eam_sequence(struct moe_eam *st)
{
    clear_products(st);
    st->version++; /* members are replaced */
    for (int p = 0; p < 2; p++)
        collect(st, &st->of[p]);
    clear_products(st);
}

void moe_eam_route(struct moe_eam *st, const struct moe_route *route)
{
    struct moe_eam_collection *c = &st->of[route->phase];
    st->version += st->phase != route->phase;
    st->phase = route->phase;
    st->matched = false;
    c->used |= route->n > 0;
    for (uint32_t i = 0; i < route->n; i++) {
        moe_key key = route->layer * st->n_experts + route->expert[i];
        float tokens = route->tokens ? (float)route->tokens[i] : 1;
        c->mine[key] += tokens;
        add_row(st, c, key, tokens);
    }
}

/* Overwrites the previous matches one by one; the version changes if any differs. */
void moe_eam_match_anew(struct moe_eam *st)
{
    const struct moe_eam_collection *c = &st->of[st->phase];
    double best = -1;
    uint32_t n = 0, before = st->n_match;
    bool same = true;
    st->matched = true;
    for (uint32_t j = 0; j < c->n; j++)
        best = similarity(c, j) > best ? similarity(c, j) : best;
    for (uint32_t j = 0; j < c->n; j++) {
        if (similarity(c, j) < best)
            continue;
        same = same && n < before && st->match[n] == j;
        st->match[n++] = j;
    }
    st->n_match = n;
    st->version += !same || n != before;
}

/* Sum over the matched members of uses[at]: uses is c->count and at a key, or c->row and a
 * layer. */
static double matched_uses(const struct moe_eam *st, const float *uses, size_t at)
{
    double sum = 0;
    for (uint32_t i = 0; i < st->n_match; i++)
        sum += (double)uses[at * st->capacity + st->match[i]];
    return sum;
}

double moe_eam_share(struct moe_eam *st, uint32_t layer, moe_key key)
{
    const struct moe_eam_collection *c = &st->of[st->phase];
    moe_eam_match(st);
    double row = matched_uses(st, c->row, layer);
    return row > 0 ? matched_uses(st, c->count, key) / row : 0;
}

void moe_eam_shares(struct moe_eam *st, uint32_t layer, double *share)
{
    const struct moe_eam_collection *c = &st->of[st->phase];
    moe_eam_match(st);
    double row = matched_uses(st, c->row, layer);
    for (uint32_t e = 0; e < st->n_experts; e++) {
        moe_key key = layer * st->n_experts + e;
        share[e] = row > 0 ? matched_uses(st, c->count, key) / row : 0;
    }
}
