#include "policies/setup.h"

#include "base/units.h"
#include "policies/cost.h"
#include "policies/geometry_fit.h"
#include "policies/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t moe_setup_staging_bytes(const struct moe_setup_spec *spec)
{
    return moe_strategy_streams(spec->strategy) ? 2 * spec->expert_bytes : 0;
}

static enum moe_status check_needs(const struct moe_setup_spec *spec,
                                   const struct moe_policy_spec *policy, struct moe_err *err)
{
    if ((policy->ops->needs & MOE_NEEDS_FUTURE) && !spec->future)
        return moe_fail(err, MOE_ERR_USAGE,
                        "policy '%s' needs to know the future, which only a trace tells",
                        policy->ops->name);
    enum moe_status s = moe_policy_check_parts(policy, spec->parts, err);
    if (!s)
        s = moe_prefetcher_check(&spec->strategy->prefetcher, spec->parts, spec->future, err);
    const struct moe_strategy *strategy = spec->strategy;
    return s ? s
             : moe_reroute_check(&strategy->reroute, strategy->lossy, spec->parts,
                                 policy->ops->needs | strategy->prefetcher.ops->needs, err);
}

static enum moe_status resolve_geometry(struct moe_geometry *out, const struct moe_setup_spec *spec,
                                        struct moe_err *err)
{
    uint32_t n_layers = (uint32_t)spec->model->n_layers;
    uint64_t *bytes = malloc(n_layers * sizeof *bytes + 1);
    if (!bytes)
        return moe_fail_memory(err, "the experts' sizes");
    for (uint32_t l = 0; l < n_layers; l++)
        bytes[l] = spec->expert_bytes;
    enum moe_status s = moe_geometry_parse(spec->strategy->geometry, n_layers,
                                           (uint32_t)spec->model->n_experts, bytes, out, err);
    free(bytes);
    return s == MOE_ERR_USAGE ? moe_fail_prefix(err, "strategy '%s'", spec->strategy->name) : s;
}

/* Refuses slots, and experts computed on the GPU without one, where there is no GPU. */
static enum moe_status check_gpu(const struct moe_geometry *geometry,
                                 const struct moe_setup_spec *spec, struct moe_err *err)
{
    const struct moe_strategy *strategy = spec->strategy;
    const bool has_gpu = !spec->costs || !spec->costs->no_gpu;
    if (has_gpu || (geometry->n_slots == 0 && !moe_strategy_streams(strategy)))
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "strategy '%s' needs a GPU (%s), and platform '%s' has none: take cpu-only",
                    strategy->name,
                    geometry->n_slots ? "it has slots" : "it computes missed experts there",
                    spec->costs->platform->name);
}

/* Does the initial content of the slots stay there? By name, as the tuner has a variant of static
 * with the same name. */
static bool stays(const struct moe_strategy *strategy)
{
    return strcmp(strategy->policy.ops->name, moe_policy_static.name) == 0;
}

/* Is there a slot for every expert of the pool's layers? */
static bool holds_all(const struct moe_geometry *g, uint32_t pool)
{
    uint64_t experts = 0, bytes = 0;
    for (uint32_t l = 0; l < g->n_layers; l++)
        if (g->pool_of_layer[l] == (int32_t)pool) {
            experts += g->n_experts;
            bytes += g->n_experts * g->expert_bytes[l];
        }
    const struct moe_pool *p = &g->pool[pool];
    return p->n_slots == experts && (p->bytes == 0 || p->bytes >= bytes);
}

/* Bytes of the experts on the host: all but those that stay in their slots, which are kept once. */
static uint64_t host_bytes(const struct moe_geometry *geometry, const struct moe_setup_spec *spec)
{
    uint64_t n = (uint64_t)geometry->n_layers * geometry->n_experts;
    for (uint32_t p = 0; p < geometry->n_pools; p++)
        if (stays(spec->strategy) || holds_all(geometry, p))
            n -= geometry->pool[p].n_slots;
    return n * spec->host_expert_bytes;
}

uint32_t moe_setup_slots_in(const struct moe_setup_spec *spec, uint64_t room)
{
    const uint64_t all = spec->model->n_layers * spec->model->n_experts;
    const uint64_t host = all * spec->host_expert_bytes;
    const bool once = strcmp(spec->strategy->geometry, "all") == 0 || stays(spec->strategy);
    if (host > 0 && !(once && room / spec->expert_bytes >= all))
        room = room > host ? room - host : 0;
    const uint64_t n = room / spec->expert_bytes;
    return (uint32_t)(n < all ? n : all);
}

