#include "policies/slot_ages.h"

#include "policies/slot_lines_loops.h"

#include <math.h>

enum { BLOCK = MOE_AGES_BLOCK, FEW = MOE_AGES_FEW, LINE = 64, BEFORE = 16, SPARE = 16 };

/* Picked in all; by a look ahead: of several pairs what replays were fastest with. */
enum { TOO_MANY = BLOCK, SOON_LEAST = 8, SOON_MOST = 24, FARTHEST = 1 << 30 };

/* More than the rounding of a standing and of the level that it is compared with. */
static const float above_all = 1 - 0x1p-20f, below_all = 1 - 0x1p-18f;

static uint32_t count_blocks(const struct moe_policy_env *env)
{
    return (env->n_slots + BLOCK - 1) / BLOCK;
}

size_t moe_slot_ages_size(const struct moe_policy_env *env)
{
    size_t n = (size_t)count_blocks(env) * BLOCK, arrays = env->n_slots > FEW ? 5 : 2;
    return LINE + (arrays * n + 2 * (size_t)BEFORE + SPARE) * sizeof(uint32_t);
}

/* Vectors lie in whole lines. */
void moe_slot_ages_init(struct moe_slot_ages *ages, const struct moe_policy_env *env, void *memory)
{
    size_t n = (size_t)count_blocks(env) * BLOCK;
    char *line = (char *)memory + (LINE - (uintptr_t)memory % LINE) % LINE;
    uint32_t *last = (uint32_t *)line + BEFORE, *weight = last + n + BEFORE;
    *ages = (struct moe_slot_ages){.n_slots = env->n_slots,
                                   .n_blocks = count_blocks(env),
                                   .loops = moe_lines_best(),
                                   .few = env->n_slots <= FEW,
                                   .last = last,
                                   .weight = (float *)weight,
                                   .level = INFINITY,
                                   .ahead = 1};
    if (ages->few)
        return;
    ages->picked_last = weight + n;
    ages->picked_slope = (float *)(ages->picked_last + n);
    ages->slot = ages->picked_last + 2 * n;
    for (size_t s = 0; s < n; s++)
        ages->weight[s] = INFINITY;
}

/* The lowest of what the highest of each part stands at, without parts where none stands above 0.
 */
static float find_level(const struct moe_slot_ages *ages, uint32_t now)
{
    float part[MOE_LINES_PARTS], least = INFINITY;
    ages->loops->find_parts(ages->last, ages->weight, ages->n_blocks * BLOCK, now, part);
    for (uint32_t i = 0; i < MOE_LINES_PARTS; i++)
        least = part[i] > 0 && part[i] < least ? part[i] : least;
    return least * below_all;
}

/* --- who is picked --------------------------------------------------------------------------- */

/* As it stands now. */
static void note(struct moe_slot_ages *ages, uint32_t i)
{
    uint32_t s = ages->slot[i];
    ages->picked_last[i] = ages->last[s];
    ages->picked_slope[i] = 1 / ages->weight[s];
}

static bool reaches(const struct moe_slot_ages *ages, uint32_t slot, uint32_t when)
{
    return (float)(when - ages->last[slot]) >= ages->level * ages->weight[slot];
}

/* Nearly always it is the one found last, and stays picked: whether it need be cannot be foretold.
 */
void moe_slot_ages_place(struct moe_slot_ages *ages, uint32_t slot)
{
    uint32_t i = ages->found;
    if (i >= ages->n_picked || ages->slot[i] != slot) {
        if (!reaches(ages, slot, ages->until))
            return;
        if (ages->n_picked == ages->n_blocks * BLOCK) {
            ages->until = 0; /* a look tells */
            return;
        }
        i = ages->n_picked++;
        ages->slot[i] = slot;
    }
    note(ages, i);
}

