#include "exec/expert_store.h"

#include "base/units.h"
#include "exec/copy_team.h"
#include "exec/cpu.h"
#include "exec/memory_limits.h"
#include "exec/pinned.h"
#include "exec/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* Number and sizes of a ring's buffers. Small enough that an expert's first copy starts early and
 * its last one ends soon after it was staged; large enough that each runs at the link's speed. */
enum { RING = 4, RING_MIN_BYTES = 4096, RING_GOOD_BYTES = 1 << 20, RING_MAX_BYTES = 32 << 20 };
enum { PARTS_OF_EXPERT = 8, UNIT = 256, MATRICES = 3 };

struct moe_expert_store {
    struct moe_device *device;
    const struct moe_llm *llm;
    struct moe_expert_layout layout;
    enum moe_store_kind kind;
    uint64_t n_experts;              /* of all layers */
    struct moe_pinned pinned;        /* the packed experts, or the ring's buffers */
    struct moe_expert_weights *host; /* [L, E] packed, or NULL: those of the model are used */
    struct moe_event *event[RING];   /* recorded after the last copy out of the buffer */
    struct moe_copy_team *team;      /* fills the ring */
    uint64_t ring_bytes;             /* of one buffer */
    uint32_t next;                   /* buffer of the ring to be filled next */
    char note[320];
};

/* How much memory may be pinned, from which the store's kind follows. */
struct room {
    uint64_t bytes;
    const char *which; /* name of the limit that decides it */
    char limits[160];  /* all limits, for messages */
};

static struct room find_room(const struct moe_store_options *options)
{
    struct moe_memory_limits limits;
    struct room room;
    moe_memory_limits_read(&limits);
    room.bytes = moe_memory_pinnable(&limits, options->pinned_bytes, &room.which);
    moe_memory_limits_format(&limits, room.limits, sizeof room.limits);
    return room;
}

static uint64_t all_bytes(const struct moe_expert_store *store)
{
    return store->n_experts * store->layout.bytes;
}

/* "the experts' 84.0 GiB exceed the 20.1 GiB that may be pinned (cgroup)". */
static const char *format_excess(const struct moe_expert_store *store, const struct room *room,
                                 char *buf, size_t size)
{
    char need[32], may[32];
    snprintf(buf, size, "the experts' %s exceed the %s that may be pinned (%s)",
             moe_format_bytes(all_bytes(store), need, sizeof need),
             moe_format_bytes(room->bytes, may, sizeof may), room->which);
    return buf;
}

static const struct moe_expert_weights *model_expert(const struct moe_expert_store *store,
                                                     uint64_t i)
{
    const uint32_t n = store->llm->config.n_experts;
    return &store->llm->layers[i / n].experts[i % n];
}

/* Packing of all experts; a thread takes one matrix at a time. */
struct packing {
    struct moe_expert_store *store;
    atomic_uint_fast64_t n_done; /* matrices */
    pthread_mutex_t drawing; /* held by the one thread that draws progress; others do not wait */
    struct moe_progress *progress;
};

static void pack_matrix(void *context, uint32_t i)
{
    struct packing *p = context;
    const struct moe_expert_store *store = p->store;
    const struct moe_expert_layout *layout = &store->layout;
    const uint64_t begin[MATRICES + 1] = {0, layout->at_w3, layout->at_w2, layout->bytes};
    const uint32_t expert = i / MATRICES, m = i % MATRICES;
    const struct moe_expert_weights *from = model_expert(store, expert);
    const struct moe_matrix *matrix = m == 0 ? &from->w1 : m == 1 ? &from->w3 : &from->w2;
    if (moe_interrupted())
        return;
    if (store->llm->weights)
        moe_matrix_fetch(matrix);
    moe_expert_layout_read(layout, from, begin[m], begin[m + 1] - begin[m],
                           (char *)moe_pinned_at(&store->pinned, expert) + begin[m]);
    if (store->llm->weights)
        moe_matrix_drop(matrix);
    uint64_t done = atomic_fetch_add(&p->n_done, 1) + 1;
    if (p->progress && pthread_mutex_trylock(&p->drawing) == 0) {
        moe_progress_update(p->progress, done / MATRICES);
        pthread_mutex_unlock(&p->drawing);
    }
}

