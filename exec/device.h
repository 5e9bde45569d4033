/* The device contract: memory, in-order streams, events, copies, and the few kernels that a model
 * needs. `host` runs everywhere and is the numeric oracle; `cuda` is the real one (exec/cuda/).
 *
 * Work is queued on a stream and runs in its order; streams run beside one another, ordered by
 * events alone. Calls that queue return at once and cannot fail: the first error of queued work is
 * kept by the device and reported by the next call that waits (sync, routes_wait). After an error
 * nothing that was computed may be used. Functions marked "any thread" may be called at the same
 * time as any other; of the rest, only one at a time. */
#ifndef MOELAB_EXEC_DEVICE_H
#define MOELAB_EXEC_DEVICE_H

#include "exec/activations.h"
#include "exec/llm.h"

enum moe_stream {
    MOE_STREAM_COMPUTE,
    MOE_STREAM_EXPERTS, /* expert weights, host to device */
    MOE_STREAM_DOWN,    /* activations, device to host */
    MOE_STREAM_UP,      /* activations, host to device */
    MOE_N_STREAMS
};

enum moe_memory {
    MOE_MEMORY_DEVICE,
    MOE_MEMORY_PINNED, /* host memory: copies to and from it run in the background, and kernels can
                          write a few words into it */
    MOE_MEMORY_PAGEABLE, /* any other host memory; not allocated here */
};

struct moe_device; /* see below */
struct moe_event;  /* opaque, with the semantics of CUDA's: `record` marks a place in a stream, to
                      which done, sync and wait refer until the next `record`. One that was never
                      recorded is done. */

/* Where the routes of a layer arrive on the host: pinned memory. */
struct moe_route_box {
    moe_expert *expert;   /* [T, K] */
    float *weight;        /* [T, K] */
    float *score, *ahead; /* [T, E]; NULL: not wanted */
    uint64_t *flag;       /* set to `ticket` after all else is written */
    uint64_t ticket;      /* increases with every use of the box */
};

/* Dense part of a layer on a->n tokens: norm, attention over the KV cache, norm, router, routes;
 * then a->count, first, row and the gathered a->ffn_x. All pointers but box are device memory; the
 * structs themselves are read during the call. */
struct moe_attend_job {
    const struct moe_llm_config *config;
    const struct moe_llm_layer *layer;    /* its experts are not used */
    const struct moe_matrix *next_router; /* the next layer's, for box.ahead; NULL: none */
    float *keys, *values;                 /* [KV, context, hd] of this layer, float32 */
    uint32_t context;
    const struct moe_activations *a;
    const moe_expert *forced;   /* [T, K] replaces the router's choice, or NULL */
    const float *forced_weight; /* [T, K] if forced is not NULL */
    struct moe_route_box box;
};

/* y = (silu(x w1^T) * (x w3^T)) w2^T for rows [row, row + n_tokens) of a->ffn_x, into a->ffn_y. */
struct moe_expert_job {
    const struct moe_expert_weights *weights; /* device addresses */
    uint32_t row, n_tokens;
    const struct moe_activations *a;
};

/* a->x += the sum of a->weight times a->ffn_y over the choices of each token, in gate order. */
struct moe_combine_job {
    const struct moe_llm_config *config;
    const struct moe_activations *a;
};

/* logits[V] of the pass's last token. */
struct moe_head_job {
    const struct moe_llm_config *config;
    const struct moe_norm *norm;
    const struct moe_matrix *head;
    const float *bias; /* [V] or NULL */
    const struct moe_activations *a;
    float *logits; /* device */
};

struct moe_device_ops {
    const char *name;                         /* "host", "cuda" */
    void (*close)(struct moe_device *device); /* waits for what is queued */

    /* Errors: MOE_ERR_MEMORY naming kind, size and what is free or allowed (pinned: also the limit
     * that was reached, e.g. `ulimit -l` or the cgroup's). Contents are undefined. */
    enum moe_status (*alloc)(struct moe_device *device, enum moe_memory kind, uint64_t bytes,
                             void **out, struct moe_err *err);
    void (*release)(struct moe_device *device, enum moe_memory kind,
                    void *memory);                     /* NULL: no-op */
    uint64_t (*free_bytes)(struct moe_device *device); /* device memory that is free now */

