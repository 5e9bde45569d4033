#include "traces/synth_spec.h"

#include "base/file.h"
#include "base/param.h"
#include "traces/model.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

const char moe_synth_kinds[] = "uniform|zipf|sticky|stats";

#define MEMBER(name) offsetof(struct moe_synth_config, name)

/* 2^31 sequences and tokens of a sequence are what the trace's 32-bit arrays can number. */
#define MOST_TOKENS       0x1p40
#define MOST_PER_SEQUENCE 0x1p30

const struct moe_param moe_synth_params[] = {
    {.name = "layers",
     .type = MOE_PARAM_U64,
     .offset = MEMBER(layers),
     .default_text = "0",
     .min = 0,
     .max = MOE_MAX_LAYERS,
     .help = "MoE layers; 0: as in the given model or statistics file, else 32"},
    {.name = "experts",
     .type = MOE_PARAM_U64,
     .offset = MEMBER(experts),
     .default_text = "0",
     .min = 0,
     .max = MOE_MAX_EXPERTS,
     .help = "experts of a layer; 0: as in the given model or statistics file, else 8"},
    {.name = "top_k",
     .type = MOE_PARAM_U64,
     .offset = MEMBER(top_k),
     .default_text = "0",
     .min = 0,
     .max = MOE_MAX_TOP_K,
     .help = "experts of a route; 0: as in the given model or statistics file, else 2"},
    {.name = "tokens",
     .type = MOE_PARAM_U64,
     .offset = MEMBER(tokens),
     .default_text = "1000",
     .min = 1,
     .max = MOST_TOKENS,
     .unit = "tokens",
     .help = "decode tokens of all sequences together"},
    {.name = "sequences",
     .type = MOE_PARAM_U64,
     .offset = MEMBER(sequences),
     .default_text = "0",
     .min = 0,
     .max = MOST_PER_SEQUENCE,
     .help = "sequences that share `tokens` evenly; 0: 1, or with a statistics file as many as "
             "give the measured length"},
    {.name = "prompt",
     .type = MOE_PARAM_U64,
     .offset = MEMBER(prompt),
     .default_text = "0",
     .min = 0,
     .max = MOST_PER_SEQUENCE,
     .unit = "tokens",
     .help = "prefill tokens of each sequence, in addition to `tokens`"},
    {.name = "seed",
     .type = MOE_PARAM_U64,
     .offset = MEMBER(seed),
     .default_text = "1",
     .help = "seed of the random numbers"},
    {.name = "alpha",
     .type = MOE_PARAM_F64,
     .offset = MEMBER(alpha),
     .default_text = "1",
     .min = 0,
     .max = 10,
     .help = "zipf: popularity falls as rank^-alpha"},
    {.name = "repeat",
     .type = MOE_PARAM_F64,
     .offset = MEMBER(repeat),
     .default_text = "0.5",
     .min = 0,
     .max = 1,
     .help = "sticky: probability that an expert of the previous token is used again"},
    {.name = "file",
     .type = MOE_PARAM_STRING,
     .offset = MEMBER(file),
     .default_text = "",
     .size = MOE_TEXT_MAX,
     .help = "stats: statistics file (JSON)"},
    {.name = "model",
     .type = MOE_PARAM_STRING,
     .offset = MEMBER(model),
     .default_text = "",
     .size = MOE_TEXT_MAX,
     .help = "model name to store in the trace; one from `moelab list models` also gives layers, "
             "experts and top_k"},
    {.name = NULL}};

/* Keys of one kind only: elsewhere they are refused, as they would silently have no effect. */
static const struct {
    const char *key;
    enum moe_synth_kind kind;
} only[] = {{"alpha", MOE_SYNTH_ZIPF}, {"repeat", MOE_SYNTH_STICKY}, {"file", MOE_SYNTH_STATS}};

static int has_key(const char *list, const char *key)
{
    size_t n = strlen(key);
    while (*list) {
        if (strncmp(list, key, n) == 0 && list[n] == '=')
            return 1;
        list += strcspn(list, ",");
        list += *list == ',';
    }
    return 0;
}

static enum moe_status check_only(const char *list, enum moe_synth_kind kind, struct moe_err *err)
{
    char name[16];
    for (size_t i = 0; i < sizeof only / sizeof *only; i++)
        if (only[i].kind != kind && has_key(list, only[i].key))
            return moe_fail(err, MOE_ERR_USAGE, "'%s' is a key of %s only", only[i].key,
                            moe_choice_name(moe_synth_kinds, (int)only[i].kind, name, sizeof name));
    return MOE_OK;
}

