/* The victims of an event named in one search are those named one by one, for every policy that
 * can do both. */
#include "tests/unit/policy_variants.h"

enum { N_CASES = 60, N_EVENTS = 250, MOST_SLOTS = 400, MOST_EXPERTS = 160, MOST_LAYERS = 6 };

/* One pool, twice: `at_once` is asked for all victims of an event together. */
struct twins {
    struct moe_policy_env env;
    const struct moe_policy_ops *ops;
    void *at_once, *in_turn;
    moe_key key[MOST_SLOTS];                      /* what is in each slot */
    moe_slot slot_of[MOST_LAYERS * MOST_EXPERTS]; /* or MOE_NO_SLOT */
    uint8_t pinned[MOST_SLOTS];
};

static void *new_state(const struct twins *t)
{
    void *state = NULL;
    size_t size = t->ops->state_size(&t->env);
    ck_assert_int_eq(posix_memalign(&state, 64, size), 0);
    memset(state, 0, size);
    t->ops->init(state, &t->env);
    return state;
}

static void put(struct twins *t, void *state, moe_slot slot, moe_key old, moe_key new)
{
    if (old != MOE_NO_KEY && t->ops->on_evict)
        t->ops->on_evict(state, slot, old);
    t->ops->on_insert(state, slot, new);
}

/* The slots that the missed ones take, in turn; they are pinned afterwards. */
static void ask_in_turn(struct twins *t, const moe_key *missed, uint32_t n, moe_slot *slot)
{
    for (uint32_t k = 0; k < n; k++) {
        struct moe_victim_req req = {missed[k], MOE_NEVER, t->pinned};
        slot[k] = t->ops->victim(t->in_turn, &req);
        if (slot[k] == MOE_NO_SLOT)
            continue;
        REQUIRE(!t->pinned[slot[k]]);
        put(t, t->in_turn, slot[k], t->key[slot[k]], missed[k]);
        t->pinned[slot[k]] = MOE_PIN_RESERVED;
    }
}

/* Returns whether they were named at once. */
static bool ask_at_once(struct twins *t, const moe_key *missed, uint32_t n, moe_slot *slot)
{
    uint8_t *pinned = calloc(t->env.n_slots, 1); /* heap: a read behind it is found */
    memcpy(pinned, t->pinned, t->env.n_slots);
    bool named = t->ops->victims(t->at_once, n, pinned, slot);
    for (uint32_t k = 0; k < n; k++) {
        struct moe_victim_req req = {missed[k], MOE_NEVER, pinned};
        if (!named)
            slot[k] = t->ops->victim(t->at_once, &req);
        if (slot[k] == MOE_NO_SLOT)
            continue;
        put(t, t->at_once, slot[k], t->key[slot[k]], missed[k]);
        pinned[slot[k]] = MOE_PIN_RESERVED;
    }
    free(pinned);
    return named;
}

/* Different experts of a layer; some events are larger than the pool. */
static uint32_t draw_experts(struct moe_rng *rng, const struct twins *t, moe_expert *expert)
{
    uint32_t most = moe_rng_below(rng, 8) ? t->env.top_k : t->env.n_experts, n = 0;
    uint32_t want = 1 + (uint32_t)moe_rng_below(rng, most);
    for (uint32_t e = 0; e < t->env.n_experts; e++)
        if (moe_rng_below(rng, t->env.n_experts - e) < want - n)
            expert[n++] = (moe_expert)e;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)moe_rng_below(rng, i);
        moe_expert e = expert[j];
        expert[j] = expert[i - 1];
        expert[i - 1] = e;
    }
    return n;
}

