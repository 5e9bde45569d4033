#include "policies/slot_lines.h"

#include "policies/slot_lines_loops.h"

const struct moe_lines_loops *moe_lines_best(void)
{
    const struct moe_lines_loops *avx2 = moe_lines_avx2(), *avx512 = moe_lines_avx512();
    return avx512 ? avx512 : avx2 ? avx2 : &moe_lines_plain;
}

void moe_slot_lines_init(struct moe_slot_lines *lines, uint32_t n_slots, void *memory)
{
    double *last = (double *)memory + MOE_LINES_BEFORE;
    *lines = (struct moe_slot_lines){n_slots, moe_lines_best(), last,
                                     last + MOE_LINES_MAX + MOE_LINES_BEFORE};
}

moe_slot moe_slot_lines_victim(const struct moe_slot_lines *lines, const uint8_t *pinned,
                               double now, moe_slot_goes *goes, const void *state)
{
    struct moe_slot_search search = {pinned, goes, state, MOE_NO_SLOT};
    uint64_t found = lines->loops->highest(lines, now, pinned);
    if (found && !(found & (found - 1))) /* a single bit, as nearly always */
        return (moe_slot)__builtin_ctzll(found);
    for (; found; found &= found - 1)
        moe_slot_search_offer(&search, (uint32_t)__builtin_ctzll(found));
    return search.best;
}
