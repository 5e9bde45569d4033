#include "policies/future.h"

#include "base/rng.h"
#include "policies/policy.h"
#include "tests/unit/random_trace.h"
#include "tests/unit/run_suite.h"

#include <omp.h>

enum { N_CASES = 600, N_LARGE = 2 };

/* One use of an expert, in the order of a replay. */
struct use {
    size_t at; /* index into tokens->expert */
    uint32_t key, ordinal;
};

static bool same_pass(const struct moe_tokens *x, uint64_t a, uint64_t b)
{
    return x->sequence[a] == x->sequence[b] && x->step[a] == x->step[b];
}

/* The uses in execution order, written down naively: pass, layer, token, k. */
static size_t list_uses(const struct moe_trace *trace, enum moe_contract contract,
                        enum moe_replay_order order, enum moe_phases phases, struct use *use)
{
    const struct moe_tokens *x = &trace->tokens;
    uint32_t n_layers = trace->info.n_layers, top_k = trace->info.top_k, ordinal = 0;
    size_t n = 0;
    for (uint64_t t = 0, end; t < x->n_tokens; t = end) {
        for (end = t + 1; order != MOE_ORDER_TOKEN && end < x->n_tokens && same_pass(x, t, end);)
            end++;
        if ((phases == MOE_PHASES_DECODE && x->phase[t] != MOE_DECODE) ||
            (phases == MOE_PHASES_PREFILL && x->phase[t] != MOE_PREFILL))
            continue;
        for (uint32_t layer = 0; layer < n_layers; layer++) {
            for (uint64_t i = t; i < end; i++)
                for (uint32_t k = 0; k < top_k; k++) {
                    size_t at = (i * n_layers + layer) * top_k + k;
                    if (x->expert[at] == MOE_NO_EXPERT)
                        continue;
                    use[n++] =
                        (struct use){at, layer * trace->info.n_experts + x->expert[at], ordinal};
                    ordinal += contract == MOE_CONTRACT_ACCESS;
                }
            ordinal += contract == MOE_CONTRACT_EVENT;
        }
    }
    return n;
}

static void compare_case(uint64_t seed)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    struct random_shape shape = {
        .n_layers = 1 + (uint32_t)moe_rng_below(&rng, 3),
        .n_experts = 3 + (uint32_t)moe_rng_below(&rng, 6),
        .top_k = 1 + (uint32_t)moe_rng_below(&rng, 3),
        .n_tokens = 1 + (uint32_t)moe_rng_below(&rng, 40),
        .absent = moe_rng_below(&rng, 2),
        .many = moe_rng_below(&rng, 2),
    };
    struct moe_trace trace;
    random_trace(&rng, &shape, &trace);
    enum moe_contract contract = moe_rng_below(&rng, 2) ? MOE_CONTRACT_EVENT : MOE_CONTRACT_ACCESS;
    enum moe_replay_order order = (enum moe_replay_order)moe_rng_below(&rng, 3);
    enum moe_phases phases = (enum moe_phases)moe_rng_below(&rng, 3);
    size_t entries = (size_t)shape.n_tokens * shape.n_layers * shape.top_k;
    struct use *use = calloc(entries, sizeof *use);
    uint32_t *want = malloc(entries * sizeof *want), *got;
    memset(want, 0xff, entries * sizeof *want);
    size_t n = list_uses(&trace, contract, order, phases, use);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            if (use[j].key == use[i].key && use[j].ordinal > use[i].ordinal) {
                want[use[i].at] = use[j].ordinal;
                break;
            }
    struct moe_err err;
    ck_assert_int_eq(moe_future_build(&trace.tokens, shape.n_layers, shape.n_experts, shape.top_k,
                                      contract, order, phases, &got, &err),
                     MOE_OK);
    for (size_t i = 0; i < entries; i++)
        ck_assert_msg(got[i] == want[i], "seed %llu entry %zu: %u, expected %u",
                      (unsigned long long)seed, i, got[i], want[i]);
    free(use);
    free(want);
    free(got);
    moe_trace_release(&trace);
}

START_TEST(equals_a_naive_search)
{
    for (uint64_t seed = 1; seed <= N_CASES; seed++)
        compare_case(seed);
}
END_TEST

static uint32_t *build_by(int threads, const struct moe_trace *trace, enum moe_phases phases)
{
    const struct moe_trace_info *info = &trace->info;
    struct moe_err err;
    uint32_t *next;
    omp_set_num_threads(threads);
    ck_assert_int_eq(moe_future_build(&trace->tokens, info->n_layers, info->n_experts, info->top_k,
                                      MOE_CONTRACT_EVENT, MOE_ORDER_STEP, phases, &next, &err),
                     MOE_OK);
    return next;
}

/* Enough entries for threads of their own, more of them than divide the layers: what one thread
 * finds, which the naive search has shown to be right. */
START_TEST(threads_find_what_one_does)
{
    for (uint64_t seed = 1; seed <= N_LARGE; seed++) {
        struct moe_rng rng;
        moe_rng_init(&rng, seed);
        const struct random_shape shape = {
            .n_layers = 38,
            .n_experts = 8,
            .top_k = 2,
            .n_tokens = MOE_FUTURE_THREADS_FROM / (38 * 2) + 1,
            .absent = seed % 2,
            .many = true,
        };
        struct moe_trace trace;
        random_trace(&rng, &shape, &trace);
        const enum moe_phases phases = seed == 1 ? MOE_PHASES_BOTH : MOE_PHASES_DECODE;
        uint32_t *one = build_by(1, &trace, phases), *seven = build_by(7, &trace, phases);
        const size_t n = (size_t)shape.n_tokens * shape.n_layers * shape.top_k;
        ck_assert_mem_eq(one, seven, n * sizeof *one);
        free(one);
        free(seven);
        moe_trace_release(&trace);
    }
}
END_TEST

/* One layer, three passes of one token: (0 1) (1 2) (0 1). */
START_TEST(by_hand)
{
    moe_expert expert[] = {0, 1, 1, 2, 0, 1};
    uint32_t sequence[] = {0, 0, 0}, step[] = {0, 1, 2};
    uint8_t phase[] = {MOE_DECODE, MOE_DECODE, MOE_DECODE};
    struct moe_tokens tokens = {
        .n_tokens = 3, .sequence = sequence, .step = step, .phase = phase, .expert = expert};
    static const uint32_t events[] = {2, 1, 2, MOE_NEVER, MOE_NEVER, MOE_NEVER};
    static const uint32_t accesses[] = {4, 2, 5, MOE_NEVER, MOE_NEVER, MOE_NEVER};
    uint32_t *next;
    struct moe_err err;
    ck_assert_int_eq(moe_future_build(&tokens, 1, 3, 2, MOE_CONTRACT_EVENT, MOE_ORDER_STEP,
                                      MOE_PHASES_BOTH, &next, &err),
                     MOE_OK);
    ck_assert_mem_eq(next, events, sizeof events);
    free(next);
    ck_assert_int_eq(moe_future_build(&tokens, 1, 3, 2, MOE_CONTRACT_ACCESS, MOE_ORDER_STEP,
                                      MOE_PHASES_BOTH, &next, &err),
                     MOE_OK);
    ck_assert_mem_eq(next, accesses, sizeof accesses);
    free(next);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("future");
    TCase *tc = tcase_create("future");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, by_hand);
    tcase_add_test(tc, equals_a_naive_search);
    tcase_add_test(tc, threads_find_what_one_does);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
