/* base/yaml.h: the tree, its lines, everything refused, and binding to a table. */
#include "base/yaml.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;

static struct moe_yaml *parse(const char *text)
{
    struct moe_yaml *root = NULL;
    enum moe_status s = moe_yaml_parse("f", text, strlen(text), &root, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return root;
}

START_TEST(tree)
{
    struct moe_yaml *root = parse("# a comment\n"
                                  "name: demo\n"
                                  "\n"
                                  "sizes: [1, '2', \"3\"]\n"
                                  "inner:\n"
                                  "  text: |\n"
                                  "    two\n"
                                  "    lines\n"
                                  "  none:\n"
                                  "  list:\n"
                                  "    - a: 1\n"
                                  "      b: 2\n");
    ck_assert_int_eq(root->kind, MOE_YAML_MAP);
    ck_assert_uint_eq(root->n, 3);
    ck_assert_int_eq(root->line, 2);
    ck_assert_str_eq(root->file, "f");
    ck_assert_str_eq(root->keys[2], "inner");
    ck_assert_int_eq(root->key_lines[2], 5);
    ck_assert_str_eq(moe_yaml_get(root, "name")->text, "demo");
    const struct moe_yaml *sizes = moe_yaml_get(root, "sizes");
    ck_assert_int_eq(sizes->kind, MOE_YAML_LIST);
    ck_assert_int_eq(sizes->line, 4);
    ck_assert_uint_eq(sizes->n, 3);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(atoi(sizes->item[i]->text), (int)i + 1);
    const struct moe_yaml *inner = moe_yaml_get(root, "inner");
    ck_assert_str_eq(moe_yaml_get(inner, "text")->text, "two\nlines\n");
    ck_assert_str_eq(moe_yaml_get(inner, "none")->text, "");
    const struct moe_yaml *b = moe_yaml_get(moe_yaml_get(inner, "list")->item[0], "b");
    ck_assert_str_eq(b->text, "2");
    ck_assert_int_eq(b->line, 12);
    ck_assert_ptr_null(moe_yaml_get(root, "absent"));
    ck_assert_ptr_null(moe_yaml_get(sizes, "name"));
    moe_yaml_free(root);
    moe_yaml_free(NULL);
}
END_TEST

static void refused(const char *text, size_t size, const char *message)
{
    struct moe_yaml *root = NULL;
    ck_assert_int_eq(moe_yaml_parse("f", text, size, &root, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, message);
    ck_assert_ptr_null(root);
    ck_assert_int_eq(moe_yaml_parse("f", text, size, &root, NULL), MOE_ERR_USAGE);
}

START_TEST(refusals)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "'f':1: there is nothing in it"},
        {"# only\n# this\n", "'f':3: there is nothing in it"},
        {"a: 1\nb: &x 2\n", "'f':2: anchors ('&name') are not supported here"},
        {"a: 1\nb: &x [2]\n", "'f':2: anchors ('&name') are not supported here"},
        {"a: 1\nb: &x {c: 2}\n", "'f':2: anchors ('&name') are not supported here"},
        {"a: 1\nb: *x\n", "'f':2: aliases ('*name') are not supported here"},
        {"a: !!int 1\n", "'f':1: tags ('!name') are not supported here"},
        {"a: ! x\n", "'f':1: tags ('!name') are not supported here"},
        {"a: 1\n---\nb: 2\n", "'f':2: a second document starts here"},
        {"a: 1\nb: 2\na: 3\n", "'f':3: key 'a' is given twice (first on line 1)"},
        {"x: 1\n? [a, b]\n: c\n", "'f':2: a key must be plain text"},
        {"a: 1\nb: \"x\\0y\"\n", "'f':2: text holds a NUL character"},
        {"a: 1\n\"x\\0y\": 2\n", "'f':2: text holds a NUL character"},
        {"a: 1\nb: [2\nc: 3\n", "'f':3: did not find expected ',' or ']'"},
        {"a: 1\n\tb: 2\n", "'f':2: found a tab character that violates indentation"},
        {"a: 1\nb: \xff\n", "'f':2: invalid leading UTF-8 octet"},
        {"a: 1\n\nb: \x01\n", "'f':3: control characters are not allowed"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i].text, strlen(bad[i].text), bad[i].message);
}
END_TEST

