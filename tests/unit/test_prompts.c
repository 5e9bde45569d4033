#include "base/units.h"
#include "tests/unit/run_suite.h"
#include "traces/prompts.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct moe_prompts parse(const char *name, const char *text, enum moe_prompts_format format,
                                uint64_t limit)
{
    struct moe_prompts prompts = {0};
    struct moe_err err = {0};
    enum moe_status s = moe_prompts_parse(name, text, strlen(text), format, limit, &prompts, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return prompts;
}

static void check_prompt(const struct moe_prompts *prompts, size_t i, const char *text,
                         const char *category, uint64_t line)
{
    ck_assert_uint_lt(i, prompts->n);
    const struct moe_prompt *p = &prompts->prompt[i];
    ck_assert_str_eq(p->text, text);
    ck_assert_str_eq(p->category, category);
    ck_assert_uint_eq(p->line, line);
    ck_assert_uint_eq(p->hash, moe_hash_bytes(MOE_HASH_SEED, text, strlen(text)));
}

static void refused(const char *name, const char *text, size_t size, const char *expected)
{
    struct moe_prompts prompts = {.n = 77};
    struct moe_err err = {0};
    ck_assert_int_eq(moe_prompts_parse(name, text, size, MOE_PROMPTS_AUTO, 0, &prompts, &err),
                     MOE_ERR_INPUT);
    ck_assert_msg(strcmp(err.text, expected) == 0, "'%s' is not '%s'", err.text, expected);
    ck_assert_uint_eq(prompts.n, 77);
}

START_TEST(text_lines)
{
    struct moe_prompts p = parse("some/where/x.txt", "\xef\xbb\xbf one \r\n\n \t\r\ntwo\n\xc3\xa9",
                                 MOE_PROMPTS_AUTO, 0);
    ck_assert_uint_eq(p.n, 3);
    check_prompt(&p, 0, " one ", "", 1);
    check_prompt(&p, 1, "two", "", 4);
    check_prompt(&p, 2, "\xc3\xa9", "", 5);
    ck_assert_str_eq(p.label, "x.txt");
    ck_assert_uint_eq(p.prompt[1].hash, 0x5714d319447c9709); /* FNV-1a of "two" */
    moe_prompts_release(&p);
    ck_assert_uint_eq(p.n, 0);
    p = parse("x.csv", "a\nb\nc\n", MOE_PROMPTS_TEXT, 2);
    ck_assert_uint_eq(p.n, 2);
    ck_assert_str_eq(p.prompt[1].text, "b");
    moe_prompts_release(&p);
}
END_TEST

START_TEST(json_lines)
{
    struct moe_prompts p =
        parse("a.jsonl",
              "\xef\xbb\xbf{\"question\": \"q\\nr\", \"prompt\": \"p\", \"category\": \"c\"}\r\n"
              "\n"
              "{\"instruction\": \"i\", \"subject\": \"s\", \"task_id\": \"t\", \"prompt\": null}\n"
              "{\"text\": \"\\u00e9\", \"task_id\": 7, \"n\": 123456789012345678901234567890}",
              MOE_PROMPTS_AUTO, 0);
    ck_assert_uint_eq(p.n, 3);
    check_prompt(&p, 0, "p", "c", 1);
    check_prompt(&p, 1, "i", "s", 3);
    check_prompt(&p, 2, "\xc3\xa9", "7", 4);
    moe_prompts_release(&p);
}
END_TEST

static const char mmlu[] = "question,choice0,choice1,choice2,choice3,answer\n"
                           "Plain,0,1,2,3,1\n"
                           "\"With, comma and \"\"quotes\"\"\",\"True, True\",,c,\" d \",0\n"
                           "\"Two\nlines\",a,b,\"c\n\",d,3\n"
                           "\n"
                           "5\" nail,a,b,c,d,2";

/* Every line end of text doubled to CRLF; heap. */
static char *with_crlf(const char *text)
{
    char *out = malloc(2 * strlen(text) + 1), *to = out;
    for (; *text; text++) {
        if (*text == '\n')
            *to++ = '\r';
        *to++ = *text;
    }
    *to = '\0';
    return out;
}

static void check_mmlu(const char *text)
{
    struct moe_prompts p = parse("d/high_school_x_test.csv", text, MOE_PROMPTS_AUTO, 0);
    const char *subject = "high_school_x";
    ck_assert_uint_eq(p.n, 4);
    check_prompt(&p, 0, "Plain\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer:", subject, 2);
    check_prompt(
        &p, 1, "With, comma and \"quotes\"\nA. True, True\nB. \nC. c\nD.  d \nAnswer:", subject, 3);
    check_prompt(&p, 2, "Two\nlines\nA. a\nB. b\nC. c\n\nD. d\nAnswer:", subject, 4);
    check_prompt(&p, 3, "5\" nail\nA. a\nB. b\nC. c\nD. d\nAnswer:", subject, 8);
    ck_assert_str_eq(p.label, "high_school_x_test.csv");
    moe_prompts_release(&p);
}

START_TEST(mmlu_questions)
{
    char *crlf = with_crlf(mmlu);
    check_mmlu(mmlu);
    check_mmlu(crlf);
    free(crlf);
    struct moe_prompts p = parse("x_dev", "\xef\xbb\xbf\"Q\",a,b,c,d,B\nR,a,b,c,d,D\nbroken", /* */
                                 MOE_PROMPTS_MMLU, 2);
    ck_assert_uint_eq(p.n, 2);
    check_prompt(&p, 0, "Q\nA. a\nB. b\nC. c\nD. d\nAnswer:", "x", 1);
    moe_prompts_release(&p);
}
END_TEST

#define REFUSED(name, text, expected) refused(name, text, sizeof(text) - 1, expected)

START_TEST(bad_files)
{
    REFUSED("x.txt", "", "'x.txt': no prompt in it");
    REFUSED("x.txt", "\n \n", "'x.txt': no prompt in it");
    REFUSED("x.csv", "q,a,b,c,d,answer\n", "'x.csv': no prompt in it");
    REFUSED("x.txt", "ab\n\xc3\xa9z\xff", "'x.txt':2: invalid UTF-8 at byte 4 of the line");
    REFUSED("x.txt", "ab\n\xe2\x82", "'x.txt':2: invalid UTF-8 at byte 1 of the line");
    REFUSED("x.txt", "ab\0c\xff", "'x.txt':1: a NUL at byte 3 of the line");
    REFUSED("x.jsonl", "{}\n",
            "'x.jsonl':1: none of the keys 'prompt', 'question', 'text', 'instruction'");
    REFUSED("x.jsonl", "\n[]\n", "'x.jsonl':2: line is not a JSON object");
    REFUSED("x.jsonl", "{\"prompt\": 1}", "'x.jsonl':1: 'prompt' is not a string");
    REFUSED("x.jsonl", "{\"text\": \"\"}", "'x.jsonl':1: 'text' is empty");
    REFUSED("x.jsonl", "{\"text\": \"a\", \"subject\": []}",
            "'x.jsonl':1: 'subject' is neither a string nor a whole number");
    REFUSED("x.jsonl", "{\"text\": \"a\", \"category\": 1.5}",
            "'x.jsonl':1: 'category' is neither a string nor a whole number");
    REFUSED("x.csv", "a,b\n", "'x.csv':1: 2 fields instead of 6: question, four choices, answer");
    REFUSED("x.csv", "q,a,b,c,d,A\nq,a,b,c,d,e,A\n",
            "'x.csv':2: 7 fields instead of 6: question, four choices, answer");
    REFUSED("x.csv", "q,a,b,c,d,E\n", "'x.csv':1: answer 'E' is neither A to D nor 0 to 3");
    REFUSED("x.csv", "q,a,b,c,d,A\nq,a,b,c,d,answer\n",
            "'x.csv':2: answer 'answer' is neither A to D nor 0 to 3");
    REFUSED("x.csv", ",a,b,c,d,A\n", "'x.csv':1: the question is empty");
    REFUSED("x.csv", "q,a,b,c,d,A\n\"q\n\n", "'x.csv':2: a quote is not closed");
    REFUSED("x.csv", "\"q\nr\" ,a", "'x.csv':2: text follows a closed quote");
    struct moe_prompts p;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_prompts_load("nowhere.txt", MOE_PROMPTS_AUTO, 0, &p, &err), MOE_ERR_IO);
}
END_TEST

