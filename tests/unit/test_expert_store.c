/* Every expert reaches its slot in packed form, from every kind of store and by every way; the
 * kind is chosen by what may be pinned; what cannot be allocated is reported. */
#include "base/progress.h"
#include "base/rng.h"
#include "exec/copy_team.h"
#include "exec/expert_store.h"
#include "exec/pinned.h"
#include "exec/synthetic.h"
#include "tests/unit/late_device.h"
#include "tests/unit/llm_dirs.h"
#include "tests/unit/run_suite.h"

#include <signal.h>
#include <stdio.h>

/* A model by hand: only what a store looks at. Matrices at odd addresses, of odd sizes. */
struct by_hand {
    struct moe_llm llm;
    char *data;
};

static struct by_hand make_by_hand_of(enum moe_dtype dtype, uint32_t layers, uint32_t experts,
                                      uint32_t d, uint32_t f)
{
    struct by_hand m = {0};
    struct moe_rng rng;
    const size_t n = 3 * (size_t)layers * experts, bytes = f * moe_dtype_row_bytes(dtype, d) + 3;
    m.llm.config.n_layers = layers;
    m.llm.config.n_experts = experts;
    m.llm.layers = must_alloc(layers, sizeof *m.llm.layers);
    m.data = must_alloc(n, bytes);
    moe_rng_init(&rng, d);
    for (size_t i = 0; i < n * bytes; i++)
        m.data[i] = (char)(moe_rng_next(&rng) & 0x7f);
    for (size_t l = 0, k = 0; l < layers; l++) {
        m.llm.layers[l].experts = must_alloc(experts, sizeof *m.llm.layers[l].experts);
        for (size_t e = 0; e < experts; e++, k += 3)
            m.llm.layers[l].experts[e] = (struct moe_expert_weights){
                {m.data + (k + 1) * bytes, dtype, f, d},
                {m.data + k * bytes, dtype, f, d},
                {m.data + (k + 2) * bytes, dtype, d, f},
            };
    }
    return m;
}

static struct by_hand make_by_hand(uint32_t layers, uint32_t experts, uint32_t d, uint32_t f)
{
    return make_by_hand_of(MOE_BF16, layers, experts, d, f);
}

static void free_by_hand(struct by_hand *m)
{
    for (uint32_t l = 0; l < m->llm.config.n_layers; l++)
        free(m->llm.layers[l].experts);
    free(m->llm.layers);
    free(m->data);
}

static struct moe_expert_store *open_store(struct moe_device *device, const struct moe_llm *llm,
                                           const struct moe_store_options *options)
{
    struct moe_expert_store *store = NULL;
    struct moe_progress progress;
    struct moe_err err = {0};
    moe_progress_begin(&progress, "packing", "experts", 1);
    enum moe_status s = moe_expert_store_new(&store, device, llm, options, &progress, &err);
    ck_assert_msg(!s, "%s", err.text);
    return store;
}

START_TEST(lies_as_packed)
{
    struct by_hand m = make_by_hand(2, 3, 7, 11);
    struct moe_expert_layout x;
    struct moe_err err;
    char image[768], part[768];
    ck_assert(!moe_expert_layout_of(&m.llm, &x, &err));
    ck_assert(x.at_w3 == 256 && x.at_w2 == 512 && x.bytes == 768); /* 154 bytes a matrix */
    ck_assert(x.w1.rows == 11 && x.w2.rows == 7 && !x.w1.data && !x.w3.data && !x.w2.data);
    const struct moe_expert_weights *e = &m.llm.layers[1].experts[2];
    memset(image, 1, sizeof image);
    moe_expert_layout_read(&x, e, 0, x.bytes, image);
    for (size_t i = 0; i < sizeof image; i++) {
        const char *data[] = {e->w1.data, e->w3.data, e->w2.data};
        ck_assert_int_eq(image[i], i % 256 < 154 ? data[i / 256][i % 256] : 0);
    }
    for (size_t at = 0; at < sizeof image; at += 13)
        for (size_t n = 0; at + n <= sizeof image; n += 29) {
            memset(part, 2, sizeof part);
            moe_expert_layout_read(&x, e, at, n, part);
            ck_assert(!memcmp(part, image + at, n) && (n == sizeof part || part[n] == 2));
        }
    struct moe_expert_weights packed = moe_expert_layout_at(&x, image);
    ck_assert_ptr_eq(packed.w3.data, image + 256);
    ck_assert_ptr_eq(packed.w2.data, image + 512);
    ck_assert(moe_expert_layout_packed(&x, &packed) && !moe_expert_layout_packed(&x, e));
    packed.w2.data = e->w2.data;
    ck_assert(!moe_expert_layout_packed(&x, &packed));
    packed = moe_expert_layout_at(&x, image);
    packed.w3.data = e->w3.data;
    ck_assert(!moe_expert_layout_packed(&x, &packed));
    free_by_hand(&m);
}
END_TEST

