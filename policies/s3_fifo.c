/* S3-FIFO: newcomers enter a small queue; those used often enough there move on to the main queue,
 * a clock of two bits; the others are evicted and remembered for a while as ghosts. A newcomer
 * whose ghost is remembered enters the main queue. */
#include "policies/key_lists.h"
#include "policies/registry.h"

enum list { SMALL, MAIN, GHOST, N_LISTS };

enum { MAX_USES = 3 };

struct params {
    double small, ghost;
    uint64_t threshold;
};

struct state {
    struct moe_key_lists lists;
    uint32_t main_size, ghost_size, threshold;
    bool remembered; /* the newcomer was a ghost */
    bool has_victim; /* what is evicted next was named by victim */
    uint32_t *uses;  /* [n_keys] hits since the expert entered its queue */
};

static const struct moe_param table[] = {
    {.name = "small",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, small),
     .default_text = "0.1",
     .min = 0,
     .max = 1,
     .help = "share of the slots for the small queue; in a pool where that is less than one slot, "
             "main may take all"},
    {.name = "ghost",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, ghost),
     .default_text = "0.9",
     .min = 0,
     .max = 16,
     .help = "ghosts remembered, as a share of the slots"},
    {.name = "threshold",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, threshold),
     .default_text = "2",
     .min = 1,
     .max = MAX_USES,
     .unit = "hits",
     .help = "hits in the small queue that move an expert on to the main queue"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + moe_key_lists_size(env, N_LISTS) +
           moe_n_keys(env) * sizeof(uint32_t);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->main_size = env->n_slots - (uint32_t)(env->n_slots * params->small);
    st->ghost_size = (uint32_t)(env->n_slots * params->ghost);
    st->threshold = (uint32_t)params->threshold;
    moe_key_lists_init(&st->lists, env, N_LISTS, st + 1);
    st->uses = (uint32_t *)(st->lists.node + st->lists.n_keys + N_LISTS);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    st->uses[key] += st->uses[key] < MAX_USES;
}

/* Notes whether the newcomer has a ghost, and removes that; never declines. */
static bool wants(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    st->remembered = moe_key_list_of(&st->lists, req->key) == GHOST;
    if (st->remembered)
        moe_key_list_remove(&st->lists, req->key);
    return true;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->lists.node[key].slot = slot;
    st->uses[key] = 0;
    moe_key_list_push(&st->lists, st->remembered ? MAIN : SMALL, key);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    bool remember =
        st->has_victim && moe_key_list_of(&st->lists, key) == SMALL && st->ghost_size > 0;
    (void)slot;
    st->has_victim = false; /* a copy taken back is no victim: it leaves no ghost */
    moe_key_list_remove(&st->lists, key);
    if (!remember)
        return;
    if (moe_key_list_length(&st->lists, GHOST) == st->ghost_size)
        moe_key_list_remove(&st->lists, moe_key_list_oldest(&st->lists, GHOST));
    moe_key_list_push(&st->lists, GHOST, key);
}

static moe_key small_victim(struct state *st, const uint8_t *pinned)
{
    moe_key key;
    while ((key = moe_key_list_victim(&st->lists, SMALL, pinned)) != MOE_NO_KEY &&
           st->uses[key] >= st->threshold) {
        st->uses[key] = 0;
        moe_key_list_move(&st->lists, MAIN, key);
    }
    return key;
}

/* The loop ends: each round takes one use off every expert that is not pinned. */
static moe_key main_victim(struct state *st, const uint8_t *pinned)
{
    moe_key key;
    while ((key = moe_key_list_victim(&st->lists, MAIN, pinned)) != MOE_NO_KEY && st->uses[key]) {
        st->uses[key]--;
        moe_key_list_move(&st->lists, MAIN, key);
    }
    return key;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_key key = MOE_NO_KEY;
    if (moe_key_list_length(&st->lists, MAIN) <= st->main_size)
        key = small_victim(st, req->pinned);
    if (key == MOE_NO_KEY)
        key = main_victim(st, req->pinned);
    if (key == MOE_NO_KEY) /* all of the main queue is pinned */
        key = small_victim(st, req->pinned);
    if (key == MOE_NO_KEY) /* and that moved on what was left */
        key = main_victim(st, req->pinned);
    st->has_victim = key != MOE_NO_KEY;
    return key == MOE_NO_KEY ? MOE_NO_SLOT : st->lists.node[key].slot;
}

const struct moe_policy_ops moe_policy_s3_fifo = {
    .name = "s3-fifo",
    .summary = "small, main and ghost FIFO queues; the main queue is a two-bit clock; two hits in "
               "the small queue move an expert there, where its count starts again at zero",
    .source = "Yang et al., SOSP 2023, Algorithm 1; sizes and threshold: libCacheSim S3FIFO.c",
    .notes = "Implementations differ in sizes and threshold; the defaults are libCacheSim's. Of "
             "n slots the main queue's size is n - floor(`small` n), so in a pool with `small` n "
             "< 1 it is n; there are at most floor(`ghost` n) ghosts. A hit adds one, up to 3, "
             "when its turn comes in gate order; an expert that enters a queue starts with none. "
             "A newcomer that is among the ghosts leaves them before a slot is sought, whether "
             "it gets one or not, and enters main; any other enters small. When no slot is free: "
             "if main holds at most its size, small gives up its oldest that is not pinned, "
             "except that one with `threshold` hits moves to main as its newest, without its "
             "hits, and the next oldest is tried. If main holds more, or small has none left, "
             "main gives up its oldest that is not pinned, except that one with hits loses one "
             "hit and becomes the newest. If all of main is pinned, small is tried, then main "
             "again. What small gives up becomes the newest ghost (the oldest ghost goes if "
             "there are too many); what main gives up is not remembered. A miss that the "
             "admission rule refuses is no newcomer: its ghost stays. A prefetched copy that is "
             "taken back leaves no ghost. Until the first eviction newcomers enter small here even "
             "when it is larger than its size, as in libCacheSim aa0fc409; its later versions then "
             "send them to main, and keep nothing new where small has one slot, so that hits "
             "differ.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .wants = wants,
    .victim = victim,
};
