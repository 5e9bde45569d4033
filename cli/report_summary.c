#include "base/html.h"
#include "cli/report.h"

void report_put_badges(const struct report_table *table, FILE *out)
{
    static const struct {
        const char *word, *meaning;
    } badges[] = {
        [REPORT_SIMULATED] = {"simulated", "times come from a model of the machine"},
        [REPORT_MEASURED] = {"measured", "times were measured on a machine"},
        [REPORT_COUNTED] = {"counted", "hits are counted; no times are told"},
    };
    if (table->kind != REPORT_UNTOLD)
        fprintf(out, "<span class=\"badge\" title=\"%s\">%s</span> ", badges[table->kind].meaning,
                badges[table->kind].word);
    if (table->synthetic)
        fputs("<span class=\"badge synthetic\" title=\"no model chose these experts\">SYNTHETIC "
              "routing</span> ",
              out);
    const char *shard = moe_tsv_note(&table->tsv, "shard");
    if (shard) {
        fputs("<span class=\"badge synthetic\" title=\"of a sweep: the best of all may be in "
              "another, see moelab sweep merge\">shard ",
              out);
        moe_html_text(shard, out);
        fputs(" only</span> ", out);
    }
    if (table->lossy)
        fputs("<span class=\"badge synthetic\" title=\"some strategies compute other experts than "
              "the "
              "router chose\">LOSSY</span> ",
              out);
}

static bool is_ranked(const struct report_table *table)
{
    return table->value < table->tsv.n_columns && table->best < table->tsv.n_rows;
}

static void put_card(const struct report *r, size_t i, FILE *out)
{
    fprintf(out, "<li><h3><a href=\"#table-%zu\">", i + 1);
    moe_html_text(report_table_title(&r->tables[i]), out);
    fputs("</a></h3>\n<p class=\"badges\">", out);
    report_put_badges(&r->tables[i], out);
    fputs("</p>\n", out);
    report_put_words(&r->tables[i], out);
    fputs("</li>\n", out);
}

/* Tables without speeds and hit rates, in one line each. */
static void put_others(const struct report *r, FILE *out)
{
    const char *begin = "<h3>Other tables</h3>\n<ul>\n", *end = "";
    for (size_t i = 0; i < r->n_tables; i++) {
        const struct moe_tsv *t = &r->tables[i].tsv;
        if (is_ranked(&r->tables[i]))
            continue;
        fprintf(out, "%s<li><a href=\"#table-%zu\">", begin, i + 1);
        moe_html_text(report_table_title(&r->tables[i]), out);
        fprintf(out, "</a>: %zu row%s, %zu column%s", t->n_rows, moe_plural(t->n_rows),
                t->n_columns, moe_plural(t->n_columns));
        report_put_verdicts(t, out);
        fputc(' ', out);
        report_put_badges(&r->tables[i], out);
        if (r->tables[i].n_failed)
            fprintf(out, "<b>%zu could not run</b> (column status)", r->tables[i].n_failed);
        fputs("</li>\n", out);
        begin = "";
        end = "</ul>\n";
    }
    fputs(end, out);
}

/* Says once, for all tables, how many of them are of which kind. */
static void put_banner(const struct report *r, FILE *out)
{
    size_t synthetic = 0, n = 0;
    for (size_t i = 0; i < r->n_tables; i++)
        synthetic += r->tables[i].synthetic;
    if (!synthetic)
        return;
    fprintf(out,
            "<p class=\"banner\" role=\"note\"><strong>SYNTHETIC routing</strong> in %zu of %zu "
            "table%s (",
            synthetic, r->n_tables, moe_plural(r->n_tables));
    for (size_t i = 0; i < r->n_tables; i++) {
        if (!r->tables[i].synthetic)
            continue;
        fputs(n++ ? ", " : "", out);
        moe_html_text(r->tables[i].file, out);
    }
    fputs(
        "): these experts were drawn at random to fit a description, not chosen by a model.</p>\n",
        out);
}

static void put_cards(const struct report *r, FILE *out)
{
    const char *begin = "<ul class=\"cards\">\n", *end = "";
    for (size_t i = 0; i < r->n_tables; i++) {
        if (!is_ranked(&r->tables[i]))
            continue;
        fputs(begin, out);
        put_card(r, i, out);
        begin = "";
        end = "</ul>\n";
    }
    fputs(end, out);
}

void report_put_summary(const struct report *r, FILE *out)
{
    fputs("<section id=\"summary\">\n<h2>Summary</h2>\n", out);
    put_banner(r, out);
    put_cards(r, out);
    put_others(r, out);
    fputs(r->n_tables ? "" : "<p>The folder holds no tables.</p>\n", out);
    fputs("</section>\n", out);
}
