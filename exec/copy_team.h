/* A few threads that copy parts of an expert into a ring's buffers together: one alone copies at
 * some 10 GB/s, while a link takes 25 and more. Inside exec only. */
#ifndef MOELAB_EXEC_COPY_TEAM_H
#define MOELAB_EXEC_COPY_TEAM_H

#include "exec/expert_store.h"

enum { MOE_COPY_THREADS_MAX = 4 };

struct moe_copy_team; /* opaque; one caller at a time */

/* A team of `threads` (1..MOE_COPY_THREADS_MAX) including the caller; fewer if the system refuses
 * to start them. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_copy_team_new(struct moe_copy_team **out, uint32_t threads,
                                  struct moe_err *err);
void moe_copy_team_free(struct moe_copy_team *team); /* NULL: no-op */

/* As moe_expert_layout_read; returns when all is copied. */
void moe_copy_team_read(struct moe_copy_team *team, const struct moe_expert_layout *layout,
                        const struct moe_expert_weights *expert, uint64_t at, uint64_t n, void *to);

#endif
