#include "sim/mrc_lru.h"

#include "sim/mrc_opt_ends.h"
#include "sim/mrc_recency.h"
#include "sim/mrc_room.h"

#include <stdlib.h>
#include <string.h>

#define NO_KEY UINT32_MAX

/* State of a key in the event under way. */
enum mark { NOT_IN_EVENT, WAITING, PLACED };

struct moe_lru_stack {
    bool wide;
    struct recency recency;
    /* The stack of the sizes below the largest event's: narrow[s] is the key that a pool of s + 1
     * slots holds and one of s slots does not. The first n <= depth entries are used; if n < depth,
     * they are all keys ever used. */
    uint32_t depth, n;
    uint32_t *narrow; /* [n_keys] */
    uint32_t *place;  /* [n_keys] index in narrow plus one; 0: not there */
    uint8_t *mark;    /* [n_keys] enum mark */
    /* Keys that smaller sizes drop in this event and larger ones may still hold: latest use first.
     */
    uint32_t *queue; /* [2 * n_keys] */
    uint32_t head, tail;
};

bool moe_lru_has_wide(void)
{
#ifdef __x86_64__
    return moe_opt_has_avx512() && __builtin_cpu_supports("popcnt");
#else
    return false;
#endif
}

enum moe_status moe_lru_stack_new(struct moe_lru_stack **out, uint32_t n_keys, struct moe_err *err)
{
    return moe_lru_stack_new_as(out, n_keys, moe_lru_has_wide(), err);
}

enum moe_status moe_lru_stack_new_as(struct moe_lru_stack **out, uint32_t n_keys, bool wide,
                                     struct moe_err *err)
{
    struct moe_lru_stack *st = moe_mrc_room(1, sizeof *st);
    if (!st)
        return moe_fail_memory(err, "an LRU stack");
    st->wide = wide && n_keys <= WIDE_MAX_KEYS;
    st->narrow = moe_mrc_room(n_keys + 1u, sizeof *st->narrow);
    st->place = moe_mrc_room(n_keys + 1u, sizeof *st->place);
    st->mark = moe_mrc_room(n_keys + 1u, sizeof *st->mark);
    st->queue = moe_mrc_room(2 * (size_t)n_keys + 1, sizeof *st->queue);
    if (!recency_init(&st->recency, n_keys, st->wide) || !st->narrow || !st->place || !st->mark ||
        !st->queue) {
        moe_lru_stack_free(st);
        return moe_fail_memory(err, "an LRU stack");
    }
    *out = st;
    return MOE_OK;
}

void moe_lru_stack_free(struct moe_lru_stack *st)
{
    if (!st)
        return;
    recency_release(&st->recency);
    free(st->narrow);
    free(st->place);
    free(st->mark);
    free(st->queue);
    free(st);
}

void moe_lru_stack_clear(struct moe_lru_stack *st)
{
    recency_clear(&st->recency);
    memset(st->place, 0, st->recency.n_keys * sizeof *st->place);
    st->n = 0;
}

static INLINE uint32_t access_one(struct moe_lru_stack *st, uint32_t key, bool wide)
{
    struct recency *r = &st->recency;
    uint32_t position = recency_has(r, key) ? recency_distance(r, key, wide) + 1 : MOE_MRC_NOWHERE;
    recency_touch(r, &key, 1, wide);
    return position;
}

static void append(struct moe_lru_stack *st, uint32_t key)
{
    if (st->place[key])
        return;
    st->narrow[st->n++] = key;
    st->place[key] = st->n;
}

/* Adds the sizes up to `depth` to the stack of small sizes. No event so far was too large for them:
 * they hold the most recently used keys. */
static void deepen(struct moe_lru_stack *st, uint32_t depth)
{
    const struct recency *r = &st->recency;
    st->depth = depth;
    const uint8_t *latest = NULL;
    for (int d = 0; r->rank && st->n < depth && (latest = memchr(r->rank, d, r->n_keys)); d++)
        append(st, (uint32_t)(latest - r->rank));
    for (uint32_t bit = r->next; bit-- > 0 && st->n < depth;)
        if (r->word[bit / WORD] >> bit % WORD & 1)
            append(st, r->key_at[bit]);
}

static INLINE uint32_t position_of(const struct moe_lru_stack *st, uint32_t key, bool wide)
{
    if (!recency_has(&st->recency, key))
        return MOE_MRC_NOWHERE;
    if (st->place[key])
        return st->place[key];
    uint32_t position = recency_distance(&st->recency, key, wide) + 1;
    return position > st->depth ? position : st->depth + 1;
}

static void put(struct moe_lru_stack *st, uint32_t s, uint32_t key)
{
    st->narrow[s] = key;
    st->place[key] = s + 1;
}

/* Puts a key into the queue, which is in order of use. Keys from deeper in the stack were mostly
 * used earlier, so its place is looked for from the end. */
static void drop(struct moe_lru_stack *st, uint32_t key)
{
    uint32_t at = st->tail++;
    for (; at > st->head && recency_before(&st->recency, st->queue[at - 1], key); at--)
        st->queue[at] = st->queue[at - 1];
    st->queue[at] = key;
}

