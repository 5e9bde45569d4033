#include "base/file.h"
#include "base/utf8.h"
#include "exec/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OVERLAPPING                                                                                \
    "\"added_tokens_decoder\": {\"500\": {\"content\": \"<x\"}, \"501\": {\"content\": \"<x>\", "  \
    "\"lstrip\": true}, \"502\": {\"content\": \"[[\", \"rstrip\": true, \"special\": true}}"

/* The last two have no token that a text could spell, so that every text comes back. */
static const char *const configs[] = {
    "{" OVERLAPPING "}",
    "{" OVERLAPPING ", \"legacy\": false}",
    "{\"legacy\": false, \"add_prefix_space\": false}",
    "{\"bos_token\": null, \"eos_token\": null, \"unk_token\": null}",
    "{\"bos_token\": null, \"eos_token\": null, \"unk_token\": null, \"legacy\": false}",
};
/* Byte-level BPE. */
static const char *const kinds[] = {"bytes-qwen.json", "bytes-olmoe.json", "bytes-llama.json"};
enum {
    N_CONFIGS = sizeof configs / sizeof *configs,
    FIRST_PLAIN = 3,
    N_KINDS = sizeof kinds / sizeof *kinds,
    N_TOKENIZERS = N_CONFIGS + N_KINDS,
};

static struct moe_tokenizer *tokenizers[N_TOKENIZERS];

/* A committed file, which lies beside this file's folder; heap. */
static char *read_golden(const char *name, size_t *size)
{
    char path[4096], *data = NULL;
    const char *slash = strrchr(__FILE__, '/');
    snprintf(path, sizeof path, "%.*s/../golden/tokenizer/%s", (int)(slash - __FILE__), __FILE__,
             name);
    if (moe_file_read(path, 1 << 20, &data, size, NULL) != MOE_OK)
        abort();
    return data;
}

static void load(void)
{
    size_t size = 0;
    char *model = read_golden("tokenizer.model", &size);
    for (size_t i = 0; i < N_KINDS; i++) {
        size_t n = 0;
        char *fast = read_golden(kinds[i], &n);
        struct moe_tokenizer_files files = {.fast = {fast, n}};
        struct moe_err err = {0};
        enum moe_status status = moe_tokenizer_parse(&tokenizers[N_CONFIGS + i], &files, &err);
        if (status != MOE_OK && status != MOE_ERR_UNSUPPORTED) /* built without its libraries */
            abort();
        free(fast);
    }
    for (size_t i = 0; i < N_CONFIGS; i++) {
        struct moe_tokenizer_files files = {.model = {model, size},
                                            .config = {configs[i], strlen(configs[i])}};
        if (moe_tokenizer_parse(&tokenizers[i], &files, NULL) != MOE_OK)
            abort();
    }
    free(model);
}

/* U+2581 as a space: that is what comes back. Returns the new length. */
static size_t spaced(char *text, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; to++) {
        bool blank = n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0;
        text[to] = blank ? ' ' : text[i];
        i += blank ? 3 : 1;
    }
    return to;
}

static void check_decoded(const struct moe_tokenizer *t, const int32_t *ids, size_t n, char *text,
                          size_t size, bool same)
{
    struct moe_detokenizer d;
    char buf[MOE_PIECE_MAX];
    size_t at = 0;
    size = spaced(text, size);
    moe_detokenizer_init(&d, t, false);
    for (size_t i = 0; i <= n; i++) {
        size_t got = i < n ? moe_detokenizer_next(&d, ids[i], buf) : moe_detokenizer_end(&d, buf);
        if (got >= MOE_PIECE_MAX || buf[got] || moe_utf8_prefix(buf, got) != got)
            abort();
        if (same && (got > size - at || memcmp(text + at, buf, got) != 0))
            abort();
        at += got;
    }
    if (same && at != size)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int32_t *ids = NULL;
    size_t n = 0;
    struct moe_err err = {0};
    if (!tokenizers[0])
        load();
    if (!size)
        return 0;
    size_t which = data[0] % N_TOKENIZERS;
    const struct moe_tokenizer *t = tokenizers[which];
    char *text = t ? malloc(size) : NULL;
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    bool valid = moe_utf8_prefix(text, size - 1) == size - 1;
    if ((moe_tokenizer_encode(t, text, size - 1, false, &ids, &n, &err) == MOE_OK) != valid)
        abort();
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= moe_tokenizer_size(t))
            abort();
    if (valid)
        check_decoded(t, ids, n, text, size - 1, which >= FIRST_PLAIN && which < N_CONFIGS);
    free(ids);
    free(text);
    return 0;
}
