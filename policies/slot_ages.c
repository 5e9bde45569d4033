#include "policies/slot_ages.h"

#include "policies/slot_lines_loops.h"

#include <math.h>
#include <string.h>

enum { BLOCK = MOE_AGES_BLOCK, FEW = MOE_AGES_FEW, SPARE = 16 };

/* Picked in all; by a look ahead: of several pairs what replays were fastest with. */
enum { TOO_MANY = BLOCK, SOON_LEAST = 8, SOON_MOST = 24 };

/* More than the rounding of a standing and of the level that it is compared with. */
static const double above_all = 1 - 0x1p-40, below_all = 1 - 0x1p-20;

static uint32_t count_blocks(const struct moe_policy_env *env)
{
    return (env->n_slots + BLOCK - 1) / BLOCK;
}

size_t moe_slot_ages_size(const struct moe_policy_env *env)
{
    size_t n = (size_t)count_blocks(env) * BLOCK;
    return env->n_slots > FEW ? 5 * n * sizeof(double) + (2 * n + SPARE) * sizeof(uint32_t)
                              : 2 * n * sizeof(double);
}

void moe_slot_ages_init(struct moe_slot_ages *ages, const struct moe_policy_env *env, void *memory)
{
    size_t n = (size_t)count_blocks(env) * BLOCK;
    double *at = memory;
    *ages = (struct moe_slot_ages){.n_slots = env->n_slots,
                                   .n_blocks = count_blocks(env),
                                   .loops = moe_lines_best(),
                                   .level = INFINITY,
                                   .until = -1,
                                   .ahead = 1,
                                   .picked_last = at,
                                   .picked_slope = at + n};
    if (env->n_slots <= FEW)
        return;
    ages->last = at + 2 * n;
    ages->weight = at + 3 * n;
    ages->pass = at + 4 * n;
    ages->slot = (uint32_t *)(at + 5 * n);
    ages->place = ages->slot + n + SPARE;
    for (size_t s = 0; s < n; s++)
        ages->weight[s] = ages->pass[s] = INFINITY;
}

/* Those that pass the level after one time and until another; returns how many. */
static uint32_t pick_between(struct moe_slot_ages *ages, double after, double until)
{
    uint32_t *new = ages->slot + ages->n_picked;
    uint32_t n = ages->loops->between(ages->pass, ages->n_blocks * BLOCK, after, until, new);
    for (uint32_t i = 0; i < n; i++)
        moe_slot_ages_pick(ages, new[i]);
    return n;
}

/* The lowest of what the highest of each part stands at, without parts where none stands above 0.
 */
static double find_level(const struct moe_slot_ages *ages, double now)
{
    double part[MOE_LINES_PARTS], least = INFINITY;
    ages->loops->find_parts(ages->last, ages->weight, ages->n_blocks * BLOCK, now, part);
    for (uint32_t i = 0; i < MOE_LINES_PARTS; i++)
        least = part[i] > 0 && part[i] < least ? part[i] : least;
    return least * below_all;
}

/* At another level. */
static void pick_anew(struct moe_slot_ages *ages, double now)
{
    for (uint32_t i = 0; i < ages->n_picked; i++)
        ages->place[ages->slot[i]] = 0;
    ages->n_picked = 0;
    ages->level = find_level(ages, now);
    ages->until = now + ages->ahead;
    ages->loops->pass_level(ages->last, ages->weight, ages->n_blocks * BLOCK, ages->level,
                            ages->pass);
    pick_between(ages, -1, ages->until);
    if (ages->n_picked > TOO_MANY && ages->ahead > 1)
        ages->ahead /= 2;
    ages->too_many = 2 * ages->n_picked > TOO_MANY ? 2 * ages->n_picked : TOO_MANY;
}

static void look_ahead(struct moe_slot_ages *ages, double now)
{
    double until = now + ages->ahead;
    if (ages->n_picked > TOO_MANY) {
        pick_anew(ages, now);
        return;
    }
    uint32_t n = pick_between(ages, ages->until, until);
    ages->until = until;
    if (n < SOON_LEAST)
        ages->ahead *= 2;
    else if (n > SOON_MOST && ages->ahead > 1)
        ages->ahead /= 2;
}

/* Of few slots. */
static void search_few(const struct moe_slot_ages *ages, double now, struct moe_slot_search *search)
{
    double most;
    uint64_t found = ages->loops->oldest(ages->picked_last, ages->picked_slope, ages->n_slots, now,
                                         search->pinned, 0, &most);
    for (; found; found &= found - 1)
        moe_slot_search_sees(search, (uint32_t)__builtin_ctzll(found));
}

/* Of a block of the picked those that stand above the level. To see which are pinned would take
 * long: those that are in the way are barred. */
static void search_block(const struct moe_slot_ages *ages, uint32_t first, double now,
                         struct moe_slot_search *search)
{
    uint32_t n = ages->n_picked - first < BLOCK ? ages->n_picked - first : BLOCK;
    uint64_t barred = 0;
    for (bool any = false; !any;) {
        double most;
        uint64_t found = ages->loops->oldest(ages->picked_last + first, ages->picked_slope + first,
                                             n, now, NULL, barred, &most);
        if (most * above_all < ages->level)
            break;
        for (barred |= found; found; found &= found - 1)
            any |=
                moe_slot_search_sees(search, ages->slot[first + (uint32_t)__builtin_ctzll(found)]);
    }
}

static void search_picked(const struct moe_slot_ages *ages, double now,
                          struct moe_slot_search *search)
{
    for (uint32_t first = 0; first < ages->n_picked; first += BLOCK)
        search_block(ages, first, now, search);
}

static void search_all(const struct moe_slot_ages *ages, struct moe_slot_search *search)
{
    for (uint32_t s = 0; s < ages->n_slots; s++)
        moe_slot_search_sees(search, s);
}

moe_slot moe_slot_ages_victim(struct moe_slot_ages *ages, const uint8_t *pinned, double now,
                              moe_slot_goes *goes, const void *state)
{
    struct moe_slot_search search = {pinned, goes, state, MOE_NO_SLOT};
    if (!ages->slot) {
        search_few(ages, now, &search);
        return search.best;
    }
    if (ages->n_picked > ages->too_many)
        pick_anew(ages, now);
    else if (now > ages->until)
        look_ahead(ages, now);
    search_picked(ages, now, &search);
    if (search.best == MOE_NO_SLOT) {
        pick_anew(ages, now);
        search_picked(ages, now, &search);
    }
    if (search.best == MOE_NO_SLOT)
        search_all(ages, &search);
    return search.best;
}
