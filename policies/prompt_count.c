/* Prompt count: evicts the expert that the fewest tokens of the sequence's prompt used, and only
 * for one that more than `ratio` times as many used. Uses in decode do not count: what the prompt
 * used most stays then, and may still be inserted. With the prefetcher prompt-swap and admission
 * never this is DAOP's allocation for each sequence. Begins with a hot list, as static does. */
#include "policies/registry.h"

#include "policies/hot_list.h"
#include "policies/slot_tree.h"

#include <string.h>

struct params {
    double ratio;
    char list[1024];
};
_Static_assert(sizeof(struct params) <= MOE_POLICY_PARAMS_MAX, "parameters of 'prompt-count'");

static const struct moe_param params[] = {
    {.name = "ratio",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, ratio),
     .default_text = "1.05",
     .max = 1e9,
     .unit = "1",
     .help = "a newcomer must have more than this many times the tokens of the expert that it "
             "replaces"},
    {.name = "list",
     .type = MOE_PARAM_STRING,
     .offset = offsetof(struct params, list),
     .default_text = "",
     .size = sizeof((struct params *)0)->list,
     .help = "hot list, as `moelab trace stats --hot-list` writes it; none: the first experts"},
    {0},
};

struct state {
    double ratio;
    uint32_t n_slots, n_experts;
    size_t n_keys;
    struct moe_slot_tree tree; /* by tokens; empty slots have the highest rank */
    uint32_t *tokens;          /* [L * E] of the prompt that used the expert; behind the tree */
};

static size_t state_size(const struct moe_policy_env *env)
{
    const size_t keys = (size_t)env->n_layers * env->n_experts;
    return sizeof(struct state) + keys * sizeof(uint32_t) + moe_slot_tree_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *s = state;
    s->ratio = ((const struct params *)env->params)->ratio;
    s->n_slots = env->n_slots;
    s->n_experts = env->n_experts;
    s->n_keys = (size_t)env->n_layers * env->n_experts;
    s->tokens = (uint32_t *)((char *)(s + 1) + moe_slot_tree_size(env));
    moe_slot_tree_init(&s->tree, env, s + 1);
}

static void on_sequence(void *state)
{
    struct state *s = state;
    memset(s->tokens, 0, s->n_keys * sizeof *s->tokens);
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (moe_slot_tree_first(&s->tree, (moe_slot)i) != UINT64_MAX)
            moe_slot_tree_put_first(&s->tree, i, 0);
    moe_slot_tree_build(&s->tree);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *s = state;
    uint32_t *tokens = s->tokens + (size_t)route->layer * s->n_experts;
    if (route->phase != MOE_PREFILL)
        return;
    for (uint32_t i = 0; i < route->n; i++) {
        uint32_t *count = &tokens[route->expert[i]];
        *count += route->tokens ? route->tokens[i] : 1;
        if (route->slot[i] != MOE_NO_SLOT)
            moe_slot_tree_set(&s->tree, route->slot[i], (struct moe_rank){*count, 0});
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *s = state;
    moe_slot_tree_set(&s->tree, slot, (struct moe_rank){s->tokens[key], 0});
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *s = state;
    (void)key;
    moe_slot_tree_set(&s->tree, slot, (struct moe_rank){UINT64_MAX, 0});
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *s = state;
    moe_slot coldest = moe_slot_tree_victim(&s->tree, req->pinned, s->n_slots);
    bool hotter = coldest != MOE_NO_SLOT &&
                  s->tokens[req->key] > s->ratio * (double)moe_slot_tree_first(&s->tree, coldest);
    return hotter ? coldest : MOE_NO_SLOT;
}

static enum moe_status initial(const struct moe_policy_env *env, moe_key *keys, uint32_t *n,
                               struct moe_err *err)
{
    const struct params *p = env->params;
    return moe_hot_list_or_all(env, p->list, keys, n, err);
}

static const char *file(const void *given)
{
    return ((const struct params *)given)->list;
}

const struct moe_policy_ops moe_policy_prompt_count = {
    .name = "prompt-count",
    .summary = "slots keep what the sequence's prompt used most; uses in decode do not count",
    .source = "arXiv 2501.10375 (DAOP) and ecolab-nus/DAOP 08fef33, model/modeling_daop.py: "
              "hot_experts, cold_experts",
    .notes = "DAOP swaps the i-th hottest missing expert for the i-th coldest resident one; "
             "hottest first against the coldest left, as the prefetcher `prompt-swap` asks here, "
             "makes the same pairs, but for two things: equally cold ones go by number there and "
             "by slot here; and its coldest have among them missing experts that no token used, "
             "whose pairs swap nothing. A replay has misses alone to ask: those of a prompt, in "
             "the order of first use, and those of decode, which may still bring in what the "
             "prompt used more. It begins with what `static` begins with.",
    .params = params,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SEQUENCE,
    .state_size = state_size,
    .init = init,
    .on_sequence = on_sequence,
    .on_route = on_route,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
    .initial = initial,
    .file = file,
};
