/* opt-time: knows the future and what operations take, and keeps the experts whose next hit saves
 * the most time for the time that they hold a slot.
 *
 * Model: with h of its n experts on the GPU, a layer takes
 *     T(h) = max(cpu(n - h), h gpu_expert),  cpu(0) = 0, cpu(m) = down + m cpu_expert + up,
 * for one token; copies take nothing. n is the model's top-k, or where more experts that may be
 * kept have that event as next use, their number. The expert's value is what its
 * next use saves by being a hit, given which others of that use's event are kept:
 *     T(h) - T(h + 1),  h: other experts kept whose next use is the same event.
 * It may be negative, where the GPU computes its hits longer than the CPU the rest.
 * Rule, at each event: of the residents and the event's experts, give up the one with the smallest
 * value for each event until its next use, and count the values of its companions anew, until all
 * that are left have a slot. A newcomer whose value is not positive is not taken even into a free
 * slot; one that lies there with such a value stays until the slot is wanted.
 *
 * What it is not: optimal, even in this model. Values for a time are packed greedily (where all are
 * equal this is Belady's rule, which packs best); experts that will be fetched between now and the
 * next use do not count as companions; a shared event's hits are added one by one. Nor does it see
 * what the model leaves out: time of copies, DRAM, other places of the experts. So a run can beat
 * it. tests/unit/test_opt_time.c says how far it is from the best on small cases.
 *
 * Events are told apart by their ordinals (policies/future.h), of which a forward pass has one for
 * each layer. Under the access contract each access is an event of its own: values are equal. */
#include "policies/registry.h"

#include "policies/cost.h"

/* An expert that may stay. */
struct candidate {
    uint32_t next_use;
    moe_slot slot; /* MOE_NO_SLOT: missed by the event under way */
    bool kept, may_go;
    uint32_t n_with;  /* others kept whose next use is the same event */
    uint32_t n_event; /* candidates of that event, this one and those given up among them */
};

struct missed {
    moe_key key;
    uint32_t next_use;
};

struct state {
    uint32_t n_slots, n_layers, n_experts, top_k;
    double cpu_ns, gpu_ns, state_ns;
    uint32_t pass;    /* ordinal of the first event of the forward pass */
    uint32_t now;     /* of the event under way */
    uint32_t pending; /* next use of the newcomer that asked last */
    moe_slot victim;  /* to make room for it, or MOE_NO_SLOT */
    bool begun;
    uint32_t n_missed, n_candidates;
    uint32_t *next_use;           /* [n_slots] */
    struct missed *missed;        /* [E] gate order */
    struct candidate candidate[]; /* [n_slots + E]; next_use and missed lie behind it */
};

static size_t state_size(const struct moe_policy_env *env)
{
    size_t n = (size_t)env->n_slots + env->n_experts;
    return sizeof(struct state) + n * sizeof(struct candidate) + env->n_slots * sizeof(uint32_t) +
           env->n_experts * sizeof(struct missed);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct moe_costs *costs = env->costs;
    st->n_slots = env->n_slots;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    st->top_k = env->top_k;
    st->next_use = (uint32_t *)(st->candidate + env->n_slots + env->n_experts);
    st->missed = (struct missed *)(st->next_use + env->n_slots);
    st->cpu_ns = costs ? (double)costs->cpu_expert_ns : 1; /* without costs every hit is worth 1 */
    st->gpu_ns = costs ? (double)costs->gpu_expert_ns : 0;
    if (costs && costs->platform)
        st->state_ns =
            (double)moe_cost_state_down_ns(costs, 1) + (double)moe_cost_state_up_ns(costs, 1);
}

static void on_step(void *state)
{
    struct state *st = state;
    st->pass += st->begun ? st->n_layers : 0;
    st->begun = true;
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    st->n_missed = 0;
    st->now = st->pass + route->layer;
    for (uint32_t i = 0; i < route->n; i++) {
        uint32_t next_use = route->next_use ? route->next_use[i] : MOE_NEVER;
        moe_slot slot = route->slot[i];
        if (slot == MOE_NO_SLOT) {
            moe_key key = route->layer * st->n_experts + route->expert[i];
            st->missed[st->n_missed++] = (struct missed){key, next_use};
            continue;
        }
        /* What was to be used next at this event tells its ordinal: counting may have begun late,
         * or ordinals count accesses. */
        if (st->next_use[slot] != MOE_NEVER && st->next_use[slot] > st->now) {
            st->now = st->next_use[slot];
            st->pass = st->now - route->layer;
        }
        st->next_use[slot] = next_use;
    }
}

/* T(h) of the file's head. */
static double layer_ns(const struct state *st, uint32_t n, uint32_t n_hits)
{
    double misses = (double)(n - n_hits);
    double cpu = misses > 0 ? st->state_ns + misses * st->cpu_ns : 0;
    double gpu = (double)n_hits * st->gpu_ns;
    return cpu > gpu ? cpu : gpu;
}

