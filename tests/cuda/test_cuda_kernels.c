/* The CUDA kernels, run by the emulation of tests/cuda/, against the CPU: in the order of a kernel
 * set the same bits, in the fast order within 1e-5. */
#include "exec/cuda/gemm.h"
#include "exec/router.h"
#include "tests/cuda/cuda_world.h"
#include "tests/cuda/emulation.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sanitizer.h"

#include <math.h>
#include <stdio.h>

/* How two arrays are to agree: bit by bit, or within a share of the largest magnitude. (Of few
 * numbers all may be small by cancellation.) */
static double tolerance; /* 0: bits */
static const char *where;

static void agree(const char *name, const float *got, const float *want, size_t n)
{
    double most = tolerance > 0 ? 0.5 : 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    for (size_t i = 0; i < n; i++) {
        const bool same = memcmp(&got[i], &want[i], sizeof *got) == 0;
        if (same || fabs((double)got[i] - want[i]) <= tolerance * most)
            continue; /* without Check, whose every assertion takes a microsecond, and there are
                         millions */
        ck_abort_msg("%s: %s[%zu] is %.9g, not %.9g (largest %g)", where, name, i, (double)got[i],
                     (double)want[i], most);
    }
}

static void equal(const char *name, const void *got, const void *want, size_t bytes)
{
    ck_assert_msg(memcmp(got, want, bytes) == 0, "%s: %s", where, name);
}

static struct moe_pool *new_pool(const char *kernels)
{
    const struct moe_pool_options options = {.threads = 1, .kernels = kernels};
    struct moe_pool *pool = NULL;
    struct moe_err err = {0};
    ck_assert_msg(moe_pool_new(&pool, &options, &err) == MOE_OK, "%s", err.text);
    return pool;
}

static struct moe_dense dense_of(struct world *w, struct moe_pool *pool)
{
    return (struct moe_dense){.config = &w->config,
                              .layer = &w->layer,
                              .next_router = &w->next_router,
                              .pool = pool,
                              .keys = w->cpu.keys,
                              .values = w->cpu.values,
                              .context = w->shape.context,
                              .a = &w->cpu.a};
}

static void compare_attend(struct world *w)
{
    const struct shape *z = &w->shape;
    const struct moe_activations *c = &w->cpu.a, *g = &w->gpu.a;
    const size_t n = c->n, tk = n * z->top_k, hd = z->head_dim;
    agree("q", g->q, c->q, n * z->heads * hd);
    agree("k", g->k, c->k, n * z->kv_heads * hd);
    agree("v", g->v, c->v, n * z->kv_heads * hd);
    for (size_t h = 0; h < z->kv_heads; h++) {
        const size_t at = h * z->context * hd;
        agree("keys", w->gpu.keys + at, w->cpu.keys + at, (c->length + n) * hd);
        agree("values", w->gpu.values + at, w->cpu.values + at, (c->length + n) * hd);
    }
    agree("attended", g->attended, c->attended, n * z->heads * hd);
    agree("x", g->x, c->x, n * z->d);
    agree("u", g->u, c->u, n * z->d);
    agree("score", g->score, c->score, n * z->experts);
    agree("ahead", g->ahead, c->ahead, n * z->experts);
    equal("experts", g->expert, c->expert, tk * sizeof *g->expert);
    agree("weights", g->weight, c->weight, tk);
    equal("count", g->count, c->count, z->experts * sizeof *g->count);
    equal("first", g->first, c->first, z->experts * sizeof *g->first);
    equal("row", g->row, c->row, tk * sizeof *g->row);
    agree("ffn_x", g->ffn_x, c->ffn_x, tk * z->d);
    const struct moe_route_box *box = &w->gpu.box;
    equal("experts of the box", box->expert, g->expert, tk * sizeof *g->expert);
    equal("weights of the box", box->weight, g->weight, tk * sizeof *g->weight);
    equal("scores of the box", box->score, g->score, n * z->experts * sizeof *g->score);
    equal("lookahead of the box", box->ahead, g->ahead, n * z->experts * sizeof *g->ahead);
    ck_assert_uint_eq(w->gpu.flag, box->ticket);
}

