/* Any bytes as a YAML document, walked and bound to a table of every parameter type. */
#include "base/yaml.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct target {
    uint64_t ways, room;
    double rate, link;
    int flag, mode;
    char text[12];
};

#define AT(member) .offset = offsetof(struct target, member)
static const struct moe_param table[] = {
    {.name = "ways", .type = MOE_PARAM_U64, AT(ways), .default_text = "2", .min = 1, .max = 64},
    {.name = "room", .type = MOE_PARAM_BYTES, AT(room), .default_text = "4000MiB"},
    {.name = "rate", .type = MOE_PARAM_F64, AT(rate), .default_text = "0.5", .min = 0, .max = 1},
    {.name = "flag", .type = MOE_PARAM_BOOL, AT(flag), .default_text = "no"},
    {.name = "mode", .type = MOE_PARAM_CHOICE, AT(mode), .default_text = "b", .choices = "a|b|c"},
    {.name = "text", .type = MOE_PARAM_STRING, AT(text), .default_text = "", .size = 12},
    {.name = "link", .type = MOE_PARAM_F64, AT(link), .unit = "GB/s", .flags = MOE_PARAM_CONSTANT},
    {0},
};

/* Every promise of the header about a node. */
static void check_node(const struct moe_yaml *node, int depth)
{
    if (depth > 16 || node->line < 1 || strcmp(node->file, "fuzz") != 0)
        abort();
    if ((node->kind == MOE_YAML_SCALAR) != (node->text != NULL))
        abort();
    for (size_t i = 0; i < node->n; i++) {
        if (node->kind == MOE_YAML_MAP && moe_yaml_get(node, node->keys[i]) != node->item[i])
            abort();
        check_node(node->item[i], depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_err err = {0};
    struct moe_yaml *root = NULL;
    enum moe_status s = moe_yaml_parse("fuzz", data, size, &root, &err);
    if ((s == MOE_OK) != (root != NULL) || (s && (err.status != s || !err.text[0])))
        abort();
    if (s)
        return 0;
    check_node(root, 1);
    struct target target;
    static const char *const also[] = {"name", "model"};
    moe_params_default(table, &target);
    moe_yaml_check_keys(root, table, also, 2, &err);
    if (moe_yaml_bind(root, table, &target, &err) == MOE_OK &&
        (target.ways < 1 || target.ways > 64 || !(target.rate >= 0 && target.rate <= 1) ||
         !isfinite(target.link) || target.mode < 0 || target.mode > 2 ||
         !memchr(target.text, 0, sizeof target.text)))
        abort();
    moe_yaml_free(root);
    return 0;
}
