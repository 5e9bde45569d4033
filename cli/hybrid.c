#include "cli/hybrid.h"

#include "base/file.h"
#include "base/progress.h"
#include "base/units.h"
#include "policies/geometry_fit.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A timeline of so many operations takes about 300 MB; later ones are counted as dropped. */
enum { TIMELINE_OPERATIONS = 1 << 22 };

enum moe_status cli_hybrid_load(struct cli_hybrid *h, const struct cli_call *call,
                                const struct cli_hybrid_options *o, uint64_t threads,
                                struct moe_err *err)
{
    const struct cli_strategy_choice choice = {.strategy = o->strategy,
                                               .geometry = o->geometry,
                                               .policy = o->policy,
                                               .threads = threads,
                                               .lossy = o->lossy};
    *h = (struct cli_hybrid){.o = o};
    enum moe_status s = *o->platform ? cli_load_platform(o->platform, &h->platform, err) : MOE_OK;
    if (s)
        return s;
    return cli_choose_strategy(call, &choice, &h->strategy, *o->platform ? &h->platform : NULL,
                               err);
}

static enum moe_status open_watchers(struct cli_hybrid *h, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    if (*h->o->timeline)
        s = moe_output_check(h->o->timeline, err);
    if (!s && *h->o->timeline)
        s = moe_timeline_new(&h->timeline, TIMELINE_OPERATIONS, err);
    if (!s && *h->o->decisions)
        s = moe_output_create(&h->decisions_file, h->o->decisions, err);
    h->decisions.stream = h->decisions_file.stream;
    return s;
}

enum moe_status cli_hybrid_check(const struct cli_call *call, const struct cli_hybrid_options *o,
                                 struct moe_err *err)
{
    const struct {
        const char *name;
        bool given;
    } needs[] = {
        {"geometry", *o->geometry},
        {"policy", *o->policy},
        {"set", call->n_sets > 0},
        {"device", strcmp(o->device.device, "auto") != 0},
        {"fit", o->fit},
        {"lossy", o->lossy},
        {"platform", *o->platform},
        {"timeline", *o->timeline},
        {"decisions", *o->decisions},
        {"deterministic", o->device.deterministic},
        {"store", o->device.store},
        {"pinned-bytes", o->device.pinned_bytes > 0},
    };
    for (size_t i = 0; !*o->strategy && i < sizeof needs / sizeof *needs; i++)
        if (needs[i].given)
            return moe_fail(err, MOE_ERR_USAGE,
                            "--%s needs --strategy (see 'moelab list strategies')", needs[i].name);
    return MOE_OK;
}

enum moe_status cli_hybrid_open(struct cli_hybrid *h, const struct cli_call *call,
                                const struct cli_hybrid_options *o, const char *kernels,
                                uint64_t threads, struct moe_err *err)
{
    enum moe_status s = cli_hybrid_load(h, call, o, threads, err);
    if (!s)
        s = cli_open_device(&o->device, kernels, &h->device, err);
    if (s)
        return s;
    cli_open_power(&o->device, h->device, &h->power);
    h->power_open = true;
    return open_watchers(h, err);
}

enum moe_status cli_hybrid_fit(struct cli_hybrid *h, const struct moe_llm *llm, uint64_t context,
                               uint64_t chunk, struct moe_err *err)
{
    const struct moe_llm_config *c = &llm->config;
    struct moe_expert_layout layout;
    uint32_t slots;
    enum moe_status s = moe_hybrid_room(h->device, llm, &h->strategy, (uint32_t)context,
                                        (uint32_t)chunk, &slots, err);
    if (!s)
        s = moe_expert_layout_of(llm, &layout, err);
    if (s)
        return s;
    s = moe_geometry_fit(h->strategy.geometry, c->n_layers, c->n_experts, layout.bytes, slots,
                         h->fitted, sizeof h->fitted, err);
    if (s == MOE_ERR_USAGE && !*h->o->geometry) {
        const struct moe_err why = *err;
        return moe_fail(err, s, "%s; use --geometry to replace that of strategy '%s'", why.text,
                        h->strategy.name);
    }
    if (s)
        return s;
    h->misfit = strcmp(h->fitted, h->strategy.geometry) != 0;
    if (!h->misfit || !h->o->fit)
        return MOE_OK;
    moe_log("geometry '%s' does not fit, '%s' does: there is room for %" PRIu32
            " slot%s beside the rest",
            h->strategy.geometry, h->fitted, slots, slots == 1 ? " has" : "s have");
    return moe_strategy_set(&h->strategy, "geometry", h->fitted, err);
}

enum moe_status cli_hybrid_explain(const struct cli_hybrid *h, struct moe_err *err)
{
    static const char about[] = "geometry '"; /* another geometry only helps with errors about it */
    struct moe_err before = *err;
    if (err->status != MOE_ERR_USAGE || !h->misfit || h->o->fit ||
        strncmp(err->text, about, sizeof about - 1) != 0)
        return err->status;
    return moe_fail(err, before.status, "%s; --fit makes it '%.60s'", before.text, h->fitted);
}