/* The message of check_memory where host and device share one memory. */
static enum moe_status fail_shared(const struct moe_geometry *geometry,
                                   const struct moe_setup_spec *spec, uint64_t other, uint64_t host,
                                   struct moe_err *err)
{
    char a[32], b[32], c[32], d[32];
    return moe_fail(err, MOE_ERR_USAGE,
                    "geometry '%s' takes %s, the rest of model '%s' %s and its experts on the host "
                    "%s: more than the %s of %s, which the host shares (geometry 'all' and policy "
                    "'static' keep an expert once)",
                    spec->strategy->geometry,
                    moe_format_bytes(moe_geometry_bytes(geometry), a, sizeof a), spec->model->name,
                    moe_format_bytes(other, b, sizeof b), moe_format_bytes(host, c, sizeof c),
                    moe_format_bytes(spec->memory_bytes, d, sizeof d), spec->device);
}

/* Writes what would fit, in the form of geometry that was asked for: "3 slots fit: 1x2". */
static void tell_fits(const struct moe_setup_spec *spec, uint64_t room, char *buf, size_t size)
{
    const struct moe_model *model = spec->model;
    const uint32_t slots = room ? moe_setup_slots_in(spec, room) : 0;
    char form[64];
    if (slots == 0) {
        snprintf(buf, size, "no slot fits");
        return;
    }
    int at = snprintf(buf, size, "%" PRIu32 " slot%s", slots, slots == 1 ? " fits" : "s fit");
    if (moe_geometry_fit(spec->strategy->geometry, (uint32_t)model->n_layers,
                         (uint32_t)model->n_experts, spec->expert_bytes, slots, form, sizeof form,
                         NULL)) /* form is too short for a long list of ways */
        return;
    if (strcmp(form, "none") == 0)
        snprintf(buf + at, size - (size_t)at, ", not a layer's %" PRIu64, model->n_experts);
    else
        snprintf(buf + at, size - (size_t)at, ": %s", form);
}

static enum moe_status check_memory(const struct moe_geometry *geometry,
                                    const struct moe_setup_spec *spec, struct moe_err *err)
{
    uint64_t cache = moe_geometry_bytes(geometry), memory = spec->memory_bytes;
    uint64_t other = spec->dense_bytes + moe_setup_staging_bytes(spec);
    uint64_t host = host_bytes(geometry, spec);
    if (other <= memory && cache <= memory - other && host <= memory - other - cache)
        return MOE_OK;
    if (spec->host_expert_bytes)
        return fail_shared(geometry, spec, other, host, err);
    char a[32], b[32], c[32], fits[128];
    tell_fits(spec, other < memory ? memory - other : 0, fits, sizeof fits);
    return moe_fail(
        err, MOE_ERR_USAGE,
        "geometry '%s' takes %s and the rest of model '%s' %s: more than the %s of %s; %s",
        spec->strategy->geometry, moe_format_bytes(cache, a, sizeof a), spec->model->name,
        moe_format_bytes(other, b, sizeof b), moe_format_bytes(memory, c, sizeof c), spec->device,
        fits);
}

enum moe_status moe_setup_init(struct moe_setup *setup, const struct moe_setup_spec *spec,
                               struct moe_err *err)
{
    struct moe_policy_spec policy = spec->strategy->policy;
    *setup = (struct moe_setup){0};
    policy.costs = spec->costs;
    enum moe_status s = check_needs(spec, &policy, err);
    if (!s)
        s = resolve_geometry(&setup->geometry, spec, err);
    if (s)
        return s;
    s = check_gpu(&setup->geometry, spec, err);
    if (!s)
        s = check_memory(&setup->geometry, spec, err);
    if (!s)
        s = moe_cache_new(&setup->cache, &setup->geometry, (uint32_t)spec->model->top_k, &policy,
                          spec->strategy->seed, err);
    if (s)
        moe_setup_release(setup);
    return s;
}

void moe_setup_release(struct moe_setup *setup)
{
    moe_cache_free(setup->cache);
    moe_geometry_release(&setup->geometry);
    *setup = (struct moe_setup){0};
}
