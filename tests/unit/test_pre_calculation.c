/* Experts that the CPU begins during the layer before: every operation and its time by hand, and
 * properties on random worlds. What the real machine computes: test_reroute_exec.c. */
#include "sim_world.h"
#include "tests/unit/run_suite.h"

/* Durations of sim_case.h: a layer 10410 in the first token, a CPU expert 30000, a GPU expert 7000,
 * activations 3000 down and 4000 up, 22000 at the end. */
enum { LAYER = 10410, DOWN = 3000, UP = 4000, CPU = 30000, GPU = 7000, END = 22000 };

static struct moe_err err;

/* One token of two layers: layer 0 uses 0 and 1, layer 1 uses 2 and 3; layer 0's input makes layer
 * 1's router prefer `first`, then `second`. */
static struct world world_that_predicts(const char *geometry, const char *rule, uint32_t first,
                                        uint32_t second)
{
    static const moe_expert routes[] = {0, 1, 2, 3};
    struct world w = world_of("cpu-only", geometry, 1, routes);
    struct moe_tokens *tokens = &w.trace.tokens;
    tokens->score = calloc(8, sizeof *tokens->score);
    tokens->lookahead = calloc(8, sizeof *tokens->lookahead);
    ck_assert(tokens->score && tokens->lookahead);
    tokens->lookahead[first] = 2;
    tokens->lookahead[second] = 1;
    set_key(&w.strategy, "policy", "static");
    set_key(&w.strategy, "reroute", rule);
    w.strategy.lossy = true;
    return w;
}

struct ran {
    struct moe_result r;
    char *decisions, *operations; /* heap */
};

/* "track name cause:layer:expert start..end", by start and then by end; the token is left out. */
static char *text_of(struct moe_timeline *timeline)
{
    static const char *const tracks[] = {[MOE_TRACK_GPU] = "gpu",
                                         [MOE_TRACK_CPU] = "cpu",
                                         [MOE_TRACK_H2D] = "copy",
                                         [MOE_TRACK_STATE] = "state"};
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    uint64_t n = moe_timeline_count(timeline);
    for (uint64_t at = 0, next; at != UINT64_MAX; at = next) {
        next = UINT64_MAX;
        for (uint64_t i = 0; i < n; i++) {
            const struct moe_operation *o = moe_timeline_at(timeline, i);
            if (o->track == MOE_TRACK_TOKEN)
                continue;
            if (o->start_ns > at && o->start_ns < next)
                next = o->start_ns;
            if (o->start_ns == at)
                fprintf(out, "%s %s%s%s:%d:%d %llu..%llu\n", tracks[o->track], o->name,
                        o->cause ? " " : "", o->cause ? o->cause : "", o->layer, o->expert,
                        (unsigned long long)o->start_ns, (unsigned long long)o->end_ns);
        }
    }
    fclose(out);
    return text;
}

static struct ran simulate(const struct world *w, bool drawn)
{
    struct ran ran;
    size_t size;
    struct moe_timeline *timeline = NULL;
    struct moe_decision_log log = {.stream = open_memstream(&ran.decisions, &size)};
    if (drawn)
        ck_assert_int_eq(moe_timeline_new(&timeline, 100000, NULL), MOE_OK);
    const struct moe_sim_input in = {.trace = &w->trace,
                                     .model = &w->model,
                                     .platform = &w->platform,
                                     .strategy = &w->strategy,
                                     .decisions = &log,
                                     .timeline = timeline,
                                     .bound = true};
    ck_assert_msg(!moe_simulate(&in, &ran.r, &err), "%s", err.text);
    ck_assert_int_eq(fclose(log.stream), 0);
    ran.operations = drawn ? text_of(timeline) : NULL;
    moe_timeline_free(timeline);
    ck_assert_uint_eq(sum_of_causes(&ran.r.cause), ran.r.decode_ns);
    return ran;
}

static void release(struct ran *ran)
{
    free(ran->decisions);
    free(ran->operations);
}

