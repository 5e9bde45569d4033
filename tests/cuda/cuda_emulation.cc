#include "tests/cuda/cuda_emulation.h"

#include "tests/cuda/cuda_runtime_api.h"
#include "tests/cuda/emulation.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#ifndef __x86_64__
#include <ucontext.h>
#endif

/* __thread instead of thread_local, whose every use would check in the innermost loops whether it
 * is initialised. */
__thread struct cuda_emulation_thread cuda_emulation_now;
__thread void *cuda_emulation_shared;

/* Switches fibers without a system call, which makes the emulation fast enough for tests: pushes
 * the callee-saved registers and stores the stack pointer in *from, then restores those of *to. */
#ifdef __x86_64__
extern "C" void cuda_emulation_switch(void **from, void *const *to);
__asm__(".text\n"
        ".p2align 4\n"
        ".type cuda_emulation_switch, @function\n"
        "cuda_emulation_switch:\n"
        "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rsp, (%rdi)\n"
        "movq (%rsi), %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n"
        "ret\n"
        ".size cuda_emulation_switch, .-cuda_emulation_switch\n");
typedef void *context;
#else
typedef ucontext_t context;
#endif

namespace
{

enum { WARP = 32, MAX_THREADS = 1024, MAX_SHARED = 48 << 10, STACK_BYTES = 64 << 10 };

enum state { READY, AT_BARRIER, AT_SHUFFLE, DONE };

struct fiber {
    context place;
    std::unique_ptr<char[]> stack;
    state at;
    uint32_t mask, bits, from; /* arguments of the shuffle it waits in */
};

struct block {
    std::vector<fiber> fibers = std::vector<fiber>(MAX_THREADS);
    context scheduler;
    const std::function<void()> *body;
    const char *name;
    unsigned n, current;
    size_t n_shared; /* floats of dynamic shared memory */
    std::vector<float> shared = std::vector<float>(MAX_SHARED / sizeof(float));
};

thread_local std::unique_ptr<block> owned;
__thread block *self; /* owned.get(), quicker to read in inner loops */

void switch_to(context &from, context &to)
{
#ifdef __x86_64__
    cuda_emulation_switch(&from, &to);
#else
    swapcontext(&from, &to);
#endif
}

void entry()
{
    (*self->body)();
    fiber &f = self->fibers[self->current];
    f.at = DONE;
    switch_to(f.place, self->scheduler);
}

void give_turn(unsigned i)
{
    self->current = i;
    const dim3 &size = cuda_emulation_now.block;
    cuda_emulation_now.thread_index = dim3(i % size.x, i / size.x % size.y, i / size.x / size.y);
    switch_to(self->scheduler, self->fibers[i].place);
}

void wait_as(state at)
{
    fiber &f = self->fibers[self->current];
    f.at = at;
    switch_to(f.place, self->scheduler);
}

/* Completes each shuffle that all lanes of its mask have reached. Returns whether there was one. */
bool finish_shuffles()
{
    bool any = false;
    for (unsigned w = 0; w < self->n; w += WARP) {
        fiber *lane = &self->fibers[w];
        for (unsigned i = 0; i < WARP && w + i < self->n; i++) {
            if (lane[i].at != AT_SHUFFLE)
                continue;
            const uint32_t mask = lane[i].mask;
            bool met = true;
            for (unsigned j = 0; j < WARP; j++)
                if (mask >> j & 1)
                    met =
                        met && w + j < self->n && lane[j].at == AT_SHUFFLE && lane[j].mask == mask;
            if (!met)
                continue;
            uint32_t got[WARP] = {};
            for (unsigned j = 0; j < WARP; j++)
                if (mask >> j & 1) {
                    if (lane[j].from >= WARP || !(mask >> lane[j].from & 1))
                        cuda_emulation_fail("a shuffle from a lane outside its mask");
                    got[j] = lane[lane[j].from].bits;
                }
            for (unsigned j = 0; j < WARP; j++)
                if (mask >> j & 1) {
                    lane[j].bits = got[j];
                    lane[j].at = READY;
                }
            any = true;
        }
    }
    return any;
}

/* Completes a barrier that all threads of the block have reached. A thread that has returned never
 * does. */
bool finish_barrier()
{
    for (unsigned i = 0; i < self->n; i++)
        if (self->fibers[i].at != AT_BARRIER)
            return false;
    for (unsigned i = 0; i < self->n; i++)
        self->fibers[i].at = READY;
    return true;
}

bool all_done()
{
    for (unsigned i = 0; i < self->n; i++)
        if (self->fibers[i].at != DONE)
            return false;
    return true;
}

void start_fiber(fiber &f)
{
    if (!f.stack)
        f.stack.reset(new char[STACK_BYTES]);
#ifdef __x86_64__
    /* The first switch pops six registers and returns into entry, which finds the stack as after a
     * call. */
    void **top = reinterpret_cast<void **>(
        (reinterpret_cast<uintptr_t>(f.stack.get()) + STACK_BYTES) / 64 * 64);
    top[-1] = nullptr;
    top[-2] = reinterpret_cast<void *>(entry);
    f.place = top - 8;
#else
    getcontext(&f.place);
    f.place.uc_stack.ss_sp = f.stack.get();
    f.place.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f.place, entry, 0);
#endif
    f.at = READY;
}

