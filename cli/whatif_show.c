#include "cli/whatif_show.h"

#include "policies/result_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

void cli_whatif_title(const struct cli_whatif_view *p, char *buf, size_t size)
{
    const struct moe_strategy *strategy = p->spec->strategy[MOE_WHATIF_STRATEGY];
    snprintf(buf, size, "What if? %s, %s, %s%s", p->spec->model->name, p->spec->platform->name,
             strategy->name, cli_lossy_mark(strategy));
}

/* --- table ---------------------------------------------------------------------------------- */

static void add_row(const struct cli_whatif_view *p, size_t i, int line, struct moe_table *table)
{
    static const char *const lines[] = {"strategy", "cpu-only", "on-demand"};
    const struct moe_whatif_value *v = &p->whatif->value[i];
    const struct moe_whatif_row *row = &p->whatif->row[i][line];
    moe_table_row(table);
    moe_table_text(table, "axis", p->whatif->axis[v->axis].name);
    moe_table_text(table, "value", v->text);
    moe_table_text(table, "own", v->own ? "yes" : "no");
    moe_table_text(table, "line", lines[line]);
    moe_table_text(table, "status", row->failed.status ? row->failed.text : "ok");
    moe_result_labels(table, &p->spec->trace->info, &v->model, v->platform.name, &row->strategy);
    if (!row->failed.status)
        moe_result_cells(table, &row->result);
    moe_table_text(table, "title", p->whatif->axis[v->axis].title);
    moe_table_f64(table, "x", v->x);
    moe_table_text(table, "x_unit", p->whatif->axis[v->axis].unit);
    moe_table_text(table, "beyond_measured_cores", v->beyond ? "yes" : "no");
}

struct moe_table *cli_whatif_table(const struct cli_whatif_view *p)
{
    const bool lossy = moe_strategy_is_lossy(p->spec->strategy[MOE_WHATIF_STRATEGY]);
    char key[40], title[256];
    cli_whatif_title(p, title, sizeof title);
    struct moe_table *table = cli_table_new(p->call);
    moe_table_note(table, "title", "%s", title);
    moe_table_note(table, "lossy", "%s", lossy ? "yes" : "no");
    cli_note_trace(table, p->call->args[0], &p->spec->trace->info);
    for (int a = 0; a < MOE_WHATIF_AXES; a++) {
        snprintf(key, sizeof key, "axis_%s", p->whatif->axis[a].name);
        if (*p->whatif->axis[a].title)
            moe_table_note(table, key, "%s", p->whatif->axis[a].note);
    }
    moe_table_note(
        table, "geometry",
        "the fastest of those tried at each value on this trace: N x M, as large as fit");
    moe_table_note(table, "bound", "of all slots that fit, whatever the row's geometry");
    moe_table_note(table, "simulations", "%" PRIu64, p->whatif->simulations);
    for (size_t i = 0; i < p->whatif->n; i++)
        for (int line = 0; line < MOE_WHATIF_LINES; line++)
            add_row(p, i, line, table);
    return table;
}

/* --- words ---------------------------------------------------------------------------------- */

/* A step from what the platform has. */
struct step {
    enum moe_whatif_axis axis;
    size_t to;    /* index of the value; SIZE_MAX: there is no such step */
    double ratio; /* of tokens/s; NaN: one of the two cannot run */
};

static size_t own_value(const struct moe_whatif *w, enum moe_whatif_axis axis)
{
    size_t i = 0;
    while (i < w->n && !(w->value[i].axis == axis && w->value[i].own))
        i++;
    return i;
}

static double speed(const struct moe_whatif *w, size_t value)
{
    const struct moe_whatif_row *row = &w->row[value][MOE_WHATIF_STRATEGY];
    return row->failed.status ? NAN : row->result.tokens_per_s;
}

static struct step step_of(const struct moe_whatif *w, enum moe_whatif_axis axis, int direction)
{
    struct step step = {axis, moe_whatif_step(w, axis, direction), NAN};
    if (step.to != SIZE_MAX)
        step.ratio = speed(w, step.to) / speed(w, own_value(w, axis));
    return step;
}

/* Sorts steps by falling gain; steps that do not exist, or whose gain is unknown, come last. */
static void rank(const struct moe_whatif *w, struct step *steps)
{
    for (int a = 0; a < MOE_WHATIF_AXES; a++) {
        const struct step step = step_of(w, (enum moe_whatif_axis)a, 1);
        int at = a;
        for (; at > 0 && step.ratio > (isnan(steps[at - 1].ratio) ? -1 : steps[at - 1].ratio); at--)
            steps[at] = steps[at - 1];
        steps[at] = step;
    }
}

static const char *gain(double ratio, char *buf, size_t size)
{
    if (isnan(ratio))
        snprintf(buf, size, "-");
    else
        snprintf(buf, size, "%+.1f %%", 100 * (ratio - 1));
    return buf;
}

