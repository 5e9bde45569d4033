#include "policies/strategy.h"

#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIELD(member) .offset = offsetof(struct moe_strategy, member)

static const struct moe_param table[] = {
    {.name = "geometry",
     .type = MOE_PARAM_STRING,
     FIELD(geometry),
     .default_text = "none",
     .size = sizeof((struct moe_strategy *)0)->geometry,
     .help = "slots of the GPU cache: 7x8, global:56, global:4000MiB, per-layer:2,2,3, ncmoe:20, "
             "none, all"},
    {.name = "prefill",
     .type = MOE_PARAM_CHOICE,
     FIELD(prefill),
     .default_text = "cpu",
     .choices = "cpu|cache|stream|auto",
     .help = "experts of prompt tokens. cpu: on the CPU; cache: through the cache; stream: copied "
             "to the GPU, those that lie in a slot as well; auto: each where it ends first by the "
             "platform's costs, from its slot if it lies in one"},
    {.name = "prefill_warm",
     .type = MOE_PARAM_BOOL,
     FIELD(prefill_warm),
     .default_text = "false",
     .help = "with prefill stream or auto: keep the missed experts of prompts in slots if "
             "admission and policy take them, so that decode starts warm; stream then computes "
             "from their slots those that lie there"},
    {.name = "threads",
     .type = MOE_PARAM_U64,
     FIELD(threads),
     .default_text = "8",
     .min = 1,
     .max = 4096,
     .unit = "threads",
     .help = "CPU threads that compute experts"},
    {.name = "seed",
     .type = MOE_PARAM_U64,
     FIELD(seed),
     .default_text = "1",
     .help = "seed of policies that draw at random"},
    {0},
};

static const struct moe_param dispatch_table[] = {
    {.name = "miss",
     .type = MOE_PARAM_CHOICE,
     FIELD(miss),
     .default_text = "cpu",
     .choices = "cpu|wait|fastest|admitted",
     .help = "where a missed expert is computed. cpu: on the CPU; wait: on the GPU after its copy; "
             "fastest: where it ends first by the platform's costs; admitted: on the GPU if it "
             "gets a slot, else on the CPU"},
    {.name = "in_flight",
     .type = MOE_PARAM_CHOICE,
     FIELD(in_flight),
     .default_text = "wait",
     .choices = "wait|cpu|fastest",
     .help = "an expert whose copy still runs: wait for the copy, compute on the CPU, or whichever "
             "ends first by the platform's costs"},
    {.name = "order",
     .type = MOE_PARAM_CHOICE,
     FIELD(order),
     .default_text = "hits-first",
     .choices = "hits-first|gate",
     .help =
         "order in which the experts of a layer are started. hits-first: those computed from a "
         "slot, "
         "their copies landed or not, in gate order, then the others, in gate order; gate: all in "
         "gate order. Those placed by costs: GPU first, in the order of placement"},
    {.name = "overlap",
     .type = MOE_PARAM_BOOL,
     FIELD(overlap),
     .default_text = "true",
     .help = "the host goes on while the CPU pool computes; off: it waits for each expert that the "
             "CPU computes, and for each copy into a slot that the GPU waits for"},
    {0},
};

static const struct moe_param fill_table[] = {
    {.name = "when",
     .type = MOE_PARAM_CHOICE,
     FIELD(fill_when),
     .default_text = "after-compute",
     .choices = "after-compute|at-once",
     .help = "when the copy of an admitted miss is queued: when the CPU has computed the "
             "misses of the layer (without overlap: the expert itself), or just before the expert "
             "is started there; the slot is chosen when the routing is known in both, and none "
             "whose copy still runs is given up (but by paper-lru)"},
    {.name = "memory",
     .type = MOE_PARAM_CHOICE,
     FIELD(fill_memory),
     .default_text = "pinned",
     .choices = "pinned|pageable",
     .help = "host memory that expert weights are copied from; a pageable copy keeps the host "
             "waiting until it has landed, fills and prefetches too"},
    {0},
};

enum { N_SECTIONS = 2 }; /* those with a name, which come first */

