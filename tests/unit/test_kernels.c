/* Every kernel set against sums in double precision, and against itself: the same bits for any
 * number of tokens and rows. Weights end at a page that must not be touched. */
#include "base/rng.h"
#include "exec/kernels.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* n bytes whose last one is the last before a page without access. */
struct guarded {
    uint8_t *map, *data;
    size_t size;
};

static struct guarded guarded_new(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (n + page - 1) / page * page;
    struct guarded g = {.size = size + page};
    g.map = mmap(NULL, g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(g.map != MAP_FAILED);
    ck_assert_int_eq(mprotect(g.map + size, page, PROT_NONE), 0);
    g.data = g.map + size - n;
    return g;
}

static void guarded_free(struct guarded *g)
{
    munmap(g->map, g->size);
}

static float draw(struct moe_rng *rng)
{
    return (float)(moe_rng_unit(rng) * 2 - 1);
}

/* A weight of the type near value, and what it stands for. F16 here: a normal number by truncation,
 * or a subnormal one. */
static float put_weight(enum moe_dtype dtype, uint8_t *to, float value)
{
    uint32_t bits;
    uint16_t half;
    memcpy(&bits, &value, sizeof bits);
    if (dtype == MOE_F32) {
        memcpy(to, &value, sizeof value);
        return value;
    }
    if (dtype == MOE_BF16) {
        half = (uint16_t)(bits >> 16);
        bits &= 0xffff0000;
    } else {
        const int exponent = (int)(bits >> 23 & 0xff) - 127;
        const uint32_t sign = bits >> 31, mantissa = bits >> 13 & 0x3ff;
        half = (uint16_t)(sign << 15 | (exponent >= -14 ? (uint32_t)(exponent + 15) << 10 : 0) |
                          mantissa);
        const float m = exponent >= -14 ? ldexpf((float)(1024 + mantissa), exponent - 10)
                                        : ldexpf((float)mantissa, -24);
        memcpy(to, &half, sizeof half);
        return sign ? -m : m;
    }
    memcpy(to, &half, sizeof half);
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct setup {
    enum moe_dtype dtype;
    uint32_t rows, cols, tokens;
    struct guarded weights, x_memory;
    struct moe_matrix w;
    float *value; /* [rows, cols] what the weights stand for */
    float *x;     /* [tokens, cols], 4-byte aligned only */
};

/* Where the scale of a block lies. */
static uint8_t *row_scale(const struct setup *s, uint32_t r, uint32_t block)
{
    const size_t row_bytes = moe_dtype_row_bytes(s->dtype, s->cols);
    return s->weights.data + (r + 1) * row_bytes - 2 * (s->cols / MOE_QUANT_BLOCK - block);
}

/* Rows of blocks: any numbers, and scales of all signs and sizes, a fifth of them 0 or subnormal,
 * such that a weight is at most 1. */
static void put_blocks(struct setup *s, struct moe_rng *rng)
{
    const size_t row_bytes = moe_dtype_row_bytes(s->dtype, s->cols);
    const size_t scales = s->cols / MOE_QUANT_BLOCK, largest = s->dtype == MOE_Q8 ? 0x2000 : 0x3000;
    for (uint32_t r = 0; r < s->rows; r++) {
        uint8_t *row = s->weights.data + r * row_bytes;
        for (size_t i = 0; i < row_bytes - 2 * scales; i++)
            row[i] = (uint8_t)moe_rng_below(rng, 256);
        for (size_t b = 0; b < scales; b++) {
            const uint64_t kind = moe_rng_below(rng, 10), any = moe_rng_next(rng);
            const uint64_t size = kind == 0   ? 0
                                  : kind == 1 ? any % 0x400
                                              : largest - 1 - any % 0x400;
            const uint16_t half = (uint16_t)(size | (any >> 20 & 0x8000));
            memcpy(row_scale(s, r, (uint32_t)b), &half, sizeof half);
        }
        moe_dtype_info(s->dtype)->to_f32(row, s->cols, s->value + (size_t)r * s->cols);
    }
}

static struct setup setup_new(enum moe_dtype dtype, uint32_t rows, uint32_t cols, uint32_t tokens,
                              uint64_t seed)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    const uint32_t block = moe_dtype_info(dtype)->block;
    cols = (cols + block - 1) / block * block;
    const size_t n = (size_t)rows * cols, size = moe_dtype_info(dtype)->bytes;
    struct setup s = {.dtype = dtype, .rows = rows, .cols = cols, .tokens = tokens};
    s.weights = guarded_new(rows * moe_dtype_row_bytes(dtype, cols));
    s.x_memory = guarded_new((size_t)tokens * cols * sizeof(float));
    s.value = malloc(n * sizeof *s.value);
    ck_assert(s.value);
    if (!moe_dtype_plain(dtype))
        put_blocks(&s, &rng);
    for (size_t i = 0; moe_dtype_plain(dtype) && i < n; i++) /* some tiny: a subnormal F16 */
        s.value[i] = put_weight(dtype, s.weights.data + i * size,
                                draw(&rng) * (i % 100 == 7 ? 1e-5f : 1.0f));
    s.x = (float *)(void *)s.x_memory.data;
    for (size_t i = 0; i < (size_t)tokens * cols; i++)
        s.x[i] = draw(&rng);
    s.w = (struct moe_matrix){s.weights.data, dtype, rows, cols};
    return s;
}

static void setup_free(struct setup *s)
{
    guarded_free(&s->weights);
    guarded_free(&s->x_memory);
    free(s->value);
}

/* The dot product in double, and the error that float32 in some order of at least four lanes may
 * have: n/4 + 16 roundings of at most 2^-24 of the sum of magnitudes; two BF16 terms: and 2^-16. */
static double reference(const struct moe_kernels *set, const struct setup *s, uint32_t r,
                        uint32_t t, double *error)
{
    double sum = 0, magnitude = 0;
    for (uint32_t d = 0; d < s->cols; d++) {
        const double p = (double)s->value[(size_t)r * s->cols + d] * s->x[(size_t)t * s->cols + d];
        sum += p;
        magnitude += fabs(p);
    }
    const bool two_terms = s->dtype == MOE_BF16 && strcmp(set->name, "avx512-bf16") == 0;
    *error = magnitude * ((0.25 * s->cols + 16) * 0x1p-24 + (two_terms ? 0x1p-16 : 0)) + 1e-37;
    return sum;
}

static void check_dot(const struct moe_kernels *set, const struct setup *s)
{
    const size_t n = (size_t)s->rows * s->tokens;
    float *y = malloc((n + 2) * sizeof *y);
    ck_assert(y);
    for (size_t i = 0; i < n + 2; i++)
        y[i] = 77;
    set->dot(&s->w, 0, s->rows, s->x, s->tokens, y + 1, s->rows);
    ck_assert(y[0] == 77 && y[n + 1] == 77);
    for (uint32_t t = 0; t < s->tokens; t++)
        for (uint32_t r = 0; r < s->rows; r++) {
            double error;
            const double want = reference(set, s, r, t, &error);
            const double got = y[1 + (size_t)t * s->rows + r];
            if (!(fabs(got - want) <= error))
                ck_abort_msg("%s type %d [%u, %u] T %u: row %u token %u is %g, not %g (within %g)",
                             set->name, (int)s->dtype, s->rows, s->cols, s->tokens, r, t, got, want,
                             error);
        }
    free(y);
}

/* Of blocks: rounded up. */
static const uint32_t some_cols[] = {1,  2,  3,  7,   15,  16,  17,  31,  32,   33,
                                     63, 64, 65, 100, 511, 512, 513, 700, 1030, 2061};
static const uint32_t some_rows[] = {1, 2, 3, 5, 8, 31, 32, 33, 41};
static const uint32_t some_tokens[] = {1, 2, 3, 4, 5, 6, 7, 16, 17, 49};

/* Calls check for every usable set and every type. */
static void for_all(void (*check)(const struct moe_kernels *set, enum moe_dtype dtype))
{
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        if (!moe_kernel_sets[i]->usable()) {
            printf("kernels '%s': this processor lacks %s, not tested\n", moe_kernel_sets[i]->name,
                   moe_kernel_sets[i]->summary);
            continue;
        }
        for (int dtype = 0; dtype < MOE_N_DTYPES; dtype++)
            check(moe_kernel_sets[i], (enum moe_dtype)dtype);
    }
}