static void run_experts(struct world *w, struct moe_pool *pool, const struct moe_cuda_context *cuda)
{
    const struct shape *z = &w->shape;
    const struct moe_activations *c = &w->cpu.a;
    for (uint32_t e = 0; e < z->experts; e++) {
        const struct moe_expert_weights *weights = &w->layer.experts[e];
        const size_t row = c->first[e];
        const struct moe_ffn_job job = {.w1 = weights->w1,
                                        .w3 = weights->w3,
                                        .w2 = weights->w2,
                                        .n_tokens = c->count[e],
                                        .x = c->ffn_x + row * z->d,
                                        .h = c->ffn_h + row * z->f,
                                        .y = c->ffn_y + row * z->d};
        const struct moe_expert_job gpu = {weights, c->first[e], c->count[e], &w->gpu.a};
        if (job.n_tokens)
            moe_pool_experts(pool, &job, 1);
        moe_cuda_expert(cuda, &gpu);
    }
    cuda_emulation_stream_sync(cuda->stream);
    const size_t tk = (size_t)c->n * z->top_k;
    agree("ffn_h", w->gpu.a.ffn_h, c->ffn_h, tk * z->f);
    agree("ffn_y", w->gpu.a.ffn_y, c->ffn_y, tk * z->d);
}

/* One pass of n tokens through the layer and the head on both sides. */
static void run_pass(struct world *w, struct moe_pool *pool, const struct moe_cuda_context *cuda,
                     uint32_t length, uint32_t n)
{
    const struct shape *z = &w->shape;
    const struct moe_dense dense = dense_of(w, pool);
    world_tokens(w, length, n);
    w->gpu.box.ticket++;
    const struct moe_attend_job attend = {.config = &w->config,
                                          .layer = &w->layer,
                                          .next_router = &w->next_router,
                                          .keys = w->gpu.keys,
                                          .values = w->gpu.values,
                                          .context = z->context,
                                          .a = &w->gpu.a,
                                          .box = w->gpu.box};
    moe_dense_attend(&dense);
    moe_dense_choose(&dense);
    moe_dense_group(&w->config, &w->cpu.a);
    moe_dense_gather(&dense);
    moe_cuda_attend(cuda, &attend);
    cuda_emulation_stream_sync(cuda->stream);
    compare_attend(w);
    run_experts(w, pool, cuda);
    moe_dense_combine(&dense);
    moe_cuda_combine(cuda, &(struct moe_combine_job){&w->config, &w->gpu.a});
    cuda_emulation_stream_sync(cuda->stream);
    agree("x after the experts", w->gpu.a.x, w->cpu.a.x, (size_t)n * z->d);
    moe_dense_head(&dense, &w->final_norm, &w->head, w->head_bias, w->cpu.logits);
    const struct moe_head_job head = {.config = &w->config,
                                      .norm = &w->final_norm,
                                      .head = &w->head,
                                      .bias = w->head_bias,
                                      .a = &w->gpu.a,
                                      .logits = w->gpu.logits};
    moe_cuda_head(cuda, &head);
    cuda_emulation_stream_sync(cuda->stream);
    agree("logits", w->gpu.logits, w->cpu.logits, z->vocab);
}

/* A prompt in chunks, then single tokens. */
static void run_world(const struct shape *shape, const char *kernels,
                      const struct moe_cuda_context *cuda, uint64_t seed)
{
    char text[160];
    struct world *w = malloc(sizeof *w);
    struct moe_pool *pool = new_pool(kernels);
    ck_assert_ptr_nonnull(w);
    snprintf(text, sizeof text, "seed %u: type %d, D %u, F %u, E %u, K %u, heads %u/%u of %u",
             (unsigned)seed, (int)shape->dtype, shape->d, shape->f, shape->experts, shape->top_k,
             shape->heads, shape->kv_heads, shape->head_dim);
    where = text;
    world_new(w, shape, seed);
    uint32_t length = 0;
    for (uint32_t n; length < shape->context; length += n) {
        const uint32_t left = shape->context - length;
        n = left > 2 && shape->chunk < left ? shape->chunk : left > 2 ? left - 2 : 1;
        run_pass(w, pool, cuda, length, n);
    }
    world_free(w);
    free(w);
    moe_pool_free(pool);
}

