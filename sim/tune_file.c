#include "sim/tune_file.h"

#include "base/table.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { DESCRIBED = 16384 };

/* The file that a fixed placement is read from, or "". It is written separately: a path may hold
 * the characters that separate the words of a description. */
static const char *list_of(const struct moe_strategy *strategy)
{
    const struct moe_policy_spec *policy = &strategy->policy;
    return policy->ops->file ? policy->ops->file(policy->params) : "";
}

static void write_value(const char *value, size_t n, FILE *out)
{
    char text[sizeof((struct moe_strategy *)0)->geometry];
    snprintf(text, sizeof text, "%.*s", (int)n, value);
    moe_json_text(text, out);
}

/* The words "head.key=value" that follow, as one mapping; returns where they end. */
static const char *write_section(const char *word, size_t head, const char *name, const char *list,
                                 FILE *out)
{
    const char *comma = "";
    fprintf(out, "%.*s: {", (int)head, word);
    if (name) {
        fprintf(out, "name: ");
        write_value(name, strcspn(name, " "), out);
        comma = ", ";
    }
    const char *first = word;
    while (strncmp(word, first, head) == 0 && word[head] == '.') {
        const char *key = word + head + 1;
        size_t n = strcspn(key, "="), length = strcspn(key + n + 1, " ");
        if (*list && strncmp(key, "list=", 5) == 0) {
            fprintf(out, "%slist: ", comma);
            moe_json_text(list, out);
        } else if (length > 0) {
            fprintf(out, "%s%.*s: ", comma, (int)n, key);
            write_value(key + n + 1, length, out);
        }
        comma = length > 0 || *list ? ", " : comma;
        word = key + n + 1 + length;
        word += *word == ' ';
    }
    fputs("}\n", out);
    return word;
}

/* A description is words "key=value"; those of a rule or section, "key.name=value", stand together.
 */
static void write_keys(const char *word, const char *list, FILE *out)
{
    while (*word) {
        size_t key = strcspn(word, "=."), length = strcspn(word, " ");
        const char *next = word + length + (word[length] == ' ');
        if (word[key] == '.') {
            word = write_section(word, key, NULL, list, out);
        } else if (strncmp(next, word, key) == 0 && next[key] == '.') {
            word = write_section(next, key, word + key + 1, list, out);
        } else {
            fprintf(out, "%.*s: ", (int)key, word);
            write_value(word + key + 1, length - key - 1, out);
            fputc('\n', out);
            word = next;
        }
    }
}

static enum moe_status write_notes(const char *notes, FILE *out, struct moe_err *err)
{
    char *clean = malloc(notes ? 3 * strlen(notes) + 1 : 1);
    if (!clean)
        return moe_fail_memory(err, "a strategy file");
    while (notes && *notes) {
        size_t n = strcspn(notes, "\n");
        moe_utf8_clean(clean, notes, n);
        fprintf(out, "# %s\n", clean);
        notes += n + (notes[n] == '\n');
    }
    free(clean);
    return MOE_OK;
}

static enum moe_status describe_without_list(const struct moe_strategy *strategy, char *text,
                                             struct moe_err *err)
{
    struct moe_strategy copy = *strategy;
    enum moe_status s =
        *list_of(strategy) ? moe_strategy_set(&copy, "policy.list", "", err) : MOE_OK;
    if (!s)
        moe_strategy_describe(&copy, text, DESCRIBED);
    return s;
}

static enum moe_status write_text(const struct moe_strategy *strategy, const char *source,
                                  const char *notes, FILE *out, struct moe_err *err)
{
    char *described = malloc(DESCRIBED);
    if (!described)
        return moe_fail_memory(err, "a strategy file");
    enum moe_status s = describe_without_list(strategy, described, err);
    if (!s)
        s = write_notes(notes, out, err);
    if (!s) {
        const char *rest = described + strcspn(described, " ");
        fputs("strategy: ", out);
        moe_json_text(strategy->name, out);
        fputs("\nsource: ", out);
        moe_json_text(source, out);
        fputc('\n', out);
        write_keys(rest + (*rest == ' '), list_of(strategy), out);
    }
    free(described);
    return s;
}

static enum moe_status read_back(const struct moe_strategy *strategy, const char *text, size_t size,
                                 struct moe_err *err)
{
    struct moe_yaml *root;
    struct moe_strategy again;
    char *a = malloc(DESCRIBED), *b = malloc(DESCRIBED);
    enum moe_status s = a && b ? moe_yaml_parse("the strategy file", text, size, &root, err)
                               : moe_fail_memory(err, "a strategy file");
    if (!s) {
        s = moe_strategy_from_yaml(root, &again, err);
        moe_yaml_free(root);
    }
    if (!s) {
        moe_strategy_describe(strategy, a, DESCRIBED);
        moe_strategy_describe(&again, b, DESCRIBED);
        if (strcmp(a, b) != 0)
            s = moe_fail(err, MOE_ERR_UNSUPPORTED,
                         "strategy '%s' cannot be written as a file: it reads back as another",
                         strategy->name);
    }
    free(a);
    free(b);
    return s;
}

enum moe_status moe_tune_write_strategy(const struct moe_strategy *strategy, const char *source,
                                        const char *notes, FILE *out, struct moe_err *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return moe_fail_memory(err, "a strategy file");
    enum moe_status s = write_text(strategy, source, notes, stream, err);
    if (fclose(stream) != 0 && !s)
        s = moe_fail_memory(err, "a strategy file");
    if (!s)
        s = read_back(strategy, text, size, err);
    if (!s)
        fwrite(text, 1, size, out);
    free(text);
    return s;
}
