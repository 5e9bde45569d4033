#include "policies/result_table.h"

#include "base/numbers.h"

#include <math.h>

unsigned moe_strategy_parts(const struct moe_strategy *strategy)
{
    unsigned needs = strategy->policy.ops->needs | strategy->prefetcher.ops->needs |
                     strategy->reroute.ops->needs;
    unsigned weight = moe_strategy_is_lossy(strategy) ? (unsigned)MOE_HAS_WEIGHT : 0;
    return weight | (needs & MOE_NEEDS_SCORES ? (unsigned)MOE_HAS_SCORE : 0) |
           (needs & MOE_NEEDS_LOOKAHEAD ? (unsigned)MOE_HAS_LOOKAHEAD : 0);
}

void moe_result_labels(struct moe_table *table, const struct moe_trace_info *info,
                       const struct moe_model *model, const char *platform,
                       const struct moe_strategy *strategy)
{
    char policy[1200], prefetcher[1200], reroute[1200];
    moe_table_text(table, "lossy",
                   moe_strategy_is_lossy(strategy)
                       ? moe_reroute_format(&strategy->reroute, reroute, sizeof reroute)
                       : "no");
    moe_table_text(table, "routing", info->synthetic ? "SYNTHETIC" : "recorded");
    moe_table_text(table, "model", model->name);
    moe_table_text(table, "platform", platform);
    moe_table_text(table, "strategy", strategy->name);
    moe_table_text(table, "geometry", strategy->geometry);
    moe_table_text(table, "policy", moe_policy_format(&strategy->policy, policy, sizeof policy));
    moe_table_text(table, "prefetcher",
                   moe_prefetcher_format(&strategy->prefetcher, prefetcher, sizeof prefetcher));
    moe_table_u64(table, "threads", strategy->threads);
}

static void add_causes(struct moe_table *table, const struct moe_result *r)
{
    double tokens = r->decode_tokens ? (double)r->decode_tokens : 1;
    const struct {
        const char *name;
        uint64_t ns;
    } causes[] = {
        {"gpu_ms_per_token", r->cause.gpu_ns},
        {"cpu_ms_per_token", r->cause.cpu_ns},
        {"cpu_and_gpu_ms_per_token", r->cause.both_ns},
        {"copy_wait_ms_per_token", r->cause.copy_wait_ns},
        {"state_transfer_ms_per_token", r->cause.state_ns},
        {"host_ms_per_token", r->cause.host_ns},
    };
    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++)
        moe_table_f64(table, causes[i].name, (double)causes[i].ns / tokens * 1e-6);
}

static void add_cache(struct moe_table *table, const struct moe_result *r)
{
    const struct moe_counts *c = &r->decode;
    double tokens = r->decode_tokens ? (double)r->decode_tokens : 1;
    moe_table_u64(table, "cache_slots", r->cache_slots);
    moe_table_f64(table, "cache_gb", (double)r->cache_bytes * 1e-9);
    moe_table_f64(table, "preloaded_gb", (double)r->preloads.bytes * 1e-9);
    moe_table_u64(table, "lookups", c->lookups);
    moe_table_u64(table, "hits", c->hits);
    moe_table_u64(table, "inflight_hits", c->inflight_hits);
    moe_table_u64(table, "misses", c->misses);
    moe_table_f64(table, "hit_rate_percent", moe_percent(c->hits + c->inflight_hits, c->lookups));
    moe_table_f64(table, "any_hit_percent", moe_percent(c->any_hit_events, c->events));
    moe_table_f64(table, "all_hit_percent", moe_percent(c->all_hit_events, c->events));
    moe_table_u64(table, "fills", c->fills);
    moe_table_u64(table, "evictions", c->evictions);
    moe_table_u64(table, "useless_fills", c->useless_fills);
    moe_table_u64(table, "late_fills", c->late_fills);
    moe_table_u64(table, "dropped_fills", c->dropped_fills);
    moe_table_u64(table, "hazards", c->hazards);
    moe_table_f64(table, "cpu_experts_per_token", (double)r->cpu_experts / tokens);
    moe_table_f64(table, "gpu_experts_per_token", (double)r->gpu_experts / tokens);
    moe_table_f64(table, "copied_gb_per_token", (double)r->h2d_bytes / tokens * 1e-9);
}