static enum moe_status pack(struct moe_expert_store *store, uint32_t threads,
                            struct moe_progress *progress, struct moe_err *err)
{
    const struct moe_pool_options options = {.threads = threads};
    struct packing p = {.store = store, .progress = progress};
    struct moe_pool *pool;
    enum moe_status s = moe_pool_new(&pool, &options, err);
    if (s)
        return s;
    pthread_mutex_init(&p.drawing, NULL);
    moe_pool_each(pool, (uint32_t)(store->n_experts * MATRICES), pack_matrix, &p);
    pthread_mutex_destroy(&p.drawing);
    moe_pool_free(pool);
    if (atomic_load(&p.n_done) < store->n_experts * MATRICES)
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    return MOE_OK;
}

static enum moe_status use_pinned(struct moe_expert_store *store,
                                  const struct moe_store_options *options, const struct room *room,
                                  struct moe_progress *progress, struct moe_err *err)
{
    char text[200];
    if (all_bytes(store) > room->bytes)
        return moe_fail(err, MOE_ERR_MEMORY, "%s", format_excess(store, room, text, sizeof text));
    store->host = calloc(store->n_experts, sizeof *store->host);
    if (!store->host)
        return moe_fail_memory(err, "a list of experts");
    enum moe_status s =
        moe_pinned_alloc(&store->pinned, store->device, store->n_experts, store->layout.bytes, err);
    if (s == MOE_ERR_MEMORY)
        return moe_fail_prefix(err, "pinned experts were refused (%s)", room->limits);
    for (uint64_t i = 0; i < store->n_experts && !s; i++)
        store->host[i] = moe_expert_layout_at(&store->layout, moe_pinned_at(&store->pinned, i));
    if (s || (s = pack(store, options->threads, progress, err)))
        return s;
    store->kind = MOE_STORE_PINNED;
    snprintf(store->note, sizeof store->note, "pinned: %s of experts packed",
             moe_format_bytes(all_bytes(store), text, sizeof text));
    return MOE_OK;
}

/* Releases what is allocated; also used before the next kind is tried. */
static void drop_memory(struct moe_expert_store *store)
{
    for (int i = 0; i < RING; i++) {
        if (store->event[i])
            store->device->ops->event_free(store->device, store->event[i]);
        store->event[i] = NULL;
    }
    moe_copy_team_free(store->team);
    store->team = NULL;
    moe_pinned_release(&store->pinned);
    free(store->host);
    store->host = NULL;
}

/* Bytes of one buffer of the ring; 0: there is no room for a useful ring. */
static uint64_t ring_bytes(const struct moe_expert_store *store, const struct room *room)
{
    uint64_t expert = store->layout.bytes, share = room->bytes / RING / UNIT * UNIT;
    uint64_t bytes = expert / PARTS_OF_EXPERT / UNIT * UNIT;
    bytes = bytes < RING_GOOD_BYTES ? RING_GOOD_BYTES : bytes;
    bytes = bytes > RING_MAX_BYTES ? RING_MAX_BYTES : bytes;
    bytes = bytes > expert ? expert : bytes;
    if (share >= bytes)
        return bytes;
    return share >= RING_MIN_BYTES ? share : 0;
}

/* At most half the cores, as the others compute. */
static uint32_t team_threads(const struct moe_store_options *options)
{
    uint16_t order[MOE_CPUS_MAX];
    uint32_t n = options->threads, n_nodes;
    if (!n)
        (void)moe_cpu_order(order, &n, &n_nodes);
    n /= 2;
    return n < 1 ? 1 : n < MOE_COPY_THREADS_MAX ? n : MOE_COPY_THREADS_MAX;
}