/* Few different numbers: many means and uses are equal. */
static bool one_event(struct moe_rng *rng, struct twins *t)
{
    moe_expert expert[MOST_EXPERTS];
    moe_slot slot[MOST_EXPERTS], first[MOST_EXPERTS], second[MOST_EXPERTS];
    uint8_t access[MOST_EXPERTS];
    float score[MOST_EXPERTS];
    moe_key missed[MOST_EXPERTS];
    uint32_t n_missed = 0, layer = (uint32_t)moe_rng_below(rng, t->env.n_layers);
    uint32_t n = draw_experts(rng, t, expert);
    memset(t->pinned, 0, t->env.n_slots);
    for (uint32_t e = 0; e < t->env.n_experts; e++)
        score[e] = (float)moe_rng_below(rng, 6);
    for (uint32_t i = 0; i < n; i++) {
        moe_key key = layer * t->env.n_experts + expert[i];
        slot[i] = t->slot_of[key];
        access[i] = slot[i] == MOE_NO_SLOT ? MOE_MISS : MOE_HIT;
        if (slot[i] == MOE_NO_SLOT)
            missed[n_missed++] = key;
        else
            t->pinned[slot[i]] = MOE_PIN_EVENT;
    }
    struct moe_route route = {.layer = layer,
                              .n = n,
                              .phase = MOE_DECODE,
                              .expert = expert,
                              .score = score,
                              .slot = slot,
                              .access = access};
    t->ops->on_route(t->at_once, &route);
    t->ops->on_route(t->in_turn, &route);
    bool named = n_missed > 0 && ask_at_once(t, missed, n_missed, first);
    ask_in_turn(t, missed, n_missed, second);
    for (uint32_t k = 0; k < n_missed; k++) {
        ck_assert_int_eq(first[k], second[k]);
        if (first[k] == MOE_NO_SLOT)
            continue;
        t->slot_of[t->key[first[k]]] = MOE_NO_SLOT;
        t->key[first[k]] = missed[k];
        t->slot_of[missed[k]] = first[k];
    }
    return named;
}

/* Returns how many events' victims were named at once. */
static uint32_t compare(struct moe_rng *rng, const struct variant *v)
{
    static const uint32_t experts[] = {5, 8, 16, 40, 128, 160};
    struct twins *t = calloc(1, sizeof *t);
    uint32_t n_named = 0;
    t->ops = v->spec.ops;
    t->env = (struct moe_policy_env){.n_layers = 1 + (uint32_t)moe_rng_below(rng, MOST_LAYERS),
                                     .n_experts = experts[moe_rng_below(rng, 6)],
                                     .params = v->spec.params};
    uint32_t n_keys = t->env.n_layers * t->env.n_experts;
    uint32_t most = n_keys < MOST_SLOTS ? n_keys : MOST_SLOTS, few = most < 64 ? most : 64;
    t->env.n_slots = 1 + (uint32_t)moe_rng_below(rng, moe_rng_below(rng, 2) ? most : few);
    t->env.top_k = t->env.n_experts < 8 ? 2 : 8;
    t->at_once = new_state(t);
    t->in_turn = new_state(t);
    for (moe_key k = 0; k < n_keys; k++)
        t->slot_of[k] = MOE_NO_SLOT;
    for (uint32_t s = 0; s < t->env.n_slots; s++) {
        t->slot_of[t->key[s] = s] = (moe_slot)s;
        put(t, t->at_once, (moe_slot)s, MOE_NO_KEY, s);
        put(t, t->in_turn, (moe_slot)s, MOE_NO_KEY, s);
    }
    for (int i = 0; i < N_EVENTS; i++)
        n_named += one_event(rng, t);
    free(t->at_once);
    free(t->in_turn);
    free(t);
    return n_named;
}

START_TEST(at_once_as_in_turn)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 7);
    uint32_t n_policies = 0;
    for (uint32_t i = 0; i < n_variants; i++) {
        const struct moe_policy_ops *ops = variants[i].spec.ops;
        if (!ops->victims)
            continue;
        ck_assert_msg(!ops->wants && !ops->on_hit && !ops->flags, "%s", variants[i].text);
        uint32_t n_named = 0;
        for (int k = 0; k < N_CASES; k++)
            n_named += compare(&rng, &variants[i]);
        n_policies += n_named > N_CASES;
    }
    ck_assert_uint_ge(n_policies, 3);
}
END_TEST

