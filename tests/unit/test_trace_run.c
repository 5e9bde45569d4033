/* A trace run through the step loop on a machine that only counts calls. */
#include "policies/trace_run.h"
#include "sim_case.h"
#include "tests/unit/run_suite.h"

#include <math.h>

enum { MAX_STEPS = 16 };

/* Every layer takes 5 ns and every token 10; remembers the steps. */
struct counter {
    const struct moe_trace_run *run;
    struct moe_step step[MAX_STEPS];
    uint64_t observed_ns[MAX_STEPS];
    uint32_t n_steps, n_observed, fail_at;
    uint64_t now, n_cpu, n_gpu, n_fetched;
};

static enum moe_status begin_step(void *machine, const struct moe_step *step, struct moe_err *err)
{
    struct counter *c = machine;
    if (c->n_steps == c->fail_at)
        return moe_fail(err, MOE_ERR_IO, "the machine is out of order");
    c->step[c->n_steps++] = *step;
    c->now += 10 * step->n_tokens;
    return MOE_OK;
}

static enum moe_status attend(void *machine, uint32_t layer, struct moe_layer_routes *out,
                              struct moe_err *err)
{
    struct counter *c = machine;
    (void)err;
    c->now += 5;
    moe_trace_routes(&c->step[c->n_steps - 1], &c->run->model, c->run->next_use, layer, out);
    return MOE_OK;
}

static void gpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    (void)ffn;
    ((struct counter *)machine)->n_gpu++;
}

static void cpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    (void)ffn;
    ((struct counter *)machine)->n_cpu++;
}

static void fetch(void *machine, const struct moe_fetch *f)
{
    struct counter *c = machine;
    c->n_fetched++;
    if (f->slot != MOE_NO_SLOT)
        moe_cache_ready(c->run->setup.cache, f->slot);
}

static void cpu_wait(void *machine)
{
    (void)machine;
}

static void slot_wait(void *machine, moe_slot slot, bool host)
{
    (void)machine, (void)slot, (void)host;
}

static bool cancel(void *machine, moe_slot slot)
{
    (void)machine, (void)slot;
    return false;
}

static void combine(void *machine, uint32_t layer)
{
    (void)machine, (void)layer;
}

static enum moe_status end_step(void *machine, struct moe_err *err)
{
    (void)machine, (void)err;
    return MOE_OK;
}

static moe_ns now(void *machine)
{
    return ((const struct counter *)machine)->now;
}

