/* Experiments: order of the points, grids over defaults, ranges, every kind of bad input. */
#include "sim/experiment_sets.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;

static enum moe_status parse(const char *text, struct moe_experiment *x)
{
    struct moe_yaml *root;
    enum moe_status s = moe_yaml_parse("x.yaml", text, strlen(text), &root, &err);
    if (s)
        return s;
    s = moe_experiment_from_yaml(root, x, &err);
    moe_yaml_free(root);
    return s;
}

/* A point in one line: trace model platform strategy, then its settings. */
static const char *show(const struct moe_point *p, char *buf, size_t size)
{
    size_t at =
        (size_t)snprintf(buf, size, "%s %s %s %s", p->trace, p->model, p->platform, p->strategy);
    for (size_t i = 0; i < p->n_settings && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, " %s=%s", p->settings[i].key,
                               p->settings[i].value);
    return buf;
}

static void expect(const struct moe_experiment *x, size_t i, const char *want)
{
    char buf[256];
    ck_assert_uint_lt(i, x->n_points);
    ck_assert_str_eq(show(&x->points[i], buf, sizeof buf), want);
}

#define HEAD "experiment: x\ntrace: t\nmodel: m\nplatform: p\nstrategy: s\n"

START_TEST(first_axis_is_slowest)
{
    struct moe_experiment x;
    ck_assert_int_eq(parse(HEAD "set: {seed: 3}\naxes:\n  threads: 2..8 step 3\n"
                                "  geometry: [none, 7x8]\n",
                           &x),
                     MOE_OK);
    ck_assert_uint_eq(x.n_points, 6);
    expect(&x, 0, "t m p s seed=3 threads=2 geometry=none");
    expect(&x, 1, "t m p s seed=3 threads=2 geometry=7x8");
    expect(&x, 2, "t m p s seed=3 threads=5 geometry=none");
    expect(&x, 5, "t m p s seed=3 threads=8 geometry=7x8");
    ck_assert_uint_eq(x.n_axes, 2);
    ck_assert_str_eq(x.axes[0], "threads");
    ck_assert_str_eq(x.axes[1], "geometry");
    moe_experiment_release(&x);
}
END_TEST

START_TEST(grids_over_defaults)
{
    struct moe_experiment x;
    ck_assert_int_eq(parse(HEAD "set: {seed: 3}\naxes: {threads: [1, 2]}\ngrids:\n"
                                "  - {strategy: a}\n"
                                "  - {set: {}, axes: {platform: [q, r], seed: 1..1}}\n",
                           &x),
                     MOE_OK);
    ck_assert_uint_eq(x.n_points, 4);
    expect(&x, 0, "t m p a seed=3 threads=1");
    expect(&x, 1, "t m p a seed=3 threads=2");
    expect(&x, 2, "t m q s seed=1");
    expect(&x, 3, "t m r s seed=1");
    ck_assert_uint_eq(x.n_axes, 3);
    moe_experiment_release(&x);
}
END_TEST

START_TEST(grids_of_several_traces_have_an_axis_of_them)
{
    struct moe_experiment x;
    ck_assert_int_eq(parse(HEAD "axes: {threads: [1, 2]}\ngrids:\n"
                                "  - {strategy: a}\n  - {trace: u}\n",
                           &x),
                     MOE_OK);
    ck_assert_uint_eq(x.n_axes, 2);
    ck_assert_str_eq(x.axes[1], "trace");
    moe_experiment_release(&x);
    ck_assert_int_eq(parse(HEAD "grids:\n  - {strategy: a}\n  - {trace: t}\n", &x), MOE_OK);
    ck_assert_uint_eq(x.n_axes, 0);
    moe_experiment_release(&x);
}
END_TEST

START_TEST(no_axes_is_one_point)
{
    struct moe_experiment x;
    ck_assert_int_eq(parse(HEAD "max_tokens: 9\nplot: [a, b]\ntitle: T\n", &x), MOE_OK);
    ck_assert_uint_eq(x.n_points, 1);
    expect(&x, 0, "t m p s");
    ck_assert_uint_eq(x.max_tokens, 9);
    ck_assert_uint_eq(x.n_plots, 2);
    ck_assert_str_eq(x.plot[1], "b");
    ck_assert_str_eq(x.show, "");
    ck_assert_str_eq(x.title, "T");
    moe_experiment_release(&x);
}
END_TEST

