/* base/param.h: one table, every type; defaults, limits, lists, help. */
#include "base/param.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct options {
    uint64_t ways, seed, room;
    double rate, shift;
    int flag, mode;
    char text[8];
    char guard;
};

#define AT(member) .offset = offsetof(struct options, member)
static const struct moe_param table[] = {
    {.name = "ways",
     .type = MOE_PARAM_U64,
     AT(ways),
     .default_text = "2",
     .min = 1,
     .max = 8,
     .unit = "slots",
     .help = "slots of each pool"},
    {.name = "random_seed", .type = MOE_PARAM_U64, AT(seed), .default_text = "7", .help = "seed"},
    {.name = "room",
     .type = MOE_PARAM_BYTES,
     AT(room),
     .default_text = "4000MiB",
     .help = "memory"},
    {.name = "rate",
     .type = MOE_PARAM_F64,
     AT(rate),
     .flags = MOE_PARAM_REQUIRED,
     .max = 1,
     .unit = "share",
     .help = "how much"},
    {.name = "shift", .type = MOE_PARAM_F64, AT(shift), .default_text = "-1.5", .help = "offset"},
    {.name = "flag", .type = MOE_PARAM_BOOL, AT(flag), .default_text = "on", .help = "switch"},
    {.name = "mode",
     .type = MOE_PARAM_CHOICE,
     AT(mode),
     .default_text = "access",
     .choices = "event|access|all",
     .help = "which replay contract the lookups of one layer in one step follow, at some length "
             "so that this line of the help must be wrapped"},
    {.name = "text", .type = MOE_PARAM_STRING, AT(text), .default_text = "", .size = 8},
    {0},
};

static struct moe_err err;

static struct options defaults(void)
{
    struct options o;
    memset(&o, 0x55, sizeof o);
    moe_params_default(table, &o);
    return o;
}

START_TEST(default_values)
{
    struct options o = defaults();
    ck_assert_uint_eq(o.ways, 2);
    ck_assert_uint_eq(o.seed, 7);
    ck_assert_uint_eq(o.room, 4194304000u);
    ck_assert_double_eq(o.rate, 0);
    ck_assert_double_eq(o.shift, -1.5);
    ck_assert_int_eq(o.flag, 1);
    ck_assert_int_eq(o.mode, 1);
    ck_assert_str_eq(o.text, "");
    ck_assert_int_eq(o.guard, 0x55);
}
END_TEST

START_TEST(find)
{
    ck_assert_ptr_eq(moe_param_find(table, "random_seed"), &table[1]);
    ck_assert_ptr_eq(moe_param_find(table, "random-seed"), &table[1]);
    ck_assert_ptr_null(moe_param_find(table, "random"));
    ck_assert_ptr_null(moe_param_find(table, "random-seeds"));
    ck_assert_ptr_null(moe_param_find(table, ""));
    ck_assert_ptr_null(moe_param_find(NULL, "ways"));
}
END_TEST

