/* OPT: no policy beats it on any of many random traces, and exhaustive search agrees with it.
 * `test_opt N` tries N traces in place of the number below. */
#include "tests/unit/policy_variants.h"
#include "tests/unit/sanitizer.h"

/* Sanitizers look for bad memory, for which a tenth of the cases is as good and ten times faster;
 * the claim about OPT is the plain build's. */
enum { N_OPT_CASES = ADDRESS_SANITIZER ? 10000 : 100000, N_BRUTE_CASES = 3000 };

static uint64_t n_opt_cases = N_OPT_CASES;

/* --- OPT is the bound ---------------------------------------------------------------------- */

static void check_bounds(const struct test_case *c, uint64_t number, bool access)
{
    uint64_t hits[MAX_POLICIES];
    uint32_t bypass = 0, forced = 0;
    /* Where an event may exceed the pool, what a forced policy keeps of it follows the gate order
     * and not the policy, and its choice is no longer the best one. */
    bool forced_is_bound = access || c->smallest_pool >= c->largest_event;
    for (uint32_t i = 0; i < n_variants; i++) {
        hits[i] = hits_of(c, &variants[i].spec, access);
        bypass = strcmp(variants[i].text, "opt:admit=bypass") ? bypass : i;
        forced = strcmp(variants[i].text, "opt:admit=forced") ? forced : i;
    }
    for (uint32_t i = 0; i < n_variants; i++) {
        bool may_not_win = forced_is_bound && variants[i].admits_all;
        uint32_t bound = may_not_win ? forced : bypass;
        if (hits[i] > hits[bound])
            ck_abort_msg("case %" PRIu64 " %s %s: %s %" PRIu64 " > %s %" PRIu64, number, c->text,
                         access ? "access" : "event", variants[i].text, hits[i],
                         variants[bound].text, hits[bound]);
    }
    REQUIRE(hits[forced] <= hits[bypass]);
}

START_TEST(opt_is_the_bound)
{
    struct moe_rng rng;
    struct test_case c;
    moe_rng_init(&rng, 20240601);
    for (uint64_t i = 0; i < n_opt_cases; i++) {
        draw_case(&rng, &c, 6, 24);
        check_bounds(&c, i, i % 2);
        moe_geometry_release(&c.geometry);
    }
}
END_TEST

/* --- OPT against exhaustive search --------------------------------------------------------- */

/* Contents are bit sets over keys; best[r]: most hits so far with contents r, -1 unreachable. */
enum { MAX_KEYS = 8 };

struct search {
    const struct moe_geometry *geometry;
    bool forced;
    int best[1 << MAX_KEYS];
};

static bool fits(const struct moe_geometry *g, unsigned contents)
{
    for (uint32_t p = 0; p < g->n_pools; p++) {
        uint32_t n = 0;
        for (uint32_t l = 0; l < g->n_layers; l++)
            if (g->pool_of_layer[l] == (int32_t)p)
                n += (uint32_t)__builtin_popcount(contents >> (l * g->n_experts) &
                                                  ((1u << g->n_experts) - 1));
        if (n > g->pool[p].n_slots)
            return false;
    }
    for (uint32_t l = 0; l < g->n_layers; l++)
        if (g->pool_of_layer[l] < 0 && contents >> (l * g->n_experts) & ((1u << g->n_experts) - 1))
            return false;
    return true;
}

/* One event that uses the keys `used`: every subset of contents and used that fits may remain; a
 * forced policy must keep all of used. */
static void search_event(struct search *s, unsigned n_keys, unsigned used, bool covered)
{
    int after[1 << MAX_KEYS];
    for (unsigned r = 0; r < 1u << n_keys; r++)
        after[r] = -1;
    for (unsigned r = 0; r < 1u << n_keys; r++) {
        if (s->best[r] < 0)
            continue;
        int hits = s->best[r] + __builtin_popcount(r & used);
        unsigned all = r | used, must = s->forced && covered ? used : 0;
        for (unsigned keep = all;; keep = (keep - 1) & all) {
            if ((keep & must) == must && hits > after[keep] && fits(s->geometry, keep))
                after[keep] = hits;
            if (keep == 0)
                break;
        }
    }
    memcpy(s->best, after, sizeof after);
}

static int search_trace(const struct test_case *c, bool access, bool forced)
{
    const struct event_trace *t = &c->trace;
    static struct search s;
    unsigned n_keys = t->n_layers * t->n_experts;
    int best = -1;
    s = (struct search){.geometry = &c->geometry, .forced = forced};
    for (unsigned r = 1; r < 1u << n_keys; r++)
        s.best[r] = -1;
    for (uint32_t i = 0; i < t->n_events; i++) {
        const struct event *e = &t->event[i];
        bool covered = c->geometry.pool_of_layer[e->layer] >= 0;
        unsigned used = 0;
        for (uint32_t a = 0; a < e->n_tokens * t->top_k; a++) {
            unsigned key = 1u << (e->layer * t->n_experts + e->expert[a]);
            used |= key;
            if (access)
                search_event(&s, n_keys, key, covered);
        }
        if (!access)
            search_event(&s, n_keys, used, covered);
    }
    for (unsigned r = 0; r < 1u << n_keys; r++)
        best = s.best[r] > best ? s.best[r] : best;
    return best;
}

START_TEST(opt_equals_exhaustive_search)
{
    struct moe_rng rng;
    struct test_case c;
    uint32_t n_forced = 0;
    moe_rng_init(&rng, 7);
    for (int i = 0; i < N_BRUTE_CASES;) {
        draw_case(&rng, &c, 4, 14);
        if (c.trace.n_layers * c.trace.n_experts <= MAX_KEYS) {
            bool access = i % 2;
            int got = (int)hits_of(&c, find_variant("opt:admit=bypass"), access);
            ck_assert_msg(got == search_trace(&c, access, false), "case %d %s: bypass %d, best %d",
                          i, c.text, got, search_trace(&c, access, false));
            if (access || c.smallest_pool >= c.largest_event) {
                got = (int)hits_of(&c, find_variant("opt:admit=forced"), access);
                ck_assert_msg(got == search_trace(&c, access, true),
                              "case %d %s: forced %d, best %d", i, c.text, got,
                              search_trace(&c, access, true));
                n_forced++;
            }
            i++;
        }
        moe_geometry_release(&c.geometry);
    }
    ck_assert_uint_gt(n_forced, N_BRUTE_CASES / 2);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, opt_equals_exhaustive_search);
    tcase_add_test(tc, opt_is_the_bound);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        n_opt_cases = strtoull(argv[1], NULL, 10);
    return run_policy_tests("opt", add);
}
