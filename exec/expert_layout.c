#include "exec/expert_store.h"

#include <string.h>

enum { ALIGNMENT = 256 }; /* of a matrix in a slot */

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static enum moe_status check_matrix(const struct moe_matrix *m, const struct moe_matrix *first,
                                    uint32_t layer, uint32_t expert, const char *name,
                                    struct moe_err *err)
{
    if (m->dtype == first->dtype && m->rows == first->rows && m->cols == first->cols)
        return MOE_OK;
    return moe_fail(
        err, MOE_ERR_UNSUPPORTED,
        "expert %u of layer %u: %s is %s [%u, %u], but %s [%u, %u] in the first expert: "
        "the slots of a device hold experts of one size",
        (unsigned)expert, (unsigned)layer, name, moe_dtype_info(m->dtype)->name, (unsigned)m->rows,
        (unsigned)m->cols, moe_dtype_info(first->dtype)->name, (unsigned)first->rows,
        (unsigned)first->cols);
}

static enum moe_status check_layer(const struct moe_llm *llm, uint32_t l, struct moe_err *err)
{
    const struct moe_expert_weights *first = &llm->layers[0].experts[0];
    enum moe_status s = MOE_OK;
    for (uint32_t e = 0; e < llm->config.n_experts && !s; e++) {
        const struct moe_expert_weights *x = &llm->layers[l].experts[e];
        if ((s = check_matrix(&x->w1, &first->w1, l, e, "w1", err)) ||
            (s = check_matrix(&x->w3, &first->w3, l, e, "w3", err)))
            break;
        s = check_matrix(&x->w2, &first->w2, l, e, "w2", err);
    }
    return s;
}

enum moe_status moe_expert_layout_of(const struct moe_llm *llm, struct moe_expert_layout *out,
                                     struct moe_err *err)
{
    for (uint32_t l = 0; l < llm->config.n_layers; l++) {
        enum moe_status s = check_layer(llm, l, err);
        if (s)
            return s;
    }
    const struct moe_expert_weights *first = &llm->layers[0].experts[0];
    struct moe_expert_layout layout = {.w1 = first->w1, .w3 = first->w3, .w2 = first->w2};
    layout.w1.data = layout.w3.data = layout.w2.data = NULL;
    layout.at_w3 = round_up(moe_matrix_bytes(&layout.w1));
    layout.at_w2 = layout.at_w3 + round_up(moe_matrix_bytes(&layout.w3));
    layout.bytes = layout.at_w2 + round_up(moe_matrix_bytes(&layout.w2));
    *out = layout;
    return MOE_OK;
}

struct moe_expert_weights moe_expert_layout_at(const struct moe_expert_layout *layout,
                                               const void *slot)
{
    struct moe_expert_weights x = {layout->w1, layout->w3, layout->w2};
    x.w1.data = slot;
    x.w3.data = (const char *)slot + layout->at_w3;
    x.w2.data = (const char *)slot + layout->at_w2;
    return x;
}

/* Bytes [begin, end) of a packed expert's image. */
struct part {
    const void *data; /* NULL: zeros */
    uint64_t begin, end;
};

/* Copies what the part has of bytes [at, at + n) of the image. */
static void read_part(const struct part *part, uint64_t at, uint64_t n, char *to)
{
    uint64_t from = part->begin > at ? part->begin : at;
    uint64_t end = part->end < at + n ? part->end : at + n;
    if (from >= end)
        return;
    if (part->data)
        memcpy(to + (from - at), (const char *)part->data + (from - part->begin), end - from);
    else
        memset(to + (from - at), 0, end - from);
}

void moe_expert_layout_read(const struct moe_expert_layout *layout,
                            const struct moe_expert_weights *expert, uint64_t at, uint64_t n,
                            void *to)
{
    const uint64_t end_w1 = moe_matrix_bytes(&layout->w1);
    const uint64_t end_w3 = layout->at_w3 + moe_matrix_bytes(&layout->w3);
    const uint64_t end_w2 = layout->at_w2 + moe_matrix_bytes(&layout->w2);
    const struct part parts[] = {
        {expert->w1.data, 0, end_w1},
        {NULL, end_w1, layout->at_w3},
        {expert->w3.data, layout->at_w3, end_w3},
        {NULL, end_w3, layout->at_w2},
        {expert->w2.data, layout->at_w2, end_w2},
        {NULL, end_w2, layout->bytes},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        read_part(&parts[i], at, n, to);
}

bool moe_expert_layout_packed(const struct moe_expert_layout *layout,
                              const struct moe_expert_weights *expert)
{
    uintptr_t start = (uintptr_t)expert->w1.data;
    return (uintptr_t)expert->w3.data == start + layout->at_w3 &&
           (uintptr_t)expert->w2.data == start + layout->at_w2;
}
