#include "base/yaml.h"

#include "base/file.h"
#include "base/units.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum {
    MAX_BYTES = 16 << 20,
    MAX_DEPTH = 16,
    /* Far above any configuration; they keep a hostile file from taking gigabytes or, as keys are
     * compared with each other, minutes. */
    MAX_NODES = 1 << 20,
    MAX_KEYS = 1024,
};

struct loader {
    yaml_parser_t parser;
    const char *data;
    size_t size;
    char *file; /* owned by the root in the end */
    size_t n_nodes;
    struct moe_err *err;
};

static void free_node(struct moe_yaml *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->n; i++) {
        free_node(node->item[i]);
        if (node->keys)
            free(node->keys[i]);
    }
    free(node->item);
    free(node->keys);
    free(node->key_lines);
    free(node->text);
    free(node);
}

void moe_yaml_free(struct moe_yaml *root)
{
    if (!root)
        return;
    char *file = (char *)root->file;
    free_node(root);
    free(file);
}

static enum moe_status fail_at(const struct loader *l, size_t line, const char *problem)
{
    return moe_fail(l->err, MOE_ERR_USAGE, "'%.200s':%zu: %s", l->file, line, problem);
}

static enum moe_status refuse(const struct loader *l, const yaml_event_t *event,
                              const char *problem)
{
    return fail_at(l, event->start_mark.line + 1, problem);
}

/* What libyaml found wrong. Its reader gives an offset, the rest of it a line. */
static enum moe_status fail_syntax(const struct loader *l)
{
    const yaml_parser_t *p = &l->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return moe_fail_memory(l->err, l->file);
    size_t line = p->problem_mark.line + 1;
    if (p->error == YAML_READER_ERROR) {
        line = 1;
        for (size_t i = 0; i < l->size && i < p->problem_offset; i++)
            line += l->data[i] == '\n';
    }
    return fail_at(l, line, p->problem ? p->problem : "not valid YAML");
}

static enum moe_status next_event(struct loader *l, yaml_event_t *event)
{
    return yaml_parser_parse(&l->parser, event) ? MOE_OK : fail_syntax(l);
}

/* Makes room for one more child; sizes are powers of two. */
static int grow(struct moe_yaml *node)
{
    size_t n = node->n;
    if (n & (n - 1))
        return 1;
    size_t room = n ? 2 * n : 1;
    struct moe_yaml **item = realloc(node->item, room * sizeof(struct moe_yaml *));
    if (!item)
        return 0;
    node->item = item;
    if (node->kind != MOE_YAML_MAP)
        return 1;
    char **keys = realloc(node->keys, room * sizeof(char *));
    if (!keys)
        return 0;
    node->keys = keys;
    int *lines = realloc(node->key_lines, room * sizeof(int));
    if (!lines)
        return 0;
    node->key_lines = lines;
    return 1;
}

static enum moe_status next_node(struct loader *l, int depth, struct moe_yaml **out);

static enum moe_status check_key(const struct loader *l, const struct moe_yaml *map,
                                 const struct moe_yaml *key)
{
    if (key->kind != MOE_YAML_SCALAR)
        return fail_at(l, (size_t)key->line, "a key must be plain text");
    if (map->n == MAX_KEYS)
        return fail_at(l, (size_t)key->line, "more than 1024 keys in one mapping");
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->keys[i], key->text) == 0)
            return moe_fail(l->err, MOE_ERR_USAGE,
                            "'%.200s':%d: key '%.60s' is given twice (first on line %d)", l->file,
                            key->line, key->text, map->key_lines[i]);
    return MOE_OK;
}

