#include "base/progress.h"

#include "base/units.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char clear_line[] = "\r\033[K";

void moe_log(const char *format, ...)
{
    /* One write a message: lines of several processes do not mix. */
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    moe_clean_line(text);
    fprintf(stderr, "%smoelab: %s\n", isatty(STDERR_FILENO) ? clear_line : "", text);
}

uint64_t moe_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void moe_progress_begin(struct moe_progress *p, const char *what, const char *unit, uint64_t total)
{
    uint64_t now = moe_clock_ns();
    *p = (struct moe_progress){
        .what = what, .unit = unit, .total = total, .last_ns = now, .start_ns = now};
}

static void draw(const struct moe_progress *p, uint64_t done, double seconds)
{
    char rate[32], share[16] = "", left[32] = "";
    double per_s = (double)done / seconds;
    moe_format_count(per_s, rate, sizeof rate);
    if (p->total && done <= p->total) {
        snprintf(share, sizeof share, "  %2.0f %%", 100 * (double)done / (double)p->total);
        uint64_t s = done ? (uint64_t)((double)(p->total - done) / per_s) : 0;
        if (done)
            snprintf(left, sizeof left, "  %" PRIu64 ":%02u left", s / 60, (unsigned)(s % 60));
    }
    fprintf(stderr, "%s%s%s  %s %s/s%s", clear_line, p->what, share, rate, p->unit, left);
    fflush(stderr);
}

void moe_progress_update(struct moe_progress *p, uint64_t done)
{
    uint64_t now = moe_clock_ns();
    if (now - p->last_ns < 100000000u)
        return;
    p->last_ns = now;
    if (!isatty(STDERR_FILENO))
        return;
    p->shown = true;
    draw(p, done, (double)(now - p->start_ns) / 1e9);
}

void moe_progress_end(struct moe_progress *p)
{
    if (p->shown)
        fputs(clear_line, stderr);
    p->shown = false;
}

/* The one piece of state that cannot be passed: a signal handler takes no argument. */
static volatile sig_atomic_t interrupted, reader_gone;
static uint64_t interrupted_ns; /* the handler's own */

/* timeout(1) and launchers signal a process, and at once its group: that is one interruption. */
enum { SAME_INTERRUPTION_NS = 300000000 };

static void on_signal(int number)
{
    const uint64_t now = moe_clock_ns();
    if (!interrupted)
        interrupted_ns = now;
    if (now - interrupted_ns > SAME_INTERRUPTION_NS) {
        signal(number, SIG_DFL);
        raise(number);
    }
    interrupted = 1;
}

/* Not ignored: programs that we start would ignore it too. */
static void on_pipe(int number)
{
    (void)number;
    reader_gone = 1;
}

void moe_catch_interrupts(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    /* Reads and writes under way go on: the loops decide where to stop. */
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaddset(&action.sa_mask, SIGHUP);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction before;
    if (sigaction(SIGHUP, NULL, &before) || before.sa_handler != SIG_IGN) /* not under nohup */
        sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN; /* a write past a limit of file sizes then fails */
    sigaction(SIGXFSZ, &action, NULL);
    action.sa_handler = on_pipe;
    sigaction(SIGPIPE, &action, NULL);
}

bool moe_interrupted(void)
{
    return interrupted != 0;
}

bool moe_reader_gone(void)
{
    return reader_gone != 0;
}

void moe_end_by_pipe(void)
{
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
}