/* Rows of 96 weights and of 160: 102 and 170 bytes in Q8, 54 and 90 in Q4. */
START_TEST(quantized_experts_lie_as_packed)
{
    static const struct {
        enum moe_dtype dtype;
        uint64_t up, down, at_w3, at_w2, bytes;
    } want[] = {{MOE_Q8, 16320, 16320, 16384, 32768, 49152},
                {MOE_Q4, 8640, 8640, 8704, 17408, 26112}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct by_hand m = make_by_hand_of(want[i].dtype, 1, 2, 96, 160);
        struct moe_expert_layout x;
        struct moe_err err;
        ck_assert(!moe_expert_layout_of(&m.llm, &x, &err));
        ck_assert_uint_eq(moe_matrix_bytes(&x.w1), want[i].up);
        ck_assert_uint_eq(moe_matrix_bytes(&x.w2), want[i].down);
        ck_assert(x.at_w3 == want[i].at_w3 && x.at_w2 == want[i].at_w2);
        ck_assert_uint_eq(x.bytes, want[i].bytes);
        m.llm.layers[0].experts[1].w2.dtype = MOE_BF16;
        ck_assert_int_eq(moe_expert_layout_of(&m.llm, &x, &err), MOE_ERR_UNSUPPORTED);
        free_by_hand(&m);
    }
}
END_TEST

/* Threads that take pieces of a part in turn: the bytes of one, for parts of any size anywhere. */
START_TEST(a_team_reads_as_one)
{
    struct by_hand m = make_by_hand(1, 1, 1021, 515); /* 1051630 bytes a matrix: 5 pieces */
    struct moe_expert_layout x;
    struct moe_err err;
    struct moe_rng rng;
    ck_assert(!moe_expert_layout_of(&m.llm, &x, &err));
    const struct moe_expert_weights *e = &m.llm.layers[0].experts[0];
    char *image = must_alloc(1, x.bytes), *part = must_alloc(1, x.bytes + 1);
    moe_expert_layout_read(&x, e, 0, x.bytes, image);
    moe_rng_init(&rng, 1);
    for (uint32_t threads = 1; threads <= MOE_COPY_THREADS_MAX; threads++) {
        struct moe_copy_team *team;
        ck_assert(!moe_copy_team_new(&team, threads, &err));
        for (int i = 0; i < 40; i++) {
            const uint64_t at = i ? moe_rng_below(&rng, x.bytes) : 0;
            const uint64_t n = i ? moe_rng_below(&rng, x.bytes - at + 1) : x.bytes;
            memset(part, 2, x.bytes + 1);
            moe_copy_team_read(team, &x, e, at, n, part);
            ck_assert(!memcmp(part, image + at, n) && part[n] == 2);
        }
        moe_copy_team_free(team);
    }
    free(image);
    free(part);
    free_by_hand(&m);
}
END_TEST