const struct moe_strategy_section moe_strategy_sections[] = {
    {"dispatch", dispatch_table}, {"fill", fill_table}, {"", table}, {NULL, NULL}};

/* The parts of a strategy that have a name and parameters of their own. */
enum rule { RULE_POLICY, RULE_ADMISSION, RULE_PREFETCHER, RULE_REROUTE, N_RULES };
static const char *const rule_names[N_RULES] = {"policy", "admission", "prefetcher", "reroute"};

static enum moe_status set_rule(struct moe_strategy *s, enum rule rule, const char *text,
                                struct moe_err *err)
{
    switch (rule) {
    case RULE_POLICY:
        return moe_policy_parse(text, &s->policy, err);
    case RULE_ADMISSION:
        return moe_admission_parse(text, &s->admission, err);
    case RULE_PREFETCHER:
        return moe_prefetcher_parse(text, &s->prefetcher, err);
    case RULE_REROUTE:
    case N_RULES:
        break;
    }
    return moe_reroute_parse(text, &s->reroute, err);
}

static const struct moe_param *rule_table(const struct moe_strategy *s, enum rule rule,
                                          const char **name)
{
    switch (rule) {
    case RULE_POLICY:
        *name = s->policy.ops->name;
        return s->policy.ops->params;
    case RULE_ADMISSION:
        *name = s->admission.ops->name;
        return s->admission.ops->params;
    case RULE_PREFETCHER:
        *name = s->prefetcher.ops->name;
        return s->prefetcher.ops->params;
    case RULE_REROUTE:
    case N_RULES:
        break;
    }
    *name = s->reroute.ops->name;
    return s->reroute.ops->params;
}

static void *rule_params(struct moe_strategy *s, enum rule rule)
{
    switch (rule) {
    case RULE_POLICY:
        return s->policy.params;
    case RULE_ADMISSION:
        return s->admission.params;
    case RULE_PREFETCHER:
        return s->prefetcher.params;
    case RULE_REROUTE:
    case N_RULES:
        break;
    }
    return s->reroute.params;
}

/* N_RULES: it is no rule's name. */
static enum rule find_rule(const char *name, size_t length)
{
    int i = 0;
    while (i < N_RULES &&
           (strlen(rule_names[i]) != length || strncmp(rule_names[i], name, length) != 0))
        i++;
    return (enum rule)i;
}

void moe_strategy_default(struct moe_strategy *strategy)
{
    memset(strategy, 0, sizeof *strategy);
    snprintf(strategy->name, sizeof strategy->name, "unnamed");
    moe_params_default(table, strategy);
    moe_params_default(dispatch_table, strategy);
    moe_params_default(fill_table, strategy);
    static const char *const defaults[N_RULES] = {"lru", "always", "none", "none"};
    for (int i = 0; i < N_RULES; i++)
        set_rule(strategy, (enum rule)i, defaults[i], NULL);
}

static enum moe_status set_rule_key(struct moe_strategy *strategy, enum rule rule, const char *key,
                                    const char *text, struct moe_err *err)
{
    const char *name;
    const struct moe_param *params = rule_table(strategy, rule, &name);
    if (!params)
        return moe_fail(err, MOE_ERR_USAGE, "unknown key '%s.%s': %s '%s' has no parameters",
                        rule_names[rule], key, rule_names[rule], name);
    enum moe_status s = moe_params_set(params, rule_params(strategy, rule), key, text, err);
    return s ? moe_fail_prefix(err, "%s '%s'", rule_names[rule], name) : MOE_OK;
}

static enum moe_status unknown_key(const char *key, struct moe_err *err)
{
    static const char *const known[] = {
        "geometry",  "policy",      "admission",          "prefetcher",     "prefill",
        "threads",   "seed",        "dispatch.miss",      "dispatch.order", "dispatch.overlap",
        "fill.when", "fill.memory", "dispatch.in_flight", "prefill_warm",   "reroute"};
    const char *nearest = moe_nearest_name(key, known, sizeof known / sizeof *known);
    if (nearest)
        return moe_fail(err, MOE_ERR_USAGE, "unknown strategy key '%s' (did you mean '%s'?)", key,
                        nearest);
    return moe_fail(err, MOE_ERR_USAGE,
                    "unknown strategy key '%s' (keys: geometry policy admission prefetcher reroute "
                    "prefill prefill_warm threads seed dispatch.* fill.*)",
                    key);
}

