#include "policies/cache.h"

void moe_counts_add(struct moe_counts *sum, const struct moe_counts *part)
{
    sum->events += part->events;
    sum->any_hit_events += part->any_hit_events;
    sum->all_hit_events += part->all_hit_events;
    sum->lookups += part->lookups;
    sum->hits += part->hits;
    sum->inflight_hits += part->inflight_hits;
    sum->misses += part->misses;
    sum->fills += part->fills;
    sum->fill_bytes += part->fill_bytes;
    sum->evictions += part->evictions;
    sum->useless_fills += part->useless_fills;
    sum->late_fills += part->late_fills;
    sum->dropped_fills += part->dropped_fills;
    sum->bypasses += part->bypasses;
    sum->hazards += part->hazards;
}
