#include "base/units.h"
#include "cli/command.h"
#include "cli/output.h"
#include "policies/admission.h"
#include "policies/policy.h"
#include "policies/prefetcher.h"
#include "traces/import.h"

#include <stdio.h>
#include <string.h>

static void print_entry(const char *name, const char *summary, const char *source,
                        const struct moe_param *params)
{
    printf("  %-16s %s\n", name, summary);
    if (source)
        printf("  %-16s source: %s\n", "", source);
    if (params)
        moe_params_help(params, "    ", stdout);
}

static void print_note(const char *note)
{
    printf("  %-16s %s\n", "", note);
}

#define NEEDS_COSTS "needs the costs of a platform"

static void list_policies(void)
{
    for (size_t i = 0; moe_policies[i]; i++) {
        print_entry(moe_policies[i]->name, moe_policies[i]->summary, moe_policies[i]->source, NULL);
        if (moe_policies[i]->needs & MOE_NEEDS_COSTS)
            print_note(NEEDS_COSTS);
        moe_params_help(moe_policies[i]->params, "    ", stdout);
    }
}

static void print_admission(const struct moe_admission_ops *ops)
{
    print_entry(ops->name, ops->summary, ops->source, NULL);
    if (ops->flags & MOE_ADMISSION_NEEDS_COSTS)
        print_note(NEEDS_COSTS);
    if (ops->flags & MOE_ADMISSION_ON_TIME)
        print_note("depends on time: on when copies land");
    if (ops->params)
        moe_params_help(ops->params, "    ", stdout);
}

static void list_admissions(void)
{
    for (size_t i = 0; moe_admissions[i]; i++)
        print_admission(moe_admissions[i]);
}

static void list_prefetchers(void)
{
    for (size_t i = 0; moe_prefetchers[i]; i++)
        print_entry(moe_prefetchers[i]->name, moe_prefetchers[i]->summary,
                    moe_prefetchers[i]->source, moe_prefetchers[i]->params);
}

static void list_formats(void)
{
    for (const struct moe_format *f = moe_formats; f->name; f++)
        print_entry(f->name, f->summary, f->source, NULL);
}

/* One that does not load is named with the reason: a folder may hold a user's own. */
static void list_strategies(void)
{
    size_t n;
    char **names = moe_config_names("strategies", &n);
    for (size_t i = 0; i < n; i++) {
        struct moe_strategy s;
        struct moe_err err;
        char summary[1400];
        if (cli_load_strategy(names[i], &s, &err)) {
            print_entry(names[i], err.text, NULL, NULL);
            continue;
        }
        snprintf(summary, sizeof summary, "geometry %s, policy %s, admission %s, prefetcher %s",
                 s.geometry, s.policy.ops->name, s.admission.ops->name, s.prefetcher.ops->name);
        print_entry(names[i], summary, s.source, NULL);
    }
    moe_free_names(names, n);
}

static const struct {
    const char *name, *title;
    void (*print)(void);
} kinds[] = {
    {"policies", "replacement policies (policy: NAME or NAME:key=value)", list_policies},
    {"admissions", "admission rules (admission: NAME or NAME:key=value)", list_admissions},
    {"prefetchers", "prefetchers (prefetcher: NAME)", list_prefetchers},
    {"strategies", "strategies (experiments/strategies/NAME.yaml; --strategy NAME)",
     list_strategies},
    {"formats", "formats of `moelab trace import`", list_formats},
};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const char *names[N_KINDS];
    bool found = call->n_args == 0;
    for (size_t i = 0; i < N_KINDS; i++) {
        names[i] = kinds[i].name;
        if (call->n_args > 0 && strcmp(call->args[0], kinds[i].name) != 0)
            continue;
        printf("%s%s:\n", found && i > 0 ? "\n" : "", kinds[i].title);
        kinds[i].print();
        found = true;
    }
    if (found)
        return MOE_OK;
    const char *nearest = moe_nearest_name(call->args[0], names, N_KINDS);
    return moe_fail(err, MOE_ERR_USAGE, "nothing to list called '%.40s'%s%s%s", call->args[0],
                    nearest ? " (did you mean '" : "", nearest ? nearest : "",
                    nearest ? "'?)" : "");
}

const struct cli_command cli_list = {
    .name = "list",
    .usage = "[policies|admissions|prefetchers|strategies|formats]",
    .summary = "policies, rules, strategies and formats with their sources and parameters",
    .max_args = 1,
    .run = run,
};
