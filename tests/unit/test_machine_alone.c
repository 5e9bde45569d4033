/* The machine without a device: the bits of a session with its own routes; for any routes the bits
 * of the machine on a device; the simulated decisions; and times by cause. */
#include "exec/stage.h"
#include "policies/trace_run.h"
#include "sim/simulate.h"
#include "tests/unit/hybrid_case.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sim_world.h"

static struct moe_err err;

static struct capture {
    const struct moe_stage *stage;
    size_t n_vocab;
    float *logits; /* [N_TOKENS, V] of each step's last token */
} seen;

static void after_step(void *user, const struct moe_step *step, uint64_t ns)
{
    const struct moe_stage *stage = seen.stage;
    const float *logits = stage->alone ? moe_alone_machine_logits(stage->alone)
                                       : moe_exec_machine_logits(stage->machine);
    (void)user, (void)ns;
    memcpy(seen.logits + (step->first + step->n_tokens - 1) * seen.n_vocab, logits,
           seen.n_vocab * sizeof *logits);
}

/* The trace on a device, or without one: the logits. */
static float *run_trace(const struct subject *x, struct moe_device *device,
                        const struct moe_trace *trace, const struct moe_strategy *strategy)
{
    struct moe_stage stage = {.device = device, .llm = x->llm, .context = 64, .chunk = CHUNK};
    struct moe_trace_run run;
    const struct moe_hybrid_options options = {
        .strategy = strategy, .store = {.kind = MOE_STORE_PINNED}, .pool = {.kernels = x->kernels}};
    struct moe_trace_run_spec spec = {.trace = trace, .after_step = after_step};
    seen = (struct capture){&stage, x->config->n_vocab,
                            must_alloc((size_t)N_TOKENS * x->config->n_vocab, sizeof(float))};
    enum moe_status s = moe_stage_spec(&stage, strategy, NULL, &spec.setup, &err);
    if (!s)
        s = moe_trace_run_prepare(&run, &spec, &err);
    if (!s)
        s = moe_stage_build(&stage, &options, &run.setup, &run.spec.setup, NULL, &err);
    if (!s)
        s = moe_trace_run_attach(&run, device ? &moe_exec_machine_ops : &moe_alone_machine_ops,
                                 device ? (void *)stage.machine : (void *)stage.alone, NULL, &err);
    if (!s)
        s = moe_trace_run_steps(&run, &err);
    ck_assert_msg(!s, "%s", err.text);
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

/* Other routes than the router's: experts in turn, one absent here and there, weights of all kinds.
 */
static void change_routes(struct moe_trace *trace)
{
    const struct moe_trace_info *info = &trace->info;
    const size_t rows = (size_t)N_TOKENS * info->n_layers;
    for (size_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < info->top_k; k++) {
            const size_t at = r * info->top_k + k;
            const bool absent = k > 0 && r % 5 == 0;
            trace->tokens.expert[at] =
                absent ? MOE_NO_EXPERT : (moe_expert)((r + k) % info->n_experts);
            trace->tokens.weight[at] = absent ? 0 : r % 7 ? 0.1f * (float)(r % 11) : NAN;
        }
}

START_TEST(same_bits)
{
    struct subject x = open_subject(models[_i], NULL, 7);
    struct moe_trace trace = trace_of(&x);
    struct moe_device *device = NULL;
    const struct moe_device_options host = {.spec = "host:memory_bytes=64MiB"};
    struct moe_strategy strategy = load("cpu-only", NULL);
    ck_assert_msg(!moe_device_open(&device, &host, &err), "%s", err.text);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        strategy.threads = threads;
        float *alone = run_trace(&x, NULL, &trace, &strategy);
        ck_assert(same_logits(&x, alone, x.want.logits));
        free(alone);
    }
    change_routes(&trace);
    float *alone = run_trace(&x, NULL, &trace, &strategy);
    float *beside = run_trace(&x, device, &trace, &strategy);
    ck_assert(same_logits(&x, alone, beside));
    ck_assert(!same_logits(&x, alone, x.want.logits));
    free(alone);
    free(beside);
    moe_device_close(device);
    moe_trace_release(&trace);
    close_subject(&x);
}
END_TEST

/* What a run without a device leaves behind. */
struct seen_run {
    struct moe_result result;
    struct moe_decision_log log;
    char *text;
    size_t size;
};