START_TEST(mixed_experts_are_refused)
{
    struct by_hand m = make_by_hand(2, 3, 7, 11);
    struct moe_expert_layout x = {.bytes = 5};
    struct moe_err err;
    m.llm.layers[1].experts[2].w2.dtype = MOE_F32;
    ck_assert_int_eq(moe_expert_layout_of(&m.llm, &x, &err), MOE_ERR_UNSUPPORTED);
    ck_assert_str_eq(
        err.text, "expert 2 of layer 1: w2 is F32 [7, 11], but BF16 [7, 11] in the first expert: "
                  "the slots of a device hold experts of one size");
    m.llm.layers[0].experts[1].w3.rows = 10;
    ck_assert_int_eq(moe_expert_layout_of(&m.llm, &x, &err), MOE_ERR_UNSUPPORTED);
    ck_assert_msg(!strncmp(err.text, "expert 1 of layer 0: w3 is", 26), "%s", err.text);
    ck_assert_uint_eq(x.bytes, 5);
    free_by_hand(&m);
}
END_TEST

static void expect_equal(const struct moe_matrix *a, const struct moe_matrix *b, const char *what)
{
    ck_assert(a->dtype == b->dtype && a->rows == b->rows && a->cols == b->cols);
    ck_assert_msg(!memcmp(a->data, b->data, moe_matrix_bytes(a)), "%s", what);
}

/* Copies all experts, in a mixed order, all queued before the first is waited for; compares the
 * slots and what the CPU reads with the model. */
static void expect_copies(struct moe_device *device, const struct moe_llm *llm,
                          struct moe_expert_store *store, bool pageable, const char *what)
{
    const struct moe_expert_layout *layout = moe_expert_store_layout(store);
    const uint32_t per_layer = llm->config.n_experts, n = llm->config.n_layers * per_layer;
    struct moe_event *landed;
    struct moe_err err = {0};
    void *slots;
    ck_assert(!device->ops->event_new(device, &landed, &err));
    enum moe_status s =
        device->ops->alloc(device, MOE_MEMORY_DEVICE, n * layout->bytes, &slots, &err);
    ck_assert_msg(!s, "%s", err.text);
    for (uint32_t i = 0, k; i < n; i++) {
        k = n - 1 - i;
        moe_expert_store_copy(store, k / per_layer, k % per_layer,
                              (char *)slots + k * layout->bytes, pageable);
    }
    device->ops->record(device, MOE_STREAM_EXPERTS, landed);
    s = device->ops->sync(device, landed, &err);
    ck_assert_msg(!s, "%s: %s", what, err.text);
    for (uint32_t k = 0; k < n; k++) {
        const struct moe_expert_weights *e = &llm->layers[k / per_layer].experts[k % per_layer];
        const struct moe_expert_weights *h =
            moe_expert_store_host(store, k / per_layer, k % per_layer);
        struct moe_expert_weights x =
            moe_expert_layout_at(layout, (char *)slots + k * layout->bytes);
        expect_equal(&x.w1, &e->w1, what);
        expect_equal(&x.w3, &e->w3, what);
        expect_equal(&x.w2, &e->w2, what);
        expect_equal(&h->w1, &e->w1, what);
        expect_equal(&h->w3, &e->w3, what);
        expect_equal(&h->w2, &e->w2, what);
    }
    device->ops->release(device, MOE_MEMORY_DEVICE, slots);
    device->ops->event_free(device, landed);
}

static const enum moe_store_kind kinds[] = {MOE_STORE_AUTO, MOE_STORE_PINNED, MOE_STORE_RING,
                                            MOE_STORE_PAGEABLE};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static void expect_all_kinds(struct moe_device *device, const struct moe_llm *llm, const char *name)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        /* The ring by name gets as little as it takes. */
        const struct moe_store_options options = {
            .kind = kinds[i], .threads = 5, .pinned_bytes = kinds[i] == MOE_STORE_RING ? 16384 : 0};
        struct moe_expert_store *store = open_store(device, llm, &options);
        ck_assert_int_eq(moe_expert_store_kind(store),
                         kinds[i] == MOE_STORE_AUTO ? MOE_STORE_PINNED : kinds[i]);
        for (int pageable = 0; pageable < 2; pageable++) {
            char what[200];
            snprintf(what, sizeof what, "%s, kind %d, pageable %d", name, (int)kinds[i], pageable);
            expect_copies(device, llm, store, pageable, what);
        }
        moe_expert_store_free(store);
    }
}

