#include "sim/mrc_lru.h"

#include "sim/mrc_room.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { WORD = 64, BYTES = 8, COUNTS = 8, RANKS = 16, AT_ONCE = 8, FEW = 128, NEVER = UINT8_MAX };
#define NO_KEY UINT32_MAX

/* Keys by their last use: each use takes the next bit of a long row, so that the number of bits set
 * behind a key's own is the number of different keys used since. When the row is full, the bits
 * set move to its front. Up to FEW keys have that number itself and nothing of the rest: it
 * is sooner changed for all of them, sixteen at once, than found (8 keys: 0.6 of the time). */
struct recency {
    uint8_t *rank;                  /* [n_keys] NEVER: never used; NULL: many keys */
    uint32_t n_keys, n_words, next; /* next: bit that the next use takes */
    uint32_t *bit_of;               /* [n_keys] plus one; 0: never used */
    uint32_t *key_at;               /* [n_words * WORD] */
    uint64_t *word;                 /* [n_words] */
    uint64_t *count;   /* [n_words / 8 + 1] bits set in each of eight words, a byte each */
    uint32_t *sum;     /* [n_totals * 8] the sum of each count */
    uint32_t *total;   /* [n_totals] of each eight sums */
    uint32_t n_totals; /* a multiple of eight */
};

/* Of a key in the event under way. */
enum mark { NOT_IN_EVENT, WAITING, PLACED };

struct moe_lru_stack {
    struct recency recency;
    /* The sizes below the largest event's: narrow[s] is what a pool of s + 1 slots holds more than
     * one of s slots. n <= depth are used; where n < depth, they are all keys ever used. */
    uint32_t depth, n;
    uint32_t *narrow; /* [n_keys] */
    uint32_t *place;  /* [n_keys] index in narrow plus one; 0: not there */
    uint8_t *mark;    /* [n_keys] enum mark */
    /* What the size under way has given up and larger ones may still hold: latest use first. */
    uint32_t *queue; /* [2 * n_keys] */
    uint32_t head, tail;
};

static bool recency_init(struct recency *r, uint32_t n_keys)
{
    r->n_keys = n_keys;
    if (n_keys <= FEW) {
        r->rank = moe_mrc_room(n_keys + (size_t)RANKS, sizeof *r->rank);
        if (r->rank)
            memset(r->rank, NEVER, n_keys + (size_t)RANKS);
        return r->rank;
    }
    r->n_words = (uint32_t)(((uint64_t)n_keys * 4 + WORD - 1) / WORD);
    r->bit_of = moe_mrc_room(n_keys + 1u, sizeof *r->bit_of);
    r->key_at = moe_mrc_room((size_t)r->n_words * WORD, sizeof *r->key_at);
    r->word = moe_mrc_room(r->n_words, sizeof *r->word);
    r->count = moe_mrc_room((r->n_words / BYTES + 1), sizeof *r->count);
    r->n_totals = (r->n_words / (BYTES * COUNTS * COUNTS) + 1) * COUNTS;
    r->sum = moe_mrc_room((size_t)r->n_totals * COUNTS, sizeof *r->sum);
    r->total = moe_mrc_room(r->n_totals, sizeof *r->total);
    return r->bit_of && r->key_at && r->word && r->count && r->sum && r->total;
}

static void recency_release(struct recency *r)
{
    free(r->rank);
    free(r->bit_of);
    free(r->key_at);
    free(r->word);
    free(r->count);
    free(r->sum);
    free(r->total);
}

static void recency_clear(struct recency *r)
{
    if (r->rank) {
        memset(r->rank, NEVER, r->n_keys);
        return;
    }
    memset(r->bit_of, 0, r->n_keys * sizeof *r->bit_of);
    memset(r->word, 0, r->n_words * sizeof *r->word);
    memset(r->count, 0, (r->n_words / BYTES + 1) * sizeof *r->count);
    memset(r->sum, 0, (size_t)r->n_totals * COUNTS * sizeof *r->sum);
    memset(r->total, 0, r->n_totals * sizeof *r->total);
    r->next = 0;
}

/* The first n of a word. */
static inline uint64_t first_bits(uint32_t n)
{
    return n < WORD ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
}

/* Without the processor's instruction, which not every one has, the compiler would call a function.
 */
