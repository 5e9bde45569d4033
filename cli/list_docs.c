#include "cli/list_docs.h"

#include "policies/admission.h"
#include "policies/geometry.h"
#include "policies/policy.h"
#include "policies/prefetcher.h"
#include "policies/reroute.h"
#include "policies/strategy.h"

#include <stdio.h>

/* Words in contracts and results that have another meaning elsewhere. */
static const struct {
    const char *word, *meaning;
} words[] = {
    {"`event` (contract)",
     "the default: all different experts that a forward pass uses in a layer are looked up in the "
     "contents at its start, and it can give up neither those that it found nor those that it "
     "brought in; then misses are admitted, and recency and counts updated, in gate order (in a "
     "prompt: in the order of first use). This is what a fused layer does. moe-cache-eval's "
     "event-atomic replay (arXiv 2608.07911) decides at an event's end which residents and "
     "newcomers stay: there any frequency policy may leave out a newcomer, here only one that may "
     "decline"},
    {"`access` (contract)",
     "one expert of one token after the other, in gate order: looked up, and on a miss put into a "
     "slot at once. This is what most cache simulators do. Numbers of the two contracts cannot be "
     "compared: pools of one way in each layer may hit nothing under `access` and yet hit under "
     "`event`"},
    {"event",
     "one forward pass in one layer; in a prompt, the different experts of all its tokens"},
    {"lookup", "one expert of an event (`event`), or of a token (`access`)"},
    {"`hits`", "lookups of an expert that is in a slot, its copy complete. `lookups` = `hits` + "
               "`inflight_hits` + `misses`; in a replay nothing is in flight"},
    {"`inflight_hits`", "lookups of an expert that has a slot, but whose copy has not arrived yet"},
    {"`any_hit_events`, `all_hit_events`", "events in which at least one expert, or every expert, "
                                           "was found: what other papers call hit rates"},
    {"`fills`", "slots given to missed or prefetched experts; what is there from the start counts "
                "as `preloads`"},
    {"`bypasses`",
     "misses and prefetches that the policy declined although it could have had a slot"},
    {"`dropped_fills`",
     "misses and prefetches that found every slot of their pool pinned or in flight"},
    {"`evictions`, `useless_fills`",
     "experts given up, and those of them that no lookup had found; counted for the layer of the "
     "expert that goes, in the phase of the event that makes it go"},
    {"`hazards`", "slots overwritten while in use, as some engines do (`paper-lru`)"},
    {"use", "a lookup, hit or miss; rules that count uses say whether they count from the fill or "
            "from the start of the run. A miss that an admission rule refuses is one, too, where "
            "they count from the start"},
    {"pool", "slots that some layers share, or that one layer has. Every pool has a policy of its "
             "own, which sees the events of its layers only; empty slots are taken lowest first. "
             "`replay --cold` begins anew with every sequence: counts of the whole run are lost as "
             "well"},
    {"seed, draw",
     "what is drawn at random comes from xoshiro256** (Blackman, Vigna, 2018), its four words "
     "being the first outputs of SplitMix64 from a state s. Of the run's seed S, the policy of "
     "pool p has s = mix(S xor mix(2^32 c + p)), an admission rule, one for all pools and the "
     "whole run, s = mix(S). mix(x) is the first output of SplitMix64 from state x, c the number "
     "of sequences before this one with `replay --cold`, else 0; pools count from 0 in the order "
     "of their layers, slots from 0 in each pool. A draw u in [0, 1) is the upper 53 bits of the "
     "next number times 2^-53"},
    {"forward pass",
     "one run through all layers: one token of each request in decode, several in a prompt"},
};

static const char *type_of(const struct moe_param *p)
{
    static const char *const names[] = {
        [MOE_PARAM_U64] = "whole number", [MOE_PARAM_F64] = "number",
        [MOE_PARAM_BOOL] = "on or off",   [MOE_PARAM_BYTES] = "bytes",
        [MOE_PARAM_CHOICE] = "choice",    [MOE_PARAM_STRING] = "text"};
    return names[p->type];
}

/* Prints the text of a table's cell, with ", " in place of '|', which would end the cell. */
static void print_cell(const char *text)
{
    for (; *text; text++)
        if (*text == '|')
            fputs(", ", stdout);
        else
            putchar(*text);
}

static void print_range(const struct moe_param *p)
{
    if (p->type == MOE_PARAM_CHOICE)
        print_cell(p->choices);
    else if ((p->type == MOE_PARAM_U64 || p->type == MOE_PARAM_F64) && (p->min != 0 || p->max != 0))
        printf("%g to %g", p->min, p->max);
}

static void print_params(const struct moe_param *table)
{
    if (!table || !table->name)
        return;
    puts("\n| parameter | type | default | range | unit | meaning |\n|---|---|---|---|---|---|");
    for (const struct moe_param *p = table; p->name; p++) {
        printf("| `%s` | %s | %s | ", p->name, type_of(p),
               p->default_text && *p->default_text ? p->default_text : "none");
        print_range(p);
        printf(" | %s | ", p->unit ? p->unit : "");
        print_cell(p->help);
        puts(" |");
    }
}