static uint32_t pick(struct moe_rng *rng, const uint32_t *from, size_t n)
{
    return from[moe_rng_below(rng, n)];
}
#define PICK(...)                                                                                  \
    pick(&rng, (const uint32_t[]){__VA_ARGS__},                                                    \
         sizeof(const uint32_t[]){__VA_ARGS__} / sizeof(uint32_t))

/* Rows of whole blocks, where the type has blocks. */
static uint32_t whole(enum moe_dtype dtype, uint32_t cols)
{
    const uint32_t block = moe_dtype_info(dtype)->block;
    return (cols + block - 1) / block * block;
}

static struct shape random_shape(uint64_t seed)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    struct shape s = {.arch = (enum moe_arch)(seed % 4),
                      .dtype = (enum moe_dtype)(seed % MOE_N_DTYPES),
                      .d = PICK(64, 32, 33, 40, 72, 7, 128, 128),
                      .f = PICK(64, 48, 31, 96, 5),
                      .experts = PICK(2, 4, 8, 11),
                      .kv_heads = PICK(1, 2, 3),
                      .head_dim = PICK(2, 8, 12, 16, 34, 80),
                      .window = PICK(0, 0, 5, 33),
                      .vocab = PICK(1, 17, 64),
                      .context = PICK(3, 12, 40),
                      .chunk = PICK(1, 5, 13, 17),
                      .bias = moe_rng_below(&rng, 2) == 1,
                      .offset = PICK(0, 0, 1, 3)};
    s.d = whole(s.dtype, s.d);
    s.f = whole(s.dtype, s.f);
    s.top_k = s.arch == MOE_ARCH_PHIMOE ? 2 : 1 + (uint32_t)moe_rng_below(&rng, s.experts);
    s.heads = s.kv_heads * PICK(1, 2, 3, 9);
    return s;
}

/* With a sanitizer every second one: these have all types and architectures as well. */
static void some_shapes(const char *kernels, const struct moe_cuda_context *cuda, uint64_t first,
                        uint64_t end)
{
    for (uint64_t seed = first; seed < end; seed += ADDRESS_SANITIZER ? 2 : 1) {
        const struct shape s = random_shape(seed);
        run_world(&s, kernels, cuda, seed);
    }
}

/* From now on the emulation ends the program where a kernel is launched that this does not load. */
static void load_kernels(void)
{
    ck_assert_int_eq(moe_cuda_load(), 0);
}

START_TEST(order_of_a_kernel_set)
{
    tolerance = 0;
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        const struct moe_kernels *set = moe_kernel_sets[i];
        const struct moe_cuda_context cuda = {.order = {set->lanes, set->fused}};
        if (set->usable() && set->lanes)
            some_shapes(set->name, &cuda, 0, 15);
    }
}
END_TEST

START_TEST(fast_order)
{
    tolerance = 1e-5;
    for (uint32_t cores = 0; cores < 60; cores += 59) {
        const struct moe_cuda_context cuda = {.cores = cores};
        some_shapes("portable", &cuda, cores ? 15 : 0, cores ? 27 : 15);
    }
}
END_TEST

/* A world whose KV cache is full of random numbers. */
static struct world *new_long_world(const struct shape *shape, uint64_t seed)
{
    struct world *w = malloc(sizeof *w);
    ck_assert_ptr_nonnull(w);
    world_new(w, shape, seed);
    w->cpu.a.length = 0;
    for (size_t i = 0; i < (size_t)shape->kv_heads * shape->context * shape->head_dim; i++) {
        w->cpu.keys[i] = w->gpu.keys[i] = world_draw(w, 1);
        w->cpu.values[i] = w->gpu.values[i] = world_draw(w, 1);
    }
    return w;
}

