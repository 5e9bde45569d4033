/* A machine whose copies land at random times and which checks the step loop's calls: kernels find
 * the weights that they need, no expert of the current event is evicted for a prefetch, nothing
 * that is resident is fetched, and every prefetch is counted once. */
#ifndef MOELAB_TESTS_RANDOM_MACHINE_H
#define MOELAB_TESTS_RANDOM_MACHINE_H

#include "policies/trace_run.h"
#include "tests/unit/sim_world.h"

enum { MAX_SLOTS = 64, MAX_COPIES = 4096 };

struct copy {
    moe_slot slot;
    moe_key key;
    bool ahead;
};

struct machine {
    struct moe_trace_run *run;
    struct moe_decision_log *log;
    const struct moe_plan *plan; /* of the current event */
    struct moe_rng rng;
    struct moe_step step;
    struct copy queue[MAX_COPIES];
    uint32_t n_queue;
    moe_key content[MAX_SLOTS]; /* key of the last copy queued into each slot */
    bool landed[MAX_SLOTS];
    struct copy cancelled; /* the last one cancelled, or MOE_NO_SLOT */
    bool may_drop;         /* the policy may evict experts of the current event */
    uint64_t now, n_ahead, n_cancelled, n_promoted;
};

static void land(struct machine *m, uint32_t i)
{
    struct copy copy = m->queue[i];
    memmove(&m->queue[i], &m->queue[i + 1], (--m->n_queue - i) * sizeof *m->queue);
    ck_assert(m->may_drop || m->content[copy.slot] == copy.key);
    m->landed[copy.slot] = true;
    moe_cache_ready(m->run->setup.cache, copy.slot);
}

static void land_slot(struct machine *m, moe_slot slot)
{
    for (uint32_t i = m->n_queue; i-- > 0;)
        if (m->queue[i].slot == slot)
            land(m, i);
}

/* Lets some copies land: often none, sometimes all. */
static void let_time_pass(struct machine *m)
{
    uint32_t n = (uint32_t)moe_rng_below(&m->rng, 4);
    m->now += 1 + moe_rng_below(&m->rng, 100000);
    for (n = n == 3 ? m->n_queue : n; n > 0 && m->n_queue > 0; n--)
        land(m, (uint32_t)moe_rng_below(&m->rng, m->n_queue));
}

static enum moe_status begin_step(void *machine, const struct moe_step *step, struct moe_err *err)
{
    (void)err;
    ((struct machine *)machine)->step = *step;
    return MOE_OK;
}

static enum moe_status attend(void *machine, uint32_t layer, struct moe_layer_routes *out,
                              struct moe_err *err)
{
    struct machine *m = machine;
    (void)err;
    m->cancelled.slot = MOE_NO_SLOT; /* later fetches do not belong to that cancellation */
    let_time_pass(m);
    moe_trace_routes(&m->step, &m->run->model, m->run->next_use, layer, out);
    return MOE_OK;
}

static void gpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct machine *m = machine;
    if (ffn->slot < 0 || m->may_drop)
        return;
    ck_assert(m->landed[ffn->slot]);
    ck_assert_uint_eq(m->content[ffn->slot], ffn->layer * m->run->model.n_experts + ffn->expert);
}

static void cpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    (void)ffn;
    let_time_pass(machine);
}

static void cpu_wait(void *machine)
{
    let_time_pass(machine);
}

static bool is_of_event(const struct moe_plan *plan, moe_slot slot)
{
    for (uint32_t i = 0; i < plan->route.n; i++)
        if (plan->route.slot[i] == slot || plan->fill[i] == slot)
            return true;
    return false;
}

static void fetch(void *machine, const struct moe_fetch *f)
{
    struct machine *m = machine;
    struct copy copy = {f->slot, (moe_key)(f->layer * m->run->model.n_experts + f->expert),
                        f->priority == MOE_FETCH_PREFETCH};
    if (f->slot < 0)
        return;
    ck_assert(m->may_drop || moe_cache_find(m->run->setup.cache, copy.key) == f->slot);
    if (copy.ahead && m->plan) { /* else: the initial content */
        ck_assert(m->may_drop || !is_of_event(m->plan, f->slot));
        ck_assert(m->may_drop || !m->landed[f->slot] || m->content[f->slot] != copy.key);
        m->n_ahead++;
    }
    /* A prefetch was cancelled to be fetched on demand. (With may_drop, the cancelled copy may have
     * been an older expert's: see cancel.) */
    m->n_promoted += f->priority == MOE_FETCH_DEMAND && m->cancelled.slot == f->slot &&
                     (m->may_drop || m->cancelled.key == copy.key);
    m->cancelled.slot = MOE_NO_SLOT;
    m->content[f->slot] = copy.key;
    m->landed[f->slot] = false;
    ck_assert_uint_lt(m->n_queue, MAX_COPIES);
    m->queue[m->n_queue++] = copy;
    if (f->pageable)
        land_slot(m, f->slot);
}

static void slot_wait(void *machine, moe_slot slot, bool host)
{
    (void)host;
    land_slot(machine, slot);
}

