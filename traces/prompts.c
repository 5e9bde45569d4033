#include "traces/prompts.h"

#include "base/file.h"
#include "base/units.h"
#include "base/utf8.h"
#include "traces/prompts_file.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 30 }; /* bytes */

enum moe_status moe_prompts_push(struct moe_prompts_file *file, char *text, const char *category,
                                 uint64_t line, struct moe_err *err)
{
    struct moe_prompts *to = file->to;
    if (to->n == file->room) {
        size_t room = file->room ? 2 * file->room : 64;
        struct moe_prompt *more = realloc(to->prompt, room * sizeof *more);
        if (!more) {
            free(text);
            return moe_fail_memory(err, "prompts");
        }
        to->prompt = more;
        file->room = room;
    }
    struct moe_prompt *p = &to->prompt[to->n];
    *p = (struct moe_prompt){.text = text, .category = strdup(category), .line = line};
    if (!p->category) {
        free(text);
        return moe_fail_memory(err, "prompts");
    }
    p->hash = moe_hash_bytes(MOE_HASH_SEED, text, strlen(text));
    to->n++;
    return MOE_OK;
}

bool moe_prompts_full(const struct moe_prompts_file *file)
{
    return file->limit && file->to->n >= file->limit;
}

static enum moe_status fail_at(const struct moe_prompts_file *file, uint64_t line,
                               struct moe_err *err)
{
    return moe_fail_prefix(err, "'%s':%" PRIu64, file->name, line);
}

/* The next line of the text without its end; false at the end of the file. */
static bool next_line(struct moe_prompts_file *file, const char **at, size_t *n)
{
    if (file->next == file->end)
        return false;
    const char *stop = memchr(file->next, '\n', (size_t)(file->end - file->next));
    *at = file->next;
    *n = (size_t)((stop ? stop : file->end) - file->next);
    file->next = stop ? stop + 1 : file->end;
    file->line++;
    if (*n && (*at)[*n - 1] == '\r')
        --*n;
    return true;
}

static bool is_blank(const char *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (at[i] != ' ' && at[i] != '\t' && at[i] != '\r')
            return false;
    return true;
}

