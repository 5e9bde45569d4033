#include "policies/admission.h"

#include "policies/spec.h"

#include <assert.h>
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
     .help = "missed experts fetched in one forward pass, at most"},
    {.name = "off_by_one",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct quota_params, off_by_one),
     .default_text = "off",
     .help = "as the reference code: counts down before it tests, so quota q lets q - 1 through"},
    {0},
};

static void quota_init(void *state, const void *params)
{
    struct quota_state *s = state;
    memcpy(&s->params, params, sizeof s->params);
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

static const struct moe_admission_ops always = {
    .name = "always",
    .summary = "every missed expert is fetched",
    .source = "arXiv 2512.16473 section III (post-fetching)",
    .admit = admit_always,
};

static const struct moe_admission_ops never = {
    .name = "never",
    .summary = "no missed expert is fetched",
    .source = "the limit of every admission rule",
    .admit = admit_never,
};

static const struct moe_admission_ops quota = {
    .name = "quota",
    .summary = "at most `quota` missed experts are fetched in a forward pass",
    .source = "elsa-lab/MoE-CPU-GPU-Collaborative-Inference src/model.py (cache quota)",
    .params = quota_table,
    .params_size = sizeof(struct quota_params),
    .state_size = sizeof(struct quota_state),
    .init = quota_init,
    .on_step = quota_step,
    .admit = quota_admit,
};

const struct moe_admission_ops *const moe_admissions[] = {&always, &never, &quota, NULL};

enum moe_status moe_admission_parse(const char *text, struct moe_admission_spec *out,
                                    struct moe_err *err)
{
    const char *names[sizeof moe_admissions / sizeof *moe_admissions];
    char name[64];
    const char *rest;
    size_t n = 0;
    enum moe_status s = moe_spec_split("admission", text, name, sizeof name, &rest, err);
    if (s)
        return s;
    for (; moe_admissions[n]; n++) {
        if (strcmp(moe_admissions[n]->name, name) == 0) {
            struct moe_admission_spec spec = {.ops = moe_admissions[n]};
            s = moe_spec_params("admission", name, spec.ops->params, spec.params, rest, err);
            if (!s)
                *out = spec;
            return s;
        }
        names[n] = moe_admissions[n]->name;
    }
    return moe_spec_unknown("admission", name, names, n, err);
}

void moe_admission_init(struct moe_admission *admission, const struct moe_admission_spec *spec)
{
    assert(spec->ops->state_size <= sizeof admission->state);
    admission->spec = *spec;
    memset(admission->state, 0, sizeof admission->state);
    if (spec->ops->init)
        spec->ops->init(admission->state, admission->spec.params);
}
