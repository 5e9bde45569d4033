#include "exec/bench_memory.h"

#include "base/progress.h"
#include "base/rng.h"
#include "exec/cpu.h"

#include <string.h>
#include <sys/mman.h>

enum { PIECE = 1 << 20 };

/* Memory that is read or filled piece by piece. */
struct span {
    uint8_t *data;
    uint64_t bytes;
    atomic_uint_fast64_t *sum;
};

static uint64_t piece_bytes(const struct span *span, uint32_t i)
{
    const uint64_t left = span->bytes - (uint64_t)i * PIECE;
    return left < PIECE ? left : PIECE;
}

static void read_piece(void *context, uint32_t i)
{
    const struct span *span = context;
    const uint64_t sum = moe_cpu_read(span->data + (uint64_t)i * PIECE, piece_bytes(span, i));
    atomic_fetch_xor_explicit(span->sum, sum, memory_order_relaxed);
}

/* Words that are numbers of moderate size in every type: 1.0 to 1.06 as F16, 0.008 as BF16 and F32;
 * as Q8 and Q4 whole numbers of up to 68 and 8, with scales like those F16. */
static void fill_piece(void *context, uint32_t i)
{
    const struct span *span = context;
    const uint64_t n = moe_interrupted() ? 0 : piece_bytes(span, i);
    uint8_t *to = span->data + (uint64_t)i * PIECE;
    struct moe_rng rng;
    moe_rng_init(&rng, i);
    for (uint64_t k = 0; k < n; k += 8) {
        const uint64_t word = (moe_rng_next(&rng) & 0x803f803f803f803f) | 0x3c003c003c003c00;
        memcpy(to + k, &word, n - k < 8 ? n - k : 8);
    }
}

static void over_pieces(struct span *span, struct moe_pool *pool,
                        void (*f)(void *context, uint32_t i))
{
    moe_pool_each(pool, (uint32_t)((span->bytes + PIECE - 1) / PIECE), f, span);
}

enum moe_status moe_bench_memory_fill(void *to, uint64_t bytes, struct moe_err *err)
{
    const struct moe_pool_options options = {.pin = true};
    struct moe_pool *pool;
    enum moe_status s = moe_pool_new(&pool, &options, err);
    if (s)
        return s;
    struct span span = {.data = to, .bytes = bytes};
    over_pieces(&span, pool, fill_piece);
    moe_pool_free(pool);
    return moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted") : MOE_OK;
}

enum moe_status moe_bench_memory_init(struct moe_bench_memory *memory, uint64_t bytes,
                                      struct moe_err *err)
{
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return moe_fail_memory(err, "the experts of the benchmark");
    enum moe_status s = moe_bench_memory_fill(data, bytes, err);
    if (s) {
        munmap(data, bytes);
        return s;
    }
    memory->data = data;
    memory->bytes = bytes;
    memory->at = 0;
    atomic_init(&memory->sum, 0);
    return MOE_OK;
}

void moe_bench_memory_release(struct moe_bench_memory *memory)
{
    if (memory->data)
        munmap(memory->data, memory->bytes);
    memory->data = NULL;
}

static uint8_t *next(struct moe_bench_memory *memory, uint64_t bytes)
{
    if (memory->at + bytes > memory->bytes)
        memory->at = 0;
    uint8_t *data = memory->data + memory->at;
    memory->at += bytes;
    return data;
}

const uint8_t *moe_bench_memory_next(struct moe_bench_memory *memory, uint64_t bytes)
{
    return next(memory, bytes);
}

double moe_bench_read_seconds(struct moe_bench_memory *memory, struct moe_pool *pool,
                              uint64_t bytes)
{
    struct span span = {.data = next(memory, bytes), .bytes = bytes, .sum = &memory->sum};
    const uint64_t start = moe_clock_ns();
    over_pieces(&span, pool, read_piece);
    return moe_bench_seconds_since(start);
}

uint64_t moe_bench_expert_bytes(enum moe_dtype dtype, uint32_t d_model, uint32_t d_ffn)
{
    return 3 * (uint64_t)d_ffn * moe_dtype_row_bytes(dtype, d_model);
}

void moe_bench_expert_at(struct moe_ffn_job *job, const uint8_t *at, enum moe_dtype dtype,
                         uint32_t d_model, uint32_t d_ffn)
{
    const uint64_t third = moe_bench_expert_bytes(dtype, d_model, d_ffn) / 3;
    job->w1 = (struct moe_matrix){at, dtype, d_ffn, d_model};
    job->w3 = (struct moe_matrix){at + third, dtype, d_ffn, d_model};
    job->w2 = (struct moe_matrix){at + 2 * third, dtype, d_model, d_ffn};
}

double moe_bench_seconds_since(uint64_t start_ns)
{
    const uint64_t ns = moe_clock_ns() - start_ns;
    return (double)(ns ? ns : 1) * 1e-9;
}
