#include "sim/mrc_shards.h"

#include "base/rng.h"
#include "sim/mrc_lru.h"
#include "sim/threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NOT_TAKEN UINT32_MAX

/* One hash, and what it found. */
struct sample {
    uint32_t *key_of; /* [L * E] number in the sample, or NOT_TAKEN */
    uint32_t n_keys;
    struct moe_lru_stack *stack;
    uint64_t *uses; /* [n_keys + 2] by position from 1; the last: nowhere */
    bool begun;
    uint32_t sequence;
    uint32_t *key, *position; /* [E] the event under way */
    uint8_t *seen;            /* [n_keys] in it */
};

struct shards {
    const struct moe_trace_info *info;
    const struct moe_shards_options *options;
    struct sample *sample; /* [n_samples] */
    uint64_t tokens;
};

static void sample_release(struct sample *s)
{
    moe_lru_stack_free(s->stack);
    free(s->key_of);
    free(s->uses);
    free(s->key);
    free(s->position);
    free(s->seen);
}

static void shards_release(struct shards *x)
{
    for (uint32_t i = 0; x->sample && i < x->options->n_samples; i++)
        sample_release(&x->sample[i]);
    free(x->sample);
}

static uint64_t hash_of(uint64_t seed, uint32_t key)
{
    return moe_mix64(seed ^ moe_mix64(key));
}

/* Takes `n` experts of a layer: those of the lowest hashes. */
static void take(struct sample *s, uint32_t first_key, uint32_t n_experts, uint32_t n,
                 uint64_t seed)
{
    for (uint32_t e = 0; e < n_experts; e++) {
        uint64_t own = hash_of(seed, first_key + e);
        uint32_t rank = 0;
        for (uint32_t other = 0; other < n_experts; other++) {
            uint64_t hash = hash_of(seed, first_key + other);
            rank += hash < own || (hash == own && other < e);
        }
        s->key_of[first_key + e] = rank < n ? s->n_keys++ : NOT_TAKEN;
    }
}

static enum moe_status sample_init(struct sample *s, const struct shards *x, uint64_t seed,
                                   struct moe_err *err)
{
    uint32_t n_layers = x->info->n_layers, n_experts = x->info->n_experts;
    uint64_t taken = 0;
    double each = x->options->rate * n_experts;
    s->key_of = calloc((size_t)n_layers * n_experts + 1, sizeof *s->key_of);
    if (!s->key_of)
        return moe_fail_memory(err, "a sample of experts");
    for (uint32_t l = 0; l < n_layers; l++) {
        uint64_t until = (uint64_t)llround(each * (l + 1));
        take(s, l * n_experts, n_experts, (uint32_t)(until - taken), seed);
        taken = until;
    }
    if (s->n_keys < MOE_SHARDS_MIN_KEYS)
        return moe_fail(err, MOE_ERR_USAGE,
                        "a sample of %g %% has %u of the %u experts, fewer than %d: take more, or "
                        "the exact curve",
                        100 * x->options->rate, s->n_keys, n_layers * n_experts,
                        MOE_SHARDS_MIN_KEYS);
    s->uses = calloc((size_t)s->n_keys + 2, sizeof *s->uses);
    s->key = calloc(n_experts + 1u, sizeof *s->key);
    s->position = calloc(n_experts + 1u, sizeof *s->position);
    s->seen = calloc(s->n_keys + 1u, sizeof *s->seen);
    if (!s->uses || !s->key || !s->position || !s->seen)
        return moe_fail_memory(err, "a sample of experts");
    return moe_lru_stack_new(&s->stack, s->n_keys, err);
}

static enum moe_status shards_init(struct shards *x, struct moe_err *err)
{
    if (x->options->order == MOE_ORDER_FILE && !x->info->rows_in_order)
        return moe_fail(err, MOE_ERR_USAGE,
                        "order 'file' refused: the rows of the imported file did not stand in "
                        "execution order; use order 'step'");
    x->sample = calloc(x->options->n_samples + 1u, sizeof *x->sample);
    if (!x->sample)
        return moe_fail_memory(err, "samples of experts");
    enum moe_status s = MOE_OK;
    for (uint32_t i = 0; !s && i < x->options->n_samples; i++)
        s = sample_init(&x->sample[i], x, moe_mix64(x->options->seed + i), err);
    return s;
}

