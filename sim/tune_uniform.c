/* The best N x M for one set of rules. The space has only the largest N for each M; but on a slow
 * link far fewer slots are the best, since every miss is copied. */
#include "sim/tune_search.h"

#include <inttypes.h>
#include <stdio.h>

enum { ROUNDS = 12 };

struct shape {
    uint64_t n, m; /* layers (indexes), ways */
};

struct uniform {
    struct moe_tune_search *q;
    uint64_t slots;
    struct moe_tune_point rules; /* but for its geometry */
};

static uint64_t at_most(uint64_t x, uint64_t most)
{
    return x < most ? x : most;
}

/* A candidate, unless it has no slot or does not fit. */
static enum moe_status add(struct uniform *u, uint64_t n, uint64_t m, struct moe_err *err)
{
    const struct moe_model *model = u->q->model;
    struct moe_tune_point point = u->rules;
    char text[64];
    uint32_t at;
    if (n < 1 || m < 1 || n > model->n_layers || m > model->n_experts || n > u->slots / m)
        return MOE_OK;
    snprintf(text, sizeof text, "%" PRIu64 "x%" PRIu64, n, m);
    enum moe_status s = moe_tune_add_geometry(u->q->space, text, MOE_TUNE_UNIFORM, &at, err);
    if (s)
        return s;
    point.at[MOE_TUNE_GEOMETRY] = (uint16_t)at;
    return moe_tune_add(u->q, point, err);
}

static enum moe_status add_powers(struct uniform *u, struct moe_err *err)
{
    const struct moe_model *model = u->q->model;
    enum moe_status s = MOE_OK;
    for (uint64_t m = 1; m <= model->n_experts; m *= 2)
        for (uint64_t n = 1; !s && n <= model->n_layers; n *= 2)
            s = add(u, n, m, err);
    return s;
}

static enum moe_status add_near(struct uniform *u, struct shape at, struct moe_err *err)
{
    const struct moe_model *model = u->q->model;
    const uint64_t n = at.n, m = at.m;
    const struct shape near[] = {{n - 1, m},
                                 {n + 1, m},
                                 {n, m - 1},
                                 {n, m + 1},
                                 {n - n / 4, m},
                                 {n + n / 4, m},
                                 {n, m - m / 4},
                                 {n, m + m / 4},
                                 {at_most(u->slots / m, model->n_layers), m},
                                 {n, at_most(u->slots / n, model->n_experts)},
                                 {at_most(u->slots / (m + 1), model->n_layers), m + 1},
                                 {m > 1 ? at_most(u->slots / (m - 1), model->n_layers) : 0, m - 1}};
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < sizeof near / sizeof *near; i++)
        s = add(u, near[i].n, near[i].m, err);
    return s;
}

static struct shape shape_of(const struct moe_tune_search *q, struct moe_tune_point point)
{
    const struct moe_tune_values *axis = &q->space->axis[MOE_TUNE_GEOMETRY];
    struct shape shape = {0};
    if (sscanf(axis->value[point.at[MOE_TUNE_GEOMETRY]].keys, "geometry=%" SCNu64 "x%" SCNu64,
               &shape.n, &shape.m) != 2)
        shape = (struct shape){0};
    return shape;
}

enum moe_status moe_tune_vary_uniform(struct moe_tune_search *q, uint64_t slots,
                                      struct moe_err *err)
{
    struct uniform u = {.q = q, .slots = slots, .rules = q->candidate[0].point};
    for (int round = 0; round < ROUNDS; round++) {
        const size_t before = q->n;
        const struct shape at = shape_of(q, q->candidate[0].point);
        if (at.n == 0 || at.m == 0)
            return MOE_OK;
        u.rules = q->candidate[0].point;
        enum moe_status s = round ? add_near(&u, at, err) : add_powers(&u, err);
        if (!s && q->n > before)
            s = moe_tune_race(q, before, "tuning, N x M", err);
        if (s)
            return s;
        const uint64_t best = q->candidate[0].order;
        moe_tune_rank(q, q->n);
        if (round && q->candidate[0].order == best)
            return MOE_OK;
    }
    return MOE_OK;
}
