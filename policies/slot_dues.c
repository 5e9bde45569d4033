#include "policies/slot_dues.h"

#include <math.h>
#include <string.h>

/* Small pools: all slots are scanned. */
static bool is_small(uint32_t n_slots)
{
    return n_slots <= MOE_LINES_MAX;
}

/* The experts that an event inserts are often the ones due last, but pinned: the list must hold
 * others besides. */
static uint32_t late_capacity(uint32_t top_k)
{
    uint32_t n = MOE_DUES_PER_USE * (top_k > 0 ? top_k : 1);
    return n < MOE_DUES_LATE ? n : MOE_DUES_LATE;
}

static size_t list_size(const struct moe_policy_env *env)
{
    return (moe_slot_list_size(env) + 7) / 8 * 8;
}

size_t moe_slot_dues_size(const struct moe_policy_env *env)
{
    if (is_small(env->n_slots))
        return moe_slot_lines_size();
    return 2 * sizeof(double) * env->n_slots + list_size(env);
}

void moe_slot_dues_init(struct moe_slot_dues *dues, const struct moe_policy_env *env, void *memory)
{
    dues->n_slots = env->n_slots;
    dues->capacity = late_capacity(env->top_k);
    if (is_small(env->n_slots)) {
        moe_slot_lines_init(&dues->lines, env->n_slots, memory);
        dues->last = dues->lines.last;
        dues->due = dues->lines.due;
        return;
    }
    dues->last = memory;
    dues->due = dues->last + env->n_slots;
    dues->by_use = (struct moe_slot_list *)(dues->due + env->n_slots);
    moe_slot_list_init(dues->by_use, env->n_slots);
    for (uint32_t s = 0; s < env->n_slots; s++) {
        dues->last[s] = INFINITY; /* not set yet: overdue with priority -INFINITY */
        dues->due[s] = -1;
    }
}

/* --- slots set ------------------------------------------------------------------------------- */

/* Of two slots that are not due yet, is a evicted before b? */
static bool goes_before(const struct moe_due *a, const struct moe_due *b)
{
    if (a->due < b->due || a->due > b->due)
        return a->due > b->due;
    return a->last < b->last || (a->last <= b->last && a->slot < b->slot);
}

static void forget_late(struct moe_slot_dues *dues, uint32_t i)
{
    dues->n_late--;
    for (; i < dues->n_late; i++)
        dues->late[i] = dues->late[i + 1];
}

static void forget_lower_half(struct moe_slot_dues *dues)
{
    uint32_t half = dues->capacity / 2;
    dues->threshold = dues->late[half - 1].due;
    dues->n_late -= half;
    memmove(dues->late, dues->late + half, dues->n_late * sizeof *dues->late);
}

/* Enters the slot into `late`, unless it is due too early. Usually the slot is the victim found
 * last: its old entry is replaced, and the new one belongs not far from it. */
static void add_late(struct moe_slot_dues *dues, uint32_t slot)
{
    const struct moe_due new = {dues->due[slot], dues->last[slot], slot};
    struct moe_due *late = dues->late;
    uint32_t i = dues->found;
    bool was_found = (i < dues->n_late) & (late[i].slot == slot);
    if (!was_found) {
        if (new.due > dues->threshold && dues->n_late == dues->capacity)
            forget_lower_half(dues);
        if (new.due <= dues->threshold)
            return;
        i = dues->n_late++;
    } else if (new.due <= dues->threshold) {
        forget_late(dues, i);
        return;
    }
    for (; i + 1 < dues->n_late && goes_before(&new, &late[i + 1]); i++)
        late[i] = late[i + 1];
    for (; i > 0 && goes_before(&late[i - 1], &new); i--)
        late[i] = late[i - 1];
    late[i] = new;
}

static bool is_ever_due(double due)
{
    return due >= 0 && due < MOE_DUE_NEVER / 2;
}

/* Inserts the slot in order. The walk is short: usually its use is the latest of all, or of all but
 * some of the event under way. */