static const struct {
    uint32_t layers, experts, d, f;
    enum moe_dtype dtype;
} sizes[] = {
    {1, 1, 1, 1, MOE_BF16}, {2, 3, 7, 11, MOE_BF16},    {3, 5, 96, 131, MOE_BF16},
    {2, 3, 7, 11, MOE_F32}, {2, 2, 128, 512, MOE_BF16}, {2, 4, 255, 1021, MOE_BF16},
    {1, 1, 32, 32, MOE_Q8}, {3, 5, 96, 160, MOE_Q8},    {2, 4, 256, 1056, MOE_Q8},
    {1, 1, 32, 32, MOE_Q4}, {3, 5, 160, 96, MOE_Q4},    {2, 4, 224, 1024, MOE_Q4},
};

static const char *const models[] = {GOLDEN "mixtral-mqa8-top3-tied", GOLDEN "mixtral-v5-fused",
                                     GOLDEN "mixtral-v5-sharded", GOLDEN "phimoe-plain",
                                     GOLDEN "qwen3-v5-fused"};

static void expect_all_models(struct moe_device *device)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char name[64];
        struct by_hand m = make_by_hand_of(sizes[i].dtype, sizes[i].layers, sizes[i].experts,
                                           sizes[i].d, sizes[i].f);
        snprintf(name, sizeof name, "%s, %u x %u", moe_dtype_info(sizes[i].dtype)->name,
                 (unsigned)sizes[i].d, (unsigned)sizes[i].f);
        expect_all_kinds(device, &m.llm, name);
        free_by_hand(&m);
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct moe_llm *llm = open_model(models[i]);
        expect_all_kinds(device, llm, models[i]);
        moe_llm_close(llm);
    }
}

START_TEST(every_kind_late)
{
    struct late_device *d = late_open();
    expect_all_models(&d->device);
    late_close(d);
}
END_TEST

static const char *const specs[] = {
    "host:memory_bytes=64MiB",
    "host:memory_bytes=64MiB,delay_us=50,seed=3",
    "host:memory_bytes=64MiB,copy_us=20,delay_us=5,seed=4",
};
enum { N_SPECS = sizeof specs / sizeof *specs };

static struct moe_device *open_device(const char *spec)
{
    const struct moe_device_options options = {.spec = spec};
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    enum moe_status s = moe_device_open(&device, &options, &err);
    ck_assert_msg(!s, "%s: %s", spec, err.text);
    return device;
}

START_TEST(every_kind_on_host)
{
    struct moe_device *device = open_device(specs[_i]);
    expect_all_models(device);
    moe_device_close(device);
}
END_TEST

/* How many copies an expert takes, which is what kinds differ in. */
START_TEST(number_of_copies)
{
    struct by_hand m = make_by_hand(1, 1, 96, 131); /* 25152 bytes a matrix: 25344 in a slot */
    static const struct {
        enum moe_store_kind kind;
        bool pageable;
        uint64_t pinned_bytes, n_pinned, n_pageable;
    } want[] = {
        {MOE_STORE_PINNED, false, 0, 1, 0},    {MOE_STORE_PINNED, true, 0, 0, 1},
        {MOE_STORE_RING, false, 0, 1, 0}, /* a buffer of 1 MiB would do, so one of the expert */
        {MOE_STORE_RING, false, 16384, 19, 0}, /* 76032 / 4096 = 18.6 */
        {MOE_STORE_RING, false, 20000, 16, 0}, /* 5000, which is 4864: 15.6 */
        {MOE_STORE_RING, true, 0, 0, 3},       {MOE_STORE_PAGEABLE, false, 0, 0, 3},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct late_device *d = late_open();
        const struct moe_store_options options = {.kind = want[i].kind,
                                                  .pinned_bytes = want[i].pinned_bytes};
        struct moe_expert_store *store = open_store(&d->device, &m.llm, &options);
        expect_copies(&d->device, &m.llm, store, want[i].pageable, "counted");
        ck_assert_uint_eq(d->n_pinned, want[i].n_pinned);
        ck_assert_uint_eq(d->n_pageable, want[i].n_pageable);
        moe_expert_store_free(store);
        late_close(d);
    }
    free_by_hand(&m);
}
END_TEST

