#include "traces/pairs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A pair with less agreement than this has little text in common (the checklist's 5 %). */
static const double little = 0.05;

/* The decode tokens of a sequence that count. They need not be neighbours: later turns of a request
 * have prompts between them. */
struct part {
    const uint64_t *token; /* [n] their numbers in the trace */
    uint64_t n;
    const char *category;
};

struct sums {
    uint64_t n;
    double agreement, jaccard;
};

/* decode: room for the numbers of all tokens. */
static enum moe_status find_parts(const struct moe_trace *trace, uint64_t from, uint64_t to,
                                  uint64_t *decode, struct part *parts, struct moe_err *err)
{
    const struct moe_tokens *x = &trace->tokens;
    for (uint64_t t = 0; t < x->n_tokens; t++) {
        struct part *p = &parts[x->sequence[t]];
        if (x->phase[t] != MOE_DECODE)
            continue;
        if (!x->token_id || x->token_id[t] < 0)
            return moe_fail(err, MOE_ERR_UNSUPPORTED, "the trace has no token ids");
        if (p->n++ == 0)
            p->token = decode;
        *decode++ = t;
    }
    for (uint64_t s = 0; s < trace->n_sequences; s++) {
        struct part *p = &parts[s];
        uint64_t begin = from < p->n ? from : p->n, end = to < p->n ? to : p->n;
        p->category = trace->sequences[s].category;
        p->n = end > begin ? end - begin : 0;
        if (p->n)
            p->token += begin;
    }
    return MOE_OK;
}

static bool is_same_text(const struct moe_tokens *x, const struct part *a, const struct part *b)
{
    uint64_t i = 0;
    while (i < a->n && i < b->n && x->token_id[a->token[i]] == x->token_id[b->token[i]])
        i++;
    return i == a->n && i == b->n;
}

/* Adds the jaccard of every layer in which both tokens have a route. */
static void add_routes(const struct moe_trace *trace, uint64_t a, uint64_t b, struct sums *sum)
{
    const size_t k = trace->info.top_k;
    for (uint32_t l = 0; l < trace->info.n_layers; l++) {
        const moe_expert *ra = trace->tokens.expert + (a * trace->info.n_layers + l) * k;
        const moe_expert *rb = trace->tokens.expert + (b * trace->info.n_layers + l) * k;
        size_t na = 0, nb = 0, common = 0;
        while (na < k && ra[na] != MOE_NO_EXPERT)
            na++;
        while (nb < k && rb[nb] != MOE_NO_EXPERT)
            nb++;
        for (size_t i = 0; i < na; i++)
            for (size_t j = 0; j < nb; j++)
                common += ra[i] == rb[j];
        if (na == 0 || nb == 0)
            continue;
        sum->jaccard += (double)common / (double)(na + nb - common);
        sum->n++;
    }
}

/* Agreement and jaccard of one pair; false: nothing to compare. */
static bool compare(const struct moe_trace *trace, const struct part *a, const struct part *b,
                    struct sums *pair)
{
    const int32_t *id = trace->tokens.token_id;
    const uint64_t n = a->n < b->n ? a->n : b->n;
    uint64_t equal = 0;
    *pair = (struct sums){0};
    for (uint64_t i = 0; i < n; i++) {
        equal += id[a->token[i]] == id[b->token[i]];
        add_routes(trace, a->token[i], b->token[i], pair);
    }
    if (pair->n == 0)
        return false;
    pair->agreement = (double)equal / (double)n;
    pair->jaccard /= (double)pair->n;
    return true;
}

static void add_pair(struct sums *sum, const struct sums *pair)
{
    sum->n++;
    sum->agreement += pair->agreement;
    sum->jaccard += pair->jaccard;
}

static struct moe_pairs_mean mean_of(const struct sums *sum)
{
    const double n = sum->n ? (double)sum->n : NAN;
    return (struct moe_pairs_mean){sum->n, sum->agreement / n, sum->jaccard / n};
}

static bool is_asked_for(const char *category, const struct part *p)
{
    return !category || strcmp(category, p->category) == 0;
}

static struct moe_pairs compare_all(const struct moe_trace *trace, const char *category,
                                    const struct part *parts)
{
    struct sums within = {0}, apart = {0}, across = {0}, pair;
    struct moe_pairs out = {0};
    for (uint64_t i = 0; i < trace->n_sequences; i++) {
        const struct part *a = &parts[i];
        bool unique = true;
        if (!is_asked_for(category, a) || a->n == 0)
            continue;
        for (uint64_t j = 0; j < trace->n_sequences; j++) {
            const struct part *b = &parts[j];
            const bool kin = strcmp(a->category, b->category) == 0;
            unique = unique &&
                     (j >= i || !is_asked_for(category, b) || !is_same_text(&trace->tokens, a, b));
            /* Every pair once: from its first sequence, or from the only one asked for. */
            if ((j <= i && is_asked_for(category, b)) || !compare(trace, a, b, &pair))
                continue;
            add_pair(kin ? &within : &across, &pair);
            if (kin && pair.agreement < little)
                add_pair(&apart, &pair);
        }
        out.n_sequences++;
        out.n_unique += unique;
    }
    out.within = mean_of(&within);
    out.apart = mean_of(&apart);
    out.across = mean_of(&across);
    return out;
}

enum moe_status moe_pairs_compute(const struct moe_trace *trace, const char *category,
                                  uint64_t from, uint64_t to, struct moe_pairs *out,
                                  struct moe_err *err)
{
    if (trace->tokens.request)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "pairs need single requests, but the trace has several in a sequence");
    struct part *parts = calloc(trace->n_sequences + 1, sizeof *parts);
    uint64_t *decode = malloc((size_t)trace->tokens.n_tokens * sizeof *decode + 1);
    enum moe_status s = parts && decode ? find_parts(trace, from, to, decode, parts, err)
                                        : moe_fail_memory(err, "the sequences of a trace");
    if (!s)
        *out = compare_all(trace, category, parts);
    free(decode);
    free(parts);
    return s;
}
