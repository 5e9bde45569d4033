#include "traces/reuse.h"

#include "base/progress.h"
#include "traces/reuse_prompts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORKING_SET_TOKENS = 16 };

const uint32_t moe_lags[MOE_LAGS] = {1, 2, 3, 4, 8, 16};

/* What the layer passes share: the trace, the tokens that count, and scratch for one layer. */
struct scan {
    const struct moe_trace *trace;
    bool every_phase;   /* there are no decode tokens: all count */
    moe_expert *route;  /* [T, K] of the layer under way */
    uint32_t *size;     /* [T] of its routes; 0 where there is none or the token does not count */
    moe_expert *recent; /* [E] experts in LRU order, last used first */
    uint32_t *window_count; /* [E] uses in the window of WORKING_SET_TOKENS */
    uint64_t *distance;     /* [E] accesses by stack distance */
};

struct mean {
    double sum;
    uint64_t n;
};

struct overlap {
    double expert;
    uint64_t n, any, all;
};

static double mean_value(struct mean m)
{
    return m.n ? m.sum / (double)m.n : NAN;
}

static void mean_add(struct mean *m, double value)
{
    m->sum += value;
    m->n++;
}

/* The route of a token that counts, and its size; size 0 where there is none. */
static const moe_expert *find_route(const struct scan *s, uint64_t t, uint32_t layer,
                                    uint32_t *size)
{
    const struct moe_trace_info *info = &s->trace->info;
    const moe_expert *route = s->trace->tokens.expert + (t * info->n_layers + layer) * info->top_k;
    uint32_t n = 0;
    if (s->every_phase || s->trace->tokens.phase[t] == MOE_DECODE)
        while (n < info->top_k && route[n] != MOE_NO_EXPERT)
            n++;
    *size = n;
    return route;
}

/* Gathers the layer's routes: the passes then run over neighbours in memory. */
static void load_layer(struct scan *s, uint32_t layer)
{
    uint32_t top_k = s->trace->info.top_k;
    for (uint64_t t = 0; t < s->trace->tokens.n_tokens; t++) {
        const moe_expert *route = find_route(s, t, layer, &s->size[t]);
        memcpy(s->route + t * top_k, route, top_k * sizeof *route);
    }
}

static const moe_expert *route_at(const struct scan *s, uint64_t t)
{
    return s->route + t * s->trace->info.top_k;
}

static inline void overlap_add(struct overlap *o, const moe_expert *a, uint32_t na,
                               const moe_expert *b, uint32_t nb)
{
    uint32_t common = 0;
    if (na == 2 && nb == 2) { /* unrolled: a fifth of fitting synthetic routing of Mixtral */
        common = (uint32_t)((a[0] == b[0]) + (a[1] == b[0]) + (a[0] == b[1]) + (a[1] == b[1]));
        o->expert += 0.5 * (double)common;
    } else {
        for (uint32_t i = 0; i < nb; i++)
            for (uint32_t j = 0; j < na; j++)
                common += a[j] == b[i];
        o->expert += (double)common / (double)nb;
    }
    o->any += common > 0;
    o->all += common == na && common == nb;
    o->n++;
}

static double share(double part, uint64_t all)
{
    return all ? part / (double)all : NAN;
}

static void lag_pass(const struct scan *s, struct moe_reuse_layer *out)
{
    const struct moe_tokens *tokens = &s->trace->tokens;
    struct overlap o[MOE_LAGS] = {0};
    uint64_t first = 0;
    for (uint64_t t = 1; t < tokens->n_tokens; t++) {
        const moe_expert *b = route_at(s, t);
        for (int i = 0; s->size[t] && i < MOE_LAGS && moe_lags[i] <= t; i++) {
            uint64_t from = t - moe_lags[i];
            if (tokens->sequence[from] != tokens->sequence[t])
                break;
            if (!s->size[from])
                continue;
            const moe_expert *a = route_at(s, from);
            overlap_add(&o[i], a, s->size[from], b, s->size[t]);
            first += i == 0 && a[0] == b[0];
        }
    }
    for (int i = 0; i < MOE_LAGS; i++) {
        out->repeat_expert[i] = share(o[i].expert, o[i].n);
        out->repeat_any[i] = share((double)o[i].any, o[i].n);
        out->repeat_all[i] = share((double)o[i].all, o[i].n);
    }
    out->repeat_first = share((double)first, o[0].n);
}

