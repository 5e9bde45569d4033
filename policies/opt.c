/* OPT (Belady): knows when every expert is used next.
 *
 * admit=bypass decides for each event which of the pool's experts and the event's own stay: the
 * n_slots with the nearest next use. No way to retain has more hits (equal sizes; both contracts:
 * an expert kept from one use to its next is an interval, and dropping the one that ends last
 * whenever too many overlap keeps the most intervals). An expert that is never used again is not
 * taken, not even into a free slot: no hit is lost and a copy is saved. Among equals the resident
 * stays; of equal residents the lowest slot goes.
 * admit=forced must take every missed expert and gives up the unpinned one used furthest ahead:
 * the best of all policies that never decline, where an event fits the pool. */
#include "policies/registry.h"

struct params {
    int forced;
};

/* A missed expert of the event under way. */
struct missed {
    moe_key key;
    uint32_t next_use;
};

struct state {
    uint32_t n_slots, n_experts, forced;
    uint32_t pending; /* next use of the newcomer that asked last */
    uint32_t n_missed;
    struct missed *missed; /* [E] gate order; lies behind next_use */
    uint32_t next_use[];   /* [n_slots] */
};

static const struct moe_param table[] = {
    {.name = "admit",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, forced),
     .default_text = "bypass",
     .choices = "bypass|forced",
     .help = "bypass: decline an expert used later than all residents; forced: take every one"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots * sizeof(uint32_t) +
           env->n_experts * sizeof(struct missed);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->n_experts = env->n_experts;
    st->forced = (uint32_t)params->forced;
    st->missed = (struct missed *)(st->next_use + env->n_slots); /* both of 4-byte alignment */
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    st->n_missed = 0;
    for (uint32_t i = 0; i < route->n; i++) {
        uint32_t next_use = route->next_use ? route->next_use[i] : MOE_NEVER;
        moe_key key = route->layer * st->n_experts + route->expert[i];
        if (route->slot[i] != MOE_NO_SLOT)
            st->next_use[route->slot[i]] = next_use;
        else
            st->missed[st->n_missed++] = (struct missed){key, next_use};
    }
}

/* A bypassing OPT may give up an expert of the event itself, a forced one only unpinned ones. */
static bool may_give_up(const struct state *st, uint8_t pinned)
{
    return st->forced ? !pinned : !(pinned & ~MOE_PIN_EVENT);
}

/* Experts that keep their place before the newcomer: residents that cannot go or are used no later,
 * and misses of this event still to come that are used sooner. */
static uint32_t count_before(const struct state *st, const struct moe_victim_req *req)
{
    uint32_t n = 0, i = 0;
    for (uint32_t s = 0; s < st->n_slots; s++)
        n += !(req->pinned[s] & MOE_PIN_EMPTY) &&
             (!may_give_up(st, req->pinned[s]) || st->next_use[s] <= req->next_use);
    while (i < st->n_missed && st->missed[i].key != req->key)
        i++;
    for (i++; i < st->n_missed; i++)
        n += st->missed[i].next_use < req->next_use;
    return n;
}

static bool wants(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    st->pending = req->next_use;
    return st->forced || (req->next_use != MOE_NEVER && count_before(st, req) < st->n_slots);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->next_use[slot] = st->pending;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < st->n_slots; s++)
        if (may_give_up(st, req->pinned[s]) &&
            (best == MOE_NO_SLOT || st->next_use[s] > st->next_use[best]))
            best = (moe_slot)s;
    /* Only a byte-limited pool can come here with a newcomer that is used later than all. */
    if (best != MOE_NO_SLOT && !st->forced && st->next_use[best] <= req->next_use)
        return MOE_NO_SLOT;
    return best;
}

const struct moe_policy_ops moe_policy_opt = {
    .name = "opt",
    .summary = "knows the future: gives up the expert used furthest ahead (bound, not a design)",
    .source = "Belady, A study of replacement algorithms for a virtual-storage computer, 1966",
    .notes = "Two bounds go by Belady's name. `admit=bypass` may leave a newcomer out, and may "
             "drop an expert of the event under way: no decisions have more hits. `admit=forced` "
             "takes every miss, as all designs without an admission rule must: what is left "
             "between it and a policy is the victim's part alone.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_FUTURE,
    .flags = MOE_POLICY_MAY_DROP_EVENT,
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .wants = wants,
    .victim = victim,
};