static void print_needs(uint32_t needs)
{
    static const struct {
        uint32_t bit;
        const char *text;
    } names[] = {
        {MOE_NEEDS_FUTURE, "the whole trace, to look ahead in"},
        {MOE_NEEDS_SCORES, "router scores of all experts"},
        {MOE_NEEDS_LOOKAHEAD, "lookahead scores"},
        {MOE_NEEDS_SEQUENCE, "to know where a sequence begins"},
        {MOE_NEEDS_COSTS, "the costs of a platform"},
    };
    const char *before = "\nNeeds ";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (needs & names[i].bit) {
            printf("%s%s", before, names[i].text);
            before = "; ";
        }
    if (needs)
        puts(".");
}

/* What all kinds of rules have in common. */
struct entry {
    const char *name, *summary, *source, *notes;
    uint32_t needs;
};

static void print_entry(const struct entry *e, const char *also, const struct moe_param *params)
{
    printf("\n### `%s`\n\n%s.\nSource: %s.\n", e->name, e->summary, e->source);
    print_needs(e->needs);
    if (also)
        printf("\n%s.\n", also);
    if (e->notes)
        printf("\n%s\n", e->notes);
    print_params(params);
}

static void print_policies(void)
{
    puts("\n## Policies: which expert gives up its slot\n\n"
         "`policy: NAME` or `NAME:key=value,...`; under `policy.` in `--set`.");
    for (size_t i = 0; moe_policies[i]; i++) {
        const struct moe_policy_ops *o = moe_policies[i];
        struct entry e = {o->name, o->summary, o->source, o->notes, o->needs};
        const char *also = NULL;
        if (o->flags & MOE_POLICY_IGNORES_PINS)
            also = "May overwrite slots in use; each is counted a hazard";
        if (o->flags & MOE_POLICY_MAY_DROP_EVENT)
            also = "May give up an expert of the event under way: a bound, not a design";
        print_entry(&e, also, o->params);
    }
}

static void print_admissions(void)
{
    puts("\n## Admission rules: whether a missed expert gets a slot at all\n\n"
         "`admission: NAME` or `NAME:key=value,...`. The policy may still decline.");
    for (size_t i = 0; moe_admissions[i]; i++) {
        const struct moe_admission_ops *o = moe_admissions[i];
        bool costs = o->flags & MOE_ADMISSION_NEEDS_COSTS;
        struct entry e = {o->name, o->summary, o->source, o->notes, costs ? MOE_NEEDS_COSTS : 0};
        print_entry(&e, o->flags & MOE_ADMISSION_ON_TIME ? "Depends on when copies land" : NULL,
                    o->params);
    }
}

static void print_prefetchers(void)
{
    puts(
        "\n## Prefetchers: what is fetched before it is asked for\n\n"
        "`prefetcher: NAME` or `NAME:key=value,...`; not in replays. After every layer's "
        "routing a prefetcher\nnames at most 128 experts. Those without a slot get one, which no "
        "expert of the event gives up; in\nprompts only where these ask the cache. The copies are "
        "queued before the layer's experts are started,\nor, where the GPU waits for copies of the "
        "layer, after them and after the fills that follow the CPU's\nwork.\n\nCopies on demand "
        "and fills go before queued prefetches. When their layer is routed, copies that have\nnot "
        "begun are taken back if it does not ask for them, and become copies on demand if the GPU "
        "waits for\nthem; one that was asked for once is not taken back later.");
    for (size_t i = 0; moe_prefetchers[i]; i++) {
        const struct moe_prefetcher_ops *o = moe_prefetchers[i];
        struct entry e = {o->name, o->summary, o->source, o->notes, o->needs};
        print_entry(&e, NULL, o->params);
    }
}

static void print_reroutes(void)
{
    puts("\n## Reroute rules: lossy, refused without `--lossy`\n\n"
         "`reroute: NAME` or `NAME:key=value,...`. They change what is computed, and with "
         "that the\nmodel's output; every result names them.");
    for (size_t i = 0; moe_reroutes[i]; i++) {
        const struct moe_reroute_ops *o = moe_reroutes[i];
        struct entry e = {o->name, o->summary, o->source, o->notes, o->needs};
        print_entry(&e, o->replaces || o->early ? "LOSSY" : NULL, o->params);
    }
}

void cli_list_docs(void)
{
    puts("# Policies and the other parts of a strategy\n\n"
         "Written by `moelab list docs > docs/policies.md` from the tables that drive command line "
         "and YAML;\n`tests/cli/list_docs.sh` fails when the two differ. Change the tables, not "
         "this page. Where a name\nstands for more than one rule elsewhere, it says which one is "
         "meant here.\n\n"
         "## Words\n\n| word | meaning |\n|---|---|");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        printf("| %s | %s |\n", words[i].word, words[i].meaning);
    puts("\n## Geometries: how the slots are divided\n\n| form | meaning |\n|---|---|");
    for (const struct moe_geometry_form *f = moe_geometry_forms; f->form; f++)
        printf("| `%s` | %s |\n", f->form, f->meaning);
    print_policies();
    print_admissions();
    print_prefetchers();
    puts("\n## Dispatch, fills and the rest of a strategy");
    for (const struct moe_strategy_section *s = moe_strategy_sections; s->table; s++) {
        printf("\n### %s\n", *s->name ? s->name : "keys without a section");
        print_params(s->table);
    }
    print_reroutes();
}
