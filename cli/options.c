#include "cli/command.h"

#include "base/file.h"
#include "base/units.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const struct {
    const char *word, *name;
} aliases[] = {{"-o", "output"}, {"--out", "output"}, {"-p", "prompt"}, {"-n", "max-new-tokens"}};

/* "--name", "--name=value" or an alias of it: writes the name, returns the value or NULL. */
static const char *split_option(const char *word, char *name, size_t size)
{
    bool full = strncmp(word, "--", 2) == 0;
    const char *equals = full ? strchr(word, '=') : NULL;
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    snprintf(name, size, "%.*s", full ? (int)(n - 2) : 0, word + 2);
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strlen(aliases[i].word) == n && strncmp(word, aliases[i].word, n) == 0)
            snprintf(name, size, "%s", aliases[i].name);
    return equals ? equals + 1 : NULL;
}

/* The option's spelling of a record's name: max_tokens becomes max-tokens. */
static const char *as_typed(const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "%s", name);
    for (char *c = buf; *c; c++)
        if (*c == '_')
            *c = '-';
    return buf;
}

static enum moe_status unknown_option(const struct cli_command *command, const char *word,
                                      struct moe_err *err)
{
    const char *names[64];
    size_t n = 0;
    for (const struct moe_param *p = command->options; p && p->name && n < 63; p++)
        names[n++] = p->name;
    if (command->takes_sets)
        names[n++] = "set";
    const char *nearest = moe_nearest_name(word + strspn(word, "-"), names, n);
    if (!nearest)
        return moe_fail(err, MOE_ERR_USAGE, "unknown option '%.60s' (see 'moelab %s --help')", word,
                        command->name);
    char shown[64];
    return moe_fail(err, MOE_ERR_USAGE, "unknown option '%.60s' (did you mean '--%s'?)", word,
                    as_typed(nearest, shown, sizeof shown));
}

struct parser {
    const struct cli_command *command;
    int argc, at;
    char **argv;
    struct cli_call *call;
    void *options;
    const char **args, **sets;
    bool *given;
};

/* The value of the option at p->at: after '=', or the next word. */
static enum moe_status take_value(struct parser *p, const char *inline_value, const char **value,
                                  struct moe_err *err)
{
    if (inline_value) {
        *value = inline_value;
        return MOE_OK;
    }
    if (p->at + 1 >= p->argc)
        return moe_fail(err, MOE_ERR_USAGE, "option '%s' has no value", p->argv[p->at]);
    *value = p->argv[++p->at];
    return MOE_OK;
}

static enum moe_status take_set(struct parser *p, const char *inline_value, struct moe_err *err)
{
    const char *value = NULL;
    enum moe_status s = take_value(p, inline_value, &value, err);
    if (s)
        return s;
    if (!strchr(value, '='))
        return moe_fail(err, MOE_ERR_USAGE, "--set '%.60s' is not of the form key=value", value);
    if (p->call->n_sets == CLI_SETS_MAX)
        return moe_fail(err, MOE_ERR_USAGE, "more than %d --set options", CLI_SETS_MAX);
    p->sets[p->call->n_sets++] = value;
    return MOE_OK;
}

/* Sets an option. In the error for a refused value "max_tokens: ..." becomes "--max-tokens: ...".
 */
static enum moe_status set_option(struct parser *p, const struct moe_param *param,
                                  const char *value, struct moe_err *err)
{
    char shown[64];
    const size_t n = strlen(param->name);
    enum moe_status s = moe_param_set(param, p->options, value, err);
    if (!s || strncmp(err->text, param->name, n) != 0 || err->text[n] != ':')
        return s;
    const struct moe_err why = *err;
    return moe_fail(err, s, "--%s%s", as_typed(param->name, shown, sizeof shown), why.text + n);
}

static enum moe_status take_option(struct parser *p, struct moe_err *err)
{
    char name[64];
    const char *word = p->argv[p->at], *value = NULL;
    const char *inline_value = split_option(word, name, sizeof name);
    if (p->command->takes_sets && strcmp(name, "set") == 0)
        return take_set(p, inline_value, err);
    const struct moe_param *param =
        p->command->options ? moe_param_find(p->command->options, name) : NULL;
    if (!param && strncmp(name, "no-", 3) == 0 && !inline_value && p->command->options) {
        param = moe_param_find(p->command->options, name + 3);
        if (param && param->type == MOE_PARAM_BOOL) {
            p->given[param - p->command->options] = true;
            return moe_param_set(param, p->options, "false", err);
        }
        param = NULL;
    }
    if (!param)
        return unknown_option(p->command, word, err);
    enum moe_status s = MOE_OK;
    bool *given = &p->given[param - p->command->options];
    if (*given && param->endings)
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%.60s' is given twice: only one of them would be written", word);
    *given = true;
    if (param->type == MOE_PARAM_BOOL && !inline_value)
        value = "true";
    else
        s = take_value(p, inline_value, &value, err);
    return s ? s : set_option(p, param, value, err);
}