static void dot_shapes(const struct moe_kernels *set, enum moe_dtype dtype)
{
    uint64_t seed = 1;
    for (size_t c = 0; c < sizeof some_cols / sizeof *some_cols; c++)
        for (size_t r = 0; r < sizeof some_rows / sizeof *some_rows; r++) {
            /* Not the whole product: every row count meets every token count in some width. */
            const uint32_t t = some_tokens[(c + r) % (sizeof some_tokens / sizeof *some_tokens)];
            struct setup s = setup_new(dtype, some_rows[r], some_cols[c], t, seed++);
            check_dot(set, &s);
            setup_free(&s);
        }
}

START_TEST(dot_is_near_the_exact_sum)
{
    for_all(dot_shapes);
}
END_TEST

static void check_gate_up(const struct moe_kernels *set, const struct setup *g,
                          const struct setup *u)
{
    float *h = malloc((size_t)g->rows * g->tokens * sizeof *h);
    ck_assert(h);
    set->gate_up(&g->w, &u->w, 0, g->rows, g->x, g->tokens, h, g->rows);
    struct setup up = *u;
    up.x = g->x;
    for (uint32_t t = 0; t < g->tokens; t++)
        for (uint32_t r = 0; r < g->rows; r++) {
            double eg, eu;
            const double a = reference(set, g, r, t, &eg), b = reference(set, &up, r, t, &eu);
            const double silu = a / (1 + exp(-a)), want = silu * b;
            const double error = 1.1 * eg * fabs(b) + fabs(silu) * eu + 1e-6 * fabs(want) + eg * eu;
            const double got = h[(size_t)t * g->rows + r];
            if (!(fabs(got - want) <= error))
                ck_abort_msg("%s type %d [%u, %u] T %u: %g, not %g", set->name, (int)g->dtype,
                             g->rows, g->cols, g->tokens, got, want);
        }
    free(h);
}

