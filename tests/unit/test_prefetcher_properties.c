/* What holds for every prefetcher, under any policy, geometry and dispatch, on a machine whose
 * copies land when they like: its kernels find the weights that they ask for, no expert of an event
 * is given up for a guess, nothing that is there is fetched, and every prefetch is accounted for.
 */
#include "policies/trace_run.h"
#include "sim_world.h"

enum { N_WORLDS = 3000, MAX_SLOTS = 64, MAX_COPIES = 4096 };

struct copy {
    moe_slot slot;
    moe_key key;
    bool ahead;
};

struct machine {
    struct moe_trace_run *run;
    struct moe_decision_log *log;
    const struct moe_plan *plan; /* of the event under way */
    struct moe_rng rng;
    struct moe_step step;
    struct copy queue[MAX_COPIES];
    uint32_t n_queue;
    moe_key content[MAX_SLOTS]; /* what the copy queued last brings */
    bool landed[MAX_SLOTS];
    struct copy cancelled; /* last */
    uint64_t now, n_ahead, n_cancelled, n_promoted;
};

/* Every prefetcher and its variants; the table of the library is compared with it. */
static const char *const prefetchers[] = {"none",
                                          "previous-token",
                                          "popularity",
                                          "popularity:n=5",
                                          "markov",
                                          "markov:n=1",
                                          "gate-lookahead",
                                          "gate-lookahead:n=3",
                                          "moe-infinity",
                                          "moe-infinity:capacity=1,horizon=2",
                                          "prompt-swap",
                                          "prompt-swap:n=1",
                                          "oracle",
                                          "oracle:accuracy=0.5,horizon=3",
                                          "oracle:accuracy=0,across=on",
                                          "oracle:horizon=60,across=on"};
enum { N_PREFETCHERS = sizeof prefetchers / sizeof *prefetchers };

static void land(struct machine *m, uint32_t i)
{
    struct copy copy = m->queue[i];
    memmove(&m->queue[i], &m->queue[i + 1], (--m->n_queue - i) * sizeof *m->queue);
    ck_assert_uint_eq(m->content[copy.slot], copy.key);
    m->landed[copy.slot] = true;
    moe_cache_ready(m->run->setup.cache, copy.slot);
}

static void land_slot(struct machine *m, moe_slot slot)
{
    for (uint32_t i = m->n_queue; i-- > 0;)
        if (m->queue[i].slot == slot)
            land(m, i);
}

/* Some copies land: often none, sometimes all. */
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
    m->cancelled.slot = MOE_NO_SLOT; /* what is fetched from here on was not taken back for it */
    let_time_pass(m);
    moe_trace_routes(&m->step, &m->run->model, m->run->next_use, layer, out);
    return MOE_OK;
}

static void gpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct machine *m = machine;
    if (ffn->slot < 0)
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
    ck_assert_int_eq(moe_cache_find(m->run->setup.cache, copy.key), f->slot);
    if (copy.ahead && m->plan) { /* else: the initial content */
        ck_assert(!is_of_event(m->plan, f->slot));
        ck_assert(!m->landed[f->slot] || m->content[f->slot] != copy.key);
        m->n_ahead++;
    }
    m->n_promoted += f->priority == MOE_FETCH_DEMAND && m->cancelled.slot == f->slot &&
                     m->cancelled.key == copy.key;
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
        ck_assert(m->queue[i].ahead);
        if (moe_rng_below(&m->rng, 3) == 0) /* it has begun */
            return false;
        m->cancelled = m->queue[i];
        memmove(&m->queue[i], &m->queue[i + 1], (--m->n_queue - i) * sizeof *m->queue);
        m->content[slot] = MOE_NO_KEY;
        m->n_cancelled++;
        return true;
    }
    ck_abort_msg("nothing is on its way into slot %d", slot);
}