/* "moelab NAME USAGE" */
static const char *usage_of(const struct cli_command *command, char *buf, size_t size)
{
    snprintf(buf, size, "moelab %s%s%s", command->name, *command->usage ? " " : "", command->usage);
    return buf;
}

static enum moe_status parse_words(struct parser *p, int *help, struct moe_err *err)
{
    char usage[256];
    bool only_args = false;
    for (p->at = 0; p->at < p->argc; p->at++) {
        const char *word = p->argv[p->at];
        if (!only_args && strcmp(word, "--") == 0) {
            only_args = true;
        } else if (!only_args && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            *help = 1;
            return MOE_OK;
        } else if (!only_args && word[0] == '-' && word[1]) {
            enum moe_status s = take_option(p, err);
            if (s)
                return s;
        } else {
            p->args[p->call->n_args++] = word;
        }
    }
    int n = p->call->n_args;
    if (n < p->command->min_args)
        return moe_fail(err, MOE_ERR_USAGE, "missing argument; usage: %s",
                        usage_of(p->command, usage, sizeof usage));
    if (n > p->command->max_args)
        return moe_fail(err, MOE_ERR_USAGE, "unexpected argument '%.60s'; usage: %s",
                        p->args[p->command->max_args], usage_of(p->command, usage, sizeof usage));
    return MOE_OK;
}

static size_t count_params(const struct moe_param *params)
{
    size_t n = 0;
    while (params && params[n].name)
        n++;
    return n;
}

/* Does the option name the file of a table? Only those have standard output as their default. */
static bool is_table(const struct moe_param *file)
{
    return file && file->type == MOE_PARAM_STRING && strcmp(file->default_text, "-") == 0;
}

/* A table's file that ends in .tsv or .json decides the format; a --format that contradicts it is
 * refused. */
static enum moe_status infer_format(struct parser *p, struct moe_err *err)
{
    static const char *const files[] = {"output", "table"}, *const forms[] = {"tsv", "json"};
    const struct moe_param *table = p->command->options;
    const struct moe_param *format = table ? moe_param_find(table, "format") : NULL;
    char chosen[32];
    if (!format || format->type != MOE_PARAM_CHOICE)
        return MOE_OK;
    moe_param_format(format, p->options, chosen, sizeof chosen);
    for (size_t i = 0; i < 4; i++) {
        const struct moe_param *file = moe_param_find(table, files[i / 2]);
        const char *path = is_table(file) ? (const char *)p->options + file->offset : "";
        const char *dot = strrchr(path, '.');
        if (!dot || strcasecmp(dot + 1, forms[i % 2]) != 0)
            continue;
        if (p->given[format - table] && strcmp(chosen, forms[i % 2]) != 0)
            return moe_fail(err, MOE_ERR_USAGE, "--format %s, but the name of '%.300s' ends in %s",
                            chosen, path, dot);
        return moe_param_set(format, p->options, forms[i % 2], err);
    }
    return MOE_OK;
}

static const char *option_text(const struct parser *p, const char *name)
{
    const struct moe_param *param =
        p->command->options ? moe_param_find(p->command->options, name) : NULL;
    return param && param->type == MOE_PARAM_STRING ? (const char *)p->options + param->offset : "";
}

static enum moe_status differ(const char *output, const char *input, struct moe_err *err)
{
    struct stat out, in;
    if (stat(output, &out) != 0 || !S_ISREG(out.st_mode) || stat(input, &in) != 0 ||
        out.st_dev != in.st_dev || out.st_ino != in.st_ino)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "output '%s' is the input '%s': it would be lost; name another file", output,
                    input);
}

/* Refuses an output that is the same as an input file in `word`: the word itself, FILE of
 * route-csv:FILE, or those of synth:stats:file=FILE,tokens=9 and static:list=FILE. */
static enum moe_status differ_from_word(const char *output, const char *word, struct moe_err *err)
{
    static const char *const keys[] = {"file=", "list="};
    const char *colon = strchr(word, ':');
    enum moe_status s = differ(output, word, err);
    if (!s && colon)
        s = differ(output, colon + 1, err);
    for (size_t i = 0; !s && i < sizeof keys / sizeof *keys; i++) {
        char file[PATH_MAX];
        const char *key = strstr(word, keys[i]), *value = key ? key + strlen(keys[i]) : "";
        snprintf(file, sizeof file, "%.*s", (int)strcspn(value, ","), value);
        s = differ(output, file, err);
    }
    return s;
}

