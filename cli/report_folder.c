#include "base/file.h"
#include "base/html.h"
#include "base/progress.h"
#include "base/svg.h"
#include "cli/report.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A file that a report may show; names are relative to the folder. */
struct entry {
    char *file, *stem; /* "host/demo.tsv", "host/demo" */
    const char *kind;  /* ".tsv" */
};

struct folder {
    const char *path;
    struct entry *entries;
    size_t n;
};

static const char *const kinds[] = {".tsv", ".svg", ".png", ".json", ".md"};

static const char *kind_of(const char *file)
{
    size_t n = strlen(file);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t k = strlen(kinds[i]);
        if (n > k && strcmp(file + n - k, kinds[i]) == 0)
            return kinds[i];
    }
    return NULL;
}

static enum moe_status add_entry(struct folder *folder, const char *file, struct moe_err *err)
{
    const char *kind = kind_of(file);
    if (!kind)
        return MOE_OK;
    if (folder->n == REPORT_FILES_MAX)
        return moe_fail(err, MOE_ERR_INPUT,
                        "folder '%.200s' has more than %d tables, plots, timelines and texts",
                        folder->path, REPORT_FILES_MAX);
    struct entry *entries = realloc(folder->entries, (folder->n + 1) * sizeof *entries);
    if (!entries)
        return moe_fail_memory(err, "a list of files");
    folder->entries = entries;
    struct entry e = {strdup(file), strndup(file, strlen(file) - strlen(kind)), kind};
    entries[folder->n++] = e;
    return e.file && e.stem ? MOE_OK : moe_fail_memory(err, "a list of files");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->file, ((const struct entry *)b)->file);
}

static enum moe_status list_below(struct folder *folder, const char *below, int depth,
                                  struct moe_err *err);