/* 15 experts of 76032 bytes. */
START_TEST(limits_decide)
{
    struct late_device *d = late_open();
    struct by_hand m = make_by_hand(3, 5, 96, 131);
    static const struct {
        uint64_t pinned_bytes;
        enum moe_store_kind kind;
        const char *note;
    } want[] = {
        {1140480, MOE_STORE_PINNED, "pinned: 1.1 MiB of experts packed"},
        {1140479, MOE_STORE_RING,
         "ring of 4 x 74.2 KiB: the experts' 1.1 MiB exceed the 1.1 MiB that may be pinned (the "
         "limit set)"},
        {16384, MOE_STORE_RING,
         "ring of 4 x 4.0 KiB: the experts' 1.1 MiB exceed the 16.0 KiB that may be pinned (the "
         "limit set)"},
        {16383, MOE_STORE_PAGEABLE,
         "pageable: a ring takes 4 buffers of 4096 bytes or more, but 16.0 KiB may be pinned (the "
         "limit set)"},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct moe_store_options options = {.pinned_bytes = want[i].pinned_bytes};
        struct moe_expert_store *store = open_store(&d->device, &m.llm, &options);
        ck_assert_int_eq(moe_expert_store_kind(store), want[i].kind);
        ck_assert_str_eq(moe_expert_store_note(store), want[i].note);
        ck_assert_uint_le(d->pinned_bytes, want[i].pinned_bytes);
        expect_copies(&d->device, &m.llm, store, false, want[i].note);
        moe_expert_store_free(store);
    }
    late_close(d);
    free_by_hand(&m);
}
END_TEST

static void expect_refusal(struct late_device *d, const struct moe_llm *llm,
                           struct moe_store_options options, const char *begin, const char *end)
{
    struct moe_expert_store *store = NULL;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_expert_store_new(&store, &d->device, llm, &options, NULL, &err),
                     MOE_ERR_MEMORY);
    size_t length = strlen(err.text);
    ck_assert_msg(!strncmp(err.text, begin, strlen(begin)) && length > strlen(end) &&
                      !strcmp(err.text + length - strlen(end), end),
                  "%s", err.text);
    ck_assert_ptr_null(store);
    ck_assert(d->n_live == 0 && d->n_events == 0);
}

START_TEST(kinds_by_name_are_refused)
{
    struct late_device *d = late_open();
    struct by_hand m = make_by_hand(3, 5, 96, 131);
    expect_refusal(d, &m.llm, (struct moe_store_options){MOE_STORE_PINNED, 1140479, 0},
                   "the experts' 1.1 MiB exceed the 1.1 MiB that may be pinned (the limit set)",
                   ": choose ring or pageable");
    expect_refusal(d, &m.llm, (struct moe_store_options){MOE_STORE_RING, 16383, 0},
                   "a ring takes 4 buffers of 4096 bytes or more, but 16.0 KiB may be pinned",
                   ": choose pageable");
    d->pinned_limit = 1000;
    expect_refusal(d, &m.llm, (struct moe_store_options){MOE_STORE_PINNED, 0, 0},
                   "pinned experts were refused (available memory: ",
                   "): pinned memory: no: choose ring or pageable");
    expect_refusal(
        d, &m.llm, (struct moe_store_options){MOE_STORE_RING, 0, 0},
        "a pinned ring was refused (available memory: ", "): pinned memory: no: choose pageable");
    late_close(d);
    free_by_hand(&m);
}
END_TEST

