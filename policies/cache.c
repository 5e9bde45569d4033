/* The cache directory: making, clearing and freeing one, and the queries. */
#include "policies/cache_state.h"

#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

enum { STATE_ALIGN = 64 };

static struct moe_policy_env env_of(const struct moe_cache *c, uint32_t n_slots, uint64_t seed)
{
    const struct moe_geometry *g = c->geometry;
    return (struct moe_policy_env){.n_slots = n_slots,
                                   .n_layers = g->n_layers,
                                   .n_experts = g->n_experts,
                                   .top_k = c->top_k,
                                   .seed = moe_mix64(seed),
                                   .params = c->policy.params,
                                   .costs = c->policy.costs,
                                   .file = c->policy.file};
}

static struct moe_policy_env policy_env(const struct moe_cache *c, uint32_t pool)
{
    /* A seed of its own for every pool, and a new one each time the cache is cleared. */
    return env_of(c, c->geometry->pool[pool].n_slots, c->seed ^ moe_mix64(c->clears << 32 | pool));
}

/* Empties all slots and starts the policies anew: what moe_cache_new and moe_cache_clear share. */
static void reset(struct moe_cache *c)
{
    const struct moe_geometry *g = c->geometry;
    for (size_t k = 0; k < (size_t)g->n_layers * g->n_experts; k++)
        c->slot_of[k] = MOE_NO_SLOT;
    memset(c->pinned, MOE_PIN_EMPTY, g->n_slots);
    c->n_event_slots = c->n_flight = c->n_copies = 0;
    for (uint32_t p = 0; p < g->n_pools; p++) {
        struct moe_cache_pool *pool = &c->pool[p];
        struct moe_policy_env env = policy_env(c, p);
        pool->n_empty = pool->n_slots;
        pool->lowest_empty = pool->n_flight = 0;
        pool->used_bytes = 0;
        for (uint32_t s = 0; s < pool->n_slots; s++) {
            moe_cache_end_prefetch(c, &c->slot[pool->first_slot + s]);
            c->slot[pool->first_slot + s] = (struct moe_cache_slot){.key = MOE_NO_KEY, .pool = p};
        }
        if (c->clears > 0) /* else calloc has just zeroed it */
            memset(pool->state, 0, pool->state_size);
        c->ops->init(pool->state, &env);
    }
}

/* Bytes of all policy states; false on overflow. */
static bool measure_states(struct moe_cache *c, size_t *total)
{
    *total = 0;
    for (uint32_t p = 0; p < c->geometry->n_pools; p++) {
        struct moe_policy_env env = policy_env(c, p);
        size_t size = c->ops->state_size(&env);
        size = (size + STATE_ALIGN - 1) / STATE_ALIGN * STATE_ALIGN;
        c->pool[p].state_size = size;
        if (size > SIZE_MAX / 2 - *total)
            return false;
        *total += size;
    }
    return true;
}

static bool alloc_states(struct moe_cache *c)
{
    size_t total;
    if (!measure_states(c, &total))
        return false;
    c->states = calloc(1, total + STATE_ALIGN); /* pages that no policy writes take no memory */
    if (!c->states)
        return false;
    char *at = (char *)c->states + (STATE_ALIGN - (uintptr_t)c->states % STATE_ALIGN);
    for (uint32_t p = 0; p < c->geometry->n_pools; p++) {
        c->pool[p].state = at;
        at += c->pool[p].state_size;
    }
    return true;
}

static bool alloc_arrays(struct moe_cache *c)
{
    const struct moe_geometry *g = c->geometry;
    size_t keys = (size_t)g->n_layers * g->n_experts;
    c->slot_of = calloc(keys + 1, sizeof *c->slot_of); /* + 1: calloc(0) may give NULL */
    c->slot = calloc((size_t)g->n_slots + 1, sizeof *c->slot);
    c->slot += c->slot ? 1 : 0; /* so that index -1, MOE_NO_SLOT, may be written */
    c->pinned = calloc((size_t)g->n_slots + 1, sizeof *c->pinned);
    c->pinned += c->pinned ? 1 : 0;
    c->event_slot = calloc((size_t)g->n_slots + 1, sizeof *c->event_slot);
    c->missed = calloc((size_t)g->n_experts + 1, sizeof *c->missed);
    c->victim = calloc((size_t)g->n_experts + 1, sizeof *c->victim);
    c->pool = calloc((size_t)g->n_pools + 1, sizeof *c->pool);
    c->counts = calloc(2 * (size_t)g->n_layers + 1, sizeof *c->counts);
    return c->slot_of && c->slot && c->pinned && c->event_slot && c->missed && c->victim &&
           c->pool && c->counts;
}

