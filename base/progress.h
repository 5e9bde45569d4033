/* Log lines and progress on stderr. Progress shows only on a terminal: share done, rate, time left.
 * SIGINT, SIGTERM and SIGHUP set a flag that long loops ask for. */
#ifndef MOELAB_BASE_PROGRESS_H
#define MOELAB_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* "moelab: text" on stderr, clearing a progress line first. */
void moe_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct moe_progress {
    const char *what; /* "importing" */
    const char *unit; /* "tokens" */
    uint64_t total;   /* 0: unknown, then no time left is shown */
    uint64_t last_ns, start_ns;
    bool shown;
};

void moe_progress_begin(struct moe_progress *p, const char *what, const char *unit, uint64_t total);
/* Cheap enough to call once a block; redraws at most ten times a second. */
void moe_progress_update(struct moe_progress *p, uint64_t done);
void moe_progress_end(struct moe_progress *p);

/* Wall clock for rates only (monotonic, ns). Never enters a result except in `bench`. */
uint64_t moe_clock_ns(void);

/* Installs handlers; after a first SIGINT, SIGTERM or SIGHUP (the terminal has gone; ignored under
 * nohup) moe_interrupted() is true; a second one kills, unless it comes within 0.3 s. SIGXFSZ is
 * ignored: a write past a limit of file sizes then fails like any other. */
void moe_catch_interrupts(void);
bool moe_interrupted(void);

/* Has the reader of standard output or of another pipe gone away? moe_catch_interrupts lets such a
 * write fail like any other, so that what was begun is cleaned up. */
bool moe_reader_gone(void);
/* Ends the process as a reader that went away ends one: by SIGPIPE, without a message. */
void moe_end_by_pipe(void);

#endif