enum moe_status moe_strategy_set(struct moe_strategy *strategy, const char *key, const char *text,
                                 struct moe_err *err)
{
    const char *dot = strchr(key, '.');
    size_t head = dot ? (size_t)(dot - key) : strlen(key);
    enum rule rule = find_rule(key, head);
    if (rule != N_RULES)
        return dot ? set_rule_key(strategy, rule, dot + 1, text, err)
                   : set_rule(strategy, rule, text, err);
    if (!dot && moe_param_find(table, key))
        return moe_params_set(table, strategy, key, text, err);
    for (size_t i = 0; dot && i < N_SECTIONS; i++)
        if (strlen(moe_strategy_sections[i].name) == head &&
            strncmp(moe_strategy_sections[i].name, key, head) == 0)
            return moe_params_set(moe_strategy_sections[i].table, strategy, dot + 1, text, err);
    return unknown_key(key, err);
}

/* `policy: lru` or `policy: {name: paper-lru, hazards: off}`. */
static enum moe_status rule_from_yaml(const struct moe_yaml *node, struct moe_strategy *strategy,
                                      enum rule rule, struct moe_err *err)
{
    const struct moe_yaml *name = node;
    if (node->kind == MOE_YAML_LIST)
        return moe_yaml_fail(node, err, "%s is a list, but a name or a mapping is expected",
                             rule_names[rule]);
    if (node->kind == MOE_YAML_MAP)
        name = moe_yaml_get(node, "name");
    if (!name || name->kind != MOE_YAML_SCALAR)
        return moe_yaml_fail(node, err, "%s has no name", rule_names[rule]);
    if (set_rule(strategy, rule, name->text, err))
        return moe_fail_prefix(err, "'%s':%d", name->file, name->line);
    for (size_t i = 0; node->kind == MOE_YAML_MAP && i < node->n; i++) {
        if (strcmp(node->keys[i], "name") == 0)
            continue;
        if (node->item[i]->kind != MOE_YAML_SCALAR)
            return moe_yaml_fail(node->item[i], err, "%s.%s is not a single value",
                                 rule_names[rule], node->keys[i]);
        if (set_rule_key(strategy, rule, node->keys[i], node->item[i]->text, err))
            return moe_fail_prefix(err, "'%s':%d", node->file, node->key_lines[i]);
    }
    return MOE_OK;
}

static enum moe_status text_from_yaml(const struct moe_yaml *root, const char *key, char *buf,
                                      size_t size, struct moe_err *err)
{
    const struct moe_yaml *node = moe_yaml_get(root, key);
    if (!node || node->kind != MOE_YAML_SCALAR || !*node->text)
        return moe_yaml_fail(node ? node : root, err, "strategy has no '%s'", key);
    if (strlen(node->text) >= size)
        return moe_yaml_fail(node, err, "%s has %zu characters, at most %zu fit", key,
                             strlen(node->text), size - 1);
    memcpy(buf, node->text, strlen(node->text) + 1);
    return MOE_OK;
}