/* Simulated twice, with sums of layers where there are such and without. */
static struct moe_result expect(struct world *w, const char *decisions, const char *operations)
{
    struct ran drawn = simulate(w, true), summed = simulate(w, false);
    ck_assert_str_eq(drawn.decisions, decisions);
    ck_assert_str_eq(drawn.operations, operations);
    ck_assert_str_eq(summed.decisions, decisions);
    ck_assert_mem_eq(&drawn.r.cause, &summed.r.cause, sizeof drawn.r.cause);
    struct moe_result r = summed.r;
    release(&drawn);
    release(&summed);
    moe_trace_release(&w->trace);
    return r;
}

/* Nothing is on the GPU. 2 is right, and its result is there before layer 1 asks; 0 is wrong, and
 * keeps the CPU from 3, which nobody guessed. Layer 1's attention runs beside both. */
START_TEST(right_and_wrong)
{
    struct world w = world_that_predicts("none", "pre-calculation", 2, 0);
    struct moe_result r = expect(&w,
                                 "0 0 decode 0:miss:-:cpu:- 1:miss:-:cpu:-\n"
                                 "0 1 decode 2:miss:-:early:- 3:miss:-:cpu:- early:2,0\n",
                                 "gpu attend:0:-1 0..10410\n"
                                 "state state down:0:-1 10410..13410\n"
                                 "cpu expert miss:0:0 13410..43410\n"
                                 "cpu expert miss:0:1 43410..73410\n"
                                 "state state up:0:-1 73410..77410\n"
                                 "cpu expert early:1:2 73410..103410\n"
                                 "gpu attend:1:-1 77410..87820\n"
                                 "state state down:1:-1 87820..90820\n"
                                 "cpu expert early:1:0 103410..133410\n"
                                 "cpu expert miss:1:3 133410..163410\n"
                                 "state state up:1:-1 163410..167410\n"
                                 "gpu head:-1:-1 167410..189410\n");
    ck_assert_uint_eq(r.decode_ns, 189410);
    ck_assert_uint_eq(r.cpu_experts, 4);
    ck_assert_uint_eq(r.routed_experts, 4);
    ck_assert_uint_eq(r.rerouted.early, 2);
    ck_assert_uint_eq(r.rerouted.early_used, 1);
    ck_assert_uint_eq(r.rerouted.early_wasted_ns, CPU);
    ck_assert_uint_eq(r.rerouted.events_moved, 0);
    ck_assert_uint_eq(r.cause.both_ns, LAYER); /* its overhead included: the host works, too */
    ck_assert_uint_eq(r.cause.host_ns, 10000 + 20000);
    ck_assert_uint_eq(r.cause.gpu_ns, 410 + 2000);
    ck_assert_uint_eq(r.cause.cpu_ns, 5 * CPU - LAYER);
    ck_assert_uint_eq(r.cause.state_ns, DOWN + UP);
    ck_assert_double_eq_tol(r.dram_gb_per_s, 5 * 600000. / 189410, 1e-9);
    /* The bound of the decisions knows nothing of 2, which may be done before layer 1 begins. */
    ck_assert_double_eq_tol(r.schedule_bound_ms * 1e6,
                            2 * (LAYER + DOWN + UP) + 2 * CPU + CPU + END, 1e-3);
}
END_TEST

/* DAOP: what is predicted is what is computed, with expert 0 of each layer on the GPU. 2 is begun
 * behind layer 0's own 1, and 3, the router's, is not computed at all. */
START_TEST(daop_computes_what_it_began)
{
    struct world w = world_that_predicts("2x1", "daop:first=1,pre_calculation=on", 2, 0);
    struct moe_result r = expect(&w,
                                 "0 0 decode 0:hit:0:gpu:- 1:miss:-:cpu:-\n"
                                 "0 1 decode 2:miss:-:early:- 0:hit:1:gpu:- lossy:2,3 early:2\n",
                                 "copy fill prefetch:0:0 0..61000\n"
                                 "copy fill prefetch:1:0 61000..122000\n"
                                 "gpu attend:0:-1 122000..132410\n"
                                 "state state down:0:-1 132410..135410\n"
                                 "gpu expert hit:0:0 132410..139410\n"
                                 "cpu expert miss:0:1 135410..165410\n"
                                 "state state up:0:-1 165410..169410\n"
                                 "cpu expert early:1:2 165410..195410\n"
                                 "gpu attend:1:-1 169410..179820\n"
                                 "gpu expert hit:1:0 179820..186820\n"
                                 "state state up:1:-1 195410..199410\n"
                                 "gpu head:-1:-1 199410..221410\n");
    ck_assert_uint_eq(r.decode_ns, 221410 - 122000);
    ck_assert_uint_eq(r.rerouted.early, 1);
    ck_assert_uint_eq(r.rerouted.early_used, 1);
    ck_assert_uint_eq(r.rerouted.early_wasted_ns, 0);
    ck_assert(r.bound_ms != r.bound_ms); /* that of the trace's routes says nothing here */
}
END_TEST

