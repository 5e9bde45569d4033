#include "policies/geometry.h"

#include "base/units.h"
#include "traces/model.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const struct moe_geometry_form moe_geometry_forms[] = {
    {"NxM", "N indexes of M ways, as in the paper: layers 0 to N - 1 own a pool of M slots each, "
            "later layers have none; with N = L every layer has M"},
    {"global:N", "one pool of N slots for all layers; with LRU, a pool smaller than what one token "
                 "needs never hits"},
    {"global:BYTES", "one pool limited in bytes (`4000MiB`), for experts whose size differs by "
                     "layer: one newcomer may displace several experts"},
    {"per-layer:A,B,...", "ways of layer 0, 1, ...; layers after the list have none"},
    {"ncmoe:N", "as llama.cpp `-ncmoe N`: layers 0 to N - 1 have none, every expert of the layers "
                "after them has a slot"},
    {"none", "no cache (the other forms need at least one slot, but `ncmoe` of all layers is the "
             "same as this)"},
    {"all", "every expert has a slot"},
    {NULL, NULL},
};

enum { MAX_NUMBER = 24 }; /* characters of a number in a geometry; 2^64 has 20 digits */

/* Copies text[0..n) into buf and parses it as a whole number; what names it in messages. */
static enum moe_status parse_count(const char *text, size_t n, const char *what, uint32_t *out,
                                   struct moe_err *err)
{
    char buf[MAX_NUMBER];
    uint64_t value;
    if (n >= sizeof buf)
        return moe_fail(err, MOE_ERR_USAGE, "%s '%.24s...' is too long for a number", what, text);
    memcpy(buf, text, n);
    buf[n] = 0;
    enum moe_status s = moe_parse_u64(buf, 0, UINT32_MAX, &value, err);
    if (s)
        return moe_fail_prefix(err, "%s", what);
    *out = (uint32_t)value;
    return MOE_OK;
}

static enum moe_status check_ways(uint32_t ways, uint32_t n_experts, struct moe_err *err)
{
    if (ways > n_experts)
        return moe_fail(err, MOE_ERR_USAGE,
                        "ways %" PRIu32 " exceeds the %" PRIu32 " experts of a layer", ways,
                        n_experts);
    return MOE_OK;
}

/* Gives the layer a pool of its own, if ways > 0. */
static void add_layer_pool(struct moe_geometry *g, uint32_t layer, uint32_t ways)
{
    if (ways == 0)
        return;
    g->pool_of_layer[layer] = (int32_t)g->n_pools;
    g->pool[g->n_pools++] = (struct moe_pool){.first_slot = g->n_slots, .n_slots = ways};
    g->n_slots += ways;
}

static void add_global_pool(struct moe_geometry *g, uint32_t n_slots, uint64_t bytes)
{
    if (n_slots == 0)
        return;
    g->pool[0] = (struct moe_pool){.n_slots = n_slots, .bytes = bytes};
    g->n_pools = 1;
    g->n_slots = n_slots;
    for (uint32_t l = 0; l < g->n_layers; l++)
        g->pool_of_layer[l] = 0;
}

/* Number of characters before the first c, or of the whole text. */
static size_t length_to(const char *text, char c)
{
    const char *end = strchr(text, c);
    return end ? (size_t)(end - text) : strlen(text);
}

static enum moe_status parse_grid(const char *text, struct moe_geometry *g, struct moe_err *err)
{
    uint32_t indexes, ways;
    size_t n = length_to(text, 'x');
    if (!text[n] || n == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "expected NxM, global:SLOTS, global:BYTES, per-layer:M,M,..., ncmoe:N, "
                        "none or all");
    enum moe_status s = parse_count(text, n, "indexes", &indexes, err);
    if (!s)
        s = parse_count(text + n + 1, strlen(text + n + 1), "ways", &ways, err);
    if (s)
        return s;
    if (indexes > g->n_layers)
        return moe_fail(err, MOE_ERR_USAGE,
                        "indexes %" PRIu32 " exceeds the %" PRIu32 " layer%s of the model", indexes,
                        g->n_layers, moe_plural(g->n_layers));
    s = check_ways(ways, g->n_experts, err);
    if (s)
        return s;
    for (uint32_t l = 0; l < indexes; l++)
        add_layer_pool(g, l, ways);
    return MOE_OK;
}

static enum moe_status parse_per_layer(const char *list, struct moe_geometry *g,
                                       struct moe_err *err)
{
    for (uint32_t l = 0;; l++) {
        uint32_t ways;
        size_t n = length_to(list, ',');
        if (l >= g->n_layers)
            return moe_fail(err, MOE_ERR_USAGE,
                            "the list has more entries than the %" PRIu32 " layer%s of the model",
                            g->n_layers, moe_plural(g->n_layers));
        enum moe_status s = parse_count(list, n, "ways", &ways, err);
        if (!s)
            s = check_ways(ways, g->n_experts, err);
        if (s)
            return moe_fail_prefix(err, "layer %" PRIu32, l);
        add_layer_pool(g, l, ways);
        if (!list[n])
            return MOE_OK;
        list += n + 1;
    }
}