/* What only looks like a range is a value. */
START_TEST(values_that_are_no_range)
{
    static const char *const texts[] = {"1..", "5..2", "1..9 step 0", "1..9 by 2", "a..b", "1...2"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct moe_experiment x;
        char text[256], want[64];
        snprintf(text, sizeof text, HEAD "axes: {geometry: \"%s\"}\n", texts[i]);
        snprintf(want, sizeof want, "t m p s geometry=%s", texts[i]);
        ck_assert_int_eq(parse(text, &x), MOE_OK);
        ck_assert_uint_eq(x.n_points, 1);
        expect(&x, 0, want);
        moe_experiment_release(&x);
    }
}
END_TEST

START_TEST(committed_files)
{
    static const char *const files[] = {"fig5-mixtral", "fig5-phi", "fig6-mixtral", "fig6-phi",
                                        "fig3",         "fig4",     "cold",         "demo"};
    static const size_t points[] = {105, 297, 483, 476, 7, 3, 12, 16};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct moe_experiment x;
        char path[128];
        snprintf(path, sizeof path, "experiments/%s.yaml", files[i]);
        if (moe_experiment_load(path, &x, &err))
            ck_abort_msg("%s", err.text);
        ck_assert_str_eq(x.name, files[i]);
        ck_assert_uint_eq(x.n_points, points[i]);
        moe_experiment_release(&x);
    }
}
END_TEST

static void refuse(const char *text, const char *message)
{
    struct moe_experiment x = {.n_points = 77};
    ck_assert_int_eq(parse(text, &x), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, message);
    ck_assert_uint_eq(x.n_points, 77); /* written only on success */
}

START_TEST(bad_files)
{
    refuse(HEAD "axs: {}\n", "'x.yaml':6: unknown key 'axs' (did you mean 'axes'?)");
    refuse("experiment: a/b\n", "'x.yaml':1: experiment 'a/b' is not a file name");
    refuse("experiment: ../x\n", "'x.yaml':1: experiment '../x' is not a file name");
    refuse("experiment: x\nmodel: m\nplatform: p\nstrategy: s\n",
           "'x.yaml':1: the experiment has no 'trace'");
    refuse("experiment: x\ntrace: t\nmodel: m\nstrategy: s\n",
           "'x.yaml':1: the experiment has no 'platform'");
    refuse(HEAD "axes: [1]\n", "'x.yaml':6: 'axes' is not a mapping of keys to values");
    refuse(HEAD "axes: {a: []}\n", "'x.yaml':6: axis 'a' has 0 values, outside 1..100000");
    refuse(HEAD "axes: {a: 1..100001}\n",
           "'x.yaml':6: axis 'a' has 100001 values, outside 1..100000");
    refuse(HEAD "axes: {a: 0..18446744073709551615}\n",
           "'x.yaml':6: axis 'a' has 18446744073709551615 values, outside 1..100000");
    refuse(HEAD "axes: {a: {b: c}}\n", "'x.yaml':6: axis 'a' is a mapping, but a list is expected");
    refuse(HEAD "axes: {a: [[1]]}\n", "'x.yaml':6: a value of axis 'a' is not a single value");
    refuse(HEAD "axes: {a: 1..99999, b: 1..99999}\n",
           "'x.yaml':1: the axes make more than 10000000 points");
    refuse(HEAD "grids: []\n", "'x.yaml':6: 'grids' is not a list of mappings");
    refuse(HEAD "grids: [1]\n", "'x.yaml':6: a grid is not a mapping of keys");
    refuse(HEAD "grids: [{plot: a}]\n", "'x.yaml':6: unknown key 'plot'");
    refuse(HEAD "plot: a/b\n", "'x.yaml':6: a plot is not the name of a script in plots/");
    refuse(HEAD "set: {a: [1]}\n", "'x.yaml':6: 'set.a' is not a single value");
    refuse("- x\n", "'x.yaml':1: the experiment is not a mapping of keys");
}
END_TEST

