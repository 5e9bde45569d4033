#include "exec/chat.h"
#include "exec/tokenizer_config.h"
#include "exec/tokenizer_fast.h"
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
    if (moe_tokenizer_fast_model(fast->data, fast->size, &model, &n, &err) != MOE_OK) {
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
    if (files.fast.data)
        check_fast(&files.fast);
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