/* The next "key: value" of map; *end is set where there is none. */
static enum moe_status read_pair(struct loader *l, int depth, struct moe_yaml *map, int *end)
{
    struct moe_yaml *key = NULL, *value = NULL;
    enum moe_status s = next_node(l, depth, &key);
    *end = !key;
    if (!s && key)
        s = check_key(l, map, key);
    if (!s && key)
        s = next_node(l, depth, &value);
    if (!s && key && !grow(map))
        s = moe_fail_memory(l->err, l->file);
    if (!s && key) {
        map->keys[map->n] = key->text;
        map->key_lines[map->n] = key->line;
        map->item[map->n++] = value;
        key->text = NULL;
        value = NULL;
    }
    free_node(key);
    free_node(value);
    return s;
}

static enum moe_status read_item(struct loader *l, int depth, struct moe_yaml *list, int *end)
{
    struct moe_yaml *item = NULL;
    enum moe_status s = next_node(l, depth, &item);
    *end = !item;
    if (s || !item)
        return s;
    if (!grow(list)) {
        free_node(item);
        return moe_fail_memory(l->err, l->file);
    }
    list->item[list->n++] = item;
    return MOE_OK;
}

static enum moe_status read_text(struct loader *l, const yaml_event_t *event, struct moe_yaml *node)
{
    size_t length = event->data.scalar.length;
    if (memchr(event->data.scalar.value, 0, length))
        return refuse(l, event, "text holds a NUL character");
    node->text = malloc(length + 1);
    if (!node->text)
        return moe_fail_memory(l->err, l->file);
    memcpy(node->text, event->data.scalar.value, length);
    node->text[length] = 0;
    return MOE_OK;
}

static enum moe_status read_content(struct loader *l, const yaml_event_t *event, int depth,
                                    struct moe_yaml *node)
{
    if (node->kind == MOE_YAML_SCALAR)
        return read_text(l, event, node);
    enum moe_status s = MOE_OK;
    for (int end = 0; !s && !end;)
        s = node->kind == MOE_YAML_MAP ? read_pair(l, depth + 1, node, &end)
                                       : read_item(l, depth + 1, node, &end);
    return s;
}

/* Kind of the node that an event starts; anchors, aliases and tags are refused. */
static enum moe_status node_kind(const struct loader *l, const yaml_event_t *event,
                                 enum moe_yaml_kind *kind)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        *kind = MOE_YAML_SCALAR;
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        *kind = MOE_YAML_MAP;
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        *kind = MOE_YAML_LIST;
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    default:
        return refuse(l, event, "aliases ('*name') are not supported here");
    }
    if (anchor)
        return refuse(l, event, "anchors ('&name') are not supported here");
    if (tag)
        return refuse(l, event, "tags ('!name') are not supported here");
    return MOE_OK;
}

static enum moe_status build_node(struct loader *l, const yaml_event_t *event, int depth,
                                  struct moe_yaml **out)
{
    enum moe_yaml_kind kind = MOE_YAML_SCALAR;
    enum moe_status s = node_kind(l, event, &kind);
    if (s)
        return s;
    if (depth > MAX_DEPTH)
        return refuse(l, event, "nested deeper than 16 levels");
    if (++l->n_nodes > MAX_NODES)
        return refuse(l, event, "more than 1048576 values");
    struct moe_yaml *node = calloc(1, sizeof *node);
    if (!node)
        return moe_fail_memory(l->err, l->file);
    node->kind = kind;
    node->line = (int)event->start_mark.line + 1;
    node->file = l->file;
    s = read_content(l, event, depth, node);
    if (s)
        free_node(node);
    else
        *out = node;
    return s;
}

/* Reads one node; *out stays NULL where the enclosing collection ends instead. */
static enum moe_status next_node(struct loader *l, int depth, struct moe_yaml **out)
{
    yaml_event_t event;
    enum moe_status s = next_event(l, &event);
    if (s)
        return s;
    if (event.type != YAML_MAPPING_END_EVENT && event.type != YAML_SEQUENCE_END_EVENT)
        s = build_node(l, &event, depth, out);
    yaml_event_delete(&event);
    return s;
}

