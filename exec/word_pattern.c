#include "exec/word_pattern.h"

#ifdef MOELAB_HAVE_PCRE2

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

/* Steps that one match may take: a pattern of exec/splitter.c needs a few for each byte. */
enum { STEPS = 1000000, STEPS_PER_BYTE = 32, STEPS_MAX = 2000000000 };

struct moe_word_pattern {
    pcre2_code *code;
};

static enum moe_status fail_pcre2(int code, const char *what, struct moe_err *err)
{
    PCRE2_UCHAR text[160] = "";
    if (code == PCRE2_ERROR_NOMEMORY)
        return moe_fail_memory(err, what);
    pcre2_get_error_message(code, text, sizeof text);
    return moe_fail(err, MOE_ERR_UNSUPPORTED, "PCRE2 cannot handle %s: %s", what,
                    (const char *)text);
}

enum moe_status moe_word_pattern_new(struct moe_word_pattern **out, const char *pattern,
                                     struct moe_err *err)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    struct moe_word_pattern *p = malloc(sizeof *p);
    if (!p)
        return moe_fail_memory(err, "a pattern");
    p->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                            &code, &at, NULL);
    if (!p->code) {
        free(p);
        return fail_pcre2(code, "a pattern", err);
    }
    /* Only speed depends on it, and not every processor or system has it. */
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    *out = p;
    return MOE_OK;
}

void moe_word_pattern_free(struct moe_word_pattern *pattern)
{
    if (!pattern)
        return;
    pcre2_code_free(pattern->code);
    free(pattern);
}

/* What matching needs beside the pattern. */
struct matching {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static void release(struct matching *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
}

static enum moe_status prepare(struct matching *m, const struct moe_word_pattern *pattern, size_t n,
                               struct moe_err *err)
{
    enum { STACK = 32 << 10, STACK_MAX = 16 << 20 }; /* bytes */
    m->data = pcre2_match_data_create_from_pattern(pattern->code, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(STACK, STACK_MAX, NULL);
    if (!m->data || !m->context) /* no stack: no JIT, or the small one that it has of its own */
        return moe_fail_memory(err, "a pattern");
    size_t steps = n < STEPS_MAX / STEPS_PER_BYTE - STEPS ? STEPS + n * STEPS_PER_BYTE : STEPS_MAX;
    pcre2_set_match_limit(m->context, (uint32_t)steps);
    if (m->stack)
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return MOE_OK;
}

/* The next match at or behind *from: its bounds; both n where there is none. */
static enum moe_status find(const struct moe_word_pattern *pattern, const struct matching *m,
                            const char *text, size_t n, size_t from, size_t *first, size_t *end,
                            struct moe_err *err)
{
    int code = pcre2_match(pattern->code, (PCRE2_SPTR)text, n, from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, m->data, m->context);
    *first = *end = n;
    if (code == PCRE2_ERROR_NOMATCH)
        return MOE_OK;
    if (code < 0)
        return fail_pcre2(code, "a text", err);
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(m->data);
    *first = bounds[0];
    *end = bounds[1];
    return MOE_OK;
}

enum moe_status moe_word_pattern_cut(const struct moe_word_pattern *pattern, const char *text,
                                     size_t n, moe_word_taker *take, void *context,
                                     struct moe_err *err)
{
    struct matching m = {0};
    enum moe_status status = prepare(&m, pattern, n, err);
    for (size_t at = 0; at < n && status == MOE_OK;) {
        size_t first = 0, end = 0;
        status = find(pattern, &m, text, n, at, &first, &end, err);
        if (status == MOE_OK && first > at)
            status = take(context, text + at, first - at, err);
        if (status == MOE_OK && end > first)
            status = take(context, text + first, end - first, err);
        at = end;
    }
    release(&m);
    return status;
}

#else

enum moe_status moe_word_pattern_new(struct moe_word_pattern **out, const char *pattern,
                                     struct moe_err *err)
{
    (void)out, (void)pattern;
    return moe_fail(err, MOE_ERR_UNSUPPORTED,
                    "this tokenizer cuts text by a regular expression, and moelab was built "
                    "without PCRE2: install libpcre2-dev and build again");
}

void moe_word_pattern_free(struct moe_word_pattern *pattern)
{
    (void)pattern;
}

enum moe_status moe_word_pattern_cut(const struct moe_word_pattern *pattern, const char *text,
                                     size_t n, moe_word_taker *take, void *context,
                                     struct moe_err *err)
{
    (void)pattern, (void)text, (void)n, (void)take, (void)context;
    return moe_fail(err, MOE_ERR_UNSUPPORTED, "built without PCRE2");
}

#endif
