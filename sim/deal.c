#include "sim/deal.h"

#include <stdlib.h>

uint64_t moe_deal_wanted(const struct moe_crew_state *state)
{
    bool is_short = state->mean_ns > 0 && state->mean_ns < MOE_DEAL_SHORT_NS;
    if (state->waiting > 0 || (state->idle == 0 && !is_short))
        return 0;
    if (!is_short)
        return state->idle;
    return state->threads * (MOE_DEAL_GRAIN_NS / state->mean_ns);
}

enum moe_status moe_deal_init(struct moe_deal *deal, size_t n_items, uint32_t n_ranks,
                              struct moe_err *err)
{
    struct moe_deal made = {.n_items = n_items, .n_left = n_items, .n_ranks = n_ranks};
    made.again = calloc(n_items + 1, sizeof *made.again);
    made.owner = calloc(n_items + 1, sizeof *made.owner);
    made.owned = calloc(n_ranks, sizeof *made.owned);
    if (!made.again || !made.owner || !made.owned) {
        moe_deal_release(&made);
        return moe_fail_memory(err, "items");
    }
    for (size_t i = 0; i < n_items; i++)
        made.owner[i] = MOE_DEAL_NOBODY;
    *deal = made;
    return MOE_OK;
}

void moe_deal_release(struct moe_deal *deal)
{
    free(deal->again);
    free(deal->owner);
    free(deal->owned);
    *deal = (struct moe_deal){0};
}

static size_t next_item(struct moe_deal *deal)
{
    return deal->n_again ? deal->again[--deal->n_again] : deal->next++;
}

size_t moe_deal_give(struct moe_deal *deal, uint32_t rank, uint64_t wanted, size_t room,
                     uint64_t *items)
{
    const uint64_t parts = deal->n_ranks > 1 ? 2 * (uint64_t)deal->n_ranks : 1;
    const uint64_t part = deal->n_left / parts;
    uint64_t most = part > 1 ? part : 1;
    size_t n = 0;
    most = wanted < most ? wanted : most;
    while (n < most && n < room && deal->n_left) {
        size_t item = next_item(deal);
        if (deal->owner[item] != MOE_DEAL_NOBODY)
            continue; /* taken back, and then finished by the one it was taken from */
        deal->owner[item] = rank;
        deal->owned[rank]++;
        deal->n_left--;
        items[n++] = item;
    }
    return n;
}

bool moe_deal_finish(struct moe_deal *deal, uint64_t item)
{
    if (item >= deal->n_items || deal->owner[item] == MOE_DEAL_DONE)
        return false;
    uint32_t owner = deal->owner[item];
    if (owner == MOE_DEAL_NOBODY)
        deal->n_left--;
    else
        deal->owned[owner]--;
    deal->owner[item] = MOE_DEAL_DONE;
    deal->n_done++;
    return true;
}

size_t moe_deal_take_back(struct moe_deal *deal, uint32_t rank)
{
    size_t n = deal->owned[rank];
    for (size_t i = 0; i < deal->next && deal->owned[rank]; i++) {
        if (deal->owner[i] != rank)
            continue;
        deal->owner[i] = MOE_DEAL_NOBODY;
        deal->owned[rank]--;
        deal->n_left++;
        deal->again[deal->n_again++] = i;
    }
    return n;
}
