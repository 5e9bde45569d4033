#include "sim/mrc_opt_ends.h"

#include "sim/mrc_lru.h"
#include "sim/mrc_room.h"

#include <stdlib.h>
#include <string.h>

/* The list has slots in 64 groups of 32 blocks of 1, 2, 4... ends each, in the order in which a use
 * meets them: the latest end first. End i of all blocks of a group is one vector ("row"), with
 * block b in lane b, so that all blocks are passed at once. */
enum {
    LANES = 32,
    GROUPS = 64,
    MOST_ROWS_LOG = 6,
    MOST_IN_GROUP = LANES << MOST_ROWS_LOG,
    AT_ONCE = 8,
    SPARE = 256, /* slots more than keys, at least: with few keys the list would move too often */
};

/* A number is stored as UINT16_MAX - number: the lower number is the greater value, and 0 means
 * that a slot has no end (any more). Below, values are what is stored. */
struct moe_opt_ends {
    uint32_t n_keys, rows_log, n_slots; /* rows_log: of the rows of a group */
    uint32_t lowest;                    /* slot that the list may grow down to */
    uint32_t next;                      /* the slot taken last; those from here on are the list */
    uint32_t n_places;                  /* numbers that are in use */
    uint16_t *end;    /* [GROUPS + 1, rows, LANES]; the last group is never filled */
    uint16_t *before; /* [GROUPS + 1, LANES] the greatest value of the blocks before each */
    uint16_t *top;    /* [GROUPS + LANES] the greatest value of each group */
    /* [n_keys] where the key's next use begins its walk: the slot of the latest end at its last
     * use; n_slots + 1: it was never used */
    uint32_t *from;
    /* scratch of close_up */
    uint16_t *line; /* [n_slots] the list in its order */
    uint32_t *to;   /* [n_slots + 2] the new slot of each */
};

void moe_opt_ends_free(struct moe_opt_ends *e)
{
    if (!e)
        return;
    free(e->end);
    free(e->before);
    free(e->top);
    free(e->from);
    free(e->line);
    free(e->to);
    free(e);
}

void moe_opt_ends_clear(struct moe_opt_ends *e)
{
    memset(e->end, 0, e->n_slots * sizeof *e->end);
    memset(e->top, 0, GROUPS * sizeof *e->top);
    for (uint32_t k = 0; k < e->n_keys; k++)
        e->from[k] = e->n_slots + 1;
    e->next = e->n_slots;
    e->n_places = 0;
}

enum moe_status moe_opt_ends_new(struct moe_opt_ends **out, uint32_t n_keys, struct moe_err *err)
{
    struct moe_opt_ends *e = moe_mrc_room(1, sizeof *e);
    if (!e)
        return moe_fail_memory(err, "an OPT list");
    e->n_keys = n_keys;
    while (((uint32_t)(LANES * GROUPS) << e->rows_log) < n_keys + n_keys / 4 + AT_ONCE)
        e->rows_log++;
    e->n_slots = (uint32_t)(LANES * GROUPS) << e->rows_log;
    uint32_t most = n_keys + n_keys / 2 + SPARE;
    e->lowest = e->n_slots > most ? e->n_slots - most : AT_ONCE;
    e->end = moe_mrc_room(e->n_slots + (size_t)MOST_IN_GROUP, sizeof *e->end);
    e->before = moe_mrc_room((size_t)(GROUPS + 1) * LANES, sizeof *e->before);
    e->top = moe_mrc_room(GROUPS + LANES, sizeof *e->top);
    e->from = moe_mrc_room(n_keys + (size_t)1, sizeof *e->from);
    e->line = moe_mrc_room(e->n_slots, sizeof *e->line);
    e->to = moe_mrc_room(e->n_slots + (size_t)2, sizeof *e->to);
    if (!e->end || !e->before || !e->top || !e->from || !e->line || !e->to) {
        moe_opt_ends_free(e);
        return moe_fail_memory(err, "an OPT list");
    }
    moe_opt_ends_clear(e);
    *out = e;
    return MOE_OK;
}

#ifdef __x86_64__
#include <immintrin.h>

/* Shifts by a variable count take three instructions without bmi2: a fifth of the time. */
#define AVX512 __attribute__((target("avx512f,avx512bw,bmi,bmi2")))

bool moe_opt_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

