#include "policies/slot_lines.h"

#include "policies/slot_lines_loops.h"

#include <math.h>
#include <string.h>

enum { BLOCK = MOE_LINES_BLOCK, STRIDE = MOE_LINES_STRIDE, FEW = MOE_LINES_FEW };

enum { TOO_MANY = 5 }; /* picked ones a part: of 3, 5 and 7 what replays were fastest with */

/* More than the rounding of a standing and of the level that it is compared with. */
static const double above_all = 1 - 0x1p-40;

/* What an event of a token filled may stand highest, and is pinned: others must be left. */
static uint32_t count_parts(const struct moe_policy_env *env)
{
    return env->top_k <= 2 ? MOE_LINES_PARTS / 2 : MOE_LINES_PARTS;
}

static uint32_t count_blocks(const struct moe_policy_env *env)
{
    return (env->n_slots + BLOCK - 1) / BLOCK;
}

size_t moe_slot_lines_size(const struct moe_policy_env *env)
{
    size_t n = (size_t)count_blocks(env) * BLOCK, arrays = env->n_slots > FEW ? 7 : 3;
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
    *lines = (struct moe_slot_lines){.n_slots = env->n_slots,
                                     .n_blocks = count_blocks(env),
                                     .n_parts = count_parts(env),
                                     .loops = best_loops(),
                                     .ahead = 1};
    lines->all = (struct moe_lines){take(&at, n), take(&at, n), take(&at, n)};
    if (env->n_slots <= FEW)
        return;
    lines->scratch = take(&at, n);
    lines->picked = (struct moe_lines){take(&at, n), take(&at, n), take(&at, n)};
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

/* The lowest of what the highest of each part stands at, without parts where none stands above 0.
 */
static double find_level(const struct moe_slot_lines *lines, double part[MOE_LINES_PARTS])
{
    double least = INFINITY;
    for (uint32_t i = 0, k = lines->n_parts; k < MOE_LINES_PARTS; i++, k++)
        part[i] = part[k] > part[i] ? part[k] : part[i];
    for (uint32_t i = 0; i < lines->n_parts; i++)
        least = part[i] > 0 && part[i] < least ? part[i] : least;
    return least;
}

/* all: whatever they stand at. */
static void pick_anew(struct moe_slot_lines *lines, double now, bool all)
{
    double *most = lines->scratch, part[MOE_LINES_PARTS], later;
    uint32_t n = lines->n_blocks * BLOCK, too_many = TOO_MANY * lines->n_parts;
    if (now > lines->until && lines->n_picked < too_many)
        lines->ahead *= 2;
    else if (lines->n_picked > too_many && lines->ahead > 1)
        lines->ahead /= 2;
    for (uint32_t i = 0; i < lines->n_picked; i++)
        lines->place[lines->slot[i]] = 0;
    lines->n_picked = 0;
    later = now + lines->ahead;
    lines->loops->look_ahead(&lines->all, n, now, later, most, part);
    lines->level = all ? 0 : find_level(lines, part);
    lines->until = later;
    memset(lines->barred, 0, lines->n_blocks * sizeof *lines->barred);
    for (uint32_t first = 0; first < n; first += BLOCK) {
        uint64_t found = lines->loops->above(most, first, lines->n_slots, lines->level);
        for (; found; found &= found - 1)
            moe_slot_lines_pick(lines, first + (uint32_t)__builtin_ctzll(found));
    }
}

/* Those barred that are pinned no more may be found again. */
static uint64_t unbar(const uint32_t *slot, uint64_t barred, const uint8_t *pinned)
{
    for (uint64_t left = barred; left; left &= left - 1)
        if (!pinned[slot[__builtin_ctzll(left)]])
            barred ^= left & -left;
    return barred;
}

struct search {
    const uint8_t *pinned;
    double now;
    moe_slot_goes *goes;
    const void *state;
    moe_slot best; /* so far, or MOE_NO_SLOT */
};

static inline bool consider(struct search *search, uint32_t slot)
{
    if (search->pinned[slot])
        return false;
    if (search->best == MOE_NO_SLOT || search->goes(search->state, (uint32_t)search->best, slot))
        search->best = (moe_slot)slot;
    return true;
}

/* Of few slots. */
static void search_all(const struct moe_slot_lines *lines, struct search *search)
{
    double most;
    uint64_t found = lines->loops->highest(&lines->all, 0, lines->n_slots, search->now,
                                           search->pinned, 0, &most);
    for (; found; found &= found - 1)
        consider(search, (uint32_t)__builtin_ctzll(found));
}

/* Of a block of the picked those that stand at least at the level. To see which are pinned would
 * take long: those are barred that were in the way, and with them the one that is found: it goes,
 * and its slot's newcomer most often is pinned. */
static void search_block(const struct moe_slot_lines *lines, uint32_t first, struct search *search)
{
    const uint32_t *slot = lines->slot + first;
    uint32_t n = lines->n_picked - first < BLOCK ? lines->n_picked - first : BLOCK;
    uint64_t barred = unbar(slot, lines->barred[first / BLOCK], search->pinned);
    for (bool any = false; !any;) {
        double most;
        uint64_t found =
            lines->loops->highest(&lines->picked, first, n, search->now, NULL, barred, &most);
        if (most * above_all < lines->level)
            break;
        for (barred |= found; found; found &= found - 1)
            any |= consider(search, slot[__builtin_ctzll(found)]);
    }
    lines->barred[first / BLOCK] = barred;
}

static void search_picked(const struct moe_slot_lines *lines, struct search *search)
{
    for (uint32_t first = 0; first < lines->n_picked; first += BLOCK)
        search_block(lines, first, search);
}

moe_slot moe_slot_lines_victim(struct moe_slot_lines *lines, const uint8_t *pinned, double now,
                               moe_slot_goes *goes, const void *state)
{
    struct search search = {pinned, now, goes, state, MOE_NO_SLOT};
    if (lines->n_slots <= FEW) {
        search_all(lines, &search);
        return search.best;
    }
    if (now <= lines->until)
        search_picked(lines, &search);
    for (int i = 0; i < 2 && search.best == MOE_NO_SLOT; i++) {
        pick_anew(lines, now, i > 0);
        search_picked(lines, &search);
    }
    return search.best;
}
