/* Any text as a "key=value,..." list; what was set must survive format and set. */
#include "base/param.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct target {
    uint64_t ways, any, room;
    double rate, shift;
    int flag, mode;
    char text[12];
};

#define AT(member) .offset = offsetof(struct target, member)
static const struct moe_param table[] = {
    {.name = "ways", .type = MOE_PARAM_U64, AT(ways), .default_text = "2", .min = 1, .max = 64},
    {.name = "any_number", .type = MOE_PARAM_U64, AT(any), .default_text = "0"},
    {.name = "room", .type = MOE_PARAM_BYTES, AT(room), .default_text = "4000MiB"},
    {.name = "rate", .type = MOE_PARAM_F64, AT(rate), .default_text = "0.5", .min = 0, .max = 1},
    {.name = "shift", .type = MOE_PARAM_F64, AT(shift), .default_text = "-1"},
    {.name = "flag", .type = MOE_PARAM_BOOL, AT(flag), .default_text = "no"},
    {.name = "mode", .type = MOE_PARAM_CHOICE, AT(mode), .default_text = "b", .choices = "a|b|c"},
    {.name = "text", .type = MOE_PARAM_STRING, AT(text), .default_text = "", .size = 12},
    {0},
};

static void check_round_trip(const struct target *target)
{
    struct target copy;
    char buf[64];
    memset(&copy, 0, sizeof copy);
    moe_params_default(table, &copy);
    for (const struct moe_param *p = table; p->name; p++)
        if (moe_param_set(p, &copy, moe_param_format(p, target, buf, sizeof buf), NULL))
            abort();
    if (copy.ways != target->ways || copy.any != target->any || copy.room != target->room ||
        memcmp(&copy.rate, &target->rate, 2 * sizeof(double)) != 0 || copy.flag != target->flag ||
        copy.mode != target->mode || strcmp(copy.text, target->text) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    struct target target, before;
    struct moe_err err = {0};
    memset(&target, 0, sizeof target);
    moe_params_default(table, &target);
    before = target;
    enum moe_status s = moe_params_parse_list(table, &target, text, &err);
    if (s && (memcmp(&target, &before, sizeof target) != 0 || err.status != s || !err.text[0]))
        abort();
    check_round_trip(&target);
    moe_param_find(table, text);
    free(text);
    return 0;
}