/* Rows long enough to be divided among warps, and contexts among blocks. */
START_TEST(long_rows_and_contexts)
{
    float *partial = malloc(MOE_CUDA_PARTIAL_BYTES);
    ck_assert_ptr_nonnull(partial);
    const struct moe_cuda_context cuda = {
        .cores = 8, .partial = partial, .partial_bytes = MOE_CUDA_PARTIAL_BYTES};
    tolerance = 1e-5;
    for (int dtype = 0; dtype < MOE_N_DTYPES; dtype++) {
        const bool plain = moe_dtype_plain((enum moe_dtype)dtype);
        const struct shape s = {.dtype = (enum moe_dtype)dtype,
                                .d = plain ? 1032 : 1152,
                                .f = plain ? 1288 : 1408,
                                .experts = 3,
                                .top_k = 2,
                                .heads = 4,
                                .kv_heads = 2,
                                .head_dim = 32,
                                .window = dtype == 1 ? 300 : 0,
                                .vocab = 5,
                                .context = 402,
                                .chunk = 400};
        where = "long rows";
        struct world *w = new_long_world(&s, 99);
        struct moe_pool *pool = new_pool("portable");
        run_pass(w, pool, &cuda, 400, 1);
        run_pass(w, pool, &cuda, 380, 3);
        world_free(w);
        free(w);
        moe_pool_free(pool);
    }
    free(partial);
}
END_TEST

/* A context in more parts than a warp has lanes, and in as many as there can be; one whose window
 * leaves few; heads that are longer than a block has threads. */
START_TEST(many_parts_of_a_context)
{
    static const struct shape shapes[] = {
        {.head_dim = 34, .context = 1300}, /* 40 parts */
        {.head_dim = 20, .context = 2202}, /* 64 */
        {.head_dim = 20, .context = 1300, .window = 140},
        {.head_dim = 256, .context = 132},
    };
    float *partial = malloc(MOE_CUDA_PARTIAL_BYTES);
    ck_assert_ptr_nonnull(partial);
    const struct moe_cuda_context cuda = {
        .cores = 80, .partial = partial, .partial_bytes = MOE_CUDA_PARTIAL_BYTES};
    struct moe_pool *pool = new_pool("portable");
    tolerance = 1e-5;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct shape s = shapes[i];
        s.dtype = MOE_F32;
        s.d = 24;
        s.f = 8;
        s.experts = s.top_k = s.kv_heads = 2;
        s.heads = 6;
        s.vocab = 3;
        s.chunk = 1;
        where = "parts of a context";
        struct world *w = new_long_world(&s, i);
        run_pass(w, pool, &cuda, s.context - 1, 1);
        run_pass(w, pool, &cuda, s.context - 33, 1);
        world_free(w);
        free(w);
    }
    moe_pool_free(pool);
    free(partial);
}
END_TEST

/* cuBLAS, or what stands for it: BF16 keeps 16 bits of the activations. */
START_TEST(many_tokens)
{
    const struct cuda_emulation settings = cuda_emulation_default(1);
    cuda_emulation_set(&settings);
    load_kernels();
    struct CUstream_st *stream = cuda_emulation_stream_new();
    struct moe_cuda_gemm *gemm = NULL;
    struct moe_err err = {0};
    static const char *const names[] = {"no such library", FAKE_CUBLAS_REFUSES, FAKE_CUBLAS, NULL};
    const char *const none[] = {names[0], NULL}, *const refuses[] = {names[0], names[1], NULL};
    ck_assert_int_eq(moe_cuda_gemm_open(&gemm, stream, none, &err), MOE_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.text, "no cuBLAS (no such library"), "%s", err.text);
    ck_assert_int_eq(moe_cuda_gemm_open(&gemm, stream, refuses, &err), MOE_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.text, "does not start: its status 1"), "%s", err.text);
    ck_assert_uint_eq(cuda_emulation_live(), 1); /* the stream */
    ck_assert_msg(moe_cuda_gemm_open(&gemm, stream, names, &err) == MOE_OK, "%s", err.text);
    const struct moe_cuda_context cuda = {.stream = stream, .cores = 8, .gemm = gemm};
    tolerance = 5e-5;
    for (int dtype = 0; dtype < MOE_N_DTYPES; dtype++) {
        const struct shape s = {.dtype = (enum moe_dtype)dtype,
                                .d = whole((enum moe_dtype)dtype, 520),
                                .f = whole((enum moe_dtype)dtype, 530),
                                .experts = 2,
                                .top_k = 2,
                                .heads = 2,
                                .kv_heads = 1,
                                .head_dim = 260,
                                .vocab = 9,
                                .context = 12,
                                .chunk = 12,
                                .bias = true};
        run_world(&s, "portable", &cuda, 5);
    }
    moe_cuda_gemm_close(gemm);
    cuda_emulation_stream_free(stream);
}
END_TEST

