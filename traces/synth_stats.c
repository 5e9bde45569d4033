#include "traces/synth_stats.h"

#include "base/file.h"
#include "base/units.h"
#include "traces/model.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_FILE_BYTES = 64 << 20,
    MAX_SEQUENCES = 1000000,
    MAX_SEQUENCE_TOKENS = 1000000,
    DEFAULT_TOP_K = 2,
    DEFAULT_SEQUENCE_TOKENS = 146,
};

/* Published shares are rounded to 3 or 4 digits: sums and limits may be off by this much. */
static const double rounding = 0.01;

static enum moe_status fail_in_layer(uint32_t layer, struct moe_err *err)
{
    return moe_fail_prefix(err, "layer %" PRIu32, layer);
}

static enum moe_status share_of(const json_t *value, const char *what, double *out,
                                struct moe_err *err)
{
    if (!value)
        return moe_fail(err, MOE_ERR_INPUT, "no '%s'", what);
    if (!json_is_number(value))
        return moe_fail(err, MOE_ERR_INPUT, "'%s' is not a number", what);
    double x = json_number_value(value);
    if (!(x >= 0 && x <= 1))
        return moe_fail(err, MOE_ERR_INPUT, "'%s' %g is outside 0..1", what, x);
    *out = x;
    return MOE_OK;
}

static enum moe_status count_of(const json_t *object, const char *key, uint64_t min, uint64_t max,
                                uint64_t *out, struct moe_err *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value)
        return MOE_OK;
    if (!json_is_integer(value))
        return moe_fail(err, MOE_ERR_INPUT, "'%s' is not a whole number", key);
    json_int_t x = json_integer_value(value);
    if (x < 0 || (uint64_t)x < min || (uint64_t)x > max)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s' %" JSON_INTEGER_FORMAT " is outside %" PRIu64 "..%" PRIu64, key, x,
                        min, max);
    *out = (uint64_t)x;
    return MOE_OK;
}

static enum moe_status check_keys(json_t *object, const char *const *known, size_t n_known,
                                  struct moe_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        size_t i = 0;
        while (i < n_known && strcmp(known[i], key) != 0)
            i++;
        if (i < n_known)
            continue;
        const char *near = moe_nearest_name(key, known, n_known);
        if (near)
            return moe_fail(err, MOE_ERR_INPUT, "unknown key '%.40s' (did you mean '%s'?)", key,
                            near);
        return moe_fail(err, MOE_ERR_INPUT, "unknown key '%.40s'", key);
    }
    return MOE_OK;
}

/* Array of n_experts shares that sum to 1, each at most `most`. */
static enum moe_status shares_of(const json_t *layer, const char *key, uint32_t n_experts,
                                 double most, double *out, struct moe_err *err)
{
    const json_t *array = json_object_get(layer, key);
    if (!json_is_array(array) || json_array_size(array) != n_experts)
        return moe_fail(err, MOE_ERR_INPUT, "'%s' is not an array of %" PRIu32 " shares", key,
                        n_experts);
    double sum = 0;
    for (uint32_t e = 0; e < n_experts; e++) {
        enum moe_status s = share_of(json_array_get(array, e), key, &out[e], err);
        if (s)
            return s;
        if (out[e] > most + rounding)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s' %g of expert %" PRIu32 " exceeds the %g that top-k allows", key,
                            out[e], e, most);
        sum += out[e];
    }
    if (fabs(sum - 1) > rounding)
        return moe_fail(err, MOE_ERR_INPUT, "'%s' sums to %g, not 1", key, sum);
    return MOE_OK;
}

