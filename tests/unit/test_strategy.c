/* Strategies: defaults, the committed files, keys by name, every kind of bad input. */
#include "policies/strategy.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;

static struct moe_strategy load(const char *name)
{
    char path[128];
    struct moe_strategy s;
    snprintf(path, sizeof path, "experiments/strategies/%s.yaml", name);
    if (moe_strategy_load(path, &s, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_str_eq(s.name, name);
    return s;
}

static enum moe_status parse(const char *text, struct moe_strategy *s)
{
    struct moe_yaml *root;
    enum moe_status status = moe_yaml_parse("s.yaml", text, strlen(text), &root, &err);
    if (status)
        return status;
    status = moe_strategy_from_yaml(root, s, &err);
    moe_yaml_free(root);
    return status;
}

static void refuse(const char *text, const char *message)
{
    struct moe_strategy s = {.seed = 77};
    ck_assert_int_eq(parse(text, &s), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, message);
    ck_assert_uint_eq(s.seed, 77); /* written only on success */
}

START_TEST(committed_files)
{
    struct moe_strategy s = load("collab");
    ck_assert_str_eq(s.geometry, "7x8");
    ck_assert_str_eq(s.policy.ops->name, "lru");
    ck_assert_int_eq(s.miss, MOE_MISS_CPU);
    ck_assert_int_eq(s.order, MOE_ORDER_HITS_FIRST);
    ck_assert_int_eq(s.overlap, 1);
    ck_assert_int_eq(s.fill_when, MOE_FILL_AFTER_COMPUTE);
    ck_assert_int_eq(s.prefill, MOE_PREFILL_CPU);
    ck_assert_uint_eq(s.threads, 24);
    s = load("collab-reference");
    ck_assert_str_eq(s.policy.ops->name, "paper-lru");
    ck_assert_str_eq(s.admission.ops->name, "quota");
    ck_assert_int_eq(s.order, MOE_ORDER_GATE);
    ck_assert_int_eq(s.overlap, 0);
    s = load("on-demand");
    ck_assert_int_eq(s.miss, MOE_MISS_WAIT);
    ck_assert_int_eq(s.prefill, MOE_PREFILL_STREAM);
    s = load("cpu-only");
    ck_assert_str_eq(s.geometry, "none");
    ck_assert_str_eq(s.admission.ops->name, "never");
}
END_TEST

/* Points of kept tables are known by it: what came later shows only where it is used. */
START_TEST(newer_keys_are_described_where_set)
{
    struct moe_strategy s = load("collab-reference");
    char text[4096];
    moe_strategy_describe(&s, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, " policy=paper-lru policy.hazards=true admission=quota"));
    ck_assert_int_eq(moe_strategy_set(&s, "policy.reading", "fifo", &err), MOE_OK);
    moe_strategy_describe(&s, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, " policy.hazards=true policy.reading=fifo admission=quota"));
}
END_TEST

START_TEST(what_is_described_comes_back)
{
    struct moe_strategy a = load("collab-reference"), b;
    char text[2048], again[2048];
    ck_assert_int_eq(moe_strategy_set(&a, "admission.quota", "7", &err), MOE_OK);
    moe_strategy_describe(&a, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, " admission.quota=7"));
    ck_assert_ptr_nonnull(strstr(text, " policy=paper-lru"));
    ck_assert_ptr_nonnull(strstr(text, " dispatch.order=gate"));
    moe_strategy_default(&b);
    snprintf(b.name, sizeof b.name, "%s", a.name);
    char *rest = text;
    for (char *word = strsep(&rest, " "); word; word = strsep(&rest, " ")) {
        char *value = strchr(word, '=');
        if (strncmp(word, "strategy=", 9) == 0)
            continue;
        *value++ = 0;
        ck_assert_int_eq(moe_strategy_set(&b, word, value, &err), MOE_OK);
    }
    moe_strategy_describe(&a, text, sizeof text);
    moe_strategy_describe(&b, again, sizeof again);
    ck_assert_str_eq(again, text);
}
END_TEST

START_TEST(keys_by_name)
{
    struct moe_strategy s;
    moe_strategy_default(&s);
    ck_assert_str_eq(s.policy.ops->name, "lru");
    ck_assert_str_eq(s.admission.ops->name, "always");
    ck_assert_str_eq(s.prefetcher.ops->name, "none");
    ck_assert_str_eq(s.geometry, "none");
    ck_assert_int_eq(moe_strategy_set(&s, "policy", "opt:admit=forced", &err), MOE_OK);
    ck_assert_int_eq(moe_strategy_set(&s, "policy.admit", "bypass", &err), MOE_OK);
    ck_assert_int_eq(moe_strategy_set(&s, "dispatch.in_flight", "cpu", &err), MOE_OK);
    ck_assert_int_eq(s.in_flight, MOE_FLIGHT_CPU);
    ck_assert_int_eq(moe_strategy_set(&s, "threads", "0", &err), MOE_ERR_USAGE);
    ck_assert_uint_eq(s.threads, 8);
    ck_assert_int_eq(moe_strategy_set(&s, "polcy", "lru", &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "unknown strategy key 'polcy' (did you mean 'policy'?)");
    ck_assert_int_eq(moe_strategy_set(&s, "prefetcher.x", "1", &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "unknown key 'prefetcher.x': prefetcher 'none' has no parameters");
    ck_assert_int_eq(moe_strategy_set(&s, "dispatch.x", "1", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_strategy_set(&s, "x", "1", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_strategy_set(&s, "fill.memory", "pageable", &err), MOE_OK);
}
END_TEST

START_TEST(bad_files)
{
    refuse("strategy: a\nsource: b\npolcy: lru\n",
           "'s.yaml':3: unknown key 'polcy' (did you mean 'policy'?)");
    refuse("source: b\n", "'s.yaml':1: strategy has no 'strategy'");
    refuse("strategy: a\n", "'s.yaml':1: strategy has no 'source'");
    refuse("strategy: a\nsource: b\npolicy: [lru]\n",
           "'s.yaml':3: policy is a list, but a name or a mapping is expected");
    refuse("strategy: a\nsource: b\npolicy: {hazards: on}\n", "'s.yaml':3: policy has no name");
    refuse("strategy: a\nsource: b\nadmission:\n  name: quota\n  quota: [1]\n",
           "'s.yaml':5: admission.quota is not a single value");
    refuse("strategy: a\nsource: b\ndispatch: cpu\n",
           "'s.yaml':3: 'dispatch' is not a mapping of keys");
    refuse("- a\n", "'s.yaml':1: a strategy is a mapping of keys");
    refuse("strategy: {a: b}\nsource: b\n", "'s.yaml':1: strategy has no 'strategy'");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("strategy");
    TCase *tests = tcase_create("strategy");
    tcase_add_test(tests, committed_files);
    tcase_add_test(tests, newer_keys_are_described_where_set);
    tcase_add_test(tests, what_is_described_comes_back);
    tcase_add_test(tests, keys_by_name);
    tcase_add_test(tests, bad_files);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