static void tell_now(const struct cli_whatif_view *p, FILE *out)
{
    const struct moe_whatif *w = p->whatif;
    const struct moe_whatif_row *row = w->row[own_value(w, MOE_WHATIF_DRAM)]; /* of any axis */
    const struct moe_whatif_row *chosen = &row[MOE_WHATIF_STRATEGY];
    fprintf(out, "%s%s, %s, %s%s: ", p->spec->trace->info.synthetic ? "SYNTHETIC routing; " : "",
            p->spec->model->name, p->spec->platform->name, chosen->strategy.name,
            cli_lossy_mark(&chosen->strategy));
    if (chosen->failed.status)
        fprintf(out, "cannot run: %s", chosen->failed.text);
    else
        fprintf(out, "%.4g tokens/s with %s", chosen->result.tokens_per_s,
                chosen->strategy.geometry);
    if (!chosen->failed.status && !isnan(chosen->result.bound_share))
        fprintf(out, ", %.1f %% of the bound", 100 * chosen->result.bound_share);
    fprintf(out, "\n");
    fprintf(out, "beside it:");
    for (int line = MOE_WHATIF_CPU_ONLY; line < MOE_WHATIF_LINES; line++) {
        fprintf(out, "%s %s ", line == MOE_WHATIF_CPU_ONLY ? "" : ",", row[line].strategy.name);
        if (row[line].failed.status)
            fprintf(out, "cannot run");
        else
            fprintf(out, "%.4g tokens/s", row[line].result.tokens_per_s);
    }
    fprintf(out, "\n");
}

static void tell_verdict(const struct moe_whatif *w, const struct step *steps, FILE *out)
{
    enum { WORTH_PERCENT = 5 };
    const struct moe_whatif_value *v = w->value;
    const double most = steps[0].ratio;
    char text[32];
    if (isnan(most))
        fprintf(out, "no gain can be told: what is there cannot run, or nothing beside it\n");
    else if (100 * (most - 1) < WORTH_PERCENT)
        fprintf(out, "change nothing: no single step gains %d %%\n", WORTH_PERCENT);
    else
        fprintf(out, "largest gain from one step: %s %s -> %s, %s\n", w->axis[steps[0].axis].title,
                v[own_value(w, steps[0].axis)].text, v[steps[0].to].text,
                gain(most, text, sizeof text));
}

/* "4.0 -> 5.0"; × takes two bytes and one column. */
static void put_step(const struct moe_whatif *w, const struct step *step, FILE *out)
{
    char text[2 * MOE_WHATIF_VALUE_TEXT + 8] = "-";
    int more = 0;
    if (step->to != SIZE_MAX)
        snprintf(text, sizeof text, "%s -> %s", w->value[own_value(w, step->axis)].text,
                 w->value[step->to].text);
    for (const char *c = text; *c; c++)
        more += (*c & 0xC0) == 0x80;
    fprintf(out, "%*s", 14 + more, text);
}

static void tell_step(const struct moe_whatif *w, const struct step *up, FILE *out)
{
    const struct step down = step_of(w, up->axis, -1);
    char text[32];
    fprintf(out, "  %-28s", w->axis[up->axis].title);
    put_step(w, up, out);
    fprintf(out, "%10s", gain(up->ratio, text, sizeof text));
    if (up->to == SIZE_MAX || w->row[up->to][MOE_WHATIF_STRATEGY].failed.status)
        fprintf(out, "%12s  %-12s", "-", "-");
    else
        fprintf(out, "%12.4g  %-12s", speed(w, up->to),
                w->row[up->to][MOE_WHATIF_STRATEGY].strategy.geometry);
    put_step(w, &down, out);
    fprintf(out, "%10s\n", gain(down.ratio, text, sizeof text));
}

void cli_whatif_tell(const struct cli_whatif_view *p, FILE *out)
{
    const struct moe_whatif *w = p->whatif;
    struct step steps[MOE_WHATIF_AXES];
    rank(w, steps);
    tell_now(p, out);
    tell_verdict(w, steps, out);
    fprintf(out, "  %-28s%14s%10s%12s  %-12s%14s%10s\n", "", "one step more", "gain", "tokens/s",
            "with", "one step less", "gain");
    bool loses = false;
    for (int a = 0; a < MOE_WHATIF_AXES; a++) {
        if (*w->axis[steps[a].axis].title)
            tell_step(w, &steps[a], out);
        loses = loses || steps[a].ratio < 1;
    }
    if (loses)
        fprintf(out, "a better part makes it slower where the strategy's rules do not suit it, as "
                     "copies take bandwidth of the DRAM from the CPU; see `moelab tune`\n");
    for (int a = 0; a < MOE_WHATIF_AXES; a++)
        if (*w->axis[a].title)
            fprintf(out, "%s: %s\n", w->axis[a].name, w->axis[a].note);
}
