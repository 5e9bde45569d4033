#include "base/html.h"
#include "base/numbers.h"
#include "cli/report.h"

#include <inttypes.h>

/* The timeline in words and numbers, for readers without the drawing. */
static void put_tracks(const struct report_timeline *timeline, size_t index, FILE *out)
{
    const struct moe_chrome_trace *t = &timeline->trace;
    fprintf(out,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
            "aria-labelledby=\"timeline-%zu-title\">\n"
            "<table class=\"sortable\"><caption>Tracks of ",
            index + 1);
    moe_html_text(timeline->file, out);
    fputs("</caption>\n<thead><tr><th scope=\"col\">track</th>"
          "<th scope=\"col\" class=\"n\">operations</th>"
          "<th scope=\"col\" class=\"n\">time in them <span class=\"unit\">ms</span></th>"
          "<th scope=\"col\" class=\"n\">of the whole <span class=\"unit\">%</span></th>"
          "</tr></thead>\n<tbody>\n",
          out);
    for (size_t i = 0; i < t->n_tracks; i++) {
        const struct moe_chrome_track *track = &t->tracks[i];
        fputs("<tr><td>", out);
        moe_html_text(track->name, out);
        fprintf(out,
                "</td><td class=\"n\">%" PRIu64 "</td><td class=\"n\">%.3f</td>"
                "<td class=\"n\">%.1f</td></tr>\n",
                track->n_events, (double)track->busy_ns * 1e-6,
                moe_percent(track->busy_ns, t->end_ns));
    }
    fputs("</tbody></table>\n</div>\n", out);
}

static void put_words(const char *key, char *const *words, size_t n, FILE *out)
{
    fprintf(out, "\"%s\":[", key);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? "," : "", out);
        moe_html_json_text(words[i], out);
    }
    fputs("],\n", out);
}

/* Eight numbers an operation, times in ns; plots/report/timeline.js reads them. */
static void put_data(const struct moe_chrome_trace *t, FILE *out)
{
    fputs("<script type=\"application/json\">{\"tracks\":[", out);
    for (size_t i = 0; i < t->n_tracks; i++) {
        fputs(i ? "," : "", out);
        moe_html_json_text(t->tracks[i].name, out);
    }
    fputs("],\n", out);
    put_words("words", t->words, t->n_words, out);
    fputs("\"events\":[", out);
    for (size_t i = 0; i < t->n_events; i++) {
        const struct moe_chrome_event *e = &t->events[i];
        fprintf(out,
                "%s%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu64 ",%" PRIu64 ",%" PRId32 ",%" PRId32
                ",%" PRId32,
                i ? ",\n" : "\n", e->track, e->name, e->cause, e->start_ns, e->length_ns, e->layer,
                e->expert, e->slot);
    }
    fputs("]}</script>\n", out);
}

void report_put_timeline(const struct report *r, size_t index, FILE *out)
{
    const struct report_timeline *timeline = &r->timelines[index];
    const struct moe_chrome_trace *t = &timeline->trace;
    fprintf(out, "<section id=\"timeline-%zu\">\n<h3 id=\"timeline-%zu-title\">", index + 1,
            index + 1);
    moe_html_text(*t->title ? t->title : timeline->file, out);
    fprintf(out, "</h3>\n<p>%" PRIu64 " operation%s in %.3f&nbsp;ms. ", t->n_all,
            moe_plural(t->n_all), (double)t->end_ns * 1e-6);
    if (t->n_events < t->n_all)
        fprintf(out, "<b>Cut: the first %zu are drawn</b> (option --max-events). ", t->n_events);
    if (t->dropped)
        fprintf(out, "The file says that %" PRIu64 " more were not written. ", t->dropped);
    fputs("The whole file <code>", out);
    moe_html_text(timeline->file, out);
    fputs("</code> opens in <a href=\"https://ui.perfetto.dev/\" rel=\"noreferrer\">"
          "ui.perfetto.dev</a>.</p>\n<div class=\"timeline\">\n",
          out);
    put_data(t, out);
    fputs("</div>\n", out);
    put_tracks(timeline, index, out);
    fputs("</section>\n", out);
}