/* The sizes that the event fills. Each keeps its own key if that is one of the event's and still
 * waits, else it takes the next miss in gate order. larger: the stack also has sizes that the event
 * does not fill, which may still hold what these drop. Returns the first of those. */
static uint32_t place_event(struct moe_lru_stack *st, const uint32_t *key, uint32_t n, bool larger)
{
    uint32_t s = 0, gate = 0;
    for (; s < n && s < st->depth; s++) {
        uint32_t old = s < st->n ? st->narrow[s] : NO_KEY;
        if (old == NO_KEY || st->mark[old] != WAITING) {
            if (old != NO_KEY && st->mark[old] == NOT_IN_EVENT) {
                st->place[old] = 0;
                if (larger)
                    drop(st, old);
            }
            while (st->mark[key[gate]] != WAITING)
                gate++;
            old = key[gate];
        }
        st->mark[old] = PLACED;
        put(st, s, old);
    }
    return s;
}

/* The larger sizes: beside the event they hold the most recently used of what they held. */
static uint32_t place_others(struct moe_lru_stack *st, uint32_t s)
{
    for (; s < st->depth; s++) {
        uint32_t old = s < st->n ? st->narrow[s] : NO_KEY;
        if (old != NO_KEY && st->mark[old] == NOT_IN_EVENT)
            drop(st, old);
        if (st->head == st->tail)
            break;
        put(st, s, st->queue[st->head++]);
    }
    return s;
}

static void place_all(struct moe_lru_stack *st, const uint32_t *key, uint32_t n)
{
    st->head = st->tail = 0;
    for (uint32_t i = 0; i < n; i++)
        st->mark[key[i]] = WAITING;
    uint32_t s = place_event(st, key, n, n < st->depth);
    if (n < st->depth)
        s = place_others(st, s);
    st->n = s > st->n ? s : st->n;
    while (st->head < st->tail)
        st->place[st->queue[st->head++]] = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (st->mark[key[i]] == WAITING)
            st->place[key[i]] = 0;
        st->mark[key[i]] = NOT_IN_EVENT;
    }
}

/* place_all for an event of two keys where none was larger: there is one size below it. */
static void place_pair(struct moe_lru_stack *st, const uint32_t *key)
{
    uint32_t old = st->n ? st->narrow[0] : key[0];
    st->place[old] = 0;
    put(st, 0, old == key[1] ? old : key[0]);
    st->n = 1;
}

/* place_all for an event of up to 64 keys that fills every size of the stack, without a branch that
 * depends on which experts come again. */
static void place_full(struct moe_lru_stack *st, const uint32_t *key, uint32_t n)
{
    uint64_t waiting = first_bits(n), holds[WORD + 1]; /* [place] sets of indices into key */
    for (uint32_t s = 0; s <= st->depth; s++)
        holds[s] = 0;
    for (uint32_t i = 0; i < n; i++)
        holds[st->place[key[i]]] |= UINT64_C(1) << i;
    for (uint32_t s = 0; s < st->n; s++)
        st->place[st->narrow[s]] = 0;
    for (uint32_t s = 0; s < st->depth; s++) {
        uint64_t own = holds[s + 1] & waiting;
        uint32_t gate = (uint32_t)__builtin_ctzll(own ? own : waiting);
        waiting &= ~(UINT64_C(1) << gate);
        put(st, s, key[gate]);
    }
    st->n = st->depth;
}

static INLINE void one_event(struct moe_lru_stack *st, const uint32_t *key, uint32_t n,
                             uint32_t *position, bool wide)
{
    if (n > st->depth + 1)
        deepen(st, n - 1);
    for (uint32_t i = 0; i < n; i++)
        position[i] = position_of(st, key[i], wide);
    if (n == 2 && st->depth == 1)
        place_pair(st, key);
    else if (n > st->depth && n <= WORD)
        place_full(st, key, n);
    else if (st->depth > 0)
        place_all(st, key, n);
    recency_touch(&st->recency, key, n, wide);
}

#ifdef __x86_64__
AVX512 static uint32_t access_wide(struct moe_lru_stack *st, uint32_t key)
{
    return access_one(st, key, true);
}

AVX512 static void event_wide(struct moe_lru_stack *st, const uint32_t *key, uint32_t n,
                              uint32_t *position)
{
    one_event(st, key, n, position, true);
}
#endif

uint32_t moe_lru_stack_access(struct moe_lru_stack *st, uint32_t key)
{
#ifdef __x86_64__
    if (st->wide)
        return access_wide(st, key);
#endif
    return access_one(st, key, false);
}

void moe_lru_stack_event(struct moe_lru_stack *st, const uint32_t *key, uint32_t n,
                         uint32_t *position)
{
#ifdef __x86_64__
    if (st->wide) {
        event_wide(st, key, n, position);
        return;
    }
#endif
    one_event(st, key, n, position, false);
}
