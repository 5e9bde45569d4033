#include "policies/hybrimoe_mrs.h"

#ifdef __x86_64__
#include <immintrin.h>

/* Vectors of 8 floats only: for those of 16 the processor lowers its clock for all that it does. */
enum {
    LANES = MOE_KEY_BLOCK,
    UNIT = MOE_MRS_UNIT,
    AT_ONCE = UNIT / LANES,
    SOME = 2 * LANES,
    USUAL = 128,
    SEEN_NEAR = 9,
    TRIES = 3
};

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,popcnt")))

/* Scores about where the p-th highest was, found in one pass. */
struct near {
    uint32_t n_above, n;
    float *score; /* more than SOME are of no use */
};

AVX512 static inline __m256i load_ints(const void *x)
{
    return _mm256_loadu_si256(x);
}

AVX512 static inline void look_near(const float *score, size_t n, float at, float step,
                                    struct near *near)
{
    const __m256 low = _mm256_set1_ps(at - step), width = _mm256_set1_ps(2 * step);
    const __m256i bits = _mm256_castps_si256(width);
    float *end = near->score;
    moe_uints n_above = {0};
    for (size_t i = 0; i < n; i += LANES) {
        __m256 x = _mm256_loadu_ps(score + i);
        __m256i above = _mm256_castps_si256(x - low); /* below 0: of unsigned ones the highest */
        __mmask8 in = _mm256_cmplt_epu32_mask(above, bits);
        _mm256_storeu_ps(end, _mm256_maskz_compress_ps(in, x));
        end += (unsigned)__builtin_popcount(in);
        n_above -= (moe_uints)((moe_ints)above >= (moe_ints)bits);
    }
    near->n_above = moe_lanes_count(&n_above);
    near->n = (uint32_t)(end - near->score);
}

/* Of the lane where rank is that; *found: whether there is one. */
AVX512 static inline float at_rank(const __m256 *few, const moe_uints *rank, uint32_t that,
                                   bool *found)
{
    __mmask8 low = _mm256_cmpeq_epi32_mask((__m256i)rank[0], _mm256_set1_epi32((int)that));
    __mmask8 high = _mm256_cmpeq_epi32_mask((__m256i)rank[1], _mm256_set1_epi32((int)that));
    *found = low | high;
    return _mm256_cvtss_f32(_mm256_or_ps(_mm256_maskz_compress_ps(low, few[0]),
                                         _mm256_maskz_compress_ps(high, few[1])));
}

/* The p-th highest to *cut, where it and the next are among them, and so far apart that their
 * exponentials, which are right to the last place, have the same order. */
AVX512 static inline bool cut_near(const struct near *near, uint32_t p, float most, float *cut)
{
    uint32_t before = p - 1 - near->n_above; /* of them; of more above wraps around */
    if (near->n > SOME || before >= SOME || before + 1 >= near->n)
        return false;
    uint32_t lanes = (1u << near->n) - 1;
    const __m256 none = _mm256_set1_ps(-INFINITY);
    __m256 few[2] = {_mm256_mask_loadu_ps(none, (__mmask8)lanes, near->score),
                     _mm256_mask_loadu_ps(none, (__mmask8)(lanes >> LANES), near->score + LANES)};
    moe_uints rank[2] = {{0}, {0}};
    float score[SOME];
    _mm256_storeu_ps(score, few[0]);
    _mm256_storeu_ps(score + LANES, few[1]);
    for (int i = 0; i < SOME; i++) {
        __m256 one = _mm256_set1_ps(score[i]);
        rank[0] -= (moe_uints)_mm256_cmp_ps(few[0], one, _CMP_LT_OQ);
        rank[1] -= (moe_uints)_mm256_cmp_ps(few[1], one, _CMP_LT_OQ);
    }
    bool is_one, is_next;
    float a = at_rank(few, rank, before, &is_one), b = at_rank(few, rank, before + 1, &is_next);
    *cut = a;
    return is_one && is_next && (a - most) - (b - most) > 0x1p-18f && a - most > -64;
}

/* As moe_exp_blocks. */
AVX512 static inline void exp_blocks(__m256 *x, int n)
{
    const __m256 to_integer = _mm256_set1_ps(0x1.8p23f + 64);
    const __m256i least = _mm256_set1_epi32((int)0xc2d00000u);
    __m256 r[AT_ONCE], r2[AT_ONCE], sum[AT_ONCE], power[AT_ONCE];
    for (int k = 0; k < n; k++) {
        r[k] = _mm256_castsi256_ps(_mm256_min_epu32(_mm256_castps_si256(x[k]), least));
        sum[k] = r[k] * 0x1.715476p+0f + to_integer;
    }
    for (int k = 0; k < n; k++) {
        __m256 m = sum[k] - to_integer;
        /* the first product is exact */
        r[k] = _mm256_fnmadd_ps(m, _mm256_set1_ps(0x1.63p-1f), r[k]) - m * -0x1.bd0106p-13f;
    }
    for (int k = 0; k < n; k++) {
        r2[k] = r[k] * r[k];
        power[k] = r2[k] * (r[k] * (1.0f / 5040) + 1.0f / 720);
    }
    for (int k = 0; k < n; k++)
        power[k] = r2[k] * ((r[k] * (1.0f / 120) + 1.0f / 24) + power[k]);
    for (int k = 0; k < n; k++)
        power[k] = r[k] + r2[k] * ((r[k] * (1.0f / 6) + 0.5f) + power[k]) + 1.0f;
    for (int k = 0; k < n; k++) {
        __m256i scale = _mm256_slli_epi32(_mm256_castps_si256(sum[k]), 23);
        __m256i scaled = _mm256_add_epi32(_mm256_castps_si256(power[k]), scale);
        x[k] = _mm256_castsi256_ps(scaled) * 0x1p-64f;
    }
}

