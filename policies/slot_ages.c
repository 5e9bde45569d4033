#include "policies/slot_ages.h"

#include "policies/slot_lines_loops.h"

#include <math.h>

enum {
    BLOCK = MOE_AGES_BLOCK,
    SMALL = MOE_AGES_SMALL,
    LINE = 64,   /* bytes of a cache line */
    BEFORE = 16, /* numbers in front of last and weight: [MOE_NO_SLOT], in a line of its own */
    SPARE = 16,  /* numbers behind slot, which moe_lines_loops.reach may overwrite */
};

/* Entries of the shortlist: of them all; of those that are below the level when it is made. The
 * pair SOON is, of several, what replays were fastest with. */
enum { TOO_MANY = BLOCK, SOON_LEAST = 8, SOON_MOST = 24, FARTHEST = 1 << 30 };

/* Factors that cover the rounding of a priority and of the level that it is compared with. */
static const float above_all = 1 - 0x1p-20f, below_all = 1 - 0x1p-18f;

static uint32_t count_blocks(const struct moe_policy_env *env)
{
    return (env->n_slots + BLOCK - 1) / BLOCK;
}

size_t moe_slot_ages_size(const struct moe_policy_env *env)
{
    size_t n = (size_t)count_blocks(env) * BLOCK, arrays = env->n_slots > SMALL ? 5 : 2;
    return LINE + (arrays * n + 2 * (size_t)BEFORE + SPARE) * sizeof(uint32_t);
}

/* Arrays begin at cache lines, so that no vector straddles two. */
void moe_slot_ages_init(struct moe_slot_ages *ages, const struct moe_policy_env *env, void *memory)
{
    size_t n = (size_t)count_blocks(env) * BLOCK;
    char *line = (char *)memory + (LINE - (uintptr_t)memory % LINE) % LINE;
    uint32_t *last = (uint32_t *)line + BEFORE, *weight = last + n + BEFORE;
    *ages = (struct moe_slot_ages){.n_slots = env->n_slots,
                                   .n_blocks = count_blocks(env),
                                   .loops = moe_lines_best(),
                                   .is_small = env->n_slots <= SMALL,
                                   .last = last,
                                   .weight = (float *)weight,
                                   .level = INFINITY,
                                   .ahead = 1};
    if (ages->is_small)
        return;
    ages->picked_last = weight + n;
    ages->picked_slope = (float *)(ages->picked_last + n);
    ages->slot = ages->picked_last + 2 * n;
    for (size_t s = 0; s < n; s++)
        ages->weight[s] = INFINITY;
}

/* The slots are divided into parts: the level is the lowest of the parts' highest priorities,
 * leaving out parts without a priority above 0. So the highest slot of each part is above it. */
static float find_level(const struct moe_slot_ages *ages, uint32_t now)
{
    float part[MOE_LINES_PARTS], least = INFINITY;
    ages->loops->find_parts(ages->last, ages->weight, ages->n_blocks * BLOCK, now, part);
    for (uint32_t i = 0; i < MOE_LINES_PARTS; i++)
        least = part[i] > 0 && part[i] < least ? part[i] : least;
    return least * below_all;
}

/* --- the shortlist --------------------------------------------------------------------------- */

/* Copies the slot's present last and weight into entry i. */
static void refresh(struct moe_slot_ages *ages, uint32_t i)
{
    uint32_t s = ages->slot[i];
    ages->picked_last[i] = ages->last[s];
    ages->picked_slope[i] = 1 / ages->weight[s];
}

static bool reaches(const struct moe_slot_ages *ages, uint32_t slot, uint32_t when)
{
    return (float)(when - ages->last[slot]) >= ages->level * ages->weight[slot];
}

/* Nearly always the slot is the victim found last: its entry is reused, even if the slot is now
 * below the level, as to test that would take a branch that cannot be predicted. */
void moe_slot_ages_place(struct moe_slot_ages *ages, uint32_t slot)
{
    uint32_t i = ages->found;
    if (i >= ages->n_picked || ages->slot[i] != slot) {
        if (!reaches(ages, slot, ages->until))
            return;
        if (ages->n_picked == ages->n_blocks * BLOCK) {
            ages->until = 0; /* the next search makes the shortlist anew */
            return;
        }
        i = ages->n_picked++;
        ages->slot[i] = slot;
    }
    refresh(ages, i);
}

