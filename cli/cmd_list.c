#include "base/units.h"
#include "cli/command.h"
#include "cli/list_docs.h"
#include "cli/output.h"
#include "policies/admission.h"
#include "policies/cost.h"
#include "policies/policy.h"
#include "policies/prefetcher.h"
#include "traces/import.h"

#include <inttypes.h>
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
        print_note("depends on timing: on when copies land");
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

static void list_reroutes(void)
{
    for (size_t i = 0; moe_reroutes[i]; i++) {
        const struct moe_reroute_ops *ops = moe_reroutes[i];
        print_entry(ops->name, ops->summary, ops->source, NULL);
        if (ops->replaces || ops->early)
            print_note(ops->needs & MOE_NEEDS_LOOKAHEAD
                           ? "LOSSY: needs --lossy, router scores and lookahead scores"
                           : "LOSSY: needs --lossy and router scores");
        moe_params_help(ops->params, "    ", stdout);
    }
}

static void list_formats(void)
{
    for (const struct moe_format *f = moe_formats; f->name; f++)
        print_entry(f->name, f->summary, f->source, NULL);
}

/* Strategies that do not load are listed with the reason, as the folder may also contain a user's
 * own. */
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
        if (moe_strategy_is_lossy(&s))
            print_note("LOSSY: changes which experts are computed; needs --lossy");
    }
    moe_free_names(names, n);
}

/* Lists models with the sizes of all experts, and of what a token reads beside experts. */
static void list_models(void)
{
    size_t n;
    char **names = moe_config_names("models", &n);
    for (size_t i = 0; i < n; i++) {
        struct moe_model m;
        struct moe_err err;
        char summary[256], expert[32], all[32], dense[32];
        if (cli_load_model(names[i], &m, &err)) {
            print_entry(names[i], err.text, NULL, NULL);
            continue;
        }
        const uint64_t bytes = moe_model_expert_bytes(&m);
        const uint64_t rest = moe_cost_dense_bytes(&m);
        snprintf(summary, sizeof summary,
                 "%" PRIu64 " layers of %" PRIu64 " experts, top %" PRIu64
                 "; an expert %s at %g bits, all %s; the rest %s",
                 m.n_layers, m.n_experts, m.top_k, moe_format_bytes(bytes, expert, sizeof expert),
                 m.expert_weight_bits,
                 moe_format_bytes(m.n_layers * m.n_experts * bytes, all, sizeof all),
                 moe_format_bytes(rest, dense, sizeof dense));
        print_entry(names[i], summary, m.source, NULL);
    }
    moe_free_names(names, n);
}

static void list_platforms(void)
{
    size_t n;
    char **names = moe_config_names("platforms", &n);
    for (size_t i = 0; i < n; i++) {
        struct moe_platform p;
        struct moe_err err;
        char summary[256], memory[32];
        if (cli_load_platform(names[i], &p, &err)) {
            print_entry(names[i], err.text, NULL, NULL);
            continue;
        }
        if (!moe_platform_has_gpu(&p))
            snprintf(summary, sizeof summary, "no GPU, %" PRIu64 " cores, memory %g GB/s",
                     p.cpu.cores, p.dram.read_gb_per_s);
        else
            snprintf(summary, sizeof summary,
                     "GPU %s%s at %g GB/s, link %.3g GB/s (pageable %.3g), %" PRIu64
                     " cores, memory %g GB/s",
                     moe_format_bytes(p.gpu.memory_bytes, memory, sizeof memory),
                     moe_platform_shares_dram(&p) ? " of the same memory" : "", p.gpu.read_gb_per_s,
                     p.link.h2d_pinned_gb_per_s, p.link.h2d_pageable_gb_per_s, p.cpu.cores,
                     p.dram.read_gb_per_s);
        print_entry(names[i], summary, NULL, NULL);
        print_note(p.description);
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
    {"reroutes", "lossy rules (reroute: NAME or NAME:key=value; with --lossy)", list_reroutes},
    {"strategies", "strategies (experiments/strategies/NAME.yaml; --strategy NAME)",
     list_strategies},
    {"models", "shapes of models (experiments/models/NAME.yaml; --model NAME)", list_models},
    {"platforms", "machines (experiments/platforms/NAME.yaml; --platform NAME)", list_platforms},
    {"formats", "formats of `moelab trace import`", list_formats},
};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const char *names[N_KINDS];
    bool found = call->n_args == 0;
    if (!found && strcmp(call->args[0], "docs") == 0) {
        cli_list_docs();
        return MOE_OK;
    }
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
    if (!nearest)
        return moe_fail(err, MOE_ERR_USAGE, "nothing to list called '%.40s'; usage: moelab list %s",
                        call->args[0], call->command->usage);
    return moe_fail(err, MOE_ERR_USAGE, "nothing to list called '%.40s' (did you mean '%s'?)",
                    call->args[0], nearest);
}

const struct cli_command cli_list = {
    .name = "list",
    .usage = "[policies|admissions|prefetchers|reroutes|strategies|models|platforms|formats|docs]",
    .summary =
        "policies, rules, strategies, models, platforms and formats, with sources and parameters",
    .description =
        "docs: prints the page docs/policies.md, which is generated from the same tables",
    .max_args = 1,
    .run = run,
};