static bool cancel(void *machine, moe_slot slot)
{
    struct machine *m = machine;
    for (uint32_t i = 0; i < m->n_queue; i++) {
        if (m->queue[i].slot != slot)
            continue;
        /* if slots in flight may be overwritten, this copy may be an older expert's */
        ck_assert(m->may_drop || m->queue[i].ahead);
        if (!m->queue[i].ahead || moe_rng_below(&m->rng, 3) == 0) /* it has begun */
            return false;
        m->cancelled = m->queue[i];
        memmove(&m->queue[i], &m->queue[i + 1], (--m->n_queue - i) * sizeof *m->queue);
        m->content[slot] = MOE_NO_KEY;
        m->n_cancelled++;
        return true;
    }
    ck_abort_msg("nothing is on its way into slot %d", slot);
}

/* Checks that every expert that the event found, or reserved a slot for, is still in its slot. */
static void combine(void *machine, uint32_t layer)
{
    struct machine *m = machine;
    const struct moe_cache *cache = m->run->setup.cache;
    for (uint32_t i = 0; i < m->plan->route.n; i++) {
        moe_key key = (moe_key)(layer * m->run->model.n_experts + m->plan->route.expert[i]);
        moe_slot slot = m->plan->route.slot[i] >= 0 ? m->plan->route.slot[i] : m->plan->fill[i];
        if (slot >= 0 && !m->may_drop)
            ck_assert_int_eq(moe_cache_find(cache, key), slot);
    }
}

static enum moe_status end_step(void *machine, struct moe_err *err)
{
    struct machine *m = machine;
    struct moe_prefetches sum = {0};
    (void)err;
    for (int phase = 0; phase < 2; phase++) {
        struct moe_prefetches p = moe_cache_prefetches(m->run->setup.cache, (enum moe_phase)phase);
        ck_assert_uint_eq(p.queued, p.useful + p.late + p.wasted + p.cancelled + p.unused);
        sum.queued += p.queued;
        sum.cancelled += p.cancelled;
    }
    ck_assert_uint_eq(sum.queued, m->n_ahead);
    ck_assert_uint_eq(sum.cancelled, m->n_cancelled - m->n_promoted);
    return MOE_OK;
}

static moe_ns now(void *machine)
{
    return ((const struct machine *)machine)->now;
}

static const struct moe_machine_ops random_machine = {.begin_step = begin_step,
                                                      .attend = attend,
                                                      .gpu_ffn = gpu_ffn,
                                                      .cpu_ffn = cpu_ffn,
                                                      .cpu_wait = cpu_wait,
                                                      .fetch = fetch,
                                                      .slot_wait = slot_wait,
                                                      .cancel = cancel,
                                                      .combine = combine,
                                                      .end_step = end_step,
                                                      .now = now};

static void observe(void *user, const struct moe_decision *decision)
{
    struct machine *m = user;
    m->plan = decision->plan;
    moe_decision_log_write(m->log, decision);
}

static inline void add_lookahead(struct moe_rng *rng, struct moe_trace *trace)
{
    size_t n = (size_t)trace->tokens.n_tokens * trace->info.n_layers * trace->info.n_experts;
    if (!trace->tokens.lookahead)
        trace->tokens.lookahead = malloc(n * sizeof *trace->tokens.lookahead);
    ck_assert_ptr_nonnull(trace->tokens.lookahead);
    for (size_t i = 0; i < n; i++)
        trace->tokens.lookahead[i] = (float)(moe_rng_unit(rng) - .5);
}

/* Runs the world on the random machine and returns the log of its decisions, which the caller
 * frees. end: called before the run is released, or NULL. */
static inline char *run_once(const struct world *w, uint64_t seed, struct machine *m,
                             void (*end)(struct machine *m))
{
    char *text = NULL;
    size_t size;
    struct moe_trace_run run;
    struct moe_costs costs;
    struct moe_decision_log log = {.stream = open_memstream(&text, &size)};
    struct moe_err err = {0};
    struct moe_trace_run_spec spec = {.trace = &w->trace,
                                      .setup = {.strategy = &w->strategy,
                                                .model = &w->model,
                                                .expert_bytes = 600000,
                                                .memory_bytes = 100000000,
                                                .costs = &costs,
                                                .device = "a random machine"}};
    *m = (struct machine){.run = &run,
                          .log = &log,
                          .cancelled = {.slot = MOE_NO_SLOT},
                          .may_drop = w->strategy.policy.ops->flags != 0};
    moe_rng_init(&m->rng, seed);
    moe_costs_init(&costs, &w->model, &w->platform, 4);
    for (uint32_t s = 0; s < MAX_SLOTS; s++)
        m->content[s] = MOE_NO_KEY;
    enum moe_status s = moe_trace_run_prepare(&run, &spec, &err);
    ck_assert_uint_le(run.setup.geometry.n_slots, MAX_SLOTS);
    if (!s)
        s = moe_trace_run_attach(&run, &random_machine, m, &costs, &err);
    run.loop.observer = observe;
    run.loop.observer_user = m;
    if (!s)
        s = moe_trace_run_steps(&run, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    if (end)
        end(m);
    moe_trace_run_release(&run);
    fclose(log.stream);
    return text;
}

#endif