static void next_layer_pass(const struct scan *s, uint32_t layer, struct moe_reuse_layer *out)
{
    struct overlap o = {0};
    if (layer + 1 < s->trace->info.n_layers)
        for (uint64_t t = 0; t < s->trace->tokens.n_tokens; t++) {
            uint32_t n;
            const moe_expert *next = find_route(s, t, layer + 1, &n);
            if (s->size[t] && n)
                overlap_add(&o, route_at(s, t), s->size[t], next, n);
        }
    out->next_layer_expert = share(o.expert, o.n);
    out->next_layer_any = share((double)o.any, o.n);
    out->next_layer_all = share((double)o.all, o.n);
}

static double entropy_bits(const double *share, uint32_t n)
{
    double bits = 0;
    for (uint32_t e = 0; e < n; e++)
        if (share[e] > 0)
            bits -= share[e] * log2(share[e]);
    return bits;
}

static void popularity_pass(const struct scan *s, struct moe_reuse_layer *out)
{
    uint32_t n_experts = s->trace->info.n_experts;
    for (uint64_t t = 0; t < s->trace->tokens.n_tokens; t++) {
        uint32_t n = s->size[t];
        const moe_expert *route = route_at(s, t);
        for (uint32_t k = 0; k < n; k++)
            out->popularity[route[k]]++;
        if (n)
            out->first_popularity[route[0]]++;
        out->n_routes += n > 0;
        out->n_accesses += n;
    }
    for (uint32_t e = 0; e < n_experts; e++) {
        out->popularity[e] = share(out->popularity[e], out->n_accesses);
        out->first_popularity[e] = share(out->first_popularity[e], out->n_routes);
    }
    out->entropy = out->n_accesses ? entropy_bits(out->popularity, n_experts) : NAN;
}

/* Moves the expert to the front; its old place, or the old *n at the first use, which grows *n. */
static uint32_t touch(moe_expert *recent, uint32_t *n, moe_expert expert)
{
    uint32_t at = 0;
    while (at < *n && recent[at] != expert)
        at++;
    uint32_t distance = at;
    if (at == *n)
        ++*n;
    memmove(recent + 1, recent, at * sizeof *recent);
    recent[0] = expert;
    return distance;
}

static void lru_pass(const struct scan *s, struct moe_reuse_layer *out)
{
    const struct moe_tokens *tokens = &s->trace->tokens;
    uint32_t n_experts = s->trace->info.n_experts, n_recent = 0;
    memset(s->distance, 0, n_experts * sizeof *s->distance);
    for (uint64_t t = 0; t < tokens->n_tokens; t++) {
        uint32_t n = s->size[t];
        const moe_expert *route = route_at(s, t);
        if (t && tokens->sequence[t] != tokens->sequence[t - 1])
            n_recent = 0;
        for (uint32_t k = 0; k < n; k++) {
            uint32_t known = n_recent;
            uint32_t distance = touch(s->recent, &n_recent, route[k]);
            if (distance < known)
                s->distance[distance]++;
        }
    }
    uint64_t hits = 0;
    for (uint32_t m = 0; m <= n_experts; m++) {
        out->lru_hit_rate[m] = share((double)hits, out->n_accesses);
        if (m < n_experts)
            hits += s->distance[m];
    }
}

/* Sliding window: tokens join at t and leave WORKING_SET_TOKENS later; a gap empties it. */
static void working_set_pass(const struct scan *s, struct moe_reuse_layer *out)
{
    const struct moe_tokens *tokens = &s->trace->tokens;
    uint32_t different = 0, length = 0;
    struct mean m = {0};
    memset(s->window_count, 0, s->trace->info.n_experts * sizeof *s->window_count);
    for (uint64_t t = 0; t < tokens->n_tokens; t++) {
        uint32_t n = s->size[t];
        const moe_expert *route = route_at(s, t);
        uint32_t keep = WORKING_SET_TOKENS - 1;
        if (!n || (t && tokens->sequence[t] != tokens->sequence[t - 1]))
            keep = 0;
        for (; length > keep; length--) {
            const moe_expert *old = route_at(s, t - length);
            for (uint32_t k = 0; k < s->size[t - length]; k++)
                different -= --s->window_count[old[k]] == 0;
        }
        for (uint32_t k = 0; k < n; k++)
            different += s->window_count[route[k]]++ == 0;
        length += n > 0;
        if (length == WORKING_SET_TOKENS)
            mean_add(&m, different);
    }
    out->working_set = mean_value(m);
}

