/* Keeps processors from sleeping, for steadier timings: an idle processor is halted, and on a
 * virtual machine it may take most of a millisecond to wake (measured on a two-core Firecracker
 * guest, 2026-11-21: steps of 4.9 ms took 7.4 ms where the machine was otherwise idle). */
#ifndef MOELAB_EXEC_AWAKE_H
#define MOELAB_EXEC_AWAKE_H

#include "base/error.h"

struct moe_awake; /* opaque */

/* Starts a thread on each processor that this process may use, which spins with idle priority
 * (SCHED_IDLE), so that everything else goes first. Errors: MOE_ERR_MEMORY, MOE_ERR_UNSUPPORTED if
 * the system refuses that priority. */
enum moe_status moe_awake_start(struct moe_awake **out, struct moe_err *err);
void moe_awake_end(struct moe_awake *awake); /* NULL: no-op */

#endif
