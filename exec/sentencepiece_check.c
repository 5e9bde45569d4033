#include "exec/sentencepiece_check.h"

#include <stdbool.h>
#include <stdint.h>

/* Of sentencepiece_model.proto. */
enum { MODEL_NORMALIZER = 3, MODEL_DENORMALIZER = 5, SPEC_CHARS_MAP = 2 };

/* How protobuf writes a field; groups, which nobody writes any more, are refused. */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

struct span {
    const uint8_t *at;
    size_t n;
};

static bool take_varint(struct span *s, uint64_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < 10 && i < s->n; i++) {
        *value |= (uint64_t)(s->at[i] & 0x7f) << (7 * i);
        if (!(s->at[i] & 0x80)) {
            s->at += i + 1;
            s->n -= i + 1;
            return true;
        }
    }
    return false;
}

/* Takes the next field off s: its number and, for type BYTES, its content (else empty). */
static bool take_field(struct span *s, uint64_t *number, struct span *content)
{
    uint64_t tag = 0, n = 0;
    *content = (struct span){s->at, 0};
    if (!take_varint(s, &tag) || tag > UINT32_MAX)
        return false;
    *number = tag >> 3;
    switch (tag & 7) {
    case VARINT:
        return take_varint(s, &n);
    case BYTES:
        if (!take_varint(s, &n) || n > s->n)
            return false;
        *content = (struct span){s->at, (size_t)n};
        break;
    case FIXED64:
        n = 8;
        break;
    case FIXED32:
        n = 4;
        break;
    default:
        return false;
    }
    if (n > s->n)
        return false;
    s->at += n;
    s->n -= (size_t)n;
    return true;
}

static enum moe_status fail_framing(struct moe_err *err)
{
    return moe_fail(err, MOE_ERR_INPUT, "not a SentencePiece model, or cut short");
}

static enum moe_status check_spec(struct span spec, struct moe_err *err)
{
    while (spec.n) {
        uint64_t number = 0;
        struct span content;
        if (!take_field(&spec, &number, &content))
            return fail_framing(err);
        if (number == SPEC_CHARS_MAP && content.n)
            return moe_fail(err, MOE_ERR_UNSUPPORTED,
                            "the model normalises characters by a table: only the rule 'identity' "
                            "is supported");
    }
    return MOE_OK;
}

enum moe_status moe_spm_check(const char *data, size_t size, struct moe_err *err)
{
    struct span model = {(const uint8_t *)data, size};
    while (model.n) {
        uint64_t number = 0;
        struct span content;
        if (!take_field(&model, &number, &content))
            return fail_framing(err);
        enum moe_status status = number == MODEL_NORMALIZER || number == MODEL_DENORMALIZER
                                     ? check_spec(content, err)
                                     : MOE_OK;
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}
