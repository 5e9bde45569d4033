#include "sim/mrc_opt_pass.h"

#include "policies/policy.h"
#include "sim/mrc_opt_ends.h"
#include "sim/mrc_room.h"

#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = MOE_OPT_BLOCK,
    GROUP = MOE_OPT_GROUP,
    NOT_DUE = MOE_OPT_NOT_DUE,
    AT_ONCE = MOE_OPT_AT_ONCE,
    MOST_PLAIN = 64, /* keys: they take so few blocks that vectors do not pay */
    LINE = 64,
};

void moe_opt_stack_clear(struct moe_opt_stack *st)
{
    if (st->ends) {
        moe_opt_ends_clear(st->ends);
        return;
    }
    for (uint32_t i = 0; i < st->n_blocks * BLOCK; i++)
        st->next_use[i] = MOE_NEVER;
    for (uint32_t b = 0; b < st->n_blocks; b++)
        st->low[b] = st->high[b] = MOE_NEVER;
    for (uint32_t k = 0; k < st->n_keys; k++)
        st->due[k] = NOT_DUE;
}

void moe_opt_stack_free(struct moe_opt_stack *st)
{
    if (!st)
        return;
    moe_opt_ends_free(st->ends);
    free(st->next_use);
    free(st->low);
    free(st->high);
    free(st->due);
    free(st);
}

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* A newcomer passes through a block; returns the one that goes on down. */
static uint32_t pass_block(struct moe_opt_stack *st, uint32_t b, uint32_t comer)
{
    uint32_t *next_use = st->next_use + (size_t)b * BLOCK, high = 0;
    st->low[b] = min_u32(st->low[b], comer);
    for (uint32_t i = 0; i < BLOCK; i++) {
        uint32_t here = next_use[i], stays = min_u32(here, comer);
        comer = max_u32(here, comer);
        next_use[i] = stays;
        high = max_u32(high, stays);
    }
    st->high[b] = high;
    return comer;
}

/* The same in a block with a key that is due now: the pass ends in its place, which is returned. */
static uint32_t end_in_block(struct moe_opt_stack *st, uint32_t b, uint32_t comer, uint32_t now)
{
    uint32_t *next_use = st->next_use + (size_t)b * BLOCK, at = 0, low = MOE_NEVER;
    st->high[b] = max_u32(st->high[b], comer);
    for (; next_use[at] != now; at++) {
        uint32_t here = next_use[at];
        next_use[at] = min_u32(here, comer);
        comer = max_u32(here, comer);
    }
    next_use[at] = comer;
    for (uint32_t i = 0; i < BLOCK; i++)
        low = min_u32(low, next_use[i]);
    st->low[b] = low;
    return b * BLOCK + at;
}

/* One newcomer passes down the stack. Inlined, and so twice, this takes a fifth longer with gcc 12
 * (pools of 8 keys). */
static __attribute__((noinline)) uint32_t pass_one(struct moe_opt_stack *st, uint32_t comer,
                                                   uint32_t now)
{
    for (uint32_t b = 0; b < st->n_blocks; b++) {
        if (st->low[b] == now)
            return end_in_block(st, b, comer, now) + 1;
        if (st->high[b] > comer)
            comer = pass_block(st, b, comer);
        else if (comer == MOE_NEVER && now == NOT_DUE)
            break;
    }
    return MOE_MRC_NOWHERE;
}

uint32_t moe_opt_pass_plain(struct moe_opt_stack *st, const uint32_t *comer, uint32_t n,
                            uint32_t now, uint32_t n_due, uint32_t *position)
{
    uint32_t n_found = min_u32(n, n_due);
    for (uint32_t i = 0; i < n_found; i++)
        position[i] = pass_one(st, comer[i], now);
    for (uint32_t i = n_found; i < n; i++)
        pass_one(st, comer[i], NOT_DUE);
    return n_found;
}

/* n numbers, aligned so that no vector crosses a cache line. */
static uint32_t *lines(size_t n)
{
    return aligned_alloc(LINE, (n * sizeof(uint32_t) + LINE - 1) / LINE * LINE);
}