/* why: the reason for a ring, for the note. */
static enum moe_status use_ring(struct moe_expert_store *store,
                                const struct moe_store_options *options, const struct room *room,
                                const char *why, struct moe_err *err)
{
    char may[32];
    store->ring_bytes = ring_bytes(store, room);
    if (!store->ring_bytes)
        return moe_fail(err, MOE_ERR_MEMORY,
                        "a ring takes %d buffers of %d bytes or more, but %s may be pinned (%s)",
                        RING, RING_MIN_BYTES, moe_format_bytes(room->bytes, may, sizeof may),
                        room->which);
    enum moe_status s =
        moe_pinned_alloc(&store->pinned, store->device, RING, store->ring_bytes, err);
    if (s == MOE_ERR_MEMORY)
        return moe_fail_prefix(err, "a pinned ring was refused (%s)", room->limits);
    for (int i = 0; i < RING && !s; i++)
        s = store->device->ops->event_new(store->device, &store->event[i], err);
    if (s || (s = moe_copy_team_new(&store->team, team_threads(options), err)))
        return s;
    store->kind = MOE_STORE_RING;
    snprintf(store->note, sizeof store->note, "ring of %d x %s: %.240s", RING,
             moe_format_bytes(store->ring_bytes, may, sizeof may), why);
    return MOE_OK;
}

/* Do all experts already lie packed in pinned memory of the device? */
static bool is_in_place(const struct moe_expert_store *store)
{
    if (store->llm->pinned_on != store->device)
        return false;
    for (uint64_t i = 0; i < store->n_experts; i++)
        if (!moe_expert_layout_packed(&store->layout, model_expert(store, i)))
            return false;
    return true;
}

/* auto tries one kind after the other until there is memory for it; a kind asked for by name is the
 * only one tried. */
static enum moe_status choose(struct moe_expert_store *store,
                              const struct moe_store_options *options,
                              struct moe_progress *progress, struct moe_err *err)
{
    const bool any = options->kind == MOE_STORE_AUTO;
    const struct room room = find_room(options);
    struct moe_err why = {.text = "as asked"};
    enum moe_status s = MOE_ERR_MEMORY;
    if (any || options->kind == MOE_STORE_PINNED) {
        s = use_pinned(store, options, &room, progress, &why);
        if (s == MOE_ERR_MEMORY && !any)
            return moe_fail(err, s, "%.400s: choose ring or pageable", why.text);
    }
    if (s == MOE_ERR_MEMORY && options->kind != MOE_STORE_PAGEABLE) {
        char reason[sizeof why.text];
        drop_memory(store);
        snprintf(reason, sizeof reason, "%s", why.text);
        s = use_ring(store, options, &room, reason, &why);
        if (s == MOE_ERR_MEMORY && !any)
            return moe_fail(err, s, "%.400s: choose pageable", why.text);
    }
    if (s == MOE_ERR_MEMORY) {
        drop_memory(store);
        store->kind = MOE_STORE_PAGEABLE;
        snprintf(store->note, sizeof store->note, "pageable: %.240s", why.text);
        s = MOE_OK;
    }
    return s ? moe_fail(err, s, "%s", why.text) : MOE_OK;
}

static enum moe_status build(struct moe_expert_store *store,
                             const struct moe_store_options *options, struct moe_progress *progress,
                             struct moe_err *err)
{
    const struct moe_llm_config *c = &store->llm->config;
    enum moe_status s = moe_expert_layout_of(store->llm, &store->layout, err);
    if (s)
        return s;
    store->n_experts = (uint64_t)c->n_layers * c->n_experts;
    if (options->kind <= MOE_STORE_PINNED && is_in_place(store)) {
        store->kind = MOE_STORE_PINNED;
        snprintf(store->note, sizeof store->note, "pinned: in place, made in memory");
        return MOE_OK;
    }
    return choose(store, options, progress, err);
}