/* Both predicted are missing: the likelier one is begun, and the other gives way to what is there.
 */
START_TEST(daop_begins_one_of_two)
{
    struct world w = world_that_predicts("2x1", "daop:first=1,pre_calculation=on", 3, 2);
    struct ran ran = simulate(&w, false);
    ck_assert_str_eq(ran.decisions,
                     "0 0 decode 0:hit:0:gpu:- 1:miss:-:cpu:-\n"
                     "0 1 decode 3:miss:-:early:- 0:hit:1:gpu:- lossy:2,3 early:3\n");
    release(&ran);
    set_key(&w.strategy, "reroute.first", "2"); /* layer 1 keeps its router's choice */
    ran = simulate(&w, false);
    ck_assert_str_eq(ran.decisions, "0 0 decode 0:hit:0:gpu:- 1:miss:-:cpu:-\n"
                                    "0 1 decode 2:miss:-:cpu:- 3:miss:-:cpu:-\n");
    release(&ran);
    moe_trace_release(&w.trace);
}
END_TEST

/* A layer whose own experts are all on the GPU: its input comes down for the next one's alone,
 * which needs nothing brought down any more. */
START_TEST(nothing_else_for_the_cpu)
{
    struct world w = world_that_predicts("per-layer:2,0", "pre-calculation", 3, 2);
    struct moe_result r = expect(&w,
                                 "0 0 decode 0:hit:0:gpu:- 1:hit:1:gpu:-\n"
                                 "0 1 decode 2:miss:-:early:- 3:miss:-:early:- early:3,2\n",
                                 "copy fill prefetch:0:0 0..61000\n"
                                 "copy fill prefetch:0:1 61000..122000\n"
                                 "gpu attend:0:-1 122000..132410\n"
                                 "state state down:0:-1 132410..135410\n"
                                 "gpu expert hit:0:0 132410..139410\n"
                                 "cpu expert early:1:3 135410..165410\n"
                                 "gpu expert hit:0:1 139410..146410\n"
                                 "gpu attend:1:-1 146410..156820\n"
                                 "cpu expert early:1:2 165410..195410\n"
                                 "state state up:1:-1 195410..199410\n"
                                 "gpu head:-1:-1 199410..221410\n");
    ck_assert_uint_eq(r.decode_ns, 221410 - 122000);
    ck_assert_uint_eq(r.cpu_experts, 2);
    ck_assert_uint_eq(r.gpu_experts, 2);
}
END_TEST

/* Guessed, begun, and then on the GPU after all: the prefetcher brings 2 when layer 0 has already
 * asked for copies of its own, which go first; the GPU computes 2 on layer 1's own input. */
START_TEST(what_got_a_slot_since_is_not_taken)
{
    struct world w = world_that_predicts("2x2", "pre-calculation", 2, 3);
    set_key(&w.strategy, "policy", "lru");
    set_key(&w.strategy, "admission", "always");
    set_key(&w.strategy, "prefetcher", "gate-lookahead:n=1");
    set_key(&w.strategy, "dispatch.miss", "wait");
    struct ran ran = simulate(&w, false);
    ck_assert_msg(strstr(ran.decisions, "0 1 decode 2:flight:2:gpu:- 3:miss:-:streamed:3 "
                                        "early:2,3\n") != NULL,
                  "%s", ran.decisions);
    ck_assert_uint_eq(ran.r.rerouted.early, 2);
    ck_assert_uint_eq(ran.r.rerouted.early_used, 0);
    ck_assert_uint_eq(ran.r.rerouted.early_wasted_ns, 2 * CPU);
    ck_assert_uint_eq(ran.r.cpu_experts, 0);
    release(&ran);
    moe_trace_release(&w.trace);
}
END_TEST