static void gate_up_shapes(const struct moe_kernels *set, enum moe_dtype dtype)
{
    for (size_t i = 0; i < sizeof some_cols / sizeof *some_cols; i++) {
        const uint32_t rows = some_rows[i % (sizeof some_rows / sizeof *some_rows)];
        const uint32_t tokens = some_tokens[i % (sizeof some_tokens / sizeof *some_tokens)];
        struct setup g = setup_new(dtype, rows, some_cols[i], tokens, 1000 + i);
        struct setup u = setup_new(dtype, rows, some_cols[i], tokens, 2000 + i);
        check_gate_up(set, &g, &u);
        setup_free(&g);
        setup_free(&u);
    }
}

START_TEST(gate_up_is_near_the_exact_value)
{
    for_all(gate_up_shapes);
}
END_TEST

/* Rows [r0, r1) and tokens [t0, t1) computed alone have the bits of the whole. */
static void check_part(const struct moe_kernels *set, const struct setup *s, const struct setup *u,
                       const float *whole, uint32_t r0, uint32_t r1, uint32_t t0, uint32_t t1)
{
    float *part = calloc((size_t)s->rows * s->tokens, sizeof *part);
    ck_assert(part);
    const float *x = s->x + (size_t)t0 * s->cols;
    if (u)
        set->gate_up(&s->w, &u->w, r0, r1, x, t1 - t0, part, s->rows);
    else
        set->dot(&s->w, r0, r1, x, t1 - t0, part, s->rows);
    for (uint32_t t = t0; t < t1; t++)
        ck_assert_msg(memcmp(part + (size_t)(t - t0) * s->rows + r0,
                             whole + (size_t)t * s->rows + r0, (r1 - r0) * sizeof *part) == 0,
                      "%s type %d [%u, %u] %s: rows %u..%u tokens %u..%u differ", set->name,
                      (int)s->dtype, s->rows, s->cols, u ? "gate_up" : "dot", r0, r1, t0, t1);
    free(part);
}

