/* Batches: every row of the merged trace, provenance, refusals; their replay and simulation by
 * hand.
 */
#include "traces/batch.h"

#include "policies/path.h"
#include "sim/bound.h"
#include "sim/replay.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sim_case.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { L = 2, E = 4, K = 2, N_NAMES = 20 };
static const unsigned all_parts = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD;
static const char *const names[N_NAMES] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j",
                                           "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"};

/* Sequences of lengths [n], the first `prompt` tokens of each in one pass. Every value tells its
 * token, counted from `base`. */
static struct moe_trace numbered(unsigned parts, uint64_t n, const uint64_t *length,
                                 uint64_t prompt, int base)
{
    struct moe_trace trace = {.info = {.model = "toy", .n_layers = L, .n_experts = E, .top_k = K}};
    struct moe_tokens *x = &trace.tokens;
    uint64_t total = 0, t = 0;
    for (uint64_t i = 0; i < n; i++)
        total += length[i];
    ck_assert_int_eq(moe_tokens_init(x, &trace.info, total, parts, NULL), MOE_OK);
    trace.sequences = calloc(n, sizeof *trace.sequences);
    trace.n_sequences = n;
    for (uint64_t s = 0; s < n; s++) {
        trace.sequences[s] = (struct moe_sequence){length[s], 7, strdup("set"), strdup(names[s])};
        for (uint64_t i = 0; i < length[s]; i++, t++) {
            x->sequence[t] = (uint32_t)s;
            x->step[t] = (uint32_t)(i < prompt ? 0 : i - prompt + (prompt > 0));
            x->phase[t] = i < prompt ? MOE_PREFILL : MOE_DECODE;
            x->position[t] = (int32_t)(100 * s + i);
            x->token_id[t] = base + (int)t;
        }
    }
    for (uint64_t i = 0; i < total * L * K; i++) {
        x->expert[i] = (moe_expert)((i / K + 2 * (i % K)) % E);
        if (x->weight)
            x->weight[i] = (float)(base * L * K) + (float)i;
    }
    for (uint64_t i = 0; i < total * L * E; i++) {
        if (x->score)
            x->score[i] = (float)(base * L * E) + (float)i;
        if (x->lookahead)
            x->lookahead[i] = -x->score[i];
    }
    return trace;
}

static void set_text(char to[MOE_TEXT_MAX], const char *text)
{
    snprintf(to, MOE_TEXT_MAX, "%s", text);
}

