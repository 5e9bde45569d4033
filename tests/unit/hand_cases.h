/* Runs policies on short streams and compares with hits counted by hand. A stream is a text of
 * events, one character for each expert: digits are experts of layer 0, small letters of layer 1 (a
 * is expert 0), capitals of layer 2. So "12 ab" is an event of two experts in layer 0, then one of
 * two in layer 1. Each event of layer 0 begins a forward pass; " | " begins a sequence. */
#ifndef MOELAB_TESTS_HAND_CASES_H
#define MOELAB_TESTS_HAND_CASES_H

#include "tests/unit/event_trace.h"

#include <ctype.h>
#include <stdio.h>

enum { HAND_EXPERTS = 10 };

/* Streams that tell the policies apart, with three slots unless it says otherwise:
 *   A  1 2 3 1 4 1 2 5 2 1 3     recency matters
 *   B  1 2 3 3 2 1 4 1           all were hit once: clock clears every bit and evicts slot 0
 *   C  1 1 1 2 3 2 3 4 1         1 is used most often, but its last use is longest ago
 *   D  (two slots) 1 1 2 2 2 3 1 3   counts restart when an expert comes back
 * "4>s1(2)": 4 replaces 2 in slot 1. */
#define STREAM_A "1 2 3 1 4 1 2 5 2 1 3"
#define STREAM_B "1 2 3 3 2 1 4 1"
#define STREAM_C "1 1 1 2 3 2 3 4 1"
#define STREAM_D "1 1 2 2 2 3 1 3"

/* Events of two experts:
 *   F  12 31 12           a miss that comes before a hit in the same event
 *   G  12 13 41 23 56     three slots
 *   H  12 23 31 21        one slot, fewer than an event has experts */
#define STREAM_F "12 31 12"
#define STREAM_G "12 13 41 23 56"
#define STREAM_H "12 23 31 21"

static inline uint32_t layer_of(char c)
{
    return isdigit(c) ? 0 : islower(c) ? 1 : 2;
}

static inline moe_key key_of(char c)
{
    static const char first[] = {'0', 'a', 'A'};
    return layer_of(c) * HAND_EXPERTS + (moe_key)(c - first[layer_of(c)]);
}

static inline char char_of(moe_key key)
{
    return "0123456789abcdefghijABCDEFGHIJ"[key];
}

static inline void parse_events(const char *text, struct event_trace *t)
{
    bool new_sequence = true;
    *t = (struct event_trace){.n_layers = 1, .n_experts = HAND_EXPERTS};
    t->top_k = (uint32_t)strcspn(text, " ");
    for (const char *at = text; *at; at += *at == ' ') {
        if (*at == '|') {
            new_sequence = true;
            at++;
            continue;
        }
        struct event *e = &t->event[t->n_events];
        ck_assert_uint_lt(t->n_events++, MAX_EVENTS);
        *e = (struct event){.layer = layer_of(*at), .n_tokens = 1, .phase = MOE_DECODE};
        e->first_of_step = e->layer == 0;
        e->first_of_sequence = new_sequence;
        new_sequence = false;
        for (uint32_t k = 0; k < t->top_k; k++)
            e->expert[k] = (moe_expert)(key_of(*at++) % HAND_EXPERTS);
        t->n_layers = e->layer >= t->n_layers ? e->layer + 1 : t->n_layers;
    }
    find_next_uses(t);
}

/* The outcome of a run, in the notation of the tables. */
struct outcome {
    char hits[2 * MAX_EVENTS + 1]; /* h (hit) or - in gate order, without blanks */
    char slots[16];                /* the experts in the slots at the end */
    uint32_t n, n_slots, n_keys;
};

static inline void note_outcome(void *ctx, struct moe_cache *cache, const struct moe_route *route)
{
    struct outcome *o = ctx;
    for (uint32_t i = 0; i < route->n; i++)
        o->hits[o->n++] = route->access[i] == MOE_HIT ? 'h' : '-';
    memset(o->slots, '.', o->n_slots);
    for (moe_key k = 0; k < o->n_keys; k++)
        if (moe_cache_find(cache, k) != MOE_NO_SLOT)
            o->slots[moe_cache_find(cache, k)] = char_of(k);
}

struct hand_case {
    const char *policy, *events, *hits, *slots; /* blanks in hits are ignored */
};

static inline void check_case(const struct hand_case *h, const struct event_trace *t, bool access)
{
    char text[16], want[2 * MAX_EVENTS + 1];
    uint32_t at = 0;
    struct outcome o = {.n_slots = (uint32_t)strlen(h->slots),
                        .n_keys = t->n_layers * HAND_EXPERTS};
    snprintf(text, sizeof text, "global:%u", o.n_slots);
    struct moe_geometry g = geometry(text, t, NULL);
    struct run run = {
        .trace = t, .geometry = &g, .access = access, .watch = note_outcome, .ctx = &o};
    struct moe_policy_spec spec = policy(h->policy);
    struct moe_counts c = run_trace(&run, &spec);
    for (const char *hit = h->hits; *hit; hit++)
        if (*hit != ' ')
            want[at++] = *hit;
    want[at] = 0;
    ck_assert_msg(strcmp(o.hits, want) == 0 && strcmp(o.slots, h->slots) == 0,
                  "%s on %s: %s [%s], by hand %s [%s]", h->policy, h->events, o.hits, o.slots, want,
                  h->slots);
    ck_assert_uint_eq(c.misses, c.fills + c.bypasses + c.dropped_fills);
    moe_geometry_release(&g);
}

static inline void check_cases(const struct hand_case *cases, size_t n, bool access)
{
    for (size_t i = 0; i < n; i++) {
        struct event_trace t;
        parse_events(cases[i].events, &t);
        check_case(&cases[i], &t, access);
    }
}

#endif