/* The system would allow it, the device does not: the next kind is taken, and nothing is left. */
START_TEST(refused_by_the_device)
{
    static const struct {
        uint64_t limit;
        enum moe_store_kind kind;
        const char *note;
    } want[] = {
        {1140480, MOE_STORE_PINNED, "pinned: 1.1"},
        {1140479, MOE_STORE_RING, "ring of 4 x 74.2 KiB: pinned experts were refused (available"},
        {304127, MOE_STORE_PAGEABLE, "pageable: a pinned ring was refused (available memory"},
    };
    struct by_hand m = make_by_hand(3, 5, 96, 131);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct late_device *d = late_open();
        d->pinned_limit = want[i].limit;
        struct moe_expert_store *store =
            open_store(&d->device, &m.llm, &(struct moe_store_options){0});
        const char *note = moe_expert_store_note(store);
        ck_assert_int_eq(moe_expert_store_kind(store), want[i].kind);
        ck_assert_msg(!strncmp(note, want[i].note, strlen(want[i].note)), "%s", note);
        expect_copies(&d->device, &m.llm, store, false, note);
        moe_expert_store_free(store);
        late_close(d);
    }
    free_by_hand(&m);
}
END_TEST

static struct moe_synthetic *make_synthetic(struct moe_device *device, uint32_t buffers,
                                            double bits)
{
    const struct moe_model shape = {.name = "tiny",
                                    .n_layers = 2,
                                    .n_experts = 4,
                                    .top_k = 2,
                                    .d_model = 32,
                                    .d_ffn = 96,
                                    .n_heads = 2,
                                    .n_kv_heads = 1,
                                    .head_dim = 16,
                                    .n_vocab = 50,
                                    .expert_weight_bits = bits,
                                    .dense_weight_bits = 16,
                                    .kv_bits = 16};
    const struct moe_synthetic_options options = {.buffers = buffers};
    struct moe_synthetic *s = NULL;
    struct moe_err err = {0};
    enum moe_status status = moe_synthetic_new(&s, &shape, device, &options, &err);
    ck_assert_msg(!status, "%s", err.text);
    return s;
}

START_TEST(synthetic_models_stay_in_place)
{
    static const double bits[] = {16, 8.5, 4.5};
    struct late_device *d = late_open(), *other = late_open();
    struct moe_synthetic *s = make_synthetic(&d->device, 3, bits[_i]);
    const struct moe_llm *llm = moe_synthetic_llm(s);
    const uint64_t pinned = d->pinned_bytes, allocs = d->n_allocs;
    for (size_t i = 0; i < 2; i++) { /* auto and pinned; no limit counts, for nothing is taken */
        const struct moe_store_options options = {kinds[i], 1, 0};
        struct moe_expert_store *store = open_store(&d->device, llm, &options);
        ck_assert_int_eq(moe_expert_store_kind(store), MOE_STORE_PINNED);
        ck_assert_str_eq(moe_expert_store_note(store), "pinned: in place, made in memory");
        ck_assert(d->n_allocs == allocs && d->pinned_bytes == pinned);
        ck_assert_ptr_eq(moe_expert_store_host(store, 1, 2)->w2.data,
                         llm->layers[1].experts[2].w2.data);
        moe_expert_store_free(store);
    }
    struct moe_expert_store *packed =
        open_store(&other->device, llm, &(struct moe_store_options){0});
    ck_assert_str_ne(moe_expert_store_note(packed), "pinned: in place, made in memory");
    ck_assert_uint_gt(other->pinned_bytes, pinned);
    moe_expert_store_free(packed);
    expect_all_kinds(&d->device, llm, "synthetic");
    expect_all_kinds(&other->device, llm, "synthetic, pinned elsewhere");
    ck_assert_uint_eq(d->pinned_bytes, pinned);
    moe_synthetic_free(s);
    late_close(other);
    late_close(d);
}
END_TEST