START_TEST(limits)
{
    char text[64] = "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]";
    moe_yaml_free(parse(text)); /* 16 lists in each other */
    refused("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", 33, "'f':1: nested deeper than 16 levels");

    size_t size = (16u << 20) + 1;
    char *big = malloc(size);
    ck_assert_ptr_nonnull(big);
    memset(big, '\n', size);
    refused(big, size, "'f' has 16777217 bytes, at most 16777216 are read");
    memcpy(big, "a: 1", 4);
    struct moe_yaml *root = NULL;
    ck_assert_int_eq(moe_yaml_parse("f", big, size - 1, &root, &err), MOE_OK);
    moe_yaml_free(root);
    for (size_t i = 0; i + 4 <= size; i += 4)
        memcpy(big + i, "- 1\n", 4);
    refused(big, size - 1, "'f':1048576: more than 1048576 values"); /* the list is one itself */
    size_t used = 0;
    for (int i = 0; i < 1025; i++)
        used += (size_t)snprintf(big + used, size - used, "k%d: 1\n", i);
    refused(big, used, "'f':1025: more than 1024 keys in one mapping");
    free(big);
}
END_TEST

struct options {
    uint64_t ways;
    double rate, link;
    int mode;
    char text[8];
};

#define AT(member) .offset = offsetof(struct options, member)
static const struct moe_param table[] = {
    {.name = "ways", .type = MOE_PARAM_U64, AT(ways), .default_text = "2", .min = 1, .max = 8},
    {.name = "rate_of_it", .type = MOE_PARAM_F64, AT(rate), .flags = MOE_PARAM_REQUIRED},
    {.name = "link", .type = MOE_PARAM_F64, AT(link), .unit = "GB/s", .flags = MOE_PARAM_CONSTANT},
    {.name = "mode", .type = MOE_PARAM_CHOICE, AT(mode), .default_text = "a", .choices = "a|b"},
    {.name = "text", .type = MOE_PARAM_STRING, AT(text), .default_text = "x", .size = 8},
    {0},
};

#define LINK "link: {value: 25.5, unit: GB/s, origin: 'measured: synthetic'}\n"

START_TEST(bind)
{
    struct options o;
    moe_params_default(table, &o);
    struct moe_yaml *root = parse("rate_of_it: -2.5\n" LINK "mode: b\nother: [1]\n");
    ck_assert_int_eq(moe_yaml_bind(root, table, &o, &err), MOE_OK);
    ck_assert_uint_eq(o.ways, 2);
    ck_assert_double_eq(o.rate, -2.5);
    ck_assert_double_eq(o.link, 25.5);
    ck_assert_int_eq(o.mode, 1);
    ck_assert_str_eq(o.text, "x");
    ck_assert_int_eq(moe_yaml_bind(root, NULL, NULL, &err), MOE_OK);
    moe_yaml_free(root);
}
END_TEST

START_TEST(bind_refusals)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"rate_of_it: 1\n" LINK "ways: 9\n", "'f':3: ways: 9 is outside 1..8"},
        {"rate_of_it: 1\n" LINK "ways: [9]\n", "'f':3: ways: expected a single value"},
        {"rate_of_it: 1\n" LINK "ways:\n",
         "'f':3: ways: empty value where a whole number is expected"},
        {"rate_of_it: 1\n" LINK "mode: c\n", "'f':3: mode: 'c' is not one of a|b"},
        {"\n" LINK, "'f':2: key 'rate_of_it' is missing"},
        {"rate-of-it: 1\n" LINK, "'f':1: key 'rate_of_it' is missing"},
        {"rate_of_it: 1\n", "'f':1: key 'link' is missing"},
        {"rate_of_it: 1\nlink: 3\n", "'f':2: expected a mapping {value, unit, origin}"},
        {"rate_of_it: 1\nlink: {value: x, unit: GB/s, origin: guess}\n",
         "'f':2: link: 'x' is not a finite number"},
        {"rate_of_it: 1\nlink: {value: [1], unit: GB/s, origin: guess}\n",
         "'f':2: link: expected a single value"},
        {"- 1\n", "'f':1: expected a mapping (key: value)"},
        {"text\n", "'f':1: expected a mapping (key: value)"},
    };
    struct options o;
    moe_params_default(table, &o);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct moe_yaml *root = parse(bad[i].text);
        ck_assert_int_eq(moe_yaml_bind(root, table, &o, &err), MOE_ERR_USAGE);
        ck_assert_str_eq(err.text, bad[i].message);
        moe_yaml_free(root);
    }
}
END_TEST

