/* Ids against those of the spm_encode program, on 1,000 texts; only where it is installed. */
#include "base/rng.h"
#include "tests/unit/run_suite.h"
#include "tokenizer_files.h"

#include <stdio.h>
#include <unistd.h>

enum { N_TEXTS = 1000, N_LINES = 400, TEXT_MAX = 4000 };

static const char *const odd[] = {
    "\xf0\x9f\x98\x80",
    "\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7",
    "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c",
    "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
    "\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4",
    "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82",
    "\xef\xbb\xbf",
    "\xef\xbf\xbd",
    "\xf4\x8f\xbf\xbf",
    "\xe2\x96\x81",
    "\x01",
    "\x1f",
    "\x7f",
    "\t",
    "\t\t\t",
    " ",
    "                                ",
    "e\xcc\x81",
    "<0x0A>",
    "12345",
    "don't",
    "the",
    "ing",
    "A",
    "!",
    "\\",
    "\"",
};

/* The spm_encode program writes one line of ids for every line. */
static void encode_lines(const char *model, const char *texts, const char *ids)
{
    char command[512];
    snprintf(command, sizeof command, "spm_encode --model='%s' --output_format=id < '%s' > '%s'",
             model, texts, ids);
    ck_assert_int_eq(system(command), 0);
}

/* Lines of a real text where it is there, then random mixtures. */
static void write_texts(FILE *out, struct moe_rng *rng)
{
    static char text[1 << 16];
    FILE *real = fopen("../shared/data/text/gsm8k.jsonl", "r");
    int n = 0;
    for (; real && n < N_LINES && fgets(text, TEXT_MAX, real); n++)
        fprintf(out, "%.*s\n", (int)strcspn(text, "\n"), text);
    if (real)
        fclose(real);
    for (; n < N_TEXTS; n++) {
        for (uint64_t k = moe_rng_below(rng, 25); k > 0; k--)
            fputs(odd[moe_rng_below(rng, sizeof odd / sizeof *odd)], out);
        fputc('\n', out);
    }
}

static void compare_line(const struct moe_tokenizer *t, char *text, char *expected, int line)
{
    int32_t *ids = NULL;
    size_t n = 0, i = 0;
    struct moe_err err = {0};
    text[strcspn(text, "\n")] = '\0';
    ck_assert_int_eq(moe_tokenizer_encode(t, text, strlen(text), false, &ids, &n, &err), MOE_OK);
    for (char *at = expected, *end = at;; at = end) {
        long id = strtol(at, &end, 10);
        if (end == at)
            break;
        ck_assert_msg(i < n && ids[i] == id, "text %d, '%s', token %zu", line, text, i);
        i++;
    }
    ck_assert_msg(i == n, "text %d, '%s': %zu tokens of %zu", line, text, i, n);
    free(ids);
}

static void compare(const char *model)
{
    static char text[1 << 16], expected[1 << 18];
    char texts[] = "/tmp/moelab-texts-XXXXXX", ids[] = "/tmp/moelab-ids-XXXXXX";
    int in = mkstemp(texts), out = mkstemp(ids), n = 0;
    struct moe_rng rng;
    moe_rng_init(&rng, 1);
    ck_assert(in >= 0 && out >= 0);
    FILE *f = fdopen(in, "w");
    write_texts(f, &rng);
    fclose(f);
    close(out);
    encode_lines(model, texts, ids);
    /* Special tokens are none of spm_encode's business. */
    struct moe_tokenizer *t =
        open_model(model, "{\"bos_token\": null, \"eos_token\": null, \"unk_token\": null}");
    f = fopen(texts, "r");
    FILE *g = fopen(ids, "r");
    ck_assert(f && g);
    while (fgets(text, sizeof text, f) && fgets(expected, sizeof expected, g))
        compare_line(t, text, expected, ++n);
    ck_assert_int_eq(n, N_TEXTS);
    fclose(f);
    fclose(g);
    moe_tokenizer_free(t);
    remove(texts);
    remove(ids);
}

START_TEST(small_model)
{
    compare(GOLDEN_TOKENIZER "tokenizer.model");
}
END_TEST

START_TEST(mixtral_model)
{
    const char *model = "../shared/data/tokenizers/mixtral-v1.model";
    if (access(model, R_OK) == 0)
        compare(model);
    else
        printf("skipped: no %s\n", model);
}
END_TEST

int main(void)
{
    if (system("command -v spm_encode > /dev/null") != 0) {
        printf("skipped: no spm_encode (package sentencepiece)\n");
        return 77;
    }
    Suite *suite = suite_create("tokenizer_spm");
    TCase *tcase = tcase_create("tokenizer_spm");
    tcase_add_test(tcase, small_model);
    tcase_add_test(tcase, mixtral_model);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
