/* Wraps any policy and checks that the cache calls it in the contract's order and that it names
 * only slots that it may name. One policy at a time (static state). */
#ifndef MOELAB_TESTS_POLICY_SPY_H
#define MOELAB_TESTS_POLICY_SPY_H

#include "tests/unit/event_trace.h"

struct spy {
    uint32_t n_slots;
    _Alignas(16) moe_key key[64]; /* what the policy was told is in each slot */
    _Alignas(16) unsigned char inner[];
};

static const struct moe_policy_ops *spied;
static uint64_t n_overwritten; /* pinned slots named, by a policy that is allowed to */
static uint32_t n_pinned;      /* pinned slots when a victim was last asked for */

static size_t spy_size(const struct moe_policy_env *env)
{
    return sizeof(struct spy) + spied->state_size(env);
}

static void spy_init(void *state, const struct moe_policy_env *env)
{
    struct spy *spy = state;
    ck_assert_uint_le(env->n_slots, 64);
    spy->n_slots = env->n_slots;
    for (uint32_t s = 0; s < 64; s++)
        spy->key[s] = MOE_NO_KEY;
    spied->init(spy->inner, env);
}

static void spy_on_route(void *state, const struct moe_route *route)
{
    struct spy *spy = state;
    for (uint32_t i = 0; i < route->n; i++) {
        REQUIRE((route->slot[i] == MOE_NO_SLOT) == (route->access[i] == MOE_MISS));
        REQUIRE(route->slot[i] < (int)spy->n_slots);
    }
    if (spied->on_route)
        spied->on_route(spy->inner, route);
}

static void spy_on_hit(void *state, moe_slot slot, moe_key key)
{
    struct spy *spy = state;
    REQUIRE(spy->key[slot] == key);
    if (spied->on_hit)
        spied->on_hit(spy->inner, slot, key);
}

static void spy_on_insert(void *state, moe_slot slot, moe_key key)
{
    struct spy *spy = state;
    REQUIRE(spy->key[slot] == MOE_NO_KEY);
    spy->key[slot] = key;
    spied->on_insert(spy->inner, slot, key);
}

static void spy_on_evict(void *state, moe_slot slot, moe_key key)
{
    struct spy *spy = state;
    REQUIRE(spy->key[slot] == key);
    spy->key[slot] = MOE_NO_KEY;
    if (spied->on_evict)
        spied->on_evict(spy->inner, slot, key);
}

static void spy_on_sequence(void *state)
{
    struct spy *spy = state;
    if (spied->on_sequence)
        spied->on_sequence(spy->inner);
}

static void spy_on_step(void *state)
{
    struct spy *spy = state;
    if (spied->on_step)
        spied->on_step(spy->inner);
}

static bool spy_wants(void *state, const struct moe_victim_req *req)
{
    struct spy *spy = state;
    return !spied->wants || spied->wants(spy->inner, req);
}

static moe_slot spy_victim(void *state, const struct moe_victim_req *req)
{
    struct spy *spy = state;
    moe_slot v = spied->victim(spy->inner, req);
    n_pinned = 0;
    for (uint32_t i = 0; i < spy->n_slots; i++)
        n_pinned += req->pinned[i] != 0;
    if (v == MOE_NO_SLOT)
        return v;
    REQUIRE(v < (int)spy->n_slots);
    REQUIRE(spy->key[v] != MOE_NO_KEY);
    if (spied->flags & MOE_POLICY_IGNORES_PINS)
        n_overwritten += req->pinned[v] != 0;
    else if (spied->flags & MOE_POLICY_MAY_DROP_EVENT)
        REQUIRE((req->pinned[v] & ~MOE_PIN_EVENT) == 0);
    else
        REQUIRE(req->pinned[v] == 0);
    return v;
}

static struct moe_policy_spec spy_on(const struct moe_policy_spec *spec, struct moe_policy_ops *ops)
{
    struct moe_policy_spec out = *spec;
    spied = spec->ops;
    *ops = *spied;
    ops->state_size = spy_size;
    ops->init = spy_init;
    ops->on_sequence = spy_on_sequence;
    ops->on_step = spy_on_step;
    ops->on_route = spy_on_route;
    ops->on_hit = spy_on_hit;
    ops->on_insert = spy_on_insert;
    ops->on_evict = spy_on_evict;
    ops->wants = spy_wants;
    ops->victim = spy_victim;
    ops->victims = NULL;
    out.ops = ops;
    return out;
}

#endif
