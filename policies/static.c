/* Static placement: the slots keep their initial content for ever. */
#include "policies/registry.h"

#include "base/rng.h"
#include "policies/hot_list.h"

enum choose { BY_LIST, FIRST, AT_RANDOM };

struct params {
    int choose;
    char list[1024];
};
_Static_assert(sizeof(struct params) <= MOE_POLICY_PARAMS_MAX, "parameters of 'static'");

static const struct moe_param params[] = {
    {.name = "choose",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, choose),
     .default_text = "list",
     .choices = "list|first|random",
     .help = "the best of the hot list, the first experts of each layer by number, or random ones "
             "(seeded)"},
    {.name = "list",
     .type = MOE_PARAM_STRING,
     .offset = offsetof(struct params, list),
     .default_text = "",
     .size = sizeof((struct params *)0)->list,
     .help = "hot list, as `moelab trace stats --hot-list` writes it; none: the first experts"},
    {0},
};

/* There is no state, but one of 0 bytes would have no address of its own. */
static size_t state_size(const struct moe_policy_env *env)
{
    (void)env;
    return 1;
}

static void init(void *state, const struct moe_policy_env *env)
{
    (void)state;
    (void)env;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    (void)state;
    (void)slot;
    (void)key;
}

static bool wants(void *state, const struct moe_victim_req *req)
{
    (void)state;
    (void)req;
    return false;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    (void)state;
    (void)req;
    return MOE_NO_SLOT;
}

/* Every order is equally likely, and so is every set of a layer's or of the model's experts. */
static void shuffle(const struct moe_policy_env *env, moe_key *keys, uint32_t n)
{
    struct moe_rng rng;
    moe_rng_init(&rng, env->seed);
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)moe_rng_below(&rng, i);
        moe_key swap = keys[i - 1];
        keys[i - 1] = keys[j];
        keys[j] = swap;
    }
}

static enum moe_status initial(const struct moe_policy_env *env, moe_key *keys, uint32_t *n,
                               struct moe_err *err)
{
    const struct params *p = env->params;
    if (*p->list && p->choose != BY_LIST)
        return moe_fail(err, MOE_ERR_USAGE,
                        "policy 'static': list '%.200s' is not read with choose=%s; leave one out",
                        p->list, p->choose == FIRST ? "first" : "random");
    enum moe_status s = moe_hot_list_or_all(env, p->list, keys, n, err);
    if (!s && p->choose == AT_RANDOM)
        shuffle(env, keys, *n);
    return s;
}

static const char *file(const void *given)
{
    return ((const struct params *)given)->list;
}

const struct moe_policy_ops moe_policy_static = {
    .name = "static",
    .summary = "slots hold what they were given at the start; nothing else is ever fetched",
    .source = "llama.cpp -ncmoe (whole layers), Fiddler arXiv 2402.07033 (popular experts), arXiv "
              "2512.16473 Fig. 6 (random)",
    .notes = "Fitted on the trace that it is judged on, a hot list is a bound, not a design: fit "
             "it on other sequences (`moelab trace stats --hot-split`). What lies there at the "
             "start is no fill; results name it `preloads`. A pool of several layers takes "
             "expert 0 of each of them, then expert 1, and so on, where it goes by number. All "
             "misses count as `bypasses`.",
    .params = params,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_insert = on_insert,
    .wants = wants,
    .victim = victim,
    .initial = initial,
    .file = file,
};
