/* The strategies that the tuner searches: axes, and points that choose one value of each.
 *
 * A value is a list of strategy keys. Every registered policy, admission rule and prefetcher that
 * can do without the future, and whose parts the trace has, is a value with its defaults; the table
 * in tune_space.c adds further parameters. Policies that overwrite slots in use are left out.
 * Points that would be the same strategy are one (moe_tune_canonical). */
#ifndef MOELAB_SIM_TUNE_SPACE_H
#define MOELAB_SIM_TUNE_SPACE_H

#include "policies/strategy.h"
#include "traces/model.h"

enum moe_tune_axis {
    MOE_TUNE_GEOMETRY,
    MOE_TUNE_POLICY,
    MOE_TUNE_ADMISSION,
    MOE_TUNE_PREFETCHER,
    MOE_TUNE_DISPATCH,
    MOE_TUNE_THREADS,
    MOE_TUNE_PREFILL,
    MOE_TUNE_AXES
};

/* What a geometry can be used for. */
enum moe_tune_kind {
    MOE_TUNE_NO_SLOTS,
    MOE_TUNE_POOLS,   /* any policy */
    MOE_TUNE_UNIFORM, /* pools, N x M */
    MOE_TUNE_WHOLE,   /* every expert of some layers: nothing to replace */
};

struct moe_tune_value {
    char *keys; /* "key=value\nkey=value", heap */
    int kind;   /* geometries: enum moe_tune_kind; policies: 1: placement is fixed; admission: 1:
                   never; dispatch: enum moe_dispatch_miss */
};

struct moe_tune_values {
    uint32_t n;
    struct moe_tune_value *value;
};

struct moe_tune_point {
    uint16_t at[MOE_TUNE_AXES];
};

struct moe_tune_space {
    struct moe_tune_values axis[MOE_TUNE_AXES];
    uint32_t first_static, never; /* index of policy `static`; of admission `never` */
    struct moe_strategy base;     /* keys that no axis sets */
    /* Policy `static` with the list fitted on the training part, which is in no file yet. */
    struct moe_policy_ops fitted;
    const moe_key *hot; /* [L * E] rank order, not owned */
    uint32_t n_hot;
};

struct moe_tune_space_spec {
    const struct moe_strategy *base;
    const uint64_t *threads; /* [n_threads] worth trying, the most first */
    uint32_t n_threads;
    unsigned parts; /* of the trace: MOE_HAS_* */
    bool prompts;   /* the trace has some */
    const moe_key *hot;
    uint32_t n_hot;
};

/* Every axis but the geometries, of which there is only `none`. The space stays where it is.
 * Errors: MOE_ERR_MEMORY; then nothing needs releasing. */
enum moe_status moe_tune_space_init(struct moe_tune_space *space,
                                    const struct moe_tune_space_spec *spec, struct moe_err *err);
void moe_tune_space_release(struct moe_tune_space *space); /* also one that is all zero */

/* Adds a geometry unless it is there. *at (may be NULL): its index. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_tune_add_geometry(struct moe_tune_space *space, const char *text,
                                      enum moe_tune_kind kind, uint32_t *at, struct moe_err *err);

/* Adds the geometries with at most `slots` slots: N x M with N as large as it goes, one pool, whole
 * layers, everything. Those of unequal ways come from tune_ways.h. */
enum moe_status moe_tune_add_geometries(struct moe_tune_space *space, const struct moe_model *model,
                                        uint64_t slots, struct moe_err *err);

/* Combinations of all values, the same strategy counted as often as it occurs. */
uint64_t moe_tune_space_size(const struct moe_tune_space *space);

/* The n-th combination, n below that size. */
struct moe_tune_point moe_tune_point_at(const struct moe_tune_space *space, uint64_t n);

/* The point that stands for all that are the same strategy: axes without effect are at their first
 * value. */
struct moe_tune_point moe_tune_canonical(const struct moe_tune_space *space,
                                         struct moe_tune_point point);

uint64_t moe_tune_point_id(struct moe_tune_point point);

/* The strategy of a point. A fixed placement by list has the space's policy `fitted` in it, so the
 * space must outlive it. Errors: MOE_ERR_USAGE (a key's value: defect of the table, or of a base).
 */
enum moe_status moe_tune_strategy(const struct moe_tune_space *space, struct moe_tune_point point,
                                  struct moe_strategy *out, struct moe_err *err);

/* Does the strategy use the fitted list? */
bool moe_tune_is_fitted(const struct moe_tune_space *space, const struct moe_strategy *strategy);

/* Makes the strategy's policy `static` with the list in the file `list`, which a strategy file can
 * express. Errors: those of moe_strategy_set. */
enum moe_status moe_tune_name_list(struct moe_strategy *strategy, const char *list,
                                   struct moe_err *err);

#endif