static enum moe_status repeats_of(const json_t *layer, struct moe_stats_layer *out,
                                  struct moe_err *err)
{
    const json_t *lags = json_object_get(layer, "expert_repeat_by_lag");
    enum moe_status s = MOE_OK;
    if (!json_is_object(lags))
        return moe_fail(err, MOE_ERR_INPUT, "no 'expert_repeat_by_lag'");
    for (int i = 0; !s && i < MOE_LAGS; i++) {
        char lag[12];
        snprintf(lag, sizeof lag, "%" PRIu32, moe_lags[i]);
        s = share_of(json_object_get(lags, lag), lag, &out->repeat_expert[i], err);
    }
    if (s)
        return moe_fail_prefix(err, "expert_repeat_by_lag");
    s = share_of(json_object_get(layer, "first_choice_repeat"), "first_choice_repeat",
                 &out->repeat_first, err);
    if (!s)
        s = share_of(json_object_get(layer, "at_least_one_repeat"), "at_least_one_repeat",
                     &out->repeat_any, err);
    if (!s)
        s = share_of(json_object_get(layer, "both_repeat"), "both_repeat", &out->repeat_all, err);
    return s;
}

static enum moe_status lru_of(const json_t *layer, uint32_t n_experts, double *out,
                              struct moe_err *err)
{
    const json_t *ways = json_object_get(layer, "lru_hit_rate_by_ways");
    if (!json_is_object(ways))
        return moe_fail(err, MOE_ERR_INPUT, "no 'lru_hit_rate_by_ways'");
    for (uint32_t m = 1; m < n_experts; m++) {
        char key[12];
        snprintf(key, sizeof key, "%" PRIu32, m);
        enum moe_status s = share_of(json_object_get(ways, key), key, &out[m], err);
        if (!s && out[m] < out[m - 1])
            s = moe_fail(err, MOE_ERR_INPUT, "'%s' %g is below the %g of fewer ways", key, out[m],
                         out[m - 1]);
        if (s)
            return moe_fail_prefix(err, "lru_hit_rate_by_ways");
    }
    return MOE_OK;
}

static const char *const layer_keys[] = {"layer",
                                         "popularity",
                                         "first_choice_popularity",
                                         "expert_repeat_by_lag",
                                         "first_choice_repeat",
                                         "at_least_one_repeat",
                                         "both_repeat",
                                         "lru_hit_rate_by_ways"};

static enum moe_status parse_layer(json_t *layer, uint32_t index, const struct moe_stats *stats,
                                   struct moe_stats_layer *out, struct moe_err *err)
{
    uint32_t n = stats->n_experts;
    uint64_t number = UINT64_MAX;
    if (!json_is_object(layer))
        return moe_fail(err, MOE_ERR_INPUT, "not an object");
    enum moe_status s = check_keys(layer, layer_keys, sizeof layer_keys / sizeof *layer_keys, err);
    if (!s)
        s = count_of(layer, "layer", 0, MOE_MAX_LAYERS, &number, err);
    if (!s && number != index)
        return moe_fail(err, MOE_ERR_INPUT, "its 'layer' is not %" PRIu32, index);
    out->popularity = calloc(n, sizeof(double));
    out->first_popularity = calloc(n, sizeof(double));
    out->lru_hit_rate = calloc(n, sizeof(double));
    if (!s && (!out->popularity || !out->first_popularity || !out->lru_hit_rate))
        return moe_fail_memory(err, "routing statistics");
    if (!s)
        s = shares_of(layer, "popularity", n, 1.0 / stats->top_k, out->popularity, err);
    if (!s)
        s = shares_of(layer, "first_choice_popularity", n, 1, out->first_popularity, err);
    if (!s)
        s = repeats_of(layer, out, err);
    return s ? s : lru_of(layer, n, out->lru_hit_rate, err);
}

/* E is the length of the first layer's popularity; the other arrays are checked against it. */
static enum moe_status parse_shape(json_t *root, struct moe_stats *stats, struct moe_err *err)
{
    const json_t *layers = json_object_get(root, "layers");
    uint64_t top_k = DEFAULT_TOP_K;
    if (!json_is_array(layers) || !json_array_size(layers))
        return moe_fail(err, MOE_ERR_INPUT, "no array 'layers'");
    if (json_array_size(layers) > MOE_MAX_LAYERS)
        return moe_fail(err, MOE_ERR_INPUT, "%zu layers exceed the %d possible",
                        json_array_size(layers), MOE_MAX_LAYERS);
    size_t n = json_array_size(json_object_get(json_array_get(layers, 0), "popularity"));
    if (n < 2 || n > MOE_MAX_EXPERTS)
        return moe_fail(err, MOE_ERR_INPUT, "layer 0: %zu shares in 'popularity', not 2..%d", n,
                        MOE_MAX_EXPERTS);
    uint64_t most = n < MOE_MAX_TOP_K ? n : MOE_MAX_TOP_K;
    enum moe_status s = count_of(root, "top_k", 1, most, &top_k, err);
    if (s)
        return s;
    stats->n_layers = (uint32_t)json_array_size(layers);
    stats->n_experts = (uint32_t)n;
    stats->top_k = (uint32_t)top_k;
    return MOE_OK;
}