/* Smallest and largest expert and the bytes of all; layers of size 0 have no experts to keep. */
struct sizes {
    uint64_t min, max, total;
};

static struct sizes measure(const struct moe_geometry *g)
{
    struct sizes sizes = {.min = UINT64_MAX};
    for (uint32_t l = 0; l < g->n_layers; l++) {
        uint64_t bytes = g->expert_bytes[l];
        if (bytes && bytes < sizes.min)
            sizes.min = bytes;
        if (bytes > sizes.max)
            sizes.max = bytes;
        sizes.total += bytes * g->n_experts;
    }
    return sizes;
}

static enum moe_status parse_global_bytes(const char *text, struct moe_geometry *g,
                                          struct moe_err *err)
{
    uint64_t bytes;
    enum moe_status s = moe_parse_bytes(text, &bytes, err);
    if (s)
        return s;
    if (!g->expert_bytes)
        return moe_fail(err, MOE_ERR_USAGE,
                        "the sizes of the experts are unknown; give slots, as in global:56");
    struct sizes sizes = measure(g);
    if (sizes.max == 0)
        return moe_fail(err, MOE_ERR_USAGE, "no layer has an expert with a size");
    if (bytes && bytes < sizes.max)
        return moe_fail(err, MOE_ERR_USAGE,
                        "%" PRIu64 " bytes are less than one expert of %" PRIu64 " bytes", bytes,
                        sizes.max);
    if (bytes > sizes.total)
        return moe_fail(err, MOE_ERR_USAGE,
                        "%" PRIu64 " bytes exceed the %" PRIu64 " bytes of all experts", bytes,
                        sizes.total);
    uint64_t slots = bytes / sizes.min, model = (uint64_t)g->n_layers * g->n_experts;
    add_global_pool(g, (uint32_t)(slots < model ? slots : model), bytes);
    return MOE_OK;
}

static enum moe_status parse_global(const char *text, struct moe_geometry *g, struct moe_err *err)
{
    uint32_t slots;
    uint64_t model = (uint64_t)g->n_layers * g->n_experts;
    if (text[strspn(text, "0123456789")])
        return parse_global_bytes(text, g, err);
    enum moe_status s = parse_count(text, strlen(text), "slots", &slots, err);
    if (s)
        return s;
    if (slots > model)
        return moe_fail(err, MOE_ERR_USAGE,
                        "slots %" PRIu32 " exceeds the %" PRIu64 " experts of the model", slots,
                        model);
    add_global_pool(g, slots, 0);
    return MOE_OK;
}

static enum moe_status parse_ncmoe(const char *text, struct moe_geometry *g, struct moe_err *err)
{
    uint32_t on_cpu;
    enum moe_status s = parse_count(text, strlen(text), "layers on the CPU", &on_cpu, err);
    if (s)
        return s;
    if (on_cpu > g->n_layers)
        return moe_fail(err, MOE_ERR_USAGE,
                        "%" PRIu32 " layers on the CPU exceed the %" PRIu32 " layer%s of the model",
                        on_cpu, g->n_layers, moe_plural(g->n_layers));
    for (uint32_t l = on_cpu; l < g->n_layers; l++)
        add_layer_pool(g, l, g->n_experts);
    return MOE_OK;
}

static enum moe_status parse_none(const char *text, struct moe_geometry *g, struct moe_err *err)
{
    (void)text;
    (void)g;
    (void)err;
    return MOE_OK;
}

static enum moe_status parse_all(const char *text, struct moe_geometry *g, struct moe_err *err)
{
    (void)text;
    (void)err;
    for (uint32_t l = 0; l < g->n_layers; l++)
        add_layer_pool(g, l, g->n_experts);
    return MOE_OK;
}

static const struct {
    const char *word;
    bool whole;       /* the word is the whole text, not its beginning */
    bool may_be_none; /* no slots are as good as any number */
    enum moe_status (*parse)(const char *rest, struct moe_geometry *g, struct moe_err *err);
} forms[] = {
    {"none", true, true, parse_none},
    {"all", true, true, parse_all}, /* which is none in a model without experts */
    {"global:", false, false, parse_global},
    {"per-layer:", false, false, parse_per_layer},
    {"ncmoe:", false, true, parse_ncmoe},
    {"", false, false, parse_grid}, /* whatever is left: NxM */
};