static void open_log(struct seen_run *r)
{
    *r = (struct seen_run){.text = NULL};
    r->log.stream = open_memstream(&r->text, &r->size);
    ck_assert_ptr_nonnull(r->log.stream);
}

START_TEST(decides_and_counts)
{
    struct subject x = open_subject(models[0], NULL, 7);
    struct moe_trace trace = trace_of(&x);
    const struct moe_strategy strategy = load("cpu-only", NULL);
    struct moe_platform platform = tiny_platform();
    struct moe_allocation allocation;
    struct moe_timeline *line;
    struct moe_model shape;
    struct seen_run run, sim;
    double token_ms[N_TOKENS - PROMPT];
    platform.gpu.memory_bytes = 0;
    moe_llm_shape(x.llm, &shape);
    open_log(&run);
    open_log(&sim);
    ck_assert(!moe_timeline_new(&line, 10000, &err));
    const struct moe_execute_input input = {.llm = x.llm,
                                            .trace = &trace,
                                            .options = {.strategy = &strategy,
                                                        .platform = &platform,
                                                        .timeline = line,
                                                        .decisions = &run.log},
                                            .token_ms = token_ms};
    const struct moe_sim_input in = {.trace = &trace,
                                     .model = &shape,
                                     .platform = &platform,
                                     .strategy = &strategy,
                                     .decisions = &sim.log};
    ck_assert_msg(!moe_execute(&input, &run.result, &allocation, &err), "%s", err.text);
    ck_assert_msg(!moe_simulate(&in, &sim.result, &err), "%s", err.text);
    fclose(run.log.stream);
    fclose(sim.log.stream);
    ck_assert_uint_gt(run.size, 0);
    ck_assert_str_eq(run.text, sim.text);
    const uint64_t layers = x.config->n_layers, steps = (PROMPT + CHUNK - 1) / CHUNK;
    const struct moe_result *r = &run.result;
    ck_assert_uint_eq(r->decode_tokens, N_TOKENS - PROMPT);
    ck_assert_uint_eq(r->cpu_experts, sim.result.cpu_experts);
    ck_assert_uint_eq(r->gpu_experts + r->h2d_bytes, 0);
    ck_assert_uint_gt(r->cause.cpu_ns, 0);
    ck_assert_uint_eq(r->cause.cpu_ns + r->cause.host_ns, sum_of_causes(&r->cause));
    ck_assert_uint_le(sum_of_causes(&r->cause), r->decode_ns); /* of which the step loop has some */
    ck_assert_uint_eq(allocation.slots, 0);
    ck_assert_uint_eq(allocation.threads, 2);
    /* attention, experts and sum of each layer, the head, the token */
    ck_assert_uint_eq(moe_timeline_count(line), (N_TOKENS - PROMPT + steps) * (3 * layers + 2));
    double sum = 0;
    for (size_t t = 0; t < N_TOKENS - PROMPT; t++)
        sum += token_ms[t];
    ck_assert_double_eq_tol(sum * 1e6, (double)r->decode_ns, 1e-6 * (double)r->decode_ns);
    moe_timeline_free(line);
    free(run.text);
    free(sim.text);
    moe_trace_release(&trace);
    close_subject(&x);
}
END_TEST

START_TEST(wants_all_on_the_cpu)
{
    static const char *const refused[][2] = {{"collab", "2x2"}, {"on-demand", NULL}};
    struct subject x = open_subject(models[0], NULL, 7);
    struct moe_trace trace = trace_of(&x);
    struct moe_result result;
    for (size_t i = 0; i < 2; i++) {
        const struct moe_strategy strategy = load(refused[i][0], refused[i][1]);
        const struct moe_execute_input input = {
            .llm = x.llm, .trace = &trace, .options = {.strategy = &strategy}};
        ck_assert_int_eq(moe_execute(&input, &result, NULL, &err), MOE_ERR_USAGE);
        ck_assert_msg(strstr(err.text, "a machine without a device") ||
                          strstr(err.text, "there is none: take cpu-only"),
                      "%s", err.text);
    }
    moe_trace_release(&trace);
    close_subject(&x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine alone");
    TCase *tc = tcase_create("machine alone");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, same_bits, 0, N_MODELS);
    tcase_add_test(tc, decides_and_counts);
    tcase_add_test(tc, wants_all_on_the_cpu);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