/* stat of the folder of path; slash: the last '/' in path, or NULL. */
static bool stat_folder(const char *path, const char *slash, struct stat *st)
{
    char folder[PATH_MAX] = ".";
    if (slash)
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    return stat(folder, st) == 0;
}

/* Do two names lead to one file? For files that do not exist yet, folders and names are compared.
 */
static bool same_file(const char *a, const char *b)
{
    struct stat one, other;
    if (strcmp(a, b) == 0)
        return true;
    if (stat(a, &one) == 0 && stat(b, &other) == 0)
        return S_ISREG(one.st_mode) && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
    const char *slash_a = strrchr(a, '/'), *slash_b = strrchr(b, '/');
    if (strcmp(slash_a ? slash_a + 1 : a, slash_b ? slash_b + 1 : b) != 0)
        return false;
    return stat_folder(a, slash_a, &one) && stat_folder(b, slash_b, &other) &&
           one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* Is the word, in any case, one of "a|b|c"? */
static bool is_among(const char *words, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = words; *at; at += strcspn(at, "|"), at += *at == '|')
        if (n == strcspn(at, "|") && n > 0 && strncasecmp(at, word, n) == 0)
            return true;
    return false;
}

/* Refuses a name whose ending means another format than the option writes, such as x.pdf for text.
 * Endings of no known format are allowed. */
static enum moe_status check_form(const struct moe_param *param, const char *path,
                                  struct moe_err *err)
{
    static const char forms[] =
        "pdf|svg|png|jpg|jpeg|gif|eps|ps|html|htm|xlsx|xls|ods|odt|docx|doc|csv|tsv|txt|json|jsonl|"
        "yaml|yml|xml|toml|h5|hdf5|npy|npz|parquet|md|tex|db|sqlite|gz|zip|xz|zst|bz2|tar|tgz";
    char shown[64];
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    if (!dot || !is_among(forms, dot + 1) || is_among(param->endings, dot + 1))
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE, "'%.300s': %.10s is not what '--%s' writes: %s", path, dot,
                    as_typed(param->name, shown, sizeof shown), param->help);
}

/* The name that the command line gives to a file to be written, or NULL (not given, or standard
 * output). */
static const char *written(const struct parser *p, const struct moe_param *param)
{
    const char *path = (const char *)p->options + param->offset;
    bool names = param->endings && p->given[param - p->command->options];
    return names && strcmp(path, "-") != 0 ? path : NULL;
}

/* Refuses to overwrite an input, perhaps a trace that took hours, before anything is read. */
static enum moe_status check_inputs(const struct parser *p, const char *output, struct moe_err *err)
{
    static const char *const inputs[] = {"model",   "platform", "strategy",  "trace",
                                         "prompts", "weights",  "sequences", "policy"};
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < sizeof inputs / sizeof *inputs; i++)
        s = differ_from_word(output, option_text(p, inputs[i]), err);
    for (int i = 0; !s && i < p->call->n_args; i++)
        s = differ_from_word(output, p->args[i], err);
    for (int i = 0; !s && i < p->call->n_sets; i++)
        s = differ_from_word(output, p->sets[i], err);
    return s;
}

/* The i-th file that is written for an option's value: the file itself, or those with the stem;
 * NULL: no more. Pictures are not counted. */
static const char *nth_file(const struct moe_param *param, const char *path, size_t i, char *buf)
{
    static const struct {
        const char *option, *behind[2];
    } stems[] = {{"plot", {".tsv"}}, {"timeline", {"-sim.json", "-exec.json"}}};
    for (size_t k = 0; !*param->endings && k < sizeof stems / sizeof *stems; k++)
        if (strcmp(param->name, stems[k].option) == 0) {
            const char *behind = i < 2 ? stems[k].behind[i] : NULL;
            snprintf(buf, PATH_MAX, "%s%s", path, behind ? behind : "");
            return behind ? buf : NULL;
        }
    return i == 0 ? path : NULL;
}

/* Refuses two options that would write to the same file. */
static enum moe_status check_pair(const struct parser *p, const struct moe_param *a,
                                  const struct moe_param *b, struct moe_err *err)
{
    char one[PATH_MAX], other[PATH_MAX], name_a[64], name_b[64];
    const char *path_a = written(p, a), *path_b = written(p, b), *file_a, *file_b;
    for (size_t i = 0; path_b && (file_a = nth_file(a, path_a, i, one)); i++)
        for (size_t k = 0; (file_b = nth_file(b, path_b, k, other)); k++)
            if (same_file(file_a, file_b))
                return moe_fail(err, MOE_ERR_USAGE, "'%.300s' is to be written by --%s and by --%s",
                                file_a, as_typed(b->name, name_b, sizeof name_b),
                                as_typed(a->name, name_a, sizeof name_a));
    return MOE_OK;
}

