/* A library for LD_PRELOAD that makes one request of the program fail, as if memory or the disk had
 * run out.
 *
 *     MOELAB_FAULT=memory:N    the N-th allocation is refused, in the order of the calls
 *     MOELAB_FAULT=site:N      the first allocation of the N-th place that allocates, by address
 *     MOELAB_FAULT=from:N      as site, and every later allocation too
 *     MOELAB_FAULT=disk:N      the N-th change of a regular file fails with EIO
 *     MOELAB_FAULT=full:N      from the N-th change on, every write fails with ENOSPC
 *     MOELAB_FAULT_COUNT=FILE  written at the end: "memory N site N disk N refused N left N", where
 *                              left counts blocks never freed; "place ADDRESS" for every place that
 *                              allocates, in the order of "site"; and other lines, see end()
 *
 * Only allocations by the main program's own code count, not those of libraries (HDF5, C++), some
 * of which do not survive a refusal, nor those of programs that it starts. The CUDA runtime is
 * linked into the program but must not count either: MOELAB_FAULT_NOT=FILE lists the functions to
 * leave out, sorted, one a line as two hexadecimal numbers, address and size. Changes of files are
 * intercepted as system calls, by seccomp, whoever makes them, because stdio's cannot be replaced
 * from outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc's own allocator, under names that no other library replaces. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *block);
void *__libc_memalign(size_t alignment, size_t size);

enum { MAX_SITES = 4096, MAX_RANGES = 16, MAX_BLOCKS = 1 << 18, MAX_FOREIGN = 1 << 14 };

static struct {
    enum { NOTHING, MEMORY, SITE, FROM, DISK, FULL } kind;
    long at;
    const char *count_file;
    pthread_mutex_t lock; /* of all fields below */
    long memory, disk, refused, left;
    void *block[MAX_BLOCKS]; /* live blocks, an open hash table by address */
    const void *of[MAX_BLOCKS];
    const void *where; /* caller of the latest refusal */
    const void *site[MAX_SITES];
    long n_sites;
    struct {
        uintptr_t from, to;
    } range[MAX_RANGES], foreign[MAX_FOREIGN]; /* foreign: offsets from `base` */
    int n_ranges, n_foreign;
    uintptr_t base; /* load address of the program */
} fault = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define CALLER __builtin_return_address(0)

