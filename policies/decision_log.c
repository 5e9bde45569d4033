#include "policies/decision_log.h"

#include <inttypes.h>

static const char *const access_names[] = {
    [MOE_MISS] = "miss", [MOE_HIT] = "hit", [MOE_HIT_IN_FLIGHT] = "flight"};
static const char *const place_names[] = {
    [MOE_PLACE_GPU] = "gpu", [MOE_PLACE_CPU] = "cpu", [MOE_PLACE_STREAM] = "streamed"};

static void write_slot(FILE *out, moe_slot slot)
{
    if (slot == MOE_NO_SLOT)
        fputc('-', out);
    else
        fprintf(out, "%" PRId32, (int32_t)slot);
}

static void write_expert(const struct moe_decision_log *log, const struct moe_decision *decision,
                         uint32_t i)
{
    const struct moe_route *route = &decision->plan->route;
    bool blurred = log->timeless && route->access[i] != MOE_MISS;
    fprintf(log->stream, " %u:%s:", (unsigned)route->expert[i],
            access_names[blurred ? MOE_HIT : route->access[i]]);
    write_slot(log->stream, route->access[i] == MOE_MISS ? MOE_NO_SLOT : route->slot[i]);
    fprintf(log->stream, ":%s:", blurred ? "-" : place_names[decision->place[i]]);
    write_slot(log->stream, decision->plan->fill[i]);
}

void moe_decision_log_write(void *user, const struct moe_decision *decision)
{
    const struct moe_decision_log *log = user;
    const struct moe_route *route = &decision->plan->route;
    fprintf(log->stream, "%" PRIu64 " %" PRIu32 " %s", decision->step, route->layer,
            route->phase == MOE_PREFILL ? "prefill" : "decode");
    for (uint32_t i = 0; i < route->n; i++)
        write_expert(log, decision, i);
    fputc('\n', log->stream);
}
