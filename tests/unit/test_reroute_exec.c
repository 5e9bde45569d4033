/* Lossy rules on the real machine: rerouted events have the bits of a lossless run with the new
 * routes and weights; experts begun early have those of the layer before's input. */
#include "exec/dense.h"
#include "exec/forward.h"
#include "exec/replayed.h"
#include "exec/session_state.h"
#include "exec/stage.h"
#include "policies/trace_run.h"
#include "tests/unit/hybrid_case.h"
#include "tests/unit/run_suite.h"

static struct moe_err err;
static struct moe_device *device;

/* What the wrapped machine remembers. */
static struct capture {
    const struct moe_llm_config *config;
    struct moe_stage *stage;
    struct moe_trace *became; /* where rerouted events go, or NULL */
    float *logits;            /* [N_TOKENS, V] of each step's last token */
    bool *taken;              /* [N_TOKENS, L, E] computed early; heap */
    uint64_t first, n_moved, n_taken;
} seen;

static enum moe_status begin_step(void *machine, const struct moe_step *step, struct moe_err *e)
{
    seen.first = step->first;
    return moe_exec_machine_ops.begin_step(machine, step, e);
}

static void reroute(void *machine, const struct moe_layer_routes *routes)
{
    const struct moe_llm_config *c = seen.config;
    const size_t at = (seen.first * c->n_layers + routes->layer) * c->top_k;
    ck_assert_ptr_nonnull(seen.became); /* a lossless run is not rerouted */
    ck_assert_uint_eq(routes->n_tokens, 1);
    for (uint32_t k = 0; k < c->top_k; k++) {
        seen.became->tokens.expert[at + k] = routes->expert[k];
        seen.became->tokens.weight[at + k] = routes->weight[k];
    }
    seen.n_moved++;
    moe_exec_machine_ops.reroute(machine, routes);
}

static void cpu_take(void *machine, const struct moe_ffn *ffn)
{
    const struct moe_llm_config *c = seen.config;
    seen.taken[(seen.first * c->n_layers + ffn->layer) * c->n_experts + ffn->expert] = true;
    seen.n_taken++;
    moe_exec_machine_ops.cpu_take(machine, ffn);
}

static void after_step(void *user, const struct moe_step *step, uint64_t ns)
{
    const size_t v = seen.config->n_vocab, last = step->first + step->n_tokens - 1;
    (void)user, (void)ns;
    memcpy(seen.logits + last * v, moe_exec_machine_logits(seen.stage->machine), v * sizeof(float));
}

/* Runs the trace; rerouted events go into became. Returns the logits. */
static float *run_trace(const struct subject *x, const struct moe_trace *trace,
                        const struct moe_strategy *strategy, struct moe_trace *became)
{
    struct moe_stage stage = {.device = device, .llm = x->llm, .context = 64, .chunk = CHUNK};
    struct moe_trace_run run;
    const struct moe_hybrid_options options = {
        .strategy = strategy, .store = {.kind = MOE_STORE_PINNED}, .pool = {.kernels = x->kernels}};
    struct moe_trace_run_spec spec = {.trace = trace, .after_step = after_step};
    struct moe_machine_ops ops = moe_exec_machine_ops;
    ops.begin_step = begin_step;
    ops.reroute = reroute;
    ops.cpu_take = cpu_take;
    free(seen.taken);
    seen = (struct capture){
        .config = x->config,
        .stage = &stage,
        .became = became,
        .taken =
            must_alloc((size_t)N_TOKENS * x->config->n_layers * x->config->n_experts, sizeof(bool)),
        .logits = must_alloc((size_t)N_TOKENS * x->config->n_vocab, sizeof(float))};
    enum moe_status s = moe_stage_spec(&stage, strategy, NULL, &spec.setup, &err);
    if (!s)
        s = moe_trace_run_prepare(&run, &spec, &err);
    if (!s)
        s = moe_stage_build(&stage, &options, &run.setup, &run.spec.setup, NULL, &err);
    if (!s)
        s = moe_trace_run_attach(&run, &ops, stage.machine, NULL, &err);
    if (!s)
        s = moe_trace_run_steps(&run, &err);
    ck_assert_msg(!s, "%s", err.text);
    ck_assert_uint_eq(run.loop.reroute.done.events_moved, seen.n_moved);
    ck_assert_uint_eq(run.loop.reroute.done.early_used, seen.n_taken);
    moe_stage_release(&stage);
    moe_trace_run_release(&run);
    return seen.logits;
}