/* Takes the next event, which must be of this type. */
static enum moe_status expect(struct loader *l, yaml_event_type_t type, const char *otherwise)
{
    yaml_event_t event;
    enum moe_status s = next_event(l, &event);
    if (s)
        return s;
    if (event.type != type)
        s = refuse(l, &event, otherwise);
    yaml_event_delete(&event);
    return s;
}

static enum moe_status read_document(struct loader *l, struct moe_yaml **out)
{
    struct moe_yaml *root = NULL;
    enum moe_status s = expect(l, YAML_STREAM_START_EVENT, "not YAML");
    if (!s)
        s = expect(l, YAML_DOCUMENT_START_EVENT, "there is nothing in it");
    if (!s)
        s = next_node(l, 1, &root);
    if (!s)
        s = expect(l, YAML_DOCUMENT_END_EVENT, "the document does not end here");
    if (!s)
        s = expect(l, YAML_STREAM_END_EVENT, "a second document starts here");
    if (s)
        free_node(root);
    else
        *out = root;
    return s;
}

enum moe_status moe_yaml_parse(const char *name, const void *data, size_t size,
                               struct moe_yaml **out, struct moe_err *err)
{
    if (size > MAX_BYTES)
        return moe_fail(err, MOE_ERR_USAGE, "'%.200s' has %zu bytes, at most %d are read", name,
                        size, MAX_BYTES);
    struct loader l = {.data = data, .size = size, .err = err, .file = strdup(name)};
    if (!l.file)
        return moe_fail_memory(err, name);
    if (!yaml_parser_initialize(&l.parser)) {
        free(l.file);
        return moe_fail_memory(err, name);
    }
    yaml_parser_set_input_string(&l.parser, data, size);
    enum moe_status s = read_document(&l, out);
    yaml_parser_delete(&l.parser);
    if (s)
        free(l.file);
    return s;
}

enum moe_status moe_yaml_load(const char *path, struct moe_yaml **out, struct moe_err *err)
{
    char *data;
    size_t size;
    enum moe_status s = moe_input_read(path, MAX_BYTES, &data, &size, err);
    if (s)
        return s;
    s = moe_yaml_parse(path, data, size, out, err);
    free(data);
    return s;
}

const struct moe_yaml *moe_yaml_get(const struct moe_yaml *map, const char *key)
{
    if (map->kind != MOE_YAML_MAP)
        return NULL;
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->keys[i], key) == 0)
            return map->item[i];
    return NULL;
}

enum moe_status moe_yaml_fail(const struct moe_yaml *node, struct moe_err *err, const char *format,
                              ...)
{
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return moe_fail(err, MOE_ERR_USAGE, "'%.200s':%d: %s", node->file, node->line, text);
}

/* An unknown key, the map's i-th; names[0..n) are the known ones. */
static enum moe_status fail_key(const struct moe_yaml *map, size_t i, const char *const *names,
                                size_t n, struct moe_err *err)
{
    const char *near = moe_nearest_name(map->keys[i], names, n);
    return moe_fail(err, MOE_ERR_USAGE, "'%.200s':%d: unknown key '%.60s'%s%s%s", map->file,
                    map->key_lines[i], map->keys[i], near ? " (did you mean '" : "",
                    near ? near : "", near ? "'?)" : "");
}

enum moe_status moe_yaml_check_keys(const struct moe_yaml *map, const struct moe_param *table,
                                    const char *const *also, size_t n_also, struct moe_err *err)
{
    if (map->kind != MOE_YAML_MAP)
        return moe_yaml_fail(map, err, "expected a mapping (key: value)");
    size_t n = 0, n_table = 0;
    while (table && table[n_table].name)
        n_table++;
    const char **names = malloc((n_table + n_also + 1) * sizeof(char *));
    if (!names)
        return moe_fail_memory(err, "the names of keys");
    for (size_t i = 0; i < n_table; i++)
        names[n++] = table[i].name;
    for (size_t i = 0; i < n_also; i++)
        names[n++] = also[i];
    enum moe_status s = MOE_OK;
    for (size_t i = 0; i < map->n && !s; i++) {
        size_t k = 0;
        while (k < n && strcmp(names[k], map->keys[i]) != 0)
            k++;
        if (k == n)
            s = fail_key(map, i, names, n, err);
    }
    free(names);
    return s;
}