/* Twelve pieces of 300 MiB: three a block. The fourth block is refused; then it is not. */
START_TEST(pinned_in_blocks)
{
    const uint64_t item = UINT64_C(300) << 20;
    struct late_device *d = late_open();
    struct moe_pinned p = {0};
    struct moe_err err;
    d->pinned_limit = 9 * item;
    ck_assert_int_eq(moe_pinned_alloc(&p, &d->device, 12, item, &err), MOE_ERR_MEMORY);
    ck_assert(d->n_allocs == 3 && d->n_live == 0 && p.block == NULL);
    ck_assert(!moe_pinned_alloc(&p, &d->device, 7, item, &err));
    ck_assert_uint_eq(p.n_blocks, 3);
    ck_assert_uint_eq(d->pinned_bytes, 7 * item);
    ck_assert_ptr_eq(moe_pinned_at(&p, 6), p.block[2]);
    ck_assert_ptr_eq(moe_pinned_at(&p, 4), (char *)p.block[1] + item);
    moe_pinned_release(&p);
    moe_pinned_release(&p);
    late_close(d);
}
END_TEST

/* A copy fails midway: the call goes on and the device tells at the next sync. */
START_TEST(failed_copy)
{
    struct by_hand m = make_by_hand(2, 3, 96, 131);
    for (size_t i = 1; i < N_KINDS; i++) {
        struct moe_device *device = open_device("host:memory_bytes=1MiB,fail_copy=3");
        const struct moe_store_options options = {kinds[i], 16384 * (kinds[i] == MOE_STORE_RING),
                                                  2};
        struct moe_expert_store *store = open_store(device, &m.llm, &options);
        struct moe_event *landed;
        struct moe_err err;
        void *slot;
        ck_assert(!device->ops->event_new(device, &landed, &err));
        ck_assert(!device->ops->alloc(device, MOE_MEMORY_DEVICE, 76032, &slot, &err));
        for (uint32_t e = 0; e < 6; e++)
            moe_expert_store_copy(store, e / 3, e % 3, slot, false);
        device->ops->record(device, MOE_STREAM_EXPERTS, landed);
        ck_assert_int_eq(device->ops->sync(device, landed, &err), MOE_ERR_IO);
        ck_assert_msg(strstr(err.text, "copy 3 of"), "%s", err.text);
        device->ops->event_free(device, landed);
        device->ops->release(device, MOE_MEMORY_DEVICE, slot);
        moe_expert_store_free(store);
        moe_device_close(device);
    }
    free_by_hand(&m);
}
END_TEST

START_TEST(interrupted)
{
    struct late_device *d = late_open();
    struct by_hand m = make_by_hand(3, 5, 96, 131);
    moe_catch_interrupts();
    ck_assert_int_eq(raise(SIGINT), 0);
    for (size_t i = 0; i < 2; i++) {
        const struct moe_store_options options = {kinds[i], 0, 2};
        struct moe_expert_store *store = NULL;
        struct moe_err err;
        ck_assert_int_eq(moe_expert_store_new(&store, &d->device, &m.llm, &options, NULL, &err),
                         MOE_ERR_INTERRUPTED);
        ck_assert_ptr_null(store);
    }
    late_close(d);
    free_by_hand(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("expert store");
    TCase *tc = tcase_create("expert store");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, lies_as_packed);
    tcase_add_test(tc, quantized_experts_lie_as_packed);
    tcase_add_test(tc, a_team_reads_as_one);
    tcase_add_test(tc, mixed_experts_are_refused);
    tcase_add_test(tc, every_kind_late);
    tcase_add_loop_test(tc, every_kind_on_host, 0, N_SPECS);
    tcase_add_test(tc, number_of_copies);
    tcase_add_test(tc, limits_decide);
    tcase_add_test(tc, kinds_by_name_are_refused);
    tcase_add_test(tc, refused_by_the_device);
    tcase_add_loop_test(tc, synthetic_models_stay_in_place, 0, 3);
    tcase_add_test(tc, pinned_in_blocks);
    tcase_add_test(tc, failed_copy);
    tcase_add_test(tc, interrupted); /* last: the flag stays */
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