enum moe_status moe_expert_store_new(struct moe_expert_store **out, struct moe_device *device,
                                     const struct moe_llm *llm,
                                     const struct moe_store_options *options,
                                     struct moe_progress *progress, struct moe_err *err)
{
    struct moe_expert_store *store = calloc(1, sizeof *store);
    if (!store)
        return moe_fail_memory(err, "an expert store");
    store->device = device;
    store->llm = llm;
    enum moe_status s = build(store, options, progress, err);
    if (s)
        moe_expert_store_free(store);
    else
        *out = store;
    return s;
}

void moe_expert_store_free(struct moe_expert_store *store)
{
    if (!store)
        return;
    drop_memory(store);
    free(store);
}

enum moe_store_kind moe_expert_store_kind(const struct moe_expert_store *store)
{
    return store->kind;
}

const char *moe_expert_store_note(const struct moe_expert_store *store)
{
    return store->note;
}

const struct moe_expert_layout *moe_expert_store_layout(const struct moe_expert_store *store)
{
    return &store->layout;
}

const struct moe_expert_weights *moe_expert_store_host(const struct moe_expert_store *store,
                                                       uint32_t layer, uint32_t expert)
{
    uint64_t i = (uint64_t)layer * store->llm->config.n_experts + expert;
    return store->host ? &store->host[i] : model_expert(store, i);
}

/* Copies from where the expert lies: in one piece if it is packed, else matrix by matrix. */
static void copy_direct(struct moe_expert_store *store, const struct moe_expert_weights *from,
                        char *slot, enum moe_memory kind)
{
    const struct moe_expert_layout *layout = &store->layout;
    struct moe_device *device = store->device;
    const uint64_t w2_bytes = moe_matrix_bytes(&layout->w2);
    if (moe_expert_layout_packed(layout, from)) {
        device->ops->copy(device, MOE_STREAM_EXPERTS, slot, from->w1.data, layout->at_w2 + w2_bytes,
                          kind);
        return;
    }
    device->ops->copy(device, MOE_STREAM_EXPERTS, slot, from->w1.data,
                      moe_matrix_bytes(&layout->w1), kind);
    device->ops->copy(device, MOE_STREAM_EXPERTS, slot + layout->at_w3, from->w3.data,
                      moe_matrix_bytes(&layout->w3), kind);
    device->ops->copy(device, MOE_STREAM_EXPERTS, slot + layout->at_w2, from->w2.data, w2_bytes,
                      kind);
}

static void copy_staged(struct moe_expert_store *store, const struct moe_expert_weights *from,
                        char *slot)
{
    struct moe_device *device = store->device;
    for (uint64_t at = 0, n; at < store->layout.bytes; at += n) {
        const uint32_t i = store->next;
        void *buffer = moe_pinned_at(&store->pinned, i);
        n = store->layout.bytes - at < store->ring_bytes ? store->layout.bytes - at
                                                         : store->ring_bytes;
        store->next = (i + 1) % RING;
        /* An error stays with the device until the caller's next sync, before which nothing is
         * used. */
        (void)device->ops->sync(device, store->event[i], NULL);
        moe_copy_team_read(store->team, &store->layout, from, at, n, buffer);
        device->ops->copy(device, MOE_STREAM_EXPERTS, slot + at, buffer, n, MOE_MEMORY_PINNED);
        device->ops->record(device, MOE_STREAM_EXPERTS, store->event[i]);
    }
}

void moe_expert_store_copy(struct moe_expert_store *store, uint32_t layer, uint32_t expert,
                           void *slot, bool pageable)
{
    const struct moe_expert_weights *from = moe_expert_store_host(store, layer, expert);
    if (pageable || store->kind == MOE_STORE_PAGEABLE)
        copy_direct(store, from, slot, MOE_MEMORY_PAGEABLE);
    else if (store->kind == MOE_STORE_RING)
        copy_staged(store, from, slot);
    else
        copy_direct(store, from, slot, MOE_MEMORY_PINNED);
}