/* Many experts and choices; scores that are equal, infinite or no numbers; routes that are forced.
 */
static void routes_of(struct world *w, const struct moe_cuda_context *cuda, bool forced)
{
    const struct shape *z = &w->shape;
    struct moe_activations *c = &w->cpu.a, *g = &w->gpu.a;
    const uint32_t n = z->chunk;
    world_tokens(w, 0, n);
    moe_expert *expert = world_array(w, (size_t)n * z->top_k, sizeof *expert);
    float *weight = world_vector(w, (size_t)n * z->top_k, 0, 1);
    for (size_t i = 0; i < (size_t)n * z->top_k; i++)
        expert[i] = (moe_expert)((i * 7 + i / z->top_k) % z->experts);
    w->gpu.box.ticket++;
    const struct moe_attend_job job = {.config = &w->config,
                                       .layer = &w->layer,
                                       .keys = w->gpu.keys,
                                       .values = w->gpu.values,
                                       .context = z->context,
                                       .a = g,
                                       .forced = forced ? expert : NULL,
                                       .forced_weight = forced ? weight : NULL,
                                       .box = {.expert = w->gpu.box.expert,
                                               .weight = w->gpu.box.weight,
                                               .flag = w->gpu.box.flag,
                                               .ticket = w->gpu.box.ticket}};
    moe_cuda_attend(cuda, &job);
    for (uint32_t t = 0; t < n; t++)
        moe_router_choose(&w->config, g->score + (size_t)t * z->experts, c->expert + t * z->top_k,
                          c->weight + t * z->top_k, c->share);
    if (forced) {
        memcpy(c->expert, expert, (size_t)n * z->top_k * sizeof *expert);
        memcpy(c->weight, weight, (size_t)n * z->top_k * sizeof *weight);
    }
    moe_dense_group(&w->config, c);
    const size_t tk = (size_t)n * z->top_k;
    equal("experts", g->expert, c->expert, tk * sizeof *c->expert);
    for (size_t i = 0; i < tk; i++)
        ck_assert(memcmp(&g->weight[i], &c->weight[i], sizeof *c->weight) == 0 ||
                  (isnan(g->weight[i]) && isnan(c->weight[i])));
    equal("count", g->count, c->count, z->experts * sizeof *c->count);
    equal("first", g->first, c->first, z->experts * sizeof *c->first);
    equal("row", g->row, c->row, tk * sizeof *c->row);
    equal("box", w->gpu.box.expert, g->expert, tk * sizeof *c->expert);
    equal("box", w->gpu.box.weight, g->weight, tk * sizeof *c->weight);
    ck_assert_uint_eq(w->gpu.flag, w->gpu.box.ticket);
}