/* What the event found or was given a slot for is still there. */
static void combine(void *machine, uint32_t layer)
{
    struct machine *m = machine;
    const struct moe_cache *cache = m->run->setup.cache;
    for (uint32_t i = 0; i < m->plan->route.n; i++) {
        moe_key key = (moe_key)(layer * m->run->model.n_experts + m->plan->route.expert[i]);
        moe_slot slot = m->plan->route.slot[i] >= 0 ? m->plan->route.slot[i] : m->plan->fill[i];
        if (slot >= 0)
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

static const struct moe_machine_ops ops = {.name = "random",
                                           .begin_step = begin_step,
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

static void add_lookahead(struct moe_rng *rng, struct moe_trace *trace)
{
    size_t n = (size_t)trace->tokens.n_tokens * trace->info.n_layers * trace->info.n_experts;
    if (!trace->tokens.lookahead)
        trace->tokens.lookahead = malloc(n * sizeof *trace->tokens.lookahead);
    ck_assert_ptr_nonnull(trace->tokens.lookahead);
    for (size_t i = 0; i < n; i++)
        trace->tokens.lookahead[i] = (float)(moe_rng_unit(rng) - .5);
}

static struct world new_world(struct moe_rng *rng, const char *prefetcher)
{
    struct world w = random_world(rng);
    add_lookahead(rng, &w.trace);
    set_key(&w.strategy, "prefetcher", prefetcher);
    set_key(&w.strategy, "dispatch.miss", PICK(rng, "cpu", "wait", "fastest", "admitted"));
    set_key(&w.strategy, "dispatch.in_flight", PICK(rng, "cpu", "wait", "fastest"));
    /* opt may give up an expert of the event, paper-lru any: then there is nothing to check */
    if (strcmp(w.strategy.policy.ops->name, "opt") == 0 ||
        strcmp(w.strategy.policy.ops->name, "paper-lru") == 0)
        set_key(&w.strategy, "policy", PICK(rng, "lru", "moe-infinity-code", "sieve"));
    return w;
}

/* Runs the world on the random machine; its decisions as text, to be freed. */
static char *run_once(const struct world *w, uint64_t seed, struct machine *m)
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
                                                .device = "a random machine"}};
    *m = (struct machine){.run = &run, .log = &log, .cancelled = {.slot = MOE_NO_SLOT}};
    moe_rng_init(&m->rng, seed);
    moe_costs_init(&costs, &w->model, &w->platform, 4);
    for (uint32_t s = 0; s < MAX_SLOTS; s++)
        m->content[s] = MOE_NO_KEY;
    enum moe_status s = moe_trace_run_prepare(&run, &spec, &err);
    ck_assert_uint_le(run.setup.geometry.n_slots, MAX_SLOTS);
    if (!s)
        s = moe_trace_run_attach(&run, &ops, m, &costs, &err);
    run.loop.observer = observe;
    run.loop.observer_user = m;
    if (!s)
        s = moe_trace_run_steps(&run, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    moe_trace_run_release(&run);
    fclose(log.stream);
    return text;
}

START_TEST(every_prefetcher_keeps_the_rules)
{
    struct moe_rng rng;
    struct machine m;
    uint64_t n_ahead[N_PREFETCHERS] = {0}, n_cancelled = 0, n_promoted = 0;
    moe_rng_init(&rng, 61);
    for (int i = 0; i < N_WORLDS; i++) {
        struct world w = new_world(&rng, prefetchers[i % N_PREFETCHERS]);
        char *once = run_once(&w, (uint64_t)i, &m);
        n_ahead[i % N_PREFETCHERS] += m.n_ahead;
        n_cancelled += m.n_cancelled;
        n_promoted += m.n_promoted;
        char *twice = run_once(&w, (uint64_t)i, &m);
        ck_assert_str_eq(once, twice);
        free(once);
        free(twice);
        moe_trace_release(&w.trace);
    }
    ck_assert_uint_eq(n_ahead[0], 0);
    for (uint32_t p = 1; p < N_PREFETCHERS; p++)
        ck_assert_msg(n_ahead[p] > 100, "%s: %u", prefetchers[p], (unsigned)n_ahead[p]);
    ck_assert_uint_gt(n_promoted, 1000);
    ck_assert_uint_gt(n_cancelled, n_promoted + 1000);
}
END_TEST

START_TEST(all_are_tested)
{
    for (size_t i = 0; moe_prefetchers[i]; i++) {
        bool tested = false;
        for (uint32_t p = 0; p < N_PREFETCHERS; p++)
            tested = tested || strcmp(prefetchers[p], moe_prefetchers[i]->name) == 0;
        ck_assert_msg(tested, "%s", moe_prefetchers[i]->name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prefetcher properties");
    TCase *tc = tcase_create("prefetcher properties");
    tcase_add_test(tc, all_are_tested);
    tcase_add_test(tc, every_prefetcher_keeps_the_rules);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