static void default_shape(struct moe_synth_config *c, const struct moe_model *model)
{
    if (model && !c->layers && !c->experts && !c->top_k && !*c->model)
        snprintf(c->model, sizeof c->model, "%s", model->name);
    c->layers = c->layers ? c->layers : model ? model->n_layers : 32;
    c->experts = c->experts ? c->experts : model ? model->n_experts : 8;
    c->top_k = c->top_k ? c->top_k : model ? model->top_k : 2;
    c->sequences = c->sequences ? c->sequences : 1;
}

static enum moe_status check_config(const struct moe_synth_config *c, struct moe_err *err)
{
    if (c->kind == MOE_SYNTH_STATS && !*c->file)
        return moe_fail(err, MOE_ERR_USAGE, "stats needs file=PATH");
    if (c->experts && c->top_k > c->experts)
        return moe_fail(err, MOE_ERR_USAGE,
                        "top_k %" PRIu64 " exceeds the %" PRIu64 " experts of a layer", c->top_k,
                        c->experts);
    if (c->kind == MOE_SYNTH_STICKY && 2 * c->top_k > c->experts)
        return moe_fail(err, MOE_ERR_USAGE,
                        "sticky needs 2 x top_k = %" PRIu64 " experts, not %" PRIu64, 2 * c->top_k,
                        c->experts);
    if (c->sequences > c->tokens)
        return moe_fail(err, MOE_ERR_USAGE, "sequences %" PRIu64 " exceed the %" PRIu64 " tokens",
                        c->sequences, c->tokens);
    return MOE_OK;
}

static enum moe_status parse_kind(const char *spec, size_t n, enum moe_synth_kind *out,
                                  struct moe_err *err)
{
    char name[16] = "";
    if (n < sizeof name)
        memcpy(name, spec, n);
    int kind = moe_choice_index(moe_synth_kinds, name);
    if (kind < 0)
        return moe_fail(err, MOE_ERR_USAGE, "unknown kind '%.*s', not one of %s",
                        (int)(n < 40 ? n : 40), spec, moe_synth_kinds);
    *out = (enum moe_synth_kind)kind;
    return MOE_OK;
}

/* *model becomes the one that the spec names, if there is a description of it. */
static enum moe_status named_model(const char *name, struct moe_model *read,
                                   const struct moe_model **model, struct moe_err *err)
{
    char path[4096];
    if (!*name || strchr(name, '/') || (*model && strcmp((*model)->name, name) == 0) ||
        moe_find_config("models", name, path, sizeof path, NULL))
        return MOE_OK;
    *model = read;
    return moe_model_load(path, read, err);
}

static enum moe_status parse_spec(const char *spec, const struct moe_model *model,
                                  struct moe_synth_config *c, struct moe_err *err)
{
    struct moe_model read;
    size_t n = strcspn(spec, ":");
    const char *list = spec[n] ? spec + n + 1 : "";
    enum moe_status s = parse_kind(spec, n, &c->kind, err);
    if (!s)
        s = moe_params_parse_list(moe_synth_params, c, list, err);
    if (!s)
        s = check_only(list, c->kind, err);
    if (!s && c->kind != MOE_SYNTH_STATS)
        s = named_model(c->model, &read, &model, err);
    if (s)
        return s;
    if (c->kind != MOE_SYNTH_STATS)
        default_shape(c, model);
    return check_config(c, err);
}

enum moe_status moe_synth_parse(const char *spec, struct moe_synth_config *out, struct moe_err *err)
{
    return moe_synth_parse_for(spec, NULL, out, err);
}

enum moe_status moe_synth_parse_for(const char *spec, const struct moe_model *model,
                                    struct moe_synth_config *out, struct moe_err *err)
{
    struct moe_synth_config c = {0};
    moe_params_default(moe_synth_params, &c);
    if (parse_spec(spec, model, &c, err))
        return moe_fail_prefix(err, "synthetic trace '%.80s'", spec);
    *out = c;
    return MOE_OK;
}

const char *moe_synth_format(const struct moe_synth_config *c, char *buf, size_t size)
{
    char value[64];
    int n = snprintf(buf, size,
                     "%s:", moe_choice_name(moe_synth_kinds, (int)c->kind, value, sizeof value));
    for (const struct moe_param *p = moe_synth_params; p->name; p++) {
        int used = 1;
        for (size_t i = 0; i < sizeof only / sizeof *only; i++)
            used &= strcmp(p->name, only[i].key) != 0 || only[i].kind == c->kind;
        /* Texts are elsewhere in the provenance: the model by name, the file by content. */
        if (!used || p->type == MOE_PARAM_STRING || n < 0 || (size_t)n >= size)
            continue;
        n += snprintf(buf + n, size - (size_t)n, "%s%s=%s", p == moe_synth_params ? "" : ",",
                      p->name, moe_param_format(p, c, value, sizeof value));
    }
    return buf;
}
