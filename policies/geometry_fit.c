#include "policies/geometry_fit.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The arguments of the functions that shrink a geometry. */
struct fit {
    const struct moe_geometry *asked; /* too large, so with one slot or more */
    uint64_t expert_bytes, max_slots;
    FILE *out; /* for the new text; if nothing is written, no slot is left */
};

static void fit_grid(const struct fit *fit)
{
    uint64_t ways = fit->asked->pool[0].n_slots, indexes = fit->max_slots / ways;
    if (indexes == 0) {
        indexes = 1;
        ways = fit->max_slots;
    }
    if (ways)
        fprintf(fit->out, "%" PRIu64 "x%" PRIu64, indexes, ways);
}

static void fit_global(const struct fit *fit)
{
    if (fit->max_slots == 0)
        return;
    if (fit->asked->pool[0].bytes)
        fprintf(fit->out, "global:%" PRIu64 "B", fit->max_slots * fit->expert_bytes);
    else
        fprintf(fit->out, "global:%" PRIu64, fit->max_slots);
}

static void fit_whole_layers(const struct fit *fit)
{
    uint64_t layers = fit->max_slots / fit->asked->n_experts;
    if (layers)
        fprintf(fit->out, "ncmoe:%" PRIu64, fit->asked->n_layers - layers);
}

static void fit_per_layer(const struct fit *fit)
{
    const struct moe_geometry *asked = fit->asked;
    uint64_t left = fit->max_slots;
    for (uint32_t l = 0; l < asked->n_layers && left; l++) {
        int32_t pool = asked->pool_of_layer[l];
        uint64_t ways = pool < 0 ? 0 : asked->pool[pool].n_slots;
        if (ways > left)
            ways = left;
        left -= ways;
        fprintf(fit->out, "%s%" PRIu64, l == 0 ? "per-layer:" : ",", ways);
    }
}

static const struct {
    const char *prefix;
    void (*shrink)(const struct fit *fit);
} kinds[] = {
    {"all", fit_whole_layers},
    {"ncmoe:", fit_whole_layers},
    {"global:", fit_global},
    {"per-layer:", fit_per_layer},
    {"", fit_grid},
};

static bool fits(const struct fit *fit)
{
    const struct moe_geometry *asked = fit->asked;
    if (asked->n_slots > fit->max_slots)
        return false;
    bool in_bytes = asked->n_pools == 1 && asked->pool[0].bytes != 0 && fit->expert_bytes != 0;
    return !in_bytes || asked->pool[0].bytes / fit->expert_bytes < fit->max_slots ||
           asked->pool[0].bytes == fit->max_slots * fit->expert_bytes;
}

static enum moe_status put(const char *text, char *buf, size_t size, struct moe_err *err)
{
    if (strlen(text) >= size)
        return moe_fail(err, MOE_ERR_USAGE, "geometry '%.60s' is too long", text);
    snprintf(buf, size, "%s", text);
    return MOE_OK;
}

static enum moe_status shrink(const char *text, const struct moe_geometry *asked,
                              uint64_t expert_bytes, uint64_t max_slots, char *buf, size_t size,
                              struct moe_err *err)
{
    struct fit fit = {.asked = asked, .expert_bytes = expert_bytes, .max_slots = max_slots};
    char *made = NULL;
    size_t n = 0, kind = 0;
    if (fits(&fit))
        return put(text, buf, size, err);
    fit.out = open_memstream(&made, &n);
    if (!fit.out)
        return moe_fail_memory(err, "a geometry");
    while (strncmp(text, kinds[kind].prefix, strlen(kinds[kind].prefix)) != 0)
        kind++;
    kinds[kind].shrink(&fit);
    enum moe_status s = fclose(fit.out) == 0 && made ? put(n ? made : "none", buf, size, err)
                                                     : moe_fail_memory(err, "a geometry");
    free(made);
    return s;
}

enum moe_status moe_geometry_fit(const char *text, uint32_t n_layers, uint32_t n_experts,
                                 uint64_t expert_bytes, uint64_t max_slots, char *buf, size_t size,
                                 struct moe_err *err)
{
    struct moe_geometry asked;
    uint64_t *bytes = malloc(n_layers * sizeof *bytes + 1);
    if (!bytes)
        return moe_fail_memory(err, "the experts' sizes");
    for (uint32_t l = 0; l < n_layers; l++)
        bytes[l] = expert_bytes;
    enum moe_status s =
        moe_geometry_parse(text, n_layers, n_experts, expert_bytes ? bytes : NULL, &asked, err);
    free(bytes);
    if (s)
        return s;
    s = shrink(text, &asked, expert_bytes, max_slots, buf, size, err);
    moe_geometry_release(&asked);
    return s;
}
