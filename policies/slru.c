/* Segmented LRU: equal segments, each in order of use. A hit moves an expert up one segment; if
 * that is full its oldest moves down, and so on. The oldest of the lowest segment is evicted. */
#include "policies/key_lists.h"
#include "policies/registry.h"

enum { MAX_SEGMENTS = 16 };

struct params {
    uint64_t segments;
};

struct state {
    struct moe_key_lists lists; /* one for each segment, 0: the lowest */
    uint32_t n, lowest, size;   /* number of segments; slots of the lowest; of each other one */
};

static const struct moe_param table[] = {
    {.name = "segments",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, segments),
     .default_text = "4",
     .min = 2,
     .max = MAX_SEGMENTS,
     .unit = "segments",
     .help = "equal parts of the pool (2: probation and protection, as in the paper)"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + moe_key_lists_size(env, MAX_SEGMENTS);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n = (uint32_t)params->segments;
    st->size = env->n_slots / st->n;
    st->lowest = env->n_slots - (st->n - 1) * st->size;
    moe_key_lists_init(&st->lists, env, st->n, st + 1);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t top = moe_key_list_of(&st->lists, key);
    (void)slot;
    top += top + 1 < st->n;
    moe_key_list_move(&st->lists, top, key);
    for (; top > 0 && moe_key_list_length(&st->lists, top) > st->size; top--)
        moe_key_list_move(&st->lists, top - 1, moe_key_list_oldest(&st->lists, top));
}

/* The segment that a newcomer enters: the lowest with room, or the lowest of all if none has room
 * (in a byte-limited pool). */
static uint32_t entrance(const struct state *st)
{
    for (uint32_t s = 0; s < st->n; s++)
        if (moe_key_list_length(&st->lists, s) < (s ? st->size : st->lowest))
            return s;
    return 0;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->lists.node[key].slot = slot;
    moe_key_list_push(&st->lists, entrance(st), key);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    moe_key_list_remove(&st->lists, key);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    for (uint32_t s = 0; s < st->n; s++) {
        moe_key key = moe_key_list_victim(&st->lists, s, req->pinned);
        if (key != MOE_NO_KEY)
            return st->lists.node[key].slot;
    }
    return MOE_NO_SLOT;
}

const struct moe_policy_ops moe_policy_slru = {
    .name = "slru",
    .summary =
        "segmented LRU: a hit moves an expert up one segment; evicts the oldest of the lowest "
        "segment; while the pool fills, a newcomer enters the lowest segment with room",
    .source = "Karedla et al., IEEE Computer 27(3), 1994; segments and filling: libCacheSim SLRU.c",
    .notes = "The paper has two segments, libCacheSim four of equal size: the default here. Of n "
             "slots a segment has floor(n / `segments`), the lowest the rest as well. An expert "
             "that climbs into a full segment sends that one's oldest down, as the newest of the "
             "segment below, which if it is now too full sends its own oldest down, and so on; "
             "in the highest a hit makes it the newest. Where all of a segment is pinned, the "
             "oldest of the next higher one goes. libCacheSim leaves slots empty where the "
             "segments do not divide them, and its hits differ there.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