static void count(struct sample *s, uint32_t position)
{
    s->uses[position <= s->n_keys ? position : s->n_keys + 1]++;
}

/* A layer of the tokens [begin, end) of one forward pass. */
static void visit(struct sample *s, const struct shards *x, const struct moe_tokens *tokens,
                  uint64_t begin, uint64_t end, uint32_t layer)
{
    const uint32_t *key_of = s->key_of + (size_t)layer * x->info->n_experts;
    uint32_t top_k = x->info->top_k, n = 0;
    for (uint64_t t = begin; t < end; t++) {
        const moe_expert *expert = tokens->expert + ((size_t)t * x->info->n_layers + layer) * top_k;
        for (uint32_t k = 0; k < top_k && expert[k] != MOE_NO_EXPERT; k++) {
            uint32_t key = key_of[expert[k]];
            if (key == NOT_TAKEN || s->seen[key])
                continue;
            if (x->options->contract == MOE_CONTRACT_ACCESS) {
                count(s, moe_lru_stack_access(s->stack, key));
                continue;
            }
            s->seen[key] = 1;
            s->key[n++] = key;
        }
    }
    if (n == 0)
        return;
    moe_lru_stack_event(s->stack, s->key, n, s->position);
    for (uint32_t i = 0; i < n; i++) {
        count(s, s->position[i]);
        s->seen[s->key[i]] = 0;
    }
}

static bool wanted(const struct shards *x, uint8_t phase)
{
    enum moe_phases phases = x->options->phases;
    return phases == MOE_PHASES_BOTH || (phases == MOE_PHASES_DECODE) == (phase == MOE_DECODE);
}

static uint64_t pass_end(const struct shards *x, const struct moe_tokens *tokens, uint64_t begin)
{
    return x->options->order == MOE_ORDER_TOKEN ? begin + 1 : moe_step_end(tokens, begin);
}

static void run_sample(struct sample *s, const struct shards *x, const struct moe_tokens *tokens)
{
    for (uint64_t t = 0, end; t < tokens->n_tokens && !moe_interrupted(); t = end) {
        end = pass_end(x, tokens, t);
        if (!wanted(x, tokens->phase[t]))
            continue;
        if (x->options->cold && s->begun && s->sequence != tokens->sequence[t])
            moe_lru_stack_clear(s->stack);
        s->begun = true;
        s->sequence = tokens->sequence[t];
        for (uint32_t l = 0; l < x->info->n_layers; l++)
            visit(s, x, tokens, t, end, l);
    }
}

static enum moe_status run(struct shards *x, const struct moe_tokens *tokens, struct moe_err *err)
{
    /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): read by the OpenMP clause below */
    const int threads = moe_threads_for(x->options->n_samples, 0);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (uint32_t i = 0; i < x->options->n_samples; i++)
        run_sample(&x->sample[i], x, tokens);
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        x->tokens += wanted(x, tokens->phase[t]);
    if (x->options->progress)
        moe_progress_update(x->options->progress, x->tokens);
    return moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted after %llu token%s",
                                        (unsigned long long)x->tokens, moe_plural(x->tokens))
                             : MOE_OK;
}

/* Uses by position, summed up to each. */
static void add_up(struct sample *s)
{
    for (uint32_t p = 1; p <= s->n_keys + 1; p++)
        s->uses[p] += s->uses[p - 1];
}

/* The hit rate of a pool of `slots` by one sample: positions lie anywhere between the numbers of
 * slots that they stand for. */
static double rate_at(const struct sample *s, double slots, uint32_t n_slots)
{
    double x = fmin(fmax(slots, 0), n_slots) * s->n_keys / n_slots;
    uint32_t below = (uint32_t)x, above = below < s->n_keys ? below + 1 : below;
    double low = (double)s->uses[below], high = (double)s->uses[above];
    uint64_t all = s->uses[s->n_keys + 1];
    return all > 0 ? (low + (high - low) * (x - below)) / (double)all : 0;
}