/* Ends of a group. */
static inline uint32_t in_group(uint32_t rows_log)
{
    return (uint32_t)LANES << rows_log;
}

static inline uint32_t group_of(uint32_t rows_log, uint32_t slot)
{
    return slot / LANES >> rows_log;
}

/* Lane i: the greatest of the lanes before it. Within each eight lanes, then over the eights. */
AVX512 static inline __m512i greatest_before(__m512i v)
{
    const __m512i last = _mm512_set1_epi16(0x0f0e);
    v = _mm512_max_epu16(v, _mm512_bslli_epi128(v, 2));
    v = _mm512_max_epu16(v, _mm512_bslli_epi128(v, 4));
    v = _mm512_max_epu16(v, _mm512_bslli_epi128(v, 8));
    __m512i eights = _mm512_shuffle_epi8(v, last);
    __m512i one = _mm512_maskz_shuffle_i32x4(0xfff0, eights, eights, 0x90);
    __m512i two = _mm512_maskz_shuffle_i32x4(0xff00, eights, eights, 0x40);
    __m512i three = _mm512_maskz_shuffle_i32x4(0xf000, eights, eights, 0);
    __m512i here = _mm512_bslli_epi128(v, 2);
    return _mm512_max_epu16(_mm512_max_epu16(here, one), _mm512_max_epu16(two, three));
}

AVX512 static inline uint32_t last_lane(__m512i v)
{
    return (uint32_t)_mm_extract_epi16(_mm512_extracti32x4_epi32(v, 3), 7);
}

/* Updates before and top of a group; greatest: of each of its blocks. */
AVX512 static inline void sum_up(struct moe_opt_ends *e, uint32_t group, __m512i greatest)
{
    __m512i before = greatest_before(greatest);
    _mm512_storeu_si512(e->before + (size_t)group * LANES, before);
    e->top[group] = (uint16_t)last_lane(_mm512_max_epu16(before, greatest));
}

AVX512 static inline void sum_up_group(struct moe_opt_ends *e, uint32_t rows_log, uint32_t group)
{
    const uint16_t *row = e->end + (size_t)group * in_group(rows_log);
    __m512i greatest = _mm512_setzero_si512();
    for (size_t i = 0; i < (size_t)1 << rows_log; i++)
        greatest = _mm512_max_epu16(greatest, _mm512_loadu_si512(row + i * LANES));
    sum_up(e, group, greatest);
}

/* The lanes of row i whose ends are at the slot or behind it, within its group. */
AVX512 static inline uint32_t lanes_from(uint32_t rows_log, uint32_t slot, size_t i)
{
    size_t last = ((size_t)1 << rows_log) - 1, at = slot & (in_group(rows_log) - 1);
    return (uint32_t)(UINT64_MAX << ((at + last - i) >> rows_log));
}

/* A use walks from the slot to the end of its group; returns the value that it carries then. */
AVX512 static inline uint32_t start(struct moe_opt_ends *e, uint32_t rows_log, uint32_t slot)
{
    const uint32_t group = group_of(rows_log, slot);
    const size_t n_rows = (size_t)1 << rows_log;
    uint16_t *row = e->end + (size_t)group * in_group(rows_log);
    __m512i greatest = _mm512_setzero_si512();
    for (size_t i = 0; i < n_rows; i++)
        greatest = _mm512_mask_max_epu16(greatest, lanes_from(rows_log, slot, i), greatest,
                                         _mm512_loadu_si512(row + i * LANES));
    __m512i come = greatest_before(greatest);
    greatest = _mm512_setzero_si512();
    for (size_t i = 0; i < n_rows; i++) {
        __mmask32 open = lanes_from(rows_log, slot, i);
        __m512i here = _mm512_loadu_si512(row + i * LANES);
        __m512i stays = _mm512_mask_min_epu16(here, open, here, come);
        come = _mm512_mask_max_epu16(come, open, here, come);
        greatest = _mm512_max_epu16(greatest, stays);
        _mm512_storeu_si512(row + i * LANES, stays);
    }
    sum_up(e, group, greatest);
    return last_lane(come);
}

/* A use that carries `has` walks through a whole group; returns what it carries then. If no end has
 * a greater value, nothing changes. */
