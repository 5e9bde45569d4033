#include "exec/mapped_files.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

enum { MOST_FILES = 512, PATH_BYTES = 304 };

/* Global, as a signal has one handler for the whole process. Written under the lock; read by the
 * handler, which may not take a lock: an entry is complete when `end` is not 0. */
static struct {
    atomic_uintptr_t begin, end; /* end 0: free */
    char path[PATH_BYTES];
} files[MOST_FILES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned n_files;
static struct sigaction before;
static atomic_flag told = ATOMIC_FLAG_INIT;

static const char *path_at(uintptr_t address)
{
    for (int i = 0; i < MOST_FILES; i++) {
        const uintptr_t end = atomic_load(&files[i].end);
        if (address < end && address >= atomic_load(&files[i].begin))
            return files[i].path;
    }
    return NULL;
}

static size_t append(char *line, size_t n, const char *text)
{
    for (; *text; text++)
        line[n++] = *text;
    return n;
}

/* The signal handler; calls only async-signal-safe functions. */
static void on_bus(int number, siginfo_t *info, void *context)
{
    (void)context;
    const bool fault = info->si_code > 0; /* the kernel's own, not kill()'s */
    const char *path = fault ? path_at((uintptr_t)info->si_addr) : NULL;
    if (!path) {
        /* Not ours: the same instruction will fault again, with the previous handler. */
        sigaction(number, &before, NULL);
        if (!fault)
            raise(number);
        return;
    }
    if (atomic_flag_test_and_set(&told)) /* another thread is already writing the line */
        for (;;)
            pause();
    char line[PATH_BYTES + 100];
    size_t n = append(line, 0, "moelab: a model file was cut short or cannot be read: '");
    n = append(line, n, path);
    n = append(line, n, "'\n");
    (void)!write(STDERR_FILENO, line, n);
    _exit(1);
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
}

/* Restores the previous handler, unless another library, e.g. a driver, has replaced ours
 * meanwhile. */
static void restore(void)
{
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
        now.sa_sigaction == on_bus)
        sigaction(SIGBUS, &before, NULL);
}

void moe_mapped_files_add(const void *at, size_t bytes, const char *path)
{
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < MOST_FILES && atomic_load(&files[i].end))
        i++;
    if (i < MOST_FILES) {
        if (n_files++ == 0)
            install();
        snprintf(files[i].path, sizeof files[i].path, "%s", path);
        atomic_store(&files[i].begin, (uintptr_t)at);
        atomic_store(&files[i].end, (uintptr_t)at + bytes);
    }
    pthread_mutex_unlock(&lock);
}

void moe_mapped_files_remove(const void *at)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MOST_FILES; i++)
        if (atomic_load(&files[i].end) && atomic_load(&files[i].begin) == (uintptr_t)at) {
            atomic_store(&files[i].end, 0);
            if (--n_files == 0)
                restore();
            break;
        }
    pthread_mutex_unlock(&lock);
}
