#include "policies/rerouter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum moe_status moe_rerouter_init(struct moe_rerouter *r, const struct moe_reroute_spec *spec,
                                  uint32_t n_layers, uint32_t n_experts, uint32_t top_k,
                                  struct moe_err *err)
{
    const struct moe_reroute_env env = {n_layers, n_experts, top_k, spec->params};
    *r = (struct moe_rerouter){0};
    if (!moe_reroute_is_lossy(spec))
        return MOE_OK;
    *r = (struct moe_rerouter){.ops = spec->ops, .n_experts = n_experts, .top_k = top_k};
    const size_t bytes = r->ops->state_size ? r->ops->state_size(&env) : r->ops->params_size;
    bool ok = (r->state = calloc(1, bytes ? bytes : 1)) != NULL;
    ok = (r->expert = calloc(top_k, sizeof *r->expert)) && ok;
    ok = (r->weight = calloc(top_k, sizeof *r->weight)) && ok;
    ok = (r->before = calloc(top_k, sizeof *r->before)) && ok;
    ok = (r->logit = calloc(n_experts, sizeof *r->logit)) && ok;
    ok = (r->ahead = calloc(n_experts, sizeof *r->ahead)) && ok;
    ok = (r->resident = calloc(n_experts, sizeof *r->resident)) && ok;
    ok = (r->next = calloc(top_k, sizeof *r->next)) && ok;
    if (!ok) {
        moe_rerouter_release(r);
        return moe_fail_memory(err, "the reroute rule's state");
    }
    if (r->ops->state_size)
        r->ops->init(r->state, &env);
    else
        memcpy(r->state, spec->params, bytes);
    return MOE_OK;
}

void moe_rerouter_release(struct moe_rerouter *r)
{
    free(r->state);
    free(r->expert);
    free(r->weight);
    free(r->before);
    free(r->logit);
    free(r->ahead);
    free(r->resident);
    free(r->next);
    *r = (struct moe_rerouter){0};
}

/* For probability 0: far below all other logits, but finite. */
static const float LEAST_LOGIT = -100;

/* Scores as logits. false: the row was not recorded. */
static bool take_logits(const float *score, uint32_t n, float *logit)
{
    double sum = 0;
    bool probabilities = true;
    for (uint32_t e = 0; e < n; e++) {
        if (!isfinite(score[e]))
            return false;
        sum += score[e];
        probabilities = probabilities && score[e] >= 0;
    }
    probabilities = probabilities && fabs(sum - 1) < 1e-3;
    for (uint32_t e = 0; e < n; e++) {
        const float l = probabilities ? fmaxf(logf(score[e]), LEAST_LOGIT) : score[e];
        logit[e] = l;
    }
    return true;
}

/* The expert of the highest logit that is none of the n chosen (resident: among residents); of
 * equals the lowest number. MOE_NO_EXPERT: there is none. */
static moe_expert best_outsider(const struct moe_rerouter *r, const float *logit,
                                const moe_expert *chosen, uint32_t n, bool resident)
{
    moe_expert best = MOE_NO_EXPERT;
    for (uint32_t e = 0; e < r->n_experts; e++)
        if ((!resident || r->resident[e]) && !moe_route_has(chosen, n, e) &&
            (best == MOE_NO_EXPERT || logit[e] > logit[best]))
            best = (moe_expert)e;
    return best;
}

/* In place of fmax, on a loop of which gcc 12 for aarch64 fails with an internal error. */
static double higher(double a, double b)
{
    return b > a ? b : a;
}

/* The part of the softmax over all experts that falls on the n given ones. */
static double mass_of(const float *logit, uint32_t n_experts, const moe_expert *expert, uint32_t n)
{
    double top = logit[0], all = 0, mine = 0;
    for (uint32_t e = 1; e < n_experts; e++)
        top = higher(top, logit[e]);
    for (uint32_t e = 0; e < n_experts; e++)
        all += exp(logit[e] - top);
    for (uint32_t i = 0; i < n; i++)
        mine += exp(logit[expert[i]] - top);
    return mine / all;
}

/* The softmax over the n experts, times sum. */
static void share(const float *logit, const moe_expert *expert, uint32_t n, double sum,
                  float *weight)
{
    double all = 0, top = logit[expert[0]];
    for (uint32_t i = 1; i < n; i++)
        top = higher(top, logit[expert[i]]);
    for (uint32_t i = 0; i < n; i++)
        all += exp(logit[expert[i]] - top);
    for (uint32_t i = 0; i < n; i++)
        weight[i] = (float)(sum * exp(logit[expert[i]] - top) / all);
}

/* Writes the weights of the router's choices to r->before; returns their sum. */
static double take_weights(struct moe_rerouter *r, const struct moe_layer_routes *routes,
                           uint32_t n)
{
    double sum = 0;
    bool known = routes->weight != NULL;
    for (uint32_t i = 0; i < n && known; i++) {
        known = isfinite(routes->weight[i]) && routes->weight[i] >= 0;
        r->before[i] = routes->weight[i];
    }
    if (!known)
        share(r->logit, routes->expert, n, 1, r->before);
    for (uint32_t i = 0; i < n; i++)
        sum += r->before[i];
    return sum;
}

/* The logarithm of a new weight, up to a common factor: ratios of probabilities themselves could
 * overflow. */
static double log_weight(const struct moe_rerouter *r, const struct moe_reroute_req *req,
                         const moe_expert *was, uint32_t i)
{
    return log((double)r->before[i]) + (double)req->logit[r->expert[i]] -
           (double)req->logit[was[i]];
}

