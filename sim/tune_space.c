#include "sim/tune_space.h"

#include "base/units.h"
#include "policies/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parameters that are tried beside the defaults. */
static const struct {
    enum moe_tune_axis axis;
    const char *rule;
} variants[] = {
    {MOE_TUNE_POLICY, "paper-lru:hazards=off"},
    {MOE_TUNE_POLICY, "slru:segments=2"},
    {MOE_TUNE_POLICY, "s3-fifo:small=0.25,ghost=2,threshold=1"},
    {MOE_TUNE_POLICY, "lfu-aged:ageing=halve"},
    {MOE_TUNE_POLICY, "lfu-aged:ageing=halve,limit=40"},
    {MOE_TUNE_POLICY, "lfru:reading=ties"},
    {MOE_TUNE_POLICY, "least-stale:reading=layer"},
    {MOE_TUNE_POLICY, "least-stale:reading=intervals"},
    {MOE_TUNE_POLICY, "least-stale:reading=bypass"},
    {MOE_TUNE_POLICY, "decayed-count:half_life=8"},
    {MOE_TUNE_POLICY, "decayed-count:half_life=128"},
    {MOE_TUNE_POLICY, "decayed-count:half_life=512"},
    {MOE_TUNE_POLICY, "decayed-count:half_life=128,margin=1.5,stay=16"},
    {MOE_TUNE_POLICY, "decayed-count:half_life=512,margin=2,stay=64"},
    {MOE_TUNE_POLICY, "hybrimoe-mrs:alpha=0.1"},
    {MOE_TUNE_ADMISSION, "quota:quota=1"},
    {MOE_TUNE_ADMISSION, "quota:quota=2"},
    {MOE_TUNE_ADMISSION, "quota:quota=4"},
    {MOE_TUNE_ADMISSION, "quota:quota=8"},
    {MOE_TUNE_ADMISSION, "quota:quota=16"},
    {MOE_TUNE_ADMISSION, "quota:quota=32"},
    {MOE_TUNE_ADMISSION, "queue-limit:longest=1"},
    {MOE_TUNE_ADMISSION, "queue-limit:longest=2"},
    {MOE_TUNE_ADMISSION, "probabilistic:share=0.1"},
    {MOE_TUNE_ADMISSION, "probabilistic:share=0.02"},
    {MOE_TUNE_ADMISSION, "second-miss:window=4"},
    {MOE_TUNE_ADMISSION, "second-miss:window=64"},
    {MOE_TUNE_ADMISSION, "pay-back:half_life=8"},
    {MOE_TUNE_ADMISSION, "pay-back:half_life=128"},
    {MOE_TUNE_ADMISSION, "pay-back:half_life=512"},
    {MOE_TUNE_PREFETCHER, "popularity:n=1"},
    {MOE_TUNE_PREFETCHER, "markov:n=1"},
    {MOE_TUNE_PREFETCHER, "gate-lookahead:n=1"},
    {MOE_TUNE_PREFETCHER, "moe-infinity:horizon=1"},
};

/* Rules that are not tried with their defaults, which overwrite slots in use: only as above. */
static const char *const without_defaults[] = {"paper-lru"};

static enum moe_status add_value(struct moe_tune_values *values, const char *keys, int kind,
                                 uint32_t *at, struct moe_err *err)
{
    for (uint32_t i = 0; i < values->n; i++)
        if (strcmp(values->value[i].keys, keys) == 0) {
            if (at)
                *at = i;
            return MOE_OK;
        }
    if (values->n == UINT16_MAX)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "more than %d values on an axis", UINT16_MAX);
    struct moe_tune_value *value = realloc(values->value, (values->n + 1u) * sizeof *value);
    char *copy = strdup(keys);
    if (value)
        values->value = value;
    if (!value || !copy) {
        free(copy);
        return moe_fail_memory(err, "the strategies to search");
    }
    values->value[values->n] = (struct moe_tune_value){copy, kind};
    if (at)
        *at = values->n;
    values->n++;
    return MOE_OK;
}

static enum moe_status add_rule(struct moe_tune_space *space, enum moe_tune_axis axis,
                                const char *rule, int kind, struct moe_err *err)
{
    static const char *const keys[] = {[MOE_TUNE_POLICY] = "policy",
                                       [MOE_TUNE_ADMISSION] = "admission",
                                       [MOE_TUNE_PREFETCHER] = "prefetcher"};
    char text[256];
    snprintf(text, sizeof text, "%s=%s", keys[axis], rule);
    return add_value(&space->axis[axis], text, kind, NULL, err);
}

