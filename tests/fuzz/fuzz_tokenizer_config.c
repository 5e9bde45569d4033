#include "base/utf8.h"
#include "exec/chat.h"
#include "exec/json.h"
#include "exec/tokenizer_fast.h"
#include "exec/tokenizer_state.h"
#include "import_fuzz.h"

#include <string.h>

static struct moe_tokenizer_file next_file(const uint8_t **data, size_t *size)
{
    struct moe_blob blob = fuzz_blob(data, size, "");
    return (struct moe_tokenizer_file){blob.data, blob.size};
}

/* The parts of a text follow each other, and only white space is missing between them. */
static void check_split(const struct moe_added_tokens *added, const char *text, size_t n)
{
    struct moe_part *parts = NULL;
    size_t n_parts = 0;
    struct moe_err err = {0};
    if (moe_added_split(added, text, n, &parts, &n_parts, &err) != MOE_OK)
        abort();
    const char *done = text;
    for (size_t i = 0; i < n_parts; i++) {
        if (parts[i].at < done || parts[i].n > (size_t)(text + n - parts[i].at))
            abort();
        done = parts[i].at + parts[i].n;
        if (parts[i].token && parts[i].token->n != parts[i].n)
            abort();
    }
    free(parts);
}

/* The model that tokenizer.json was made of: refused, or one that SentencePiece reads or refuses.
 */
static void check_fast(const struct moe_tokenizer_file *fast)
{
    char *model = NULL;
    size_t n = 0;
    struct moe_err err = {0};
    struct moe_spm *spm = NULL;
    json_t *root = NULL;
    if (moe_json_parse(fast->data, fast->size, &root, &err) != MOE_OK) {
        if (!err.text[0])
            abort();
        return;
    }
    enum moe_status status = moe_tokenizer_fast_model(root, &model, &n, &err);
    json_decref(root);
    if (status != MOE_OK) {
        if (!err.text[0])
            abort();
        return;
    }
    if (moe_spm_load(&spm, model, n, &err) == MOE_OK)
        moe_spm_free(spm);
    else if (!err.text[0])
        abort();
    free(model);
}

/* The decoded text is that of the ids, unless normalisation changed it, and whole characters. */
static void check_text(const struct moe_tokenizer *t, const char *text, size_t n)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    struct moe_err err = {0};
    struct moe_detokenizer d;
    char buf[MOE_PIECE_MAX];
    bool valid = moe_utf8_prefix(text, n) == n;
    if ((moe_tokenizer_encode(t, text, n, false, &ids, &n_ids, &err) == MOE_OK) != valid)
        abort();
    moe_detokenizer_init(&d, t, true);
    for (size_t i = 0; i <= n_ids; i++) {
        if (i < n_ids && (ids[i] < 0 || (uint32_t)ids[i] >= moe_tokenizer_size(t)))
            abort();
        size_t got =
            i < n_ids ? moe_detokenizer_next(&d, ids[i], buf) : moe_detokenizer_end(&d, buf);
        if (got >= MOE_PIECE_MAX || moe_utf8_prefix(buf, got) != got)
            abort();
    }
    free(ids);
}

/* Every id in turn, as a damaged file may have pieces of any bytes. */
static void check_ids(const struct moe_tokenizer *t)
{
    struct moe_detokenizer d;
    char buf[MOE_PIECE_MAX];
    moe_detokenizer_init(&d, t, true);
    d.show_special = true;
    for (uint32_t id = 0; id < moe_tokenizer_size(t); id++) {
        size_t got = moe_detokenizer_next(&d, (int32_t)id, buf);
        if (got >= MOE_PIECE_MAX || moe_utf8_prefix(buf, got) != got)
            abort();
    }
}

/* A whole tokenizer without tokenizer.model: byte-level BPE, or made of a SentencePiece model. */
static void check_tokenizer(const struct moe_tokenizer_files *files, const char *text, size_t n)
{
    struct moe_tokenizer *t = NULL;
    struct moe_err err = {0};
    if (moe_tokenizer_parse(&t, files, &err) != MOE_OK) {
        if (!err.text[0])
            abort();
        return;
    }
    if (t->bytes) {
        check_text(t, text, n);
        check_ids(t);
    }
    moe_tokenizer_free(t);
}

/* Four files, each with its length of two bytes in front; what is left is the text to cut. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_tokenizer_files files = {.config = next_file(&data, &size)};
    struct moe_tokenizer_config config;
    struct moe_err err = {0};
    enum moe_chat chat = MOE_CHAT_NONE;
    files.added_tokens = next_file(&data, &size);
    files.special_map = next_file(&data, &size);
    files.fast = next_file(&data, &size);
    if (files.fast.data) {
        check_fast(&files.fast);
        check_tokenizer(&files, (const char *)data, size);
    }
    if (files.config.data &&
        moe_chat_config(files.config.data, files.config.size, &chat, &err) != MOE_OK &&
        !err.text[0])
        abort();
    err = (struct moe_err){0};
    if (moe_tokenizer_config_parse(&files, NULL, &config, &err) != MOE_OK) {
        if (!err.text[0])
            abort();
        return 0;
    }
    const struct moe_added_tokens *added = &config.added;
    for (size_t i = 0; i < added->n; i++) {
        const struct moe_added_token *token = &added->token[i];
        if (moe_added_by_id(added, token->id) != token ||
            moe_added_exact(added, token->text, token->n) != token)
            abort();
        check_split(added, token->text, token->n);
    }
    check_split(added, (const char *)data, size);
    moe_tokenizer_config_release(&config);
    return 0;
}