/* Student's t at 97.5 %, for n - 1 degrees of freedom (Cornish-Fisher expansion: Abramowitz and
 * Stegun, Handbook of Mathematical Functions, 26.7.5). */
static double student(uint32_t n)
{
    double v = n - 1, z = 1.959963984540054, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
}

struct guess {
    double mean, bar;
};

static struct guess guess_at(const struct shards *x, double slots, uint32_t n_slots)
{
    uint32_t n = x->options->n_samples;
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < n; i++) {
        double rate = rate_at(&x->sample[i], slots, n_slots);
        sum += rate;
        squares += rate * rate;
    }
    double mean = sum / n, variance = fmax(0, (squares - sum * mean) / (n - 1));
    return (struct guess){mean, student(n) * sqrt(variance / n)};
}

/* A distance of d experts has d * rate of the sample in it, give or take a deviation of
 * sqrt(d * rate * (1 - rate)): every sample smears steps of the curve by that, and all of them
 * alike, so that their spread does not tell. The curve rises: two such deviations to either side
 * are where the true rate may come from. */
static void estimate(const struct shards *x, struct moe_shards_curve *curve, uint32_t slots)
{
    double share = (double)curve->n_keys / curve->n_slots;
    double smear = 2 * sqrt(slots * (1 - share) / share) + 1 / share;
    struct guess here = guess_at(x, slots, curve->n_slots);
    struct guess below = guess_at(x, slots - smear, curve->n_slots);
    struct guess above = guess_at(x, slots + smear, curve->n_slots);
    curve->hit[slots] = here.mean;
    curve->low[slots] = fmax(0, below.mean - below.bar);
    curve->high[slots] = fmin(1, above.mean + above.bar);
}

static enum moe_status finish(struct shards *x, struct moe_shards_curve *out, struct moe_err *err)
{
    struct moe_shards_curve curve = {.n_slots = x->info->n_layers * x->info->n_experts,
                                     .n_keys = x->sample[0].n_keys,
                                     .tokens = x->tokens};
    size_t n = (size_t)curve.n_slots + 1;
    curve.hit = calloc(n, sizeof *curve.hit);
    curve.low = calloc(n, sizeof *curve.low);
    curve.high = calloc(n, sizeof *curve.high);
    if (!curve.hit || !curve.low || !curve.high) {
        moe_shards_release(&curve);
        return moe_fail_memory(err, "a curve");
    }
    for (uint32_t i = 0; i < x->options->n_samples; i++)
        add_up(&x->sample[i]);
    for (uint32_t slots = 0; slots <= curve.n_slots; slots++)
        estimate(x, &curve, slots);
    *out = curve;
    return MOE_OK;
}

enum moe_status moe_shards_compute(const struct moe_trace *trace,
                                   const struct moe_shards_options *options,
                                   struct moe_shards_curve *out, struct moe_err *err)
{
    struct shards x = {.info = &trace->info, .options = options};
    enum moe_status s = shards_init(&x, err);
    if (!s)
        s = run(&x, &trace->tokens, err);
    if (!s)
        s = finish(&x, out, err);
    shards_release(&x);
    return s;
}

enum moe_status moe_shards_stream(struct moe_reader *reader,
                                  const struct moe_shards_options *options,
                                  struct moe_shards_curve *out, struct moe_err *err)
{
    struct shards x = {.info = moe_reader_info(reader), .options = options};
    enum moe_status s = shards_init(&x, err);
    while (!s) {
        const struct moe_tokens *block;
        s = moe_reader_next(reader, 0, &block, err);
        if (s || !block)
            break;
        s = run(&x, block, err);
    }
    if (!s)
        s = finish(&x, out, err);
    shards_release(&x);
    return s;
}

void moe_shards_release(struct moe_shards_curve *curve)
{
    free(curve->hit);
    free(curve->low);
    free(curve->high);
    *curve = (struct moe_shards_curve){0};
}
