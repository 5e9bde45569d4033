/* Adaptive replacement cache: T1 has the experts used once, T2 those used more often, each in order
 * of use; B1 and B2 are the ghosts, experts evicted from T1 and T2. A miss whose ghost is in B1
 * lets T1 grow at the cost of T2, one in B2 the other way round; both enter T2. */
#include "policies/key_lists.h"
#include "policies/registry.h"

enum list { T1, T2, B1, B2, N_LISTS };

struct state {
    struct moe_key_lists lists;
    uint32_t n_slots;
    double target;  /* of T1's length */
    uint32_t ghost; /* the list that remembered the newcomer: B1, B2 or MOE_NO_LIST */
    bool forget;    /* what is evicted next leaves no ghost */
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + moe_key_lists_size(env, N_LISTS);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    st->n_slots = env->n_slots;
    st->forget = true;
    moe_key_lists_init(&st->lists, env, N_LISTS, st + 1);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    moe_key_list_move(&st->lists, T2, key);
}

static double length(const struct state *st, enum list list)
{
    return moe_key_list_length(&st->lists, list);
}

/* Learns from a ghost; never declines. */
static bool wants(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    st->ghost = moe_key_list_of(&st->lists, req->key);
    if (st->ghost == MOE_NO_LIST)
        return true;
    double mine = length(st, st->ghost), other = length(st, st->ghost == B1 ? B2 : B1);
    double step = other > mine ? other / mine : 1;
    st->target += st->ghost == B1 ? step : -step;
    if (st->target < 0)
        st->target = 0;
    if (st->target > st->n_slots)
        st->target = st->n_slots;
    moe_key_list_remove(&st->lists, req->key);
    return true;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->lists.node[key].slot = slot;
    moe_key_list_push(&st->lists, st->ghost == MOE_NO_LIST ? T1 : T2, key);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t list = moe_key_list_of(&st->lists, key);
    (void)slot;
    moe_key_list_remove(&st->lists, key);
    if (!st->forget)
        moe_key_list_push(&st->lists, list == T1 ? B1 : B2, key);
    st->forget = true; /* a copy taken back is no victim: it leaves no ghost */
}

static void drop_oldest(struct state *st, enum list list)
{
    moe_key key = moe_key_list_oldest(&st->lists, list);
    if (key != MOE_NO_KEY)
        moe_key_list_remove(&st->lists, key);
}

/* Makes room for the victim's ghost; true: there is to be none, as T1 alone fills the pool: its
 * oldest is evicted. */
static bool make_ghost_room(struct state *st)
{
    double l1 = length(st, T1) + length(st, B1), l2 = length(st, T2) + length(st, B2);
    if (l1 >= st->n_slots) {
        if (length(st, B1) == 0)
            return true;
        drop_oldest(st, B1);
    } else if (l1 + l2 >= 2.0 * st->n_slots) {
        drop_oldest(st, B2);
    }
    return false;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    double t1 = length(st, T1);
    st->forget = st->ghost == MOE_NO_LIST && make_ghost_room(st);
    bool first = st->forget || length(st, T2) == 0 ||
                 (t1 > 0 && (t1 > st->target || (st->ghost == B2 && t1 == st->target)));
    moe_key key = moe_key_list_victim(&st->lists, first ? T1 : T2, req->pinned);
    if (key == MOE_NO_KEY)
        key = moe_key_list_victim(&st->lists, first ? T2 : T1, req->pinned);
    return key == MOE_NO_KEY ? MOE_NO_SLOT : st->lists.node[key].slot;
}

const struct moe_policy_ops moe_policy_arc = {
    .name = "arc",
    .summary = "adaptive replacement cache: recency and frequency lists balanced by ghosts; the "
               "target size is a real number and its steps are not rounded",
    .source = "Megiddo, Modha, FAST 2003, Fig. 4; unrounded target: libCacheSim ARC.c",
    .notes = "Some implementations round the target or its step to whole slots; here neither is "
             "rounded, as in libCacheSim, and hits differ in small pools. A miss that the "
             "admission rule refuses changes nothing, its ghost stays. Where the list that "
             "should give up its oldest has only pinned ones, the other does. A prefetched copy "
             "that is taken back leaves no ghost.",
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .wants = wants,
    .victim = victim,
};