START_TEST(hostile_routes)
{
    const struct moe_cuda_context cuda = {.cores = 8};
    static const uint32_t sizes[][2] = {{2, 2}, {300, 64}, {64, 64}, {4096, 8}, {5, 1}};
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        const bool phi = i % 2;
        const struct shape s = {.arch = phi ? MOE_ARCH_PHIMOE : MOE_ARCH_MIXTRAL,
                                .dtype = MOE_F32,
                                .d = 8,
                                .f = 1,
                                .experts = sizes[i / 2][0],
                                .top_k = phi ? 2 : sizes[i / 2][1],
                                .heads = 1,
                                .kv_heads = 1,
                                .head_dim = 2,
                                .vocab = 1,
                                .context = 3,
                                .chunk = i / 2 % 2 ? 3 : 1};
        struct world *w = malloc(sizeof *w);
        ck_assert_ptr_nonnull(w);
        where = "hostile routes";
        world_new(w, &s, i);
        float *router = (float *)(uintptr_t)w->layer.router.data;
        routes_of(w, &cuda, false);
        routes_of(w, &cuda, true);
        for (uint32_t e = 0; e < s.experts; e++) /* ties: every third row is the same */
            memcpy(router + (size_t)e * s.d, router + (size_t)(e % 3) * s.d, s.d * sizeof *router);
        routes_of(w, &cuda, false);
        for (uint32_t e = 0; e < s.experts; e += 2)
            router[(size_t)e * s.d] = e % 4 ? INFINITY : NAN;
        routes_of(w, &cuda, false);
        for (uint32_t e = 0; e < s.experts; e++)
            router[(size_t)e * s.d] = NAN;
        routes_of(w, &cuda, false);
        memset(router, 0, (size_t)s.experts * s.d * sizeof *router);
        routes_of(w, &cuda, false);
        world_free(w);
        free(w);
    }
}
END_TEST

/* More tokens than the second dimension of a grid has room for: the emulation refuses such grids.
 */
START_TEST(more_tokens_than_a_grid_is_high)
{
    enum { N = ADDRESS_SANITIZER ? 1 : 65537, LAST = N - 1 };
    const struct moe_cuda_context cuda = {.cores = 8};
    const struct moe_llm_config config = {.d_model = 1, .top_k = 1};
    float *x = calloc(N, sizeof *x), *y = calloc(N, sizeof *y), *weight = calloc(N, sizeof *weight);
    uint32_t *row = calloc(N, sizeof *row);
    ck_assert(x && y && weight && row);
    x[LAST] = 1;
    y[LAST] = 3;
    weight[LAST] = 0.5f;
    row[LAST] = LAST;
    const struct moe_activations a = {.n = N, .x = x, .ffn_y = y, .weight = weight, .row = row};
    moe_cuda_combine(&cuda, &(struct moe_combine_job){&config, &a});
    ck_assert_float_eq(x[LAST], 2.5f);
    free(x);
    free(y);
    free(weight);
    free(row);
}
END_TEST

/* Copies by words, at every alignment; nothing beside them is touched. */
START_TEST(copies_by_words)
{
    enum { ROOM = 5000, EDGE = 64 };
    unsigned char from[ROOM + EDGE], to[ROOM + EDGE];
    struct moe_rng rng;
    moe_rng_init(&rng, 5);
    for (int i = 0; i < 40; i++) {
        const size_t grain = (size_t)1 << moe_rng_below(&rng, 6); /* 1 to 32 bytes */
        const size_t bytes = (1 + moe_rng_below(&rng, (ROOM - EDGE) / grain / 2)) * grain;
        const size_t at = moe_rng_below(&rng, EDGE / grain) * grain;
        const size_t start = (size_t)(-(uintptr_t)to % EDGE),
                     skew = (size_t)(-(uintptr_t)from % EDGE);
        for (size_t k = 0; k < sizeof to; k++) {
            from[k] = (unsigned char)moe_rng_below(&rng, 256);
            to[k] = 0xEE;
        }
        moe_cuda_words(NULL, to + start + at, from + skew, bytes);
        ck_assert(memcmp(to + start + at, from + skew, bytes) == 0);
        for (size_t k = 0; k < sizeof to; k++)
            if ((k < start + at || k >= start + at + bytes) && to[k] != 0xEE)
                ck_abort_msg("byte %zu beside %zu bytes", k, bytes);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda kernels");
    TCase *t = tcase_create("emulated");
    tcase_add_unchecked_fixture(t, load_kernels, NULL);
    tcase_add_test(t, order_of_a_kernel_set);
    tcase_add_test(t, fast_order);
    tcase_add_test(t, long_rows_and_contexts);
    tcase_add_test(t, many_parts_of_a_context);
    tcase_add_test(t, many_tokens);
    tcase_add_test(t, hostile_routes);
    tcase_add_test(t, more_tokens_than_a_grid_is_high);
    tcase_add_test(t, copies_by_words);
    suite_add_tcase(s, t);
    return run_suite(s);
}