/* Refuses geometries without slots unless the form says so: a slip would give a table of zeros. */
static enum moe_status parse_form(const char *text, struct moe_geometry *g, struct moe_err *err)
{
    size_t i = 0;
    while (forms[i].whole ? strcmp(text, forms[i].word) != 0
                          : strncmp(text, forms[i].word, strlen(forms[i].word)) != 0)
        i++;
    enum moe_status s = forms[i].parse(text + strlen(forms[i].word), g, err);
    if (!s && g->n_slots == 0 && !forms[i].may_be_none)
        return moe_fail(err, MOE_ERR_USAGE, "no slots; write 'none' for no cache");
    return s;
}

static enum moe_status alloc(struct moe_geometry *g, const uint64_t *expert_bytes,
                             struct moe_err *err)
{
    size_t n = g->n_layers ? g->n_layers : 1;
    g->pool = calloc(n, sizeof *g->pool);
    g->pool_of_layer = malloc(n * sizeof *g->pool_of_layer);
    g->expert_bytes = expert_bytes ? malloc(n * sizeof *g->expert_bytes) : NULL;
    if (!g->pool || !g->pool_of_layer || (expert_bytes && !g->expert_bytes)) {
        moe_geometry_release(g);
        return moe_fail_memory(err, "a geometry");
    }
    for (uint32_t l = 0; l < g->n_layers; l++)
        g->pool_of_layer[l] = -1;
    if (expert_bytes)
        memcpy(g->expert_bytes, expert_bytes, g->n_layers * sizeof *expert_bytes);
    return MOE_OK;
}

/* Checks that no geometry of the model can overflow slot numbers or bytes. */
static enum moe_status check_model(uint32_t n_layers, uint32_t n_experts,
                                   const uint64_t *expert_bytes, struct moe_err *err)
{
    uint64_t model = (uint64_t)n_layers * n_experts, bytes;
    if (model > INT32_MAX)
        return moe_fail(err, MOE_ERR_USAGE,
                        "%" PRIu32 " layers of %" PRIu32 " experts exceed the limit of %d experts",
                        n_layers, n_experts, INT32_MAX);
    for (uint32_t l = 0; l < n_layers && expert_bytes; l++)
        if (!moe_mul_u64(expert_bytes[l], model, &bytes))
            return moe_fail(err, MOE_ERR_USAGE,
                            "layer %" PRIu32 ": %" PRIu64 " experts of %" PRIu64
                            " bytes do not fit 64 bits",
                            l, model, expert_bytes[l]);
    return MOE_OK;
}

enum moe_status moe_geometry_parse(const char *text, uint32_t n_layers, uint32_t n_experts,
                                   const uint64_t *expert_bytes, struct moe_geometry *out,
                                   struct moe_err *err)
{
    struct moe_geometry g = {.n_layers = n_layers, .n_experts = n_experts};
    enum moe_status s = check_model(n_layers, n_experts, expert_bytes, err);
    if (!s)
        s = alloc(&g, expert_bytes, err);
    if (s)
        return s;
    s = parse_form(text, &g, err);
    if (s) {
        moe_geometry_release(&g);
        return moe_fail_prefix(err, "geometry '%.60s'", text);
    }
    *out = g;
    return MOE_OK;
}

enum moe_status moe_geometry_check(const char *text, struct moe_err *err)
{
    static const char pool[] = "global:";
    const char *size = text + sizeof pool - 1;
    struct moe_geometry g;
    uint64_t bytes;
    if (strncmp(text, pool, sizeof pool - 1) == 0 && size[strspn(size, "0123456789")])
        return moe_parse_bytes(size, &bytes, err) ? moe_fail_prefix(err, "geometry '%.60s'", text)
                                                  : MOE_OK;
    enum moe_status s = moe_geometry_parse(text, MOE_MAX_LAYERS, MOE_MAX_EXPERTS, NULL, &g, err);
    if (!s)
        moe_geometry_release(&g);
    return s;
}

void moe_geometry_release(struct moe_geometry *g)
{
    free(g->pool);
    free(g->pool_of_layer);
    free(g->expert_bytes);
    *g = (struct moe_geometry){0};
}

uint64_t moe_geometry_bytes(const struct moe_geometry *g)
{
    uint64_t sum = 0;
    for (uint32_t p = 0; p < g->n_pools && g->expert_bytes; p++) {
        uint64_t largest = 0; /* a slot takes any expert of its pool */
        for (uint32_t l = 0; l < g->n_layers; l++)
            if (g->pool_of_layer[l] == (int32_t)p && g->expert_bytes[l] > largest)
                largest = g->expert_bytes[l];
        sum += g->pool[p].bytes ? g->pool[p].bytes : g->pool[p].n_slots * largest;
    }
    return sum;
}