/* Of the slots that are not pinned the one of the lowest mean, of equals the one that came in
 * first; a key's mean is its latest score. */
static moe_slot first_to_go(const struct twins *t, const float *mean, const uint64_t *since)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < t->env.n_slots; s++) {
        const float left = mean[t->key[s]], right = best < 0 ? 0 : mean[t->key[best]];
        if (!t->pinned[s] &&
            (best < 0 || left < right || (left <= right && since[s] < since[best])))
            best = (moe_slot)s;
    }
    return best;
}

static void check_means(struct moe_rng *rng, struct twins *t)
{
    const uint32_t n_experts = t->env.n_experts, n_keys = t->env.n_layers * n_experts;
    float *mean = calloc(n_keys, sizeof *mean);
    uint64_t *since = calloc(t->env.n_slots, sizeof *since), now = 0;
    t->at_once = new_state(t);
    bool *is_in = calloc(n_keys, sizeof *is_in);
    for (uint32_t s = 0; s < t->env.n_slots; s++) {
        put(t, t->at_once, (moe_slot)s, MOE_NO_KEY, t->key[s] = s);
        since[s] = ++now;
        is_in[s] = true;
    }
    for (int i = 0; i < N_EVENTS; i++) {
        const uint32_t layer = (uint32_t)moe_rng_below(rng, t->env.n_layers);
        float *score = mean + (size_t)layer * n_experts;
        for (uint32_t e = 0; e < n_experts; e++)
            score[e] = (float)moe_rng_below(rng, 20);
        t->ops->on_route(t->at_once, &(struct moe_route){.layer = layer, .score = score});
        for (uint32_t s = 0; s < t->env.n_slots; s++)
            t->pinned[s] = moe_rng_below(rng, 4) == 0;
        const moe_slot expected = first_to_go(t, mean, since);
        moe_key missed = (moe_key)moe_rng_below(rng, n_keys);
        while (is_in[missed])
            missed = (missed + 1) % n_keys;
        moe_slot found = MOE_NO_SLOT, again = MOE_NO_SLOT;
        bool named = t->ops->victims(t->at_once, 1, t->pinned, &found);
        again = t->ops->victim(t->at_once, &(struct moe_victim_req){missed, MOE_NEVER, t->pinned});
        ck_assert_msg(again == expected && (!named || found == expected),
                      "%" PRIu32 " slots: %d, %d, not %d", t->env.n_slots, again, found, expected);
        if (expected == MOE_NO_SLOT)
            continue;
        put(t, t->at_once, expected, t->key[expected], missed);
        is_in[t->key[expected]] = false;
        is_in[t->key[expected] = missed] = true;
        since[expected] = ++now;
    }
    free(t->at_once);
    free(is_in);
    free(since);
    free(mean);
}

/* hybrimoe-mrs with few slots and with many: where one way of finding ends, the other begins. */
START_TEST(the_lowest_mean_goes)
{
    static const uint32_t slots[] = {1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 66, 72, 100};
    static const uint32_t experts[] = {5, 8, 40, 160};
    struct moe_policy_spec spec =
        policy("hybrimoe-mrs:scores=probabilities,alpha=1,p=65535"); /* S is the score */
    struct moe_rng rng;
    moe_rng_init(&rng, 11);
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        for (size_t k = 0; k < sizeof experts / sizeof *experts; k++) {
            struct twins *t = calloc(1, sizeof *t);
            t->ops = spec.ops;
            t->env = (struct moe_policy_env){.n_slots = slots[i],
                                             .n_layers = MOST_LAYERS,
                                             .n_experts = experts[k],
                                             .top_k = 2,
                                             .params = spec.params};
            if (slots[i] < MOST_LAYERS * experts[k])
                check_means(&rng, t);
            free(t);
        }
}
END_TEST

static void add(TCase *tc)
{
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, at_once_as_in_turn);
    tcase_add_test(tc, the_lowest_mean_goes);
}

int main(void)
{
    return run_policy_tests("victims", add);
}