struct moe_hybrid_options cli_hybrid_settings(struct cli_hybrid *h,
                                              const struct cli_inference *inference)
{
    return (struct moe_hybrid_options){
        .strategy = &h->strategy,
        .platform = *h->o->platform ? &h->platform : NULL,
        .store = {.kind = (enum moe_store_kind)h->o->device.store,
                  .pinned_bytes = h->o->device.pinned_bytes},
        .pool = {.threads = (uint32_t)h->strategy.threads,
                 .pin = inference->pin,
                 .kernels = inference->kernels},
        .power = &h->power,
        .timeline = h->timeline,
        .decisions = h->decisions.stream ? &h->decisions : NULL,
    };
}

void cli_hybrid_log(const struct cli_hybrid *h, const struct moe_allocation *a)
{
    const struct moe_strategy *strategy = &h->strategy;
    char slot[32], all[32], dense[32], other[32], left[32], policy[256], device[300];
    moe_log("strategy %s: geometry %s, %" PRIu64 " slot%s of %s = %s; policy %s", strategy->name,
            strategy->geometry, a->slots, moe_plural(a->slots),
            moe_format_bytes(a->slot_bytes, slot, sizeof slot),
            moe_format_bytes(a->slots * a->slot_bytes, all, sizeof all),
            moe_policy_format(&strategy->policy, policy, sizeof policy));
    if (moe_strategy_is_lossy(strategy))
        moe_log("LOSSY: with reroute %s %s",
                moe_reroute_format(&strategy->reroute, policy, sizeof policy),
                moe_reroute_loss(&strategy->reroute));
    if (h->alone) {
        moe_log("no device, as platform '%s' has no GPU: all on the CPU by %" PRIu32
                " thread%s, %s kernels",
                h->platform.name, a->threads, moe_plural(a->threads), a->kernels);
        return;
    }
    moe_log("device %s: %s of weights beside the experts, %s for the rest, %s free",
            cli_device_name(h->device, device, sizeof device),
            moe_format_bytes(a->dense_bytes, dense, sizeof dense),
            moe_format_bytes(a->other_bytes, other, sizeof other),
            moe_format_bytes(a->free_bytes, left, sizeof left));
    moe_log("experts in host memory: %s; on the CPU by %" PRIu32 " thread%s, %s kernels",
            a->store_note, a->threads, moe_plural(a->threads), a->kernels);
}

void cli_hybrid_note(const struct cli_hybrid *h, const struct moe_allocation *a,
                     struct moe_table *table)
{
    char described[2048];
    moe_strategy_describe(&h->strategy, described, sizeof described);
    moe_table_note(table, "strategy", "%s", described);
    if (h->misfit)
        moe_table_note(table, "fit", "the geometry was shrunk to '%s'", h->fitted);
    cli_note_device(table, h->alone ? NULL : h->device, &h->power);
    cli_note_allocation(table, a);
}

const char *cli_hybrid_energy(const struct cli_hybrid *h, const struct moe_result *r, char *buf,
                              size_t size)
{
    if (isfinite(r->j_per_token))
        snprintf(buf, size, "%.3g J/token (CPU %.3g W, GPU %.3g W)", r->j_per_token, r->cpu_w,
                 r->gpu_w);
    else
        snprintf(buf, size, "energy not measured: %s%s%s", isfinite(r->cpu_w) ? "" : h->power.cpu,
                 isfinite(r->cpu_w) || isfinite(r->gpu_w) ? "" : "; ",
                 isfinite(r->gpu_w) ? "" : h->power.gpu);
    return buf;
}

enum moe_status cli_hybrid_finish(struct cli_hybrid *h, const char *what, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    char title[320];
    snprintf(title, sizeof title, "moelab run: %s%s, %s, %s", h->strategy.name,
             cli_lossy_mark(&h->strategy), what, h->alone ? "no device" : h->device->ops->name);
    if (h->timeline)
        s = moe_timeline_write(h->timeline, title, h->o->timeline, err);
    if (!s && h->timeline && moe_timeline_dropped(h->timeline))
        moe_log("the timeline has the first %d operations; %" PRIu64 " later ones are left out",
                TIMELINE_OPERATIONS, moe_timeline_dropped(h->timeline));
    if (!s && h->decisions.stream) {
        h->decisions.stream = NULL;
        s = moe_output_commit(&h->decisions_file, err);
        h->decisions_file = (struct moe_output){0};
    }
    return s;
}

void cli_hybrid_close(struct cli_hybrid *h)
{
    if (h->decisions.stream)
        moe_output_abandon(&h->decisions_file);
    moe_timeline_free(h->timeline);
    if (h->power_open)
        moe_power_close(&h->power);
    moe_device_close(h->device);
    *h = (struct cli_hybrid){0};
}
