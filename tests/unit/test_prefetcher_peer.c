/* What the prefetcher moe-infinity asks for after every layer, and in which order, equals what
 * MoE-Infinity's released functions give for the same routes (tests/golden/peers/predictions.py).
 */
#include "policies/machine.h"
#include "policies/prefetcher.h"
#include "tests/unit/run_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 64 };

/* A row: a forward pass. */
struct pass {
    unsigned n_layers, n_experts, capacity, sequence, phase;
    char used[512], wanted[512]; /* by layer, separated by '/' */
};

static struct moe_prefetcher_spec spec;
static void *state;

static void open_prefetcher(const struct pass *pass)
{
    char text[64];
    struct moe_err err;
    struct moe_prefetch_env env = {
        .n_layers = pass->n_layers, .n_experts = pass->n_experts, .params = spec.params};
    snprintf(text, sizeof text, "moe-infinity:eps=0,capacity=%u", pass->capacity);
    ck_assert_int_eq(moe_prefetcher_parse(text, &spec, &err), MOE_OK);
    free(state);
    state = calloc(1, spec.ops->state_size(&env));
    ck_assert_ptr_nonnull(state);
    spec.ops->init(state, &env);
}

/* A layer's part of a field, its end included. */
static const char *next_part(char **field)
{
    char *part = *field, *end = strchr(part, '/');
    *field = end ? end + 1 : part + strlen(part);
    if (end)
        *end = '\0';
    return part;
}

/* Tells the experts of a layer, and writes what is wanted then as the table has it. */
static void tell(const struct pass *pass, uint32_t layer, const char *used, char *got, size_t size)
{
    moe_expert expert[KEYS_MAX];
    uint32_t tokens[KEYS_MAX];
    moe_key key[KEYS_MAX];
    struct moe_route route = {
        .layer = layer, .phase = pass->phase, .expert = expert, .tokens = tokens};
    for (char *at; *used; used = *at ? at + 1 : at) {
        moe_expert e = (moe_expert)strtoul(used, &at, 10);
        uint32_t i = 0;
        while (i < route.n && expert[i] != e)
            i++;
        tokens[i] = i < route.n ? tokens[i] + 1 : 1;
        expert[i] = e;
        route.n += i == route.n;
    }
    uint32_t n = spec.ops->predict(state, &route, key, KEYS_MAX);
    snprintf(got, size, n ? "" : "-");
    for (uint32_t i = 0; i < n; i++) {
        size_t end = strlen(got);
        snprintf(got + end, size - end, i ? ",%u" : "%u", key[i]);
    }
}

static void check_pass(struct pass *pass, unsigned row)
{
    char got[512], *used = pass->used, *wanted = pass->wanted;
    struct moe_step step = {0};
    spec.ops->on_step(state, &step);
    for (uint32_t layer = 0; layer < pass->n_layers; layer++) {
        tell(pass, layer, next_part(&used), got, sizeof got);
        const char *want = next_part(&wanted);
        ck_assert_msg(strcmp(got, want) == 0, "pass %u, layer %u: %s wanted, theirs %s", row, layer,
                      got, want);
    }
}

START_TEST(equal_to_moe_infinity)
{
    char line[1200];
    struct pass pass, before = {0};
    unsigned row = 0;
    FILE *in = fopen("tests/golden/peers/predictions.tsv", "r");
    ck_assert_ptr_nonnull(in);
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "%u %u %u %u %u %511s %511s", &pass.n_layers, &pass.n_experts,
                   &pass.capacity, &pass.sequence, &pass.phase, pass.used, pass.wanted) != 7)
            continue;
        if (pass.n_layers != before.n_layers)
            open_prefetcher(&pass);
        else if (pass.sequence != before.sequence)
            spec.ops->on_sequence(state);
        before = pass;
        check_pass(&pass, row++);
    }
    fclose(in);
    free(state);
    ck_assert_uint_eq(row, 12 * 4 + 30 * 4);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("prefetcher_peer");
    tcase_add_test(tc, equal_to_moe_infinity);
    Suite *suite = suite_create("prefetcher_peer");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