/* below: the folder's path relative to the report's, "" or "a/b/". */
static enum moe_status add_name(struct folder *folder, const char *below, const char *name,
                                int depth, struct moe_err *err)
{
    char file[PATH_MAX], path[2 * PATH_MAX];
    struct stat info;
    if (name[0] == '.')
        return MOE_OK;
    if (snprintf(file, sizeof file, "%s%s", below, name) >= (int)sizeof file)
        return moe_fail(err, MOE_ERR_USAGE, "path '%.60s...' is too long", below);
    snprintf(path, sizeof path, "%s/%s", folder->path, file);
    if (kind_of(name) || lstat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return add_entry(folder, file, err);
    return list_below(folder, file, depth + 1, err);
}

/* Lists one folder and those inside it. All names of a folder are read before those inside are
 * entered, so that few folders are open at a time. */
static enum moe_status list_below(struct folder *folder, const char *below, int depth,
                                  struct moe_err *err)
{
    char path[2 * PATH_MAX], inside[PATH_MAX];
    struct dirent **names;
    snprintf(path, sizeof path, "%s%s%s", folder->path, *below ? "/" : "", below);
    if (depth > REPORT_DEPTH_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "folder '%.300s' is nested deeper than %d folders",
                        path, REPORT_DEPTH_MAX);
    if (snprintf(inside, sizeof inside, "%s%s", below, *below ? "/" : "") >= (int)sizeof inside)
        return moe_fail(err, MOE_ERR_USAGE, "path '%.60s...' is too long", below);
    int n = scandir(path, &names, NULL, alphasort);
    if (n < 0)
        return moe_fail(err, MOE_ERR_IO, "cannot open folder '%.300s': %s", path, strerror(errno));
    enum moe_status s = MOE_OK;
    for (int i = 0; i < n; i++) {
        if (!s)
            s = add_name(folder, inside, names[i]->d_name, depth, err);
        free(names[i]);
    }
    free(names);
    return s;
}

static enum moe_status list_folder(struct folder *folder, struct moe_err *err)
{
    enum moe_status s = list_below(folder, "", 0, err);
    if (!s && folder->n == 0)
        s = moe_fail(err, MOE_ERR_INPUT,
                     "folder '%.200s' has nothing to report: no table (.tsv), plot (.svg, .png), "
                     "timeline (.json) or text (.md)",
                     folder->path);
    if (folder->n)
        qsort(folder->entries, folder->n, sizeof *folder->entries, by_name);
    return s;
}

static enum moe_status omit(struct report *r, const char *file, const char *why,
                            struct moe_err *err)
{
    struct report_omission *more = realloc(r->omissions, (r->n_omissions + 1) * sizeof *more);
    if (!more)
        return moe_fail_memory(err, "a report");
    r->omissions = more;
    more[r->n_omissions] = (struct report_omission){strdup(file), strdup(why)};
    const struct report_omission *made = &more[r->n_omissions++];
    if (!made->file || !made->why)
        return moe_fail_memory(err, "a report");
    moe_log("left out: %s", why);
    return MOE_OK;
}

static enum moe_status load_table(struct report *r, const struct entry *e, const char *path,
                                  struct moe_err *err)
{
    struct report_table *tables = realloc(r->tables, (r->n_tables + 1) * sizeof *tables);
    if (!tables)
        return moe_fail_memory(err, "a report");
    r->tables = tables;
    struct report_table *t = &tables[r->n_tables++];
    *t = (struct report_table){.file = strdup(e->file), .stem = strdup(e->stem)};
    if (!t->file || !t->stem)
        return moe_fail_memory(err, "a report");
    enum moe_status s = moe_tsv_load(path, REPORT_TABLE_MAX, &t->tsv, err);
    return s ? s : report_read_table(t, err);
}

/* The table whose stem the plot's begins with: x.svg and x-bars.svg belong to x.tsv. */
static size_t table_of(const struct report *r, const char *stem)
{
    size_t found = SIZE_MAX, longest = 0;
    for (size_t i = 0; i < r->n_tables; i++) {
        size_t n = strlen(r->tables[i].stem);
        if (n >= longest && strncmp(stem, r->tables[i].stem, n) == 0 &&
            (!stem[n] || stem[n] == '-')) {
            found = i;
            longest = n;
        }
    }
    return found;
}

static const char *plot_title(const struct report *r, const struct report_plot *p)
{
    return p->table == SIZE_MAX ? p->stem : report_table_title(&r->tables[p->table]);
}

static enum moe_status draw_svg(const struct report *r, struct report_plot *p, const char *text,
                                size_t size, struct moe_err *err)
{
    char prefix[32];
    snprintf(prefix, sizeof prefix, "p%zu", r->n_plots);
    FILE *out = open_memstream(&p->markup, &p->n_markup);
    if (!out)
        return moe_fail_memory(err, "a plot");
    enum moe_status s = moe_svg_write(p->file, text, size, prefix, plot_title(r, p), out, err);
    if (fclose(out) && !s)
        s = moe_fail_memory(err, "a plot");
    return s;
}

static enum moe_status draw_png(struct report_plot *p, const char *data, size_t size,
                                struct moe_err *err)
{
    static const char magic[] = "\x89PNG\r\n\x1a\n";
    if (size < sizeof magic - 1 || memcmp(data, magic, sizeof magic - 1) != 0)
        return moe_fail(err, MOE_ERR_INPUT, "'%.300s': not a PNG file", p->file);
    FILE *out = open_memstream(&p->markup, &p->n_markup);
    if (!out)
        return moe_fail_memory(err, "a plot");
    moe_html_data_uri("image/png", data, size, out);
    return fclose(out) ? moe_fail_memory(err, "a plot") : MOE_OK;
}

static void free_plot(struct report_plot *p)
{
    free(p->file);
    free(p->stem);
    free(p->markup);
}

static enum moe_status read_plot(const struct report *r, struct report_plot *p, const char *path,
                                 struct moe_err *err)
{
    char *data;
    size_t size;
    if (!p->file || !p->stem)
        return moe_fail_memory(err, "a plot");
    enum moe_status s = moe_file_read(path, REPORT_PICTURE_MAX, &data, &size, err);
    if (s)
        return s;
    s = p->svg ? draw_svg(r, p, data, size, err) : draw_png(p, data, size, err);
    free(data);
    return s;
}

/* A picture that cannot be shown is left out, without an error: the numbers are in the tables. */
static enum moe_status load_plot(struct report *r, const struct entry *e, const char *path,
                                 struct moe_err *err)
{
    struct moe_err why = {0};
    struct report_plot *plots = realloc(r->plots, (r->n_plots + 1) * sizeof *plots);
    if (!plots)
        return moe_fail_memory(err, "a report");
    r->plots = plots;
    struct report_plot *p = &plots[r->n_plots];
    *p = (struct report_plot){.file = strdup(e->file),
                              .stem = strdup(e->stem),
                              .svg = strcmp(e->kind, ".svg") == 0,
                              .table = table_of(r, e->stem)};
    enum moe_status s = read_plot(r, p, path, &why);
    if (!s) {
        r->n_plots++;
        return MOE_OK;
    }
    free_plot(p);
    if (s != MOE_ERR_MEMORY)
        return omit(r, e->file, why.text, err);
    *err = why;
    return s;
}

static bool has_drawing(const struct report *r, const char *stem)
{
    for (size_t i = 0; i < r->n_plots; i++)
        if (r->plots[i].svg && strcmp(r->plots[i].stem, stem) == 0)
            return true;
    return false;
}

static enum moe_status load_picture(struct report *r, const struct entry *e, const char *path,
                                    struct moe_err *err)
{
    return has_drawing(r, e->stem) ? MOE_OK : load_plot(r, e, path, err);
}

static enum moe_status load_timeline(struct report *r, const struct entry *e, const char *path,
                                     struct moe_err *err)
{
    char *text;
    size_t size;
    struct moe_chrome_trace trace = {0};
    struct moe_err why = {0};
    enum moe_status s = moe_file_read(path, REPORT_TIMELINE_MAX, &text, &size, err);
    if (s)
        return s;
    s = moe_chrome_trace_parse(e->file, text, size, r->max_events, &trace, &why);
    free(text);
    if (s == MOE_ERR_UNSUPPORTED)
        return omit(r, e->file, why.text, err);
    if (s) {
        *err = why;
        return moe_fail_prefix(err, "folder '%.200s'", r->folder);
    }
    struct report_timeline *more = realloc(r->timelines, (r->n_timelines + 1) * sizeof *more);
    char *file = strdup(e->file);
    if (more)
        r->timelines = more;
    if (!more || !file) {
        moe_chrome_trace_release(&trace);
        free(file);
        return moe_fail_memory(err, "a report");
    }
    more[r->n_timelines++] = (struct report_timeline){file, trace};
    return MOE_OK;
}

/* A text that is too large or cannot be read is left out, without an error. */
static enum moe_status load_text(struct report *r, const struct entry *e, const char *path,
                                 struct moe_err *err)
{
    struct moe_err why = {0};
    size_t size;
    struct report_text *texts = realloc(r->texts, (r->n_texts + 1) * sizeof *texts);
    if (!texts)
        return moe_fail_memory(err, "a report");
    r->texts = texts;
    struct report_text *t = &texts[r->n_texts];
    enum moe_status s = moe_file_read(path, REPORT_TEXT_MAX, &t->content, &size, &why);
    if (s == MOE_ERR_MEMORY)
        *err = why;
    if (s)
        return s == MOE_ERR_MEMORY ? s : omit(r, e->file, why.text, err);
    t->file = strdup(e->file);
    r->n_texts++;
    return t->file ? MOE_OK : moe_fail_memory(err, "a report");
}

/* Tables first, so that plots find theirs; drawings before pictures, which they replace. */
static enum moe_status load_files(struct report *r, const struct folder *folder,
                                  struct moe_err *err)
{
    static enum moe_status (*const load[])(struct report *, const struct entry *, const char *,
                                           struct moe_err *) = {load_table, load_plot, load_picture,
                                                                load_timeline, load_text};
    enum moe_status s = MOE_OK;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (size_t i = 0; !s && i < folder->n; i++) {
            const struct entry *e = &folder->entries[i];
            char path[PATH_MAX + 300];
            int n = snprintf(path, sizeof path, "%s/%s", folder->path, e->file);
            if (n >= (int)sizeof path)
                s = moe_fail(err, MOE_ERR_USAGE, "path '%.60s...' is too long", folder->path);
            else if (e->kind == kinds[k])
                s = load[k](r, e, path, err);
        }
    }
    return s;
}