static enum moe_status bind_one(const struct moe_yaml *node, const struct moe_param *param,
                                void *base, struct moe_err *err)
{
    const struct moe_yaml *value = node;
    if (param->flags & MOE_PARAM_CONSTANT) {
        enum moe_status s = moe_yaml_constant(node, param->unit, &value, err);
        if (s)
            return s;
    }
    if (value->kind != MOE_YAML_SCALAR)
        return moe_yaml_fail(value, err, "%s: expected a single value", param->name);
    enum moe_status s = moe_param_set(param, base, value->text, err);
    if (s)
        moe_fail_prefix(err, "'%.200s':%d", value->file, value->line);
    return s;
}

enum moe_status moe_yaml_bind(const struct moe_yaml *map, const struct moe_param *table, void *base,
                              struct moe_err *err)
{
    if (map->kind != MOE_YAML_MAP)
        return moe_yaml_fail(map, err, "expected a mapping (key: value)");
    for (const struct moe_param *p = table; p && p->name; p++) {
        const struct moe_yaml *node = moe_yaml_get(map, p->name);
        enum moe_status s = MOE_OK;
        if (node)
            s = bind_one(node, p, base, err);
        else if (p->flags & (MOE_PARAM_REQUIRED | MOE_PARAM_CONSTANT))
            s = moe_yaml_fail(map, err, "key '%s' is missing", p->name);
        if (s)
            return s;
    }
    return MOE_OK;
}

static int is_origin(const char *text)
{
    static const char *const words[] = {"measured", "paper", "datasheet", "fitted", "guess"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i]);
        if (strncmp(text, words[i], length) == 0 && !isalnum((unsigned char)text[length]))
            return 1;
    }
    return 0;
}

/* The scalar called key of a constant, or NULL with the message set. */
static const struct moe_yaml *constant_text(const struct moe_yaml *node, const char *key,
                                            struct moe_err *err)
{
    const struct moe_yaml *text = moe_yaml_get(node, key);
    if (!text)
        moe_yaml_fail(node, err, "key '%s' is missing ({value, unit, origin} is expected)", key);
    else if (text->kind != MOE_YAML_SCALAR)
        moe_yaml_fail(text, err, "%s: expected a single value", key);
    return text && text->kind == MOE_YAML_SCALAR ? text : NULL;
}

enum moe_status moe_yaml_constant(const struct moe_yaml *node, const char *unit,
                                  const struct moe_yaml **value, struct moe_err *err)
{
    static const char *const keys[] = {"value", "unit", "origin"};
    if (node->kind != MOE_YAML_MAP)
        return moe_yaml_fail(node, err, "expected a mapping {value, unit, origin}");
    enum moe_status s = moe_yaml_check_keys(node, NULL, keys, 3, err);
    if (s)
        return s;
    const struct moe_yaml *found = moe_yaml_get(node, "value");
    if (!found)
        return moe_yaml_fail(node, err,
                             "key 'value' is missing ({value, unit, origin} is expected)");
    const struct moe_yaml *text = constant_text(node, "unit", err);
    if (!text)
        return MOE_ERR_USAGE;
    if (strcmp(text->text, unit ? unit : "1") != 0)
        return moe_yaml_fail(text, err, "unit '%.40s' where '%s' is expected", text->text,
                             unit ? unit : "1");
    text = constant_text(node, "origin", err);
    if (!text)
        return MOE_ERR_USAGE;
    if (!is_origin(text->text))
        return moe_yaml_fail(text, err,
                             "origin '%.40s' does not start with measured, paper, datasheet, "
                             "fitted or guess",
                             text->text);
    *value = found;
    return MOE_OK;
}