AVX512 static inline uint32_t pass(struct moe_opt_ends *e, uint32_t rows_log, uint32_t group,
                                   uint32_t has)
{
    uint16_t *row = e->end + (size_t)group * in_group(rows_log);
    uint32_t top = e->top[group];
    __m512i come = _mm512_loadu_si512(e->before + (size_t)group * LANES);
    __m512i greatest = _mm512_setzero_si512();
    come = _mm512_max_epu16(come, _mm512_set1_epi16((short)has));
    for (size_t i = 0; i < (size_t)1 << rows_log; i++) {
        __m512i here = _mm512_loadu_si512(row + i * LANES);
        __m512i stays = _mm512_min_epu16(here, come);
        come = _mm512_max_epu16(here, come);
        greatest = _mm512_max_epu16(greatest, stays);
        _mm512_storeu_si512(row + i * LANES, stays);
    }
    sum_up(e, group, greatest);
    return top > has ? top : has;
}

/* Interleaves the two halves; unzip separates them. */
AVX512 static void zip(uint16_t *restrict to, const uint16_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        to[2 * i] = from[i];
        to[2 * i + 1] = from[n / 2 + i];
    }
}

AVX512 static void unzip(uint16_t *restrict to, const uint16_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        to[i] = from[2 * i];
        to[n / 2 + i] = from[2 * i + 1];
    }
}

/* Turns a group's rows into the order of the list, or back. */
static void turn(uint16_t *group, uint32_t n, uint32_t rows_log, bool to_rows)
{
    uint16_t turned[MOST_IN_GROUP];
    for (uint32_t i = 0; i < rows_log; i++) {
        (to_rows ? unzip : zip)(turned, group, n);
        memcpy(group, turned, n * sizeof *group);
    }
}

AVX512 static void renumber(uint32_t *restrict slot, const uint32_t *restrict to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        slot[i] = to[slot[i]];
}

/* Moves the list to the end of its room, leaving out the slots that have lost their ends. */
AVX512 static void close_up(struct moe_opt_ends *e)
{
    uint32_t n = in_group(e->rows_log), first = group_of(e->rows_log, e->next), at = e->n_slots;
    memcpy(e->line + (size_t)first * n, e->end + (size_t)first * n,
           (e->n_slots - (size_t)first * n) * sizeof *e->line);
    for (uint32_t g = first; g < GROUPS; g++)
        turn(e->line + (size_t)g * n, n, e->rows_log, false);
    e->to[e->n_slots] = e->n_slots;
    e->to[e->n_slots + 1] = e->n_slots + 1;
    for (uint32_t i = e->n_slots; i-- > e->next;) {
        uint16_t here = e->line[i];
        e->line[at - 1] = here;
        at -= here != 0;
        e->to[i] = at;
    }
    memset(e->line + e->next, 0, (at - e->next) * sizeof *e->line);
    for (uint32_t g = first; g < GROUPS; g++) {
        turn(e->line + (size_t)g * n, n, e->rows_log, true);
        memcpy(e->end + (size_t)g * n, e->line + (size_t)g * n, n * sizeof *e->end);
        sum_up_group(e, e->rows_log, g);
    }
    renumber(e->from, e->to, e->n_keys);
    e->next = at;
}

/* Adds an end. Groups are summed up when they are full: no use walks through one before. */
AVX512 static inline void append(struct moe_opt_ends *e, uint32_t rows_log, uint32_t has)
{
    uint32_t slot = --e->next, at = slot & (in_group(rows_log) - 1), rows = (1U << rows_log) - 1;
    e->end[slot - at + (at & rows) * LANES + (at >> rows_log)] = (uint16_t)has;
    if (at == 0)
        sum_up_group(e, rows_log, group_of(rows_log, slot));
}

struct tops {
    __m512i a, b;
};

/* The set of groups behind this one where an end has a greater value. */
AVX512 static inline uint64_t groups_ahead(struct tops tops, uint32_t group, uint32_t has)
{
    __m512i it = _mm512_set1_epi16((short)has);
    uint64_t more = _mm512_cmpgt_epu16_mask(tops.a, it);
    more |= (uint64_t)_mm512_cmpgt_epu16_mask(tops.b, it) << LANES;
    return group < GROUPS ? more & ~UINT64_C(1) << group : 0;
}

/* The walks of an event's uses: a queue of those that wait for their next group, and the values
 * that finished ones carry. Uses of one event do not see each other's new ends, and it does not
 * matter which of them comes to an end first: the end keeps the least value of all that come to it.
 * So they walk one group each in turn, and the processor need not finish one walk to begin the
 * next. */