static bool is_foreign(uintptr_t at)
{
    int low = 0, high = fault.n_foreign; /* finds the first that begins after `at` */
    while (low < high) {
        const int middle = (low + high) / 2;
        if (fault.foreign[middle].from > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low > 0 && at < fault.foreign[low - 1].to;
}

static bool counts(const void *caller)
{
    const uintptr_t at = (uintptr_t)caller;
    for (int i = 0; i < fault.n_ranges; i++)
        if (at >= fault.range[i].from && at < fault.range[i].to)
            return !is_foreign(at - fault.base);
    return false;
}

static bool is_new(const void *caller)
{
    for (long i = 0; i < fault.n_sites; i++)
        if (fault.site[i] == caller)
            return false;
    if (fault.n_sites < MAX_SITES)
        fault.site[fault.n_sites++] = caller;
    return true;
}

/* The entry of the block, or the empty entry where it would be put. */
static size_t place(const void *block)
{
    size_t i = (size_t)(((uintptr_t)block >> 4) * 0x9e3779b97f4a7c15u >> 46);
    while (fault.block[i] && fault.block[i] != block)
        i = (i + 1) % MAX_BLOCKS;
    return i;
}

static void *keep(void *block, const void *caller)
{
    if (!block || !counts(caller))
        return block;
    pthread_mutex_lock(&fault.lock);
    if (fault.left < MAX_BLOCKS / 2) {
        const size_t i = place(block);
        fault.left += !fault.block[i];
        fault.block[i] = block;
        fault.of[i] = caller;
    }
    pthread_mutex_unlock(&fault.lock);
    return block;
}

/* Removes a block, and reinserts the entries behind it so that they are found again. */
static void drop(void *block)
{
    pthread_mutex_lock(&fault.lock);
    size_t i = place(block);
    if (fault.block[i]) {
        fault.block[i] = NULL;
        fault.left--;
        while (fault.block[i = (i + 1) % MAX_BLOCKS]) {
            void *moved = fault.block[i];
            const void *of = fault.of[i];
            fault.block[i] = NULL;
            const size_t to = place(moved);
            fault.block[to] = moved;
            fault.of[to] = of;
        }
    }
    pthread_mutex_unlock(&fault.lock);
}

static bool refuse(const void *caller)
{
    if (!counts(caller))
        return false;
    pthread_mutex_lock(&fault.lock);
    fault.memory++;
    const bool fresh = is_new(caller);
    const bool no = (fault.kind == MEMORY && fault.memory == fault.at) ||
                    (fault.kind == SITE && fresh && fault.n_sites == fault.at) ||
                    (fault.kind == FROM && fault.at > 0 && fault.n_sites >= fault.at);
    fault.refused += no;
    if (no)
        fault.where = caller;
    pthread_mutex_unlock(&fault.lock);
    if (no)
        errno = ENOMEM;
    return no;
}

void *malloc(size_t size)
{
    return refuse(CALLER) ? NULL : keep(__libc_malloc(size), CALLER);
}

void *calloc(size_t n, size_t size)
{
    return refuse(CALLER) ? NULL : keep(__libc_calloc(n, size), CALLER);
}

void *realloc(void *old, size_t size)
{
    if (refuse(CALLER))
        return NULL;
    if (old)
        drop(old); /* before another thread can be given its address */
    void *block = __libc_realloc(old, size);
    return keep(block ? block : old, CALLER) == block ? block : NULL;
}

void free(void *block)
{
    if (block)
        drop(block);
    __libc_free(block);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return refuse(CALLER) ? NULL : keep(__libc_memalign(alignment, size), CALLER);
}

char *strndup(const char *text, size_t max)
{
    const size_t n = strnlen(text, max);
    char *copy = refuse(CALLER) ? NULL : keep(__libc_malloc(n + 1), CALLER);
    if (!copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = 0;
    return copy;
}

char *strdup(const char *text)
{
    const size_t n = strlen(text) + 1;
    char *copy = refuse(CALLER) ? NULL : keep(__libc_malloc(n), CALLER);
    return copy ? memcpy(copy, text, n) : NULL;
}

/* --- changes of files ------------------------------------------------------------------------ */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
static void registers(ucontext_t *at, long argument[6], greg_t **result)
{
    static const int order[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    for (int i = 0; i < 6; i++)
        argument[i] = (long)at->uc_mcontext.gregs[order[i]];
    *result = &at->uc_mcontext.gregs[REG_RAX];
}
typedef greg_t result_register;
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
typedef unsigned long long result_register;
static void registers(ucontext_t *at, long argument[6], result_register **result)
{
    for (int i = 0; i < 6; i++)
        argument[i] = (long)at->uc_mcontext.regs[i];
    *result = &at->uc_mcontext.regs[0];
}
#endif

static const int changes[] = {SYS_write,    SYS_pwrite64,  SYS_writev, SYS_ftruncate,
                              SYS_fsync,    SYS_fdatasync, SYS_close,  SYS_renameat,
#ifdef SYS_rename
                              SYS_rename,
#endif
                              SYS_renameat2};

static bool changes_a_file(int call, long fd)
{
    struct stat st;
    if (call != SYS_close && call != SYS_write && call != SYS_pwrite64 && call != SYS_writev &&
        call != SYS_ftruncate && call != SYS_fsync && call != SYS_fdatasync)
        return true; /* a rename */
    return fd != STDERR_FILENO && fstat((int)fd, &st) == 0 && S_ISREG(st.st_mode) &&
           (fcntl((int)fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
}

/* Counts a change; returns the errno with which it fails, or 0. */
static int refuse_change(int call)
{
    const long number = __atomic_add_fetch(&fault.disk, 1, __ATOMIC_RELAXED);
    const bool writes = call == SYS_write || call == SYS_pwrite64 || call == SYS_writev;
    if (fault.at <= 0)
        return 0;
    if (fault.kind == DISK && number == fault.at)
        return EIO;
    return fault.kind == FULL && number >= fault.at && writes ? ENOSPC : 0;
}

static void on_call(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    const int kept = errno, call = info->si_syscall;
    long a[6];
    result_register *result;
    registers(context, a, &result);
    const int no = changes_a_file(call, a[0]) ? refuse_change(call) : 0;
    long value = 0;
    if (!no || call == SYS_close) /* a close() that fails still closes the file */
        value = syscall(call, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (value < 0)
        value = -errno;
    if (no) {
        __atomic_add_fetch(&fault.refused, 1, __ATOMIC_RELAXED);
        value = -no;
    }
    *result = (result_register)value;
    errno = kept;
}

/* Makes the system calls in `changes` raise SIGSYS, unless syscall() makes them. */
static void watch_files(void)
{
    enum { N = sizeof changes / sizeof *changes };
    const uint64_t own = (uint64_t)(uintptr_t)&syscall;
    struct sock_filter code[8 + N + 2];
    int n = 0;
    const uint32_t ip = offsetof(struct seccomp_data, instruction_pointer);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip + 4);
    code[n++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(own >> 32), 0, 4);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip);
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)own, 0, 2);
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)own + 128, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < N; i++)
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)changes[i],
                                                 (uint8_t)(N - i), 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    const struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(77); /* the system does not allow seccomp */
}

