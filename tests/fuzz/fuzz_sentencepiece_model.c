#include "base/utf8.h"
#include "exec/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Any bytes as tokenizer.model: refused, or a tokenizer that can be used. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "The <s> quick\tbrown  f\xc3\xb6x \xf0\x9f\xa6\x8a \xe4\xbd\xa0 1234";
    static const char config[] = "{\"bos_token\": null, \"legacy\": false}";
    char buf[MOE_PIECE_MAX];
    for (int legacy = 0; legacy < 2; legacy++) {
        struct moe_tokenizer *t = NULL;
        struct moe_err err = {0};
        int32_t *ids = NULL;
        size_t n = 0;
        struct moe_tokenizer_files files = {
            .model = {(const char *)data, size},
            .config = {legacy ? "{\"bos_token\": null}" : config,
                       legacy ? strlen("{\"bos_token\": null}") : strlen(config)}};
        if (moe_tokenizer_parse(&t, &files, &err) != MOE_OK) {
            if (!err.text[0])
                abort();
            return 0;
        }
        if (moe_tokenizer_encode(t, text, sizeof text - 1, false, &ids, &n, &err) != MOE_OK)
            n = 0;
        struct moe_detokenizer d;
        moe_detokenizer_init(&d, t, false);
        for (size_t i = 0; i < n; i++) {
            size_t got = moe_detokenizer_next(&d, ids[i], buf);
            if (moe_utf8_prefix(buf, got) != got)
                abort();
        }
        for (int32_t id = -1; id < 600; id++) {
            size_t got = moe_detokenizer_next(&d, id, buf);
            if (moe_utf8_prefix(buf, got) != got)
                abort();
        }
        free(ids);
        moe_tokenizer_free(t);
    }
    return 0;
}