struct walks {
    uint32_t group[AT_ONCE], has[AT_ONCE], done[AT_ONCE];
    uint32_t first, end, n_done; /* first, end: of the queue, modulo AT_ONCE */
};

/* A use that has walked through a group is queued for the next one that it changes, or is done.
 * Both are written and counted by masks, as a branch would be unpredictable: the only one is that
 * of the empty queue, once an event. tops are from before the event, and so no less than they are
 * now. */
AVX512 static inline void go_on(struct walks *w, struct tops tops, uint32_t group, uint32_t has)
{
    uint64_t ahead = groups_ahead(tops, group, has);
    uint32_t at = w->end % AT_ONCE;
    w->group[at] = (uint32_t)__builtin_ctzll(ahead | UINT64_C(1) << (GROUPS - 1));
    w->has[at] = w->done[w->n_done] = has;
    w->end += ahead != 0;
    w->n_done += ahead == 0;
}

/* n keys, at most AT_ONCE. Returns how many were used before, and writes their positions. rows_log
 * is a constant where this is called, so that a group's rows stay in registers: nine tenths of the
 * time. */
AVX512 static inline __attribute__((always_inline)) uint32_t
use(struct moe_opt_ends *e, uint32_t rows_log, const uint32_t *key, uint32_t n, uint32_t *place)
{
    uint32_t from[AT_ONCE], n_from = 0;
    struct walks w = {.first = 0};
    struct tops tops = {_mm512_loadu_si512(e->top), _mm512_loadu_si512(e->top + LANES)};
    for (uint32_t i = 0; i < n; i++) {
        from[n_from] = e->from[key[i]];
        n_from += from[n_from] <= e->n_slots;
    }
    for (uint32_t i = 0; i < n_from; i++)
        go_on(&w, tops, group_of(rows_log, from[i]), start(e, rows_log, from[i]));
    for (; w.first != w.end; w.first++) {
        uint32_t at = w.first % AT_ONCE, group = w.group[at];
        go_on(&w, tops, group, pass(e, rows_log, group, w.has[at]));
    }
    for (uint32_t i = 0; i < n_from; i++) { /* carries 0: no slot in use was free, so one more is */
        e->n_places += w.done[i] == 0;
        uint32_t it = w.done[i] ? w.done[i] : UINT16_MAX - e->n_places;
        place[i] = UINT16_MAX - it;
        append(e, rows_log, it);
    }
    return n_from;
}

AVX512 static uint32_t use_of_one(struct moe_opt_ends *e, const uint32_t *key, uint32_t n,
                                  uint32_t *place)
{
    return use(e, 0, key, n, place);
}

AVX512 static uint32_t use_of_four(struct moe_opt_ends *e, const uint32_t *key, uint32_t n,
                                   uint32_t *place)
{
    return use(e, 2, key, n, place);
}

AVX512 static uint32_t use_of_any(struct moe_opt_ends *e, const uint32_t *key, uint32_t n,
                                  uint32_t *place)
{
    return use(e, e->rows_log, key, n, place);
}

void moe_opt_ends_event(struct moe_opt_ends *e, const uint32_t *key, uint32_t n, uint32_t *position)
{
    uint32_t n_found = 0;
    uint32_t (*const some)(struct moe_opt_ends *, const uint32_t *, uint32_t, uint32_t *) =
        e->rows_log == 0   ? use_of_one
        : e->rows_log == 2 ? use_of_four
                           : use_of_any;
    for (uint32_t i = 0, more; i < n; i += more) {
        more = n - i < AT_ONCE ? n - i : AT_ONCE;
        if (e->next < e->lowest + AT_ONCE)
            close_up(e);
        n_found += some(e, key + i, more, position + n_found);
    }
    for (; n_found < n; n_found++)
        position[n_found] = MOE_MRC_NOWHERE;
    for (uint32_t i = 0; i < n; i++)
        e->from[key[i]] = e->next;
}

#else

bool moe_opt_has_avx512(void)
{
    return false;
}

/* Never called, as no processor is for it. */
void moe_opt_ends_event(struct moe_opt_ends *e, const uint32_t *key, uint32_t n, uint32_t *position)
{
    (void)e;
    (void)key;
    (void)n;
    (void)position;
}

#endif