static bool same_logits(const struct subject *x, const float *a, const float *b)
{
    const size_t v = x->config->n_vocab;
    return memcmp(a + (PROMPT - 1) * v, b + (PROMPT - 1) * v,
                  (N_TOKENS - PROMPT + 1) * v * sizeof *a) == 0;
}

static void check_rule(const struct subject *x, const char *rule, const char *strategy_name,
                       const char *geometry)
{
    struct moe_trace trace = trace_of(x), became = trace_of(x);
    struct moe_strategy strategy = load(strategy_name, geometry);
    set(&strategy, "prefill", "cache");
    float *plain = run_trace(x, &trace, &strategy, NULL);
    ck_assert(same_logits(x, plain, x->want.logits));
    set(&strategy, "reroute", rule);
    strategy.lossy = true;
    float *lossy = run_trace(x, &trace, &strategy, &became);
    const uint64_t n_moved = seen.n_moved;
    set(&strategy, "reroute", "none");
    float *forced = run_trace(x, &became, &strategy, NULL);
    ck_assert_msg(same_logits(x, lossy, forced), "%s, %s %s", rule, strategy_name, geometry);
    ck_assert_msg(n_moved && !same_logits(x, lossy, plain), "%s: %u events", rule,
                  (unsigned)n_moved);
    free(plain);
    free(lossy);
    free(forced);
    moe_trace_release(&trace);
    moe_trace_release(&became);
}

START_TEST(a_rerouted_event_is_what_it_became)
{
    struct moe_device_options options = {.spec = "host:delay_us=20"};
    ck_assert_msg(!moe_device_open(&device, &options, &err), "%s", err.text);
    for (int m = 0; m < N_MODELS; m++) {
        struct subject x = open_subject(models[m], NULL, 5);
        check_rule(&x, "cache-prior:lambda=3,keep=0", "collab", "2x2");
        check_rule(&x, "max-rank:rank=99,keep=0", "collab-reference", "1x3");
        check_rule(&x, "daop:first=1", "collab", "global:3");
        close_subject(&x);
    }
    moe_device_close(device);
}
END_TEST

/* One layer of a pass from token t on, with the routes of the trace; experts that were taken get
 * what is in before [D], which then becomes this layer's input. */
static void forward_layer(struct moe_session *s, const struct moe_trace *trace, uint32_t t,
                          uint32_t layer, float *before)
{
    const struct moe_llm_config *c = seen.config;
    struct moe_activations *a = &s->a;
    const struct moe_step step = {.tokens = &trace->tokens, .first = t, .n_tokens = a->n};
    moe_expert expert[CHUNK * MOE_MAX_TOP_K];
    float weight[CHUNK * MOE_MAX_TOP_K];
    moe_forward_attend(s, layer);
    moe_replayed_routes(&step, c, layer, expert, weight);
    moe_forward_choose(s, layer, expert, weight);
    for (uint32_t e = 0; e < c->n_experts; e++)
        if (seen.taken[((size_t)t * c->n_layers + layer) * c->n_experts + e])
            memcpy(a->ffn_x + (size_t)a->first[e] * c->d_model, before,
                   c->d_model * sizeof *before);
    memcpy(before, a->u, c->d_model * sizeof *before);
    moe_forward_experts(s, layer);
    moe_forward_combine(s, layer);
}