static bool can_do(uint32_t needs, unsigned parts)
{
    return !(needs & MOE_NEEDS_FUTURE) &&
           (!(needs & MOE_NEEDS_SCORES) || (parts & MOE_HAS_SCORE)) &&
           (!(needs & MOE_NEEDS_LOOKAHEAD) || (parts & MOE_HAS_LOOKAHEAD));
}

/* The variants of a rule, by the name in front of the colon. */
static enum moe_status add_variants(struct moe_tune_space *space, enum moe_tune_axis axis,
                                    const char *name, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < sizeof variants / sizeof *variants; i++)
        if (variants[i].axis == axis && strncmp(variants[i].rule, name, strlen(name)) == 0 &&
            variants[i].rule[strlen(name)] == ':')
            s = add_rule(space, axis, variants[i].rule, 0, err);
    return s;
}

static enum moe_status add_named(struct moe_tune_space *space, enum moe_tune_axis axis,
                                 const char *name, int kind, struct moe_err *err)
{
    bool with_defaults = true;
    for (size_t i = 0; i < sizeof without_defaults / sizeof *without_defaults; i++)
        with_defaults = with_defaults && strcmp(name, without_defaults[i]) != 0;
    enum moe_status s = with_defaults ? add_rule(space, axis, name, kind, err) : MOE_OK;
    return s ? s : add_variants(space, axis, name, err);
}

static enum moe_status add_rules(struct moe_tune_space *space,
                                 const struct moe_tune_space_spec *spec, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && moe_policies[i]; i++) {
        bool is_static = moe_policies[i] == &moe_policy_static;
        if (is_static)
            space->first_static = space->axis[MOE_TUNE_POLICY].n;
        if (can_do(moe_policies[i]->needs, spec->parts))
            s = add_named(space, MOE_TUNE_POLICY, moe_policies[i]->name, is_static, err);
    }
    for (size_t i = 0; !s && moe_admissions[i]; i++) {
        bool never = strcmp(moe_admissions[i]->name, "never") == 0;
        if (never)
            space->never = space->axis[MOE_TUNE_ADMISSION].n;
        s = add_named(space, MOE_TUNE_ADMISSION, moe_admissions[i]->name, never, err);
    }
    for (size_t i = 0; !s && moe_prefetchers[i]; i++)
        if (can_do(moe_prefetchers[i]->needs, spec->parts))
            s = add_named(space, MOE_TUNE_PREFETCHER, moe_prefetchers[i]->name, 0, err);
    return s;
}

/* Every rule for misses with every rule for slots in flight and for fills. Where nothing is ever
 * copied into a slot, the first value of each kind of miss stands for all (moe_tune_canonical). */
static enum moe_status add_dispatches(struct moe_tune_space *space, struct moe_err *err)
{
    static const char *const miss[] = {"cpu", "wait", "fastest", "admitted"};
    static const char *const flight[] = {"wait", "cpu", "fastest"};
    static const char *const when[] = {"after-compute", "at-once"};
    enum moe_status s = MOE_OK;
    for (int m = 0; m < 4; m++)
        for (int i = 0; i < 6 && !s; i++) {
            char text[128];
            snprintf(text, sizeof text, "dispatch.miss=%s\ndispatch.in_flight=%s\nfill.when=%s",
                     miss[m], flight[i / 2], when[i % 2]);
            s = add_value(&space->axis[MOE_TUNE_DISPATCH], text, m, NULL, err);
        }
    return s;
}

static enum moe_status add_others(struct moe_tune_space *space,
                                  const struct moe_tune_space_spec *spec, struct moe_err *err)
{
    char text[64];
    enum moe_status s = add_dispatches(space, err);
    for (uint32_t i = 0; !s && i < spec->n_threads; i++) {
        snprintf(text, sizeof text, "threads=%" PRIu64, spec->threads[i]);
        s = add_value(&space->axis[MOE_TUNE_THREADS], text, 0, NULL, err);
    }
    if (!s)
        s = add_value(&space->axis[MOE_TUNE_PREFILL], "", 0, NULL, err);
    if (!s && spec->prompts)
        s = add_value(&space->axis[MOE_TUNE_PREFILL], "prefill=auto\nprefill_warm=true", 0, NULL,
                      err);
    return s ? s : moe_tune_add_geometry(space, "none", MOE_TUNE_NO_SLOTS, NULL, err);
}

/* --- placement by a list that is in memory -------------------------------------------------- */

