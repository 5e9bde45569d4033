#include "sim/mrc_unit.h"

#include "sim/mrc_interval.h"
#include "sim/mrc_opt.h"
#include "sim/mrc_opt_lanes.h"
#include "sim/mrc_room.h"

#include <stdlib.h>
#include <string.h>

enum { PASSES_BETWEEN_LOOKS = 1 << 14, TOKENS_AHEAD = 16, LINE = 64, LANES = MOE_OPT_LANES };

/* One pool of every size. */
struct pool {
    struct moe_lru_stack *lru; /* one of the two; none in lanes */
    struct moe_opt_stack *opt;
    struct moe_mrc_counts now[2]; /* [phase] not settled yet: of the sequence under way, or of all
                                     sequences where they need not be told apart */
    struct moe_mrc_counts total[2];
};

/* The stacks of sixteen pools. */
struct lanes {
    struct moe_opt_lanes *stack;
    uint32_t *uses[2]; /* [phase][E, LANES] not yet added to the pools' own counts */
};

struct moe_mrc_unit {
    struct moe_mrc_job *job;
    const struct moe_trace_info *info;
    const struct moe_mrc_options *options;
    enum moe_mrc_policy policy;
    bool global;
    uint32_t first, end; /* layers */
    uint32_t n_pools;
    struct pool *pool;
    uint32_t n_lanes; /* of sixteen layers each; 0: every pool has a stack of its own */
    struct lanes *lanes;
    uint32_t *comer;  /* [E, LANES] next uses of the events under way */
    uint64_t ordinal; /* of the next event (policies/future.h) */
    bool begun;
    uint32_t sequence; /* the latest one, once begun */
    uint64_t tokens;
    /* [E] the event under way */
    uint32_t *key, *next_use, *position;
    uint8_t *seen;
    uint64_t *sums; /* [max_slots + 1] hits of a sequence by slots */
};

/* The tokens [begin, end) of one forward pass. */
struct pass {
    const struct moe_tokens *tokens;
    const uint32_t *next_use; /* or NULL: the unit does not look ahead */
    uint64_t begin, end;
};

static bool counts_init(struct moe_mrc_counts *counts, uint32_t max_slots)
{
    counts->max_slots = max_slots;
    counts->uses = moe_mrc_room((size_t)max_slots + 2, sizeof *counts->uses);
    counts->first = moe_mrc_room((size_t)max_slots + 2, sizeof *counts->first);
    counts->last = moe_mrc_room((size_t)max_slots + 2, sizeof *counts->last);
    return counts->uses && counts->first && counts->last;
}

static void counts_release(struct moe_mrc_counts *counts)
{
    free(counts->uses);
    free(counts->first);
    free(counts->last);
}

static enum moe_status pool_init(const struct moe_mrc_unit *u, struct pool *pool, uint32_t n_keys,
                                 struct moe_err *err)
{
    for (int p = 0; p < 2; p++)
        if (!counts_init(&pool->now[p], n_keys) || !counts_init(&pool->total[p], n_keys))
            return moe_fail_memory(err, "the counts of a curve");
    if (u->lanes)
        return MOE_OK;
    return u->policy == MOE_MRC_LRU ? moe_lru_stack_new(&pool->lru, n_keys, err)
                                    : moe_opt_stack_new(&pool->opt, n_keys, u->job->blocks, err);
}

bool moe_mrc_unit_has_lanes(const struct moe_mrc_job *job, enum moe_mrc_policy policy)
{
    return policy == MOE_MRC_OPT && !job->blocks && job->options->contract == MOE_CONTRACT_EVENT &&
           moe_opt_lanes_pay(job->info->n_layers, job->info->n_experts);
}

static enum moe_status lanes_init(struct moe_mrc_unit *u, struct moe_err *err)
{
    uint32_t n = u->info->n_experts;
    if (u->global || !moe_mrc_unit_has_lanes(u->job, u->policy))
        return MOE_OK;
    u->lanes = moe_mrc_room(u->n_pools / LANES + 1u, sizeof *u->lanes);
    u->comer = moe_mrc_room((size_t)n * LANES + 1, sizeof *u->comer);
    if (!u->lanes || !u->comer)
        return moe_fail_memory(err, "a curve");
    for (; u->n_lanes * LANES < u->n_pools; u->n_lanes++) {
        struct lanes *lanes = &u->lanes[u->n_lanes];
        enum moe_status s = moe_opt_lanes_new(&lanes->stack, n, err);
        if (s)
            return s;
        for (int phase = 0; phase < 2; phase++)
            if (!(lanes->uses[phase] = moe_mrc_room((size_t)n * LANES + 1, sizeof(uint32_t))))
                return moe_fail_memory(err, "the counts of a curve");
    }
    return MOE_OK;
}

