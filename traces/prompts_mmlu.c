#include "traces/prompts_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { N_FIELDS = 6 }; /* question, four choices, answer */

/* One record; the fields are NUL-terminated and lie in text. */
struct record {
    char *text; /* as long as the file */
    size_t used;
    const char *field[N_FIELDS];
    size_t n;      /* fields, those above N_FIELDS only counted */
    uint64_t line; /* where it begins */
    bool blank;    /* a line with nothing in it */
};

static void keep(struct record *r, char c)
{
    r->text[r->used++] = c;
}

static bool at_line_end(const struct moe_prompts_file *file)
{
    return file->next == file->end || *file->next == '\n' ||
           (*file->next == '\r' && file->end - file->next > 1 && file->next[1] == '\n');
}

/* What is between quotes; a doubled quote stands for one, CRLF for LF. */
static enum moe_status read_quoted(struct moe_prompts_file *file, struct record *r,
                                   struct moe_err *err)
{
    uint64_t line = file->line;
    for (file->next++; file->next < file->end; file->next++) {
        bool more = file->end - file->next > 1;
        if (*file->next == '"' && !(more && file->next[1] == '"')) {
            file->next++;
            if (at_line_end(file) || *file->next == ',')
                return MOE_OK;
            return moe_fail(err, MOE_ERR_INPUT, "'%s':%" PRIu64 ": text follows a closed quote",
                            file->name, file->line);
        }
        file->next += *file->next == '"' || (*file->next == '\r' && more && file->next[1] == '\n');
        file->line += *file->next == '\n';
        keep(r, *file->next);
    }
    return moe_fail(err, MOE_ERR_INPUT, "'%s':%" PRIu64 ": a quote is not closed", file->name,
                    line);
}

/* Reads the next record; the file is not at its end. */
static enum moe_status read_record(struct moe_prompts_file *file, struct record *r,
                                   struct moe_err *err)
{
    r->used = r->n = 0;
    r->line = ++file->line;
    r->blank = at_line_end(file);
    for (;;) {
        if (r->n < N_FIELDS)
            r->field[r->n] = r->text + r->used;
        r->n++;
        if (file->next < file->end && *file->next == '"') {
            enum moe_status status = read_quoted(file, r, err);
            if (status != MOE_OK)
                return status;
        }
        while (!at_line_end(file) && *file->next != ',')
            keep(r, *file->next++);
        keep(r, '\0');
        if (at_line_end(file))
            break;
        file->next++;
    }
    file->next += file->next < file->end && *file->next == '\r';
    file->next += file->next < file->end;
    return MOE_OK;
}

/* The name of the file without folder, ending and part of the data set. */
static void find_subject(const char *name, char subject[MOE_CATEGORY_MAX + 1])
{
    static const char *const endings[] = {".csv", "_test", "_dev", "_val"};
    const char *slash = strrchr(name, '/');
    snprintf(subject, MOE_CATEGORY_MAX + 1, "%s", slash ? slash + 1 : name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(subject), m = strlen(endings[i]);
        if (n > m && strcmp(subject + n - m, endings[i]) == 0)
            subject[n - m] = '\0';
    }
}

static bool is_answer(const char *text)
{
    return text[0] && !text[1] && strchr("ABCDabcd0123", text[0]);
}

static enum moe_status check_record(const struct moe_prompts_file *file, const struct record *r,
                                    struct moe_err *err)
{
    if (r->n != N_FIELDS)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s':%" PRIu64
                        ": %zu fields instead of %d: question, four choices, answer",
                        file->name, r->line, r->n, N_FIELDS);
    if (!is_answer(r->field[5]))
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s':%" PRIu64 ": answer '%.40s' is neither A to D nor 0 to 3", file->name,
                        r->line, r->field[5]);
    if (!*r->field[0])
        return moe_fail(err, MOE_ERR_INPUT, "'%s':%" PRIu64 ": the question is empty", file->name,
                        r->line);
    return MOE_OK;
}

static enum moe_status push_record(struct moe_prompts_file *file, const struct record *r,
                                   const char *subject, struct moe_err *err)
{
    size_t size = r->used + 32;
    char *text = malloc(size);
    enum moe_status status = check_record(file, r, err);
    if (!text)
        return moe_fail_memory(err, "a prompt");
    if (status != MOE_OK) {
        free(text);
        return status;
    }
    snprintf(text, size, "%s\nA. %s\nB. %s\nC. %s\nD. %s\nAnswer:", r->field[0], r->field[1],
             r->field[2], r->field[3], r->field[4]);
    return moe_prompts_push(file, text, subject, r->line, err);
}

enum moe_status moe_prompts_mmlu(struct moe_prompts_file *file, struct moe_err *err)
{
    char subject[MOE_CATEGORY_MAX + 1];
    /* A record is never longer than what is left of the file, and one NUL a field. */
    struct record r = {.text = malloc((size_t)(file->end - file->next) + 2)};
    enum moe_status status = MOE_OK;
    if (!r.text)
        return moe_fail_memory(err, "prompts");
    find_subject(file->name, subject);
    bool first = true;
    while (status == MOE_OK && file->next < file->end && !moe_prompts_full(file)) {
        status = read_record(file, &r, err);
        bool names = first && r.n == N_FIELDS && strcasecmp(r.field[5], "answer") == 0;
        if (status == MOE_OK && !r.blank && !names)
            status = push_record(file, &r, subject, err);
        first = first && r.blank;
    }
    free(r.text);
    return status;
}