static bool has_decode(const struct moe_tokens *tokens)
{
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        if (tokens->phase[t] == MOE_DECODE)
            return true;
    return false;
}

static enum moe_status scan_init(struct scan *s, const struct moe_trace *trace, struct moe_err *err)
{
    size_t n = trace->info.n_experts;
    *s = (struct scan){.trace = trace};
    s->every_phase = !has_decode(&trace->tokens);
    s->route = calloc(trace->tokens.n_tokens + 1, trace->info.top_k * sizeof *s->route);
    s->size = calloc(trace->tokens.n_tokens + 1, sizeof *s->size);
    s->recent = calloc(n, sizeof *s->recent);
    s->window_count = calloc(n, sizeof *s->window_count);
    s->distance = calloc(n, sizeof *s->distance);
    if (!s->route || !s->size || !s->recent || !s->window_count || !s->distance)
        return moe_fail_memory(err, "reuse statistics");
    return MOE_OK;
}

static void scan_release(struct scan *s)
{
    free(s->route);
    free(s->size);
    free(s->recent);
    free(s->window_count);
    free(s->distance);
}

static enum moe_status layer_init(struct moe_reuse_layer *layer, size_t n_experts,
                                  struct moe_err *err)
{
    layer->popularity = calloc(n_experts, sizeof(double));
    layer->first_popularity = calloc(n_experts, sizeof(double));
    layer->lru_hit_rate = calloc(n_experts + 1, sizeof(double));
    if (!layer->popularity || !layer->first_popularity || !layer->lru_hit_rate)
        return moe_fail_memory(err, "reuse statistics");
    return MOE_OK;
}

static void layer_release(struct moe_reuse_layer *layer)
{
    free(layer->popularity);
    free(layer->first_popularity);
    free(layer->lru_hit_rate);
}

enum { N_SCALARS = 6 + 3 * MOE_LAGS };

/* The members that are one number, in a fixed order, so that the mean treats all alike. */
static void scalars(struct moe_reuse_layer *layer, double *member[N_SCALARS])
{
    double *single[6] = {&layer->entropy,        &layer->repeat_first,   &layer->next_layer_expert,
                         &layer->next_layer_any, &layer->next_layer_all, &layer->working_set};
    memcpy(member, single, sizeof single);
    for (int i = 0; i < MOE_LAGS; i++) {
        member[6 + 3 * i] = &layer->repeat_expert[i];
        member[7 + 3 * i] = &layer->repeat_any[i];
        member[8 + 3 * i] = &layer->repeat_all[i];
    }
}

static void add_unless_nan(struct mean *m, double value)
{
    if (!isnan(value))
        mean_add(m, value);
}

static void mean_scalars(struct moe_reuse *r)
{
    struct mean m[N_SCALARS] = {0};
    double *member[N_SCALARS];
    for (uint32_t l = 0; l < r->n_layers; l++) {
        scalars(&r->layer[l], member);
        for (int i = 0; i < N_SCALARS; i++)
            add_unless_nan(&m[i], *member[i]);
        r->mean.n_routes += r->layer[l].n_routes;
        r->mean.n_accesses += r->layer[l].n_accesses;
    }
    scalars(&r->mean, member);
    for (int i = 0; i < N_SCALARS; i++)
        *member[i] = mean_value(m[i]);
}

static void mean_arrays(struct moe_reuse *r)
{
    for (uint32_t e = 0; e <= r->n_experts; e++) {
        struct mean popularity = {0}, first = {0}, lru = {0};
        for (uint32_t l = 0; l < r->n_layers; l++) {
            add_unless_nan(&lru, r->layer[l].lru_hit_rate[e]);
            if (e < r->n_experts) {
                add_unless_nan(&popularity, r->layer[l].popularity[e]);
                add_unless_nan(&first, r->layer[l].first_popularity[e]);
            }
        }
        r->mean.lru_hit_rate[e] = mean_value(lru);
        if (e < r->n_experts) {
            r->mean.popularity[e] = mean_value(popularity);
            r->mean.first_popularity[e] = mean_value(first);
        }
    }
}