    enum moe_status (*event_new)(struct moe_device *device, struct moe_event **out,
                                 struct moe_err *err);
    void (*event_free)(struct moe_device *device, struct moe_event *event);
    /* Any thread, one thread a stream; an event is recorded by one thread at a time. */
    void (*record)(struct moe_device *device, enum moe_stream stream, struct moe_event *event);
    void (*wait)(struct moe_device *device, enum moe_stream stream, struct moe_event *event);
    bool (*done)(struct moe_device *device, struct moe_event *event); /* any thread */
    enum moe_status (*sync)(struct moe_device *device, struct moe_event *event,
                            struct moe_err *err); /* any thread; the host waits */
    /* When the event was reached, on the clock of moe_clock_ns(); only after done or sync. Any
     * thread. */
    uint64_t (*event_ns)(struct moe_device *device, struct moe_event *event);

    /* Any thread, one thread a stream. `host` is the kind of memory on the host's side; a copy from
     * or to pageable memory may block the caller until it has landed. MOE_MEMORY_DEVICE: both sides
     * are device memory and do not overlap (2 x bytes of memory traffic: each byte is read and
     * written). */
    void (*copy)(struct moe_device *device, enum moe_stream stream, void *to, const void *from,
                 uint64_t bytes, enum moe_memory host);

    /* Kernels, on MOE_STREAM_COMPUTE. */
    void (*attend)(struct moe_device *device, const struct moe_attend_job *job);
    void (*expert)(struct moe_device *device, const struct moe_expert_job *job);
    void (*combine)(struct moe_device *device, const struct moe_combine_job *job);
    void (*head)(struct moe_device *device, const struct moe_head_job *job);

    /* Waits until box.flag holds at least box.ticket, without waiting for anything else. */
    enum moe_status (*routes_wait)(struct moe_device *device, const struct moe_route_box *box,
                                   struct moe_err *err);
};

/* A device is a struct that begins with this one. */
struct moe_device {
    const struct moe_device_ops *ops;
    char name[256];        /* as in struct moe_device_info */
    uint64_t memory_bytes; /* all of it */
    uint32_t cores, sm;    /* as in struct moe_device_info */
    bool integrated;       /* its memory is the host's */
    bool deterministic; /* kernels sum in the order of the CPU kernel set named when it was opened,
                           and give the same bits as on `host` */
    char note[320];     /* what makes it slower than it could be; "": nothing known */
};

struct moe_device_options {
    const char *spec;    /* "host", "host:KEY=VALUE,...", "cuda", "cuda:1", "auto" (cuda where there
                            is one, else host) */
    const char *kernels; /* CPU kernel set that `host` computes with, and whose order of sums a
                            deterministic device keeps */
    bool deterministic;
};

/* Opens a device. The keys of `host` (formulas: exec/host_options.h): memory_bytes (of its arena;
 * default 1GiB); link_gb_per_s, pageable_gb_per_s, compute_gb_per_s, compute_gflops, copy_us,
 * launch_us: simulated speeds and fixed times, 0 (default): as fast as it goes (pageable: as the
 * link); delay_us and seed: a random delay of at most delay_us before each operation, for tests of
 * races; fail_copy: the copy that fails, counted from 1 in the order of queueing, for tests of
 * faults; awake: exec/awake.h. Like a GPU, `host` reports copies and kernels that access memory
 * outside of what is allocated. Errors: MOE_ERR_USAGE (unknown spec or key, names the nearest),
 * MOE_ERR_UNSUPPORTED (no CUDA in this build, no driver, driver too old, no such device,
 * deterministic with a kernel set of no fixed order: with the reason and what to do),
 * MOE_ERR_MEMORY. */
enum moe_status moe_device_open(struct moe_device **out, const struct moe_device_options *options,
                                struct moe_err *err);
void moe_device_close(struct moe_device *device); /* NULL: no-op */

#endif