static double value(const struct state *st, const struct candidate *c)
{
    if (c->next_use == MOE_NEVER)
        return 0;
    uint32_t n = c->n_event > st->top_k ? c->n_event : st->top_k;
    return layer_ns(st, n, c->n_with) - layer_ns(st, n, c->n_with + 1);
}

/* Value for each event that the slot is held. Experts that are never used again come last. */
static double worth(const struct state *st, const struct candidate *c)
{
    double held = c->next_use > st->now ? (double)(c->next_use - st->now) : 1;
    return value(st, c) / held;
}

static void add_candidate(struct state *st, uint32_t next_use, moe_slot slot, bool may_go)
{
    struct candidate *c = &st->candidate[st->n_candidates];
    *c = (struct candidate){
        .next_use = next_use, .slot = slot, .kept = true, .may_go = may_go, .n_event = 1};
    for (uint32_t i = 0; i < st->n_candidates && next_use != MOE_NEVER; i++) {
        if (st->candidate[i].next_use == next_use) {
            st->candidate[i].n_with++;
            st->candidate[i].n_event++;
            c->n_with++;
            c->n_event++;
        }
    }
    st->n_candidates++;
}

/* Is a worth less than b? Of equals the one used later goes, then the one that is not there yet. */
static bool goes_before(const struct state *st, const struct candidate *a,
                        const struct candidate *b)
{
    double worth_a = worth(st, a), worth_b = worth(st, b);
    if (worth_a != worth_b)
        return worth_a < worth_b;
    if (a->next_use != b->next_use)
        return a->next_use > b->next_use;
    return (a->slot == MOE_NO_SLOT) && b->slot != MOE_NO_SLOT;
}

static struct candidate *next_to_go(struct state *st)
{
    struct candidate *first = NULL;
    for (uint32_t i = 0; i < st->n_candidates; i++) {
        struct candidate *c = &st->candidate[i];
        if (c->kept && c->may_go && (!first || goes_before(st, c, first)))
            first = c;
    }
    return first;
}

static void give_up(struct state *st, struct candidate *gone)
{
    gone->kept = false;
    for (uint32_t i = 0; i < st->n_candidates && gone->next_use != MOE_NEVER; i++)
        st->candidate[i].n_with -= &st->candidate[i] != gone && st->candidate[i].kept &&
                                   st->candidate[i].next_use == gone->next_use;
    if (gone->slot != MOE_NO_SLOT && st->victim == MOE_NO_SLOT)
        st->victim = gone->slot;
}

/* The residents, the newcomer, and the misses of the event that will ask after it; the newcomer's
 * index. Those that asked before lie in slots, or were declined. */
static uint32_t list_candidates(struct state *st, const struct moe_victim_req *req)
{
    uint32_t i = 0;
    st->n_candidates = 0;
    for (uint32_t s = 0; s < st->n_slots; s++)
        if (!(req->pinned[s] & MOE_PIN_EMPTY))
            add_candidate(st, st->next_use[s], (moe_slot)s, !(req->pinned[s] & ~MOE_PIN_EVENT));
    uint32_t mine = st->n_candidates;
    add_candidate(st, req->next_use, MOE_NO_SLOT, true);
    while (i < st->n_missed && st->missed[i].key != req->key)
        i++;
    for (i++; i < st->n_missed; i++)
        add_candidate(st, st->missed[i].next_use, MOE_NO_SLOT, true);
    return mine;
}

static bool wants(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    uint32_t mine = list_candidates(st, req);
    st->pending = req->next_use;
    st->victim = MOE_NO_SLOT;
    for (uint32_t n = st->n_candidates; n > st->n_slots; n--) {
        struct candidate *gone = next_to_go(st);
        if (!gone || gone == &st->candidate[mine])
            return false;
        give_up(st, gone);
    }
    return value(st, &st->candidate[mine]) > 0;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->next_use[slot] = st->pending;
    st->victim = MOE_NO_SLOT;
}

/* Pools limited by bytes may want more room than slots tell: then what is used last goes. */
static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot gone = st->victim;
    for (uint32_t s = 0; s < st->n_slots && st->victim == MOE_NO_SLOT; s++)
        if (!(req->pinned[s] & ~MOE_PIN_EVENT) && st->next_use[s] > req->next_use &&
            (gone == MOE_NO_SLOT || st->next_use[s] > st->next_use[gone]))
            gone = (moe_slot)s;
    st->victim = MOE_NO_SLOT;
    return gone;
}

const struct moe_policy_ops moe_policy_opt_time = {
    .name = "opt-time",
    .summary = "knows the future and the costs: keeps what saves most time for its stay (greedy)",
    .source = "ours: Belady's rule (opt) with hits weighed by the time they save",
    .notes = "Greedy, event by event: no proven bound (`moelab sim` prints one that is).",
    .needs = MOE_NEEDS_FUTURE | MOE_NEEDS_COSTS,
    .flags = MOE_POLICY_MAY_DROP_EVENT,
    .state_size = state_size,
    .init = init,
    .on_step = on_step,
    .on_route = on_route,
    .on_insert = on_insert,
    .wants = wants,
    .victim = victim,
};