static enum moe_status unit_init(struct moe_mrc_unit *u, struct moe_err *err)
{
    uint32_t n = u->info->n_experts, n_keys = u->global ? u->info->n_layers * n : n;
    u->n_pools = u->global ? 1 : u->end - u->first;
    u->pool = moe_mrc_room(u->n_pools + 1u, sizeof *u->pool);
    u->key = moe_mrc_room(n + 1u, sizeof *u->key);
    u->next_use = moe_mrc_room(n + 1u, sizeof *u->next_use);
    u->position = moe_mrc_room(n + 1u, sizeof *u->position);
    u->seen = moe_mrc_room(n + 1u, sizeof *u->seen);
    u->sums = moe_mrc_room((size_t)n_keys + 1, sizeof *u->sums);
    if (!u->pool || !u->key || !u->next_use || !u->position || !u->seen || !u->sums)
        return moe_fail_memory(err, "a curve");
    enum moe_status s = lanes_init(u, err);
    for (uint32_t p = 0; !s && p < u->n_pools; p++)
        s = pool_init(u, &u->pool[p], n_keys, err);
    return s;
}

enum moe_status moe_mrc_unit_new(struct moe_mrc_unit **out, struct moe_mrc_job *job,
                                 enum moe_mrc_policy policy, bool global, uint32_t first,
                                 uint32_t end, struct moe_err *err)
{
    struct moe_mrc_unit *u = moe_mrc_room(1, sizeof *u);
    if (!u)
        return moe_fail_memory(err, "a curve");
    *u = (struct moe_mrc_unit){.job = job,
                               .info = job->info,
                               .options = job->options,
                               .policy = policy,
                               .global = global,
                               .first = first,
                               .end = end};
    enum moe_status s = unit_init(u, err);
    if (s)
        moe_mrc_unit_free(u);
    else
        *out = u;
    return s;
}

void moe_mrc_unit_free(struct moe_mrc_unit *u)
{
    if (!u)
        return;
    for (uint32_t p = 0; u->pool && p < u->n_pools; p++) {
        for (int phase = 0; phase < 2; phase++) {
            counts_release(&u->pool[p].now[phase]);
            counts_release(&u->pool[p].total[phase]);
        }
        moe_lru_stack_free(u->pool[p].lru);
        moe_opt_stack_free(u->pool[p].opt);
    }
    for (uint32_t p = 0; u->lanes && p * LANES < u->n_pools; p++) {
        moe_opt_lanes_free(u->lanes[p].stack);
        free(u->lanes[p].uses[0]);
        free(u->lanes[p].uses[1]);
    }
    free(u->lanes);
    free(u->comer);
    free(u->pool);
    free(u->key);
    free(u->next_use);
    free(u->position);
    free(u->seen);
    free(u->sums);
    free(u);
}

/* Moves counts to `to`, or drops them if that is NULL; `from` is zero then. */
static void move_counts(struct moe_mrc_counts *to, struct moe_mrc_counts *from)
{
    size_t n = (size_t)from->max_slots + 2;
    for (size_t i = 0; to && i < n; i++) {
        to->uses[i] += from->uses[i];
        to->first[i] += from->first[i];
        to->last[i] += from->last[i];
    }
    memset(from->uses, 0, n * sizeof *from->uses);
    memset(from->first, 0, n * sizeof *from->first);
    memset(from->last, 0, n * sizeof *from->last);
}

/* Sets sums to the hits by number of slots; returns the lookups. */
static uint64_t sum_hits(uint64_t *sums, const struct moe_mrc_counts *counts)
{
    sums[0] = 0;
    for (uint32_t i = 1; i <= counts->max_slots; i++)
        sums[i] = sums[i - 1] + counts->uses[i];
    return sums[counts->max_slots] + counts->uses[counts->max_slots + 1];
}

/* Adds to what the units of several layers share. */
static void add_shared(uint64_t *to, uint64_t n)
{
#pragma omp atomic
    *to += n;
}