/* Chance levels of K different experts at random out of E, in closed form (see reuse.h). */
static void set_chance(struct moe_reuse *r)
{
    double e = r->n_experts, none = 1, same = 1;
    for (uint32_t k = 0; k < r->top_k; k++) {
        none *= fmax(0, e - r->top_k - k) / (e - k);
        same *= (r->top_k - k) / (e - k);
    }
    r->chance_expert = r->top_k / e;
    r->chance_any = 1 - none;
    r->chance_all = same;
    r->chance_first = 1 / e;
    r->chance_entropy = log2(e);
    r->chance_working_set = e * (1 - pow(1 - r->chance_expert, WORKING_SET_TOKENS));
}

double moe_reuse_chance_lru(const struct moe_reuse *r, uint32_t ways)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->top_k && i < ways; i++)
        sum += (double)(ways - i) / (r->n_experts - i);
    return sum / r->top_k;
}

static enum moe_status compute_layers(const struct moe_trace *trace, bool distances,
                                      struct moe_reuse *r, struct moe_err *err)
{
    struct scan s;
    struct moe_progress progress;
    enum moe_status status = scan_init(&s, trace, err);
    moe_progress_begin(&progress, "counting", "layers", r->n_layers);
    for (uint32_t l = 0; !status && l < r->n_layers; l++) {
        status = moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted")
                                   : layer_init(&r->layer[l], r->n_experts, err);
        if (status)
            break;
        load_layer(&s, l);
        popularity_pass(&s, &r->layer[l]);
        lag_pass(&s, &r->layer[l]);
        next_layer_pass(&s, l, &r->layer[l]);
        if (!distances)
            continue;
        lru_pass(&s, &r->layer[l]);
        working_set_pass(&s, &r->layer[l]);
        moe_progress_update(&progress, l + 1);
    }
    moe_progress_end(&progress);
    scan_release(&s);
    return status;
}

static enum moe_status compute(const struct moe_trace *trace, bool distances, struct moe_reuse *out,
                               struct moe_err *err)
{
    struct moe_reuse r = {.n_layers = trace->info.n_layers,
                          .n_experts = trace->info.n_experts,
                          .top_k = trace->info.top_k,
                          .n_sequences = trace->n_sequences};
    for (uint64_t t = 0; t < trace->tokens.n_tokens; t++)
        *(trace->tokens.phase[t] == MOE_DECODE ? &r.n_decode : &r.n_prefill) += 1;
    r.layer = calloc((size_t)r.n_layers + 1, sizeof *r.layer);
    if (!r.layer)
        return moe_fail_memory(err, "reuse statistics");
    enum moe_status status = layer_init(&r.mean, r.n_experts, err);
    if (!status)
        status = compute_layers(trace, distances, &r, err);
    if (!status)
        status = moe_prompt_common_share(trace, &r.prompt_common_share, err);
    if (status) {
        moe_reuse_release(&r);
        return status;
    }
    mean_scalars(&r);
    mean_arrays(&r);
    set_chance(&r);
    *out = r;
    return MOE_OK;
}

/* The token before is another request's where several share a sequence. */
static enum moe_status check_single(const struct moe_trace *trace, struct moe_err *err)
{
    return trace->tokens.request
               ? moe_fail(err, MOE_ERR_UNSUPPORTED,
                          "repeats and reuse need consecutive tokens of one request, but the trace "
                          "has several requests in a sequence: use the traces it was made from")
               : MOE_OK;
}

enum moe_status moe_reuse_compute(const struct moe_trace *trace, struct moe_reuse *out,
                                  struct moe_err *err)
{
    enum moe_status s = check_single(trace, err);
    return s ? s : compute(trace, true, out, err);
}

enum moe_status moe_reuse_compute_repeats(const struct moe_trace *trace, struct moe_reuse *out,
                                          struct moe_err *err)
{
    enum moe_status s = check_single(trace, err);
    return s ? s : compute(trace, false, out, err);
}

void moe_reuse_release(struct moe_reuse *reuse)
{
    for (uint32_t l = 0; reuse->layer && l < reuse->n_layers; l++)
        layer_release(&reuse->layer[l]);
    layer_release(&reuse->mean);
    free(reuse->layer);
    *reuse = (struct moe_reuse){0};
}