static float *whole_of(const struct moe_kernels *set, const struct setup *s, const struct setup *u)
{
    float *whole = malloc((size_t)s->rows * s->tokens * sizeof *whole);
    ck_assert(whole);
    if (u)
        set->gate_up(&s->w, &u->w, 0, s->rows, s->x, s->tokens, whole, s->rows);
    else
        set->dot(&s->w, 0, s->rows, s->x, s->tokens, whole, s->rows);
    return whole;
}

static void check_some_parts(const struct moe_kernels *set, const struct setup *s,
                             const struct setup *u, const float *whole, uint32_t n)
{
    struct moe_rng rng;
    moe_rng_init(&rng, s->cols);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t r = (uint32_t)moe_rng_below(&rng, s->rows);
        const uint32_t t = (uint32_t)moe_rng_below(&rng, s->tokens);
        check_part(set, s, u, whole, r, r + 1 + (uint32_t)moe_rng_below(&rng, s->rows - r), t,
                   t + 1 + (uint32_t)moe_rng_below(&rng, s->tokens - t));
    }
}

static void check_bits(const struct moe_kernels *set, const struct setup *s, const struct setup *u)
{
    float *whole = whole_of(set, s, u);
    for (uint32_t n = 1; n <= s->tokens; n++)
        check_part(set, s, u, whole, 0, s->rows, s->tokens - n, s->tokens);
    for (uint32_t t = 0; t < s->tokens; t++)
        check_part(set, s, u, whole, 0, s->rows, t, t + 1);
    check_some_parts(set, s, u, whole, 40);
    free(whole);
}

/* Values and bits of shapes beyond every set's blocks. */
static void check_large(const struct moe_kernels *set, enum moe_dtype dtype, uint32_t rows,
                        uint32_t cols, uint32_t tokens)
{
    struct setup g = setup_new(dtype, rows, cols, tokens, 40);
    struct setup u = setup_new(dtype, rows, cols, 1, 50);
    check_dot(set, &g);
    check_gate_up(set, &g, &u);
    for (int both = 0; both < 2; both++) {
        float *whole = whole_of(set, &g, both ? &u : NULL);
        check_part(set, &g, both ? &u : NULL, whole, 0, rows, tokens - 1, tokens);
        check_some_parts(set, &g, both ? &u : NULL, whole, 8);
        free(whole);
    }
    setup_free(&g);
    setup_free(&u);
}

static void same_bits(const struct moe_kernels *set, enum moe_dtype dtype)
{
    static const uint32_t cols[] = {5, 64, 513, 1100};
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
        struct setup g = setup_new(dtype, 37, cols[i], 40, 10 + i);
        struct setup u = setup_new(dtype, 37, cols[i], 1, 20 + i);
        check_bits(set, &g, NULL);
        check_bits(set, &g, &u);
        setup_free(&g);
        setup_free(&u);
    }
    struct setup many = setup_new(dtype, 70, 530, 100, 30); /* more than one block each way */
    check_bits(set, &many, NULL);
    setup_free(&many);
    check_large(set, dtype, 519, 64, 133);
    check_large(set, dtype, 19, 4161, 31);
    check_large(set, dtype, 18, 4224, 16);
}

START_TEST(bits_do_not_depend_on_the_call)
{
    for_all(same_bits);
}
END_TEST

/* One weight (of blocks: the scale of one) and one activation that are no numbers: their row and
 * token show it, no other does. */