static void add_by_use(struct moe_slot_dues *dues, uint32_t slot)
{
    struct moe_slot_list *list = dues->by_use;
    uint32_t before = list->n_slots, after = list->node[before].after;
    for (; after < list->n_slots && dues->last[after] > dues->last[slot];
         after = list->node[before].after)
        before = after;
    list->node[slot].before = before;
    list->node[slot].after = after;
    list->node[before].after = list->node[after].before = slot;
}

void moe_slot_dues_place(struct moe_slot_dues *dues, uint32_t slot, double last, double due)
{
    if (is_ever_due(dues->due[slot]))
        moe_slot_list_remove(dues->by_use, (moe_slot)slot);
    dues->last[slot] = last;
    dues->due[slot] = due;
    if (is_ever_due(due))
        add_by_use(dues, slot);
    add_late(dues, slot);
}

/* --- the victim ------------------------------------------------------------------------------ */

/* Is b evicted before a? Exact: times are whole numbers, and the difference of a due time and one
 * of them is not rounded. */
static bool goes(const void *state, uint32_t a, uint32_t b)
{
    const struct moe_slot_dues *dues = state;
    double left = moe_due_priority(dues->last[b], dues->due[b], dues->now);
    double right = moe_due_priority(dues->last[a], dues->due[a], dues->now);
    if (left < right || left > right)
        return left > right;
    return dues->last[b] < dues->last[a] || (dues->last[b] <= dues->last[a] && b < a);
}

/* The unpinned slot that is due last, or MOE_NO_SLOT if `late` does not tell. Forgets stale entries
 * on the way. If the result is overdue, every unpinned slot is. */
static moe_slot find_late(struct moe_slot_dues *dues, const uint8_t *pinned)
{
    struct moe_due *late = dues->late;
    for (uint32_t i = dues->n_late; i-- > 0;) {
        uint32_t s = late[i].slot;
        if (late[i].due <= dues->threshold)
            return MOE_NO_SLOT;
        if (pinned[s])
            continue;
        if (dues->last[s] == late[i].last && dues->due[s] == late[i].due) {
            dues->found = i;
            return (moe_slot)s;
        }
        forget_late(dues, i);
    }
    return MOE_NO_SLOT;
}

/* Makes `late` anew of all slots that are not overdue, or of the latest of them. */
static void refill_late(struct moe_slot_dues *dues)
{
    dues->n_late = 0;
    dues->threshold = dues->now - 1;
    for (uint32_t s = 0; s < dues->n_slots; s++)
        add_late(dues, s);
}

/* The overdue slot of the highest priority, if that is at least `least`; else MOE_NO_SLOT. The walk
 * passes few slots that are not due: one unused for so long is usually evicted before it is due. */
static moe_slot find_overdue(const struct moe_slot_dues *dues, const uint8_t *pinned, double least)
{
    double now = dues->now;
    const struct moe_slot_list *list = dues->by_use;
    uint32_t s = list->node[list->n_slots].before;
    for (; s < list->n_slots && now - dues->last[s] >= least; s = list->node[s].before)
        if (now > dues->due[s] && !pinned[s])
            return (moe_slot)s;
    return MOE_NO_SLOT;
}

static moe_slot search_all(const struct moe_slot_dues *dues, const uint8_t *pinned)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < dues->n_slots; s++)
        if (!pinned[s] && (best == MOE_NO_SLOT || goes(dues, (uint32_t)best, s)))
            best = (moe_slot)s;
    return best;
}

moe_slot moe_slot_dues_victim(struct moe_slot_dues *dues, const uint8_t *pinned, double now)
{
    dues->now = now;
    if (is_small(dues->n_slots))
        return moe_slot_lines_victim(&dues->lines, pinned, now, goes, dues);
    moe_slot late = find_late(dues, pinned), overdue;
    if (late == MOE_NO_SLOT) { /* what is not due yet has priority threshold - now at most */
        overdue = find_overdue(dues, pinned, dues->threshold + 1 - now);
        if (overdue != MOE_NO_SLOT)
            return overdue;
        refill_late(dues);
        late = find_late(dues, pinned);
    }
    if (late == MOE_NO_SLOT)
        return search_all(dues, pinned);
    overdue = find_overdue(dues, pinned, dues->due[late] - now);
    return overdue != MOE_NO_SLOT && goes(dues, (uint32_t)late, (uint32_t)overdue) ? overdue : late;
}