static void note_sequence(struct moe_mrc_unit *u, const struct moe_mrc_counts *counts, int phase)
{
    struct moe_mrc_sequences *q = u->options->sequences;
    uint64_t lookups = sum_hits(u->sums, counts);
    if (u->global) {
        uint64_t *row = q->hits_at_slots[u->policy][phase] + (size_t)u->sequence * q->n_points;
        for (uint32_t i = 0; i < q->n_points; i++)
            row[i] = u->sums[q->slots[i]];
        return;
    }
    uint64_t *row = q->hits_at_ways[u->policy][phase] + (size_t)u->sequence * q->n_ways;
    for (uint32_t ways = 1; ways <= q->n_ways; ways++)
        add_shared(&row[ways - 1], u->sums[ways]);
    if (u->policy == MOE_MRC_LRU)
        add_shared(&q->lookups[phase][u->sequence], lookups);
}

/* Moves the uses counted in lanes to the counts of their pools. */
static void take_lanes(struct moe_mrc_unit *u)
{
    uint32_t n = u->info->n_experts;
    for (uint32_t l = 0; u->n_lanes && l < u->n_pools; l++)
        for (int phase = 0; phase < 2; phase++) {
            uint32_t *from = u->lanes[l / LANES].uses[phase] + l % LANES;
            for (uint32_t p = 0; p < n; p++, from += LANES) {
                u->pool[l].now[phase].uses[p + 1] += *from;
                *from = 0;
            }
        }
}

/* Adds the counts since the last call to the totals, or drops those of a sequence that is not
 * counted. */
static void settle(struct moe_mrc_unit *u)
{
    take_lanes(u);
    const uint8_t *counted = u->options->counted;
    bool keep = u->begun && (!counted || counted[u->sequence]);
    for (uint32_t p = 0; p < u->n_pools; p++)
        for (int phase = 0; phase < 2; phase++) {
            struct pool *pool = &u->pool[p];
            if (keep && u->options->sequences)
                note_sequence(u, &pool->now[phase], phase);
            move_counts(keep ? &pool->total[phase] : NULL, &pool->now[phase]);
        }
}

static void clear(struct moe_mrc_unit *u)
{
    for (uint32_t i = 0; i < u->n_lanes; i++)
        moe_opt_lanes_clear(u->lanes[i].stack);
    for (uint32_t p = 0; p < u->n_pools; p++) {
        if (u->pool[p].lru)
            moe_lru_stack_clear(u->pool[p].lru);
        else if (u->pool[p].opt)
            moe_opt_stack_clear(u->pool[p].opt);
    }
}

static void enter_sequence(struct moe_mrc_unit *u, uint32_t sequence)
{
    if (u->begun && u->sequence == sequence)
        return;
    if (u->begun && (u->options->counted || u->options->sequences))
        settle(u);
    if (u->begun && u->options->cold)
        clear(u);
    u->begun = true;
    u->sequence = sequence;
}

void moe_mrc_unit_end(struct moe_mrc_unit *u)
{
    settle(u);
}

static struct pool *pool_of(const struct moe_mrc_unit *u, uint32_t layer)
{
    return &u->pool[u->global ? 0 : layer - u->first];
}

static uint32_t first_key(const struct moe_mrc_unit *u, uint32_t layer)
{
    return u->global ? layer * u->info->n_experts : 0;
}

static uint32_t count_use(struct moe_mrc_counts *counts, uint32_t position)
{
    uint32_t at = position <= counts->max_slots ? position : counts->max_slots + 1;
    counts->uses[at]++;
    return at;
}

static size_t row_of(const struct moe_mrc_unit *u, uint64_t t, uint32_t layer)
{
    return ((size_t)t * u->info->n_layers + layer) * u->info->top_k;
}

/* The experts of a token; returns how many. */
static uint32_t collect_one(struct moe_mrc_unit *u, const struct pass *pass, uint32_t layer)
{
    size_t at = row_of(u, pass->begin, layer);
    const moe_expert *expert = pass->tokens->expert + at;
    uint32_t *key = u->key, base = first_key(u, layer), top_k = u->info->top_k, n = 0;
    for (; n < top_k && expert[n] != MOE_NO_EXPERT; n++)
        key[n] = base + expert[n];
    for (uint32_t i = 0; pass->next_use && i < n; i++)
        u->next_use[i] = pass->next_use[at + i];
    return n;
}