static void check_special(const struct moe_kernels *set, enum moe_dtype dtype, uint32_t tokens,
                          float bad)
{
    enum { ROWS = 9 };
    float y[ROWS * 20];
    for (uint32_t d = 0; d < 77; d += 19) {
        struct setup s = setup_new(dtype, ROWS, 77, tokens, 5);
        uint16_t half = (uint16_t)(dtype == MOE_BF16 ? isnan(bad) ? 0x7fc1 : 0x7f80
                                   : isnan(bad)      ? 0x7e01
                                                     : 0x7c00);
        uint8_t *row = s.weights.data + 4 * moe_dtype_row_bytes(dtype, s.cols);
        if (dtype == MOE_F32)
            memcpy(row + d * sizeof bad, &bad, sizeof bad);
        else if (moe_dtype_plain(dtype))
            memcpy(row + d * sizeof half, &half, sizeof half);
        else
            memcpy(row_scale(&s, 4, d / MOE_QUANT_BLOCK), &half, sizeof half);
        s.x[(size_t)(tokens - 1) * s.cols + (76 - d)] = bad;
        set->dot(&s.w, 0, ROWS, s.x, tokens, y, ROWS);
        for (uint32_t r = 0; r < ROWS && isinf(bad); r++) /* infinite, and not 0 times infinity */
            ck_assert(r == 4 || isinf(y[(tokens - 1) * ROWS + r]) ||
                      s.value[(size_t)r * s.cols + (76 - d)] == 0);
        for (uint32_t t = 0; t < tokens; t++)
            for (uint32_t r = 0; r < ROWS; r++)
                ck_assert_msg(!isfinite(y[t * ROWS + r]) == (r == 4 || t == tokens - 1),
                              "%s type %d T %u column %u: row %u token %u is %g", set->name,
                              (int)dtype, tokens, d, r, t, (double)y[t * ROWS + r]);
        setup_free(&s);
    }
}

static void special(const struct moe_kernels *set, enum moe_dtype dtype)
{
    static const uint32_t tokens[] = {1, 3, 7, 17};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        check_special(set, dtype, tokens[i], NAN);
        check_special(set, dtype, tokens[i], INFINITY);
    }
}

START_TEST(nan_and_infinity_stay_visible)
{
    for_all(special);
}
END_TEST

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* Blocks have the bits of the float32 matrix of the weights that they stand for, whatever their
 * scales are. */
static void check_as_f32(const struct moe_kernels *set, enum moe_dtype dtype, uint32_t cols,
                         uint32_t tokens, const uint16_t *scale)
{
    struct setup s = setup_new(dtype, 19, cols, tokens, cols + tokens);
    if (scale) {
        for (uint32_t r = 0; r < s.rows; r += 2)
            memcpy(row_scale(&s, r, r % (s.cols / MOE_QUANT_BLOCK)), scale, sizeof *scale);
        for (uint32_t r = 0; r < s.rows; r++)
            moe_dtype_info(dtype)->to_f32(s.weights.data + r * moe_dtype_row_bytes(dtype, s.cols),
                                          s.cols, s.value + (size_t)r * s.cols);
    }
    struct setup plain = s;
    plain.w = (struct moe_matrix){s.value, MOE_F32, s.rows, s.cols};
    for (int both = 0; both < 2; both++) {
        float *got = whole_of(set, &s, both ? &s : NULL);
        float *want = whole_of(set, &plain, both ? &plain : NULL);
        for (uint32_t i = 0; i < s.rows * tokens; i++)
            ck_assert_msg(same(got[i], want[i]), "%s type %d [%u, %u] T %u: %a, not %a", set->name,
                          (int)dtype, s.rows, s.cols, tokens, (double)got[i], (double)want[i]);
        free(got);
        free(want);
    }
    setup_free(&s);
}

static void as_f32(const struct moe_kernels *set, enum moe_dtype dtype)
{
    /* Zeros, least and largest subnormal, least and largest normal, infinities, no numbers. */
    static const uint16_t scales[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0xfbff,
                                      0x7bff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xfe01};
    if (moe_dtype_plain(dtype))
        return;
    for (uint32_t cols = MOE_QUANT_BLOCK; cols <= 1200; cols += MOE_QUANT_BLOCK)
        check_as_f32(set, dtype, cols, some_tokens[cols / MOE_QUANT_BLOCK % 10], NULL);
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        for (uint32_t tokens = 1; tokens < 20; tokens += 3)
            check_as_f32(set, dtype, 96, tokens, &scales[i]);
}