struct fitted_params {
    const moe_key *keys;
    uint32_t n;
};
_Static_assert(sizeof(struct fitted_params) <= MOE_POLICY_PARAMS_MAX, "a fitted list");

static enum moe_status fitted_initial(const struct moe_policy_env *env, moe_key *keys, uint32_t *n,
                                      struct moe_err *err)
{
    const struct fitted_params *p = env->params;
    (void)err;
    memcpy(keys, p->keys, p->n * sizeof *keys);
    *n = p->n;
    return MOE_OK;
}

static void set_fitted(const struct moe_tune_space *space, struct moe_policy_spec *policy)
{
    struct fitted_params params = {space->hot, space->n_hot};
    memset(policy, 0, sizeof *policy);
    policy->ops = &space->fitted;
    memcpy(policy->params, &params, sizeof params);
}

bool moe_tune_is_fitted(const struct moe_tune_space *space, const struct moe_strategy *strategy)
{
    return strategy->policy.ops == &space->fitted;
}

enum moe_status moe_tune_name_list(struct moe_strategy *strategy, const char *list,
                                   struct moe_err *err)
{
    enum moe_status s = moe_strategy_set(strategy, "policy", "static", err);
    return s ? s : moe_strategy_set(strategy, "policy.list", list, err);
}

/* --- the space ------------------------------------------------------------------------------ */

enum moe_status moe_tune_space_init(struct moe_tune_space *space,
                                    const struct moe_tune_space_spec *spec, struct moe_err *err)
{
    *space = (struct moe_tune_space){
        .base = *spec->base, .fitted = moe_policy_static, .hot = spec->hot, .n_hot = spec->n_hot};
    space->fitted.params = NULL;
    space->fitted.params_size = sizeof(struct fitted_params);
    space->fitted.initial = fitted_initial;
    space->fitted.file = NULL;
    enum moe_status s = add_rules(space, spec, err);
    if (!s)
        s = add_others(space, spec, err);
    if (s)
        moe_tune_space_release(space);
    return s;
}

void moe_tune_space_release(struct moe_tune_space *space)
{
    for (int a = 0; a < MOE_TUNE_AXES; a++) {
        for (uint32_t i = 0; i < space->axis[a].n; i++)
            free(space->axis[a].value[i].keys);
        free(space->axis[a].value);
    }
    *space = (struct moe_tune_space){0};
}

enum moe_status moe_tune_add_geometry(struct moe_tune_space *space, const char *text,
                                      enum moe_tune_kind kind, uint32_t *at, struct moe_err *err)
{
    char keys[sizeof space->base.geometry + 16];
    snprintf(keys, sizeof keys, "geometry=%s", text);
    return add_value(&space->axis[MOE_TUNE_GEOMETRY], keys, (int)kind, at, err);
}

static enum moe_status add_grids(struct moe_tune_space *space, const struct moe_model *model,
                                 uint64_t slots, struct moe_err *err)
{
    enum { MOST_GRIDS = 16 };
    const uint64_t n_layers = model->n_layers, n_experts = model->n_experts;
    /* With many experts not every number of ways: steps grow with it. */
    const uint64_t step = n_experts / MOST_GRIDS;
    const uint64_t share = slots / n_layers, equal = share < n_experts ? share : n_experts;
    enum moe_status s = MOE_OK;
    char text[64];
    for (uint64_t m = 1; !s && m <= n_experts && m <= slots;
         m += 1 + (step ? m * 2 / MOST_GRIDS : 0)) {
        uint64_t n = slots / m < n_layers ? slots / m : n_layers;
        snprintf(text, sizeof text, "%" PRIu64 "x%" PRIu64, n, m);
        s = moe_tune_add_geometry(space, text, MOE_TUNE_UNIFORM, NULL, err);
    }
    if (!s && equal) {
        snprintf(text, sizeof text, "%" PRIu64 "x%" PRIu64, n_layers, equal);
        s = moe_tune_add_geometry(space, text, MOE_TUNE_UNIFORM, NULL, err);
    }
    return s;
}

