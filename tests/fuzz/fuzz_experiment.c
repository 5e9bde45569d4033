/* Experiment files: whatever the bytes, an experiment that loads has points that name all they
 * need.
 */
#include "sim/experiment.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct moe_experiment *x)
{
    if (strchr(x->name, '/') || x->n_points > MOE_MAX_POINTS || x->n_plots > MOE_MAX_PLOTS)
        abort();
    for (size_t i = 0; i < x->n_points; i++) {
        const struct moe_point *p = &x->points[i];
        if (!p->trace || !p->strategy)
            abort();
        if (x->kind == MOE_EXPERIMENT_SIM && (!p->model || !p->platform))
            abort();
        for (size_t k = 0; k < p->n_settings; k++)
            if (!p->settings[k].key || !p->settings[k].value)
                abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_experiment x;
    struct moe_yaml *root;
    struct moe_err err;
    if (moe_yaml_parse("fuzz", data, size, &root, &err) != MOE_OK)
        return 0;
    if (moe_experiment_from_yaml(root, &x, &err) == MOE_OK) {
        check(&x);
        moe_experiment_release(&x);
    }
    moe_yaml_free(root);
    return 0;
}