START_TEST(known_keys)
{
    static const char *const also[] = {"model", "notes"};
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"ways: 1\nwyas: 1\n", "'f':2: unknown key 'wyas' (did you mean 'ways'?)"},
        {"modell: 1\n", "'f':1: unknown key 'modell' (did you mean 'model'?)"},
        {"rate-of-it: 1\n", "'f':1: unknown key 'rate-of-it' (did you mean 'rate_of_it'?)"},
        {"zzzzzzzzzz: 1\n", "'f':1: unknown key 'zzzzzzzzzz'"},
        {"[1]\n", "'f':1: expected a mapping (key: value)"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct moe_yaml *root = parse(bad[i].text);
        ck_assert_int_eq(moe_yaml_check_keys(root, table, also, 2, &err), MOE_ERR_USAGE);
        ck_assert_str_eq(err.text, bad[i].message);
        moe_yaml_free(root);
    }
    struct moe_yaml *root = parse("ways: 1\nnotes: x\n");
    ck_assert_int_eq(moe_yaml_check_keys(root, table, also, 2, &err), MOE_OK);
    ck_assert_int_eq(moe_yaml_check_keys(root, table, NULL, 0, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_yaml_check_keys(root, NULL, NULL, 0, &err), MOE_ERR_USAGE);
    moe_yaml_free(root);
}
END_TEST

START_TEST(constants)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{value: [1, 2], unit: ns, origin: guess}", NULL},
        {"{value: 1, unit: ns, origin: 'measured: some command'}", NULL},
        {"{value: 1, unit: ns, origin: paper table 5}", NULL},
        {"{value: 1, unit: ns, origin: 'datasheet, page 2'}", NULL},
        {"{value: 1, unit: ns, origin: fitted}", NULL},
        {"{value: 1, unit: ns, origin: guesswork}",
         "'f':1: origin 'guesswork' does not start with measured, paper, datasheet, fitted or "
         "guess"},
        {"{value: 1, unit: ns, origin: ''}",
         "'f':1: origin '' does not start with measured, paper, datasheet, fitted or guess"},
        {"{value: 1, unit: us, origin: guess}", "'f':1: unit 'us' where 'ns' is expected"},
        {"{value: 1, unit: [ns], origin: guess}", "'f':1: unit: expected a single value"},
        {"{value: 1, unit: ns}",
         "'f':1: key 'origin' is missing ({value, unit, origin} is expected)"},
        {"{unit: ns, origin: guess}",
         "'f':1: key 'value' is missing ({value, unit, origin} is expected)"},
        {"{value: 1, unit: ns, origin: guess, note: x}", "'f':1: unknown key 'note'"},
        {"{value: 1, unit: ns, orgin: guess}",
         "'f':1: unknown key 'orgin' (did you mean 'origin'?)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_yaml *root = parse(cases[i].text);
        const struct moe_yaml *value = NULL;
        enum moe_status s = moe_yaml_constant(root, "ns", &value, &err);
        ck_assert_int_eq(s, cases[i].message ? MOE_ERR_USAGE : MOE_OK);
        if (cases[i].message)
            ck_assert_str_eq(err.text, cases[i].message);
        ck_assert_ptr_eq(value, s ? NULL : moe_yaml_get(root, "value"));
        moe_yaml_free(root);
    }
    struct moe_yaml *root = parse("{value: 1, unit: 1, origin: guess}");
    const struct moe_yaml *value = NULL;
    ck_assert_int_eq(moe_yaml_constant(root, NULL, &value, &err), MOE_OK);
    moe_yaml_free(root);
}
END_TEST

START_TEST(load)
{
    struct moe_yaml *root = NULL;
    ck_assert_int_eq(moe_yaml_load("tests/absent.yaml", &root, &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "cannot open 'tests/absent.yaml': No such file or directory");
    ck_assert_int_eq(moe_yaml_load("tests", &root, &err), MOE_ERR_IO);
    ck_assert_ptr_null(root);
    ck_assert_int_eq(moe_yaml_load("tests/fuzz/corpus/yaml/valid_platform.yaml", &root, &err),
                     MOE_OK);
    ck_assert_int_eq(moe_yaml_fail(root, &err, "ways %d", 9), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "'tests/fuzz/corpus/yaml/valid_platform.yaml':2: ways 9");
    moe_yaml_free(root);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {tree,          refusals,   limits,    bind,
                                  bind_refusals, known_keys, constants, load};
    Suite *suite = suite_create("yaml");
    TCase *tcase = tcase_create("all");
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