static void look_ahead(struct moe_slot_ages *ages, uint32_t now)
{
    uint32_t soon = 0;
    ages->until = now < UINT32_MAX - ages->ahead ? now + ages->ahead : UINT32_MAX;
    ages->n_picked = ages->loops->reach(ages->last, ages->weight, ages->n_blocks * BLOCK,
                                        ages->until, ages->level, ages->slot);
    for (uint32_t i = 0; i < ages->n_picked; i++) {
        note(ages, i);
        soon += !reaches(ages, ages->slot[i], now);
    }
    if (soon < SOON_LEAST && ages->ahead < FARTHEST)
        ages->ahead *= 2;
    else if (soon > SOON_MOST && ages->ahead > 1)
        ages->ahead /= 2;
}

/* At another level. */
static void pick_anew(struct moe_slot_ages *ages, uint32_t now)
{
    ages->level = find_level(ages, now);
    look_ahead(ages, now);
    ages->too_many = 2 * ages->n_picked > TOO_MANY ? 2 * ages->n_picked : TOO_MANY;
}

/* --- who goes first -------------------------------------------------------------------------- */

/* Of few slots. */
static void search_few(const struct moe_slot_ages *ages, uint32_t now,
                       struct moe_slot_search *search)
{
    float most;
    uint64_t found =
        ages->loops->oldest(ages->last, ages->weight, ages->n_slots, now, search->pinned, 0, &most);
    for (; found; found &= found - 1)
        moe_slot_search_sees(search, (uint32_t)__builtin_ctzll(found));
}

/* Notices uses of some of a block of the picked; were there any? */
static bool notice(struct moe_slot_ages *ages, uint32_t first, uint64_t found)
{
    bool any = false;
    for (; found; found &= found - 1) {
        uint32_t i = first + (uint32_t)__builtin_ctzll(found);
        if (ages->picked_last[i] == ages->last[ages->slot[i]])
            continue;
        note(ages, i);
        any = true;
    }
    return any;
}

/* Of a block of the picked those that stand above the level. To see which are pinned would take
 * long: those that are in the way are barred. */
static void search_block(struct moe_slot_ages *ages, uint32_t first, uint32_t now,
                         struct moe_slot_search *search)
{
    uint32_t n = ages->n_picked - first < BLOCK ? ages->n_picked - first : BLOCK;
    uint64_t barred = 0;
    for (bool any = false; !any;) {
        float most;
        uint64_t found = ages->loops->oldest(ages->picked_last + first, ages->picked_slope + first,
                                             n, now, NULL, barred, &most);
        if (most * above_all < ages->level)
            break;
        if (notice(ages, first, found))
            continue;
        for (barred |= found; found; found &= found - 1) {
            uint32_t i = first + (uint32_t)__builtin_ctzll(found);
            any |= moe_slot_search_sees(search, ages->slot[i]);
            ages->found = search->best == (moe_slot)ages->slot[i] ? i : ages->found;
        }
    }
}

static void search_picked(struct moe_slot_ages *ages, uint32_t now, struct moe_slot_search *search)
{
    for (uint32_t first = 0; first < ages->n_picked; first += BLOCK)
        search_block(ages, first, now, search);
}

static void search_all(const struct moe_slot_ages *ages, struct moe_slot_search *search)
{
    for (uint32_t s = 0; s < ages->n_slots; s++)
        moe_slot_search_sees(search, s);
}

moe_slot moe_slot_ages_victim(struct moe_slot_ages *ages, const uint8_t *pinned, uint32_t now,
                              moe_slot_goes *goes, const void *state)
{
    struct moe_slot_search search = {pinned, goes, state, MOE_NO_SLOT};
    if (ages->few) {
        search_few(ages, now, &search);
        return search.best;
    }
    if (now > ages->until)
        look_ahead(ages, now);
    if (ages->n_picked > ages->too_many)
        pick_anew(ages, now);
    search_picked(ages, now, &search);
    if (search.best == MOE_NO_SLOT) {
        pick_anew(ages, now);
        search_picked(ages, now, &search);
    }
    if (search.best == MOE_NO_SLOT)
        search_all(ages, &search);
    return search.best;
}
