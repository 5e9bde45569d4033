#include "traces/source.h"

#include "traces/hdf5.h"
#include "traces/import.h"
#include "traces/synth.h"

#include <string.h>

static const struct moe_format *prefix_format(const char *name, const char **rest)
{
    for (const struct moe_format *f = moe_formats; f->name; f++) {
        size_t n = strlen(f->name);
        if (strncmp(name, f->name, n) == 0 && name[n] == ':') {
            *rest = name + n + 1;
            return f;
        }
    }
    return NULL;
}

int moe_trace_name_is_file(const char *name)
{
    const char *rest;
    return strncmp(name, "synth:", 6) != 0 && !prefix_format(name, &rest);
}

enum moe_status moe_trace_from_name(const char *name, unsigned want, const struct moe_model *model,
                                    struct moe_trace *out, struct moe_err *err)
{
    const char *rest;
    if (strncmp(name, "synth:", 6) == 0)
        return moe_synth_make_for(name + 6, model, out, err);
    const struct moe_format *format = prefix_format(name, &rest);
    if (!format)
        return moe_trace_load(name, want, out, err);
    struct moe_import_options options = {.model = model};
    return format->import(rest, &options, out, err);
}
