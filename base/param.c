#include "base/param.h"

#include "base/table.h"
#include "base/units.h"

#include <float.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A parsed value before it is stored, so that a bad text leaves the struct as it was. */
union value {
    uint64_t u64;
    double f64;
    int word;
    const char *text;
};

static void store(const struct moe_param *param, void *base, union value value)
{
    char *member = (char *)base + param->offset;
    switch (param->type) {
    case MOE_PARAM_U64:
    case MOE_PARAM_BYTES:
        memcpy(member, &value.u64, sizeof value.u64);
        break;
    case MOE_PARAM_F64:
        memcpy(member, &value.f64, sizeof value.f64);
        break;
    case MOE_PARAM_BOOL:
    case MOE_PARAM_CHOICE:
        memcpy(member, &value.word, sizeof value.word);
        break;
    case MOE_PARAM_STRING:
        snprintf(member, param->size, "%s", value.text);
        break;
    }
}

static uint64_t limit_u64(double limit)
{
    return limit >= 0x1p64 ? UINT64_MAX : (uint64_t)limit;
}

static int has_limits(const struct moe_param *param)
{
    return param->min < 0 || param->min > 0 || param->max < 0 || param->max > 0;
}

static enum moe_status parse_choice(const struct moe_param *param, const char *text, int *out,
                                    struct moe_err *err)
{
    int index = moe_choice_index(param->choices, text);
    if (index < 0)
        return moe_fail(err, MOE_ERR_USAGE, "'%.40s' is not one of %s", text, param->choices);
    *out = index;
    return MOE_OK;
}

/* A number whose unit is "%" may be followed by that sign. */
static enum moe_status parse_f64(const struct moe_param *param, const char *text, double *out,
                                 struct moe_err *err)
{
    const int limited = has_limits(param);
    const double min = limited ? param->min : -DBL_MAX, max = limited ? param->max : DBL_MAX;
    const size_t n = strlen(text);
    char number[64];
    if (param->unit && strcmp(param->unit, "%") == 0 && n > 1 && n <= sizeof number &&
        text[n - 1] == '%') {
        snprintf(number, sizeof number, "%.*s", (int)n - 1, text);
        text = number;
    }
    return moe_parse_f64(text, min, max, out, err);
}

static enum moe_status parse_value(const struct moe_param *param, const char *text,
                                   union value *value, struct moe_err *err)
{
    int limited = has_limits(param);
    switch (param->type) {
    case MOE_PARAM_U64:
        return moe_parse_u64(text, limited ? limit_u64(param->min) : 0,
                             limit_u64(limited ? param->max : 0x1p63), &value->u64, err);
    case MOE_PARAM_F64:
        return parse_f64(param, text, &value->f64, err);
    case MOE_PARAM_BOOL:
        return moe_parse_bool(text, &value->word, err);
    case MOE_PARAM_BYTES:
        return moe_parse_bytes(text, &value->u64, err);
    case MOE_PARAM_CHOICE:
        return parse_choice(param, text, &value->word, err);
    case MOE_PARAM_STRING:
        break;
    }
    size_t length = strlen(text);
    if (length >= param->size)
        return moe_fail(err, MOE_ERR_USAGE, "'%.40s' has %zu bytes, the limit is %zu", text, length,
                        param->size - 1);
    value->text = text;
    return MOE_OK;
}

void moe_params_default(const struct moe_param *table, void *base)
{
    for (const struct moe_param *p = table; p && p->name; p++) {
        union value value = {0};
        if (p->type == MOE_PARAM_STRING)
            value.text = "";
        if (p->default_text)
            parse_value(p, p->default_text, &value, NULL);
        store(p, base, value);
    }
}

static int same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '-' ? '_' : *a) != (*b == '-' ? '_' : *b))
            return 0;
    return *a == *b;
}

const struct moe_param *moe_param_find(const struct moe_param *table, const char *name)
{
    for (const struct moe_param *p = table; p && p->name; p++)
        if (same_name(p->name, name))
            return p;
    return NULL;
}

