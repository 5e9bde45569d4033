#include "exec/weights_index.h"

#include "exec/json.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* A name with a '/' would lead out of the model's directory. */
static bool is_shard_name(const char *name)
{
    static const char suffix[] = ".safetensors";
    size_t length = strlen(name), n = sizeof suffix - 1;
    return length > n && length <= NAME_MAX && !strchr(name, '/') && name[0] != '.' &&
           strcmp(name + length - n, suffix) == 0;
}

static enum moe_status take_shards(json_t *map, struct moe_weights_index *index,
                                   struct moe_err *err)
{
    const char *tensor;
    json_t *value;
    size_t n = 0;
    json_object_foreach(map, tensor, value)
    {
        const char *shard = json_string_value(value);
        if (!shard)
            return moe_fail(err, MOE_ERR_INPUT, "shard of tensor '%.120s' is not a string", tensor);
        if (!is_shard_name(shard))
            return moe_fail(err, MOE_ERR_INPUT,
                            "shard '%.120s' of tensor '%.120s' is not a plain file name "
                            "ending in .safetensors",
                            shard, tensor);
        index->shard[n++] = shard;
    }
    qsort(index->shard, n, sizeof *index->shard, by_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(index->shard[index->n_shards - 1], index->shard[i]) != 0)
            index->shard[index->n_shards++] = index->shard[i];
    return MOE_OK;
}

static void take_entries(json_t *map, struct moe_weights_index *index)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value)
    {
        const char *shard = json_string_value(value);
        const char **at =
            bsearch(&shard, index->shard, index->n_shards, sizeof *index->shard, by_text);
        index->entry[index->n++] = (struct moe_index_entry){tensor, (size_t)(at - index->shard)};
    }
}

enum moe_status moe_weights_index_parse(const void *text, size_t size,
                                        struct moe_weights_index *out, struct moe_err *err)
{
    json_t *root;
    enum moe_status s = moe_json_parse(text, size, &root, err);
    if (s)
        return s;
    out->text = root;
    json_t *map = json_object_get(root, "weight_map");
    size_t n = json_object_size(map);
    if (!json_is_object(map) || n == 0)
        return moe_fail(err, MOE_ERR_INPUT, "no weight_map");
    out->shard = calloc(n, sizeof *out->shard);
    out->entry = calloc(n, sizeof *out->entry);
    if (!out->shard || !out->entry)
        return moe_fail_memory(err, "an index of weights");
    s = take_shards(map, out, err);
    if (!s)
        take_entries(map, out);
    return s;
}

void moe_weights_index_release(struct moe_weights_index *index)
{
    free(index->shard);
    free(index->entry);
    json_decref(index->text);
    *index = (struct moe_weights_index){0};
}
