/* Strategies set up on a model and a device, without a trace. */
#include "policies/setup.h"
#include "sim_case.h"
#include "tests/unit/run_suite.h"

/* tiny_model(2, 4, 2) with "2x2": four slots of 1 MiB, beside 1 MiB that is there anyway. */
struct spec_case {
    struct moe_model model;
    struct moe_strategy strategy;
    struct moe_setup_spec spec;
};

static void make_case(struct spec_case *c, const char *strategy, uint64_t memory_mib)
{
    c->model = tiny_model(2, 4, 2);
    c->strategy = load_strategy(strategy);
    set_key(&c->strategy, "geometry", "2x2");
    c->spec = (struct moe_setup_spec){.strategy = &c->strategy,
                                      .model = &c->model,
                                      .expert_bytes = 1 << 20,
                                      .dense_bytes = 1 << 20,
                                      .memory_bytes = memory_mib << 20,
                                      .device = "device 'cuda:0'"};
}

static void expect_refused(const struct spec_case *c, const char *text)
{
    struct moe_setup setup;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_setup_init(&setup, &c->spec, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, text);
}

static void expect_taken(const struct spec_case *c)
{
    struct moe_setup setup;
    struct moe_err err = {0};
    if (moe_setup_init(&setup, &c->spec, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_uint_eq(setup.geometry.n_slots, 4);
    ck_assert_uint_eq(moe_geometry_bytes(&setup.geometry), 4 << 20);
    ck_assert_ptr_nonnull(setup.cache);
    ck_assert(moe_cache_covers(setup.cache, 1));
    moe_setup_release(&setup);
    ck_assert_ptr_null(setup.cache);
    moe_setup_release(&setup);
}

START_TEST(memory_is_enough_to_the_byte)
{
    struct spec_case c;
    make_case(&c, "collab", 5);
    expect_taken(&c);
    c.spec.memory_bytes--;
    expect_refused(&c, "geometry '2x2' takes 4.0 MiB and the rest of model 'tiny' 1.0 MiB: more "
                       "than the 5.0 MiB of device 'cuda:0'; 3 slots fit: 1x2");
    c.spec.memory_bytes = 1000; /* less than the dense part alone */
    expect_refused(&c, "geometry '2x2' takes 4.0 MiB and the rest of model 'tiny' 1.0 MiB: more "
                       "than the 1000 B of device 'cuda:0'; no slot fits");
}
END_TEST

/* Four of eight experts of 1 MiB in slots: 1 + 4 + 8 MiB; where they stay there, 1 + 4 + 4. */
START_TEST(one_memory_is_enough_to_the_byte)
{
    struct spec_case c;
    make_case(&c, "collab", 13);
    c.spec.host_expert_bytes = 1 << 20;
    expect_taken(&c);
    c.spec.memory_bytes--;
    expect_refused(&c, "geometry '2x2' takes 4.0 MiB, the rest of model 'tiny' 1.0 MiB and its "
                       "experts on the host 8.0 MiB: more than the 13.0 MiB of device 'cuda:0', "
                       "which the host shares (geometry 'all' and policy 'static' keep an expert "
                       "once)");
    set_key(&c.strategy, "geometry", "per-layer:0,4"); /* a whole layer */
    c.spec.memory_bytes = 9 << 20;
    expect_taken(&c);
    set_key(&c.strategy, "geometry", "global:4");
    expect_refused(&c, "geometry 'global:4' takes 4.0 MiB, the rest of model 'tiny' 1.0 MiB and "
                       "its experts on the host 8.0 MiB: more than the 9.0 MiB of device 'cuda:0', "
                       "which the host shares (geometry 'all' and policy 'static' keep an expert "
                       "once)");
    set_key(&c.strategy, "policy", "static");
    expect_taken(&c);
    c.spec.memory_bytes--;
    expect_refused(&c, "geometry 'global:4' takes 4.0 MiB, the rest of model 'tiny' 1.0 MiB and "
                       "its experts on the host 4.0 MiB: more than the 9.0 MiB of device 'cuda:0', "
                       "which the host shares (geometry 'all' and policy 'static' keep an expert "
                       "once)");
}
END_TEST

/* Of eight experts of 1 MiB. */
START_TEST(slots_beside_the_hosts_experts)
{
    struct spec_case c;
    make_case(&c, "collab", 0);
    ck_assert_uint_eq(moe_setup_slots_in(&c.spec, (5 << 20) - 1), 4);
    ck_assert_uint_eq(moe_setup_slots_in(&c.spec, 50 << 20), 8);
    c.spec.host_expert_bytes = 1 << 20;
    ck_assert_uint_eq(moe_setup_slots_in(&c.spec, 13 << 20), 5);
    ck_assert_uint_eq(moe_setup_slots_in(&c.spec, 50 << 20), 8);
    ck_assert_uint_eq(moe_setup_slots_in(&c.spec, 7 << 20), 0);
    set_key(&c.strategy, "geometry", "all");
    ck_assert_uint_eq(moe_setup_slots_in(&c.spec, 8 << 20), 8);
    ck_assert_uint_eq(moe_setup_slots_in(&c.spec, 7 << 20), 0);
    set_key(&c.strategy, "geometry", "2x2");
    set_key(&c.strategy, "policy", "static");
    ck_assert_uint_eq(moe_setup_slots_in(&c.spec, 8 << 20), 8);
}
END_TEST

/* What fits has the form that was asked for. */
START_TEST(a_refusal_names_what_fits)
{
    struct spec_case c;
    make_case(&c, "collab", 8); /* 7 slots, in layers of 4 */
    set_key(&c.strategy, "geometry", "ncmoe:0");
    expect_refused(&c, "geometry 'ncmoe:0' takes 8.0 MiB and the rest of model 'tiny' 1.0 MiB: "
                       "more than the 8.0 MiB of device 'cuda:0'; 7 slots fit: ncmoe:1");
    c.spec.memory_bytes = 4 << 20;
    expect_refused(&c, "geometry 'ncmoe:0' takes 8.0 MiB and the rest of model 'tiny' 1.0 MiB: "
                       "more than the 4.0 MiB of device 'cuda:0'; 3 slots fit, not a layer's 4");
}
END_TEST

START_TEST(streams_take_two_buffers_more)
{
    struct spec_case c;
    make_case(&c, "collab", 6);
    ck_assert_uint_eq(moe_setup_staging_bytes(&c.spec), 0);
    expect_taken(&c);
    set_key(&c.strategy, "prefill", "stream");
    ck_assert_uint_eq(moe_setup_staging_bytes(&c.spec), 2 << 20);
    expect_refused(&c, "geometry '2x2' takes 4.0 MiB and the rest of model 'tiny' 3.0 MiB: more "
                       "than the 6.0 MiB of device 'cuda:0'; 3 slots fit: 1x2");
    make_case(&c, "on-demand", 7);
    ck_assert_uint_eq(moe_setup_staging_bytes(&c.spec), 2 << 20);
    expect_taken(&c);
}
END_TEST

START_TEST(what_the_routes_lack)
{
    struct spec_case c;
    make_case(&c, "collab", 100);
    set_key(&c.strategy, "policy", "opt");
    expect_refused(&c, "policy 'opt' needs to know the future, which only a trace tells");
    c.spec.future = true;
    expect_taken(&c);
    set_key(&c.strategy, "policy", "hybrimoe-mrs");
    expect_refused(&c, "policy 'hybrimoe-mrs' needs router scores, which the trace does not have");
    c.spec.parts = MOE_HAS_SCORE;
    expect_taken(&c);
    set_key(&c.strategy, "prefetcher", "gate-lookahead");
    expect_refused(&c, "prefetcher 'gate-lookahead' needs lookahead scores, which the trace does "
                       "not have");
    c.spec.parts |= MOE_HAS_LOOKAHEAD;
    expect_taken(&c);
    set_key(&c.strategy, "prefetcher", "oracle");
    expect_taken(&c);
    c.spec.future = false;
    expect_refused(&c, "prefetcher 'oracle' needs to know the future, which only a trace tells");
}
END_TEST

START_TEST(geometry_against_the_model)
{
    struct spec_case c;
    make_case(&c, "collab", 100);
    set_key(&c.strategy, "geometry", "3x2");
    struct moe_setup setup;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_setup_init(&setup, &c.spec, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "3"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("setup");
    TCase *tc = tcase_create("setup");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, memory_is_enough_to_the_byte);
    tcase_add_test(tc, one_memory_is_enough_to_the_byte);
    tcase_add_test(tc, slots_beside_the_hosts_experts);
    tcase_add_test(tc, a_refusal_names_what_fits);
    tcase_add_test(tc, streams_take_two_buffers_more);
    tcase_add_test(tc, what_the_routes_lack);
    tcase_add_test(tc, geometry_against_the_model);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