static inline uint32_t bits_set(uint64_t w)
{
    w -= w >> 1 & 0x5555555555555555u;
    w = (w & 0x3333333333333333u) + (w >> 2 & 0x3333333333333333u);
    return (uint32_t)(((w + (w >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

static inline uint32_t bytes_sum(uint64_t bytes)
{
    const uint64_t even = 0x00ff00ff00ff00ff;
    return (uint32_t)(((bytes & even) + (bytes >> 8 & even)) * 0x0001000100010001 >> 48);
}

/* Of eight numbers those behind the one at -1 (all of them) to 7 (none). */
static inline uint32_t sum_behind(const uint32_t *number, int at)
{
    static const uint32_t none_then_all[2 * COUNTS] = {
        [COUNTS] = ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
    const uint32_t *keep = none_then_all + (COUNTS - 1 - at);
    uint32_t n = 0;
    for (int i = 0; i < COUNTS; i++)
        n += keep[i] & number[i];
    return n;
}

static inline int within_eight(int at)
{
    at = at < COUNTS - 1 ? at : COUNTS - 1;
    return at > -1 ? at : -1;
}

static inline bool recency_has(const struct recency *r, uint32_t key)
{
    return r->rank ? r->rank[key] != NEVER : r->bit_of[key] != 0;
}

/* Different keys used after this one, which was used. Without a branch that depends on when that
 * was. */
static inline uint32_t recency_distance(const struct recency *r, uint32_t key)
{
    if (r->rank)
        return r->rank[key];
    uint32_t bit = r->bit_of[key] - 1, w = bit / WORD, at = w / BYTES;
    uint32_t n = bits_set(r->word[w] >> bit % WORD >> 1);
    n += bytes_sum(r->count[at] & UINT64_MAX << w % BYTES * 8 << 8);
    n += sum_behind(r->sum + (at - at % COUNTS), (int)(at % COUNTS));
    for (uint32_t i = 0; r->n_words > BYTES * COUNTS && i < r->n_totals; i += COUNTS)
        n += sum_behind(r->total + i, within_eight((int)(at / COUNTS) - (int)i));
    return n;
}

/* Of two that were used. */
static inline bool recency_before(const struct recency *r, uint32_t a, uint32_t b)
{
    return r->rank ? r->rank[a] > r->rank[b] : r->bit_of[a] < r->bit_of[b];
}

static inline uint64_t one_at(uint32_t w)
{
    return UINT64_C(1) << w % BYTES * 8;
}

/* n bits more in word w. */
static inline void recency_add(struct recency *r, uint32_t w, uint32_t n)
{
    r->count[w / BYTES] += (uint64_t)(int32_t)n * one_at(w);
    r->sum[w / BYTES] += n;
    r->total[w / BYTES / COUNTS] += n;
}

static void recency_compact(struct recency *r)
{
    uint32_t n = 0;
    for (uint32_t w = 0; w < r->n_words; w++) {
        for (uint64_t bits = r->word[w]; bits; bits &= bits - 1) {
            uint32_t key = r->key_at[w * WORD + (uint32_t)__builtin_ctzll(bits)];
            r->key_at[n] = key;
            r->bit_of[key] = ++n;
        }
    }
    memset(r->count, 0, (r->n_words / BYTES + 1) * sizeof *r->count);
    memset(r->sum, 0, (size_t)r->n_totals * COUNTS * sizeof *r->sum);
    memset(r->total, 0, r->n_totals * sizeof *r->total);
    for (uint32_t w = 0; w < r->n_words; w++) {
        uint32_t first = w * WORD, set = n > first ? n - first : 0;
        set = set < WORD ? set : WORD;
        r->word[w] = first_bits(set);
        recency_add(r, w, set);
    }
    r->next = n;
}

static inline void recency_leave(struct recency *r, uint32_t key)
{
    uint32_t old = r->bit_of[key];
    if (!old)
        return;
    r->word[(old - 1) / WORD] &= ~(UINT64_C(1) << (old - 1) % WORD);
    recency_add(r, (old - 1) / WORD, UINT32_MAX); /* one less */
    r->bit_of[key] = 0;
}

/* The next n bits, of one word, are taken. */
static inline void recency_take(struct recency *r, uint32_t n)
{
    uint32_t bit = r->next;
    r->word[bit / WORD] |= first_bits(n) << bit % WORD;
    recency_add(r, bit / WORD, n);
    r->next += n;
}

typedef uint8_t ranks __attribute__((vector_size(RANKS)));

/* Up to AT_ONCE keys. Whoever was used after one of them goes back by one. */
static inline void ranks_touch(struct recency *r, const uint32_t *key, uint32_t n)
{
    ranks before[AT_ONCE];
    for (uint32_t i = 0; i < n; i++)
        before[i] = (ranks){0} + r->rank[key[i]];
    for (uint32_t at = 0; at < r->n_keys; at += RANKS) {
        ranks *rank = (ranks *)(r->rank + at), old = *rank, new = old;
        for (uint32_t i = 0; i < n; i++)
            new -= (ranks)(old < before[i]);
        *rank = new;
    }
    for (uint32_t i = 0; i < n; i++)
        r->rank[key[i]] = (uint8_t)(n - 1 - i);
}

static inline void recency_touch(struct recency *r, const uint32_t *key, uint32_t n)
{
    for (uint32_t done = 0; r->rank && done < n; done += AT_ONCE)
        ranks_touch(r, key + done, n - done < AT_ONCE ? n - done : AT_ONCE);
    if (r->rank)
        return;
    for (uint32_t i = 0; i < n; i++)
        recency_leave(r, key[i]);
    for (uint32_t done = 0; done < n;) {
        if (r->next ==
            (r->n_words - 1) * WORD) /* distance may look at the last word: it is empty */
            recency_compact(r);
        uint32_t room = WORD - r->next % WORD, more = n - done < room ? n - done : room;
        for (uint32_t i = 0; i < more; i++) {
            r->key_at[r->next + i] = key[done + i];
            r->bit_of[key[done + i]] = r->next + i + 1;
        }
        recency_take(r, more);
        done += more;
    }
}

enum moe_status moe_lru_stack_new(struct moe_lru_stack **out, uint32_t n_keys, struct moe_err *err)
{
    struct moe_lru_stack *st = moe_mrc_room(1, sizeof *st);
    if (!st)
        return moe_fail_memory(err, "an LRU stack");
    st->narrow = moe_mrc_room(n_keys + 1u, sizeof *st->narrow);
    st->place = moe_mrc_room(n_keys + 1u, sizeof *st->place);
    st->mark = moe_mrc_room(n_keys + 1u, sizeof *st->mark);
    st->queue = moe_mrc_room(2 * (size_t)n_keys + 1, sizeof *st->queue);
    if (!recency_init(&st->recency, n_keys) || !st->narrow || !st->place || !st->mark ||
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

uint32_t moe_lru_stack_access(struct moe_lru_stack *st, uint32_t key)
{
    struct recency *r = &st->recency;
    uint32_t position = recency_has(r, key) ? recency_distance(r, key) + 1 : MOE_MRC_NOWHERE;
    recency_touch(r, &key, 1);
    return position;
}

static void append(struct moe_lru_stack *st, uint32_t key)
{
    if (st->place[key])
        return;
    st->narrow[st->n++] = key;
    st->place[key] = st->n;
}

/* Up to now no event exceeded the pools of more than `depth` slots: those hold the latest keys. */
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

static uint32_t position_of(const struct moe_lru_stack *st, uint32_t key)
{
    if (!recency_has(&st->recency, key))
        return MOE_MRC_NOWHERE;
    if (st->place[key])
        return st->place[key];
    uint32_t position = recency_distance(&st->recency, key) + 1;
    return position > st->depth ? position : st->depth + 1;
}

static void put(struct moe_lru_stack *st, uint32_t s, uint32_t key)
{
    st->narrow[s] = key;
    st->place[key] = s + 1;
}

/* What comes from deeper in the stack was mostly used earlier: it goes to the end. */
static void give_up(struct moe_lru_stack *st, uint32_t key)
{
    uint32_t at = st->tail++;
    for (; at > st->head && recency_before(&st->recency, st->queue[at - 1], key); at--)
        st->queue[at] = st->queue[at - 1];
    st->queue[at] = key;
}

/* Pools that the event fills: what they hit, then of their misses the first in gate order. larger:
 * there are pools of this stack that it does not fill, which may still hold what these give up. */
static uint32_t place_event(struct moe_lru_stack *st, const uint32_t *key, uint32_t n, bool larger)
{
    uint32_t s = 0, gate = 0;
    for (; s < n && s < st->depth; s++) {
        uint32_t old = s < st->n ? st->narrow[s] : NO_KEY;
        if (old == NO_KEY || st->mark[old] != WAITING) {
            if (old != NO_KEY && st->mark[old] == NOT_IN_EVENT) {
                st->place[old] = 0;
                if (larger)
                    give_up(st, old);
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

/* Larger pools: besides the event, of what they held the latest. */
static uint32_t place_others(struct moe_lru_stack *st, uint32_t s)
{
    for (; s < st->depth; s++) {
        uint32_t old = s < st->n ? st->narrow[s] : NO_KEY;
        if (old != NO_KEY && st->mark[old] == NOT_IN_EVENT)
            give_up(st, old);
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

/* The same for events of at most two keys, which have one size below theirs. */
static void place_pair(struct moe_lru_stack *st, const uint32_t *key)
{
    uint32_t old = st->n ? st->narrow[0] : key[0];
    st->place[old] = 0;
    put(st, 0, old == key[1] ? old : key[0]);
    st->n = 1;
}

/* The same for an event that fills every pool of this stack, without a branch that depends on which
 * experts come again. */
static void place_full(struct moe_lru_stack *st, const uint32_t *key, uint32_t n)
{
    uint64_t waiting = first_bits(n), holds[WORD + 1]; /* bits: of the gate order */
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

void moe_lru_stack_event(struct moe_lru_stack *st, const uint32_t *key, uint32_t n,
                         uint32_t *position)
{
    if (n > st->depth + 1)
        deepen(st, n - 1);
    for (uint32_t i = 0; i < n; i++)
        position[i] = position_of(st, key[i]);
    if (n == 2 && st->depth == 1)
        place_pair(st, key);
    else if (n > st->depth && n <= WORD)
        place_full(st, key, n);
    else if (st->depth > 0)
        place_all(st, key, n);
    recency_touch(&st->recency, key, n);
}