static struct moe_trace merge(const struct moe_trace *inputs, uint64_t n, uint32_t size,
                              int prefill)
{
    const struct moe_batch_options options = {size, prefill};
    struct moe_trace out;
    struct moe_err err = {0};
    if (moe_batch_make(inputs, names, n, &options, &out, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_int_eq(moe_tokens_check(&out.tokens, &out.info, &err), MOE_OK);
    return out;
}

/* Token t of the output is the one with that id: all its columns. */
static void check_row(const struct moe_trace *out, uint64_t t, const struct moe_trace *in,
                      uint64_t from)
{
    const struct moe_tokens *a = &out->tokens, *b = &in->tokens;
    ck_assert_int_eq(a->token_id[t], b->token_id[from]);
    ck_assert_int_eq(a->position[t], b->position[from]);
    ck_assert_int_eq(a->phase[t], b->phase[from]);
    ck_assert_mem_eq(a->expert + t * L * K, b->expert + from * L * K, L * K * sizeof *a->expert);
    ck_assert_mem_eq(a->weight + t * L * K, b->weight + from * L * K, L * K * sizeof *a->weight);
    ck_assert_mem_eq(a->score + t * L * E, b->score + from * L * E, L * E * sizeof *a->score);
    ck_assert_mem_eq(a->lookahead + t * L * E, b->lookahead + from * L * E,
                     L * E * sizeof *a->lookahead);
}

struct row {
    uint32_t sequence, step, request;
    int id;
};

static void check_rows(const struct moe_trace *out, const struct moe_trace *in,
                       const struct row *row, size_t n)
{
    ck_assert_uint_eq(out->tokens.n_tokens, n);
    for (size_t t = 0; t < n; t++) {
        ck_assert_uint_eq(out->tokens.sequence[t], row[t].sequence);
        ck_assert_uint_eq(out->tokens.step[t], row[t].step);
        ck_assert_uint_eq(out->tokens.request[t], row[t].request);
        check_row(out, t, in, (uint64_t)row[t].id);
    }
}

/* Ids 0..4: a prompt of two, three decode; 5..7: one decode; 8..10: one decode. */
static const uint64_t lengths[] = {5, 3, 3};

static void relabel(struct moe_trace *trace, uint64_t i, const char *label)
{
    free(trace->sequences[i].label);
    trace->sequences[i].label = strdup(label);
}

/* Equal labels are joined once; one that only ends like the one before is another. */
START_TEST(joined_labels)
{
    struct moe_trace in = numbered(all_parts, 3, lengths, 2, 0);
    relabel(&in, 0, "data.jsonl");
    relabel(&in, 1, "a.jsonl");
    relabel(&in, 2, "a.jsonl");
    struct moe_trace out = merge(&in, 1, 3, MOE_BATCH_ONE_BY_ONE);
    ck_assert_str_eq(out.sequences[0].label, "data.jsonl; a.jsonl");
    moe_trace_release(&out);
    relabel(&in, 1, "data.jsonl");
    relabel(&in, 2, "data.jsonl");
    out = merge(&in, 1, 3, MOE_BATCH_ONE_BY_ONE);
    ck_assert_str_eq(out.sequences[0].label, "data.jsonl");
    moe_trace_release(&out);
    moe_trace_release(&in);
}
END_TEST

START_TEST(every_row)
{
    static const struct row rows[] = {{0, 0, 0, 0}, {0, 0, 0, 1}, {0, 1, 1, 5}, {0, 1, 1, 6},
                                      {0, 2, 0, 2}, {0, 2, 1, 7}, {0, 3, 0, 3}, {0, 4, 0, 4},
                                      {1, 0, 0, 8}, {1, 0, 0, 9}, {1, 1, 0, 10}};
    struct moe_trace in = numbered(all_parts, 3, lengths, 2, 0);
    struct moe_trace out = merge(&in, 1, 2, MOE_BATCH_ONE_BY_ONE);
    check_rows(&out, &in, rows, sizeof rows / sizeof *rows);
    ck_assert_uint_eq(out.n_sequences, 2);
    ck_assert_uint_eq(out.sequences[0].n_tokens, 8);
    ck_assert_str_eq(out.sequences[0].label, "set");
    ck_assert_str_eq(out.sequences[0].category, "a; b");
    ck_assert_uint_eq(out.sequences[0].text_hash, 0);
    ck_assert_uint_eq(out.sequences[1].n_tokens, 3);
    ck_assert_uint_eq(out.sequences[1].text_hash, 7);
    ck_assert_str_eq(out.info.note, "batches of 2 requests decode in lockstep, prompts one by one");
    moe_trace_release(&out);
    moe_trace_release(&in);
}
END_TEST

START_TEST(prompts_together)
{
    static const struct row rows[] = {{0, 0, 0, 0},  {0, 0, 0, 1}, {0, 0, 1, 5}, {0, 0, 1, 6},
                                      {0, 0, 2, 8},  {0, 0, 2, 9}, {0, 1, 0, 2}, {0, 1, 1, 7},
                                      {0, 1, 2, 10}, {0, 2, 0, 3}, {0, 3, 0, 4}};
    struct moe_trace in = numbered(all_parts, 3, lengths, 2, 0);
    struct moe_trace out = merge(&in, 1, 8, MOE_BATCH_TOGETHER);
    check_rows(&out, &in, rows, sizeof rows / sizeof *rows);
    struct moe_step_context c = moe_step_context(&out.tokens, 6, 0); /* positions 2, 102, 202 */
    ck_assert_uint_eq(c.n_requests, 3);
    ck_assert_uint_eq(c.longest, 202);
    ck_assert_uint_eq(c.all, 306);
    c = moe_step_context(&out.tokens, 0, 0); /* runs of two from 0, 100, 200 */
    ck_assert_uint_eq(c.n_requests, 3);
    ck_assert_uint_eq(c.all, 300);
    struct moe_trace_extent extent = moe_trace_extent(&out, 0);
    ck_assert_uint_eq(extent.chunk, 6);
    ck_assert_uint_eq(extent.context, 206);
    ck_assert_uint_eq(extent.caches, 309);
    moe_trace_release(&out);
    moe_trace_release(&in);
}
END_TEST

/* Requests of several files; what is unknown of positions is counted. */
START_TEST(several_inputs)
{
    static const uint64_t one[] = {2}, two[] = {3};
    static const int32_t ids[] = {0, 50, 1, 51, 52}, positions[] = {0, 0, 1, 1, 2};
    struct moe_trace in[] = {numbered(0, 1, one, 0, 0), numbered(0, 1, two, 0, 50)};
    memset(in[1].tokens.position, 0xff, 3 * sizeof(int32_t));
    set_text(in[0].info.source, "x");
    set_text(in[1].info.source, "y");
    in[1].info.synthetic = true;
    in[0].info.rows_in_order = in[1].info.rows_in_order = true;
    struct moe_trace out = merge(in, 2, 2, MOE_BATCH_ONE_BY_ONE);
    ck_assert_mem_eq(out.tokens.token_id, ids, sizeof ids);
    ck_assert_mem_eq(out.tokens.position, positions, sizeof positions);
    ck_assert_str_eq(out.info.source, "x; y");
    ck_assert(out.info.synthetic);
    ck_assert(!out.info.rows_in_order);
    moe_trace_release(&out);
    out = merge(in, 2, 1, MOE_BATCH_ONE_BY_ONE); /* one behind the other, nothing changed */
    ck_assert_ptr_null(out.tokens.request);
    ck_assert_uint_eq(out.n_sequences, 2);
    ck_assert_uint_eq(out.tokens.sequence[4], 1);
    ck_assert_int_eq(out.tokens.position[4], -1);
    ck_assert(out.info.rows_in_order);
    moe_trace_release(&out);
    moe_trace_release(&in[0]);
    moe_trace_release(&in[1]);
}
END_TEST

static void refuse(const struct moe_trace *in, uint64_t n, uint32_t size, enum moe_status status,
                   const char *text)
{
    const struct moe_batch_options options = {size, MOE_BATCH_ONE_BY_ONE};
    struct moe_trace out;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_batch_make(in, names, n, &options, &out, &err), status);
    ck_assert_msg(strstr(err.text, text), "%s", err.text);
}

START_TEST(refusals)
{
    struct moe_trace in[] = {numbered(MOE_HAS_WEIGHT, 2, lengths, 2, 0),
                             numbered(MOE_HAS_WEIGHT, 2, lengths, 2, 0)};
    refuse(in, 2, 0, MOE_ERR_USAGE, "batches of 0 requests are outside 1..4096");
    refuse(in, 2, 4097, MOE_ERR_USAGE, "outside 1..4096");
    set_text(in[1].info.model, "other");
    refuse(in, 2, 2, MOE_ERR_USAGE,
           "'b' cannot join 'a' in a batch: its model is 'other', not 'toy'");
    set_text(in[1].info.model, "toy");
    in[1].info.n_experts = 5;
    refuse(in, 2, 1, MOE_ERR_USAGE, "it has 2 layers, 5 experts, top 2, not 2, 4, 2");
    in[1].info.n_experts = E;
    in[1].info.expert_bytes = calloc(L, sizeof(uint64_t));
    refuse(in, 2, 2, MOE_ERR_USAGE, "the bytes of experts or dense parts differ");
    free(in[1].info.expert_bytes);
    in[1].info.expert_bytes = NULL;
    in[1].tokens.position[6] = -1;
    refuse(in, 2, 2, MOE_ERR_INPUT,
           "'b': positions of sequence 1 are known in part only: 1 of 3 are not");
    in[1].tokens.position[6] = 1;
    in[1].tokens.phase[4] = MOE_PREFILL;
    refuse(in, 2, 2, MOE_ERR_INPUT, "'b': token 4 of sequence 0 is a prompt token after decode");
    in[1].tokens.phase[4] = MOE_DECODE;
    struct moe_trace with_log = numbered(MOE_HAS_LOG, 1, lengths, 2, 0);
    refuse(&with_log, 1, 2, MOE_ERR_USAGE, "its cache served one request at a time, not 2");
    struct moe_trace kept = merge(&with_log, 1, 1, MOE_BATCH_ONE_BY_ONE);
    ck_assert_ptr_nonnull(kept.tokens.log_bytes);
    struct moe_trace batch = merge(in, 2, 2, MOE_BATCH_ONE_BY_ONE);
    refuse(&batch, 1, 2, MOE_ERR_USAGE, "already has several requests in a sequence");
    struct moe_trace mixed[] = {in[0], with_log};
    refuse(mixed, 2, 1, MOE_ERR_USAGE, "what was recorded");
    moe_trace_release(&batch);
    moe_trace_release(&kept);
    moe_trace_release(&with_log);
    moe_trace_release(&in[0]);
    moe_trace_release(&in[1]);
}
END_TEST

/* A batch of requests, each with so many prompt tokens and one decode token for each expert. */
static struct moe_trace requests(uint32_t n, uint64_t prompt, uint64_t n_decode,
                                 const moe_expert *expert, int32_t first_position, int prefill)
{
    struct moe_trace in[N_NAMES], out;
    for (uint32_t r = 0; r < n; r++) {
        uint64_t length = prompt + n_decode;
        in[r] = tiny_trace(1, E, 1, length, expert + r * length);
        in[r].n_sequences = 1;
        in[r].sequences = calloc(1, sizeof *in[r].sequences);
        in[r].sequences[0] = (struct moe_sequence){length, 0, strdup(""), strdup("")};
        for (uint64_t i = 0; i < length; i++) {
            in[r].tokens.phase[i] = i < prompt ? MOE_PREFILL : MOE_DECODE;
            in[r].tokens.position[i] += first_position * (int32_t)(2 * r + 1);
        }
    }
    out = merge(in, n, n, prefill);
    for (uint32_t r = 0; r < n; r++)
        moe_trace_release(&in[r]);
    return out;
}

static struct moe_counts replayed(const struct moe_trace *trace, enum moe_contract contract)
{
    struct moe_geometry geometry;
    struct moe_policy_spec lru;
    struct moe_replay_options options = {
        .contract = contract, .order = MOE_ORDER_STEP, .phases = MOE_PHASES_BOTH};
    struct moe_replay_result result;
    ck_assert_int_eq(moe_geometry_parse("1x2", 1, E, NULL, &geometry, NULL), MOE_OK);
    ck_assert_int_eq(moe_policy_parse("lru", &lru, NULL), MOE_OK);
    ck_assert_int_eq(moe_replay(trace, &geometry, &lru, &options, &result, NULL), MOE_OK);
    struct moe_counts counts = result.total[MOE_DECODE];
    moe_replay_release(&result);
    moe_geometry_release(&geometry);
    return counts;
}

/* Passes {0}, {1, 2}, {0, 1} in two slots: 1 stays from the second to the third. One access after
 * the other, 0 0 1 2 0 1, only the second token finds its expert. */
START_TEST(replay_of_two)
{
    static const moe_expert expert[] = {0, 1, 0, 0, 2, 1};
    struct moe_trace trace = requests(2, 0, 3, expert, 0, MOE_BATCH_ONE_BY_ONE);
    struct moe_counts c = replayed(&trace, MOE_CONTRACT_EVENT);
    ck_assert_uint_eq(c.events, 3);
    ck_assert_uint_eq(c.lookups, 5);
    ck_assert_uint_eq(c.hits, 1);
    c = replayed(&trace, MOE_CONTRACT_ACCESS);
    ck_assert_uint_eq(c.lookups, 6);
    ck_assert_uint_eq(c.hits, 1);
    moe_trace_release(&trace);
}
END_TEST

static struct moe_result simulated(const struct moe_trace *trace)
{
    const struct moe_model model = tiny_model(1, E, 1);
    const struct moe_platform platform = tiny_platform();
    struct moe_strategy strategy = load_strategy("cpu-only");
    strategy.threads = 4;
    const struct moe_sim_input input = {.trace = trace,
                                        .model = &model,
                                        .platform = &platform,
                                        .strategy = &strategy,
                                        .bound = true};
    struct moe_result r;
    struct moe_err err = {0};
    if (moe_simulate(&input, &r, &err))
        ck_abort_msg("%s", err.text);
    return r;
}

/* Positions 10 and 30: keys and values of 11 + 31 tokens, 2 ns each. Activations of a second token
 * take 20 ns each way. Two experts, or one of two tokens, which takes as long as one of one. */
START_TEST(each_token_reads_its_own_cache)
{
    static const moe_expert apart[] = {0, 1}, alike[] = {2, 2};
    const uint64_t dense = 10408 + 2 * (11 + 31) + 22000, state = 3020 + 4020;
    struct moe_trace trace = requests(2, 0, 1, apart, 10, MOE_BATCH_ONE_BY_ONE);
    struct moe_result r = simulated(&trace);
    ck_assert_uint_eq(r.decode_ns, dense + state + 60000);
    ck_assert_uint_eq(r.decode_tokens, 2);
    ck_assert_double_eq_tol(r.tokens_per_s, 2e9 / (double)r.decode_ns, 1e-6);
    ck_assert_double_eq_tol(r.ms_p99, (double)r.decode_ns * 0.5e-6, 1e-9);
    ck_assert_uint_eq(r.path_ns, r.decode_ns);
    ck_assert_double_eq_tol(r.schedule_bound_share, 1, 1e-12);
    /* T = dense + 30000 x, and the other 2 - x = T / 61000 are copied: 62000.1, in whole ns. */
    ck_assert_double_eq_tol(r.bound_ms, 62001 * 0.5e-6, 1e-12);
    moe_trace_release(&trace);
    trace = requests(2, 0, 1, alike, 10, MOE_BATCH_ONE_BY_ONE);
    r = simulated(&trace);
    ck_assert_uint_eq(r.decode_ns, dense + state + 30000);
    ck_assert_uint_eq(r.routed_experts, 1);
    moe_trace_release(&trace);
}
END_TEST

/* Twenty prompts of one token: the dense part by its flops, 816 ns, the expert's 300000, and logits
 * of twenty tokens, 4000; activations of 19 more tokens take 380 each way. One by one each takes
 * what one takes. */
START_TEST(logits_of_every_prompt)
{
    static const moe_expert expert[2 * N_NAMES];
    struct moe_trace trace = requests(20, 1, 1, expert, 0, MOE_BATCH_TOGETHER);
    struct moe_result r = simulated(&trace);
    ck_assert_uint_eq(r.prefill_tokens, 20);
    ck_assert_uint_eq(r.prefill_ns, 10816 + 3380 + 300000 + 4380 + 24000);
    moe_trace_release(&trace);
    trace = requests(20, 1, 1, expert, 0, MOE_BATCH_ONE_BY_ONE);
    r = simulated(&trace);
    ck_assert_uint_eq(r.prefill_ns, 20 * (10410 + 3000 + 30000 + 4000 + 22000));
    moe_trace_release(&trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batch");
    TCase *tc = tcase_create("batch");
    tcase_add_test(tc, every_row);
    tcase_add_test(tc, joined_labels);
    tcase_add_test(tc, prompts_together);
    tcase_add_test(tc, several_inputs);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, replay_of_two);
    tcase_add_test(tc, each_token_reads_its_own_cache);
    tcase_add_test(tc, logits_of_every_prompt);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