/* Checks all files that the command line names to be written. */
static enum moe_status check_outputs(const struct parser *p, struct moe_err *err)
{
    const struct moe_param *options = p->command->options;
    char name[64], buf[PATH_MAX];
    for (const struct moe_param *a = options; a && a->name; a++) {
        const char *path = written(p, a), *file;
        if (!path)
            continue;
        enum moe_status s = MOE_OK;
        if (!*path)
            s = moe_fail(err, MOE_ERR_USAGE, "--%s: empty value where a name is expected",
                         as_typed(a->name, name, sizeof name));
        for (size_t i = 0; !s && (file = nth_file(a, path, i, buf)); i++)
            s = check_inputs(p, file, err);
        if (!s)
            s = check_form(a, path, err);
        for (const struct moe_param *b = options; !s && b < a; b++)
            s = check_pair(p, a, b, err);
        if (s)
            return s;
    }
    return MOE_OK;
}

/* Checks, before the result is computed, that it can be written. Commands whose processes may form
 * a team do so themselves, in the first process. */
static enum moe_status check_places(const struct parser *p, struct moe_err *err)
{
    static const char *const files[] = {"output", "table", "hot_list"};
    const struct moe_param *table = p->command->options;
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && table && i < sizeof files / sizeof *files; i++) {
        const struct moe_param *file = moe_param_find(table, files[i]);
        const char *path = option_text(p, files[i]);
        if (file && p->given[file - table] && *path && (is_table(file) || i == 2))
            s = p->command->joins_team ? MOE_OK : moe_output_check(path, err);
    }
    return s;
}

enum moe_status cli_parse(const struct cli_command *command, int argc, char **argv,
                          struct cli_call *call, int *help, struct moe_err *err)
{
    struct parser p = {.command = command, .argc = argc, .argv = argv, .call = call};
    *call = (struct cli_call){.command = command, .argv = (const char *const *)argv, .argc = argc};
    *help = 0;
    p.options = calloc(1, command->options_size + 1);
    p.args = calloc((size_t)argc + 1, sizeof *p.args);
    p.sets = calloc(CLI_SETS_MAX, sizeof *p.sets);
    p.given = calloc(count_params(command->options) + 1, sizeof *p.given);
    call->options = p.options;
    call->args = p.args;
    call->sets = p.sets;
    call->given = p.given;
    if (!p.options || !p.args || !p.sets || !p.given)
        return moe_fail_memory(err, "the command line");
    if (command->options)
        moe_params_default(command->options, p.options);
    enum moe_status s = parse_words(&p, help, err);
    if (!s && !*help)
        s = check_outputs(&p, err);
    if (!s && !*help)
        s = check_places(&p, err);
    return s ? s : infer_format(&p, err);
}

void cli_call_release(struct cli_call *call)
{
    free((void *)(uintptr_t)call->options);
    free((void *)(uintptr_t)call->args);
    free((void *)(uintptr_t)call->sets);
    free((void *)(uintptr_t)call->given);
    *call = (struct cli_call){0};
}

bool cli_call_sets(const struct cli_call *call, const char *option)
{
    const struct moe_param *options = call->command->options;
    const struct moe_param *param = options ? moe_param_find(options, option) : NULL;
    return param && call->given[param - options];
}

/* The short names of this command's options, on one line. */
static void help_aliases(const struct moe_param *options)
{
    const char *before = "\nshort: ";
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (aliases[i].word[1] != '-' && moe_param_find(options, aliases[i].name)) {
            printf("%s%s for --%s", before, aliases[i].word, aliases[i].name);
            before = ", ";
        }
    if (*before == ',')
        printf("\n");
}

void cli_help_command(const struct cli_command *command)
{
    char usage[256];
    printf("%s\n\n%s\n", usage_of(command, usage, sizeof usage), command->summary);
    if (command->description)
        printf("\n%s\n", command->description);
    if (command->spec) {
        printf("\nkeys:\n");
        moe_params_help(command->spec, "", stdout);
    }
    if (command->options || command->takes_sets)
        printf("\noptions:\n");
    if (command->options)
        moe_params_help(command->options, "--", stdout);
    if (command->takes_sets)
        printf("  --set KEY=VALUE              overrides one key of the strategy, repeatable:\n"
               "                               %s\n",
               command->set_keys ? command->set_keys
                                 : "geometry, policy.KEY, admission.quota, dispatch.miss, ...");
    if (command->options)
        help_aliases(command->options);
}