/* Precision: share of queued prefetches that were asked for before they were evicted or cancelled;
 * copies used: the same of those that were not cancelled. One still unused in its slot counts in
 * neither. Recall: share of the misses without prefetches that they prevented. */
static void add_prefetches(struct moe_table *table, const struct moe_result *r)
{
    const struct moe_prefetches *p = &r->prefetches;
    uint64_t right = p->useful + p->late;
    moe_table_u64(table, "prefetches", p->queued);
    moe_table_u64(table, "prefetches_useful", p->useful);
    moe_table_u64(table, "prefetches_late", p->late);
    moe_table_u64(table, "prefetches_wasted", p->wasted);
    moe_table_u64(table, "prefetches_cancelled", p->cancelled);
    moe_table_f64(table, "prefetch_precision_percent", moe_percent(right, p->queued - p->unused));
    moe_table_f64(table, "prefetch_copies_used_percent", moe_percent(right, right + p->wasted));
    moe_table_f64(table, "prefetch_recall_percent", moe_percent(right, right + r->decode.misses));
    moe_table_f64(table, "prefetch_wasted_gb", (double)r->prefetch_wasted_bytes * 1e-9);
}

void moe_rerouted_cells(struct moe_table *table, const struct moe_rerouted *r)
{
    const struct moe_rerouted_shares share = moe_rerouted_shares(r);
    moe_table_f64(table, "rerouted_percent", share.replaced);
    moe_table_f64(table, "weight_moved_percent", share.weight_moved);
    moe_table_f64(table, "gate_mass_lost_percent", share.mass_lost);
}

void moe_early_cells(struct moe_table *table, const struct moe_result *result)
{
    const struct moe_rerouted *r = &result->rerouted;
    double tokens = result->decode_tokens ? (double)result->decode_tokens : 1;
    bool unknown = r->early > r->early_used && !r->early_wasted_ns;
    moe_table_f64(table, "pre_calculated_per_token", (double)r->early / tokens);
    moe_table_f64(table, "pre_calculation_precision_percent", moe_percent(r->early_used, r->early));
    moe_table_f64(table, "pre_calculation_wasted_ms_per_token",
                  unknown ? NAN : (double)r->early_wasted_ns / tokens * 1e-6);
}

void moe_result_cells(struct moe_table *table, const struct moe_result *r)
{
    moe_table_u64(table, "prefill_tokens", r->prefill_tokens);
    moe_table_u64(table, "decode_tokens", r->decode_tokens);
    moe_table_f64(table, "tokens_per_s", r->tokens_per_s);
    moe_table_f64(table, "ms_per_token", r->ms_mean);
    moe_table_f64(table, "ms_p50", r->ms_p50);
    moe_table_f64(table, "ms_p95", r->ms_p95);
    moe_table_f64(table, "ms_p99", r->ms_p99);
    moe_table_f64(table, "prefill_s", (double)r->prefill_ns * 1e-9);
    add_causes(table, r);
    add_cache(table, r);
    add_prefetches(table, r);
    moe_table_f64(table, "gpu_busy_percent", 100 * r->gpu_busy);
    moe_table_f64(table, "cpu_busy_percent", 100 * r->cpu_busy);
    moe_table_f64(table, "h2d_busy_percent", 100 * r->h2d_busy);
    moe_table_f64(table, "dram_gb_per_s", r->dram_gb_per_s);
    moe_table_f64(table, "cpu_w", r->cpu_w);
    moe_table_f64(table, "gpu_w", r->gpu_w);
    moe_table_f64(table, "j_per_token", r->j_per_token);
    moe_table_f64(table, "bound_ms_per_token", r->bound_ms);
    moe_table_f64(table, "share_of_bound_percent", 100 * r->bound_share);
    moe_table_f64(table, "schedule_bound_ms_per_token", r->schedule_bound_ms);
    moe_table_f64(table, "share_of_schedule_bound_percent", 100 * r->schedule_bound_share);
    moe_rerouted_cells(table, &r->rerouted);
}
