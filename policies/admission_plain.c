/* Rules that do not look at the expert: all are fetched, none, at most so many in a forward pass,
 * at most so many at a time, or a share drawn at random. */
#include "policies/admission_rules.h"

#include "base/rng.h"

#include <string.h>

static bool admit_always(void *state, const struct moe_admit_req *req)
{
    (void)state;
    (void)req;
    return true;
}

static bool admit_never(void *state, const struct moe_admit_req *req)
{
    (void)state;
    (void)req;
    return false;
}

/* --- quota ---------------------------------------------------------------------------------- */

struct quota_params {
    uint64_t quota;
    int off_by_one;
};

struct quota_state {
    struct quota_params params;
    uint64_t left;
};

static const struct moe_param quota_table[] = {
    {.name = "quota",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct quota_params, quota),
     .default_text = "64",
     .max = 1e9,
     .unit = "fetches per forward pass",
     .help = "most missed experts to fetch in one forward pass"},
    {.name = "off_by_one",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct quota_params, off_by_one),
     .default_text = "off",
     .help =
         "as in the reference code: counts down before it tests, so quota q lets q - 1 through"},
    {0},
};

static size_t quota_size(const struct moe_admission_env *env)
{
    (void)env;
    return sizeof(struct quota_state);
}

static void quota_init(void *state, const struct moe_admission_env *env)
{
    struct quota_state *s = state;
    memcpy(&s->params, env->params, sizeof s->params);
    s->left = s->params.quota;
}

static void quota_step(void *state)
{
    struct quota_state *s = state;
    s->left = s->params.quota;
}

static bool quota_admit(void *state, const struct moe_admit_req *req)
{
    struct quota_state *s = state;
    (void)req;
    if (s->left == 0)
        return false;
    s->left--;
    return s->params.off_by_one ? s->left > 0 : true;
}

/* --- queue limit ---------------------------------------------------------------------------- */

struct queue_params {
    uint64_t longest;
};

static const struct moe_param queue_table[] = {
    {.name = "longest",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct queue_params, longest),
     .default_text = "4",
     .max = 1e9,
     .unit = "copies",
     .help = "at most this many copies into slots may be queued or running; one more is dropped"},
    {0},
};

static size_t queue_size(const struct moe_admission_env *env)
{
    (void)env;
    return sizeof(struct queue_params);
}

static void queue_init(void *state, const struct moe_admission_env *env)
{
    memcpy(state, env->params, sizeof(struct queue_params));
}

static bool queue_admit(void *state, const struct moe_admit_req *req)
{
    const struct queue_params *s = state;
    return req->copies < s->longest;
}

/* --- probabilistic -------------------------------------------------------------------------- */

struct chance_params {
    double share;
};

struct chance_state {
    struct moe_rng rng;
    double share;
};

static const struct moe_param chance_table[] = {
    {.name = "share",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct chance_params, share),
     .default_text = "0.5",
     .max = 1,
     .help =
         "probability that a missed expert is fetched, drawn independently (seed: the strategy's)"},
    {0},
};

static size_t chance_size(const struct moe_admission_env *env)
{
    (void)env;
    return sizeof(struct chance_state);
}

static void chance_init(void *state, const struct moe_admission_env *env)
{
    struct chance_state *s = state;
    const struct chance_params *params = env->params;
    moe_rng_init(&s->rng, moe_mix64(env->seed));
    s->share = params->share;
}

static bool chance_admit(void *state, const struct moe_admit_req *req)
{
    struct chance_state *s = state;
    (void)req;
    return moe_rng_unit(&s->rng) < s->share;
}

const struct moe_admission_ops moe_admission_always = {
    .name = "always",
    .summary = "every missed expert is fetched",
    .source = "arXiv 2512.16473 section III (post-fetching)",
    .admit = admit_always,
};

const struct moe_admission_ops moe_admission_never = {
    .name = "never",
    .summary = "no missed expert is fetched",
    .source = "the limit of every admission rule",
    .notes = "With a policy that begins with nothing, nothing is ever resident: the CPU alone, "
             "unless prefetched.",
    .admit = admit_never,
};

const struct moe_admission_ops moe_admission_quota = {
    .name = "quota",
    .summary = "at most `quota` missed experts are fetched in a forward pass",
    .source = "elsa-lab/MoE-CPU-GPU-Collaborative-Inference src/model.py (cache quota)",
    .notes =
        "The reference code counts down before it tests: its quota q lets q - 1 fetches through "
        "(`off_by_one=on`). The quota holds for a forward pass (a prompt or a token), not for a "
        "layer. Every miss that it lets through counts, even if it then gets no slot.",
    .params = quota_table,
    .params_size = sizeof(struct quota_params),
    .state_size = quota_size,
    .init = quota_init,
    .on_step = quota_step,
    .admit = quota_admit,
};

const struct moe_admission_ops moe_admission_queue_limit = {
    .name = "queue-limit",
    .summary = "a missed expert is fetched unless `longest` copies are queued or running",
    .source = "ours: copying every miss builds a backlog where a token is shorter than its copies",
    .notes = "Two machines may decide differently even if no expert is late, because it sees when "
             "copies land.",
    .params = queue_table,
    .params_size = sizeof(struct queue_params),
    .flags = MOE_ADMISSION_ON_TIME,
    .state_size = queue_size,
    .init = queue_init,
    .admit = queue_admit,
};

const struct moe_admission_ops moe_admission_probabilistic = {
    .name = "probabilistic",
    .summary = "a missed expert is fetched with a set probability (seeded)",
    .source = "1a1a11a/libCacheSim libCacheSim/cache/admission/prob.c",
    .notes = "There is one draw u for each miss in a layer that has slots, in the order of the "
             "lookups and before the policy is asked, whether a slot is empty or not; the expert "
             "is fetched if u is below `share`.",
    .params = chance_table,
    .params_size = sizeof(struct chance_params),
    .state_size = chance_size,
    .init = chance_init,
    .admit = chance_admit,
};