START_TEST(keys_of_the_command_line)
{
    struct moe_experiment x;
    static const char *const sets[] = {"trace=a/b.h5", "geometry=4x2", "policy.list=hot",
                                       "max_tokens=7", "policy=fifo"};
    ck_assert_int_eq(parse(HEAD "title: T\nset: {policy: lru}\naxes: {strategy: [s, t]}\n"
                                "grids: [{}, {set: {policy.list: cold}, axes: {}}]\n",
                           &x),
                     MOE_OK);
    ck_assert_int_eq(moe_experiment_set(&x, sets, 5, &err), MOE_OK);
    ck_assert_str_eq(x.title, "x: trace=b.h5, geometry=4x2, policy.list=hot, max_tokens=7, "
                              "policy=fifo");
    ck_assert_uint_eq(x.max_tokens, 7);
    ck_assert_uint_eq(x.n_points, 3);
    expect(&x, 0, "a/b.h5 m p s policy=fifo geometry=4x2");
    expect(&x, 1, "a/b.h5 m p t policy=fifo geometry=4x2");
    expect(&x, 2, "a/b.h5 m p s policy.list=hot geometry=4x2 policy=fifo");
    static const char *const bad[][2] = {
        {"strategy=u", "--set: experiment 'x' varies 'strategy' itself; change its file"},
        {"geometry", "--set 'geometry': KEY=VALUE is expected"},
        {"=4x2", "--set '=4x2': KEY=VALUE is expected"},
        {"geometry=", "--set 'geometry=': KEY=VALUE is expected"},
        {"max_tokens=-1", "max_tokens: '-1' is not a whole number"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(moe_experiment_set(&x, bad[i], 1, &err), MOE_ERR_USAGE);
        ck_assert_str_eq(err.text, bad[i][1]);
    }
    moe_experiment_release(&x);
}
END_TEST

/* cpu-only has no slots to divide; where no point has any, the key gives them some. */
START_TEST(a_geometry_is_for_points_with_slots)
{
    struct moe_experiment x;
    static const char *const sets[] = {"geometry=4x2"};
    ck_assert_int_eq(parse(HEAD "axes: {strategy: [cpu-only, collab, nowhere]}\n"
                                "grids: [{}, {set: {geometry: none}, axes: {}},\n"
                                "  {strategy: cpu-only, set: {geometry: 2x2}, axes: {}}]\n",
                           &x),
                     MOE_OK);
    ck_assert_int_eq(moe_experiment_set(&x, sets, 1, &err), MOE_OK);
    expect(&x, 0, "t m p cpu-only");
    expect(&x, 1, "t m p collab geometry=4x2");
    expect(&x, 2, "t m p nowhere geometry=4x2"); /* not found: told when it is run */
    expect(&x, 3, "t m p s geometry=none");
    expect(&x, 4, "t m p cpu-only geometry=4x2");
    moe_experiment_release(&x);
    ck_assert_int_eq(parse(HEAD "axes: {strategy: [cpu-only, on-demand]}\n", &x), MOE_OK);
    ck_assert_int_eq(moe_experiment_set(&x, sets, 1, &err), MOE_OK);
    expect(&x, 1, "t m p on-demand geometry=4x2");
    moe_experiment_release(&x);
}
END_TEST

START_TEST(what_a_sweep_prints)
{
    struct moe_experiment x;
    ck_assert_int_eq(parse(HEAD "show: strategy, tokens_per_s\nrank: tokens_per_s\n", &x), MOE_OK);
    ck_assert_str_eq(x.show, "strategy, tokens_per_s");
    ck_assert_str_eq(x.rank, "tokens_per_s");
    moe_experiment_release(&x);
    ck_assert_int_eq(parse(HEAD "axes: {my.axis: [1]}\nshow: my.axis\n", &x), MOE_OK);
    moe_experiment_release(&x);
    ck_assert_int_eq(parse(HEAD "show: [a, b]\n", &x), MOE_ERR_USAGE);
    refuse(HEAD "title: T\nshow: model tokens_per_ss\n",
           "'x.yaml':7: show: the result has no column 'tokens_per_ss' (did you mean "
           "'tokens_per_s'?)");
    refuse(HEAD "rank: nothing_like_it\n",
           "'x.yaml':6: rank: the result has no column 'nothing_like_it'");
#define ELEVEN "model model model model model model model model model model model "
    refuse(HEAD "show: " ELEVEN ELEVEN ELEVEN "\n", "'x.yaml':6: show: more than 32 columns");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("experiment");
    TCase *tests = tcase_create("experiment");
    tcase_add_test(tests, first_axis_is_slowest);
    tcase_add_test(tests, a_geometry_is_for_points_with_slots);
    tcase_add_test(tests, what_a_sweep_prints);
    tcase_add_test(tests, keys_of_the_command_line);
    tcase_add_test(tests, grids_over_defaults);
    tcase_add_test(tests, grids_of_several_traces_have_an_axis_of_them);
    tcase_add_test(tests, no_axes_is_one_point);
    tcase_add_test(tests, values_that_are_no_range);
    tcase_add_test(tests, committed_files);
    tcase_add_test(tests, bad_files);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