/* What the CPU alone computes of the trace and of what was taken in the latest run. */
static float *by_itself(const struct subject *x, const struct moe_trace *trace)
{
    const struct moe_llm_config *c = seen.config;
    const struct moe_session_options options = {
        .context = 64, .chunk = CHUNK, .threads = 1, .kernels = x->kernels};
    struct moe_session *s = open_session(x->llm, &options);
    float *logits = must_alloc((size_t)N_TOKENS * c->n_vocab, sizeof *logits);
    float *before = must_alloc(c->d_model, sizeof *before);
    moe_session_reset(s, PROMPT);
    for (uint32_t t = 0, n; t < N_TOKENS; t += n) {
        n = t + CHUNK < PROMPT ? CHUNK : t < PROMPT ? PROMPT - t : 1;
        ck_assert_int_eq(moe_forward_begin(s, x->tokens + t, n, &err), MOE_OK);
        for (uint32_t l = 0; l < c->n_layers; l++)
            forward_layer(s, trace, t, l, before);
        moe_forward_end(s, logits + (size_t)(t + n - 1) * c->n_vocab);
    }
    free(before);
    moe_session_free(s);
    return logits;
}

static void check_early(const struct subject *x, const char *rule, const char *strategy_name,
                        const char *geometry)
{
    struct moe_trace trace = trace_of(x), became = trace_of(x);
    struct moe_strategy strategy = load(strategy_name, geometry);
    set(&strategy, "prefill", "cache");
    set(&strategy, "reroute", rule);
    strategy.lossy = true;
    float *got = run_trace(x, &trace, &strategy, &became);
    float *want = by_itself(x, &became);
    ck_assert_msg(same_logits(x, got, want), "%s, %s %s", rule, strategy_name, geometry);
    ck_assert_msg(seen.n_taken > 3, "%s, %s %s: %u taken", rule, strategy_name, geometry,
                  (unsigned)seen.n_taken);
    memset(seen.taken, 0,
           (size_t)N_TOKENS * x->config->n_layers * x->config->n_experts * sizeof *seen.taken);
    float *other = by_itself(x, &became);
    ck_assert_msg(!same_logits(x, got, other), "%s: it makes no difference", rule);
    free(got);
    free(want);
    free(other);
    moe_trace_release(&trace);
    moe_trace_release(&became);
}

START_TEST(early_experts_see_the_layer_before)
{
    struct moe_device_options options = {.spec = "host:delay_us=30"};
    ck_assert_msg(!moe_device_open(&device, &options, &err), "%s", err.text);
    for (int m = 0; m < N_MODELS; m++) {
        struct subject x = open_subject(models[m], NULL, 7);
        check_early(&x, "pre-calculation", "cpu-only", "none");
        check_early(&x, "pre-calculation", "collab", "2x2");
        check_early(&x, "daop:first=1,pre_calculation=on", "fiddler", "global:3");
        check_early(&x, "daop:first=1,pre_calculation=on", "collab", "2x2");
        close_subject(&x);
    }
    free(seen.taken);
    seen.taken = NULL;
    moe_device_close(device);
}
END_TEST

/* With the model's own routes: idle, the text of the model; busy, other bits, the same again. */
START_TEST(own_routes)
{
    struct moe_device_options options = {.spec = "host"};
    ck_assert_msg(!moe_device_open(&device, &options, &err), "%s", err.text);
    struct subject x = open_subject(models[0], NULL, 6);
    struct outcome first = new_outcome(x.config), again = new_outcome(x.config);
    struct moe_strategy strategy = load("collab", "2x3");
    set(&strategy, "reroute", "cache-prior:lambda=0");
    ck_assert_int_eq(run_hybrid(&x, device, &strategy, &first, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "is lossy") != NULL, "%s", err.text);
    strategy.lossy = true;
    ck_assert_msg(!run_hybrid(&x, device, &strategy, &first, &err), "%s", err.text);
    expect_same(&x, &first, "idle");
    set(&strategy, "reroute", "daop:first=1");
    ck_assert_msg(!run_hybrid(&x, device, &strategy, &first, &err), "%s", err.text);
    ck_assert_msg(!run_hybrid(&x, device, &strategy, &again, &err), "%s", err.text);
    ck_assert(!same_logits(&x, first.logits, x.want.logits));
    free_outcome(&first);
    free_outcome(&again);
    close_subject(&x);
    moe_device_close(device);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reroute on the real machine");
    TCase *tc = tcase_create("reroute");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, a_rerouted_event_is_what_it_became);
    tcase_add_test(tc, early_experts_see_the_layer_before);
    tcase_add_test(tc, own_routes);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