START_TEST(blocks_are_as_their_float32_weights)
{
    for_all(as_f32);
}
END_TEST

/* One query over n keys in two blocks, the second with what the first left, against plain double
 * precision. */
static void check_attend(const struct moe_kernels *set, uint32_t n, uint32_t hd)
{
    struct setup s = setup_new(MOE_F32, 1, hd, 2 * n + 1, hd + n);
    const float *q = s.x, *keys = q + hd, *values = keys + (size_t)n * hd;
    const uint32_t first = n / 3;
    struct moe_softmax softmax = {.max = -INFINITY};
    double *share = calloc(n, sizeof *share), sum = 0;
    float *y = calloc(hd, sizeof *y);
    ck_assert(share && y);
    if (first)
        set->attend(q, keys, values, first, hd, &softmax, y);
    set->attend(q, keys + (size_t)first * hd, values + (size_t)first * hd, n - first, hd, &softmax,
                y);
    for (uint32_t k = 0; k < n; k++) {
        for (uint32_t i = 0; i < hd; i++)
            share[k] += (double)q[i] * (double)keys[(size_t)k * hd + i];
        share[k] = exp(share[k] / sqrt(hd) - (double)softmax.max);
        sum += share[k];
    }
    ck_assert_double_eq_tol((double)softmax.sum, sum, 1e-5 * sum);
    for (uint32_t i = 0; i < hd; i++) {
        double want = 0;
        for (uint32_t k = 0; k < n; k++)
            want += share[k] * (double)values[(size_t)k * hd + i];
        ck_assert_double_eq_tol((double)y[i], want, 1e-5 * sum);
    }
    free(share);
    free(y);
    setup_free(&s);
}

static void attends(const struct moe_kernels *set, enum moe_dtype dtype)
{
    if (dtype != MOE_F32)
        return;
    for (uint32_t hd = 1; hd < 200; hd++)
        check_attend(set, 1 + hd % MOE_ATTENTION_KEYS, hd);
    for (uint32_t n = 1; n <= MOE_ATTENTION_KEYS; n++)
        check_attend(set, n, 128);
}

START_TEST(attention_of_every_width)
{
    for_all(attends);
}
END_TEST

START_TEST(sets_are_found_by_name)
{
    const struct moe_kernels *set = NULL;
    struct moe_err err;
    ck_assert_str_eq(moe_kernel_sets[0]->name, "portable");
    ck_assert(moe_kernel_sets[0]->usable());
    ck_assert_int_eq(moe_kernels_find("auto", &set, &err), MOE_OK);
    ck_assert_ptr_eq(set, moe_kernels_best());
    ck_assert(set->usable());
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        set = NULL;
        if (moe_kernel_sets[i]->usable()) {
            ck_assert_int_eq(moe_kernels_find(moe_kernel_sets[i]->name, &set, &err), MOE_OK);
            ck_assert_ptr_eq(set, moe_kernel_sets[i]);
        } else {
            ck_assert_int_eq(moe_kernels_find(moe_kernel_sets[i]->name, &set, &err),
                             MOE_ERR_UNSUPPORTED);
            ck_assert_ptr_null(set);
        }
    }
    ck_assert_int_eq(moe_kernels_find("sse9", &set, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "unknown kernels 'sse9'; known: auto, portable"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels");
    TCase *tc = tcase_create("kernels");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, dot_is_near_the_exact_sum);
    tcase_add_test(tc, gate_up_is_near_the_exact_value);
    tcase_add_test(tc, bits_do_not_depend_on_the_call);
    tcase_add_test(tc, nan_and_infinity_stay_visible);
    tcase_add_test(tc, blocks_are_as_their_float32_weights);
    tcase_add_test(tc, attention_of_every_width);
    tcase_add_test(tc, sets_are_found_by_name);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