START_TEST(long_categories)
{
    char text[400] = "{\"text\": \"a\", \"category\": \"";
    size_t n = strlen(text);
    memset(text + n, 'x', 255);
    memcpy(text + n + 255, "\"}", 3);
    struct moe_prompts p = parse("x.jsonl", text, MOE_PROMPTS_AUTO, 0);
    ck_assert_uint_eq(strlen(p.prompt[0].category), 255);
    moe_prompts_release(&p);
    memcpy(text + n + 255, "x\"}", 4);
    refused("x.jsonl", text, strlen(text), "'x.jsonl':1: 'category' has 256 bytes, limit 255");
}
END_TEST

static void check_real(const char *path, size_t n, const char *begins, const char *category)
{
    struct moe_prompts p = {0};
    struct moe_err err = {0};
    if (access(path, R_OK) != 0) {
        printf("skipped: no %s\n", path);
        return;
    }
    ck_assert_msg(moe_prompts_load(path, MOE_PROMPTS_AUTO, 0, &p, &err) == MOE_OK, "%s", err.text);
    ck_assert_uint_eq(p.n, n);
    ck_assert_msg(strncmp(p.prompt[0].text, begins, strlen(begins)) == 0, "%s", p.prompt[0].text);
    ck_assert_str_eq(p.prompt[0].category, category);
    moe_prompts_release(&p);
}

START_TEST(real_files)
{
#define TEXTS "../shared/data/text/"
    check_real(TEXTS "mmlu-dev/abstract_algebra_dev.csv", 5,
               "Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.\nA. 0\nB. 1\nC. 2\nD. 3\n"
               "Answer:",
               "abstract_algebra");
    check_real(TEXTS "mmlu-test/high_school_us_history_test.csv", 204, "",
               "high_school_us_history");
    check_real(TEXTS "gsm8k.jsonl", 1319, "Janet\xe2\x80\x99s ducks lay 16 eggs per day.", "");
    check_real(TEXTS "humaneval.jsonl", 164, "from typing import List\n", "HumanEval/0");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prompts");
    TCase *tcase = tcase_create("prompts");
    tcase_add_test(tcase, text_lines);
    tcase_add_test(tcase, json_lines);
    tcase_add_test(tcase, mmlu_questions);
    tcase_add_test(tcase, bad_files);
    tcase_add_test(tcase, long_categories);
    tcase_add_test(tcase, real_files);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
