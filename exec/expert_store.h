/* The experts' home in host memory, and their way to a device. An expert that travels is packed:
 * w1, w3, w2 one behind the other, each at a multiple of 256 bytes, as it lies in a slot. */
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

/* Bytes [at, at + n) of the packed image of an expert, wherever its matrices lie, to host memory;
 * zero between them. */
void moe_expert_layout_read(const struct moe_expert_layout *layout,
                            const struct moe_expert_weights *expert, uint64_t at, uint64_t n,
                            void *to);

/* The matrices lie to one another as in a packed expert. */
bool moe_expert_layout_packed(const struct moe_expert_layout *layout,
                              const struct moe_expert_weights *expert);

enum moe_store_kind {
    MOE_STORE_AUTO,     /* pinned where everything fits, else ring, else pageable */
    MOE_STORE_PINNED,   /* every expert packed in pinned memory: one copy moves it */
    MOE_STORE_RING,     /* where the model is mapped; staged through a ring of pinned buffers */
    MOE_STORE_PAGEABLE, /* where the model is mapped; copied from there */
};
#define MOE_STORE_CHOICES "auto|pinned|ring|pageable"

struct moe_store_options {
    enum moe_store_kind kind;
    uint64_t pinned_bytes; /* most pinned memory to take, never more than the system allows; 0: what
                              it allows but for a reserve of a tenth of that */
    uint32_t threads;      /* that pack experts at the start; 0: all cores. A ring is filled by half
                              as many, 1 to 4 */
};

struct moe_expert_store; /* opaque */

/* A model that is packed and pinned on this device already (llm->pinned_on; exec/synthetic.h) stays
 * where it is for auto and pinned. Packing drops the pages of the mapped model behind it. progress
 * (may be NULL; begun by the caller) counts experts packed, of L x E. Errors: MOE_ERR_MEMORY when a
 * kind asked for by name cannot be had: how much it takes, what is allowed and by which limit
 * (available memory, cgroup, ulimit -l), and what to choose instead; MOE_ERR_INTERRUPTED. llm and
 * device outlive the store. */
enum moe_status moe_expert_store_new(struct moe_expert_store **out, struct moe_device *device,
                                     const struct moe_llm *llm,
                                     const struct moe_store_options *options,
                                     struct moe_progress *progress, struct moe_err *err);

/* NULL: no-op. The copies that were queued have landed: the caller has waited for them. */
void moe_expert_store_free(struct moe_expert_store *store);

enum moe_store_kind moe_expert_store_kind(const struct moe_expert_store *store); /* never AUTO */

/* One line for results, e.g. "ring of 4 x 32 MiB: the experts' 84.0 GiB exceed the 20.1 GiB that
 * may be pinned (cgroup)". */
const char *moe_expert_store_note(const struct moe_expert_store *store);
const struct moe_expert_layout *moe_expert_store_layout(const struct moe_expert_store *store);

/* Where the CPU reads the expert. */
const struct moe_expert_weights *moe_expert_store_host(const struct moe_expert_store *store,
                                                       uint32_t layer, uint32_t expert);

/* Queues the copies of the expert into `slot` (device memory) on MOE_STREAM_EXPERTS. pageable: as
 * from pageable memory, whatever the store is. Only one thread may call, the one that owns that
 * stream; a ring keeps it until the last part is staged. */
void moe_expert_store_copy(struct moe_expert_store *store, uint32_t layer, uint32_t expert,
                           void *slot, bool pageable);

#endif
