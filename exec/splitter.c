#include "exec/splitter.h"

#include "exec/compose.h"
#include "exec/json.h"

#include <stdlib.h>
#include <string.h>

/* \s of the files' regular expressions: White_Space. PCRE2's own has U+180E as well. */
#define BLANKS                                                                                     \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"                \
    "\\x{205f}\\x{3000}"
#define BLANK    "[" BLANKS "]"
#define NO_BLANK "[^" BLANKS "]"
/* \p{L} and \p{N} of Unicode 16, which Hugging Face tokenizers 0.22 has: Debian 12's PCRE2 has
 * those of Unicode 14. Found by asking both about every code point. */
#define LETTERS                                                                                    \
    "\\p{L}"                                                                                       \
    "\\x{1c89}-\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}"               \
    "\\x{10d4a}-\\x{10d65}\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}"                              \
    "\\x{1123f}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}"                               \
    "\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}"                     \
    "\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}"                               \
    "\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}"                              \
    "\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}"                     \
    "\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}"                    \
    "\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NUMBERS                                                                                    \
    "\\p{N}"                                                                                       \
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}"                              \
    "\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}"                              \
    "\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}"                              \
    "\\x{1e5f1}-\\x{1e5fa}"
/* Contractions in both cases; U+017F is an s, too. */
#define SHORT   "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD    "[^\\r\\n" LETTERS NUMBERS "]?[" LETTERS "]+"
#define ENDING  BLANK "+(?!" NO_BLANK ")|" BLANK "+"
#define SYMBOLS " ?[^" BLANKS LETTERS NUMBERS "]+[\\r\\n]*|" BLANK "*[\\r\\n]+|" ENDING

/* Every character is in some match of each, so it makes no difference what happens to the rest. */
static const struct {
    const char *published, *pcre2;
} patterns[] = {
    /* GPT-2: encoder.py; what ByteLevel does with use_regex */
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     "'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTERS "]+| ?[" NUMBERS "]+| ?[^" BLANKS LETTERS NUMBERS
     "]+|" ENDING},
    /* Qwen2 and Qwen3: their tokenizer.json */
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SHORT "|" WORD "|[" NUMBERS "]|" SYMBOLS},
    /* cl100k_base of tiktoken; Llama 3 */
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SHORT "|" WORD "|[" NUMBERS "]{1,3}|" SYMBOLS},
};

struct moe_splitter {
    struct moe_word_pattern *pattern;
    bool composes;   /* NFC */
    bool adds_space; /* in front of a part that does not begin with one */
};

/* ---- reading ---- */

static bool is_text(const json_t *value, const char *text)
{
    const char *told = json_string_value(value);
    return told && strcmp(told, text) == 0;
}

static bool has_type(const json_t *object, const char *type)
{
    return is_text(json_object_get(object, "type"), type);
}

static enum moe_status read_normalizer(struct moe_splitter *s, const json_t *normalizer,
                                       struct moe_err *err)
{
    const json_t *list = json_object_get(normalizer, "normalizers");
    if (has_type(normalizer, "Sequence") && json_array_size(list) <= 1)
        normalizer = json_array_get(list, 0);
    if (!normalizer)
        return MOE_OK;
    if (!has_type(normalizer, "NFC"))
        return moe_json_refuse(normalizer, "normalizer", "NFC is, and none", err);
    s->composes = true;
    return moe_compose_check(err);
}

/* A Split by a known pattern, every match a word. */
static enum moe_status read_split(const json_t *split, const char **pattern, struct moe_err *err)
{
    const json_t *told = json_object_get(json_object_get(split, "pattern"), "Regex");
    const json_t *behavior = json_object_get(split, "behavior");
    const bool inverted = json_is_true(json_object_get(split, "invert"));
    *pattern = NULL;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (is_text(told, patterns[i].published))
            *pattern = patterns[i].pcre2;
    if (!*pattern)
        return moe_json_refuse(json_object_get(split, "pattern"), "pre_tokenizer: pattern",
                               "GPT-2's, Qwen2's and cl100k's are", err);
    /* To remove what does not match comes to the same. */
    if (!(is_text(behavior, "Isolated") && !inverted) &&
        !(is_text(behavior, "Removed") && inverted))
        return moe_json_refuse(split, "pre_tokenizer", "behavior Isolated, not inverted, is", err);
    return MOE_OK;
}

/* ByteLevel at the end of a sequence, which only spells bytes as characters. */
static bool only_spells(const json_t *level)
{
    return has_type(level, "ByteLevel") && json_is_false(json_object_get(level, "use_regex")) &&
           json_is_false(json_object_get(level, "add_prefix_space"));
}

static enum moe_status read_cutting(struct moe_splitter *s, const json_t *cutting, bool adds_space,
                                    const char **pattern, struct moe_err *err)
{
    const json_t *list = json_object_get(cutting, "pretokenizers");
    if (has_type(cutting, "ByteLevel")) {
        const json_t *regex = json_object_get(cutting, "use_regex"); /* true in older files */
        if (regex && !json_is_true(regex))
            return moe_json_refuse(cutting, "pre_tokenizer", "ByteLevel alone with use_regex is",
                                   err);
        s->adds_space = adds_space;
        *pattern = patterns[0].pcre2;
        return MOE_OK;
    }
    if (!has_type(cutting, "Sequence") || json_array_size(list) != 2 ||
        !has_type(json_array_get(list, 0), "Split") || !only_spells(json_array_get(list, 1)))
        return moe_json_refuse(cutting, "pre_tokenizer",
                               "ByteLevel is, and one Split before a ByteLevel that only spells",
                               err);
    return read_split(json_array_get(list, 0), pattern, err);
}

enum moe_status moe_splitter_read(struct moe_splitter **out, const json_t *root, bool adds_space,
                                  struct moe_err *err)
{
    const char *pattern = NULL;
    struct moe_splitter *s = calloc(1, sizeof *s);
    if (!s)
        return moe_fail_memory(err, "a tokenizer");
    enum moe_status status = read_normalizer(s, moe_json_get(root, "normalizer"), err);
    if (status == MOE_OK)
        status = read_cutting(s, moe_json_get(root, "pre_tokenizer"), adds_space, &pattern, err);
    if (status == MOE_OK)
        status = moe_word_pattern_new(&s->pattern, pattern, err);
    if (status == MOE_OK)
        *out = s;
    else
        moe_splitter_free(s);
    return status;
}

void moe_splitter_free(struct moe_splitter *splitter)
{
    if (!splitter)
        return;
    moe_word_pattern_free(splitter->pattern);
    free(splitter);
}

/* ---- use ---- */

enum moe_status moe_splitter_normalize(const struct moe_splitter *splitter, const char *text,
                                       size_t n, char **out, size_t *n_out, struct moe_err *err)
{
    if (splitter->composes)
        return moe_compose(text, n, out, n_out, err);
    *out = (char *)text;
    *n_out = n;
    return MOE_OK;
}

enum moe_status moe_splitter_cut(const struct moe_splitter *splitter, const char *text, size_t n,
                                 moe_word_taker *take, void *context, struct moe_err *err)
{
    if (!splitter->adds_space || text[0] == ' ')
        return moe_word_pattern_cut(splitter->pattern, text, n, take, context, err);
    char *spaced = malloc(n + 1);
    if (!spaced)
        return moe_fail_memory(err, "a text");
    spaced[0] = ' ';
    memcpy(spaced + 1, text, n);
    enum moe_status status =
        moe_word_pattern_cut(splitter->pattern, spaced, n + 1, take, context, err);
    free(spaced);
    return status;
}