enum moe_status moe_strategy_from_yaml(const struct moe_yaml *root, struct moe_strategy *out,
                                       struct moe_err *err)
{
    static const char *const also[] = {"strategy",   "source",  "policy",   "admission",
                                       "prefetcher", "reroute", "dispatch", "fill"};
    struct moe_strategy made;
    moe_strategy_default(&made);
    if (root->kind != MOE_YAML_MAP)
        return moe_yaml_fail(root, err, "a strategy is a mapping of keys");
    enum moe_status s = moe_yaml_check_keys(root, table, also, sizeof also / sizeof *also, err);
    if (!s)
        s = text_from_yaml(root, "strategy", made.name, sizeof made.name, err);
    if (!s)
        s = text_from_yaml(root, "source", made.source, sizeof made.source, err);
    if (!s)
        s = moe_yaml_bind(root, table, &made, err);
    for (int i = 0; !s && i < N_RULES; i++) {
        const struct moe_yaml *node = moe_yaml_get(root, rule_names[i]);
        if (node)
            s = rule_from_yaml(node, &made, (enum rule)i, err);
    }
    for (size_t i = 0; !s && i < N_SECTIONS; i++) {
        const struct moe_yaml *node = moe_yaml_get(root, moe_strategy_sections[i].name);
        if (!node)
            continue;
        if (node->kind != MOE_YAML_MAP)
            return moe_yaml_fail(node, err, "'%s' is not a mapping of keys",
                                 moe_strategy_sections[i].name);
        s = moe_yaml_check_keys(node, moe_strategy_sections[i].table, NULL, 0, err);
        if (!s)
            s = moe_yaml_bind(node, moe_strategy_sections[i].table, &made, err);
    }
    if (!s)
        *out = made;
    return s;
}

/* Where the policy's list is not found under its relative name, takes the file of that name beside
 * the strategy's file, if there is one: `moelab tune` writes both into one folder, which may not be
 * the current one, or may be moved. */
static enum moe_status look_beside(const char *path, struct moe_strategy *strategy,
                                   struct moe_err *err)
{
    const struct moe_policy_spec *policy = &strategy->policy;
    const char *list = policy->ops->file ? policy->ops->file(policy->params) : "";
    const char *slash = strrchr(path, '/'), *name = strrchr(list, '/');
    char beside[1024];
    if (!*list || *list == '/' || access(list, F_OK) == 0)
        return MOE_OK;
    const int n = snprintf(beside, sizeof beside, "%.*s%s", slash ? (int)(slash - path) + 1 : 0,
                           path, name ? name + 1 : list);
    const bool there = n > 0 && (size_t)n < sizeof beside && access(beside, F_OK) == 0;
    return there ? moe_strategy_set(strategy, "policy.list", beside, err) : MOE_OK;
}

enum moe_status moe_strategy_load(const char *path, struct moe_strategy *out, struct moe_err *err)
{
    struct moe_yaml *root;
    enum moe_status s = moe_yaml_load(path, &root, err);
    if (s)
        return s;
    s = moe_strategy_from_yaml(root, out, err);
    moe_yaml_free(root);
    return s ? s : look_beside(path, out, err);
}

static size_t describe_table(const struct moe_param *params, const char *section, const void *base,
                             char *buf, size_t size, size_t at)
{
    char value[1100];
    for (; params && params->name && at < size; params++) {
        moe_param_format(params, base, value, sizeof value);
        if (params->flags & MOE_PARAM_LATER && strcmp(value, params->default_text) == 0)
            continue;
        at += (size_t)snprintf(buf + at, size - at, " %s%s%s=%s", section, *section ? "." : "",
                               params->name, value);
    }
    return at < size ? at : size;
}

void moe_strategy_describe(const struct moe_strategy *strategy, char *buf, size_t size)
{
    /* Only rule_params wants a non-const strategy; nothing is written through it here. */
    struct moe_strategy copy = *strategy;
    size_t at = (size_t)snprintf(buf, size, "strategy=%s", strategy->name);
    for (int i = 0; i < N_RULES && at < size; i++) {
        const char *name;
        const struct moe_param *params = rule_table(strategy, (enum rule)i, &name);
        at += (size_t)snprintf(buf + at, size - at, " %s=%s", rule_names[i], name);
        at = describe_table(params, rule_names[i], rule_params(&copy, (enum rule)i), buf, size,
                            at < size ? at : size);
    }
    at = describe_table(table, "", strategy, buf, size, at);
    for (size_t i = 0; i < N_SECTIONS; i++)
        at = describe_table(moe_strategy_sections[i].table, moe_strategy_sections[i].name, strategy,
                            buf, size, at);
}