static int by_plot(const void *a, const void *b)
{
    return strcmp(((const struct report_plot *)a)->file, ((const struct report_plot *)b)->file);
}

/* The folder's own name, also for paths such as ".". */
static char *folder_name(const char *path)
{
    char *full = realpath(path, NULL);
    const char *slash = full ? strrchr(full, '/') : NULL;
    char *name = strdup(slash && slash[1] ? slash + 1 : "results");
    free(full);
    return name;
}

enum moe_status report_load(const char *path, const char *title, size_t max_rows, size_t max_events,
                            struct report *out, struct moe_err *err)
{
    struct report r = {.folder = path, .max_rows = max_rows, .max_events = max_events};
    struct folder folder = {.path = path};
    enum moe_status s = list_folder(&folder, err);
    if (!s)
        r.title = *title ? strdup(title) : folder_name(path);
    if (!s && !r.title)
        s = moe_fail_memory(err, "a report");
    if (!s)
        s = load_files(&r, &folder, err);
    for (size_t i = 0; i < folder.n; i++) {
        free(folder.entries[i].file);
        free(folder.entries[i].stem);
    }
    free(folder.entries);
    if (!s && r.n_plots)
        qsort(r.plots, r.n_plots, sizeof *r.plots, by_plot);
    if (s)
        report_release(&r);
    else
        *out = r;
    return s;
}

void report_release(struct report *r)
{
    for (size_t i = 0; i < r->n_tables; i++) {
        moe_tsv_release(&r->tables[i].tsv);
        free(r->tables[i].file);
        free(r->tables[i].stem);
        free(r->tables[i].numeric);
        free(r->tables[i].constant);
    }
    for (size_t i = 0; i < r->n_plots; i++)
        free_plot(&r->plots[i]);
    for (size_t i = 0; i < r->n_timelines; i++) {
        moe_chrome_trace_release(&r->timelines[i].trace);
        free(r->timelines[i].file);
    }
    for (size_t i = 0; i < r->n_texts; i++) {
        free(r->texts[i].file);
        free(r->texts[i].content);
    }
    for (size_t i = 0; i < r->n_omissions; i++) {
        free(r->omissions[i].file);
        free(r->omissions[i].why);
    }
    free(r->tables);
    free(r->plots);
    free(r->timelines);
    free(r->texts);
    free(r->omissions);
    free(r->title);
    *r = (struct report){0};
}