static const struct moe_machine_ops counter_ops = {.begin_step = begin_step,
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

static void observe(void *user, const struct moe_step *step, uint64_t ns)
{
    struct counter *c = user;
    ck_assert_uint_eq(step->first, c->step[c->n_observed].first);
    c->observed_ns[c->n_observed++] = ns;
}

/* Sequence 0: a prompt of tokens 0..2, then 3, 4. Sequence 1: no prompt, tokens 5 and 6 in one
 * step, then 7; its positions are unknown. Layer 0 of [2, 4], top 2 of a model with top 3. */
static struct moe_trace two_sequences(void)
{
    static const moe_expert experts[8 * 4] = {0, 1, 2, 3, 1, 2, 0, 1, 0, 2, 0, 1, 0, 1, 2, 3,
                                              2, 1, 2, 3, 0, 1, 2, 3, 0, 3, 2, 3, 0, 1, 0, 1};
    static const uint32_t steps[] = {0, 0, 0, 1, 2, 0, 0, 1};
    struct moe_trace trace = tiny_trace(2, 4, 2, 8, experts);
    for (int t = 0; t < 8; t++) {
        trace.tokens.step[t] = steps[t];
        trace.tokens.sequence[t] = t >= 5;
        trace.tokens.phase[t] = t < 3 ? MOE_PREFILL : MOE_DECODE;
        trace.tokens.position[t] = t < 5 ? t + 100 : -1;
    }
    return trace;
}

struct run_case {
    struct moe_trace trace;
    struct moe_model model;
    struct moe_strategy strategy;
    struct moe_trace_run run;
    struct counter machine;
};

static enum moe_status try(struct run_case *c, uint64_t max_tokens, struct moe_err *err)
{
    struct moe_trace_run_spec spec = {.trace = &c->trace,
                                      .setup = {.strategy = &c->strategy,
                                                .model = &c->model,
                                                .expert_bytes = 600000,
                                                .memory_bytes = 10000000,
                                                .device = "a counter"},
                                      .max_tokens = max_tokens,
                                      .after_step = observe,
                                      .user = &c->machine};
    enum moe_status s = moe_trace_run_prepare(&c->run, &spec, err);
    if (s)
        return s;
    c->machine.run = &c->run;
    s = moe_trace_run_attach(&c->run, &counter_ops, &c->machine, NULL, err);
    return s ? s : moe_trace_run_steps(&c->run, err);
}

static void make_case(struct run_case *c)
{
    *c = (struct run_case){.trace = two_sequences(),
                           .model = tiny_model(2, 4, 3),
                           .strategy = load_strategy("collab"),
                           .machine = {.fail_at = UINT32_MAX}};
    set_key(&c->strategy, "geometry", "2x2");
}

static void release(struct run_case *c)
{
    moe_trace_run_release(&c->run);
    moe_trace_release(&c->trace);
}

static void run_all(struct run_case *c, uint64_t max_tokens)
{
    struct moe_err err = {0};
    make_case(c);
    if (try(c, max_tokens, &err))
        ck_abort_msg("%s", err.text);
}

static void expect_step(const struct run_case *c, uint32_t i, uint64_t first, uint64_t n_tokens,
                        enum moe_phase phase, uint32_t context, uint64_t ns)
{
    const struct moe_step *step = &c->machine.step[i];
    ck_assert_uint_eq(step->first, first);
    ck_assert_uint_eq(step->n_tokens, n_tokens);
    ck_assert_int_eq(step->phase, phase);
    ck_assert_uint_eq(step->context, context);
    ck_assert_uint_eq(c->machine.observed_ns[i], ns);
}

START_TEST(every_step_once)
{
    struct run_case c;
    run_all(&c, 0);
    ck_assert_uint_eq(c.machine.n_steps, 5);
    ck_assert_uint_eq(c.machine.n_observed, 5);
    expect_step(&c, 0, 0, 3, MOE_PREFILL, 100, 40);
    expect_step(&c, 1, 3, 1, MOE_DECODE, 103, 20);
    expect_step(&c, 2, 4, 1, MOE_DECODE, 104, 20);
    expect_step(&c, 3, 5, 2, MOE_DECODE, 0, 30);
    expect_step(&c, 4, 7, 1, MOE_DECODE, 2, 20);
    ck_assert_uint_eq(c.run.model.top_k, 2);
    ck_assert_uint_eq(c.run.n_tokens, 8);
    ck_assert_uint_eq(c.run.times.n_prefill, 3);
    ck_assert_uint_eq(c.run.times.prefill_ns, 40);
    ck_assert_uint_eq(c.run.times.n_decode, 5);
    ck_assert_uint_eq(c.run.times.decode_ns, 90);
    const double ns[] = {20, 20, 15, 15, 20}; /* in the order of the run */
    for (int i = 0; i < 5; i++)
        ck_assert_double_eq_tol(c.run.times.token_ms[i], ns[i] * 1e-6, 1e-15);
    release(&c);
}
END_TEST

START_TEST(stops_after_max_tokens)
{
    struct run_case c;
    run_all(&c, 3); /* the step that passes 3 is whole */
    ck_assert_uint_eq(c.machine.n_steps, 4);
    ck_assert_uint_eq(c.run.n_tokens, 7);
    ck_assert_uint_eq(c.run.times.n_decode, 4);
    release(&c);
    run_all(&c, 2); /* reached exactly */
    ck_assert_uint_eq(c.machine.n_steps, 3);
    release(&c);
}
END_TEST

START_TEST(routes_of_a_layer)
{
    struct moe_trace trace = two_sequences();
    struct moe_model model = tiny_model(2, 4, 2);
    uint32_t next_use[8 * 4];
    struct moe_layer_routes routes;
    struct moe_step step = {
        .tokens = &trace.tokens, .first = 5, .n_tokens = 2, .phase = MOE_DECODE};
    moe_trace_routes(&step, &model, next_use, 1, &routes);
    ck_assert_uint_eq(routes.layer, 1);
    ck_assert_uint_eq(routes.n_tokens, 2);
    ck_assert_int_eq(routes.phase, MOE_DECODE);
    ck_assert_uint_eq(routes.top_k, 2);
    ck_assert_uint_eq(routes.stride, 4);
    ck_assert_ptr_eq(routes.expert, trace.tokens.expert + 5 * 4 + 2);
    ck_assert_ptr_eq(routes.next_use, next_use + 5 * 4 + 2);
    ck_assert_ptr_null(routes.weight);
    ck_assert_ptr_null(routes.score);
    moe_trace_routes(&step, &model, NULL, 0, &routes);
    ck_assert_ptr_eq(routes.expert, trace.tokens.expert + 5 * 4);
    ck_assert_ptr_null(routes.next_use);
    float score[8 * 2 * 4];
    trace.tokens.score = score; /* only where one token is routed */
    moe_trace_routes(&step, &model, NULL, 1, &routes);
    ck_assert_ptr_null(routes.score);
    step.n_tokens = 1;
    moe_trace_routes(&step, &model, NULL, 1, &routes);
    ck_assert_ptr_eq(routes.score, score + (5 * 2 + 1) * 4);
    trace.tokens.score = NULL;
    moe_trace_release(&trace);
}
END_TEST

START_TEST(a_result_of_it)
{
    struct run_case c;
    struct moe_result r;
    struct moe_err err;
    run_all(&c, 0);
    moe_result_init(&r);
    ck_assert_int_eq(moe_result_add_times(&r, &c.run.times, &err), MOE_OK);
    ck_assert_double_eq_tol(r.ms_mean, 18e-6, 1e-15);
    ck_assert_double_eq_tol(r.ms_p50, 20e-6, 1e-15);
    ck_assert_double_eq_tol(r.tokens_per_s, 5 / 90e-9, 1);
    ck_assert_double_eq_tol(c.run.times.token_ms[2], 15e-6, 1e-15); /* not sorted */
    struct moe_usage usage = {.cpu_experts = 6, .gpu_experts = 4, .h2d_copies = 3};
    usage.busy_ns[1 << MOE_LANE_GPU] = 45;
    usage.busy_ns[1 << MOE_LANE_H2D] = 9;
    usage.busy_ns[0] = 36;
    moe_result_add_usage(&r, &usage, 1000);
    ck_assert_uint_eq(r.cause.gpu_ns, 45);
    ck_assert_uint_eq(r.cause.copy_wait_ns, 9);
    ck_assert_uint_eq(r.cause.host_ns, 36);
    ck_assert_double_eq_tol(r.gpu_busy, .5, 1e-12);
    ck_assert_double_eq_tol(r.h2d_busy, .1, 1e-12);
    ck_assert_uint_eq(r.h2d_bytes, 3000);
    ck_assert_uint_eq(r.routed_experts, 10);
    ck_assert_double_eq_tol(r.dram_gb_per_s, 100, 1e-9);
    moe_result_add_counts(&r, c.run.setup.cache, &c.run.setup.geometry);
    ck_assert_uint_eq(r.decode.events, 8);
    ck_assert_uint_eq(r.decode.lookups, c.machine.n_gpu + r.decode.misses);
    ck_assert_uint_eq(r.decode.fills, c.machine.n_fetched);
    ck_assert_uint_eq(r.cache_bytes, 4 * 600000);
    ck_assert(isnan(r.j_per_token) && isnan(r.cpu_w) && isnan(r.bound_ms) && isnan(r.bound_share));
    release(&c);
}
END_TEST

START_TEST(a_machine_that_fails)
{
    struct run_case c;
    struct moe_err err = {0};
    make_case(&c);
    c.machine.fail_at = 2;
    ck_assert_int_eq(try(&c, 0, &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "the machine is out of order");
    ck_assert_uint_eq(c.run.n_tokens, 4);
    release(&c);
}
END_TEST

START_TEST(traces_that_do_not_fit)
{
    struct run_case c;
    struct moe_err err = {0};
    make_case(&c);
    c.model.n_layers = 3;
    snprintf(c.trace.info.model, sizeof c.trace.info.model, "small");
    ck_assert_int_eq(try(&c, 0, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "trace of 'small' has 2 layers, 4 experts, top 2, but model 'tiny' "
                               "has 3, 4, 3");
    c.model = tiny_model(2, 4, 1);
    ck_assert_int_eq(try(&c, 0, &err), MOE_ERR_USAGE);
    c.model = tiny_model(2, 4, 2);
    for (int t = 0; t < 8; t++)
        c.trace.tokens.phase[t] = MOE_PREFILL;
    ck_assert_int_eq(try(&c, 0, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "the trace has no decode tokens to time");
    release(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trace run");
    TCase *tc = tcase_create("trace run");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, every_step_once);
    tcase_add_test(tc, stops_after_max_tokens);
    tcase_add_test(tc, routes_of_a_layer);
    tcase_add_test(tc, a_result_of_it);
    tcase_add_test(tc, a_machine_that_fails);
    tcase_add_test(tc, traces_that_do_not_fit);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