/* A refused text changes nothing and says this. */
static void refused(const char *name, const char *text, const char *message)
{
    struct options o = defaults(), before = o;
    ck_assert_int_eq(moe_params_set(table, &o, name, text, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, message);
    ck_assert_mem_eq(&o, &before, sizeof o);
}

START_TEST(refusals)
{
    refused("ways", "9", "ways: 9 is outside 1..8");
    refused("ways", "0", "ways: 0 is outside 1..8");
    refused("ways", "", "ways: empty value where a whole number is expected");
    refused("random-seed", "9223372036854775809",
            "random_seed: 9223372036854775809 is outside 0..9223372036854775808");
    refused("rate", "1.01", "rate: 1.01 is outside 0..1");
    refused("rate", "nan", "rate: 'nan' is not a finite number");
    refused("flag", "maybe", "flag: 'maybe' is not true or false");
    refused("mode", "acc", "mode: 'acc' is not one of event|access|all");
    refused("mode", "event|access", "mode: 'event|access' is not one of event|access|all");
    refused("text", "12345678", "text: '12345678' has 8 bytes, the limit is 7");
    refused("room", "4 MiB", "room: '4 MiB' has an unknown unit (B KB MB GB TB KiB MiB GiB TiB)");
    refused("wyas", "1", "unknown parameter 'wyas' (did you mean 'ways'?)");
    refused("zzzzzzzzzzzz", "1",
            "unknown parameter 'zzzzzzzzzzzz' (known: ways, random_seed, room, rate, shift, flag, "
            "mode, text)");
    struct moe_param many[30] = {
        {0}}; /* more than a message has room for: the last name is whole */
    for (size_t i = 0; i < 29; i++)
        many[i].name = "a_name_of_twenty_one_";
    ck_assert_int_eq(moe_params_set(many, NULL, "x", "1", &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, ", a_name_of_twenty_one_ and 17 more)"));
    ck_assert_int_eq(moe_params_set(&(const struct moe_param){0}, NULL, "x", "1", &err),
                     MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "unknown parameter 'x' (known: none)");
    ck_assert_int_eq(moe_params_set(table, NULL, "ways", "9", NULL), MOE_ERR_USAGE);
}
END_TEST

START_TEST(round_trip)
{
    static const struct {
        const char *name, *text, *shown;
    } cases[] = {
        {"ways", "8", "8"},
        {"random_seed", "9223372036854775808", "9223372036854775808"},
        {"room", "20GiB", "20480MiB"},
        {"room", "3KiB", "3KiB"},
        {"room", "9007199254740993", "9007199254740993"},
        {"room", "0", "0"},
        {"rate", "0.1", "0.1"},
        {"rate", "0.30000000000000004", "0.30000000000000004"},
        {"shift", "-1e+300", "-1e+300"},
        {"flag", "off", "false"},
        {"mode", "all", "all"},
        {"text", "1234567", "1234567"},
        {"text", "", ""},
    };
    char buf[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct options o = defaults();
        const struct moe_param *p = moe_param_find(table, cases[i].name);
        ck_assert_int_eq(moe_param_set(p, &o, cases[i].text, &err), MOE_OK);
        ck_assert_str_eq(moe_param_format(p, &o, buf, sizeof buf), cases[i].shown);
        ck_assert_int_eq(moe_param_set(p, &o, cases[i].shown, &err), MOE_OK);
        ck_assert_str_eq(moe_param_format(p, &o, buf, sizeof buf), cases[i].shown);
        ck_assert_int_eq(o.guard, 0x55);
    }
}
END_TEST

START_TEST(choices)
{
    char buf[16];
    ck_assert_int_eq(moe_choice_index("a|bc|d", "a"), 0);
    ck_assert_int_eq(moe_choice_index("a|bc|d", "bc"), 1);
    ck_assert_int_eq(moe_choice_index("a|bc|d", "d"), 2);
    ck_assert_int_eq(moe_choice_index("a|bc|d", "b"), -1);
    ck_assert_int_eq(moe_choice_index("a|bc|d", ""), -1);
    ck_assert_str_eq(moe_choice_name("a|bc|d", 0, buf, sizeof buf), "a");
    ck_assert_str_eq(moe_choice_name("a|bc|d", 1, buf, sizeof buf), "bc");
    ck_assert_str_eq(moe_choice_name("a|bc|d", 2, buf, sizeof buf), "d");
    ck_assert_str_eq(moe_choice_name("a|bc|d", 3, buf, sizeof buf), "");
    ck_assert_str_eq(moe_choice_name("a|bc|d", -1, buf, sizeof buf), "");
}
END_TEST

START_TEST(lists)
{
    struct options o = defaults(), before = o;
    ck_assert_int_eq(moe_params_parse_list(table, &o, "", &err), MOE_OK);
    ck_assert_mem_eq(&o, &before, sizeof o);
    ck_assert_int_eq(
        moe_params_parse_list(table, &o, "ways=3,random-seed=5,text=a=b,mode=event,ways=4", &err),
        MOE_OK);
    ck_assert_uint_eq(o.ways, 4);
    ck_assert_uint_eq(o.seed, 5);
    ck_assert_str_eq(o.text, "a=b");
    ck_assert_int_eq(o.mode, 0);

    static const struct {
        const char *text, *message;
    } bad[] = {
        {"ways=3,ways=9", "ways: 9 is outside 1..8"},
        {"ways=3,", "'' is not of the form key=value"},
        {",", "'' is not of the form key=value"},
        {"ways=3,flag", "'flag' is not of the form key=value"},
        {"=3",
         "unknown parameter '' (known: ways, random_seed, room, rate, shift, flag, mode, text)"},
        {"ways=3, flag=on", "unknown parameter ' flag' (did you mean 'flag'?)"},
    };
    before = o;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(moe_params_parse_list(table, &o, bad[i].text, &err), MOE_ERR_USAGE);
        ck_assert_str_eq(err.text, bad[i].message);
        ck_assert_mem_eq(&o, &before, sizeof o);
    }
    ck_assert_int_eq(moe_params_parse_list(NULL, &o, "a=1", &err), MOE_ERR_USAGE);
}
END_TEST

/* The help of the whole table as text; the caller frees it. */
static char *help(const char *prefix)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(f);
    moe_params_help(table, prefix, f);
    fclose(f);
    return text;
}

START_TEST(help_text)
{
    char *text = help("--");
    ck_assert_ptr_nonnull(strstr(text, "  --ways N                     slots of each pool "
                                       "(default: 2; slots)\n"));
    ck_assert_ptr_nonnull(strstr(text, "  --random-seed N              seed (default: 7)\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "  --rate NUMBER                how much (required; share)\n"));
    ck_assert_ptr_nonnull(strstr(text, "  --flag=true|false            switch (default: on)\n"));
    ck_assert_ptr_nonnull(strstr(text, "  --mode event|access|all      which replay"));
    ck_assert_ptr_nonnull(strstr(text, "  --text TEXT                 \n"));
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
        ck_assert_int_le(end - line, 100);
    free(text);
    text = help("admission.");
    ck_assert_ptr_nonnull(strstr(text, "\n  admission.random_seed=N      seed (default: 7)\n"));
    free(text);
    moe_params_help(NULL, "--", stdout);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {default_values, find,  refusals, round_trip,
                                  choices,        lists, help_text};
    Suite *suite = suite_create("param");
    TCase *tcase = tcase_create("all");
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