void run_block(bool backwards)
{
    for (unsigned i = 0; i < self->n; i++)
        start_fiber(self->fibers[i]);
    for (size_t i = 0; i < self->n_shared; i++) /* so that reads before a write show */
        self->shared[i] = NAN;
    while (!all_done()) {
        for (unsigned k = 0; k < self->n; k++) {
            const unsigned i = backwards ? self->n - 1 - k : k;
            if (self->fibers[i].at == READY)
                give_turn(i);
        }
        if (!finish_shuffles() && !finish_barrier() && !all_done())
            cuda_emulation_fail("threads wait for others that never come");
    }
}

void run_grid(dim3 grid, dim3 size, size_t shared, const char *name,
              const std::function<void()> &body)
{
    if (!owned)
        owned.reset(new block);
    self = owned.get();
    self->body = &body;
    self->name = name;
    self->n = size.x * size.y * size.z;
    self->n_shared = shared / sizeof(float);
    cuda_emulation_shared = self->shared.data();
    cuda_emulation_now.grid = grid;
    cuda_emulation_now.block = size;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                cuda_emulation_now.block_index = dim3(x, y, z);
                run_block((x + y + z) % 2 == 1);
            }
}

} // namespace

void cuda_emulation_fail(const char *what)
{
    const dim3 &b = cuda_emulation_now.block_index, &t = cuda_emulation_now.thread_index;
    fprintf(stderr, "emulated kernel '%s', block %u,%u,%u, thread %u: %s\n",
            self ? self->name : "none", b.x, b.y, b.z, t.x, what);
    abort();
}

void cuda_emulation_sync_block(void)
{
    wait_as(AT_BARRIER);
}

uint32_t cuda_emulation_shuffle(uint32_t mask, uint32_t bits, uint32_t from)
{
    const unsigned i = self->current;
    fiber &f = self->fibers[i];
    if (!(mask >> i % WARP & 1))
        cuda_emulation_fail("a shuffle whose mask lacks the caller");
    f.mask = mask;
    f.bits = bits;
    f.from = from;
    wait_as(AT_SHUFFLE);
    return f.bits;
}

void cuda_emulation_launch(dim3 grid, dim3 size, size_t shared, CUstream_st *stream,
                           const void *kernel, const char *name, std::function<void()> body)
{
    cuda_emulation_expect_loaded(kernel, name);
    const unsigned n = size.x * size.y * size.z;
    if (n < 1 || n > MAX_THREADS || shared > MAX_SHARED || grid.x < 1 || grid.x > 0x7fffffff ||
        grid.y < 1 || grid.y > 65535 || grid.z < 1 || grid.z > 65535) {
        fprintf(stderr, "kernel '%s': grid %u,%u,%u of %u threads and %zu bytes cannot be run\n",
                name, grid.x, grid.y, grid.z, n, shared);
        abort();
    }
    if (stream)
        cuda_emulation_queue(stream, [=] { run_grid(grid, size, shared, name, body); });
    else
        run_grid(grid, size, shared, name, body);
}

struct CUstream_st *cuda_emulation_stream_new(void)
{
    cudaStream_t stream = nullptr;
    if (cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, 0) != cudaSuccess)
        cuda_emulation_fail("no stream");
    return stream;
}

void cuda_emulation_stream_sync(struct CUstream_st *stream)
{
    if (stream && cudaStreamSynchronize(stream) != cudaSuccess)
        cuda_emulation_fail("a stream that failed");
}

void cuda_emulation_stream_free(struct CUstream_st *stream)
{
    (void)cudaStreamDestroy(stream);
}