static enum moe_status parse_named(const struct moe_param *param, const char *text,
                                   union value *value, struct moe_err *err)
{
    enum moe_status s = parse_value(param, text, value, err);
    if (s)
        moe_fail_prefix(err, "%s", param->name);
    return s;
}

enum moe_status moe_param_set(const struct moe_param *param, void *base, const char *text,
                              struct moe_err *err)
{
    union value value;
    enum moe_status s = parse_named(param, text, &value, err);
    if (!s)
        store(param, base, value);
    return s;
}

/* "unknown parameter 'x' (did you mean 'y'?)" or the names of the table. */
static enum moe_status unknown(const struct moe_param *table, const char *name, struct moe_err *err)
{
    enum { MAX_NAMES = 128 }; /* later ones are only missing from suggestions and list */
    const char *names[MAX_NAMES] = {NULL};
    size_t n = 0;
    for (const struct moe_param *p = table; p && p->name && n < MAX_NAMES; p++)
        names[n++] = p->name;
    const char *near = moe_nearest_name(name, names, n);
    if (near)
        return moe_fail(err, MOE_ERR_USAGE, "unknown parameter '%.60s' (did you mean '%s'?)", name,
                        near);
    char known[300];
    return moe_fail(err, MOE_ERR_USAGE, "unknown parameter '%.60s' (known: %s)", name,
                    n ? moe_join_names(names, n, ", ", "", known, sizeof known) : "none");
}

enum moe_status moe_params_set(const struct moe_param *table, void *base, const char *name,
                               const char *text, struct moe_err *err)
{
    const struct moe_param *param = moe_param_find(table, name);
    if (!param)
        return unknown(table, name, err);
    return moe_param_set(param, base, text, err);
}

static const char *format_size(uint64_t bytes, char *buf, size_t size)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"MiB", 1u << 20}, {"KiB", 1u << 10}, {"", 1}};
    size_t i = 0;
    while (bytes % units[i].bytes || (!bytes && units[i].bytes > 1))
        i++;
    snprintf(buf, size, "%" PRIu64 "%s", bytes / units[i].bytes, units[i].name);
    return buf;
}

const char *moe_param_format(const struct moe_param *param, const void *base, char *buf,
                             size_t size)
{
    const char *member = (const char *)base + param->offset;
    uint64_t u64 = 0;
    double f64 = 0;
    int word = 0;
    switch (param->type) {
    case MOE_PARAM_U64:
        memcpy(&u64, member, sizeof u64);
        snprintf(buf, size, "%" PRIu64, u64);
        return buf;
    case MOE_PARAM_BYTES:
        memcpy(&u64, member, sizeof u64);
        return format_size(u64, buf, size);
    case MOE_PARAM_F64:
        memcpy(&f64, member, sizeof f64);
        return moe_format_f64(f64, buf, size);
    case MOE_PARAM_BOOL:
        memcpy(&word, member, sizeof word);
        return moe_choice_name("false|true", word, buf, size);
    case MOE_PARAM_CHOICE:
        memcpy(&word, member, sizeof word);
        return moe_choice_name(param->choices, word, buf, size);
    case MOE_PARAM_STRING:
        break;
    }
    snprintf(buf, size, "%s", member);
    return buf;
}

int moe_choice_index(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (int i = 0;; i++) {
        size_t word = strcspn(choices, "|");
        if (word == length && memcmp(choices, text, word) == 0)
            return i;
        if (!choices[word])
            return -1;
        choices += word + 1;
    }
}

const char *moe_choice_name(const char *choices, int index, char *buf, size_t size)
{
    for (; index > 0 && *choices; index--) {
        choices += strcspn(choices, "|");
        choices += *choices == '|';
    }
    snprintf(buf, size, "%.*s", (int)strcspn(choices, "|"), index < 0 ? "" : choices);
    return buf;
}