/* Makes the shortlist anew, at the same level. Adjusts how far it looks ahead, so that the number
 * of slots that only will reach the level stays between SOON_LEAST and SOON_MOST. */
static void make_shortlist(struct moe_slot_ages *ages, uint32_t now)
{
    uint32_t soon = 0;
    ages->until = now < UINT32_MAX - ages->ahead ? now + ages->ahead : UINT32_MAX;
    ages->n_picked = ages->loops->reach(ages->last, ages->weight, ages->n_blocks * BLOCK,
                                        ages->until, ages->level, ages->slot);
    for (uint32_t i = 0; i < ages->n_picked; i++) {
        refresh(ages, i);
        soon += !reaches(ages, ages->slot[i], now);
    }
    if (soon < SOON_LEAST && ages->ahead < FARTHEST)
        ages->ahead *= 2;
    else if (soon > SOON_MOST && ages->ahead > 1)
        ages->ahead /= 2;
}

static void choose_level(struct moe_slot_ages *ages, uint32_t now)
{
    ages->level = find_level(ages, now);
    make_shortlist(ages, now);
    ages->too_many = 2 * ages->n_picked > TOO_MANY ? 2 * ages->n_picked : TOO_MANY;
}

/* --- the victim ------------------------------------------------------------------------------ */

static void search_small(const struct moe_slot_ages *ages, uint32_t now,
                         struct moe_slot_search *search)
{
    float most;
    uint64_t found =
        ages->loops->oldest(ages->last, ages->weight, ages->n_slots, now, search->pinned, 0, &most);
    for (; found; found &= found - 1)
        moe_slot_search_offer(search, (uint32_t)__builtin_ctzll(found));
}

/* Corrects those of the found entries of a block whose slots were used since; were there any? */
static bool correct(struct moe_slot_ages *ages, uint32_t first, uint64_t found)
{
    bool any = false;
    for (; found; found &= found - 1) {
        uint32_t i = first + (uint32_t)__builtin_ctzll(found);
        if (ages->picked_last[i] == ages->last[ages->slot[i]])
            continue;
        refresh(ages, i);
        any = true;
    }
    return any;
}

/* Offers to the search the highest of those entries of a block that are at the level or above it,
 * again and again until one of them is not pinned. Pins are looked up for the entries found only:
 * pinned ones are then skipped by their bits. */
static void search_block(struct moe_slot_ages *ages, uint32_t first, uint32_t now,
                         struct moe_slot_search *search)
{
    uint32_t n = ages->n_picked - first < BLOCK ? ages->n_picked - first : BLOCK;
    uint64_t skipped = 0;
    for (bool any_free = false; !any_free;) {
        float most;
        uint64_t found = ages->loops->oldest(ages->picked_last + first, ages->picked_slope + first,
                                             n, now, NULL, skipped, &most);
        if (most * above_all < ages->level)
            break;
        if (correct(ages, first, found))
            continue;
        for (skipped |= found; found; found &= found - 1) {
            uint32_t i = first + (uint32_t)__builtin_ctzll(found);
            any_free |= moe_slot_search_offer(search, ages->slot[i]);
            ages->found = search->best == (moe_slot)ages->slot[i] ? i : ages->found;
        }
    }
}

static void search_shortlist(struct moe_slot_ages *ages, uint32_t now,
                             struct moe_slot_search *search)
{
    for (uint32_t first = 0; first < ages->n_picked; first += BLOCK)
        search_block(ages, first, now, search);
}

static void search_all(const struct moe_slot_ages *ages, struct moe_slot_search *search)
{
    for (uint32_t s = 0; s < ages->n_slots; s++)
        moe_slot_search_offer(search, s);
}

moe_slot moe_slot_ages_victim(struct moe_slot_ages *ages, const uint8_t *pinned, uint32_t now,
                              moe_slot_goes *goes, const void *state)
{
    struct moe_slot_search search = {pinned, goes, state, MOE_NO_SLOT};
    if (ages->is_small) {
        search_small(ages, now, &search);
        return search.best;
    }
    if (now > ages->until)
        make_shortlist(ages, now);
    if (ages->n_picked > ages->too_many)
        choose_level(ages, now);
    search_shortlist(ages, now, &search);
    if (search.best == MOE_NO_SLOT) {
        choose_level(ages, now);
        search_shortlist(ages, now, &search);
    }
    if (search.best == MOE_NO_SLOT) /* all that are above the level are pinned */
        search_all(ages, &search);
    return search.best;
}
