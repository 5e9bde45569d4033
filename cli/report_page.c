#include "base/file.h"
#include "base/html.h"
#include "base/version.h"
#include "cli/report.h"

#include <limits.h>
#include <stdlib.h>

/* Writes a file of plots/report inside an element, unescaped, as these files are the program's own.
 */
static enum moe_status put_asset(const char *file, const char *element, FILE *out,
                                 struct moe_err *err)
{
    enum { ASSET_MAX = REPORT_MIB };
    char folder[PATH_MAX], path[PATH_MAX + 80], *content;
    size_t size;
    enum moe_status s = moe_find_folder("plots/report", folder, sizeof folder, err);
    if (s)
        return s;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    s = moe_file_read(path, ASSET_MAX, &content, &size, err);
    if (s)
        return s;
    fprintf(out, "<%s>\n", element);
    fwrite(content, 1, size, out);
    fprintf(out, "</%s>\n", element);
    free(content);
    return MOE_OK;
}

static enum moe_status put_head(const struct report *r, FILE *out, struct moe_err *err)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
          "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
          "base-uri 'none'; form-action 'none'\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n"
          "<meta name=\"referrer\" content=\"no-referrer\">\n"
          "<meta name=\"generator\" content=\"moelab " MOELAB_VERSION "\">\n<title>",
          out);
    moe_html_text(r->title, out);
    fputs(" - moelab report</title>\n", out);
    enum moe_status s = put_asset("report.css", "style", out, err);
    fputs("</head>\n", out);
    return s;
}

static void put_count(size_t n, const char *what, const char *comma, FILE *out)
{
    if (n)
        fprintf(out, "%s%zu %s%s", comma, n, what, n == 1 ? "" : "s");
}

static void put_header(const struct report *r, FILE *out)
{
    fputs("<body>\n<a class=\"skip\" href=\"#main\">Skip to the results</a>\n<header>\n<h1>", out);
    moe_html_text(r->title, out);
    fputs("</h1>\n<p>Results of moelab: ", out);
    put_count(r->n_tables, "table", "", out);
    put_count(r->n_plots, "plot", r->n_tables ? ", " : "", out);
    put_count(r->n_timelines, "timeline", r->n_tables + r->n_plots ? ", " : "", out);
    put_count(r->n_texts, "text", r->n_tables + r->n_plots + r->n_timelines ? ", " : "", out);
    fputs(".</p>\n</header>\n<nav aria-label=\"Contents\"><ul>\n"
          "<li><a href=\"#summary\">Summary</a></li>\n",
          out);
    for (size_t i = 0; i < r->n_tables; i++) {
        fprintf(out, "<li><a href=\"#table-%zu\">", i + 1);
        moe_html_text(r->tables[i].stem, out);
        fputs("</a></li>\n", out);
    }
    if (r->n_timelines)
        fputs("<li><a href=\"#timelines\">Timelines</a></li>\n", out);
    if (r->n_texts)
        fputs("<li><a href=\"#texts\">Texts</a></li>\n", out);
    fputs("</ul></nav>\n<main id=\"main\">\n", out);
}

static void put_plot(const struct report *r, const struct report_plot *p, FILE *out)
{
    const char *title = p->table == SIZE_MAX ? p->stem : report_table_title(&r->tables[p->table]);
    fputs("<figure>\n<div class=\"plot\" tabindex=\"0\" role=\"group\" aria-label=\"", out);
    moe_html_text(p->file, out);
    fputs("\">", out);
    if (!p->svg)
        fputs("<img src=\"", out);
    fwrite(p->markup, 1, p->n_markup, out);
    if (!p->svg) {
        fputs("\" alt=\"", out);
        moe_html_text(title, out);
        fputs("\">", out);
    }
    fputs("</div>\n<figcaption>", out);
    moe_html_text(title, out);
    fputs(" <span class=\"file\">", out);
    moe_html_text(p->file, out);
    fputs("</span></figcaption>\n</figure>\n", out);
}

static void put_plots_of(const struct report *r, size_t table, FILE *out)
{
    for (size_t i = 0; i < r->n_plots; i++)
        if (r->plots[i].table == table)
            put_plot(r, &r->plots[i], out);
}

static void put_tables(const struct report *r, FILE *out)
{
    for (size_t i = 0; i < r->n_tables; i++) {
        fprintf(out, "<section id=\"table-%zu\">\n<h2 id=\"title-%zu\">", i + 1, i + 1);
        moe_html_text(report_table_title(&r->tables[i]), out);
        fputs("</h2>\n<p class=\"badges\">", out);
        report_put_badges(&r->tables[i], out);
        fputs("<span class=\"file\">", out);
        moe_html_text(r->tables[i].file, out);
        fputs("</span></p>\n", out);
        put_plots_of(r, i, out);
        report_put_table(r, i, out);
        fputs("</section>\n", out);
    }
}

static void put_texts(const struct report *r, FILE *out)
{
    if (r->n_texts)
        fputs("<section id=\"texts\">\n<h2>Texts</h2>\n", out);
    for (size_t i = 0; i < r->n_texts; i++) {
        fputs("<details><summary class=\"file\">", out);
        moe_html_text(r->texts[i].file, out);
        fputs("</summary>\n<pre>", out);
        moe_html_text(r->texts[i].content, out);
        fputs("</pre></details>\n", out);
    }
    fputs(r->n_texts ? "</section>\n" : "", out);
}

static void put_rest(const struct report *r, FILE *out)
{
    size_t loose = 0;
    for (size_t i = 0; i < r->n_plots; i++)
        loose += r->plots[i].table == SIZE_MAX;
    if (loose) {
        fputs("<section id=\"plots\">\n<h2>Plots without a table</h2>\n", out);
        put_plots_of(r, SIZE_MAX, out);
        fputs("</section>\n", out);
    }
    if (r->n_timelines) {
        fputs("<section id=\"timelines\">\n<h2>Timelines</h2>\n", out);
        for (size_t i = 0; i < r->n_timelines; i++)
            report_put_timeline(r, i, out);
        fputs("</section>\n", out);
    }
    put_texts(r, out);
    if (r->n_omissions) {
        fputs("<section id=\"left-out\">\n<h2>Left out</h2>\n<ul>\n", out);
        for (size_t i = 0; i < r->n_omissions; i++) {
            fputs("<li>", out);
            moe_html_text(r->omissions[i].why, out);
            fputs("</li>\n", out);
        }
        fputs("</ul>\n</section>\n", out);
    }
}

enum moe_status report_write(const struct report *r, FILE *out, struct moe_err *err)
{
    static const char *const scripts[] = {"theme.js", "tables.js", "timeline.js"};
    enum moe_status s = put_head(r, out, err);
    if (s)
        return s;
    put_header(r, out);
    report_put_summary(r, out);
    put_tables(r, out);
    put_rest(r, out);
    fputs("</main>\n<footer><p>Written by <code>moelab report</code> " MOELAB_VERSION
          ". This page loads nothing; every number is in the tables' files.</p></footer>\n",
          out);
    for (size_t i = 0; !s && i < sizeof scripts / sizeof *scripts; i++)
        s = put_asset(scripts[i], "script", out, err);
    fputs("</body>\n</html>\n", out);
    return s;
}