/* One "key=value" (cut apart in place); base NULL: check only. */
static enum moe_status parse_entry(const struct moe_param *table, void *base, char *entry,
                                   struct moe_err *err)
{
    char *equals = strchr(entry, '=');
    if (!equals)
        return moe_fail(err, MOE_ERR_USAGE, "'%.60s' is not of the form key=value", entry);
    *equals = 0;
    const struct moe_param *param = moe_param_find(table, entry);
    if (!param)
        return unknown(table, entry, err);
    union value value;
    enum moe_status s = parse_named(param, equals + 1, &value, err);
    if (!s && base)
        store(param, base, value);
    return s;
}

static enum moe_status parse_entries(const struct moe_param *table, void *base, const char *text,
                                     struct moe_err *err)
{
    char *copy = strdup(text);
    if (!copy)
        return moe_fail_memory(err, "a parameter list");
    enum moe_status s = MOE_OK;
    for (char *entry = copy; entry && !s;) {
        char *comma = strchr(entry, ',');
        if (comma)
            *comma = 0;
        s = parse_entry(table, base, entry, err);
        entry = comma ? comma + 1 : NULL;
    }
    free(copy);
    return s;
}

enum moe_status moe_params_parse_list(const struct moe_param *table, void *base, const char *text,
                                      struct moe_err *err)
{
    if (!*text)
        return MOE_OK;
    enum moe_status s = parse_entries(table, NULL, text, err);
    return s ? s : parse_entries(table, base, text, err);
}

enum { HELP_COLUMN = 30, HELP_WIDTH = 100 };

/* Words of text after column `at`; returns the column reached. */
static int print_wrapped(const char *text, int at, FILE *out)
{
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (at + 1 + word > HELP_WIDTH && at > HELP_COLUMN)
            at = fprintf(out, "\n%*s", HELP_COLUMN, "") - 1;
        at += fprintf(out, " %.*s", word, text);
        text += word;
        text += strspn(text, " ");
    }
    return at;
}

static const char *value_word(const struct moe_param *param)
{
    static const char *const words[] = {
        [MOE_PARAM_U64] = "N",           [MOE_PARAM_F64] = "NUMBER",  [MOE_PARAM_BYTES] = "SIZE",
        [MOE_PARAM_BOOL] = "true|false", [MOE_PARAM_STRING] = "TEXT",
    };
    return param->type == MOE_PARAM_CHOICE ? param->choices : words[param->type];
}

static void help_line(const struct moe_param *param, const char *prefix, FILE *out)
{
    char name[80], left[200], tail[200];
    int option = strncmp(prefix, "--", 2) == 0;
    snprintf(name, sizeof name, "%s", param->name);
    for (char *c = name; option && *c; c++)
        if (*c == '_')
            *c = '-';
    /* A switch on the command line is on where it stands alone; its value needs the sign. */
    char between = option && param->type != MOE_PARAM_BOOL ? ' ' : '=';
    snprintf(left, sizeof left, "  %s%s%c%s", prefix, name, between, value_word(param));
    const char *unit = param->unit ? param->unit : "";
    if (!param->default_text)
        snprintf(tail, sizeof tail, "(required%s%s)", *unit ? "; " : "", unit);
    else if (*param->default_text)
        snprintf(tail, sizeof tail, "(default: %s%s%s)", param->default_text, *unit ? "; " : "",
                 unit);
    else /* nothing is the default: the help says what then happens */
        snprintf(tail, sizeof tail, *unit ? "(%s)" : "%s", unit);
    int at = fprintf(out, "%-*s", HELP_COLUMN, left);
    if (at > HELP_COLUMN)
        at = fprintf(out, "\n%*s", HELP_COLUMN, "") - 1;
    at = print_wrapped(param->help ? param->help : "", at, out);
    print_wrapped(tail, at, out);
    fputc('\n', out);
}

void moe_params_help(const struct moe_param *table, const char *prefix, FILE *out)
{
    for (const struct moe_param *p = table; p && p->name; p++)
        help_line(p, prefix ? prefix : "", out);
}
