#include "policies/decision_log.h"

#include <inttypes.h>

static const char *const access_names[] = {
    [MOE_MISS] = "miss", [MOE_HIT] = "hit", [MOE_HIT_IN_FLIGHT] = "flight"};
static const char *const place_names[] = {[MOE_PLACE_GPU] = "gpu",
                                          [MOE_PLACE_CPU] = "cpu",
                                          [MOE_PLACE_STREAM] = "streamed",
                                          [MOE_PLACE_EARLY] = "early"};

static void write_slot(FILE *out, moe_slot slot)
{
    if (slot == MOE_NO_SLOT)
        fputc('-', out);
    else
        fprintf(out, "%" PRId32, (int32_t)slot);
}

static void write_expert(FILE *out, bool timeless, const struct moe_decision *decision, uint32_t i)
{
    const struct moe_route *route = &decision->plan->route;
    bool blurred = timeless && route->access[i] != MOE_MISS;
    fprintf(out, " %u:%s:", (unsigned)route->expert[i],
            access_names[blurred ? MOE_HIT : route->access[i]]);
    write_slot(out, route->access[i] == MOE_MISS ? MOE_NO_SLOT : route->slot[i]);
    fprintf(out, ":%s:", blurred ? "-" : place_names[decision->place[i]]);
    write_slot(out, decision->plan->fill[i]);
}

static void write_list(FILE *out, const char *name, const moe_expert *expert, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        fprintf(out, "%s%u", i ? "," : name, (unsigned)expert[i]);
}

static void write_line(FILE *out, bool timeless, const struct moe_decision *decision)
{
    const struct moe_route *route = &decision->plan->route;
    fprintf(out, "%" PRIu64 " %" PRIu32 " %s", decision->step, route->layer,
            route->phase == MOE_PREFILL ? "prefill" : "decode");
    for (uint32_t i = 0; i < route->n; i++)
        write_expert(out, timeless, decision, i);
    if (decision->router)
        write_list(out, " lossy:", decision->router, route->n);
    write_list(out, " early:", decision->early, decision->n_early);
    fputc('\n', out);
}

void moe_decision_log_write(void *user, const struct moe_decision *decision)
{
    struct moe_decision_log *log = user;
    write_line(log->stream, log->timeless, decision);
    if (log->timeless_too)
        write_line(log->timeless_too, true, decision);
    if (decision->copying && log->n_copying++ == 0)
        log->before_copying = log->n_events;
    log->n_events++;
}