static enum moe_status init_places(struct moe_opt_stack *st, struct moe_err *err)
{
    st->n_blocks = st->n_keys / BLOCK + 1;
    if (st->pass != moe_opt_pass_plain)
        st->n_blocks = (st->n_blocks + GROUP - 1) / GROUP * GROUP;
    st->next_use = lines((size_t)st->n_blocks * BLOCK);
    st->low = lines(st->n_blocks);
    st->high = lines(st->n_blocks);
    st->due = moe_mrc_room(st->n_keys + 1u, sizeof *st->due);
    if (!st->next_use || !st->low || !st->high || !st->due)
        return moe_fail_memory(err, "an OPT stack");
    moe_opt_stack_clear(st);
    return MOE_OK;
}

enum moe_status moe_opt_stack_new_as(struct moe_opt_stack **out, uint32_t n_keys,
                                     moe_opt_pass *pass, struct moe_err *err)
{
    struct moe_opt_stack *st = moe_mrc_room(1, sizeof *st);
    if (!st)
        return moe_fail_memory(err, "an OPT stack");
    st->n_keys = n_keys;
    st->pass = pass;
    enum moe_status s = pass ? init_places(st, err) : moe_opt_ends_new(&st->ends, n_keys, err);
    if (s)
        moe_opt_stack_free(st);
    else
        *out = st;
    return s;
}

bool moe_opt_stack_can_look_back(uint32_t n_keys)
{
    return n_keys <= MOE_OPT_ENDS_MOST && moe_opt_has_avx512();
}

bool moe_opt_stack_looks_ahead(const struct moe_opt_stack *st)
{
    return !st->ends;
}

enum moe_status moe_opt_stack_new(struct moe_opt_stack **out, uint32_t n_keys, bool back,
                                  struct moe_err *err)
{
    moe_opt_pass *pass = moe_opt_pass_plain;
    if (back || (n_keys > MOST_PLAIN && moe_opt_stack_can_look_back(n_keys)))
        pass = NULL;
    else if (n_keys > MOST_PLAIN && moe_opt_has_avx2())
        pass = moe_opt_pass_avx2;
    return moe_opt_stack_new_as(out, n_keys, pass, err);
}

uint32_t moe_opt_stack_access(struct moe_opt_stack *st, uint32_t key, uint32_t next_use)
{
    uint32_t position = MOE_MRC_NOWHERE;
    if (st->ends) {
        moe_opt_ends_event(st->ends, &key, 1, &position);
        return position;
    }
    uint32_t now = st->due[key];
    st->due[key] = next_use == MOE_NEVER ? NOT_DUE : next_use;
    st->pass(st, &next_use, 1, now, now != NOT_DUE, &position);
    return position;
}

/* Sorts up to AT_ONCE newcomers, the soonest first: then fewer places change on the way down, which
 * pays in a deep stack. No branch depends on the numbers. */
static void sort_comers(uint32_t *a, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        uint32_t comer = a[i];
        for (uint32_t at = 0; at < i; at++) {
            uint32_t here = a[at];
            a[at] = min_u32(here, comer);
            comer = max_u32(here, comer);
        }
        a[i] = comer;
    }
}

/* All keys due now have the same ordinal, so it does not matter which newcomer takes whose place,
 * nor in which order they come: each place keeps the least of all that meet there. The newcomers
 * that end in a place left by a key come first; the others then compete for places. */
void moe_opt_stack_event(struct moe_opt_stack *st, const uint32_t *key, const uint32_t *next_use,
                         uint32_t n, uint32_t *position)
{
    uint32_t comer[AT_ONCE], now = NOT_DUE, n_due = 0, n_found = 0;
    if (st->ends) {
        moe_opt_ends_event(st->ends, key, n, position);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *due = &st->due[key[i]];
        n_due += *due != NOT_DUE;
        now = max_u32(now, *due);
        *due = next_use[i] == MOE_NEVER ? NOT_DUE : next_use[i];
    }
    for (uint32_t i = 0, more; i < n; i += more) {
        more = min_u32(n - i, AT_ONCE);
        memcpy(comer, next_use + i, more * sizeof *comer);
        if (st->n_blocks > GROUP)
            sort_comers(comer, more);
        n_found += st->pass(st, comer, more, now, n_due - n_found, position + n_found);
    }
    for (; n_found < n; n_found++)
        position[n_found] = MOE_MRC_NOWHERE;
}
