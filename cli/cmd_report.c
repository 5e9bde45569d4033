#include "base/file.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/report.h"

#include <stdio.h>

struct options {
    char output[CLI_PATH_MAX];
    char title[200];
    uint64_t max_rows, max_events;
};

static const struct moe_param options[] = {
    CLI_OPTION_FILE(struct options, output, "output", "report.html", "html|htm",
                    "the page, x.html; '-': standard output"),
    CLI_OPTION_NAME(struct options, title, "title", "", "heading (default: the folder's name)"),
    CLI_OPTION_U64(struct options, max_rows, "max_rows", "2000", 0, 1000000, "rows",
                   "rows shown of a table; the summary counts all"),
    CLI_OPTION_U64(struct options, max_events, "max_events", "20000", 0, 10000000, "operations",
                   "operations drawn of a timeline, from its start"),
    {0},
};

/* "report report.html: 3 tables, 2 plots, 1 timeline, 310.2 KiB" */
static void tell(const struct report *r, const char *path, uint64_t bytes)
{
    char size[40];
    printf("report %s: tables %zu, plots %zu, timelines %zu, texts %zu, left out %zu; %s\n", path,
           r->n_tables, r->n_plots, r->n_timelines, r->n_texts, r->n_omissions,
           moe_format_bytes(bytes, size, sizeof size));
}

static enum moe_status write_page(const struct report *r, const char *path, struct moe_err *err)
{
    struct moe_output out;
    enum moe_status s = moe_output_create(&out, path, err);
    if (s)
        return s;
    s = report_write(r, out.stream, err);
    long bytes = ftell(out.stream);
    bool told = out.temporary != NULL;
    s = moe_output_end(&out, s, err);
    if (!s && told && bytes > 0)
        tell(r, path, (uint64_t)bytes);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct report report;
    enum moe_status s = report_load(call->args[0], o->title, (size_t)o->max_rows,
                                    (size_t)o->max_events, &report, err);
    if (s)
        return s;
    s = write_page(&report, o->output, err);
    report_release(&report);
    return s;
}

const struct cli_command cli_report = {
    .name = "report",
    .usage = "FOLDER [options]",
    .summary = "a folder of results as one HTML page: summary, plots, tables, timelines",
    .description =
        "Reads *.tsv (tables of moelab), *.svg and *.png (a PNG if no SVG has its name), *.json\n"
        "that are timelines, and *.md (as they are), in FOLDER and the folders inside it (8\n"
        "deep; neither hidden ones nor links). The page is one file that loads nothing: tables\n"
        "that sort, timelines that zoom, light and dark, for large and small screens and for\n"
        "print. The same folder gives the same bytes. Limits: 500 files; 64 MiB a table, 8 MiB a\n"
        "picture, 256 MiB a timeline, 1 MiB a text. A broken table or timeline is an error; a\n"
        "picture that holds more than a drawing (scripts, references) is left out, and the page\n"
        "says so.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