/* As moe_exp_all. */
AVX512 static inline float exp_all(const float *score, float *weight, size_t n, float most)
{
    __m256 lane = _mm256_setzero_ps(), x[AT_ONCE];
    for (size_t i = 0; i < n; i += UNIT) {
        for (size_t k = 0; k < AT_ONCE; k++)
            x[k] = _mm256_loadu_ps(score + i + k * LANES) - most;
        exp_blocks(x, AT_ONCE);
        for (size_t k = 0; k < AT_ONCE; k++) {
            _mm256_storeu_ps(weight + i + k * LANES, x[k]);
            lane += x[k];
        }
    }
    return moe_lanes_sum((const moe_floats *)&lane);
}

struct gains {
    float rest, gain;
};

/* S and turns of a block, some of which counts. */
AVX512 static inline void update(float *mean, uint32_t *turn, const float *weight, __mmask8 counts,
                                 struct gains by)
{
    __m256 gained = _mm256_maskz_mul_ps(counts, _mm256_set1_ps(by.gain), _mm256_loadu_ps(weight));
    __m256 own = _mm256_loadu_ps(mean) * by.rest + gained; /* not below 0 */
    __m256i is = load_ints(turn), most = _mm256_set1_epi32(INT32_MAX);
    is = _mm256_maskz_xor_epi32(_mm256_test_epi32_mask(is, is), most, _mm256_castps_si256(own));
    _mm256_storeu_ps(mean, own);
    _mm256_storeu_si256((void *)turn, is);
}

/* Where the p-th highest was not among them: moved there as if scores were spread evenly. */
AVX512 __attribute__((noinline)) static bool cut_elsewhere(const struct moe_mrs_row *row,
                                                           const float *score, struct near *near,
                                                           float most, float *cut)
{
    float at = row->start->at, step = row->start->step;
    for (int tries = 0; tries < TRIES && near->n > 0; tries++) {
        float between = 2 * step / (float)near->n;
        at += between * ((float)near->n_above + 0.5f * (float)near->n - (float)row->p);
        step = between * (0.5f * SEEN_NEAR);
        look_near(score, row->n, at, step, near);
        if (cut_near(near, row->p, most, cut))
            return true;
    }
    return false;
}

/* The same by the weights; returns about where it is. */
AVX512 __attribute__((noinline)) static float update_by_keys(const struct moe_mrs_row *row,
                                                             const float *score, struct gains by)
{
    int32_t *key = (int32_t *)row->weight;
    struct moe_start start = {0};
    float cut = INFINITY;
    int32_t least = moe_keys_cut(key, row->n, UNIT, row->p, &start, 0);
    for (size_t i = 0; i < row->n; i++)
        cut = key[i] >= least && score[i] < cut ? score[i] : cut;
    for (size_t i = 0; i < row->n; i += LANES)
        update(row->mean + i, row->turn + i, row->weight + i,
               _mm256_cmpge_epi32_mask(load_ints(key + i), _mm256_set1_epi32(least)), by);
    return cut;
}

static inline void learn(struct moe_start *start, float cut, uint32_t n_near)
{
    float step = start->step * (n_near > SEEN_NEAR ? 0.875f : 1.125f);
    bool is_near = fabsf(cut - start->at) < 8 * step; /* no: also the first, a jump */
    start->at = is_near ? start->at + (cut - start->at) / 8 : cut;
    start->step = step > 0x1p-20f && step < 0x1p10f ? step : 0x1p-6f;
}

AVX512 static inline void take_n(const struct moe_mrs_row *row, const float *score, size_t n)
{
    struct moe_start *start = row->start;
    struct near near = {.score = row->near};
    float most = moe_floats_highest(score, n, UNIT), cut;
    look_near(score, n, start->at, start->step, &near);
    uint32_t n_near = near.n;
    float sum = exp_all(score, row->weight, n, most);
    if (!(sum >= 1)) /* not numbers */
        return;
    struct gains by = {.rest = 1 - row->alpha, .gain = row->alpha / sum};
    if (cut_near(&near, row->p, most, &cut) || cut_elsewhere(row, score, &near, most, &cut)) {
        const __m256 least = _mm256_set1_ps(cut);
        const float *weight = row->weight;
        float *mean = row->mean;
        uint32_t *turn = row->turn;
        for (size_t i = 0; i < n; i += LANES)
            update(mean + i, turn + i, weight + i,
                   _mm256_cmp_ps_mask(_mm256_loadu_ps(score + i), least, _CMP_GE_OQ), by);
    } else {
        cut = update_by_keys(row, score, by);
    }
    learn(start, cut, n_near);
}

AVX512 static void take(const struct moe_mrs_row *row, const float *score)
{
    if (row->n == USUAL)
        take_n(row, score, USUAL);
    else
        take_n(row, score, row->n);
}

moe_mrs_take *moe_mrs_take_avx512(size_t n)
{
    bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
    return has && n % UNIT == 0 ? take : NULL;
}

#else

moe_mrs_take *moe_mrs_take_avx512(size_t n)
{
    (void)n;
    return NULL;
}

#endif