START_TEST(refusals)
{
    struct world w = world_that_predicts("none", "pre-calculation", 2, 0);
    struct moe_result r;
    set_key(&w.strategy, "dispatch.overlap", "off");
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "dispatch.overlap=on") != NULL, "%s", err.text);
    set_key(&w.strategy, "dispatch.overlap", "on");
    w.strategy.lossy = false;
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "on the input of the layer before") != NULL, "%s", err.text);
    w.strategy.lossy = true;
    free(w.trace.tokens.lookahead);
    w.trace.tokens.lookahead = NULL;
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "lookahead") != NULL, "%s", err.text);
    moe_trace_release(&w.trace);
}
END_TEST

/* Random worlds, with random guesses that are sometimes right. */
static struct world guessing_world(struct moe_rng *rng)
{
    struct world w = random_world(rng);
    const struct moe_trace_info *info = &w.trace.info;
    struct moe_tokens *tokens = &w.trace.tokens;
    size_t n = (size_t)tokens->n_tokens * info->n_layers * info->n_experts;
    tokens->lookahead = malloc(n * sizeof *tokens->lookahead);
    ck_assert_ptr_nonnull(tokens->lookahead);
    for (size_t i = 0; i < n; i++)
        tokens->lookahead[i] = (float)(4 * moe_rng_unit(rng));
    set_key(&w.strategy, "dispatch.overlap", "on");
    if (w.strategy.policy.ops->needs & MOE_NEEDS_FUTURE)
        set_key(&w.strategy, "policy", "lru");
    if (w.strategy.prefetcher.ops->needs & MOE_NEEDS_FUTURE)
        set_key(&w.strategy, "prefetcher", "gate-lookahead:n=1");
    set_key(
        &w.strategy, "reroute",
        PICK(rng, "pre-calculation", "pre-calculation:first=2", "daop:first=1,pre_calculation=on"));
    w.strategy.lossy = true;
    return w;
}

/* Layers as sums and layers as operations come to the same, times add up, no schedule of the same
 * decisions would have been faster, and everything routed is computed once. */
START_TEST(random_worlds)
{
    struct moe_rng rng;
    uint64_t begun = 0, used = 0;
    moe_rng_init(&rng, 90);
    for (int i = 0; i < 600; i++) {
        struct world w = guessing_world(&rng);
        struct ran summed = simulate(&w, false), drawn = simulate(&w, true);
        const struct moe_result *r = &summed.r;
        ck_assert_str_eq(summed.decisions, drawn.decisions);
        ck_assert_mem_eq(&r->cause, &drawn.r.cause, sizeof r->cause);
        ck_assert_uint_eq(r->decode_ns, drawn.r.decode_ns);
        ck_assert_uint_le(r->rerouted.early_used, r->rerouted.early);
        ck_assert_double_le(r->schedule_bound_ms, r->ms_mean * (1 + 1e-9));
        begun += r->rerouted.early;
        used += r->rerouted.early_used;
        set_key(&w.strategy, "reroute", "none");
        struct ran plain = simulate(&w, false);
        ck_assert_uint_eq(plain.r.routed_experts, r->routed_experts);
        ck_assert_uint_eq(plain.r.rerouted.early, 0);
        release(&plain);
        release(&summed);
        release(&drawn);
        moe_trace_release(&w.trace);
    }
    ck_assert_uint_gt(used, 2000);
    ck_assert_uint_gt(begun, used + 2000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pre-calculation");
    TCase *tc = tcase_create("pre-calculation");
    tcase_add_test(tc, right_and_wrong);
    tcase_add_test(tc, daop_computes_what_it_began);
    tcase_add_test(tc, daop_begins_one_of_two);
    tcase_add_test(tc, nothing_else_for_the_cpu);
    tcase_add_test(tc, what_got_a_slot_since_is_not_taken);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, random_worlds);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
