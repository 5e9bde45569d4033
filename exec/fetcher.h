/* The fetcher copies experts to the device: a thread that makes one copy at a time, the most
 * urgent first, and never into a slot that is still being read or written. (The simulator's
 * link does the same: sim/engine.h.) Inside exec only. */
#ifndef MOELAB_EXEC_FETCHER_H
#define MOELAB_EXEC_FETCHER_H

#include "exec/expert_store.h"
#include "exec/shared.h"
#include "policies/machine.h"

/* A use of a buffer by a kernel. */
struct moe_use {
    bool submitted; /* the kernel is queued on its stream, and `end` is recorded behind it */
    struct moe_event *end;
};

/* A slot, or a staging buffer. */
struct moe_buffer {
    void *memory;                /* on the device */
    uint64_t n_queued, n_landed; /* copies into it */
    const struct moe_use *use;   /* the last use in this step; NULL: none */
    uint32_t layer;              /* with `expert`: what the last queued copy brings */
    moe_expert expert;
};

struct moe_fetch_job {
    struct moe_fetch what;
    struct moe_buffer *buffer;
    const struct moe_use *use; /* the buffer's use when the job was queued, which must end first */
    uint64_t ordinal;          /* number of this copy among those into the buffer, from 1 */
    uint64_t start_ns, end_ns; /* moe_clock_ns(), of a landed job */
};

struct moe_fetcher; /* opaque */

enum moe_status moe_fetcher_new(struct moe_fetcher **out, struct moe_shared *shared,
                                struct moe_device *device, struct moe_expert_store *store,
                                struct moe_err *err);
void moe_fetcher_free(struct moe_fetcher *fetcher); /* copies that have not begun are dropped */

/* Everything below is called with shared->lock held. */

/* Queues a copy into buffer. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_fetcher_queue(struct moe_fetcher *fetcher, const struct moe_fetch *what,
                                  struct moe_buffer *buffer, struct moe_err *err);

/* Takes the last copy queued into buffer out of the queue; no kernel waits for it. false: it has
 * begun, or is not a prefetch. */
bool moe_fetcher_cancel(struct moe_fetcher *fetcher, struct moe_buffer *buffer);

/* Takes the next landed copy off the list; false: there is none. shared->host is signalled for each
 * copy that lands. */
bool moe_fetcher_landed(struct moe_fetcher *fetcher, struct moe_fetch_job *out);

/* The copy that is running now; false: none. */
bool moe_fetcher_running(const struct moe_fetcher *fetcher, struct moe_fetch_job *out);

/* Tells the fetcher that a kernel was submitted for which a copy may be waiting. */
void moe_fetcher_wake(struct moe_fetcher *fetcher);

/* All kernels of the step have ended: queued copies no longer wait for their events, which will be
 * reused. */
void moe_fetcher_forget_uses(struct moe_fetcher *fetcher);

#endif
