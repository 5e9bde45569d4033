/* OPT (Belady): knows when every expert is used next.
 *
 * admit=bypass keeps, after each event, those n_slots of the pool's and the event's experts whose
 * next use is nearest. No other choice has more hits, if experts have one size, under both
 * contracts: an expert kept from one use to its next is an interval, and dropping the one that ends
 * last whenever too many overlap keeps the most intervals. An expert that is never used again is
 * not taken, not even into a free slot: no hit is lost and a copy is saved. Among equals the
 * resident stays; of equal residents the lowest slot is evicted.
 *
 * admit=forced must take every missed expert and evicts the unpinned one whose next use is furthest
 * ahead: the best of all policies that never decline, where an event fits the pool. */
#include "policies/registry.h"
#include "policies/slot_uses.h"

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
    uint32_t n_residents;
    uint32_t pending; /* next use of the newcomer that asked last */
    uint32_t n_missed;
    uint8_t forbids; /* pins that keep a slot from being evicted */
    struct moe_slot_uses uses;
    struct missed missed[]; /* [E] gate order; the memory of `uses` lies behind */
};

static const struct moe_param table[] = {
    {.name = "admit",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, forced),
     .default_text = "bypass",
     .choices = "bypass|forced",
     .help = "bypass: do not load an expert whose next use is later than those of all residents; "
             "forced: load every one"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_experts * sizeof(struct missed) + moe_slot_uses_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->n_experts = env->n_experts;
    st->forced = (uint32_t)params->forced;
    /* A bypassing OPT may evict an expert of the event itself, a forced one only unpinned ones. */
    st->forbids = st->forced ? UINT8_MAX : (uint8_t)~MOE_PIN_EVENT;
    moe_slot_uses_init(&st->uses, env, st->missed + env->n_experts);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    st->n_missed = 0;
    for (uint32_t i = 0; i < route->n; i++) {
        uint32_t next_use = route->next_use ? route->next_use[i] : MOE_NEVER;
        moe_key key = route->layer * st->n_experts + route->expert[i];
        if (route->slot[i] != MOE_NO_SLOT)
            moe_slot_uses_set(&st->uses, route->slot[i], next_use);
        else
            st->missed[st->n_missed++] = (struct missed){key, next_use};
    }
}

/* Is there a slot for the newcomer? Free slots can be had, and those of residents that are used
 * later and can be evicted; but misses of this event still to come that are used sooner come first.
 */
static bool has_place(struct state *st, const struct moe_victim_req *req)
{
    uint32_t n_free = st->n_slots - st->n_residents, n_sooner = 0, i = 0;
    while (i < st->n_missed && st->missed[i].key != req->key)
        i++;
    for (i++; i < st->n_missed; i++)
        n_sooner += st->missed[i].next_use < req->next_use;
    return n_free > n_sooner ||
           moe_slot_uses_count(&st->uses, req->pinned, st->forbids, req->next_use,
                               n_sooner + 1 - n_free) > n_sooner - n_free;
}

static bool wants(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    st->pending = req->next_use;
    return st->forced || (req->next_use != MOE_NEVER && has_place(st, req));
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->n_residents++;
    moe_slot_uses_set(&st->uses, slot, st->pending);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    (void)slot;
    (void)key;
    ((struct state *)state)->n_residents--;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot best = moe_slot_uses_last(&st->uses, req->pinned, st->forbids);
    /* The newcomer may be used later than all residents only in a byte-limited pool: elsewhere
     * wants has declined it. */
    if (best != MOE_NO_SLOT && !st->forced && moe_slot_uses_of(&st->uses, best) <= req->next_use)
        return MOE_NO_SLOT;
    return best;
}

const struct moe_policy_ops moe_policy_opt = {
    .name = "opt",
    .summary = "knows the future: evicts the expert whose next use is furthest ahead (a bound, not "
               "a design)",
    .source = "Belady, A study of replacement algorithms for a virtual-storage computer, 1966",
    .notes =
        "Two bounds go by Belady's name. `admit=bypass` may leave a newcomer out, and may drop an "
        "expert of the event under way: if experts have one size, no decisions have more hits (in "
        "a pool limited in bytes whose experts differ in size, others may). `admit=forced` takes "
        "every miss, as all designs without an admission rule must: what a policy loses to it is "
        "due to the choice of victims alone, as long as every event fits into its pool. (Where one "
        "does not, which of its experts stay is a choice as well, which `forced` makes in gate "
        "order: another choice may have a few more hits.) moe-lrc's Belady forces too, but counts "
        "hits against the contents at the event's start and pins nothing afterwards: its hits lie "
        "between the two (of experts 0 1, 0 2, 1 2 it hits 3 with two slots, as `bypass` does; "
        "`forced` hits 2).",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_FUTURE,
    .flags = MOE_POLICY_MAY_DROP_EVENT,
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .wants = wants,
    .victim = victim,
};