static enum moe_status parse_text(struct moe_prompts_file *file, struct moe_err *err)
{
    const char *at = NULL;
    size_t n = 0;
    while (!moe_prompts_full(file) && next_line(file, &at, &n)) {
        if (is_blank(at, n))
            continue;
        char *text = strndup(at, n);
        if (!text)
            return moe_fail_memory(err, "a prompt");
        enum moe_status status = moe_prompts_push(file, text, "", file->line, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

/* ---- JSON lines ---- */

static const char *const text_keys[] = {"prompt", "question", "text", "instruction", NULL};
static const char *const category_keys[] = {"category", "subject", "task_id", NULL};

/* The first of the keys that is there, and not null. */
static const json_t *first_of(const json_t *object, const char *const *keys, const char **key)
{
    for (; *keys; keys++) {
        const json_t *value = json_object_get(object, *keys);
        if (value && !json_is_null(value)) {
            *key = *keys;
            return value;
        }
    }
    return NULL;
}

/* A string or a whole number, as text in buf. */
static enum moe_status get_category(const json_t *object, char buf[MOE_CATEGORY_MAX + 1],
                                    struct moe_err *err)
{
    const char *key = NULL;
    const json_t *value = first_of(object, category_keys, &key);
    const char *text = json_string_value(value);
    double number = json_number_value(value);
    buf[0] = '\0';
    if (!value)
        return MOE_OK;
    if (!text && !(json_is_number(value) && floor(number) == number && fabs(number) < 1e15))
        return moe_fail(err, MOE_ERR_INPUT, "'%s' is neither a string nor a whole number", key);
    int n = text ? snprintf(buf, MOE_CATEGORY_MAX + 1, "%s", text)
                 : snprintf(buf, MOE_CATEGORY_MAX + 1, "%.0f", number);
    if (n > MOE_CATEGORY_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "'%s' has %d bytes, limit %d", key, n,
                        MOE_CATEGORY_MAX);
    return MOE_OK;
}

static enum moe_status parse_object(struct moe_prompts_file *file, const json_t *object,
                                    struct moe_err *err)
{
    char category[MOE_CATEGORY_MAX + 1];
    const char *key = NULL;
    const json_t *value = first_of(object, text_keys, &key);
    if (!json_is_object(object))
        return moe_fail(err, MOE_ERR_INPUT, "line is not a JSON object");
    if (!value)
        return moe_fail(err, MOE_ERR_INPUT,
                        "none of the keys 'prompt', 'question', 'text', 'instruction'");
    if (!json_is_string(value))
        return moe_fail(err, MOE_ERR_INPUT, "'%s' is not a string", key);
    if (!json_string_length(value))
        return moe_fail(err, MOE_ERR_INPUT, "'%s' is empty", key);
    enum moe_status status = get_category(object, category, err);
    if (status != MOE_OK)
        return status;
    char *text = strdup(json_string_value(value));
    if (!text)
        return moe_fail_memory(err, "a prompt");
    return moe_prompts_push(file, text, category, file->line, err);
}

static enum moe_status parse_jsonl(struct moe_prompts_file *file, struct moe_err *err)
{
    const char *at = NULL;
    size_t n = 0;
    while (!moe_prompts_full(file) && next_line(file, &at, &n)) {
        json_error_t fault;
        if (is_blank(at, n))
            continue;
        json_t *object =
            json_loadb(at, n, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &fault);
        enum moe_status status =
            object ? parse_object(file, object, err)
                   : moe_fail(err, MOE_ERR_INPUT, "column %d: %.200s", fault.column, fault.text);
        json_decref(object);
        if (status != MOE_OK)
            return fail_at(file, file->line, err);
    }
    return MOE_OK;
}

/* ---- all of them ---- */

static enum moe_prompts_format format_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (dot && strcmp(dot, ".jsonl") == 0)
        return MOE_PROMPTS_JSONL;
    return dot && strcmp(dot, ".csv") == 0 ? MOE_PROMPTS_MMLU : MOE_PROMPTS_TEXT;
}

/* UTF-8 without NUL bytes, or the line and byte where it is not. */
static enum moe_status check_bytes(const char *name, const char *data, size_t size,
                                   struct moe_err *err)
{
    size_t bad = moe_utf8_prefix(data, size);
    const char *nul = size ? memchr(data, 0, bad) : NULL;
    if (bad == size && !nul)
        return MOE_OK;
    size_t at = nul ? (size_t)(nul - data) : bad, start = 0;
    uint64_t line = 1;
    for (size_t i = 0; i < at; i++) {
        if (data[i] != '\n')
            continue;
        line++;
        start = i + 1;
    }
    return moe_fail(err, MOE_ERR_INPUT, "'%s':%" PRIu64 ": %s at byte %zu of the line", name, line,
                    nul ? "a NUL" : "invalid UTF-8", at - start + 1);
}

enum moe_status moe_prompts_parse(const char *name, const char *data, size_t size,
                                  enum moe_prompts_format format, uint64_t limit,
                                  struct moe_prompts *out, struct moe_err *err)
{
    struct moe_prompts prompts = {0};
    struct moe_prompts_file file = {
        .name = name, .next = data, .end = data + size, .limit = limit, .to = &prompts};
    enum moe_status status = check_bytes(name, data, size, err);
    if (status != MOE_OK)
        return status;
    if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
        file.next += 3;
    if (format == MOE_PROMPTS_AUTO)
        format = format_of(name);
    if (format == MOE_PROMPTS_MMLU)
        status = moe_prompts_mmlu(&file, err);
    else
        status = format == MOE_PROMPTS_JSONL ? parse_jsonl(&file, err) : parse_text(&file, err);
    if (status == MOE_OK && !prompts.n)
        status = moe_fail(err, MOE_ERR_INPUT, "'%s': no prompt in it", name);
    if (status != MOE_OK) {
        moe_prompts_release(&prompts);
        return status;
    }
    const char *slash = strrchr(name, '/');
    snprintf(prompts.label, sizeof prompts.label, "%s", slash ? slash + 1 : name);
    *out = prompts;
    return MOE_OK;
}

enum moe_status moe_prompts_load(const char *path, enum moe_prompts_format format, uint64_t limit,
                                 struct moe_prompts *out, struct moe_err *err)
{
    char *data = NULL;
    size_t size = 0;
    enum moe_status status = moe_input_read(path, FILE_MAX, &data, &size, err);
    if (status != MOE_OK)
        return status;
    status = moe_prompts_parse(path, data, size, format, limit, out, err);
    free(data);
    return status;
}

void moe_prompts_release(struct moe_prompts *prompts)
{
    for (size_t i = 0; i < prompts->n; i++) {
        free(prompts->prompt[i].text);
        free(prompts->prompt[i].category);
    }
    free(prompts->prompt);
    *prompts = (struct moe_prompts){0};
}