/* The different experts of several tokens in order of first appearance; returns how many. */
static uint32_t collect_many(struct moe_mrc_unit *u, const struct pass *pass, uint32_t layer)
{
    const moe_expert *expert = pass->tokens->expert;
    uint32_t n = 0, base = first_key(u, layer), top_k = u->info->top_k;
    for (uint64_t t = pass->begin; t < pass->end; t++)
        for (size_t at = row_of(u, t, layer), stop = at + top_k; at < stop; at++) {
            moe_expert e = expert[at];
            if (e == MOE_NO_EXPERT)
                break;
            if (u->seen[e])
                continue;
            u->seen[e] = 1;
            u->key[n] = base + e;
            u->next_use[n++] = pass->next_use ? pass->next_use[at] : 0;
        }
    for (uint32_t i = 0; i < n; i++)
        u->seen[u->key[i] - base] = 0;
    return n;
}

static void visit_event(struct moe_mrc_unit *u, const struct pass *pass, uint32_t layer)
{
    struct pool *pool = pool_of(u, layer);
    struct moe_mrc_counts *counts = &pool->now[pass->tokens->phase[pass->begin]];
    uint32_t first = UINT32_MAX, last = 0;
    uint32_t n =
        pass->end - pass->begin == 1 ? collect_one(u, pass, layer) : collect_many(u, pass, layer);
    if (n == 0)
        return;
    if (pool->lru)
        moe_lru_stack_event(pool->lru, u->key, n, u->position);
    else
        moe_opt_stack_event(pool->opt, u->key, u->next_use, n, u->position);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = count_use(counts, u->position[i]);
        first = at < first ? at : first;
        last = at > last ? at : last;
    }
    counts->first[first]++;
    counts->last[last]++;
}

/* Writes one layer's next uses into its lane; returns how many experts the event has. */
static uint32_t fill_lane(struct moe_mrc_unit *u, const struct pass *pass, uint32_t layer,
                          uint32_t *comer)
{
    if (pass->end - pass->begin > 1) {
        uint32_t n = collect_many(u, pass, layer);
        for (uint32_t i = 0; i < n; i++)
            comer[(size_t)i * LANES] = u->next_use[i];
        return n;
    }
    size_t at = row_of(u, pass->begin, layer);
    uint32_t n = 0;
    for (uint32_t i = 0; i < u->info->top_k; i++) { /* absent ones come last, never used again */
        comer[(size_t)i * LANES] = pass->next_use[at + i];
        n += pass->tokens->expert[at + i] != MOE_NO_EXPERT;
    }
    return n;
}

/* Counts the event of a layer with n keys, of which in->n[lane] were found. */
static void count_found(struct moe_mrc_counts *counts, uint32_t n, const struct moe_opt_found *in,
                        uint32_t lane)
{
    uint32_t nowhere = counts->max_slots + 1, found = in->n[lane];
    counts->uses[nowhere] += n - found;
    counts->first[found ? in->first[lane] : nowhere]++;
    counts->last[found == n ? in->last[lane] : nowhere]++;
}

/* Up to sixteen layers from this one on. */
static void visit_lanes(struct moe_mrc_unit *u, const struct pass *pass, uint32_t first)
{
    uint32_t here = u->end - first < LANES ? u->end - first : LANES;
    uint32_t now[LANES], n[LANES], most = u->info->n_experts;
    struct lanes *lanes = &u->lanes[(first - u->first) / LANES];
    int phase = pass->tokens->phase[pass->begin];
    if ((pass->end - pass->begin) * u->info->top_k < most)
        most = (uint32_t)(pass->end - pass->begin) * u->info->top_k;
    memset(u->comer, 0xff, (size_t)most * LANES * sizeof *u->comer); /* MOE_NEVER */
    for (uint32_t i = 0; i < LANES; i++)
        now[i] = (uint32_t)(u->ordinal + first + i);
    for (uint32_t i = 0; i < here; i++)
        n[i] = fill_lane(u, pass, first + i, u->comer + i);
    struct moe_opt_found found;
    moe_opt_lanes_event(lanes->stack, now, u->comer, most, lanes->uses[phase], &found);
    for (uint32_t i = 0; i < here; i++)
        if (n[i] > 0)
            count_found(&pool_of(u, first + i)->now[phase], n[i], &found, i);
}