static void weigh(struct moe_rerouter *r, const struct moe_reroute_req *req, const moe_expert *was,
                  double sum)
{
    double top = -INFINITY, all = 0;
    for (uint32_t i = 0; i < req->n; i++)
        top = fmax(top, log_weight(r, req, was, i));
    if (req->predicted || !isfinite(top)) {
        share(req->logit, r->expert, req->n, sum, r->weight);
        return;
    }
    for (uint32_t i = 0; i < req->n; i++)
        all += exp(log_weight(r, req, was, i) - top);
    for (uint32_t i = 0; i < req->n; i++)
        r->weight[i] = (float)(sum * exp(log_weight(r, req, was, i) - top) / all);
}

static void count(struct moe_rerouter *r, const moe_expert *was, uint32_t n, double sum, bool moved)
{
    struct moe_rerouted *d = &r->done;
    double mass = mass_of(r->logit, r->n_experts, was, n);
    d->events++;
    d->events_moved += moved;
    d->choices += n;
    d->weight += sum;
    d->mass += mass;
    if (!moved)
        return;
    d->mass_lost += mass - mass_of(r->logit, r->n_experts, r->expert, n);
    for (uint32_t i = 0; i < n; i++) {
        if (moe_route_has(r->expert, n, was[i]))
            continue;
        d->replaced++;
        d->weight_moved += r->before[i];
    }
}

static void find_residents(struct moe_rerouter *r, const struct moe_cache *cache, uint32_t layer)
{
    for (uint32_t e = 0; e < r->n_experts; e++)
        r->resident[e] = moe_cache_find(cache, layer * r->n_experts + e) != MOE_NO_SLOT;
}

/* Writes the choices that the rule starts from to r->expert; true: they are the predicted ones. */
static bool begin(struct moe_rerouter *r, const struct moe_layer_routes *routes, uint32_t n)
{
    bool predicted = r->ops->predicted && routes->layer > 0 && r->ahead_of == routes->layer &&
                     r->ops->predicted(r->state, routes->layer);
    for (uint32_t i = 0; i < n; i++)
        r->expert[i] =
            predicted ? best_outsider(r, r->ahead, r->expert, i, false) : routes->expert[i];
    return predicted;
}

/* Asks the rule for stand-ins for those of expert [n] that are not resident; req->expert points at
 * the same array. true: some were replaced. */
static bool replace(struct moe_rerouter *r, const struct moe_reroute_req *req, moe_expert *expert)
{
    bool moved = false;
    for (uint32_t i = r->ops->replaces ? req->n : 0; i-- > 0;) {
        if (r->resident[expert[i]])
            continue;
        moe_expert by = best_outsider(r, req->logit, expert, req->n, true);
        if (by == MOE_NO_EXPERT || !r->ops->replaces(r->state, req, i, by))
            break;
        expert[i] = by;
        moved = true;
    }
    return moved;
}

static bool reroute(struct moe_rerouter *r, const struct moe_cache *cache,
                    struct moe_layer_routes *routes)
{
    const moe_expert *was = routes->expert;
    uint32_t n = 0;
    while (n < routes->top_k && was[n] != MOE_NO_EXPERT)
        n++;
    if (n == 0 || !routes->score || !take_logits(routes->score, r->n_experts, r->logit))
        return false;
    find_residents(r, cache, routes->layer);
    double sum = take_weights(r, routes, n);
    struct moe_reroute_req req = {routes->layer, n,           r->n_experts, r->expert,
                                  r->logit,      r->resident, false};
    req.predicted = begin(r, routes, n);
    bool moved = req.predicted;
    if (req.predicted)
        req.logit = r->ahead;
    if (r->ops->on_route)
        r->ops->on_route(r->state, &req);
    moved = replace(r, &req, r->expert) || moved;
    count(r, was, n, sum, moved);
    if (!moved)
        return false;
    weigh(r, &req, was, sum);
    for (uint32_t i = n; i < r->top_k; i++) {
        r->expert[i] = MOE_NO_EXPERT;
        r->weight[i] = NAN;
    }
    routes->expert = r->expert;
    routes->weight = r->weight;
    routes->next_use = NULL;
    return true;
}

bool moe_rerouter_event(struct moe_rerouter *r, const struct moe_cache *cache,
                        struct moe_layer_routes *routes)
{
    if (!r->ops || routes->n_tokens != 1 || routes->phase != MOE_DECODE)
        return false;
    bool moved = reroute(r, cache, routes);
    bool seen = (r->ops->predicted || r->ops->early) && routes->lookahead &&
                take_logits(routes->lookahead, r->n_experts, r->ahead);
    r->ahead_of = seen ? routes->layer + 1 : 0;
    return moved;
}

uint32_t moe_rerouter_early(struct moe_rerouter *r, const struct moe_cache *cache, uint32_t layer,
                            moe_expert *out)
{
    uint32_t n = r->top_k < r->n_experts ? r->top_k : r->n_experts, n_early = 0;
    if (!r->ops || !r->ops->early || r->ahead_of != layer || !r->ops->early(r->state, layer))
        return 0;
    find_residents(r, cache, layer);
    for (uint32_t i = 0; i < n; i++)
        r->next[i] = best_outsider(r, r->ahead, r->next, i, false);
    const struct moe_reroute_req req = {layer,    n,           r->n_experts, r->next,
                                        r->ahead, r->resident, true};
    if (r->ops->predicted && r->ops->predicted(r->state, layer))
        replace(r, &req, r->next);
    for (uint32_t i = 0; i < n; i++)
        if (!r->resident[r->next[i]])
            out[n_early++] = r->next[i];
    return n_early;
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

struct moe_rerouted_shares moe_rerouted_shares(const struct moe_rerouted *d)
{
    return (struct moe_rerouted_shares){percent((double)d->replaced, (double)d->choices),
                                        percent(d->weight_moved, d->weight),
                                        percent(d->mass_lost, d->mass)};
}
