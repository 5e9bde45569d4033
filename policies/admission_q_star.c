/* q*: fetches that share q of the missed experts for which link and CPU finish together,
 *     q bytes / link = (1 - q) bytes / CPU,  q = cpu_ns / (cpu_ns + copy_ns),
 * the most recently used first.
 *
 * q is the share of the misses of all passes so far: a layer misses too few to be divided by
 * itself, so the fraction of an expert that one layer's share leaves over is carried to the next
 * layer. After any event, the fetches are q times the misses, rounded down. The source measures
 * both rates while both sides run; here, DRAM that does not suffice for both slows both by one
 * factor (sim/engine.h), and q stays the same.
 *
 * That is reading=carried. The source itself divides the misses of every event alone
 * (reading=event): of m misses it fetches the f for which f copies and m - f experts on the CPU end
 * first, the smaller f of two that end at the same time; of experts used last in the same event the
 * lower number first. Where CPU and copy times are far apart and misses few, it never fetches.
 *
 * The source computes what it fetches on the GPU, so that the step's own work is split. That is
 * dispatch, not admission: a strategy whose misses go to the CPU fetches the same share for later
 * use. */
#include "policies/admission_rules.h"

#include "policies/cost.h"

struct params {
    int each_event;
};

struct uses {
    uint64_t before, latest; /* last event but one, and last, that used it; from 1; 0: none */
};

struct state {
    uint64_t cpu_ns, both_ns; /* of an expert: on the CPU; that and its copy. q = cpu / both */
    bool each_event;
    uint64_t rest_ns; /* both_ns times the fraction of a fetch that is carried on: below both_ns */
    uint64_t event;   /* number of the latest */
    uint64_t allowed; /* fetches of this event */
    uint32_t n_experts;
    struct uses uses[]; /* [L * E] */
};

static const struct moe_param table[] = {
    {.name = "reading",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, each_event),
     .default_text = "carried",
     .choices = "carried|event",
     .flags = MOE_PARAM_LATER,
     .help = "carried: the fraction of an expert left over from a layer's share is carried to the "
             "next layer; event: each event's misses are divided on their own"},
    {0},
};

static size_t state_size(const struct moe_admission_env *env)
{
    return sizeof(struct state) + (size_t)env->n_layers * env->n_experts * sizeof(struct uses);
}

static void init(void *state, const struct moe_admission_env *env)
{
    struct state *s = state;
    const struct params *params = env->params;
    s->each_event = params->each_event;
    s->cpu_ns = env->costs->cpu_expert_ns;
    s->both_ns = s->cpu_ns + env->costs->copy_ns[env->pageable];
    s->n_experts = env->n_experts;
}

static struct uses *uses_of(struct state *s, const struct moe_route *route, uint32_t i)
{
    return &s->uses[(size_t)route->layer * s->n_experts + route->expert[i]];
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *s = state;
    s->event++;
    for (uint32_t i = 0; i < route->n; i++) {
        struct uses *uses = uses_of(s, route, i);
        uses->before = uses->latest;
        uses->latest = s->event;
        s->rest_ns += route->access[i] == MOE_MISS ? s->cpu_ns : 0;
    }
    s->allowed = s->both_ns ? s->rest_ns / s->both_ns : 0;
    s->rest_ns -= s->allowed * s->both_ns;
    if (s->each_event) { /* one more ends sooner if its copy takes less than the CPU has left */
        s->allowed += s->rest_ns > s->both_ns - s->cpu_ns;
        s->rest_ns = 0;
    }
}

/* Is it among the `allowed` most recently used of the missed? Gate order among equals, or (event)
 * the lower one first. */
static bool admit(void *state, const struct moe_admit_req *req)
{
    struct state *s = state;
    const struct moe_route *route = req->route;
    uint64_t mine = uses_of(s, route, req->i)->before, n_first = 0;
    for (uint32_t j = 0; j < route->n; j++) {
        uint64_t other = uses_of(s, route, j)->before;
        bool first = s->each_event ? route->expert[j] < route->expert[req->i] : j < req->i;
        n_first += route->access[j] == MOE_MISS && (other > mine || (other == mine && first));
    }
    return n_first < s->allowed;
}

const struct moe_admission_ops moe_admission_q_star = {
    .name = "q-star",
    .summary = "fetches such a share of the misses that link and CPU finish together",
    .source = "FreeToken: FlashML-org/FreeToken, arXiv 2608.16157",
    .notes = "FreeToken measures both rates while it runs and computes what it fetches on the GPU; "
             "here the rates are the platform's, and where misses go to the CPU the same share is "
             "fetched for later use. Its code (0ab982f) divides the misses of every event alone "
             "(`reading=event`): with few misses and a slow link nothing is ever fetched; here a "
             "share too small for one layer is carried to the next. The share is CPU / (CPU + "
             "copy), with the times for an expert of one token. After any event the number fetched "
             "so far is that share of all misses so far, rounded down; those used last are fetched "
             "first, equal ones in gate order (`event`: of an event's m misses the number f for "
             "which f copies and m - f experts on the CPU end first; equal ones by lower expert).",
    .params = table,
    .params_size = sizeof(struct params),
    .flags = MOE_ADMISSION_NEEDS_COSTS,
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .admit = admit,
};
