/* Where the experts lie in host memory, and how they are copied to a device. On the device, in a
 * slot, an expert is packed: w1, w3, w2 one behind the other, each at a multiple of 256 bytes. */
#ifndef MOELAB_EXEC_EXPERT_STORE_H
#define MOELAB_EXEC_EXPERT_STORE_H

#include "base/progress.h"
#include "exec/device.h"

/* Where w1, w3 and w2 lie in a packed expert. The same for all experts of a model: their matrices
 * have one shape and dtype (checked by moe_expert_store_new). */
struct moe_expert_layout {
    struct moe_matrix w1, w3, w2; /* data NULL */
    uint64_t at_w3, at_w2;        /* bytes from the start; w1 is at 0 */
    uint64_t bytes;               /* of the whole, a multiple of 256 */
};

/* Errors: MOE_ERR_UNSUPPORTED when the experts differ in dtype or shape (says which). */
enum moe_status moe_expert_layout_of(const struct moe_llm *llm, struct moe_expert_layout *out,
                                     struct moe_err *err);

/* The matrices of a packed expert at `slot`, an address on the host or on a device. */
struct moe_expert_weights moe_expert_layout_at(const struct moe_expert_layout *layout,
                                               const void *slot);

/* Copies bytes [at, at + n) of the packed image of an expert to host memory, wherever its matrices
 * lie; the gaps between matrices are zeros. */
void moe_expert_layout_read(const struct moe_expert_layout *layout,
                            const struct moe_expert_weights *expert, uint64_t at, uint64_t n,
                            void *to);

/* Do the matrices of the expert already lie in memory as in a packed one? */
bool moe_expert_layout_packed(const struct moe_expert_layout *layout,
                              const struct moe_expert_weights *expert);

enum moe_store_kind {
    MOE_STORE_AUTO,   /* pinned if all experts fit, else ring, else pageable */
    MOE_STORE_PINNED, /* every expert packed in pinned memory: one copy moves it */
    MOE_STORE_RING, /* experts stay in the mapped model, staged through a ring of pinned buffers */
    MOE_STORE_PAGEABLE, /* experts stay in the mapped model and are copied from there */
};
#define MOE_STORE_CHOICES "auto|pinned|ring|pageable"

struct moe_store_options {
    enum moe_store_kind kind;
    uint64_t pinned_bytes; /* most pinned memory to take, never more than the system allows; 0: what
                              it allows less a reserve of a tenth */
    uint32_t threads; /* threads that pack experts at the start; 0: all cores. A ring is filled by
                         half as many, 1 to 4 */
};

struct moe_expert_store; /* opaque */

/* A model that already lies packed in pinned memory of this device (llm->pinned_on;
 * exec/synthetic.h) is used in place by auto and pinned. Otherwise pinned packs all experts,
 * dropping the pages of the mapped model as it goes. progress (may be NULL; begun by the caller)
 * counts experts packed, of L x E. llm and device must outlive the store. Errors: MOE_ERR_MEMORY
 * when there is no memory for a kind asked for by name: says how much it takes, what is allowed and
 * by which limit (available memory, cgroup, ulimit -l), and what to choose instead;
 * MOE_ERR_INTERRUPTED. */
enum moe_status moe_expert_store_new(struct moe_expert_store **out, struct moe_device *device,
                                     const struct moe_llm *llm,
                                     const struct moe_store_options *options,
                                     struct moe_progress *progress, struct moe_err *err);

/* NULL: no-op. The caller has waited until all queued copies have landed. */
void moe_expert_store_free(struct moe_expert_store *store);

enum moe_store_kind moe_expert_store_kind(const struct moe_expert_store *store); /* never AUTO */

/* One line for results, e.g. "ring of 4 x 32 MiB: the experts' 84.0 GiB exceed the 20.1 GiB that
 * may be pinned (cgroup)". */
const char *moe_expert_store_note(const struct moe_expert_store *store);
const struct moe_expert_layout *moe_expert_store_layout(const struct moe_expert_store *store);

/* The expert's weights in host memory, for the CPU to compute with. */
const struct moe_expert_weights *moe_expert_store_host(const struct moe_expert_store *store,
                                                       uint32_t layer, uint32_t expert);

/* Queues the copies of the expert into `slot` (device memory) on MOE_STREAM_EXPERTS. pageable: as
 * from pageable memory, whatever the store's kind. Only the thread that owns that stream may call;
 * with a ring the call returns when the last part is staged. */
void moe_expert_store_copy(struct moe_expert_store *store, uint32_t layer, uint32_t expert,
                           void *slot, bool pageable);

#endif
