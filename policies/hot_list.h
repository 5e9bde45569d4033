/* Hot lists: the experts of a model in rank order, the most important first.
 *
 * Text: lines `# key: value` (where the list comes from: trace, sequences, date), one header line
 * `layer<TAB>expert`, or `layer<TAB>expert<TAB>uses`, then one line for each expert, in rank order.
 * `uses` is only for people to read, but must be a whole number. Experts that are not listed have
 * no rank. `moelab trace stats --hot-list` writes such files. The note `trace_model` says whose
 * experts they are: a list of a model of another shape is refused. */
#ifndef MOELAB_POLICIES_HOT_LIST_H
#define MOELAB_POLICIES_HOT_LIST_H

#include "policies/future.h"
#include "policies/policy.h"

/* Reads the text of a list for a model of L layers and E experts into keys [L * E], rank order, and
 * their number into *n. Errors, MOE_ERR_INPUT with "'name':line: " in front: another
 * model's shape in `trace_model`, another header, a layer or expert that the model does not have,
 * an expert twice, a line cut short. */
enum moe_status moe_hot_list_parse(const char *name, const char *text, size_t size,
                                   uint32_t n_layers, uint32_t n_experts, moe_key *keys,
                                   uint32_t *n, struct moe_err *err);

/* Ranks all experts of a trace by their uses (each token's choice counts one) by tokens of `phases`
 * in the sequences chosen: chosen [n_sequences] by sequence, or NULL for all. Out: keys [L * E] by
 * falling uses, ties by layer, then expert; uses [L * E] by key. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_hot_list_fit(const struct moe_trace *trace, const uint8_t *chosen,
                                 enum moe_phases phases, moe_key *keys, uint64_t *uses,
                                 struct moe_err *err);

/* For a policy's `initial`: the list of the file at `path`, whose content may be in env->file; or,
 * where path is "", expert 0 of every layer, then expert 1 of every layer, and so on, so that a
 * pool of several layers gets as many of each. keys [L * E]. Errors: those of moe_hot_list_parse;
 * MOE_ERR_IO, MOE_ERR_MEMORY. */
enum moe_status moe_hot_list_or_all(const struct moe_policy_env *env, const char *path,
                                    moe_key *keys, uint32_t *n, struct moe_err *err);

#endif