enum moe_status moe_tune_add_geometries(struct moe_tune_space *space, const struct moe_model *model,
                                        uint64_t slots, struct moe_err *err)
{
    const uint64_t n_layers = model->n_layers, n_experts = model->n_experts;
    char text[64];
    if (n_layers == 0 || n_experts == 0)
        return MOE_OK;
    enum moe_status s = add_grids(space, model, slots, err);
    uint64_t pool = slots < n_layers * n_experts ? slots : n_layers * n_experts;
    snprintf(text, sizeof text, "global:%" PRIu64, pool);
    if (!s && pool)
        s = moe_tune_add_geometry(space, text, MOE_TUNE_POOLS, NULL, err);
    if (!s && slots >= n_layers * n_experts)
        s = moe_tune_add_geometry(space, "all", MOE_TUNE_WHOLE, NULL, err);
    if (!s && slots >= n_experts && slots < n_layers * n_experts) {
        snprintf(text, sizeof text, "ncmoe:%" PRIu64, n_layers - slots / n_experts);
        s = moe_tune_add_geometry(space, text, MOE_TUNE_WHOLE, NULL, err);
    }
    return s;
}

uint64_t moe_tune_space_size(const struct moe_tune_space *space)
{
    uint64_t n = 1;
    for (int a = 0; a < MOE_TUNE_AXES; a++)
        if (!moe_mul_u64(n, space->axis[a].n, &n))
            return UINT64_MAX;
    return n;
}

struct moe_tune_point moe_tune_point_at(const struct moe_tune_space *space, uint64_t n)
{
    struct moe_tune_point point = {{0}};
    for (int a = MOE_TUNE_AXES; a-- > 0;) {
        const uint64_t values = space->axis[a].n ? space->axis[a].n : 1;
        point.at[a] = (uint16_t)(n % values);
        n /= values;
    }
    return point;
}

static int kind_at(const struct moe_tune_space *space, struct moe_tune_point p,
                   enum moe_tune_axis axis)
{
    return space->axis[axis].value[p.at[axis]].kind;
}

struct moe_tune_point moe_tune_canonical(const struct moe_tune_space *space,
                                         struct moe_tune_point p)
{
    int geometry = kind_at(space, p, MOE_TUNE_GEOMETRY);
    bool never = kind_at(space, p, MOE_TUNE_ADMISSION) == 1;
    if (geometry == MOE_TUNE_WHOLE)
        p.at[MOE_TUNE_POLICY] = (uint16_t)space->first_static;
    bool fixed = kind_at(space, p, MOE_TUNE_POLICY) == 1;
    if (geometry == MOE_TUNE_NO_SLOTS)
        p.at[MOE_TUNE_POLICY] = 0;
    if (geometry != MOE_TUNE_NO_SLOTS && !fixed) {
        if (never && p.at[MOE_TUNE_PREFETCHER] == 0)
            p.at[MOE_TUNE_ADMISSION] = 0; /* slots that nothing ever comes into */
        return p;
    }
    p.at[MOE_TUNE_ADMISSION] = (uint16_t)space->never;
    p.at[MOE_TUNE_PREFETCHER] = p.at[MOE_TUNE_PREFILL] = 0;
    int miss = kind_at(space, p, MOE_TUNE_DISPATCH);
    if (miss == MOE_MISS_ADMITTED)
        miss = MOE_MISS_CPU;
    p.at[MOE_TUNE_DISPATCH] = 0;
    while (kind_at(space, p, MOE_TUNE_DISPATCH) != miss)
        p.at[MOE_TUNE_DISPATCH]++;
    return p;
}

uint64_t moe_tune_point_id(struct moe_tune_point point)
{
    return moe_hash_bytes(MOE_HASH_SEED, point.at, sizeof point.at);
}

static enum moe_status apply(struct moe_strategy *strategy, const char *keys, struct moe_err *err)
{
    while (*keys) {
        char key[32], value[sizeof strategy->geometry];
        size_t n = strcspn(keys, "="), m = strcspn(keys + n + 1, "\n");
        snprintf(key, sizeof key, "%.*s", (int)n, keys);
        snprintf(value, sizeof value, "%.*s", (int)m, keys + n + 1);
        enum moe_status s = moe_strategy_set(strategy, key, value, err);
        if (s)
            return s;
        keys += n + 1 + m;
        keys += *keys == '\n';
    }
    return MOE_OK;
}

enum moe_status moe_tune_strategy(const struct moe_tune_space *space, struct moe_tune_point point,
                                  struct moe_strategy *out, struct moe_err *err)
{
    struct moe_strategy made = space->base;
    for (int a = 0; a < MOE_TUNE_AXES; a++) {
        enum moe_status s = apply(&made, space->axis[a].value[point.at[a]].keys, err);
        if (s)
            return s;
    }
    int geometry = kind_at(space, point, MOE_TUNE_GEOMETRY);
    if (kind_at(space, point, MOE_TUNE_POLICY) == 1 && geometry != MOE_TUNE_WHOLE)
        set_fitted(space, &made.policy);
    *out = made;
    return MOE_OK;
}
