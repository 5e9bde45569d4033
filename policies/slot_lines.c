#include "policies/slot_lines.h"

#include "policies/slot_lines_loops.h"

#include <math.h>
#include <string.h>

enum { BLOCK = MOE_LINES_BLOCK, STRIDE = MOE_LINES_STRIDE, FEW = MOE_LINES_FEW };

enum { TOO_MANY = 40 }; /* picked ones: twice what the level is to leave, a guess */

/* More than the rounding of a standing. */
static const double near = 1 - 0x1p-50, above_all = 1 - 0x1p-40;

static uint32_t count_blocks(const struct moe_policy_env *env)
{
    return (env->n_slots + BLOCK - 1) / BLOCK;
}

size_t moe_slot_lines_size(const struct moe_policy_env *env)
{
    size_t n = (size_t)count_blocks(env) * BLOCK, arrays = env->n_slots > FEW ? 7 : 4;
    size_t picks = env->n_slots > FEW ? n / 8 + 2 * n * sizeof(uint32_t) : 0;
    return arrays * n * sizeof(double) + picks;
}

static double *take(double **memory, size_t n)
{
    double *taken = *memory;
    *memory += n;
    return taken;
}

static const struct moe_lines_loops *best_loops(void)
{
    const struct moe_lines_loops *avx2 = moe_lines_avx2(), *avx512 = moe_lines_avx512();
    return avx512 ? avx512 : avx2 ? avx2 : &moe_lines_plain;
}

void moe_slot_lines_init(struct moe_slot_lines *lines, const struct moe_policy_env *env,
                         void *memory)
{
    size_t n = (size_t)count_blocks(env) * BLOCK;
    double *at = memory;
    *lines = (struct moe_slot_lines){
        .n_slots = env->n_slots, .n_blocks = count_blocks(env), .loops = best_loops(), .ahead = 1};
    lines->all = (struct moe_lines){take(&at, n), take(&at, n), take(&at, n)};
    lines->scratch = take(&at, n);
    lines->picked = lines->all;
    lines->n_picked = env->n_slots;
    if (env->n_slots <= FEW)
        return;
    lines->picked = (struct moe_lines){take(&at, n), take(&at, n), take(&at, n)};
    lines->n_picked = 0;
    lines->level = INFINITY;
    lines->barred = (uint64_t *)at;
    lines->slot = (uint32_t *)(lines->barred + lines->n_blocks);
    lines->place = lines->slot + n;
}

/* What fills the last stride up stands below 0 at any time. */
void moe_slot_lines_pick(struct moe_slot_lines *lines, uint32_t slot)
{
    const struct moe_lines *all = &lines->all, *picked = &lines->picked;
    uint32_t i = lines->n_picked++;
    lines->slot[i] = slot;
    lines->place[slot] = i + 1;
    picked->last[i] = all->last[slot];
    picked->slope[i] = all->slope[slot];
    picked->due[i] = all->due[slot];
    for (uint32_t k = i + 1; i % STRIDE == 0 && k < i + STRIDE; k++)
        picked->last[k] = picked->slope[k] = picked->due[k] = -1;
}

/* all: whatever they stand at. */
static void pick_anew(struct moe_slot_lines *lines, double now, bool all)
{
    double *most = lines->scratch, later;
    uint32_t n = lines->n_blocks * BLOCK;
    if (now > lines->until && lines->n_picked < TOO_MANY)
        lines->ahead *= 2;
    else if (lines->n_picked > TOO_MANY && lines->ahead > 1)
        lines->ahead /= 2;
    for (uint32_t i = 0; i < lines->n_picked; i++)
        lines->place[lines->slot[i]] = 0;
    lines->n_picked = 0;
    later = now + lines->ahead;
    lines->level = lines->loops->look_ahead(&lines->all, n, now, later, most);
    lines->level = all ? 0 : lines->level;
    lines->until = later;
    memset(lines->barred, 0, lines->n_blocks * sizeof *lines->barred);
    for (uint32_t first = 0; first < n; first += BLOCK) {
        uint64_t found = lines->loops->above(most, first, lines->n_slots, lines->level);
        for (; found; found &= found - 1)
            moe_slot_lines_pick(lines, first + (uint32_t)__builtin_ctzll(found));
    }
}

/* Those barred that are pinned no more may be found again. */
static void unbar(struct moe_slot_lines *lines, const uint8_t *pinned)
{
    for (uint32_t first = 0; first < lines->n_picked; first += BLOCK)
        for (uint64_t left = lines->barred[first / BLOCK]; left; left &= left - 1) {
            uint32_t i = first + (uint32_t)__builtin_ctzll(left);
            if (!pinned[lines->slot[i]])
                lines->barred[first / BLOCK] ^= left & -left;
        }
}

/* The first of those that stand at least there and are not pinned, or MOE_NO_SLOT. All of them are
 * barred: the one that is found goes, and its slot's newcomer most often is pinned. */
static moe_slot search_above(struct moe_slot_lines *lines, double least, const uint8_t *pinned,
                             moe_slot_goes *goes, const void *state)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t first = 0; first < lines->n_picked; first += BLOCK) {
        uint64_t found = lines->loops->above(lines->scratch, first, lines->n_picked, least);
        if (lines->slot)
            lines->barred[first / BLOCK] |= found;
        for (; found; found &= found - 1) {
            uint32_t i = first + (uint32_t)__builtin_ctzll(found);
            uint32_t s = lines->slot ? lines->slot[i] : i;
            if (!pinned[s] && (best == MOE_NO_SLOT || goes(state, (uint32_t)best, s)))
                best = (moe_slot)s;
        }
    }
    return best;
}

/* Of the picked, the first of all slots that are not pinned, or MOE_NO_SLOT: it is not known. To
 * see which of a list are pinned would take long: those are barred that were in the way. */
static moe_slot search_picked(struct moe_slot_lines *lines, const uint8_t *pinned, double now,
                              moe_slot_goes *goes, const void *state)
{
    const uint8_t *each = lines->slot ? NULL : pinned;
    moe_slot best = MOE_NO_SLOT;
    if (lines->slot)
        unbar(lines, pinned);
    do {
        double most = lines->loops->stand(&lines->picked, lines->n_picked, now, each, lines->barred,
                                          lines->scratch);
        if (most * above_all < lines->level)
            return MOE_NO_SLOT;
        best = search_above(lines, most * near, pinned, goes, state);
    } while (best == MOE_NO_SLOT && lines->slot);
    return best;
}

moe_slot moe_slot_lines_victim(struct moe_slot_lines *lines, const uint8_t *pinned, double now,
                               moe_slot_goes *goes, const void *state)
{
    moe_slot best = MOE_NO_SLOT;
    if (lines->n_slots <= FEW || now <= lines->until)
        best = search_picked(lines, pinned, now, goes, state);
    for (int i = 0; i < 2 && best == MOE_NO_SLOT && lines->n_slots > FEW; i++) {
        pick_anew(lines, now, i > 0);
        best = search_picked(lines, pinned, now, goes, state);
    }
    return best;
}