static enum moe_status parse_size(json_t *root, struct moe_stats *stats, struct moe_err *err)
{
    stats->n_sequences = 1;
    enum moe_status s = count_of(root, "sequences", 1, MAX_SEQUENCES, &stats->n_sequences, err);
    if (!s)
        s = count_of(root, "tokens", stats->n_sequences, stats->n_sequences * MAX_SEQUENCE_TOKENS,
                     &stats->n_tokens, err);
    return s;
}

static const char *const root_keys[] = {"model",  "sequences",   "tokens",  "top_k",
                                        "origin", "definitions", "licence", "layers"};

static enum moe_status parse_root(json_t *root, struct moe_stats *stats, struct moe_err *err)
{
    if (!json_is_object(root))
        return moe_fail(err, MOE_ERR_INPUT, "not a JSON object");
    const char *model = json_string_value(json_object_get(root, "model"));
    if (model && strlen(model) >= sizeof stats->model)
        return moe_fail(err, MOE_ERR_INPUT, "'model' has %zu bytes, at most %zu are kept",
                        strlen(model), sizeof stats->model - 1);
    snprintf(stats->model, sizeof stats->model, "%s", model ? model : "unknown");
    enum moe_status s = check_keys(root, root_keys, sizeof root_keys / sizeof *root_keys, err);
    if (!s)
        s = parse_shape(root, stats, err);
    if (!s)
        s = parse_size(root, stats, err);
    if (s)
        return s;
    stats->layer = calloc(stats->n_layers, sizeof *stats->layer);
    if (!stats->layer)
        return moe_fail_memory(err, "routing statistics");
    const json_t *layers = json_object_get(root, "layers");
    for (uint32_t l = 0; l < stats->n_layers; l++)
        if (parse_layer(json_array_get(layers, l), l, stats, &stats->layer[l], err))
            return fail_in_layer(l, err);
    return MOE_OK;
}

enum moe_status moe_stats_parse(const char *name, const char *data, size_t size,
                                struct moe_stats *out, struct moe_err *err)
{
    json_error_t fault;
    struct moe_stats stats = {.hash = moe_hash_bytes(MOE_HASH_SEED, data, size)};
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES, &fault);
    if (!root)
        return moe_fail(err, MOE_ERR_INPUT, "statistics '%s':%d: %s", name, fault.line, fault.text);
    enum moe_status s = parse_root(root, &stats, err);
    json_decref(root);
    if (s) {
        moe_stats_release(&stats);
        return moe_fail_prefix(err, "statistics '%s'", name);
    }
    *out = stats;
    return MOE_OK;
}

enum moe_status moe_stats_load(const char *path, struct moe_stats *out, struct moe_err *err)
{
    char *data, found[8192];
    size_t size;
    enum moe_status s =
        moe_file_read(moe_find_data(path, found, sizeof found), MAX_FILE_BYTES, &data, &size, err);
    if (s)
        return s;
    s = moe_stats_parse(path, data, size, out, err);
    free(data);
    return s;
}

void moe_stats_release(struct moe_stats *stats)
{
    for (uint32_t l = 0; stats->layer && l < stats->n_layers; l++) {
        free(stats->layer[l].popularity);
        free(stats->layer[l].first_popularity);
        free(stats->layer[l].lru_hit_rate);
    }
    free(stats->layer);
    *stats = (struct moe_stats){0};
}

uint64_t moe_stats_sequence_tokens(const struct moe_stats *stats)
{
    if (!stats->n_tokens)
        return DEFAULT_SEQUENCE_TOKENS;
    return (stats->n_tokens + stats->n_sequences / 2) / stats->n_sequences;
}