/* --- the beginning and the end --------------------------------------------------------------- */

static int note_object(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    (void)context;
    fault.base = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum && fault.n_ranges < MAX_RANGES; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
            continue;
        const uintptr_t from = info->dlpi_addr + p->p_vaddr;
        fault.range[fault.n_ranges].from = from;
        fault.range[fault.n_ranges++].to = from + p->p_memsz;
    }
    return 1; /* stop: the first object is the main program */
}

static void read_foreign(const char *path)
{
    FILE *in = path ? fopen(path, "r") : NULL;
    unsigned long at, size;
    while (in && fault.n_foreign < MAX_FOREIGN && fscanf(in, "%lx %lx", &at, &size) == 2) {
        fault.foreign[fault.n_foreign].from = at;
        fault.foreign[fault.n_foreign++].to = at + size;
    }
    if (in)
        fclose(in);
}

__attribute__((constructor)) static void begin(void)
{
    static const char *const kinds[] = {"", "memory:", "site:", "from:", "disk:", "full:"};
    const char *what = getenv("MOELAB_FAULT");
    fault.count_file = getenv("MOELAB_FAULT_COUNT");
    read_foreign(getenv("MOELAB_FAULT_NOT"));
    for (unsigned k = MEMORY; what && k <= FULL; k++) {
        if (strncmp(what, kinds[k], strlen(kinds[k])) != 0)
            continue;
        fault.kind = k;
        fault.at = strtol(what + strlen(kinds[k]), NULL, 10);
    }
    dl_iterate_phdr(note_object, NULL);
    unsetenv("LD_PRELOAD");
    if (fault.kind == DISK || fault.kind == FULL)
        watch_files();
}

/* The address as addr2line and nm print it. */
static long offset(const void *address)
{
    return (long)((uintptr_t)address - fault.base);
}

__attribute__((destructor)) static void end(void)
{
    FILE *out = fault.count_file ? fopen(fault.count_file, "w") : NULL;
    if (!out)
        return;
    fprintf(out, "memory %ld site %ld disk %ld refused %ld left %ld\n", fault.memory, fault.n_sites,
            fault.disk, fault.refused, fault.left);
    for (long i = 0; i < fault.n_sites; i++)
        fprintf(out, "place %lx\n", offset(fault.site[i]));
    if (fault.where)
        fprintf(out, "refused at %lx\n", offset(fault.where));
    for (size_t i = 0; i < MAX_BLOCKS; i++)
        if (fault.block[i])
            fprintf(out, "left from %lx\n", offset(fault.of[i]));
    fclose(out);
}