static enum moe_status find_initial(struct moe_cache *c, struct moe_err *err)
{
    const struct moe_geometry *g = c->geometry;
    if (!c->ops->initial)
        return MOE_OK;
    c->initial = calloc((size_t)g->n_layers * g->n_experts + 1, sizeof *c->initial);
    if (!c->initial)
        return moe_fail_memory(err, "a cache's initial content");
    struct moe_policy_env env = env_of(c, g->n_slots, c->seed);
    return c->ops->initial(&env, c->initial, &c->n_initial, err);
}

enum moe_status moe_cache_new(struct moe_cache **out, const struct moe_geometry *geometry,
                              uint32_t top_k, const struct moe_policy_spec *policy, uint64_t seed,
                              struct moe_err *err)
{
    struct moe_cache *c = calloc(1, sizeof *c);
    if (!c)
        return moe_fail_memory(err, "a cache");
    c->geometry = geometry;
    c->policy = *policy;
    c->ops = policy->ops;
    c->top_k = top_k;
    c->seed = seed;
    if (!alloc_arrays(c) || !alloc_states(c)) {
        moe_cache_free(c);
        return moe_fail_memory(err, "a cache");
    }
    for (uint32_t p = 0; p < geometry->n_pools; p++) {
        c->pool[p].first_slot = geometry->pool[p].first_slot;
        c->pool[p].n_slots = geometry->pool[p].n_slots;
        c->pool[p].bytes = geometry->pool[p].bytes;
    }
    c->now = c->counts;
    reset(c);
    enum moe_status s = find_initial(c, err);
    if (s) {
        moe_cache_free(c);
        return s;
    }
    *out = c;
    return MOE_OK;
}

void moe_cache_free(struct moe_cache *c)
{
    if (!c)
        return;
    free(c->slot_of);
    free(c->slot ? c->slot - 1 : NULL);
    free(c->pinned ? c->pinned - 1 : NULL);
    free(c->event_slot);
    free(c->missed);
    free(c->victim);
    free(c->pool);
    free(c->counts);
    free(c->states);
    free(c->initial);
    free(c);
}

void moe_cache_clear(struct moe_cache *c)
{
    c->clears++;
    c->next_initial = 0;
    reset(c);
}

void moe_cache_begin_sequence(struct moe_cache *c)
{
    for (uint32_t p = 0; p < c->geometry->n_pools && c->ops->on_sequence; p++)
        c->ops->on_sequence(c->pool[p].state);
}

void moe_cache_begin_step(struct moe_cache *c)
{
    for (uint32_t p = 0; p < c->geometry->n_pools && c->ops->on_step; p++)
        c->ops->on_step(c->pool[p].state);
}

bool moe_cache_covers(const struct moe_cache *c, uint32_t layer)
{
    return c->geometry->pool_of_layer[layer] >= 0;
}

moe_slot moe_cache_find(const struct moe_cache *c, moe_key key)
{
    return c->slot_of[key];
}

bool moe_cache_in_flight(const struct moe_cache *c, moe_slot s)
{
    return c->pinned[s] & MOE_PIN_FLIGHT;
}

bool moe_cache_copying(const struct moe_cache *c, uint32_t layer)
{
    int32_t p = c->geometry->pool_of_layer[layer];
    return p >= 0 && c->pool[p].n_flight > 0;
}

bool moe_cache_copying_any(const struct moe_cache *c)
{
    return c->n_flight > 0;
}

uint32_t moe_cache_copies(const struct moe_cache *c)
{
    return c->n_copies;
}

void moe_cache_pin(struct moe_cache *c, moe_slot s)
{
    c->slot[s].holds++;
    c->pinned[s] |= MOE_PIN_HELD;
}

void moe_cache_unpin(struct moe_cache *c, moe_slot s)
{
    if (c->slot[s].holds > 0 && --c->slot[s].holds == 0)
        c->pinned[s] &= (uint8_t)~MOE_PIN_HELD;
}

const struct moe_counts *moe_cache_counts(const struct moe_cache *c, uint32_t layer,
                                          enum moe_phase phase)
{
    return moe_cache_counts_in(c, phase) + layer;
}
