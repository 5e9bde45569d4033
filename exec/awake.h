/* Keeps processors from sleeping, for timings: one that has nothing to do is halted, and on a
 * virtual machine it may take most of a millisecond until it is back (measured on a two-core
 * Firecracker guest, 2026-11-21: steps of 4.9 ms took 7.4 where the machine was otherwise idle). */
#ifndef MOELAB_EXEC_AWAKE_H
#define MOELAB_EXEC_AWAKE_H

#include "base/error.h"

struct moe_awake; /* opaque */

/* A thread on each processor that this process may use, which spins at the priority of idleness:
 * anything else goes before it. Errors: MOE_ERR_MEMORY, MOE_ERR_UNSUPPORTED where the system lets
 * it have no such priority. */
enum moe_status moe_awake_start(struct moe_awake **out, struct moe_err *err);
void moe_awake_end(struct moe_awake *awake); /* NULL: no-op */

#endif
