/* The last steps of a search (tune_search.h): single changes that make a strategy better. */
#include "policies/geometry.h"
#include "sim/tune_search.h"
#include "sim/tune_ways.h"

#include <stdlib.h>

enum { VARIED = 3, ROUNDS = 6, MOVES = 4 }; /* the best few; most rounds of polish, of move */

/* Every point that differs from this one in one axis. */
static enum moe_status add_neighbours(struct moe_tune_search *q, struct moe_tune_point point,
                                      struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (int a = 0; a < MOE_TUNE_AXES; a++)
        for (uint32_t i = 0; !s && i < q->space->axis[a].n; i++) {
            struct moe_tune_point other = point;
            other.at[a] = (uint16_t)i;
            s = moe_tune_add(q, other, err);
        }
    return s;
}

enum moe_status moe_tune_polish(struct moe_tune_search *q, struct moe_err *err)
{
    for (int round = 0; round < ROUNDS; round++) {
        const size_t before = q->n, moving = moe_tune_best_moving(q);
        for (size_t i = 0; i < before; i++) {
            if ((i >= VARIED && i != moving) || q->candidate[i].varied)
                continue;
            q->candidate[i].varied = true;
            enum moe_status s = add_neighbours(q, q->candidate[i].point, err);
            if (s)
                return s;
        }
        if (q->n == before)
            return MOE_OK;
        enum moe_status s = moe_tune_race(q, before, "tuning, variations", err);
        if (s)
            return s;
        moe_tune_rank_different(q, (size_t)q->n_keep);
    }
    return MOE_OK;
}

/* --- slots from layer to layer -------------------------------------------------------------- */

/* Ways of each layer of a strategy; false where layers share a pool, or nothing can be moved. */
static bool ways_of(const struct moe_strategy *strategy, uint32_t n_layers, uint32_t n_experts,
                    uint32_t *ways)
{
    struct moe_geometry g;
    if (moe_geometry_parse(strategy->geometry, n_layers, n_experts, NULL, &g, NULL))
        return false;
    uint32_t used = 0;
    for (uint32_t l = 0; l < n_layers; l++) {
        ways[l] = g.pool_of_layer[l] < 0 ? 0 : g.pool[g.pool_of_layer[l]].n_slots;
        used += ways[l];
    }
    bool own = used == g.n_slots && used > 0 && n_layers > 1;
    moe_geometry_release(&g);
    return own;
}

struct mover {
    struct moe_tune_search *q;
    struct moe_tune_point point;
    const uint64_t *worth; /* [L, E + 1] */
    uint32_t n_layers, n_experts;
    uint32_t *ways;
};

/* What layer l gains by one way more. */
static int64_t gain(const struct mover *m, uint32_t l)
{
    const uint64_t *w = m->worth + (size_t)l * (m->n_experts + 1) + m->ways[l];
    return (int64_t)(w[1] - w[0]);
}

/* What it loses by one way less. */
static int64_t loss(const struct mover *m, uint32_t l)
{
    const uint64_t *w = m->worth + (size_t)l * (m->n_experts + 1) + m->ways[l];
    return (int64_t)(w[0] - w[-1]);
}

static enum moe_status add_move(struct mover *m, uint32_t from, uint32_t to, struct moe_err *err)
{
    char text[sizeof((struct moe_strategy *)0)->geometry];
    uint32_t at;
    m->ways[from]--;
    m->ways[to]++;
    bool fits = moe_tune_ways_format(m->ways, m->n_layers, text, sizeof text);
    m->ways[from]++;
    m->ways[to]--;
    if (!fits)
        return MOE_OK;
    enum moe_status s = moe_tune_add_geometry(m->q->space, text, MOE_TUNE_POOLS, &at, err);
    if (s)
        return s;
    m->point.at[MOE_TUNE_GEOMETRY] = (uint16_t)at;
    return moe_tune_add(m->q, m->point, err);
}

/* From each layer to the one that gains most; to each layer from the one that loses least. */
static enum moe_status add_moves(struct mover *m, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (uint32_t l = 0; !s && l < m->n_layers; l++) {
        uint32_t to = m->n_layers, from = m->n_layers;
        for (uint32_t j = 0; j < m->n_layers; j++) {
            if (j == l)
                continue;
            if (m->ways[j] < m->n_experts && (to == m->n_layers || gain(m, j) > gain(m, to)))
                to = j;
            if (m->ways[j] > 0 && (from == m->n_layers || loss(m, j) < loss(m, from)))
                from = j;
        }
        if (m->ways[l] > 0 && to < m->n_layers)
            s = add_move(m, l, to, err);
        if (!s && m->ways[l] < m->n_experts && from < m->n_layers)
            s = add_move(m, from, l, err);
    }
    return s;
}

static enum moe_status add_moves_of_best(struct moe_tune_search *q, uint32_t *ways,
                                         struct moe_err *err)
{
    struct moe_strategy strategy;
    struct mover m = {.q = q,
                      .point = q->candidate[0].point,
                      .n_layers = q->train->info.n_layers,
                      .n_experts = q->train->info.n_experts,
                      .ways = ways};
    enum moe_status s = moe_tune_strategy(q->space, m.point, &strategy, err);
    if (s || !ways_of(&strategy, m.n_layers, m.n_experts, ways))
        return s;
    m.worth = moe_tune_is_fitted(q->space, &strategy) ? q->static_worth : q->worth;
    return add_moves(&m, err);
}

enum moe_status moe_tune_move(struct moe_tune_search *q, struct moe_err *err)
{
    uint32_t *ways = calloc(q->train->info.n_layers + 1, sizeof *ways);
    enum moe_status s = ways ? MOE_OK : moe_fail_memory(err, "ways");
    for (int round = 0; !s && round < MOVES && q->n; round++) {
        const size_t before = q->n;
        s = add_moves_of_best(q, ways, err);
        if (s || q->n == before)
            break;
        s = moe_tune_race(q, before, "tuning, single slots moved", err);
        moe_tune_rank_different(q, (size_t)q->n_keep);
    }
    free(ways);
    return s;
}
