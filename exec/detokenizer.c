#include "base/utf8.h"
#include "exec/tokenizer.h"
#include "exec/tokenizer_state.h"

#include <string.h>

/* These functions cannot fail, so the longest text must fit: a piece or added token of
 * MOE_TOKEN_TEXT_MAX bytes behind three replacement characters, or with byte-level BPE one for each
 * byte. */
_Static_assert(MOE_TOKEN_TEXT_MAX + 3 * 3 + 1 <= MOE_PIECE_MAX, "a piece fits its buffer");
_Static_assert(3 * (MOE_BYTE_PIECE_MAX + 3) + 1 <= MOE_PIECE_MAX, "its bytes fit its buffer");

static const char replacement[] = "\xef\xbf\xbd";    /* U+FFFD */
static const char unknown_text[] = " \xe2\x81\x87 "; /* U+2047, as SentencePiece prints it */

void moe_detokenizer_init(struct moe_detokenizer *d, const struct moe_tokenizer *tokenizer,
                          bool continues)
{
    *d = (struct moe_detokenizer){.tokenizer = tokenizer,
                                  .began = continues || !tokenizer->has_prefix};
}

static size_t put(char *buf, size_t at, const char *text, size_t n)
{
    memcpy(buf + at, text, n);
    return at + n;
}

/* Writes the pending bytes as far as they are complete characters; each invalid byte becomes
 * U+FFFD. all: incomplete ones, too. */
static size_t put_pending(struct moe_detokenizer *d, char *buf, size_t at, bool all)
{
    while (d->n_pending) {
        int length = moe_utf8_char((const char *)d->pending, d->n_pending);
        if (length == 0 && !all)
            break;
        at = length > 0 ? put(buf, at, (const char *)d->pending, (size_t)length)
                        : put(buf, at, replacement, 3);
        uint32_t gone = length > 0 ? (uint32_t)length : 1;
        d->n_pending -= gone;
        memmove(d->pending, d->pending + gone, d->n_pending);
    }
    return at;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The value of a piece such as <0xE2>; -1 for anything else. */
static int byte_value(const char *piece, size_t n)
{
    if (n != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>')
        return -1;
    int high = hex_digit(piece[3]), low = hex_digit(piece[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

/* Writes a piece with U+2581 as spaces; the first piece loses the model's dummy space. */
static size_t put_piece(struct moe_detokenizer *d, char *buf, size_t at, const char *piece,
                        size_t n)
{
    size_t blank = strlen(MOE_SPM_BLANK);
    for (size_t i = 0; i < n;) {
        bool is_blank = n - i >= blank && memcmp(piece + i, MOE_SPM_BLANK, blank) == 0;
        if (!is_blank)
            buf[at++] = piece[i];
        else if (i || d->began)
            buf[at++] = ' ';
        i += is_blank ? blank : 1;
    }
    d->began = d->began || n > 0;
    return at;
}

static size_t put_token(struct moe_detokenizer *d, char *buf, size_t at, int32_t id)
{
    const struct moe_tokenizer *t = d->tokenizer;
    const struct moe_added_token *token = moe_added_by_id(&t->config.added, id);
    bool is_piece = id < moe_spm_size(t->spm);
    enum moe_spm_kind kind = is_piece ? moe_spm_kind(t->spm, id) : MOE_SPM_TEXT;
    if (kind == MOE_SPM_CONTROL)
        return at;
    if (kind == MOE_SPM_UNKNOWN) {
        d->began = true;
        return put(buf, at, unknown_text, sizeof unknown_text - 1);
    }
    if (token && token->special && !d->show_special)
        return at;
    if (token) {
        d->began = true;
        return put(buf, at, token->text, token->n);
    }
    if (!is_piece)
        return at;
    size_t n = 0;
    const char *piece = moe_spm_piece(t->spm, id, &n);
    return put_piece(d, buf, at, piece, n);
}

/* The byte that an id stands for; -1: none. */
static int id_byte(const struct moe_tokenizer *t, int32_t id)
{
    size_t n = 0;
    if (id >= moe_spm_size(t->spm) || moe_spm_kind(t->spm, id) != MOE_SPM_BYTE)
        return -1;
    const char *piece = moe_spm_piece(t->spm, id, &n);
    return byte_value(piece, n);
}

/* Byte-level BPE: every id is some bytes, and a token that is not shown is none, so that characters
 * go on behind it. */
static size_t put_bytes(struct moe_detokenizer *d, char *buf, int32_t id)
{
    const struct moe_tokenizer *t = d->tokenizer;
    const struct moe_added_token *token = moe_added_by_id(&t->config.added, id);
    char spelt[MOE_BYTE_PIECE_MAX];
    size_t n = 0, at = 0;
    const char *piece = moe_byte_tokenizer_piece(t->bytes, id, &n);
    if (token && token->special && !d->show_special)
        return 0;
    if (token && !n) {
        n = moe_byte_pieces_spell(token->text, spelt);
        piece = spelt;
    }
    for (size_t i = 0; i < n; i++) {
        d->pending[d->n_pending++] = (uint8_t)piece[i];
        at = put_pending(d, buf, at, false);
    }
    return at;
}

size_t moe_detokenizer_next(struct moe_detokenizer *d, int32_t id, char buf[MOE_PIECE_MAX])
{
    size_t at = 0;
    if (d->tokenizer->bytes) {
        at = put_bytes(d, buf, id);
    } else if (id >= 0 && (uint32_t)id < d->tokenizer->n_tokens) {
        int byte = id_byte(d->tokenizer, id);
        if (byte >= 0) {
            d->pending[d->n_pending++] = (uint8_t)byte;
            d->began = true;
        }
        at = put_pending(d, buf, 0, byte < 0);
        if (byte < 0)
            at = put_token(d, buf, at, id);
    }
    buf[at] = '\0';
    return at;
}

size_t moe_detokenizer_end(struct moe_detokenizer *d, char buf[MOE_PIECE_MAX])
{
    size_t at = put_pending(d, buf, 0, true);
    buf[at] = '\0';
    return at;
}