static void visit_accesses(struct moe_mrc_unit *u, const struct pass *pass, uint32_t layer)
{
    const moe_expert *expert = pass->tokens->expert;
    struct pool *pool = pool_of(u, layer);
    struct moe_mrc_counts *counts = &pool->now[pass->tokens->phase[pass->begin]];
    uint32_t base = first_key(u, layer), first = UINT32_MAX, last = 0;
    for (uint64_t t = pass->begin; t < pass->end; t++)
        for (size_t at = row_of(u, t, layer), stop = at + u->info->top_k; at < stop; at++) {
            if (expert[at] == MOE_NO_EXPERT)
                break;
            uint32_t key = base + expert[at], next = pass->next_use ? pass->next_use[at] : 0;
            uint32_t found =
                count_use(counts, pool->lru ? moe_lru_stack_access(pool->lru, key)
                                            : moe_opt_stack_access(pool->opt, key, next));
            first = found < first ? found : first;
            last = found > last ? found : last;
        }
    if (last > 0) {
        counts->first[first]++;
        counts->last[last]++;
    }
}

static void prefetch(const void *begin, const void *end)
{
    for (const char *at = begin; at < (const char *)end; at += LINE)
        __builtin_prefetch(at);
}

/* A unit of some layers reads a part of every token: processors do not prefetch that themselves. */
static void prefetch_ahead(const struct moe_mrc_unit *u, const struct pass *pass)
{
    uint64_t t = pass->end - 1 + TOKENS_AHEAD;
    if (t >= pass->tokens->n_tokens)
        return;
    size_t begin = row_of(u, t, u->first), end = row_of(u, t, u->end);
    prefetch(pass->tokens->expert + begin, pass->tokens->expert + end);
    if (pass->next_use)
        prefetch(pass->next_use + begin, pass->next_use + end);
}

static void visit(struct moe_mrc_unit *u, const struct pass *pass)
{
    if (!u->global)
        prefetch_ahead(u, pass);
    for (uint32_t i = 0; i < u->n_lanes; i++)
        visit_lanes(u, pass, u->first + i * LANES);
    for (uint32_t layer = u->first; !u->n_lanes && layer < u->end; layer++) {
        if (u->options->contract == MOE_CONTRACT_EVENT)
            visit_event(u, pass, layer);
        else
            visit_accesses(u, pass, layer);
    }
    u->ordinal += u->info->n_layers;
}

static bool phase_wanted(const struct moe_mrc_unit *u, uint8_t phase)
{
    return u->options->phases == MOE_PHASES_BOTH ||
           (u->options->phases == MOE_PHASES_DECODE) == (phase == MOE_DECODE);
}

/* Called now and then: adds to what all units have done, shows it, and tells whether to stop. */
static bool stopped(struct moe_mrc_unit *u, uint64_t n_tokens)
{
    struct moe_mrc_job *job = u->job;
    struct moe_progress *progress = job->options->progress;
#pragma omp critical(moe_mrc)
    {
        job->tokens_done += n_tokens;
        if (progress)
            moe_progress_update(progress, job->tokens_done / job->n_units);
    }
    return moe_interrupted();
}

bool moe_mrc_unit_looks_ahead(const struct moe_mrc_unit *u)
{
    return u->policy == MOE_MRC_OPT && (u->lanes || moe_opt_stack_looks_ahead(u->pool[0].opt));
}

enum moe_status moe_mrc_unit_run(struct moe_mrc_unit *u, const struct moe_tokens *tokens,
                                 const uint32_t *next_use, struct moe_err *err)
{
    struct pass pass = {.tokens = tokens,
                        .next_use = moe_mrc_unit_looks_ahead(u) ? next_use : NULL};
    uint64_t told = 0;
    for (uint64_t n = 1; pass.begin < tokens->n_tokens; pass.begin = pass.end, n++) {
        pass.end = u->options->order == MOE_ORDER_TOKEN ? pass.begin + 1
                                                        : moe_step_end(tokens, pass.begin);
        if (n % PASSES_BETWEEN_LOOKS == 0 || pass.end == tokens->n_tokens) {
            if (stopped(u, pass.end - told))
                return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted after %llu token%s",
                                (unsigned long long)u->tokens, moe_plural(u->tokens));
            told = pass.end;
        }
        if (!phase_wanted(u, tokens->phase[pass.begin]))
            continue;
        enter_sequence(u, tokens->sequence[pass.begin]);
        u->tokens += pass.end - pass.begin;
        visit(u, &pass);
    }
    return MOE_OK;
}

const struct moe_mrc_counts *moe_mrc_unit_counts(const struct moe_mrc_unit *u, uint32_t layer,
                                                 enum moe_phase phase)
{
    return &pool_of(u, layer)->total[phase];
}

uint64_t moe_mrc_unit_tokens(const struct moe_mrc_unit *u)
{
    return u->tokens;
}
