#include "cli/traced.h"

#include "cli/inference.h"
#include "exec/hybrid.h"
#include "traces/source.h"
#include "traces/trace_layers.h"

#include <inttypes.h>
#include <stdio.h>

enum { WEIGHT_SEED = 1 }; /* of made weights: their values change no time */

enum moe_status cli_traced_check(const struct cli_traced_options *o, const char *model,
                                 struct moe_err *err)
{
    if (*model && *o->shape)
        return moe_fail(err, MOE_ERR_USAGE,
                        "--model and --shape exclude each other: real weights, or weights made in "
                        "memory");
    if (!*model && !*o->shape)
        return moe_fail(err, MOE_ERR_USAGE,
                        "a trace needs --model FOLDER or --shape NAME to run on");
    if (!*o->shape && (o->layers || o->buffers))
        return moe_fail(err, MOE_ERR_USAGE, "--%s needs --shape", o->layers ? "layers" : "buffers");
    return MOE_OK;
}

/* Opens the trace. `model` is the whole shape, not the one cut to fewer layers, since a trace
 * generator makes all layers. */
static enum moe_status open_trace(struct cli_traced *t, const struct cli_traced_options *o,
                                  const struct moe_model *model, unsigned parts,
                                  struct moe_err *err)
{
    enum moe_status s =
        moe_trace_from_name(o->trace, parts | MOE_HAS_WEIGHT, model, &t->trace, err);
    if (!s && o->layers && o->layers < t->trace.info.n_layers)
        s = moe_trace_keep_layers(&t->trace, (uint32_t)o->layers, err);
    return s;
}

static enum moe_status open_model(struct cli_traced *t, const struct cli_traced_options *o,
                                  const char *model, unsigned parts, struct moe_err *err)
{
    char folder[CLI_PATH_MAX];
    enum moe_status s = cli_open_llm(model, true, folder, sizeof folder, &t->opened, err);
    if (s)
        return s;
    t->llm = t->opened;
    moe_llm_shape(t->llm, &t->shape);
    return open_trace(t, o, &t->shape, parts, err);
}

/* Opens or makes the model, after the trace: weights may be large, and are not made for a trace of
 * another model. */
static enum moe_status make_model(struct cli_traced *t, const struct cli_traced_options *o,
                                  unsigned parts, struct moe_device *device, struct moe_err *err)
{
    struct moe_model shape, cut;
    struct moe_synthetic_options options = {
        .layers = (uint32_t)o->layers, .buffers = (uint32_t)o->buffers, .seed = WEIGHT_SEED};
    enum moe_status s = cli_load_model(o->shape, &shape, err);
    if (!s)
        s = open_trace(t, o, &shape, parts, err);
    if (!s)
        cut = shape;
    if (!s && o->layers && o->layers < shape.n_layers)
        cut.n_layers = o->layers;
    if (!s)
        s = moe_model_check_trace(&cut, &t->trace.info, err);
    if (!s)
        s = moe_synthetic_new(&t->synthetic, &shape, device, &options, err);
    if (s)
        return s;
    t->llm = moe_synthetic_llm(t->synthetic);
    moe_llm_shape(t->llm, &t->shape);
    return MOE_OK;
}

enum moe_status cli_traced_open(struct cli_traced *out, const struct cli_traced_options *o,
                                const char *model, unsigned parts, struct moe_device *device,
                                struct moe_err *err)
{
    struct cli_traced t = {0};
    enum moe_status s =
        *model ? open_model(&t, o, model, parts, err) : make_model(&t, o, parts, device, err);
    if (s) {
        cli_traced_close(&t);
        return s;
    }
    *out = t;
    return MOE_OK;
}

void cli_traced_close(struct cli_traced *t)
{
    moe_trace_release(&t->trace);
    moe_synthetic_free(t->synthetic);
    moe_llm_close(t->opened);
    *t = (struct cli_traced){0};
}

const char *cli_traced_weights(const struct cli_traced *t, char *buf, size_t size)
{
    if (t->synthetic)
        snprintf(
            buf, size, "SYNTHETIC, made in memory: %" PRIu32 " buffer%s for %" PRIu64 " experts",
            moe_synthetic_buffers(t->synthetic), moe_plural(moe_synthetic_buffers(t->synthetic)),
            t->shape.n_layers * t->shape.n_experts);
    else
        snprintf(buf, size, "the model's own");
    return buf;
}

void cli_traced_note(const struct cli_traced *t, const struct cli_traced_options *o,
                     struct moe_table *table)
{
    char weights[128];
    cli_note_trace(table, o->trace, &t->trace.info);
    moe_table_note(table, "trace_note", "%s", t->trace.info.note);
    moe_table_note(table, "model", "%s, %" PRIu64 " layer%s", t->shape.name, t->shape.n_layers,
                   moe_plural(t->shape.n_layers));
    moe_table_note(table, "weights", "%s", cli_traced_weights(t, weights, sizeof weights));
}
